package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
)

// The figures of these scenes: the room of a source at the defaults, and the number of
// wrong passwords of an account that need no grant.
const (
	grantsOfASource   = 5
	accountsOfASource = 10
	freeGuesses       = 2
)

var (
	attacked = netip.MustParsePrefix("203.0.113.7/32")
	nextDoor = netip.MustParsePrefix("203.0.113.8/32")
	noon     = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
)

func strangerFrom(source netip.Prefix, name string) Attempt {
	return Attempt{Source: source, Name: auth.Name(name), Tolerated: 5, Looked: true}
}

// guess makes wrong guesses until one does not pass, and returns how many passed.
func (t *Throttle) guess(a Attempt, most int, now time.Time) (passed int) {
	for range most {
		p := t.Begin(a, now)
		if p.Passage != Passes {
			return passed
		}
		a.Allowed = p.Allowed
		t.End(a, EndedWrong, now)
		passed++
	}
	return passed
}

// passes reports whether one more attempt passes, and ends it as right.
func (t *Throttle) passes(a Attempt, now time.Time) bool {
	p := t.Begin(a, now)
	if p.Passage == Passes {
		a.Allowed = p.Allowed
		t.End(a, EndedWell, now)
	}
	return p.Passage == Passes
}

// spendGrants brings as many accounts near their lock as the source may.
func (t *Throttle) spendGrants(source netip.Prefix, now time.Time) {
	for i := range grantsOfASource {
		t.guess(strangerFrom(source, fmt.Sprint("victim", i)), freeGuesses+1, now)
	}
}

// forgiveAccount does what an unlock does, with the sources that were refused.
func (t *Throttle) forgiveAccount(name auth.Name, now time.Time, sources ...netip.Prefix) {
	t.ForgiveAccounts(map[auth.Name]time.Time{name: now}, now)
	t.ForgiveAt(name, now, sources...)
}

// An account is unlocked: its owner, behind the same address as the guesser, gets in;
// the guesser has as few grants left as before.
func TestForgivingAnAccountGivesItsGuesserNothing(t *testing.T) {
	throttle := new(Throttle)
	throttle.spendGrants(attacked, noon)
	for i := range grantsOfASource {
		throttle.forgiveAccount(auth.Name(fmt.Sprint("victim", i)), noon)
	}
	if n := throttle.guess(strangerFrom(attacked, "victim0"), 6, noon); n != freeGuesses {
		t.Errorf("%d guesses at a forgiven account passed, want %d", n, freeGuesses)
	}
	if n := throttle.guess(strangerFrom(attacked, "another"), 6, noon); n != freeGuesses {
		t.Errorf("%d guesses at another account passed, want %d", n, freeGuesses)
	}
	// Used grants come back after a day, even if accounts were forgiven.
	if n := throttle.guess(strangerFrom(attacked, "later"), 6, noon.Add(sourceMemory-time.Minute)); n != freeGuesses {
		t.Errorf("%d guesses passed within the day, want %d", n, freeGuesses)
	}
	if n := throttle.guess(strangerFrom(attacked, "tomorrow"), 6, noon.Add(sourceMemory+time.Minute)); n != 6 {
		t.Errorf("%d guesses passed a day later, want 6", n)
	}
}

// The throttle remembers the grant that a forgiven account has cost its source, even if
// the account has no failures any more: the store has forgotten them too.
func TestAnAccountThatCountsNoFailuresReturnsNoSpentGrant(t *testing.T) {
	throttle := new(Throttle)
	throttle.spendGrants(attacked, noon)
	for i := range grantsOfASource {
		a := strangerFrom(attacked, fmt.Sprint("victim", i))
		throttle.Forgiven(a, throttle.Remembered(a, noon), 0, noon)
	}
	if n := throttle.guess(strangerFrom(attacked, "another"), 6, noon); n != freeGuesses {
		t.Errorf("%d guesses at another account passed, want %d", n, freeGuesses)
	}
}

// The failures of a forgiven account are forgotten at every source and network that has
// some, and those of no other account.
func TestForgivingAnAccountReachesEverySource(t *testing.T) {
	throttle := new(Throttle)
	sources := []netip.Prefix{attacked, nextDoor, netip.MustParsePrefix("2001:db8:1:2::/64")}
	for _, s := range sources {
		throttle.spendGrants(s, noon)
		throttle.guess(strangerFrom(s, "lan"), freeGuesses, noon)
		throttle.guess(strangerFrom(s, "minh"), freeGuesses, noon)
	}
	throttle.forgiveAccount("lan", noon)
	for _, s := range sources {
		if !throttle.passes(strangerFrom(s, "lan"), noon) {
			t.Errorf("%v: the forgiven account is refused", s)
		}
		if throttle.passes(strangerFrom(s, "minh"), noon) {
			t.Errorf("%v: an account that was not forgiven passes", s)
		}
	}
}

