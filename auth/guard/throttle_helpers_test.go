package guard_test

import (
	"fmt"
	"net/netip"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// Helpers that act on the throttle of a guard, and read it, as attempts would.

// guess makes wrong guesses at an account, from a source where the account is unknown,
// until one does not pass, and returns the number that passed.
func guess(t *throttle.Throttle, source netip.Addr, name string, most int) (passed int) {
	a := throttle.Attempt{Source: auth.Source(source), Name: auth.Name(name), Tolerated: 5, Looked: true}
	for range most {
		p := t.Begin(a, time.Now())
		if p.Passage != throttle.Passes {
			return passed
		}
		a.Allowed = p.Allowed
		t.End(a, throttle.EndedWrong, time.Now())
		passed++
	}
	return passed
}

// spendAll brings as many accounts near their lock from a source as the source may.
func spendAll(t *throttle.Throttle, source netip.Addr) {
	const grantsOfASource = 5
	for i := range grantsOfASource {
		guess(t, source, fmt.Sprint("victim", i), freeGuesses+1)
	}
}

// unlockAt does to the throttle what an unlock does, with the sources that were refused.
func unlockAt(t *throttle.Throttle, name auth.Name, sources ...netip.AddrPort) {
	now := time.Now()
	t.ForgiveAccounts(map[auth.Name]time.Time{name: now}, now)
	for _, s := range sources {
		t.ForgiveAt(name, now, auth.Source(s.Addr()))
	}
}

// allow allows a source.
func allow(t *throttle.Throttle, source netip.Addr, until time.Time) {
	t.Allow(auth.Source(source), until)
}

// sourcesOf is the number of remembered sources.
func sourcesOf(t *throttle.Throttle) int {
	sources, _ := t.Size()
	return sources
}

// accountsOf is the number of remembered accounts at the source or network that has most.
func accountsOf(t *throttle.Throttle) int {
	_, accounts := t.Size()
	return accounts
}
