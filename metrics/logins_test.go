package metrics

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"congthu/auth"
	"congthu/auth/throttle"
)

var _ auth.Recorder = (*Metrics)(nil)

func TestEveryCombinationOfAnAttemptExistsFromTheStart(t *testing.T) {
	m, reg := newMetrics(t)
	n, err := testutil.GatherAndCount(reg, "congthu_login_attempts_total")
	if want := len(auth.Protocols()) * len(auth.Mechanisms()) * len(auth.Outcomes()); n != want || err != nil {
		t.Errorf("%d series, want %d (%v)", n, want, err)
	}
	for _, p := range auth.Protocols() {
		for _, mech := range auth.Mechanisms() {
			for i, o := range auth.Outcomes() {
				for range i + 1 {
					m.RecordAttempt(auth.Attempt{Protocol: p, Mechanism: mech}, auth.Verdict{Outcome: o})
				}
				// Both at once: the series counts, and it is the right one.
				if got := testutil.ToFloat64(m.logins.protocols[p].attempts[mech][o]); got != float64(i+1) {
					t.Errorf("%v %v %v counted %v times, want %d", p, mech, o, got, i+1)
				}
				want(t, reg, fmt.Sprintf(`congthu_login_attempts_total{mechanism=%q,outcome=%q,protocol=%q}`, mech, o, p), float64(i+1))
			}
		}
	}
}

func TestDurationsAreSplitIntoTheirParts(t *testing.T) {
	m, reg := newMetrics(t)
	m.RecordAttempt(auth.Attempt{Protocol: auth.IMAP}, auth.Verdict{
		Outcome: auth.Accepted, KnownGood: true,
		Admission: 250 * time.Microsecond, Upstream: 40 * time.Millisecond, Settlement: 750 * time.Microsecond,
	})
	want(t, reg, `congthu_login_duration_seconds_sum{protocol="imap",result="accepted"}`, 0.041)
	want(t, reg, `congthu_login_rules_duration_seconds_sum{protocol="imap"}`, 0.001)
	want(t, reg, `congthu_login_rules_duration_seconds_bucket{protocol="imap",le="0.001"}`, 1)
	want(t, reg, `congthu_login_admission_duration_seconds_sum{protocol="imap"}`, 0.00025)
	want(t, reg, `congthu_login_upstream_duration_seconds_sum{protocol="imap"}`, 0.04)
	want(t, reg, `congthu_login_known_good_total{protocol="imap"}`, 1)
	want(t, reg, `congthu_upstream_answers_total{judgement="right",protocol="imap"}`, 1)

	// Decided without the mail server: no part of it may be measured.
	m.RecordAttempt(auth.Attempt{Protocol: auth.IMAP}, auth.Verdict{Outcome: auth.Locked, Admission: time.Millisecond})
	want(t, reg, `congthu_login_upstream_duration_seconds_count{protocol="imap"}`, 1)
	want(t, reg, `congthu_login_duration_seconds_count{protocol="imap",result="denied"}`, 1)
	want(t, reg, `congthu_login_shared_total{protocol="imap",result="denied"}`, 0)
	m.RecordAttempt(auth.Attempt{Protocol: auth.SMTP}, auth.Verdict{Outcome: auth.Locked, Shared: true, Admission: time.Millisecond})
	want(t, reg, `congthu_login_shared_total{protocol="smtp",result="denied"}`, 1)
	office := netip.MustParsePrefix("203.0.113.0/24")
	m.ThrottledSources([]throttle.RefusedSource{{LoggedIn: 2}, {}, {LoggedIn: 1, Known: office}, {}, {Known: office}})
	want(t, reg, "congthu_throttled_known_sources", 2)
	m.KnownNetworks(3)
	want(t, reg, "congthu_known_networks", 3)
	want(t, reg, `congthu_throttled_sources{logins="some"}`, 2)
	want(t, reg, `congthu_throttled_sources{logins="none"}`, 3)
	m.SharedCounters(auth.Counters{Used: 7, Full: 3})
	want(t, reg, `congthu_shared_counters{state="used"}`, 7)
	want(t, reg, `congthu_shared_counters{state="full"}`, 3)
	want(t, reg, `congthu_login_duration_seconds_bucket{protocol="imap",result="accepted",le="60"}`, 1)
	want(t, reg, `congthu_login_duration_seconds_bucket{protocol="imap",result="accepted",le="0.00025"}`, 0)
}

