package guard

import (
	"net/netip"
	"time"

	"congthu/auth"
)

// ForgivenEverywhere is what the event of an unlock says the account has become
// when it was not locked and nothing was held against it in the store or at the
// gateway that was asked: the other gateways on the same store forget what they
// hold. See [Guard].Shared.
const ForgivenEverywhere = "nothing to unlock; forgiven at every gateway"

// forgiveNow forgets what this process holds against a name, which an administrator
// has unlocked here at an instant.
// The account had wrong passwords from the sources.
func (g *Guard) forgiveNow(name auth.Name, at time.Time, sources []netip.Prefix) {
	g.forgiven.Put(name, at)
	g.forgive(name, farFuture, farFuture, sources...)
}

// forgiveSince does so for an unlock at some gateway on the store that is heard of
// now: what came after its instant stays. Of the echo of the latest unlock made
// here nothing is left to do.
func (g *Guard) forgiveSince(name auth.Name, at time.Time) {
	echo, now := true, g.now()
	g.forgiven.Update(name, func(last time.Time) time.Time {
		// Not by their order: the clock may have been set back between two unlocks.
		echo = at.Equal(last)
		return at
	})
	switch {
	case echo:
	case at.After(now):
		// Set back again: what is owed may have come after it, and counts.
		g.forgive(name, now, time.Time{})
	default:
		g.forgive(name, at, at)
	}
}

// forgive forgets what this process holds against a name from up to an instant:
// failures that are not written yet and were owed before another, what its memory has
// (see [memory]), and what the throttle knows of the name at each source. What a source
// has done to other names stays: an unlock must not give a guesser anything back.
//
// At the sources given, and where it was refused, the throttle forgives at once; at
// all others soon, for many names together.
func (g *Guard) forgive(name auth.Name, upto, owed time.Time, sources ...netip.Prefix) {
	g.forgiveDebtsOf(name, owed)
	refused := g.forget(name, upto)
	if g.Throttle == nil {
		return
	}
	now := g.now()
	g.Throttle.ForgiveAt(name, now, append(refused, sources...)...)
	if upto.After(now) {
		upto = now
	}
	g.mu.Lock()
	// An unlock that is heard of late may be an earlier one.
	if last, waits := g.toForgive[name]; !waits || upto.After(last) {
		g.toForgive[name] = upto
	}
	g.unforgiven.Store(true)
	g.mu.Unlock()
	select {
	case g.forgiveSoon <- struct{}{}:
	default:
	}
}

// forgiveEverywhere makes the throttle forgive, at every source, the names that were
// unlocked since it was called last. An attempt against whose source there is
// something does not wait for [Guard.Run] to do it.
func (g *Guard) forgiveEverywhere() {
	if !g.unforgiven.Load() {
		return
	}
	g.forgiving.Lock()
	defer g.forgiving.Unlock()
	g.mu.Lock()
	names := g.toForgive
	g.toForgive = make(map[auth.Name]time.Time)
	g.mu.Unlock()
	if len(names) > 0 {
		g.Throttle.ForgiveAccounts(names, g.now())
	}
	g.mu.Lock()
	g.unforgiven.Store(len(g.toForgive) > 0)
	g.mu.Unlock()
}
