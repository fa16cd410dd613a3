package incident

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"congthu/auth"
)

// Find groups the accounts that are locked now.
func Find(ctx context.Context, store auth.Lister) ([]Incident, error) {
	var locked []auth.Account
	err := auth.Scan(ctx, store, auth.Filter{Locked: true}, func(a auth.Account) error { locked = append(locked, a); return nil })
	if err != nil {
		return nil, fmt.Errorf("list locked accounts: %w", err)
	}
	return Group(locked), nil
}

// FindWithNames groups the accounts that are locked now as [Find] does, and
// adds the locked names without a login. Such a name belongs to an incident of accounts
// if they have a source in common within a day, or if it was locked during an incident
// that looks like an attack; the other names form incidents without accounts. The names
// change neither the ID of an incident of accounts nor whether an attack is suspected,
// so that users who may not see the names see the same incidents.
//
// A name may be a password that was typed in the wrong field: only users who may unlock
// see it, and no count, metric or report contains it.
func FindWithNames(ctx context.Context, store auth.Lister) ([]Incident, error) {
	var accounts, names []auth.Account
	err := auth.Scan(ctx, store, auth.Filter{Locked: true, Unknown: true}, func(a auth.Account) error {
		if a.Known() {
			accounts = append(accounts, a)
		} else if a.Lock.Cause == auth.ByWrongPasswords {
			names = append(names, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list locked accounts and names: %w", err)
	}
	slices.SortFunc(names, func(a, b auth.Account) int {
		return cmp.Or(a.Lock.At.Compare(b.Lock.At), cmp.Compare(a.Name, b.Name))
	})
	incidents := Group(accounts)
	of := make([]func(auth.Account) bool, 0, 2*len(incidents)) // for each incident first by its sources, then by its time
	for _, c := range incidents {
		sources := make(map[netip.Prefix]bool)
		for _, s := range c.Sources {
			sources[s] = true
		}
		of = append(of, func(a auth.Account) bool {
			return c.near(a, sourceGap) && slices.ContainsFunc(lockSources(a), func(s netip.Prefix) bool { return sources[s] })
		})
	}
	for _, c := range incidents {
		of = append(of, func(a auth.Account) bool { return c.Suspected && c.near(a, burstTime) })
	}
	var alone []auth.Account
	for _, a := range names {
		i := slices.IndexFunc(of, func(is func(auth.Account) bool) bool { return is(a) })
		if i < 0 {
			alone = append(alone, a)
			continue
		}
		c := &incidents[i%len(incidents)]
		c.Unknown = append(c.Unknown, a.Name)
		for _, s := range lockSources(a) {
			if !slices.Contains(c.Sources, s) {
				c.Sources = append(c.Sources, s)
			}
		}
	}
	for _, c := range Group(alone) {
		c.Accounts, c.Unknown = nil, c.Accounts
		incidents = append(incidents, c)
	}
	slices.SortFunc(incidents, func(a, b Incident) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return incidents, nil
}
