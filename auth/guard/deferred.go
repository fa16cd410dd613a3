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

// What an attempt leaves behind: settlements that the store would not take or
// that wait for a lease to end, last logins from a time without a store, and
// fingerprints that nobody had to wait for. [Guard.Run] works them off.

// debt is a settlement that must be made durable. It holds its slot until then.
type debt struct {
	name        auth.Name
	reservation auth.Reservation
	// change makes the store's change, with a place for its events. Each call
	// gets one of its own, since a call whose outcome is unknown may still run.
	change func(happened *[]auth.Event) auth.Change
	// due is of the machine's monotonic clock: should the clock be set back by an
	// hour, slots would stay taken for that hour.
	due   time.Time
	tries int
	since time.Time // when it was owed first
	// heard is set for a wrong password that the store does not know of yet: until
	// it does, nobody may ask about the account.
	heard bool

	// Under Guard.mu, once it is owed:
	paying   bool // somebody is making it
	forgiven bool // meanwhile: should it fail, it only frees its slot
}

// Run works off what attempts leave behind until ctx ends, and then settles
// what can be settled: slots without a verdict become failures at once, since
// their leases end with the process. Call it once, for as long as the guard is
// in use; it returns nil.
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
	// By themselves: they do not wait for settlements that the store does not take.
	beside.Go(func() {
		g.repeat(ctx, g.nudgeLogins, g.untilLogins, func(ctx context.Context) {
			g.writeSuspicion(ctx)
			g.writeLogins(ctx)
		})
	})
	g.repeat(ctx, g.nudge, g.untilDue, func(ctx context.Context) { g.pay(ctx, time.Now()) })
	beside.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.storeTimeout())
	defer cancel()
	beside.Go(func() {
		g.writeSuspicion(last)
		g.writeLogins(last)
	})
	g.pay(last, farFuture)
	beside.Wait()
	if n := g.Owed(); n > 0 {
		g.Log.Error("failures could not be written and are lost", "count", n)
	}
	return nil
}

// repeat does something whenever it is due or nudged, until ctx ends.
func (g *Guard) repeat(ctx context.Context, nudge <-chan struct{}, until func() time.Duration, do func(context.Context)) {
	for ctx.Err() == nil {
		wake := time.NewTimer(until())
		select {
		case <-ctx.Done():
		case <-wake.C:
		case <-nudge:
		}
		wake.Stop()
		if ctx.Err() == nil {
			do(ctx)
		}
	}
}

// farFuture is when every debt is due.
var farFuture = time.Unix(1<<40, 0)

// untilDue is how long there is no settlement to make.
func (g *Guard) untilDue() time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	sleep := 24 * time.Hour
	for _, d := range g.debts {
		if !d.paying { // whoever makes it tells when that has failed
			sleep = min(sleep, time.Until(d.due))
		}
	}
	return sleep
}

// untilLogins is how long there is neither a last login nor a suspicion to write.
func (g *Guard) untilLogins() time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	s := g.suspicion.Load()
	if s == nil && len(g.logins) > 0 || s != nil && !s.written {
		return time.Second
	}
	return 24 * time.Hour
}

// Owed is how many settlements wait to be made: answers in doubt, and failures
// that the store would not take.
func (g *Guard) Owed() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.debts)
}

// owedOf is how many settlements of one account wait to be made.
func (g *Guard) owedOf(name auth.Name) (n int) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, d := range g.debts {
		if d.name == name {
			n++
		}
	}
	return n
}

// owe leaves a settlement for later; its slot stays taken.
func (g *Guard) owe(d *debt) {
	first := d.since.IsZero()
	if first {
		d.since = g.now()
	}
	g.mu.Lock()
	if first {
		g.debts = append(g.debts, d)
	}
	if d.paying = false; d.forgiven {
		d.forgive()
	}
	g.mu.Unlock()
	wake(g.nudge)
}

// cleared notes that a settlement was made.
func (g *Guard) cleared(d *debt) {
	if d.since.IsZero() {
		return // it was never owed
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.debts = slices.DeleteFunc(g.debts, func(o *debt) bool { return o == d })
}

// owing reports whether anything is owed. Every login comes here, and but for bad
// times nothing is: they do not wait for each other to see that.
func (g *Guard) owing() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.debts) > 0
}

func wake(nudge chan struct{}) {
	select {
	case nudge <- struct{}{}:
	default:
	}
}

// noChange only frees the slot.
func noChange(*[]auth.Event) auth.Change {
	return func(*auth.Account) ([]auth.Event, bool) { return nil, false }
}

// forgiveDebts makes failures that could not be written yet free their slots
// and no more: a login or an unlock has come after them.
func (g *Guard) forgiveDebts(name auth.Name) { g.forgiveDebtsOf(name, farFuture) }

