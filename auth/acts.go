package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Act is who does something to an account on purpose, from where, and why.
type Act struct {
	// Actor is the named person: the name of an admin token, or the owner of
	// the process at the other end of the admin socket.
	Actor string
	// Source is where the admin's request came from; zero on the Unix socket.
	Source netip.AddrPort
	// Reason is mandatory: an auditor will read it.
	Reason string
}

// Why an act was not done. Any other error means that the store is unavailable.
var (
	ErrReasonMissing  = errors.New("a reason is required")
	ErrUnknownAccount = errors.New("no such account")
	ErrNothingToDo    = errors.New("nothing to do")
	ErrOutOfRange     = errors.New("out of range")
)

// Unlock ends a lock, whoever made it, and forgets the failures. A name that
// nobody ever logged in with can be unlocked too. Failures that have not
// locked yet are forgotten as well, and so is what has the user refused for now,
// at every gateway on the store: the wrong passwords of the day, and what sources
// have done to this account, which may be tried from them again. What a source has
// done to other accounts stays (see [Guard.AllowSource] for an office).
//
// When nothing is held against an account, here and in the store, the error is
// [ErrNothingToDo]; with [Guard].Shared it is unlocked all the same, and the event
// says [ForgivenEverywhere].
func (g *Guard) Unlock(ctx context.Context, name Name, act Act) (Account, error) {
	rules, refused, owed := g.Rules(), g.LatelyRefused(name), g.owedOf(name)
	var at time.Time
	var sources []netip.Prefix
	looked := false // at the counter that the name may share
	change := func(a *Account, now time.Time) (Event, error) {
		if a.Blank() && !looked {
			return Event{}, errUnremembered
		}
		at, sources = now, nil
		for _, m := range a.Mistakes {
			if source := Source(m.Source.Addr()); source.IsValid() && !slices.Contains(sources, source) {
				sources = append(sources, source)
			}
		}
		strangers, after := rules.StrangersOut(*a, now), "unlocked"
		if a.Lock.Cause == NotLocked && a.Failures == 0 && !strangers && refused.IsZero() && owed == 0 {
			switch {
			case !a.Known():
				return Event{}, ErrUnknownAccount
			case !g.Shared:
				return Event{}, fmt.Errorf("%w: %s is not locked and has no wrong passwords", ErrNothingToDo, a.Name)
			}
			after = ForgivenEverywhere
		}
		before := describeLock(a)
		if strangers {
			before += ", " + describeFailures(a.WrongThatDay) + " on " + a.WrongOn
		}
		if owed > 0 {
			before += fmt.Sprintf(", %d more not written yet", owed)
		}
		if !refused.IsZero() {
			before += fmt.Sprintf(", refused for now from %s (%s)", refused.Source.Addr(), refused.Outcome)
		}
		a.Lock, a.WrongOn, a.WrongThatDay = Lock{}, "", 0
		a.forgive()
		return Event{Kind: AccountUnlocked, Before: before, After: after}, nil
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

// Lock locks an account until somebody unlocks it, and ends its live sessions.
func (g *Guard) Lock(ctx context.Context, name Name, act Act) (Account, error) {
	a, err := g.act(ctx, name, act, func(a *Account, now time.Time) (Event, error) {
		if !a.Known() {
			return Event{}, ErrUnknownAccount
		}
		if a.Lock.Cause == ByAdmin {
			return Event{}, fmt.Errorf("%w: %s is already locked by %s", ErrNothingToDo, a.Name, a.Lock.By)
		}
		before := describeLock(a)
		a.Lock = Lock{Mark: Mark{At: now, By: act.Actor, Reason: act.Reason}, Cause: ByAdmin}
		return Event{Kind: AccountLocked, Before: before, After: "locked by admin"}, nil
	})
	if err == nil || errors.Is(err, ErrNothingToDo) {
		// Also when it is locked already: the lock before may have been made by a call
		// whose answer was lost, and then its sessions go on.
		g.endSessions(name)
	}
	return a, err
}

// Restore gives a revoked account back (Art. 5.3.c); its 12 months restart now.
// A dormant account that the sweep has not reached yet can be restored as well.
func (g *Guard) Restore(ctx context.Context, name Name, act Act) (Account, error) {
	rules := g.Rules()
	return g.act(ctx, name, act, func(a *Account, now time.Time) (Event, error) {
		if !a.Known() {
			return Event{}, ErrUnknownAccount
		}
		if a.Revocation.IsZero() && !rules.Dormant(*a, now) {
			return Event{}, fmt.Errorf("%w: %s is not revoked", ErrNothingToDo, a.Name)
		}
		a.Revocation = Mark{}
		a.Restored = now
		return Event{Kind: AccountRestored, Before: "revoked", After: "restored"}, nil
	})
}

// Grace lets the account's password, expired or about to, go on for some days
// from now, at most [PasswordAge].MaxGrace.
func (g *Guard) Grace(ctx context.Context, name Name, days int, act Act) (Account, error) {
	rules := g.Rules()
	if err := g.clockInDoubt(); err != nil {
		return Account{}, err // until when would it be?
	}
	most := int(rules.Password.MaxGrace / (24 * time.Hour))
	if days < 1 || days > most {
		return Account{}, fmt.Errorf("%w: grace is 1 to %d days", ErrOutOfRange, most)
	}
	return g.act(ctx, name, act, func(a *Account, now time.Time) (Event, error) {
		if !a.Known() {
			return Event{}, ErrUnknownAccount
		}
		if !rules.anyNearItsEnd(*a, now.Add(rules.Password.MaxGrace), false) {
			return Event{}, fmt.Errorf("%w: the password of %s does not run out within %d days", ErrNothingToDo, a.Name, most)
		}
		until := now.Add(time.Duration(days) * 24 * time.Hour)
		before := "no grace"
		if a.GraceUntil.After(now) {
			before = "grace until " + rules.Instant(a.GraceUntil)
		}
		a.GraceUntil = until
		return Event{Kind: GraceGranted, Before: before, After: "grace until " + rules.Instant(until)}, nil
	})
}

// act makes one change on purpose and its event.
func (g *Guard) act(ctx context.Context, name Name, act Act, change func(*Account, time.Time) (Event, error)) (Account, error) {
	g.init()
	if strings.TrimSpace(act.Reason) == "" {
		return Account{}, ErrReasonMissing
	}
	var refused error
	var happened []Event
	a, err := g.storeUpdate(ctx, name, 0, func(a *Account) ([]Event, bool) {
		now := g.now()
		var e Event
		happened = nil
		if e, refused = change(a, now); refused != nil {
			return nil, false
		}
		e.At, e.Account, e.Actor, e.Source, e.Reason = now, name, act.Actor, act.Source, act.Reason
		happened = []Event{e}
		return happened, true
	})
	switch {
	case err != nil:
		return a, fmt.Errorf("store: %w", err)
	case refused != nil:
		return a, refused
	}
	g.happened(happened, a.Known())
	// Whoever waits for a slot of this account may go on, or be told.
	g.gates.wakeAll(name)
	return a, nil
}

func describeLock(a *Account) string {
	switch a.Lock.Cause {
	case ByWrongPasswords:
		return "locked by " + describeFailures(a.Failures)
	case ByAdmin:
		return "locked by " + a.Lock.By
	}
	return "not locked, " + describeFailures(a.Failures)
}

// Instant writes a time for people, in the regulation's time zone.
func (r Rules) Instant(t time.Time) string { return t.In(r.Location).Format("2006-01-02 15:04 -07:00") }
