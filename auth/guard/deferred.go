package guard

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"congthu/auth"
)

// What an attempt leaves behind: settlements that the store did not accept or that wait
// for a lease to end, last logins from a time without a store, and fingerprints that
// are computed after the login. [Guard.Run] works them off.

// pendingSettlement is a settlement that must be made durable. It holds its slot until then.
type pendingSettlement struct {
	name        auth.Name
	reservation auth.Reservation
	// change returns the store's change, which puts its events in happened. Each call
	// returns a new one, since a call whose outcome is unknown may still run.
	change func(happened *[]auth.Event) auth.Change
	// due is by the machine's monotonic clock: if the wall clock was set back by an
	// hour, slots would otherwise stay taken for that hour.
	due   time.Time
	tries int
	since time.Time // when it was first deferred
	// heard is set for a wrong password that the store does not have yet: until
	// then no attempt may ask the mail server about the account.
	heard bool

	// Under Guard.mu, once it is deferred:
	writing  bool // a goroutine is writing it
	forgiven bool // while it was being written: if that fails, it only frees its slot
}

// Run works off what attempts leave behind until ctx ends. Then it settles what can be
// settled: slots without a verdict become failures at once, since their leases end with
// the process. Call it once, and let it run as long as the guard is in use. It returns
// nil.
func (g *Guard) Run(ctx context.Context) error {
	g.init()
	var beside sync.WaitGroup
	beside.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case u := <-g.observe:
				g.observeLater(ctx, u)
			}
		}
	})
	beside.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.forgiveSoon:
				g.forgiveEverywhere()
			}
		}
	})
	// In a goroutine of their own: they do not wait for settlements that the store refuses.
	beside.Go(func() {
		g.repeat(ctx, g.wakeLogins, g.untilLogins, func(ctx context.Context) {
			g.writeSuspicion(ctx)
			g.writeLogins(ctx)
		})
	})
	g.repeat(ctx, g.wakeSettlements, g.untilDue, func(ctx context.Context) { g.writeDue(ctx, time.Now()) })
	beside.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.storeTimeout())
	defer cancel()
	beside.Go(func() {
		g.writeSuspicion(last)
		g.writeLogins(last)
	})
	g.writeDue(last, farFuture)
	beside.Wait()
	if n := g.Owed(); n > 0 {
		g.Log.Error("failures could not be written and are lost", "count", n)
	}
	return nil
}

// repeat calls do whenever it is due or a signal arrives, until ctx ends.
func (g *Guard) repeat(ctx context.Context, signal <-chan struct{}, until func() time.Duration, do func(context.Context)) {
	for ctx.Err() == nil {
		wake := time.NewTimer(until())
		select {
		case <-ctx.Done():
		case <-wake.C:
		case <-signal:
		}
		wake.Stop()
		if ctx.Err() == nil {
			do(ctx)
		}
	}
}

// farFuture is an instant at which every settlement is due.
var farFuture = time.Unix(1<<40, 0)

// untilDue is the time until the next settlement is due.
func (g *Guard) untilDue() time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	sleep := 24 * time.Hour
	for _, d := range g.pending {
		if !d.writing { // its writer wakes Run if it fails
			sleep = min(sleep, time.Until(d.due))
		}
	}
	return sleep
}

// untilLogins is the time until last logins or a suspicion are to be written.
func (g *Guard) untilLogins() time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s := g.suspicion.Load()
	if s == nil && len(g.logins) > 0 || s != nil && !s.written {
		return time.Second
	}
	return 24 * time.Hour
}

// Owed is the number of settlements that are not written yet: answers in doubt, and
// failures that the store did not accept.
func (g *Guard) Owed() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.pending)
}

// owedOf is the number of such settlements of one account.
func (g *Guard) owedOf(name auth.Name) (n int) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, d := range g.pending {
		if d.name == name {
			n++
		}
	}
	return n
}

// deferSettlement defers a settlement; its slot stays taken.
func (g *Guard) deferSettlement(d *pendingSettlement) {
	first := d.since.IsZero()
	if first {
		d.since = g.now()
	}
	g.mu.Lock()
	if first {
		g.pending = append(g.pending, d)
	}
	if d.writing = false; d.forgiven {
		d.forgive()
	}
	g.mu.Unlock()
	wake(g.wakeSettlements)
}

// removePending removes a settlement that was written.
func (g *Guard) removePending(d *pendingSettlement) {
	if d.since.IsZero() {
		return // it was never deferred
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending = slices.DeleteFunc(g.pending, func(o *pendingSettlement) bool { return o == d })
}

// anyPending reports whether any settlement is pending. Every login calls it, and usually
// there is none; a read lock is enough, so logins do not wait for each other.
func (g *Guard) anyPending() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.pending) > 0
}

func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// noChange changes nothing: the update only frees the slot.
func noChange(*[]auth.Event) auth.Change {
	return func(*auth.Account) ([]auth.Event, bool) { return nil, false }
}

// forgivePending makes failures that are not written yet only free their slots: a login or
// an unlock has come after them.
func (g *Guard) forgivePending(name auth.Name) { g.forgivePendingUpTo(name, farFuture) }

// forgivePendingUpTo does so for the settlements that were deferred up to an instant.
func (g *Guard) forgivePendingUpTo(name auth.Name, upto time.Time) {
	if !g.anyPending() {
		return
	}
	g.mu.Lock()
	forgiven := false
	for _, d := range g.pending {
		switch {
		case d.name != name || d.since.After(upto):
		case d.writing: // it may still count, but not if it has to be repeated
			d.forgiven = true
		default:
			d.forgive()
			forgiven = true
		}
	}
	g.mu.Unlock()
	if forgiven {
		wake(g.wakeSettlements)
	}
}