func TestHistogramsAreNativeAsWell(t *testing.T) {
	m, reg := newMetrics(t)
	exercise(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if f.GetType() != dto.MetricType_HISTOGRAM || f.GetName()[:3] == "go_" {
			continue
		}
		n++
		for _, series := range f.Metric {
			if series.Histogram.Schema == nil {
				t.Errorf("%s has no native buckets", f.GetName())
			}
			if len(series.Histogram.Bucket) == 0 {
				t.Errorf("%s has no classic buckets", f.GetName())
			}
		}
	}
	if n < 6 {
		t.Errorf("%d histograms, want all of them", n)
	}
}

func TestOutcomesFallIntoClasses(t *testing.T) {
	for _, c := range []struct {
		outcome auth.Outcome
		class   result
		answer  answer
	}{
		{auth.Accepted, resultAccepted, answerRight},
		{auth.WrongPassword, resultWrong, answerWrong},
		{auth.PreviousPassword, resultWrong, answerWrong},
		{auth.RepeatedPassword, resultWrong, answerWrong},
		{auth.NoSuchDomain, resultWrong, answerRight}, // never asks
		{auth.Malformed, resultWrong, answerRight},    // never asks
		{auth.Refused, resultDenied, answerRefused},
		{auth.Locked, resultDenied, answerRight}, // locked while the mail server was asked
		{auth.Revoked, resultDenied, answerRight},
		{auth.Expired, resultDenied, answerRight},
		{auth.OtherIdentity, resultDenied, answerRight}, // never asks
		{auth.Cleartext, resultDenied, answerRight},     // never asks
		{auth.Throttled, resultTemporary, answerRight},  // never asks
		{auth.Busy, resultTemporary, answerRight},       // never asks
		{auth.Unavailable, resultTemporary, answerNone},
		{auth.StoreUnavailable, resultTemporary, answerUnsettled},
	} {
		if got := resultOf(c.outcome); got != c.class {
			t.Errorf("%v is %v, want %v", c.outcome, got, c.class)
		}
		if got := answerOf(c.outcome); got != c.answer {
			t.Errorf("%v came of %v, want %v", c.outcome, answerNames[got], answerNames[c.answer])
		}
	}
}

func TestLoginsThatAWarningRuleLetsInAreCounted(t *testing.T) {
	m, reg := newMetrics(t)
	m.RecordAttempt(auth.Attempt{}, auth.Verdict{Would: auth.Revoked})
	m.RecordAttempt(auth.Attempt{}, auth.Verdict{})
	want(t, reg, `congthu_login_would_refuse_total{outcome="revoked"}`, 1)
	want(t, reg, `congthu_login_would_refuse_total{outcome="locked"}`, 0)
	want(t, reg, `congthu_login_would_refuse_total{outcome="expired"}`, 0)
}

func TestEventsAreCountedByKindAndCause(t *testing.T) {
	m, reg := newMetrics(t)
	for _, kind := range auth.EventKinds() {
		want(t, reg, fmt.Sprintf(`congthu_audit_events_total{kind=%q}`, kind), 0)
		m.RecordEvent(auth.Event{Kind: kind, Actor: auth.ByGateway}, true)
		want(t, reg, fmt.Sprintf(`congthu_audit_events_total{kind=%q}`, kind), 1)
	}
	for _, kind := range []auth.EventKind{auth.AccountLocked, auth.AccountUnlocked, auth.AccountRevoked} {
		m.RecordEvent(auth.Event{Kind: kind, Actor: "Nguyen Van A"}, true)
		m.RecordEvent(auth.Event{Kind: kind, Actor: "uid:0 (root)"}, true)
	}
	for series, n := range map[string]float64{
		`congthu_lockouts_total{cause="wrong_passwords"}`: 1,
		`congthu_lockouts_total{cause="unknown_name"}`:    1,
		`congthu_lockouts_total{cause="admin"}`:           2,
		`congthu_unlocks_total{cause="time"}`:             1,
		`congthu_unlocks_total{cause="admin"}`:            2,
		`congthu_revocations_total{cause="dormancy"}`:     1,
		`congthu_revocations_total{cause="admin"}`:        2,
		`congthu_restores_total`:                          1,
		`congthu_password_graces_total`:                   1,
		`congthu_would_lock_total`:                        1,
		`congthu_would_revoke_total`:                      1,
	} {
		want(t, reg, series, n)
	}
}

