package guard

import (
	"context"
	"errors"
	"fmt"

	"congthu/auth"
)

// Swept is the result of a sweep.
type Swept struct {
	// Dormant are the dormant accounts that were not marked as revoked.
	Dormant []auth.Name
	// Revoked is the number of them that were revoked.
	Revoked int
	// States counts all accounts by their state after the sweep.
	States map[auth.State]int
}

// ErrManyDormant: more accounts have become dormant at once than in the normal course of
// time, and none was revoked. Either the clock is wrong, or this is the first sweep of
// these accounts: an admin must check and confirm.
var ErrManyDormant = errors.New("too many accounts at once would be revoked")

// A sweep revokes up to 20 accounts, or one in ten of all, without a confirmation.
const (
	sweepFew   = 20
	sweepShare = 10
)

// Sweep revokes the accounts that have been unused for too long (Art. 5.3.c), ends their
// sessions, and counts all accounts by state. The login of a dormant account is refused
// even before; the sweep marks the account, with an event in the audit log. If that
// would be more than 20 accounts and more than one in ten, it revokes none and returns
// [ErrManyDormant].
func (g *Guard) Sweep(ctx context.Context, accounts auth.Scanner) (Swept, error) {
	if err := g.clockInDoubt(); err != nil {
		return Swept{}, err
	}
	swept, known, err := g.dormant(ctx, accounts)
	if err != nil {
		return swept, err
	}
	if n := len(swept.Dormant); g.Rules().Dormancy.Mode == auth.Enforce && n > sweepFew && n > known/sweepShare {
		return swept, fmt.Errorf("%w: %d of %d; is it %s? If so: congthu sweep --dry-run shows them, congthu sweep --force revokes them",
			ErrManyDormant, n, known, g.Rules().Instant(g.now()))
	}
	return g.revokeDormant(ctx, swept, auth.Act{Actor: auth.ByGateway})
}

// Dormant returns what a sweep would find now, and changes nothing.
func (g *Guard) Dormant(ctx context.Context, accounts auth.Scanner) (Swept, error) {
	swept, _, err := g.dormant(ctx, accounts)
	return swept, err
}

// ForceSweep is a Sweep without that limit, on the responsibility of the actor.
func (g *Guard) ForceSweep(ctx context.Context, accounts auth.Scanner, act auth.Act) (Swept, error) {
	if act.Reason == "" {
		return Swept{}, auth.ErrReasonMissing
	}
	if err := g.clockInDoubt(); err != nil {
		return Swept{}, err
	}
	swept, _, err := g.dormant(ctx, accounts)
	if err != nil {
		return swept, err
	}
	return g.revokeDormant(ctx, swept, act)
}

// dormant reads all accounts.
func (g *Guard) dormant(ctx context.Context, accounts auth.Scanner) (swept Swept, known int, err error) {
	g.init()
	rules, now := g.Rules(), g.now()
	strays := g.policy.Load().strays
	swept.States = make(map[auth.State]int)
	err = accounts.Each(ctx, func(a auth.Account) error {
		known++
		swept.States[rules.State(a, now)]++
		if _, stray := strays.add(a.Name); stray {
			// No login uses this name: it becomes dormant even if its account is used,
			// and must not revoke that account.
			return nil
		}
		if a.Revocation.IsZero() && rules.Dormancy.Mode != auth.Off && rules.Dormant(a, now) {
			swept.Dormant = append(swept.Dormant, a.Name)
		}
		return nil
	})
	if err != nil {
		return swept, known, fmt.Errorf("read accounts: %w", err)
	}
	return swept, known, nil
}

// revokeDormant marks the dormant accounts, unless the rule is in mode warn or off.
func (g *Guard) revokeDormant(ctx context.Context, swept Swept, act auth.Act) (Swept, error) {
	rules := g.Rules()
	if rules.Dormancy.Mode != auth.Enforce {
		return swept, nil
	}
	for _, name := range swept.Dormant {
		revoked, err := g.revoke(ctx, name, rules, act)
		if err != nil {
			return swept, fmt.Errorf("revoke: %w", err)
		}
		if revoked {
			swept.Revoked++
		}
	}
	return swept, nil
}

// revoke marks one account, unless a login has come meanwhile.
func (g *Guard) revoke(ctx context.Context, name auth.Name, rules auth.Rules, act auth.Act) (revoked bool, err error) {
	var happened []auth.Event
	_, err = g.storeUpdate(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
		now := g.now()
		happened = nil
		if !a.Revocation.IsZero() || !rules.Dormant(*a, now) {
			return nil, false
		}
		happened = []auth.Event{rules.Revoke(a, now, act)}
		return happened, true
	})
	if err != nil || len(happened) == 0 {
		return false, err
	}
	g.recordEvents(happened, true) // only accounts are dormant
	g.endSessions(name)
	return true, nil
}

// ForgetUnknown makes room: it forgets the names without a login about which the rules
// need nothing any more, and returns their number. No lock is ever forgotten. The
// counters that such names share are emptied as well when their day is over; they are
// not in the number.
func (g *Guard) ForgetUnknown(ctx context.Context, store auth.Lister) (forgotten int, err error) {
	g.init()
	rules := g.Rules()
	err = auth.Scan(ctx, store, auth.Filter{Unknown: true}, func(a auth.Account) error {
		if !rules.Forgettable(a, g.now()) {
			return nil
		}
		gone := false
		_, err := g.storeUpdate(ctx, a.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			if gone = rules.Forgettable(*a, g.now()); gone {
				*a = auth.Account{Name: a.Name}
			}
			return nil, gone
		})
		if err != nil {
			return fmt.Errorf("forget a name: %w", err)
		}
		if gone {
			forgotten++
		}
		return nil
	})
	if err != nil {
		return forgotten, err
	}
	return forgotten, g.emptyShared(ctx, store)
}
