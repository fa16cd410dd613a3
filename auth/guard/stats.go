package guard

import (
	"context"
	"fmt"

	"congthu/auth"
)

// Count counts all accounts.
func (g *Guard) Count(ctx context.Context, accounts auth.Scanner) (auth.AccountStats, error) {
	g.init()
	rules, now := g.Rules(), g.now()
	n := auth.AccountStats{States: make(map[auth.State]int), ExpiringWithin: make(map[int]int), Violations: make(map[auth.Rule]int)}
	err := accounts.Each(ctx, func(a auth.Account) error {
		rules.Count(&n, a, now)
		return nil
	})
	if err != nil {
		return auth.AccountStats{}, fmt.Errorf("read accounts: %w", err)
	}
	return n, nil
}

// CountShared counts the shared counters that are in use.
func (g *Guard) CountShared(ctx context.Context, store auth.Lister) (n auth.Counters, err error) {
	g.init()
	rules := g.Rules()
	err = auth.Scan(ctx, store, auth.Filter{Shared: true}, func(a auth.Account) error {
		now := g.now()
		if rules.Lockout.CountFailures(a, now) > 0 {
			n.Used++
		}
		if rules.Full(a, now) {
			n.Full++
		}
		return nil
	})
	if err != nil {
		return auth.Counters{}, fmt.Errorf("read shared counters: %w", err)
	}
	return n, nil
}
