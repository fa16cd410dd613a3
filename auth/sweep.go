package auth

import (
	"context"
	"fmt"
)

// Census is a store that can show all its accounts.
type Census interface {
	// Each calls f with every known account, in the order of names, until f
	// returns an error, which it returns.
	Each(ctx context.Context, f func(Account) error) error
}

// Swept is what a sweep has found.
type Swept struct {
	// Revoked accounts were marked, or would have been in mode warn.
	Revoked int
	// States counts all accounts by their state after the sweep.
	States map[State]int
}

// Sweep revokes the accounts that have been unused for too long (Art. 5.3.c)
// and ends their sessions, and counts all accounts by state. A login that is
// not made cannot be checked, so the sweep is what makes a revocation visible to
// lists and reports; the login of a dormant account is refused without it.
func (g *Guard) Sweep(ctx context.Context, census Census) (Swept, error) {
	g.init()
	rules := g.Rules()
	var dormant []Name
	swept := Swept{States: make(map[State]int)}
	now := g.now()
	err := census.Each(ctx, func(a Account) error {
		swept.States[rules.State(a, now)]++
		if a.Revocation.IsZero() && rules.Dormancy.Mode != Off && rules.Dormant(a, now) {
			dormant = append(dormant, a.Name)
		}
		return nil
	})
	if err != nil {
		return swept, fmt.Errorf("read accounts: %w", err)
	}
	for _, name := range dormant {
		if rules.Dormancy.Mode == Warn {
			swept.Revoked++
			continue
		}
		revoked, err := g.revoke(ctx, name, rules)
		if err != nil {
			return swept, fmt.Errorf("revoke: %w", err)
		}
		if revoked {
			swept.Revoked++
		}
	}
	return swept, nil
}

// revoke marks one account, unless it has logged in meanwhile.
func (g *Guard) revoke(ctx context.Context, name Name, rules Rules) (revoked bool, err error) {
	var happened []Event
	_, err = g.storeUpdate(ctx, name, 0, func(a *Account) ([]Event, bool) {
		now := g.now()
		happened = nil
		if !a.Revocation.IsZero() || !rules.Dormant(*a, now) {
			return nil, false
		}
		happened = []Event{rules.revoke(a, now)}
		return happened, true
	})
	if err != nil || len(happened) == 0 {
		return false, err
	}
	g.happened(happened)
	g.endSessions(name)
	return true, nil
}

// Count counts all accounts by state.
func (g *Guard) Count(ctx context.Context, census Census) (map[State]int, error) {
	rules, now := g.Rules(), g.now()
	states := make(map[State]int)
	err := census.Each(ctx, func(a Account) error {
		states[rules.State(a, now)]++
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	return states, nil
}
