package metrics

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
	"congthu/auth/throttle"
)

// accounts are the metrics of the states of accounts and of their changes.
type accounts struct {
	states  []prometheus.Gauge                           // by auth.State
	runOut  map[int]prometheus.Gauge                     // by days; read-only
	idle    [auth.MaxIdleMonths + 1]prometheus.Gauge     // by months
	against map[auth.Rule]prometheus.Gauge               // read-only
	modes   map[auth.Rule]map[auth.Mode]prometheus.Gauge // read-only
	live    counted

	attacks            prometheus.Gauge
	unknown            prometheus.Gauge
	throttledOffices   prometheus.Gauge
	throttledOthers    prometheus.Gauge
	throttledKnown     prometheus.Gauge
	knownNetworks      prometheus.Gauge
	sharedUsed         prometheus.Gauge
	sharedFull         prometheus.Gauge
	sweptAt            prometheus.Gauge
	sweptOK, sweptFail prometheus.Counter

	oldest prometheus.Gauge                      // entry of the audit log
	events map[auth.EventKind]prometheus.Counter // read-only
	other  prometheus.Counter

	lockedByPasswords, lockedByAdmin  prometheus.Counter
	lockedUnknown                     prometheus.Counter
	unlockedByTime, unlockedByAdmin   prometheus.Counter
	revokedByDormancy, revokedByAdmin prometheus.Counter
	restores, graces                  prometheus.Counter
	wouldLock, wouldRevoke            prometheus.Counter
}

