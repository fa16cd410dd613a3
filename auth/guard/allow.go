package guard

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// ErrThrottleOff: sources are not throttled here, so there is none to allow.
var ErrThrottleOff = fmt.Errorf("%w: sources are not throttled", auth.ErrNothingToDo)

// AllowSource exempts the source of an address from the throttle for a time d from now,
// from [auth.MinAllowance] to [auth.MaxAllowance], at every gateway on the store and
// across restarts. It replaces an earlier allowance of the source.
func (g *Guard) AllowSource(ctx context.Context, addr netip.Addr, d time.Duration, act auth.Act) (auth.AllowedSource, error) {
	if d < auth.MinAllowance || d > auth.MaxAllowance {
		return auth.AllowedSource{}, fmt.Errorf("%w: a source is allowed for %d to %d hours", auth.ErrOutOfRange, auth.MinAllowance/time.Hour, auth.MaxAllowance/time.Hour)
	}
	return g.allowUntil(ctx, addr, act, func(before auth.AllowedSource, now time.Time) (time.Time, error) {
		return now.Add(d).Truncate(time.Second), nil
	})
}

// EndAllowedSource ends the allowance of the source of an address: the source is
// throttled again like any other, also for what it has done meanwhile.
func (g *Guard) EndAllowedSource(ctx context.Context, addr netip.Addr, act auth.Act) (auth.AllowedSource, error) {
	return g.allowUntil(ctx, addr, act, func(before auth.AllowedSource, now time.Time) (time.Time, error) {
		if before.Until.IsZero() {
			return time.Time{}, fmt.Errorf("%w: %s is not allowed", auth.ErrNothingToDo, auth.Source(addr))
		}
		return time.Time{}, nil
	})
}

// allowUntil writes the event that a source is allowed until the time that f returns;
// zero means not any longer. before is the present allowance, zero for none.
func (g *Guard) allowUntil(ctx context.Context, addr netip.Addr, act auth.Act, f func(before auth.AllowedSource, now time.Time) (time.Time, error)) (auth.AllowedSource, error) {
	g.init()
	source := auth.Source(addr)
	switch {
	case !source.IsValid():
		return auth.AllowedSource{}, fmt.Errorf("%w: no address", auth.ErrOutOfRange)
	case g.Throttle == nil:
		return auth.AllowedSource{}, ErrThrottleOff
	}
	var done auth.Event
	_, err := g.act(ctx, "", act, func(_ *auth.Account, now time.Time) (auth.Event, error) {
		before := g.allowedSource(source, now)
		until, err := f(before, now)
		if err != nil {
			return auth.Event{}, err
		}
		done = auth.Event{Kind: auth.SourceAllowed, Before: auth.DescribeAllowance(source, before.Until), After: auth.DescribeAllowance(source, until)}
		done.At, done.Actor, done.Reason = now, act.Actor, act.Reason
		return done, nil
	})
	if err != nil {
		return auth.AllowedSource{}, err
	}
	g.applyAllowance(done)
	allowed, _ := done.Allows()
	return allowed, nil
}

// AllowedSources returns the sources that are allowed now, ordered by the end of their
// allowance.
func (g *Guard) AllowedSources() []auth.AllowedSource {
	g.init()
	now := g.now()
	var list []auth.AllowedSource
	g.mu.RLock()
	for _, a := range g.allowed {
		if now.Before(a.Until) {
			list = append(list, a)
		}
	}
	g.mu.RUnlock()
	slices.SortFunc(list, func(a, b auth.AllowedSource) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Source.String(), b.Source.String()))
	})
	return list
}

// RefusedSources returns the sources and networks that this process refuses now.
func (g *Guard) RefusedSources() []throttle.RefusedSource { return g.Throttle.Refused(g.now()) }

// allowedSource returns the present allowance of a source; zero for none.
func (g *Guard) allowedSource(source netip.Prefix, now time.Time) auth.AllowedSource {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if a := g.allowed[source]; now.Before(a.Until) {
		return a
	}
	return auth.AllowedSource{}
}

// applyAllowance applies the allowance in an event, unless a later event was applied
// before: after a restart the older events may be read after the first new one.
func (g *Guard) applyAllowance(e auth.Event) {
	a, ok := e.Allows()
	if !ok || g.Throttle == nil {
		return
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	// A date in the future is from a clock that was ahead: this event came after it.
	if last := g.allowed[a.Source].Since; a.Since.Before(last) && !last.After(now.Add(clockTolerance)) {
		return
	}
	for source, other := range g.allowed {
		if a.Since.Sub(other.Since) > auth.MaxAllowance { // none is longer
			delete(g.allowed, source)
		}
	}
	g.allowed[a.Source] = a
	g.Throttle.Allow(a.Source, a.Until)
}

// redateAllowed shortens allowances to the longest that is possible from now: the clock
// was ahead, and is right again.
func (g *Guard) redateAllowed(now time.Time) {
	most := now.Add(auth.MaxAllowance)
	g.mu.Lock()
	defer g.mu.Unlock()
	for source, a := range g.allowed {
		if a.Until.After(most) {
			a.Until = most
			g.allowed[source] = a
			g.Throttle.Allow(source, a.Until)
		}
	}
}

// RecallAllowed reads from the audit log which sources are allowed, when a process
// begins. It reads all events that may still be in force.
func (g *Guard) RecallAllowed(ctx context.Context, log interface {
	Events(context.Context, auth.EventFilter) ([]auth.Event, error)
}) error {
	g.init()
	oldest := g.now().Add(-auth.MaxAllowance)
	want := auth.EventFilter{Kinds: []auth.EventKind{auth.SourceAllowed}, Limit: 100}
	var found []auth.Event // newest first
	for more := true; more; {
		events, err := log.Events(ctx, want)
		if err != nil {
			return fmt.Errorf("read which sources are allowed: %w", err)
		}
		more = len(events) == want.Limit
		for _, e := range events {
			if e.At.Before(oldest) {
				more = false
				break
			}
			want.Before = e.Seq
			found = append(found, e)
		}
	}
	for _, e := range slices.Backward(found) {
		g.applyAllowance(e)
	}
	if g.suspicion.Load() == nil {
		g.redateAllowed(g.now())
	}
	return nil
}