// Where an account was forgiven it is not refused because of others for a day; the room
// of other accounts does not change.
func TestAForgivenAccountIsProvenForADay(t *testing.T) {
	for _, where := range []string{"where it failed", "where it was refused"} {
		t.Run(where, func(t *testing.T) {
			throttle := new(Throttle)
			spray := func(now time.Time) {
				for i := range accountsOfASource {
					throttle.guess(strangerFrom(attacked, fmt.Sprint("victim", i)), 1, now)
				}
			}
			if where == "where it failed" {
				throttle.guess(strangerFrom(attacked, "lan"), 1, noon)
				throttle.forgiveAccount("lan", noon)
				spray(noon)
			} else {
				spray(noon)
				throttle.forgiveAccount("lan", noon, attacked)
			}
			if !throttle.passes(strangerFrom(attacked, "lan"), noon) {
				t.Error("the forgiven account is refused")
			}
			if throttle.passes(strangerFrom(attacked, "minh"), noon) {
				t.Error("another account passes")
			}
			almost, after := noon.Add(sourceMemory-time.Minute), noon.Add(sourceMemory+time.Minute)
			spray(almost)
			if !throttle.passes(strangerFrom(attacked, "lan"), almost) {
				t.Error("the forgiven account is refused within the day")
			}
			if throttle.passes(strangerFrom(attacked, "lan"), after) {
				t.Error("the forgiven account passes a day later")
			}
		})
	}
}

// An admin allows a source: then neither its own past nor that of its network counts
// against it. Afterwards both do.
func TestAnAllowedSourceIsExemptUntilThen(t *testing.T) {
	scenes := map[string]func(*Throttle){
		"it has guessed at many": func(throttle *Throttle) {
			for i := range accountsOfASource {
				throttle.guess(strangerFrom(attacked, fmt.Sprint("victim", i)), 1, noon)
			}
		},
		"it has spent its grants": func(throttle *Throttle) { throttle.spendGrants(attacked, noon) },
		"its network has guessed at many": func(throttle *Throttle) {
			for i := range 256 {
				source := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32)
				throttle.guess(strangerFrom(source, fmt.Sprint("victim", i)), 1, noon)
			}
		},
	}
	for name, scene := range scenes {
		t.Run(name, func(t *testing.T) {
			throttle := new(Throttle)
			scene(throttle)
			lan := strangerFrom(attacked, "lan")
			throttle.guess(lan, freeGuesses, noon)
			if throttle.passes(lan, noon) {
				t.Fatal("the source is not refused in the first place")
			}
			throttle.Allow(attacked, noon.Add(5*time.Minute))
			if n := throttle.guess(lan, 6, noon); n != 6 {
				t.Errorf("%d attempts passed, want all 6", n)
			}
			for _, r := range throttle.Refused(noon) {
				if r.Source == attacked {
					t.Errorf("it is listed as refused: %+v", r)
				}
			}
			if n := throttle.guess(strangerFrom(attacked, "minh"), 6, noon.Add(5*time.Minute)); n > freeGuesses {
				t.Errorf("%d attempts passed when its time was over", n)
			}
			throttle.Allow(attacked, noon.Add(time.Hour))
			throttle.Allow(attacked, noon)
			if n := throttle.guess(strangerFrom(attacked, "hoa"), 6, noon.Add(6*time.Minute)); n > freeGuesses {
				t.Errorf("%d attempts passed when an admin had ended its time", n)
			}
		})
	}
}

