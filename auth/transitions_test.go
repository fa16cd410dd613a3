package auth

import (
	"net/netip"
	"testing"
	"time"
)

// source is the source of the attempts in tests.
var source = netip.MustParseAddrPort("10.1.2.3:40000")

func TestTheSixthWrongPasswordLocks(t *testing.T) {
	r, a, now := DefaultRules(), Account{Name: "a@example.vn", Registered: time.Unix(1, 0)}, at(t, "2026-11-23 12:00:00")
	for i := 1; i <= 6; i++ {
		events := r.Reject(&a, now, source)
		if locked := a.Lock.Cause == ByWrongPasswords; locked != (i == 6) {
			t.Fatalf("after %d wrong passwords: locked %v", i, locked)
		}
		if a.Failures != i || events[0].Kind != PasswordWrong {
			t.Fatalf("after %d wrong passwords: %d failures, events %v", i, a.Failures, events)
		}
	}
}

func TestADoubtNeverLocks(t *testing.T) {
	r, a, now := DefaultRules(), Account{Name: "a@example.vn"}, at(t, "2026-11-23 12:00:00")
	for range 20 {
		r.Doubt(&a, now, source)
	}
	if a.Failures != 5 || a.Lock.Cause != NotLocked {
		t.Fatalf("after 20 doubts: %d failures, lock %v; want 5 and none", a.Failures, a.Lock)
	}
	if r.Reject(&a, now, source); a.Lock.Cause != ByWrongPasswords {
		t.Error("the next real rejection does not lock")
	}
}

// In mode warn, a login of an account with the mark of a revocation is always accepted;
// the audit log records the login that ended its dormancy.
func TestARevocationInModeWarnIsRecordedOnce(t *testing.T) {
	r, now := DefaultRules(), at(t, "2026-11-23 12:00:00")
	r.Dormancy.Mode = Warn
	long := AddMonths(now, -24)
	a := Account{Name: "a@example.vn", Registered: long, FirstLogin: long, LastLogin: long, Revocation: Mark{At: AddMonths(now, -1), By: ByGateway}}
	told := 0
	for i := range 5 {
		v := r.Accept(&a, AcceptedLogin{Now: now.Add(time.Duration(i) * time.Minute), Source: source, Window: time.Hour})
		if v.Outcome != Accepted || v.Would != Revoked {
			t.Errorf("login %d: %v, would be %v", i, v.Outcome, v.Would)
		}
		for _, e := range v.Events {
			if e.Kind == WouldRevoke {
				told++
			}
		}
	}
	if told != 1 {
		t.Errorf("the audit log has %d events, want 1", told)
	}
}

// Failures are forgotten by the age of the latest one: a try without a verdict must not
// bring older ones back.
func TestADoubtBringsBackNothingForgotten(t *testing.T) {
	r, now := DefaultRules(), at(t, "2026-11-23 12:00:00")
	r.Lockout.ForgetAfter = time.Hour
	for _, failures := range []int{4, 5} {
		a := Account{Name: "a@example.vn", Registered: time.Unix(1, 0), Failures: failures, Mistakes: []Mistake{{At: now.Add(-2 * time.Hour), Source: source}}}
		r.Doubt(&a, now, source)
		if a.Failures != 1 {
			t.Errorf("%d forgotten failures and a doubt: %d failures, want 1", failures, a.Failures)
		}
	}
}