func (c *accounts) register(f factory) {
	states := f.gauges("congthu_accounts",
		"Accounts by state, as last counted, every 5 minutes. An account is a name that has logged in at least once or was imported. "+
			"A jump of locked: 'congthu account causes'.",
		"state")
	c.states = make([]prometheus.Gauge, len(auth.States()))
	for _, s := range auth.States() {
		c.states[s] = states.WithLabelValues(s.String())
	}
	runOut := f.gauges("congthu_passwords_running_out",
		"Accounts whose password runs out within so many days, as last counted: each is in the longer spans as well. Revoked accounts are not counted.",
		"days")
	c.runOut = make(map[int]prometheus.Gauge)
	for _, days := range auth.ExpiryDays() {
		c.runOut[days] = runOut.WithLabelValues(strconv.Itoa(days))
	}
	idle := f.gauges("congthu_accounts_idle",
		"Accounts by whole months since their last login, as last counted; 12 is 12 or more. Revoked accounts are not counted, nor "+
			"imported ones never seen here unless rules.dormancy.doors_complete says that there is no other door.",
		"months")
	for months := range c.idle {
		c.idle[months] = idle.WithLabelValues(fmt.Sprintf("%02d", months)) // sorts as text
	}
	against := f.gauges("congthu_accounts_against_rule",
		"Accounts that a rule stands against, as last counted: in mode enforce their logins are refused, in mode warn they would be. "+
			"Look at it before a rule is enforced.",
		"rule")
	modes := f.gauges("congthu_rule_mode",
		"1 for the mode that a rule is in: enforce, warn (nobody is refused, but what would be is counted) or off.",
		"rule", "mode")
	c.against, c.modes = make(map[auth.Rule]prometheus.Gauge), make(map[auth.Rule]map[auth.Mode]prometheus.Gauge)
	for _, rule := range auth.AllRules() {
		if rule != auth.RuleSender { // which concerns messages, not accounts
			c.against[rule] = against.WithLabelValues(rule.String())
		}
		c.modes[rule] = make(map[auth.Mode]prometheus.Gauge)
		for _, mode := range auth.Modes() {
			c.modes[rule][mode] = modes.WithLabelValues(rule.String(), mode.String())
		}
	}
	c.live.register(f, "congthu_sessions_live", "Sessions that are logged in now, all protocols together. A sudden fall to 0 without a restart: look at the mail server and the network.")

	c.attacks = f.gauge("congthu_suspected_attacks",
		"Causes of locks that look like an attack, of the accounts that are locked now, as last counted: 'congthu account causes' shows them, "+
			"'congthu account unlock --cause' ends them. One that has locked nothing for a day has ended and does not count.")
	throttled := f.gauges("congthu_throttled_sources",
		"Sources and networks that this process refuses for now, as last counted, by whether accounts were logged in to from there within "+
			"a day: with logins=some it is probably an office, whose other users cannot log in. 'congthu source list' shows them, "+
			"'congthu source allow' lets an office go on.", "logins")
	c.throttledOffices, c.throttledOthers = throttled.WithLabelValues("some"), throttled.WithLabelValues("none")
	c.throttledKnown = f.gauge("congthu_throttled_known_sources",
		"Those of congthu_throttled_sources that lie in offices of the organisation (throttle.known_networks): users there who have not logged in "+
			"from there before are refused, perhaps for one infected PC. 'congthu source list' shows them.")
	c.knownNetworks = f.gauge("congthu_known_networks", "Networks of offices in force (throttle.known_networks). A source in one may give an account more wrong passwords before a grant is needed; it has more room for other accounts only while wrong passwords do not lock. 0: no office is known.")
	c.unknown = f.gauge("congthu_unknown_names",
		"Names remembered that nobody has ever logged in with, as last counted. At store.max_unknown_names further names share "+
			"counters (congthu_shared_counters): import the accounts.")
	shared := f.gauges("congthu_shared_counters",
		"Counters of wrong passwords that names share for which there is no room, as last counted, by state: used have failures, full are "+
			"those of them that refuse until their day is over. There are 65536; as large a part of those who log in for the first time is "+
			"refused as are full: import the accounts.", "state")
	c.sharedUsed, c.sharedFull = shared.WithLabelValues("used"), shared.WithLabelValues("full")
	c.sweptAt = f.gauge("congthu_sweep_last_success_timestamp_seconds",
		"When the daily sweep for dormant accounts last ended well, in seconds since 1970; 0 before the first time since the start. "+
			"Older than two days: look for the sweep in the log, run 'congthu sweep --dry-run'.")
	sweeps := f.counters("congthu_sweeps_total",
		"Sweeps for dormant accounts, by result. failed means that it stopped before the last: the log says why, how many were revoked, and whether somebody must force it.", "result")
	c.sweptOK, c.sweptFail = sweeps.WithLabelValues("ok"), sweeps.WithLabelValues("failed")

	events := f.counters("congthu_audit_events_total",
		"Entries written to the audit log, by kind: 'congthu audit list --kind' shows them.", "kind")
	c.events = make(map[auth.EventKind]prometheus.Counter)
	for _, kind := range auth.EventKinds() {
		c.events[kind] = events.WithLabelValues(string(kind))
	}
	c.other = events.WithLabelValues("other")
	c.oldest = f.gauge("congthu_audit_oldest_timestamp_seconds",
		"When the oldest entry of the audit log was written, in seconds since 1970, as last looked up; 0 without entries. "+
			"Older than audit.keep_days by a day: the daily sweep does not remove what is too old, and the log says why.")

	locks := f.counters("congthu_lockouts_total",
		"Accounts locked, by cause: more wrong passwords than tolerated, or an admin. unknown_name is a name that nobody has "+
			"ever logged in with, locked by wrong passwords like an account. "+
			"Many at once by wrong_passwords: somebody tries passwords on many accounts.",
		"cause")
	c.lockedByPasswords = locks.WithLabelValues(auth.ByWrongPasswords.String())
	c.lockedUnknown = locks.WithLabelValues("unknown_name")
	c.lockedByAdmin = locks.WithLabelValues(auth.ByAdmin.String())
	unlocks := f.counters("congthu_unlocks_total",
		"Accounts unlocked, by cause: an admin, or the time set in the configuration (rules.lockout.unlock_after).", "cause")
	c.unlockedByAdmin = unlocks.WithLabelValues("admin")
	c.unlockedByTime = unlocks.WithLabelValues("time")
	revocations := f.counters("congthu_revocations_total",
		"Accounts revoked, by cause: nobody logged in for too many months, or an admin. Many at once: is the clock right? "+
			"'congthu account list --state revoked', then restore.", "cause")
	c.revokedByDormancy = revocations.WithLabelValues("dormancy")
	c.revokedByAdmin = revocations.WithLabelValues("admin")
	c.restores = f.counter("congthu_restores_total", "Revoked accounts that an admin gave back ('congthu account restore').")
	c.graces = f.counter("congthu_password_graces_total", "Expired passwords that an admin allowed for some more days ('congthu account grace'). Many: users do not learn in time how to change them.")
	c.wouldLock = f.counter("congthu_would_lock_total",
		"Accounts that would have been locked if the rule were enforced; it is in mode warn (rules.lockout.mode).")
	c.wouldRevoke = f.counter("congthu_would_revoke_total",
		"Accounts that would have been revoked if the rule were enforced; it is in mode warn (rules.dormancy.mode).")
}

