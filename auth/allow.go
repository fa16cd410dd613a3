package auth

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// How long a source can be allowed.
const (
	MinAllowance = time.Hour
	MaxAllowance = 7 * 24 * time.Hour
)

// AllowedSource is a source that an administrator lets go on whatever it has done:
// an office behind one address, say, in which somebody guesses or a program has an
// old password. Only what [Throttle] holds against sources is lifted: the lock of an
// account, its limit of wrong passwords a day and its slots stay.
type AllowedSource struct {
	Source netip.Prefix
	// Since is when it was allowed, Until when that ends by itself.
	Since, Until time.Time
	// By and Reason are of whoever allowed it.
	By, Reason string
}

// ErrThrottleOff: no source is refused here, so that there is none to allow.
var ErrThrottleOff = fmt.Errorf("%w: sources are not throttled", ErrNothingToDo)

// AllowSource lets the source of an address go on for a time from now, from
// [MinAllowance] to [MaxAllowance], at every gateway on the store and over restarts.
// It replaces what was allowed to the source before.
func (g *Guard) AllowSource(ctx context.Context, addr netip.Addr, d time.Duration, act Act) (AllowedSource, error) {
	if d < MinAllowance || d > MaxAllowance {
		return AllowedSource{}, fmt.Errorf("%w: a source is allowed for %d to %d hours", ErrOutOfRange, MinAllowance/time.Hour, MaxAllowance/time.Hour)
	}
	return g.allowUntil(ctx, addr, act, func(before AllowedSource, now time.Time) (time.Time, error) {
		return now.Add(d).Truncate(time.Second), nil
	})
}

// EndAllowedSource ends what was allowed to the source of an address: it is
// throttled again like any other, for what it has done meanwhile too.
func (g *Guard) EndAllowedSource(ctx context.Context, addr netip.Addr, act Act) (AllowedSource, error) {
	return g.allowUntil(ctx, addr, act, func(before AllowedSource, now time.Time) (time.Time, error) {
		if before.Until.IsZero() {
			return time.Time{}, fmt.Errorf("%w: %s is not allowed", ErrNothingToDo, Source(addr))
		}
		return time.Time{}, nil
	})
}

// allowUntil makes the event that a source is allowed until the time that f
// returns; zero for no longer. What is allowed before is zero for nothing.
func (g *Guard) allowUntil(ctx context.Context, addr netip.Addr, act Act, f func(before AllowedSource, now time.Time) (time.Time, error)) (AllowedSource, error) {
	g.init()
	source := Source(addr)
	switch {
	case !source.IsValid():
		return AllowedSource{}, fmt.Errorf("%w: no address", ErrOutOfRange)
	case g.Throttle == nil:
		return AllowedSource{}, ErrThrottleOff
	}
	var done Event
	_, err := g.act(ctx, "", act, func(_ *Account, now time.Time) (Event, error) {
		before := g.allowedSource(source, now)
		until, err := f(before, now)
		if err != nil {
			return Event{}, err
		}
		done = Event{Kind: SourceAllowed, Before: describeAllowance(source, before.Until), After: describeAllowance(source, until)}
		done.At, done.Actor, done.Reason = now, act.Actor, act.Reason
		return done, nil
	})
	if err != nil {
		return AllowedSource{}, err
	}
	g.applyAllowance(done)
	allowed, _ := done.Allows()
	return allowed, nil
}

// AllowedSources returns the sources that are allowed now, the one whose time ends
// first first.
func (g *Guard) AllowedSources() []AllowedSource {
	g.init()
	now := g.now()
	var list []AllowedSource
	g.mu.RLock()
	for _, a := range g.allowed {
		if now.Before(a.Until) {
			list = append(list, a)
		}
	}
	g.mu.RUnlock()
	slices.SortFunc(list, func(a, b AllowedSource) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Source.String(), b.Source.String()))
	})
	return list
}

// RefusedSources returns the sources and networks that this process refuses now.
func (g *Guard) RefusedSources() []RefusedSource { return g.Throttle.Refused(g.now()) }

// allowedSource returns what is allowed to a source now; zero for nothing.
func (g *Guard) allowedSource(source netip.Prefix, now time.Time) AllowedSource {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if a := g.allowed[source]; now.Before(a.Until) {
		return a
	}
	return AllowedSource{}
}

// applyAllowance does what an event tells of a source, unless a later one has told
// of it: those of the time before a restart may be read after the first new one.
func (g *Guard) applyAllowance(e Event) {
	a, ok := e.Allows()
	if !ok || g.Throttle == nil {
		return
	}
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	// One that lies in the future is of a clock that was ahead: what follows came after it.
	if last := g.allowed[a.Source].Since; a.Since.Before(last) && !last.After(now.Add(clockTolerance)) {
		return
	}
	for source, other := range g.allowed {
		if a.Since.Sub(other.Since) > MaxAllowance { // none is longer
			delete(g.allowed, source)
		}
	}
	g.allowed[a.Source] = a
	g.Throttle.allow(a.Source, a.Until)
}

// redateAllowed lets no source go on for longer than one can be allowed from now: the
// clock was ahead, and is right.
func (g *Guard) redateAllowed(now time.Time) {
	most := now.Add(MaxAllowance)
	g.mu.Lock()
	defer g.mu.Unlock()
	for source, a := range g.allowed {
		if a.Until.After(most) {
			a.Until = most
			g.allowed[source] = a
			g.Throttle.allow(source, a.Until)
		}
	}
}

// RecallAllowed reads from the audit log which sources are allowed, for a process
// that begins. Every event of the time in which one may still be is read.
func (g *Guard) RecallAllowed(ctx context.Context, log interface {
	Events(context.Context, EventFilter) ([]Event, error)
}) error {
	g.init()
	oldest := g.now().Add(-MaxAllowance)
	want := EventFilter{Kinds: []EventKind{SourceAllowed}, Limit: 100}
	var found []Event // newest first
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

// describeAllowance is the state of a source in the audit log, from which
// [Event.Allows] reads it.
func describeAllowance(source netip.Prefix, until time.Time) string {
	if until.IsZero() {
		return source.String() + notAllowed
	}
	return source.String() + allowedUntil + until.UTC().Format(time.RFC3339)
}

const (
	notAllowed   = " not allowed"
	allowedUntil = " allowed until "
)

// Allows is what an event tells of a source that is allowed; ok is false when it tells
// of none.
func (e Event) Allows() (a AllowedSource, ok bool) {
	if e.Kind != SourceAllowed {
		return a, false
	}
	text, end, allowed := strings.Cut(e.After, allowedUntil)
	source, err := netip.ParsePrefix(strings.TrimSuffix(text, notAllowed))
	if err != nil {
		return a, false
	}
	a = AllowedSource{Source: source, Since: e.At, By: e.Actor, Reason: e.Reason}
	if !allowed {
		return a, true
	}
	if a.Until, err = time.Parse(time.RFC3339, end); err != nil {
		return a, false
	}
	// No event can allow more, whatever the clock was when it was made.
	if most := e.At.Add(MaxAllowance); a.Until.After(most) {
		a.Until = most
	}
	return a, true
}