// forgiveDebtsOf does so for what was owed up to an instant.
func (g *Guard) forgiveDebtsOf(name auth.Name, upto time.Time) {
	if !g.owing() {
		return
	}
	g.mu.Lock()
	forgiven := false
	for _, d := range g.debts {
		switch {
		case d.name != name || d.since.After(upto):
		case d.paying: // it may count yet; not when it has to be made again
			d.forgiven = true
		default:
			d.forgive()
			forgiven = true
		}
	}
	g.mu.Unlock()
	if forgiven {
		wake(g.nudge)
	}
}

func (d *debt) forgive() { d.change, d.due, d.heard = noChange, time.Time{}, false }

// payAtOnce bounds the accounts whose settlements are made at once: as many as a
// store writes in one transaction.
const payAtOnce = 64

// pay makes the settlements that are due; those that fail again are due later.
// Those of one account are made one by one, so that a login can forgive the ones
// that it has not come to yet.
func (g *Guard) pay(ctx context.Context, now time.Time) {
	names := g.due(now)
	if len(names) == 0 {
		return
	}
	err := g.probing(ctx, names, func(ctx context.Context, name auth.Name) error {
		for {
			d := g.take(func(d *debt) bool { return d.name == name && !d.due.After(now) })
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

// probing does something for one account, and only if that went well for the
// others, many at once: a store that is away is asked once, and one that hangs
// holds the caller for no more than twice the store's time. The error is the
// first one's.
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
	limit := make(chan struct{}, payAtOnce)
	for _, name := range names[1:] {
		select {
		case limit <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			defer func() { <-limit }()
			do(ctx, name) // what fails is tried again
		})
	}
	return nil
}

// due are the accounts with settlements that are due, those that have failed least
// before the others: one that can never be written must not keep them.
func (g *Guard) due(now time.Time) (names []auth.Name) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	tries := make(map[auth.Name]int) // the fewest of each account
	for _, d := range g.debts {
		if d.paying || d.due.After(now) {
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

// take makes the caller the one to make the first settlement that it wants.
func (g *Guard) take(want func(*debt) bool) *debt {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.debts {
		if !d.paying && want(d) {
			d.paying = true
			return d
		}
	}
	return nil
}

// postpone makes everything wait for a while that is due while the store takes
// nothing: longer each time, at most 30 s.
func (g *Guard) postpone(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.refused = 0
		return
	}
	g.refused++
	until := time.Now().Add(backOff(g.refused))
	for _, d := range g.debts {
		if !d.paying && d.due.Before(until) {
			d.due = until
		}
	}
}

// backOff is how long after how many failures another try is made.
func backOff(failures int) time.Duration { return min(time.Second<<min(failures, 5), 30*time.Second) }

// errUnwritten: what the mail server has said here about an account is being
// written by somebody else.
var errUnwritten = errors.New("a wrong password of the account is being written")

// payHeard writes what the mail server has said here about an account and the
// store does not know yet, so that the next one to ask is counted with it. A
// verdict may be known to nobody else: the slot that it holds lapses when this
// process is taken for dead.
func (g *Guard) payHeard(ctx context.Context, name auth.Name) error {
	for g.owing() {
		d := g.take(func(d *debt) bool { return d.name == name && d.heard })
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

// unwritten reports whether the store does not know yet of a wrong password of an
// account.
func (g *Guard) unwritten(name auth.Name) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.ContainsFunc(g.debts, func(d *debt) bool { return d.name == name && d.heard })
}

// update makes a settlement, or leaves it for later when the store fails.
func (g *Guard) update(ctx context.Context, d *debt) error {
	var happened []auth.Event
	a, err := g.storeUpdate(ctx, d.name, d.reservation, d.change(&happened))
	if err != nil {
		if d.reservation != 0 {
			d.tries++
			d.due = time.Now().Add(backOff(d.tries))
			g.Log.Error("a settlement could not be written and is tried again", "tries", d.tries, "err", err)
			g.owe(d)
		}
		return err
	}
	g.cleared(d)
	g.happened(happened, a.Known())
	if g.Rules().Locked(a, g.now()) {
		// By this settlement; or by an earlier call for it, of which the store gave no
		// answer; or meanwhile. What was known before the lock is void.
		g.void(d.name)
		g.gates.wakeAll(d.name)
		return nil
	}
	g.gates.wake(d.name)
	return nil
}

// writeLogins writes the last logins of the time when the store was down, or the
// clock suspect.
func (g *Guard) writeLogins(ctx context.Context) {
	now := g.now()
	if g.suspicion.Load() != nil {
		return
	}
	g.mu.RLock()
	names := slices.Collect(maps.Keys(g.logins))
	g.mu.RUnlock()
	g.probing(ctx, names, func(ctx context.Context, name auth.Name) error { // what fails stays
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
		if g.logins[name].Equal(noted) { // none has come since
			delete(g.logins, name)
		}
		return nil
	})
}