func TestAccountsByStateForgetTheStatesThatAreEmptyNow(t *testing.T) {
	m, reg := newMetrics(t)
	want(t, reg, `congthu_accounts{state="never_seen"}`, 0)
	m.Accounts(auth.AccountStats{
		States: map[auth.State]int{auth.Active: 5, auth.StateLocked: 2}, ExpiringWithin: map[int]int{1: 3, 14: 4},
		Idle: [auth.MaxIdleMonths + 1]int{7: 2}, Violations: map[auth.Rule]int{auth.RulePassword: 1},
	})
	for series, n := range map[string]float64{
		`congthu_passwords_running_out{days="1"}`: 3, `congthu_passwords_running_out{days="14"}`: 4,
		`congthu_accounts_idle{months="07"}`: 2, `congthu_accounts_against_rule{rule="password"}`: 1,
	} {
		want(t, reg, series, n)
	}
	m.Accounts(auth.AccountStats{States: map[auth.State]int{auth.Active: 6}})
	for _, series := range []string{
		`congthu_passwords_running_out{days="1"}`, `congthu_accounts_idle{months="07"}`, `congthu_accounts_against_rule{rule="password"}`,
	} {
		want(t, reg, series, 0)
	}
	want(t, reg, `congthu_accounts{state="active"}`, 6)
	want(t, reg, `congthu_accounts{state="locked"}`, 0)
}

func TestARuleIsInOneMode(t *testing.T) {
	m, reg := newMetrics(t)
	rules := auth.DefaultRules()
	m.RulesInForce(rules)
	want(t, reg, `congthu_rule_mode{mode="enforce",rule="sender"}`, 1)
	rules.Sender, rules.Lockout.Mode = auth.Warn, auth.Off
	m.RulesInForce(rules)
	for series, n := range map[string]float64{
		`congthu_rule_mode{mode="enforce",rule="sender"}`: 0, `congthu_rule_mode{mode="warn",rule="sender"}`: 1,
		`congthu_rule_mode{mode="off",rule="lockout"}`: 1, `congthu_rule_mode{mode="enforce",rule="dormancy"}`: 1,
		`congthu_rule_mode{mode="enforce",rule="password"}`: 1, `congthu_rule_mode{mode="warn",rule="password"}`: 0,
	} {
		want(t, reg, series, n)
	}
}

func TestLiveFiguresAreReadAtEveryScrape(t *testing.T) {
	m, reg := newMetrics(t)
	want(t, reg, `congthu_sessions_live`, 0)
	sessions, waiting := 3, 9
	m.Sessions(func() int { return sessions })
	m.SlotsWaiting(func() int { return waiting })
	want(t, reg, `congthu_sessions_live`, 3)
	want(t, reg, `congthu_login_slots_waiting`, 9)
	sessions, waiting = 4, 0
	want(t, reg, `congthu_sessions_live`, 4)
	want(t, reg, `congthu_login_slots_waiting`, 0)
	m.Sessions(nil)
	want(t, reg, `congthu_sessions_live`, 0)
}

// An attempt must cost the recorder next to nothing: thousands of clients come
// back at once when a mail server does.
func TestAnAttemptIsRecordedWithoutAllocating(t *testing.T) {
	m := New(prometheus.NewRegistry(), Build{})
	a, v := attempt()
	m.RecordAttempt(a, v) // the first of its length makes the native buckets
	if n := testing.AllocsPerRun(100, func() { m.RecordAttempt(a, v) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAttempted(b *testing.B) {
	m := New(prometheus.NewRegistry(), Build{})
	a, v := attempt()
	b.ReportAllocs()
	for b.Loop() {
		m.RecordAttempt(a, v)
	}
}

func attempt() (auth.Attempt, auth.Verdict) {
	return auth.Attempt{Protocol: auth.SMTP, Mechanism: auth.Login}, auth.Verdict{
		Outcome: auth.Accepted, Admission: 300 * time.Microsecond, Upstream: 12 * time.Millisecond, Settlement: time.Millisecond,
	}
}
