package guard

import (
	"net/netip"
	"time"

	"congthu/auth"
)

// ForgivenEverywhere is the text in an unlock's event when the account was not locked
// and nothing was held against it, neither in the store nor at the gateway that was
// asked: the other gateways on the same store forget what they hold. See [Guard].Shared.
const ForgivenEverywhere = "nothing to unlock; forgiven at every gateway"

// forgiveNow forgets what this process holds against a name that an administrator has
// unlocked here at an instant. sources are those of the account's wrong passwords.
func (g *Guard) forgiveNow(name auth.Name, at time.Time, sources []netip.Prefix) {
	g.forgiven.Put(name, at)
	g.forgive(name, farFuture, farFuture, sources...)
}

// forgiveSince does so for an unlock at any gateway on the store whose event has arrived
// now: what came after the unlock stays. For the event of the latest unlock made here
// nothing is left to do.
func (g *Guard) forgiveSince(name auth.Name, at time.Time) {
	echo, now := true, g.now()
	g.forgiven.Update(name, func(last time.Time) time.Time {
		// Compare for equality: the clock may have been set back between two unlocks.
		echo = at.Equal(last)
		return at
	})
	switch {
	case echo:
	case at.After(now):
		// The clock was set back: pending failures may have come after the unlock, and count.
		g.forgive(name, now, time.Time{})
	default:
		g.forgive(name, at, at)
	}
}

// forgive forgets what this process holds against a name from up to an instant:
// failures that are not written yet and were deferred before owed, the memory of the
// name (see [memory]), and what the throttle knows of the name at each source. What a
// source has done to other names stays: an unlock must give nothing back to a guesser.
//
// At the sources given, and where the name was refused, the throttle forgives at once; at
// all others soon, for many names together.
func (g *Guard) forgive(name auth.Name, upto, owed time.Time, sources ...netip.Prefix) {
	g.forgivePendingUpTo(name, owed)
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
	// The event of an earlier unlock may arrive late.
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
// unlocked since the last call. An attempt calls it when its source is about to be
// refused, so that it does not wait for [Guard.Run].
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
