package guard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"congthu/auth"
)

// Merged is an account that was joined, or would be joined, with its rows under other
// names.
type Merged struct {
	// Account is the account after the merge.
	Account auth.Account
	// From are the rows under other names, as they were before.
	From []auth.Account
}

// Merge joins an account with the rows that the store has of it under names that no
// longer mean an account of their own, and removes those rows. Nothing is forgiven: the
// account keeps every lock and revocation, and the largest number of failures (see
// [auth.Rules.Merge]). The error is ErrNothingToDo when there is no such row. With dry
// nothing is changed, and no reason is needed.
//
// The account is written first. If the gateway ends before the other row is removed,
// that row still applies to the account, and another merge completes it.
func (g *Guard) Merge(ctx context.Context, account auth.Name, act auth.Act, dry bool) (Merged, error) {
	g.init()
	if !dry && strings.TrimSpace(act.Reason) == "" {
		return Merged{}, auth.ErrReasonMissing
	}
	strays := g.policy.Load().strays
	rows, err := g.OtherNames(ctx, account)
	if err != nil {
		return Merged{}, fmt.Errorf("store: %w", err)
	}
	if len(rows) == 0 {
		return Merged{}, fmt.Errorf("%w: nothing is kept of %s under another name", auth.ErrNothingToDo, account)
	}
	merged := Merged{From: rows}
	if dry {
		merged.Account, err = g.Store.Account(ctx, account)
		if err != nil {
			return Merged{}, fmt.Errorf("store: %w", err)
		}
		for _, row := range rows {
			g.Rules().Merge(&merged.Account, row, g.now(), act)
		}
		return merged, nil
	}
	for _, row := range rows {
		if merged.Account, err = g.merge(ctx, account, row, act); err != nil {
			return Merged{}, err
		}
		strays.remove(row.Name)
	}
	return merged, nil
}

// MergeAll merges every account that has rows under other names, in the order of their
// names. It skips an account that was merged by another process meanwhile, and ends at
// the first failure of the store.
func (g *Guard) MergeAll(ctx context.Context, store auth.Lister, act auth.Act, dry bool) (all []Merged, err error) {
	if !dry && strings.TrimSpace(act.Reason) == "" {
		return nil, auth.ErrReasonMissing
	}
	if _, err := g.LearnNames(ctx, store); err != nil {
		return nil, err
	}
	for _, account := range g.policy.Load().strays.accounts() {
		merged, err := g.Merge(ctx, account, act, dry)
		switch {
		case errors.Is(err, auth.ErrNothingToDo):
		case err != nil:
			return all, err
		default:
			all = append(all, merged)
		}
	}
	return all, nil
}

// merge joins an account with one row under another name and removes the row. A row that
// changes in between, because a gateway with an older configuration of names still uses
// it, is joined again.
func (g *Guard) merge(ctx context.Context, account auth.Name, row auth.Account, act auth.Act) (after auth.Account, err error) {
	rules := g.Rules()
	for range mergeTries {
		var happened []auth.Event
		after, err = g.storeUpdate(ctx, account, 0, func(a *auth.Account) ([]auth.Event, bool) {
			happened = rules.Merge(a, row, g.now(), act)
			return happened, true
		})
		if err != nil {
			return after, fmt.Errorf("store: %w", err)
		}
		// A lock must take effect before the next password of the owner is accepted.
		g.void(account)
		for _, e := range happened {
			if e.Kind == auth.AccountLocked || e.Kind == auth.AccountRevoked {
				g.endSessions(account)
			}
		}
		g.waitQueues.wakeAll(account)
		g.recordEvents(happened, after.Known())

		now, gone, was := g.now(), false, row
		var removed []auth.Event
		_, err = g.storeUpdate(ctx, row.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			row, removed = a.Normalized(), nil
			if gone = reflect.DeepEqual(row, was); !gone {
				return nil, false
			}
			removed = []auth.Event{{
				Kind: auth.AccountMerged, Account: row.Name, At: now, Actor: act.Actor, Source: act.Source,
				Before: auth.Describe(row), After: "merged into " + string(account), Reason: act.Reason,
			}}
			*a = auth.Account{Name: a.Name}
			return removed, true
		})
		if err != nil {
			return after, fmt.Errorf("store: %w", err)
		}
		if gone {
			g.recordEvents(removed, row.Known())
			return after, nil
		}
		if row.Blank() {
			return after, nil // another process has merged it
		}
	}
	return after, fmt.Errorf("store: %s changes as fast as it can be merged: does another gateway still use it?", row.Name)
}

// mergeTries is how often a row may change while it is being merged.
const mergeTries = 5