// The acts of an allowed source count for itself, and not for its neighbours.
func TestAnAllowedSourceTakesNothingFromItsNetwork(t *testing.T) {
	throttle := new(Throttle)
	throttle.Allow(attacked, noon.Add(time.Hour))
	for i := range 10 * accountsOfASource {
		if n := throttle.guess(strangerFrom(attacked, fmt.Sprint("victim", i)), 6, noon); n != 6 {
			t.Fatalf("account %d: %d guesses passed, want 6", i, n)
		}
	}
	if n := throttle.guess(strangerFrom(nextDoor, "lan"), 6, noon); n != 6 {
		t.Errorf("%d guesses from the neighbour passed, want 6", n)
	}
	throttle.Allow(attacked, noon)
	r := throttle.Refused(noon)
	if len(r) != 1 || r[0].Source != attacked || r[0].Accounts != 10*accountsOfASource || r[0].NearLock != 10*accountsOfASource {
		t.Errorf("refused are %+v, want the source alone, with everything it did", r)
	}
}

// An attempt in progress when an allowance begins or ends, ends at the levels where it began.
func TestAnAttemptEndsWhereItBeganIfItsSourceIsAllowedMeanwhile(t *testing.T) {
	for _, first := range []bool{false, true} {
		throttle := new(Throttle)
		until := map[bool]time.Time{true: noon.Add(time.Hour), false: noon}
		throttle.Allow(attacked, until[first])
		a := strangerFrom(attacked, "lan")
		p := throttle.Begin(a, noon)
		throttle.Allow(attacked, until[!first])
		a.Allowed = p.Allowed
		throttle.End(a, EndedWell, noon)
		for size := range throttle.histories {
			throttle.histories[size].Each(func(l netip.Prefix, h *sourceHistory) {
				if h.underWay != 0 {
					t.Errorf("allowed first %v: %d are under way at %v", first, h.underWay, l)
				}
			})
		}
	}
}

func TestWaitingAttemptsPassWhenTheirSourceIsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttle := new(Throttle)
		for i := range accountsOfASource {
			throttle.Begin(strangerFrom(attacked, fmt.Sprint("victim", i)), noon)
		}
		p := throttle.Begin(strangerFrom(attacked, "lan"), noon)
		if p.Passage != Waits {
			t.Fatalf("passage %v, want that it waits", p.Passage)
		}
		throttle.Allow(attacked, noon.Add(time.Hour))
		<-p.Ended
	})
}

func TestRefusedSourcesAreListed(t *testing.T) {
	throttle := new(Throttle)
	if r := throttle.Refused(noon); len(r) != 0 {
		t.Errorf("%+v", r)
	}
	throttle.spendGrants(attacked, noon)
	at := noon.Add(time.Minute)
	sprayer := netip.MustParsePrefix("2001:db8:1:2::/64")
	for i := range accountsOfASource {
		throttle.guess(strangerFrom(sprayer, fmt.Sprint("victim", i)), freeGuesses, at)
	}
	throttle.guess(strangerFrom(netip.MustParsePrefix("192.0.2.1/32"), "lan"), freeGuesses, at)
	want := fmt.Sprint([]RefusedSource{
		{Source: sprayer, Since: at, Accounts: accountsOfASource, Failures: 20, Guessing: true},
		{Source: attacked, Since: noon, Accounts: grantsOfASource, Failures: 15, NearLock: grantsOfASource},
	})
	if got := fmt.Sprint(throttle.Refused(at.Add(time.Minute))); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	// The list changes nothing, and the refusal ends with time.
	want = fmt.Sprint([]RefusedSource{{Source: attacked, Since: noon, NearLock: grantsOfASource}})
	if got := fmt.Sprint(throttle.Refused(noon.Add(time.Hour))); got != want {
		t.Errorf("after an hour: %v, want %v", got, want)
	}
	if r := throttle.Refused(noon.Add(sourceMemory)); len(r) != 0 {
		t.Errorf("after a day: %+v", r)
	}
	var none *Throttle
	if r := none.Refused(noon); r != nil {
		t.Errorf("without a throttle: %+v", r)
	}
}

// Logins from a source distinguish an office from a guesser.
func TestARefusedSourceIsListedWithItsLogins(t *testing.T) {
	throttle := new(Throttle)
	throttle.spendGrants(attacked, noon)
	logins := func(at time.Time) int {
		for _, r := range throttle.Refused(at) {
			if r.Source == attacked {
				return r.LoggedIn
			}
		}
		t.Errorf("%v is not refused", attacked)
		return -1
	}
	if n := logins(noon); n != 0 {
		t.Errorf("%d accounts, want none", n)
	}
	for _, name := range []string{"an", "binh", "an"} {
		throttle.Succeeded(strangerFrom(attacked, name), noon)
	}
	if n := logins(noon.Add(time.Hour)); n != 2 {
		t.Errorf("%d accounts, want 2", n)
	}
}
