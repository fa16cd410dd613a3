package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"congthu/auth"
)

// Unlock ends a lock of any cause and forgets the failures. A name without a login can be
// unlocked too. Unlock also forgets failures that have not locked yet, and everything
// for which the user is refused for now, at every gateway on the store: the wrong
// passwords of the day, and what sources have done to this account, which may try it
// again. What a source has done to other accounts stays (see [Guard.AllowSource] for an
// office).
//
// If nothing is held against the account, here and in the store, the error is
// [auth.ErrNothingToDo]; with [Guard].Shared it is unlocked nevertheless, and the event
// says [ForgivenEverywhere].
func (g *Guard) Unlock(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
	rules, refused, owed := g.Rules(), g.LatelyRefused(name), g.owedOf(name)
	var at time.Time
	var sources []netip.Prefix
	looked := false // whether the name is refused by a shared counter
	change := func(a *auth.Account, now time.Time) (auth.Event, error) {
		if a.Blank() && !looked {
			return auth.Event{}, errUnremembered
		}
		at, sources = now, nil
		for _, m := range a.Mistakes {
			if source := auth.Source(m.Source.Addr()); source.IsValid() && !slices.Contains(sources, source) {
				sources = append(sources, source)
			}
		}
		strangers, after := rules.DailyCapReached(*a, now), "unlocked"
		if a.Lock.Cause == auth.NotLocked && a.Failures == 0 && !strangers && refused.IsZero() && owed == 0 {
			switch {
			case !a.Known():
				return auth.Event{}, auth.ErrUnknownAccount
			case !g.Shared:
				return auth.Event{}, fmt.Errorf("%w: %s is not locked and has no wrong passwords", auth.ErrNothingToDo, a.Name)
			}
			after = ForgivenEverywhere
		}
		before := auth.DescribeLock(a)
		if strangers {
			before += ", " + auth.DescribeFailures(a.WrongThatDay) + " on " + a.WrongOn
		}
		if owed > 0 {
			before += fmt.Sprintf(", %d more not written yet", owed)
		}
		if !refused.IsZero() {
			before += fmt.Sprintf(", refused for now from %s (%s)", refused.Source.Addr(), refused.Outcome)
		}
		a.Lock, a.WrongOn, a.WrongThatDay = auth.Lock{}, "", 0
		a.Forgive()
		return auth.Event{Kind: auth.AccountUnlocked, Before: before, After: after}, nil
	}
	a, err := g.act(ctx, name, act, change)
	if errors.Is(err, errUnremembered) {
		if err := g.refuseUnlock(ctx, name); err != nil {
			return a, err
		}
		looked = true
		a, err = g.act(ctx, name, act, change)
	}
	if err == nil {
		g.forgiveNow(name, at, sources)
	}
	return a, err
}

// Lock locks an account until an admin unlocks it, and ends its live sessions.
func (g *Guard) Lock(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
	a, err := g.act(ctx, name, act, func(a *auth.Account, now time.Time) (auth.Event, error) {
		if !a.Known() {
			return auth.Event{}, auth.ErrUnknownAccount
		}
		if a.Lock.Cause == auth.ByAdmin {
			return auth.Event{}, fmt.Errorf("%w: %s is already locked by %s", auth.ErrNothingToDo, a.Name, a.Lock.By)
		}
		before := auth.DescribeLock(a)
		a.Lock = auth.Lock{Mark: auth.Mark{At: now, By: act.Actor, Reason: act.Reason}, Cause: auth.ByAdmin}
		return auth.Event{Kind: auth.AccountLocked, Before: before, After: "locked by admin"}, nil
	})
	if err == nil || errors.Is(err, auth.ErrNothingToDo) {
		// Also if it is locked already: the answer of an earlier call may have been lost
		// after the lock was written, and then the sessions are still open.
		g.endSessions(name)
	}
	return a, err
}

// Restore ends the revocation of an account (Art. 5.3.c); its 12 months restart now.
// A dormant account that the sweep has not reached yet can be restored as well.
func (g *Guard) Restore(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
	rules := g.Rules()
	return g.act(ctx, name, act, func(a *auth.Account, now time.Time) (auth.Event, error) {
		if !a.Known() {
			return auth.Event{}, auth.ErrUnknownAccount
		}
		if a.Revocation.IsZero() && !rules.Dormant(*a, now) {
			return auth.Event{}, fmt.Errorf("%w: %s is not revoked", auth.ErrNothingToDo, a.Name)
		}
		a.Revocation = auth.Mark{}
		a.Restored = now
		return auth.Event{Kind: auth.AccountRestored, Before: "revoked", After: "restored"}, nil
	})
}

// Grace lets the account use a password that has expired, or is about to, for some days
// from now, at most [auth.PasswordAge].MaxGrace. There is nothing to do if no password
// expires before that, or if the account already has the same grace.
func (g *Guard) Grace(ctx context.Context, name auth.Name, days int, act auth.Act) (auth.Account, error) {
	rules := g.Rules()
	if err := g.clockInDoubt(); err != nil {
		return auth.Account{}, err // the end of the grace would be wrong
	}
	most := int(rules.Password.MaxGrace / (24 * time.Hour))
	if days < 1 || days > most {
		return auth.Account{}, fmt.Errorf("%w: grace is 1 to %d days", auth.ErrOutOfRange, most)
	}
	return g.act(ctx, name, act, func(a *auth.Account, now time.Time) (auth.Event, error) {
		if !a.Known() {
			return auth.Event{}, auth.ErrUnknownAccount
		}
		until := now.Add(time.Duration(days) * 24 * time.Hour)
		alone := *a
		alone.GraceUntil = time.Time{} // the new grace may be shorter
		if !rules.AnyNearItsEnd(alone, until, false) {
			return auth.Event{}, fmt.Errorf("%w: the password of %s does not run out within %d days", auth.ErrNothingToDo, a.Name, days)
		}
		// People read minutes: the same command twice changes nothing.
		if until.Sub(a.GraceUntil).Abs() < time.Minute {
			return auth.Event{}, fmt.Errorf("%w: %s has that grace already", auth.ErrNothingToDo, a.Name)
		}
		before := "no grace"
		if a.GraceUntil.After(now) {
			before = "grace until " + rules.Instant(a.GraceUntil)
		}
		a.GraceUntil = until
		return auth.Event{Kind: auth.GraceGranted, Before: before, After: "grace until " + rules.Instant(until)}, nil
	})
}

// act makes one change that an administrator asked for, and its event.
func (g *Guard) act(ctx context.Context, name auth.Name, act auth.Act, change func(*auth.Account, time.Time) (auth.Event, error)) (auth.Account, error) {
	g.init()
	if strings.TrimSpace(act.Reason) == "" {
		return auth.Account{}, auth.ErrReasonMissing
	}
	var refused error
	var happened []auth.Event
	a, err := g.storeUpdate(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
		now := g.now()
		var e auth.Event
		happened = nil
		if e, refused = change(a, now); refused != nil {
			return nil, false
		}
		e.At, e.Account, e.Actor, e.Source, e.Reason = now, name, act.Actor, act.Source, act.Reason
		happened = []auth.Event{e}
		return happened, true
	})
	switch {
	case err != nil:
		return a, fmt.Errorf("store: %w", err)
	case refused != nil:
		return a, refused
	}
	g.recordEvents(happened, a.Known())
	// Attempts that wait for a slot of this account may now go on, or be refused.
	g.waitQueues.wakeAll(name)
	return a, nil
}
