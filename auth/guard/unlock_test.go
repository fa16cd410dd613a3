package guard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

func TestALateEventOfAnEarlierUnlockChangesNothing(t *testing.T) {
	noon := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	g := &Guard{Throttle: new(throttle.Throttle), Now: func() time.Time { return noon }}
	g.init()
	// guess returns how many wrong guesses pass.
	guess := func(name auth.Name, most int, now time.Time) (passed int) {
		a := throttle.Attempt{Source: netip.MustParsePrefix("203.0.113.7/32"), Name: name, Tolerated: 5, Looked: true}
		for range most {
			if g.Throttle.Begin(a, now).Passage != throttle.Passes {
				return passed
			}
			g.Throttle.End(a, throttle.EndedWrong, now)
			passed++
		}
		return passed
	}
	const grants, free = 5, 2
	guess("lan", free, noon.Add(-time.Minute))
	for i := range grants {
		guess(auth.Name(fmt.Sprint("victim", i)), free+1, noon.Add(-time.Minute))
	}
	if n := guess("lan", 1, noon.Add(-time.Minute)); n != 0 {
		t.Fatal("the account can be guessed at although the source has used up its grants")
	}
	g.forgive("lan", noon, noon)
	g.forgive("lan", noon.Add(-time.Hour), noon.Add(-time.Hour))
	g.forgiveEverywhere()
	p := g.Throttle.Begin(throttle.Attempt{Source: netip.MustParsePrefix("203.0.113.7/32"), Name: "lan", Tolerated: 5, Looked: true}, noon)
	if p.Passage != throttle.Passes || !p.Forgiven {
		t.Errorf("%+v: the account is not forgiven", p)
	}
	g.Throttle.End(throttle.Attempt{Source: netip.MustParsePrefix("203.0.113.7/32"), Name: "lan", Tolerated: 5, Looked: true}, throttle.EndedWell, noon)
	if n := guess("lan", 6, noon); n != free {
		t.Errorf("%d wrong guesses pass, want %d: none from before the unlock counts", n, free)
	}
}
