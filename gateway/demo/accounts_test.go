package demo

import (
	"path/filepath"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/password"
	"congthu/auth/sqlite"
)

// The locked account looks like one after a real lock.
func TestTheLockedAccountHasTheHistoryOfARealLock(t *testing.T) {
	dir := t.TempDir()
	fingerprints, err := password.Open(filepath.Join(dir, "pepper.key"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "congthu.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now().UTC()
	for range 2 { // the second start finds all accounts
		if err := Seed(t.Context(), store, fingerprints, now); err != nil {
			t.Fatal(err)
		}
	}

	a, err := store.Account(t.Context(), "locked@"+Domain)
	if err != nil {
		t.Fatal(err)
	}
	if !auth.DefaultRules().Locked(a, now) || a.Failures != 6 || len(a.Mistakes) != 6 || !a.Lock.At.Equal(now.Add(-2*time.Hour).Truncate(time.Microsecond)) {
		t.Errorf("%+v", a)
	}
	events, err := store.Events(t.Context(), auth.EventFilter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[auth.EventKind]int)
	var later time.Time
	for _, e := range events { // newest first
		if !later.IsZero() && e.At.After(later) {
			t.Errorf("event %d is of %s, after the next one", e.Seq, e.At)
		}
		later = e.At
		if e.Account == a.Name {
			kinds[e.Kind]++
		}
	}
	if kinds[auth.FirstLogin] != 1 || kinds[auth.PasswordWrong] != 6 || kinds[auth.AccountLocked] != 1 || events[0].Kind != auth.AccountLocked {
		t.Errorf("%v, the last %+v", kinds, events[0])
	}
}

// Each account shows its rule on whatever day the demo starts.
func TestEachAccountIsWhatItIsNamedForOnAnyDay(t *testing.T) {
	rules := auth.DefaultRules()
	states := map[string]auth.State{
		"active": auth.Active, "expiring": auth.StateExpiring, "expired": auth.StateExpired, "dormant": auth.StateRevoked,
		lockedLocal: auth.Active, "stale": auth.Active, // before the wrong passwords
	}
	for day := time.Date(2027, 1, 1, 0, 0, 0, 0, rules.Location); day.Year() < 2032; day = day.AddDate(0, 0, 1) {
		for _, into := range []time.Duration{0, 12 * time.Hour, 24*time.Hour - time.Second} {
			now := day.Add(into).UTC()
			for _, s := range scenes {
				var a auth.Account
				s.prepare(&a, auth.Password{}, now)
				for _, later := range []time.Duration{0, time.Hour} {
					if got := rules.State(a, now.Add(later)); got != states[s.local] {
						t.Errorf("%s is %s %s after a start at %s, want %s", s.local, got, later, day.Add(into), states[s.local])
					}
				}
			}
		}
	}
}
