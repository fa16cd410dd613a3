package guard

import (
	"net/netip"
	"slices"
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
// failures that are not written yet and were owed before another, refusals, answers
// that the mail server did not give, comparisons with the password known to be good,
// and what the throttle knows of the name at each source. (Passwords that are not counted when they are repeated
// look at the instant themselves.) What a source has done to other names stays: an
// unlock must not give a guesser anything back.
//
// At the sources given, and where it was refused, the throttle forgives at once; at
// all others soon, for many names together.
func (g *Guard) forgive(name auth.Name, upto, owed time.Time, sources ...netip.Prefix) {
	before := func(t time.Time) bool { return !t.After(upto) }
	g.forgiveDebtsOf(name, owed)
	var refused []netip.Prefix
	g.refusals.RemoveIf(name, func(r refusals) bool {
		refused = r.sources()
		return before(r.latest().At)
	})
	g.unanswered.RemoveIf(name, func(r Refusal) bool { return before(r.At) })
	g.forgetTried(name, upto)
	g.known.Alter(name, func(k *knownGood) {
		if before(k.missed) {
			k.misses, k.unpaid = 0, nil
		}
	})
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

// refusals are the attempts on one name that a process has refused for now: the
// latest of each source, the latest first, at most refusedSources. An unlock lets the
// account be tried from there again, and its owner is one of them. A list is not altered
// but replaced, since it is read without a lock.
type refusals []Refusal

// refusedSources bounds the sources of the refusals of one name.
const refusedSources = 8

// latest is the latest of them; zero for none.
func (r refusals) latest() Refusal {
	if len(r) == 0 {
		return Refusal{}
	}
	return r[0]
}

// sources are where they came from.
func (r refusals) sources() []netip.Prefix {
	all := make([]netip.Prefix, len(r))
	for i, refusal := range r {
		all[i] = auth.Source(refusal.Source.Addr())
	}
	return all
}

// add notes one more.
func (r *refusals) add(latest Refusal) {
	source := auth.Source(latest.Source.Addr())
	others := slices.DeleteFunc(slices.Clone(*r), func(other Refusal) bool { return auth.Source(other.Source.Addr()) == source })
	*r = slices.Insert(others, 0, latest)
	*r = (*r)[:min(len(*r), refusedSources)]
}

// loggedIn drops what a login from a source has ended: what was refused there, and
// what had waited too long for others. A login from elsewhere says nothing of a source
// that is refused.
func (r *refusals) loggedIn(source netip.Prefix) {
	*r = slices.DeleteFunc(slices.Clone(*r), func(refusal Refusal) bool {
		return refusal.Outcome == auth.Busy || auth.Source(refusal.Source.Addr()) == source
	})
}