func (d *pendingSettlement) forgive() { d.change, d.due, d.heard = noChange, time.Time{}, false }

// writeAtOnce is the largest number of accounts whose settlements are written at the same
// time: as many as a store writes in one transaction.
const writeAtOnce = 64

// writeDue writes the settlements that are due; those that fail are due again later. Those of
// one account are written one by one, so that a login can forgive those that are not
// written yet.
func (g *Guard) writeDue(ctx context.Context, now time.Time) {
	names := g.due(now)
	if len(names) == 0 {
		return
	}
	err := g.probing(ctx, names, func(ctx context.Context, name auth.Name) error {
		for {
			d := g.take(func(d *pendingSettlement) bool { return d.name == name && !d.due.After(now) })
			if d == nil {
				return nil
			}
			if err := g.update(ctx, d); err != nil {
				return err
			}
		}
	})
	g.postpone(err)
}

// probing calls do for the first account, and only if that succeeds for the others, many
// at once. So a store that is down is asked once, and one that hangs holds the caller
// for at most twice StoreTimeout. The error is the one of the first account.
func (g *Guard) probing(ctx context.Context, names []auth.Name, do func(context.Context, auth.Name) error) error {
	if len(names) == 0 {
		return nil
	}
	if err := do(ctx, names[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	limit := make(chan struct{}, writeAtOnce)
	for _, name := range names[1:] {
		select {
		case limit <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			defer func() { <-limit }()
			do(ctx, name) // failures are tried again
		})
	}
	return nil
}

// due returns the accounts with settlements that are due, those with the fewest failures
// first: an account that can never be written must not delay the others.
func (g *Guard) due(now time.Time) (names []auth.Name) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	tries := make(map[auth.Name]int) // the fewest tries of each account
	for _, d := range g.pending {
		if d.writing || d.due.After(now) {
			continue
		}
		if n, seen := tries[d.name]; !seen {
			tries[d.name], names = d.tries, append(names, d.name)
		} else {
			tries[d.name] = min(n, d.tries)
		}
	}
	slices.SortStableFunc(names, func(a, b auth.Name) int { return cmp.Compare(tries[a], tries[b]) })
	return names
}

// take reserves the first settlement that want accepts for the caller, who then writes
// it.
func (g *Guard) take(want func(*pendingSettlement) bool) *pendingSettlement {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.pending {
		if !d.writing && want(d) {
			d.writing = true
			return d
		}
	}
	return nil
}

// postpone delays all settlements that are due while the store accepts none: longer each
// time, at most 30 s.
func (g *Guard) postpone(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.refused = 0
		return
	}
	g.refused++
	until := time.Now().Add(backOff(g.refused))
	for _, d := range g.pending {
		if !d.writing && d.due.Before(until) {
			d.due = until
		}
	}
}

// backOff is the delay before the next try after this number of failures.
func backOff(failures int) time.Duration { return min(time.Second<<min(failures, 5), 30*time.Second) }

// errUnwritten: a wrong password of the account that this process has heard of is being
// written by another goroutine.
var errUnwritten = errors.New("a wrong password of the account is being written")

// writeHeard writes the wrong passwords of an account that the mail server has judged here
// and the store does not have yet, so that the next attempt is counted with them. Only
// this process may know them: their slots expire when other gateways treat this process
// as dead.
func (g *Guard) writeHeard(ctx context.Context, name auth.Name) error {
	for g.anyPending() {
		d := g.take(func(d *pendingSettlement) bool { return d.name == name && d.heard })
		if d == nil {
			if g.unwritten(name) {
				return errUnwritten
			}
			return nil
		}
		if err := g.update(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// unwritten reports whether a wrong password of an account is not in the store yet.
func (g *Guard) unwritten(name auth.Name) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.ContainsFunc(g.pending, func(d *pendingSettlement) bool { return d.name == name && d.heard })
}

// update writes a settlement, or defers it if the store fails.
func (g *Guard) update(ctx context.Context, d *pendingSettlement) error {
	var happened []auth.Event
	a, err := g.storeUpdate(ctx, d.name, d.reservation, d.change(&happened))
	if err != nil {
		if d.reservation != 0 {
			d.tries++
			d.due = time.Now().Add(backOff(d.tries))
			g.Log.Error("a settlement could not be written and is tried again", "tries", d.tries, "err", err)
			g.deferSettlement(d)
		}
		return err
	}
	g.removePending(d)
	g.recordEvents(happened, a.Known())
	if g.Rules().Locked(a, g.now()) {
		// Locked by this settlement; or by an earlier call for it, to which the store
		// gave no answer; or by someone else meanwhile. What was known before the lock
		// is void.
		g.void(d.name)
		g.waitQueues.wakeAll(d.name)
		return nil
	}
	g.waitQueues.wake(d.name)
	return nil
}

// writeLogins writes the last logins from the time when the store was down or the clock
// suspect.
func (g *Guard) writeLogins(ctx context.Context) {
	now := g.now()
	if g.suspicion.Load() != nil {
		return
	}
	g.mu.RLock()
	names := slices.Collect(maps.Keys(g.logins))
	g.mu.RUnlock()
	g.probing(ctx, names, func(ctx context.Context, name auth.Name) error { // those that fail stay
		g.mu.RLock()
		noted := g.logins[name]
		g.mu.RUnlock()
		at := auth.NotAfter(noted, now)
		if noted.IsZero() {
			at = now // the clock has been accepted
		}
		_, err := g.storeUpdate(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			if !at.After(a.LastLogin) {
				return nil, false
			}
			a.LastLogin = at
			return nil, true
		})
		if err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.logins[name].Equal(noted) { // no newer one has come
			delete(g.logins, name)
		}
		return nil
	})
}
