package auth

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMonthsOfDisuseAreWholeCalendarMonths(t *testing.T) {
	for _, c := range []struct {
		name, lastLogin, now string
		want                 int
	}{
		{"today", "2026-11-23 08:00:00", "2026-11-23 09:00:00", 0},
		{"a second short of a month", "2026-10-23 08:00:00", "2026-11-23 07:59:59", 0},
		{"a month", "2026-10-23 08:00:00", "2026-11-23 08:00:00", 1},
		{"the end of a longer month", "2026-01-31 08:00:00", "2026-02-28 08:00:00", 1},
		{"over the turn of a year", "2025-12-01 08:00:00", "2026-02-28 08:00:00", 2},
		{"a second short of the year", "2025-11-23 08:00:00", "2026-11-23 07:59:59", 11},
		{"ten years", "2016-11-23 08:00:00", "2026-11-23 08:00:00", MaxIdleMonths},
		{"a clock that went back", "2026-12-23 08:00:00", "2026-11-23 08:00:00", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			login := at(t, c.lastLogin)
			months, ok := DefaultRules().IdleMonths(Account{Registered: login, FirstLogin: login, LastLogin: login}, at(t, c.now))
			if months != c.want || !ok {
				t.Errorf("last login %s, now %s: %d months (%v), want %d", c.lastLogin, c.now, months, ok, c.want)
			}
		})
	}
	if _, ok := DefaultRules().IdleMonths(Account{Registered: at(t, "2020-01-01 00:00:00")}, at(t, "2026-11-23 08:00:00")); ok {
		t.Error("an imported account that may use other doors is counted as idle")
	}
}

func TestOneScanCountsEverythingForTheMetrics(t *testing.T) {
	now := at(t, "2026-11-23 12:00:00")
	used := func(change func(*Account)) Account {
		a := Account{Registered: now, FirstLogin: now, LastLogin: now, Password: Password{Since: now}}
		change(&a)
		return a
	}
	// Passwords from these days expire at the end of the day three months later.
	since := func(s string) func(*Account) { return func(a *Account) { a.Password.Since = at(t, s) } }
	var n AccountStats
	n.States, n.ExpiringWithin, n.Violations = make(map[State]int), make(map[int]int), make(map[Rule]int)
	rules := DefaultRules()
	rules.Password.Mode = Warn
	for _, a := range []Account{
		used(func(*Account) {}),
		used(since("2026-08-23 09:00:00")), // today
		used(since("2026-08-25 09:00:00")), // within 3 days
		used(since("2026-08-29 09:00:00")), // within 7
		used(since("2026-09-06 09:00:00")), // within 14
		used(since("2026-09-07 13:00:00")), // later
		used(since("2026-08-22 09:00:00")), // expired
		used(func(a *Account) { since("2026-06-01 00:00:00")(a); a.GraceUntil = now.Add(2 * 24 * time.Hour) }),
		used(func(a *Account) { a.Lock = Lock{Cause: ByAdmin, Mark: Mark{At: now}} }),
		used(func(a *Account) { a.LastLogin = at(t, "2026-04-23 12:00:00") }), // 7 months
		used(func(a *Account) { a.LastLogin = at(t, "2025-10-23 12:00:00") }), // dormant, not swept yet
		used(func(a *Account) { // marked as revoked: counted neither as idle nor as expiring
			a.LastLogin, a.Revocation = at(t, "2025-10-23 12:00:00"), Mark{At: now}
			since("2026-08-23 09:00:00")(a)
		}),
		{Registered: now},
	} {
		rules.Count(&n, a, now)
	}
	want := AccountStats{
		States:         map[State]int{Active: 9, StateLocked: 1, StateRevoked: 2, StateNeverSeen: 1},
		ExpiringWithin: map[int]int{1: 1, 3: 3, 7: 4, 14: 5},
		Idle:           [MaxIdleMonths + 1]int{0: 9, 7: 1, 12: 1},
		Violations:     map[Rule]int{RuleLockout: 1, RuleDormancy: 2, RulePassword: 1},
	}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("want (-), counted (+):\n%s", diff)
	}
}

// The effect of a rule in mode warn can be seen before it is enforced.
func TestARuleInModeWarnIsViolatedByTheAccountsItWouldRefuse(t *testing.T) {
	now := at(t, "2026-11-23 12:00:00")
	old := at(t, "2020-01-01 00:00:00")
	a := Account{Registered: old, FirstLogin: old, LastLogin: old, Password: Password{Since: old}, Failures: 6, Mistakes: []Mistake{{At: now}}}
	for _, rule := range []Rule{RuleLockout, RuleDormancy, RulePassword} {
		for _, mode := range Modes() {
			r := DefaultRules()
			r.Lockout.Mode, r.Dormancy.Mode, r.Password.Mode = mode, mode, mode
			a := a
			if mode == Enforce { // six wrong passwords have then locked it
				a.Lock.Cause = ByWrongPasswords
			}
			if got, want := r.Violates(rule, a, now), mode != Off; got != want || r.Mode(rule) != mode {
				t.Errorf("%v in mode %v: %v, want %v", rule, r.Mode(rule), got, want)
			}
		}
	}
	if DefaultRules().Violates(RuleSender, a, now) {
		t.Error("an account violates the rule on senders")
	}
}
