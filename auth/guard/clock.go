package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"congthu/auth"
)

// A wrong clock does lasting harm: one that is a year ahead for an hour revokes
// accounts, and leaves last logins in the future, which nothing corrects, since a
// last login never goes back. So the guard compares its clock with everything that it can
// ([Guard].WatchClock), and while the clock is suspect it does nothing that rests on the
// time alone: no account is revoked, no password or lock expires, no failure is
// forgotten, and no known instant is replaced by a newer one. Logins go on. The suspicion
// ends when a person has looked at the clock and confirms that it is right
// ([Guard.AcceptClock]). Beginning and end are events of the audit log: neither a
// restart nor another gateway forgets them.
//
// The clock is suspect if it differs by more than [clockTolerance] from one of these:
//
//   - the newest event of the audit log, which must not be in the future, when the
//     process starts;
//   - this machine's monotonic clock, which runs evenly: if they differ, the wall clock
//     was set, or the machine was suspended;
//   - where [Guard].Now is the database's clock: this machine's clock. This concerns
//     this gateway alone, and ends when the two agree.
//
// None of these shows a clock that was set ahead while no process ran, if there is no
// clock of a database. It shows when the clock is set back.
// no database has another. It shows when it is set back.

// clockTolerance is the largest permitted difference between two clocks. NTP keeps a
// machine within less than a second; Kerberos, too, refuses at 5 minutes (RFC 4120
// section 1.6).
const clockTolerance = 5 * time.Minute

// Suspicion is the reason why the clock is suspect. The zero Suspicion means it is not.
type Suspicion struct {
	// Since is the time that the suspect clock showed when the difference was noticed.
	Since time.Time
	// Why is one sentence for the operator: which clocks disagree.
	Why string
}

// IsZero reports whether there is no suspicion.
func (s Suspicion) IsZero() bool { return s.Why == "" }

// suspicion is a Suspicion, and whether it is in the audit log.
type suspicion struct {
	Suspicion
	written bool
	// here is set when only this machine's clock differs from the database's, by which
	// all gateways decide. It concerns no other gateway, and ends when the clocks agree.
	here bool
}

// Errors of a clock that cannot be accepted, and of an act that a suspect clock forbids.
var (
	ErrClockSuspect = errors.New("the clock is suspect")
	ErrClocksDiffer = errors.New("two clocks differ")
)

// Suspicion returns why the clock is suspect; zero when it is not.
func (g *Guard) Suspicion() Suspicion {
	if s := g.suspicion.Load(); s != nil {
		return s.Suspicion
	}
	return Suspicion{}
}

// clockInDoubt returns [ErrClockSuspect] while the clock is suspect.
func (g *Guard) clockInDoubt() error {
	g.init()
	g.now() // compares the clock
	if s := g.suspicion.Load(); s != nil {
		return fmt.Errorf("%w: %s; look at the clock, then: congthu clock accept", ErrClockSuspect, s.Why)
	}
	return nil
}

// watchClock compares an instant that the clock shows with what this process knows of
// the time.
func (g *Guard) watchClock(shown time.Time) {
	if !g.WatchClock {
		return
	}
	// ahead is how far the clock is ahead of the time that has passed since the guard
	// was first used. It stays the same while the clock is not set, apart from drift, so
	// it is compared with its value at the last look.
	ahead := g.ahead(shown)
	last := g.clockAhead.Load()
	step := ahead - time.Duration(last)
	if step <= clockTolerance && step >= -clockTolerance {
		g.clockAhead.CompareAndSwap(last, int64(ahead)) // it drifts
	} else {
		// shown may have been read before a step that another goroutine has noticed since.
		shown = g.shows()
		ahead = g.ahead(shown)
		step = ahead - time.Duration(g.clockAhead.Load())
		if step > clockTolerance || step < -clockTolerance {
			g.clockAhead.Store(int64(ahead))
		}
	}
	switch {
	case step > clockTolerance:
		g.suspect(shown, fmt.Sprintf("the clock was set ahead by %s, or the machine was suspended for that long", step.Round(time.Second)))
	case step < -clockTolerance:
		g.suspect(shown, fmt.Sprintf("the clock was set back by %s", (-step).Round(time.Second)))
	}
	switch s := g.suspicion.Load(); {
	case s != nil && !s.here:
		// The reason is known already: an attempt looks at the clock about ten times.
	case s == nil:
		if why := g.clocksDiffer(shown); why != "" {
			g.suspectFor(&suspicion{Suspicion: Suspicion{Since: shown, Why: why}, written: true, here: true})
		}
	case !g.differs(shown) && g.suspicion.CompareAndSwap(s, nil):
		g.Log.Info("the clock of this machine and the database's agree again")
		wake(g.wakeLogins) // last logins wait for it
	}
}

// ahead is how far an instant that the clock has just shown is ahead of the time that
// has passed since the guard was first used.
func (g *Guard) ahead(shown time.Time) time.Duration {
	return shown.Sub(g.began.Round(0)) - time.Since(g.began)
}

