package auth

import (
	"testing"
	"time"
)

// at parses an instant in the regulation's time zone.
func at(t testing.TB, s string) time.Time {
	t.Helper()
	instant, err := time.ParseInLocation("2006-01-02 15:04:05", s, DefaultRules().Location)
	if err != nil {
		t.Fatal(err)
	}
	return instant.UTC()
}

// Art. 5.3.c: "not logged in to for more than 12 months".
func TestAnAccountIsDormantAfterTheDayTwelveMonthsLater(t *testing.T) {
	for _, c := range []struct {
		name, lastLogin, now string
		want                 bool
	}{
		{"on the very day", "2025-11-23 08:00:00", "2026-11-23 23:59:59", false},
		{"the coalescing window after it", "2025-11-23 08:00:00", "2026-11-24 00:59:59", false},
		{"when that has ended", "2025-11-23 08:00:00", "2026-11-24 01:00:00", true},
		{"29 February has no anniversary", "2024-02-29 08:00:00", "2025-02-28 23:59:59", false},
		{"and so ends with 28 February", "2024-02-29 08:00:00", "2025-03-01 01:00:00", true},
		{"the day is the day in Vietnam, not in UTC", "2025-11-23 00:30:00", "2026-11-23 23:30:00", false},
		{"thirteen months", "2025-10-23 08:00:00", "2026-11-23 08:00:00", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Account{Registered: at(t, "2020-01-01 00:00:00"), FirstLogin: at(t, "2020-01-01 00:00:00"), LastLogin: at(t, c.lastLogin)}
			if got := DefaultRules().Dormant(a, at(t, c.now)); got != c.want {
				t.Errorf("last login %s, now %s: dormant %v, want %v", c.lastLogin, c.now, got, c.want)
			}
		})
	}
}

func TestDormancyIsCountedFromWhatIsKnown(t *testing.T) {
	now := at(t, "2026-11-23 12:00:00")
	old, recent := at(t, "2024-01-01 00:00:00"), at(t, "2026-10-01 00:00:00")
	complete := DefaultRules()
	complete.Dormancy.DoorsComplete = true
	for _, c := range []struct {
		name    string
		rules   Rules
		account Account
		want    bool
	}{
		{"a name nobody ever logged in with", DefaultRules(), Account{Failures: 3}, false},
		{"imported, never seen, other doors exist", DefaultRules(), Account{Registered: old}, false},
		{"imported, never seen, no other doors", complete, Account{Registered: old}, true},
		{"imported with a last login, no other doors", complete, Account{Registered: old, LastLogin: recent}, false},
		{"seen once, long ago", DefaultRules(), Account{Registered: old, FirstLogin: old, LastLogin: old}, true},
		{"restored lately", DefaultRules(), Account{Registered: old, FirstLogin: old, LastLogin: old, Restored: recent}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.rules.Dormant(c.account, now); got != c.want {
				t.Errorf("dormant %v, want %v", got, c.want)
			}
		})
	}
}

// Art. 9: "at least once every 3 months".
func TestAPasswordExpiresAfterTheDayThreeMonthsLater(t *testing.T) {
	for _, c := range []struct {
		name, since, now, grace string
		want                    bool
	}{
		{"on the very day", "2026-08-23 09:00:00", "2026-11-23 23:59:59", "", false},
		{"when it has ended", "2026-08-23 09:00:00", "2026-11-24 00:00:00", "", true},
		{"30 November and three months end with February", "2025-11-30 09:00:00", "2026-02-28 23:59:59", "", false},
		{"not with 2 March", "2025-11-30 09:00:00", "2026-03-01 00:00:00", "", true},
		{"in a leap year with the 29th", "2027-11-30 09:00:00", "2028-02-29 23:59:59", "", false},
		{"within its grace", "2026-07-01 09:00:00", "2026-11-23 00:00:00", "2026-11-24 00:00:00", false},
		{"after its grace", "2026-07-01 09:00:00", "2026-11-24 00:00:00", "2026-11-24 00:00:00", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Account{Password: Password{Since: at(t, c.since)}}
			if c.grace != "" {
				a.GraceUntil = at(t, c.grace)
			}
			if got := DefaultRules().Expired(a, at(t, c.now)); got != c.want {
				t.Errorf("password of %s, now %s: expired %v, want %v", c.since, c.now, got, c.want)
			}
		})
	}
	if DefaultRules().Expired(Account{}, at(t, "2026-11-23 00:00:00")) {
		t.Error("a password of unknown age is expired")
	}
}

func TestAUserIsWarnedInTheLastFourteenDays(t *testing.T) {
	a := Account{Password: Password{Since: at(t, "2026-08-20 09:00:00")}} // expires at the end of 20 November
	for _, c := range []struct {
		now  string
		days int
		soon bool
	}{
		{"2026-11-06 23:59:59", 14, false},
		{"2026-11-07 00:00:01", 13, true},
		{"2026-11-20 08:00:00", 0, true},
		{"2026-11-21 00:00:00", 0, false}, // expired
	} {
		days, soon := DefaultRules().ExpiringIn(a, at(t, c.now))
		if days != c.days || soon != c.soon {
			t.Errorf("%s: %d days, %v; want %d, %v", c.now, days, soon, c.days, c.soon)
		}
	}
}

func TestThereAreAsManySlotsAsGuessesLeft(t *testing.T) {
	r, now := DefaultRules(), at(t, "2026-11-23 12:00:00")
	mistakes := []Mistake{{At: now.Add(-time.Hour)}}
	for _, c := range []struct {
		name    string
		account Account
		forget  time.Duration
		want    int
	}{
		{"no failure", Account{}, 0, 6},
		{"five", Account{Failures: 5, Mistakes: mistakes}, 0, 1},
		{"tolerance lowered since", Account{Failures: 9, Mistakes: mistakes}, 0, 1},
		{"forgotten", Account{Failures: 5, Mistakes: mistakes}, time.Hour, 6},
		{"not yet forgotten", Account{Failures: 5, Mistakes: mistakes}, time.Hour + 1, 1},
	} {
		r.Lockout.ForgetAfter = c.forget
		if got := r.Slots(c.account, now); got != c.want {
			t.Errorf("%s: %d slots, want %d", c.name, got, c.want)
		}
	}
}

func TestALockEndsByItselfOnlyIfTheRulesSaySo(t *testing.T) {
	now := at(t, "2026-11-23 12:00:00")
	guessed := Account{Lock: Lock{Mark{At: now.Add(-time.Hour)}, ByWrongPasswords}}
	admin := Account{Lock: Lock{Mark{At: now.Add(-time.Hour)}, ByAdmin}}
	timed, warn := DefaultRules(), DefaultRules()
	timed.Lockout.UnlockAfter = time.Hour
	warn.Lockout.Mode = Warn
	for _, c := range []struct {
		name    string
		rules   Rules
		account Account
		want    bool
	}{
		{"guessed", DefaultRules(), guessed, true},
		{"guessed, timed", timed, guessed, false},
		{"admin, timed", timed, admin, true},
		{"guessed, then the rule was set to warn", warn, guessed, false},
		{"admin, warn", warn, admin, true},
	} {
		if got := c.rules.Locked(c.account, now); got != c.want {
			t.Errorf("%s: locked %v, want %v", c.name, got, c.want)
		}
	}
}