// RecordEvent implements [auth.Recorder].
func (m *Metrics) RecordEvent(e auth.Event, _ bool) {
	c := &m.accounts
	if counter, ok := c.events[e.Kind]; ok {
		counter.Inc()
	} else {
		c.other.Inc()
	}
	// An actor other than the gateway and the user is a named administrator.
	byAdmin := e.Actor != auth.ByGateway && e.Actor != auth.ByUser
	switch e.Kind {
	case auth.AccountLocked:
		either(byAdmin, c.lockedByAdmin, c.lockedByPasswords).Inc()
	case auth.NameLocked:
		c.lockedUnknown.Inc()
	case auth.AccountUnlocked:
		either(byAdmin, c.unlockedByAdmin, c.unlockedByTime).Inc()
	case auth.AccountRevoked:
		either(byAdmin, c.revokedByAdmin, c.revokedByDormancy).Inc()
	case auth.AccountRestored:
		c.restores.Inc()
	case auth.GraceGranted:
		c.graces.Inc()
	case auth.WouldLock:
		c.wouldLock.Inc()
	case auth.WouldRevoke:
		c.wouldRevoke.Inc()
	}
}

func either(first bool, a, b prometheus.Counter) prometheus.Counter {
	if first {
		return a
	}
	return b
}

// Accounts sets the number of accounts of each kind; a kind missing in n has none.
func (m *Metrics) Accounts(n auth.AccountStats) {
	c := &m.accounts
	for s, gauge := range c.states {
		gauge.Set(float64(n.States[auth.State(s)]))
	}
	for days, gauge := range c.runOut {
		gauge.Set(float64(n.ExpiringWithin[days]))
	}
	for months, gauge := range c.idle {
		gauge.Set(float64(n.Idle[months]))
	}
	for rule, gauge := range c.against {
		gauge.Set(float64(n.Violations[rule]))
	}
}

// RulesInForce sets the modes of the rules.
func (m *Metrics) RulesInForce(rules auth.Rules) {
	for rule, modes := range m.accounts.modes {
		for mode, gauge := range modes {
			gauge.Set(truth(rules.Mode(rule) == mode))
		}
	}
}

// Attacks sets the number of causes of locks that look like an attack.
func (m *Metrics) Attacks(n int) { m.accounts.attacks.Set(float64(n)) }

// ThrottledSources sets the sources that are refused at present.
func (m *Metrics) ThrottledSources(refused []throttle.RefusedSource) {
	offices, known := 0, 0
	for _, r := range refused {
		if r.LoggedIn > 0 {
			offices++
		}
		if r.Known.IsValid() {
			known++
		}
	}
	m.accounts.throttledKnown.Set(float64(known))
	m.accounts.throttledOffices.Set(float64(offices))
	m.accounts.throttledOthers.Set(float64(len(refused) - offices))
}

// KnownNetworks sets the number of networks of offices in force.
func (m *Metrics) KnownNetworks(n int) { m.accounts.knownNetworks.Set(float64(n)) }

// UnknownNames sets the number of stored names without any login.
func (m *Metrics) UnknownNames(n int) { m.accounts.unknown.Set(float64(n)) }

// SharedCounters sets how many of the counters that unknown names share are in use.
func (m *Metrics) SharedCounters(n auth.Counters) {
	m.accounts.sharedUsed.Set(float64(n.Used))
	m.accounts.sharedFull.Set(float64(n.Full))
}

// AuditOldest sets the time of the oldest entry of the audit log; zero if it is empty.
func (m *Metrics) AuditOldest(at time.Time) {
	if at.IsZero() {
		m.accounts.oldest.Set(0)
		return
	}
	m.accounts.oldest.Set(seconds(at))
}

// RecordSweep records the result of a sweep for dormant accounts.
func (m *Metrics) RecordSweep(at time.Time, err error) {
	if err != nil {
		m.accounts.sweptFail.Inc()
		return
	}
	m.accounts.sweptOK.Inc()
	m.accounts.sweptAt.Set(seconds(at))
}

// Sessions sets the function that counts the live sessions. It is called at every
// scrape, from any goroutine.
func (m *Metrics) Sessions(count func() int) { m.accounts.live.set(count) }