// clocksDiffer says how the clock differs from this machine's; "" when it does not.
func (g *Guard) clocksDiffer(shown time.Time) string {
	if g.Now == nil {
		return "" // it is this machine's clock
	}
	if !g.differs(shown) {
		return ""
	}
	rules := g.policy.Load().Rules
	return fmt.Sprintf("the database's clock shows %s and this machine's %s", rules.Instant(shown), rules.Instant(g.machineNow()))
}

// differs reports whether the clock, if it is not this machine's, differs from this
// machine's.
func (g *Guard) differs(shown time.Time) bool {
	if g.Now == nil {
		return false
	}
	d := shown.Sub(g.machineNow())
	return d > clockTolerance || d < -clockTolerance
}

func (g *Guard) machineNow() time.Time {
	if g.MachineNow != nil {
		return g.MachineNow()
	}
	return time.Now()
}

// suspect begins a suspicion that all gateways share, unless there is one.
func (g *Guard) suspect(shown time.Time, why string) {
	g.suspectFor(&suspicion{Suspicion: Suspicion{Since: shown, Why: why}})
}

// suspectFor begins a suspicion, unless there is one that all gateways share.
func (g *Guard) suspectFor(s *suspicion) {
	was := g.suspicion.Load()
	if was != nil && (!was.here || s.here) || !g.suspicion.CompareAndSwap(was, s) {
		return
	}
	why := s.Why
	g.Log.Error("the clock is suspect: until it is accepted nothing is revoked and nothing runs out; look at the clock (timedatectl, chronyc tracking), then: congthu clock accept",
		"why", why)
	wake(g.wakeLogins)
}

// writeSuspicion makes a suspicion durable.
func (g *Guard) writeSuspicion(ctx context.Context) error {
	select {
	case g.writingClock <- struct{}{}:
		defer func() { <-g.writingClock }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s := g.suspicion.Load()
	if s == nil || s.written {
		return nil
	}
	e := auth.Event{At: s.Since, Kind: auth.ClockSuspected, Actor: auth.ByGateway, Reason: s.Why}
	// The event belongs to no account, and an account without a name and content leaves
	// no row. A shutdown does not interrupt this, or the event might be written twice.
	if _, err := g.storeUpdate(context.WithoutCancel(ctx), "", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true }); err != nil {
		return err
	}
	g.suspicion.CompareAndSwap(s, &suspicion{Suspicion: s.Suspicion, written: true})
	g.recordEvents([]auth.Event{e}, false)
	return nil
}

// LearnClock compares the clock with the audit log, and resumes a suspicion that has not
// ended. It must be called before [Guard.Run] when WatchClock is set.
func (g *Guard) LearnClock(ctx context.Context, log auth.EventReader) error {
	g.init()
	told, err := log.Events(ctx, auth.EventFilter{Kinds: []auth.EventKind{auth.ClockSuspected, auth.ClockAccepted}, Limit: 1})
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	if len(told) > 0 && told[0].Kind == auth.ClockSuspected {
		g.suspicion.Store(&suspicion{Suspicion: Suspicion{Since: told[0].At, Why: told[0].Reason}, written: true})
		g.Log.Warn("the clock is still suspect: nothing is revoked and nothing runs out until it is accepted; look at the clock, then: congthu clock accept",
			"why", told[0].Reason)
		return nil
	}
	newest, err := log.Events(ctx, auth.EventFilter{Limit: 1})
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	now := g.now()
	if len(newest) > 0 && newest[0].At.Sub(now) > clockTolerance {
		rules := g.policy.Load().Rules
		g.suspect(now, fmt.Sprintf("the newest event of the audit log is of %s, and the clock shows %s: it is behind, or it was ahead",
			rules.Instant(newest[0].At), rules.Instant(now)))
	}
	return nil
}

// onClockEvent is [Guard.OnRemoteEvent] for the events of the clock. They arrive in the
// order of the audit log; a suspicion of this process that is not in the log yet is
// later than they are.
func (g *Guard) onClockEvent(e auth.Event) {
	switch s := g.suspicion.Load(); {
	case e.Kind == auth.ClockSuspected && (s == nil || s.here):
		g.suspicion.CompareAndSwap(s, &suspicion{Suspicion: Suspicion{Since: e.At, Why: e.Reason}, written: true})
	case e.Kind == auth.ClockAccepted && s != nil && s.written && !s.here:
		if g.suspicion.CompareAndSwap(s, nil) {
			g.redateAllowed(g.now())
			wake(g.wakeLogins) // last logins wait for it
		}
	}
}

// ClockAcceptance is the result of accepting the clock.
type ClockAcceptance struct {
	// Now is the time that the clock shows.
	Now time.Time
	// Was is the suspicion that has ended; zero if there was none.
	Was Suspicion
	// Redated are the accounts with an instant in the future that was changed to now.
	Redated []auth.Name
}

// AcceptClock ends a suspicion: the actor has looked at the clock and confirms that it
// is right. After that, and only then, instants in the future are changed to now: each
// account that this changes has an event. If the clock is not suspect, it only changes
// these instants, so that an interrupted acceptance can be completed by another call. With
// dry set it only returns what it would do.
//
// The error is [auth.ErrReasonMissing], [ErrClocksDiffer] while this machine's clock and
// the database's still differ, or the store's.
func (g *Guard) AcceptClock(ctx context.Context, store auth.DatedStore, act auth.Act, dry bool) (ClockAcceptance, error) {
	g.init()
	if !dry && strings.TrimSpace(act.Reason) == "" {
		return ClockAcceptance{}, auth.ErrReasonMissing
	}
	now := g.now()
	if why := g.clocksDiffer(now); why != "" {
		return ClockAcceptance{}, fmt.Errorf("%w: %s: set the wrong one right first", ErrClocksDiffer, why)
	}
	done := ClockAcceptance{Now: now}
	// What was done while the clock was suspect gets the instant of the acceptance,
	// which may be an earlier one that this call completes.
	found, since, err := g.doubtfulSince(ctx, store)
	if err != nil {
		return done, err
	}
	if since.IsZero() {
		since = now
	}
	if !dry {
		// Otherwise its beginning might come after its end in the audit log.
		if err := g.writeSuspicion(ctx); err != nil {
			return done, fmt.Errorf("store: %w", err)
		}
	}
	s := g.suspicion.Load()
	if s != nil {
		done.Was = s.Suspicion
		if !dry {
			e := auth.Event{At: now, Kind: auth.ClockAccepted, Actor: act.Actor, Source: act.Source, Before: s.Why, After: "the clock is right", Reason: act.Reason}
			if _, err := g.storeUpdate(ctx, "", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true }); err != nil {
				return done, fmt.Errorf("store: %w", err)
			}
			g.suspicion.CompareAndSwap(s, nil)
			g.recordEvents([]auth.Event{e}, false)
			wake(g.wakeLogins) // last logins wait for it
		}
	}
	if !dry {
		g.redateAllowed(now)
	}
	rules := g.policy.Load().Rules
	err = auth.Scan(ctx, store, auth.Filter{Unknown: true}, func(a auth.Account) error {
		// The present time: logins during this scan are not in the future.
		if _, changed := rules.Redate(&a, g.now(), found[a.Name], since, act); !changed {
			return nil
		}
		known := a.Known()
		if !dry {
			var happened []auth.Event
			_, err := g.storeUpdate(ctx, a.Name, 0, func(a *auth.Account) (events []auth.Event, write bool) {
				happened, write = rules.Redate(a, g.now(), found[a.Name], since, act)
				return happened, write
			})
			if err != nil {
				return fmt.Errorf("store: %w", err)
			}
			g.recordEvents(happened, known)
		}
		if known {
			done.Redated = append(done.Redated, a.Name)
		}
		return nil
	})
	if err != nil {
		return done, err
	}
	return done, nil
}

// doubtfulSince returns what was done while the clock was last suspect, and when that
// clock was accepted; zero if not yet.
func (g *Guard) doubtfulSince(ctx context.Context, log auth.EventReader) (found map[auth.Name]auth.Doubtful, accepted time.Time, err error) {
	found = make(map[auth.Name]auth.Doubtful)
	latest := func(kind auth.EventKind) (auth.Event, error) {
		events, err := log.Events(ctx, auth.EventFilter{Kinds: []auth.EventKind{kind}, Limit: 1})
		if err != nil || len(events) == 0 {
			return auth.Event{}, err
		}
		return events[0], nil
	}
	began, err := latest(auth.ClockSuspected)
	if err != nil {
		return nil, accepted, fmt.Errorf("read the audit log: %w", err)
	}
	if began.Seq == 0 {
		return found, accepted, nil
	}
	ended, err := latest(auth.ClockAccepted)
	if err != nil {
		return nil, accepted, fmt.Errorf("read the audit log: %w", err)
	}
	if ended.Seq > began.Seq {
		accepted = ended.At
	}
	for want := (auth.EventFilter{Kinds: []auth.EventKind{auth.FirstLogin, auth.AccountImported, auth.AccountRestored}, Limit: 100}); ; {
		page, err := log.Events(ctx, want)
		if err != nil {
			return nil, accepted, fmt.Errorf("read the audit log: %w", err)
		}
		for _, e := range page {
			if e.Seq < began.Seq {
				return found, accepted, nil
			}
			if accepted.IsZero() || e.Seq < ended.Seq {
				d := found[e.Account]
				if e.Kind == auth.FirstLogin {
					d.Newcomer = true
				} else {
					d.At = append(d.At, e.At)
				}
				found[e.Account] = d
			}
			want.Before = e.Seq
		}
		if len(page) < want.Limit {
			return found, accepted, nil
		}
	}
}

func (g *Guard) now() time.Time {
	shown := g.shows()
	g.watchClock(shown)
	return shown.UTC().Truncate(time.Microsecond)
}

// shows is what the clock shows.
func (g *Guard) shows() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}
