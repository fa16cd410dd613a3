package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Cause is what locks made by wrong passwords have in common: the sources of
// the wrong passwords, or the moment. Support staff unlock the accounts of one
// cause together. It is computed from the locked accounts whenever it is asked
// for, so that replicas agree on it and nothing can be out of date.
type Cause struct {
	// ID names the cause as long as the first of its accounts is locked.
	ID string
	// First and Last are when its accounts were locked, from and to.
	First, Last time.Time
	// Accounts are in the order in which they were locked.
	Accounts []Name
	// Unknown are the names that nobody ever logged in with and that the same has
	// locked, in that order: see [FindCausesOfNames].
	Unknown []Name
	// Sources of the wrong passwords, the one that most accounts have first; then
	// those that only names in Unknown have.
	Sources []netip.Prefix
	// Suspected is set when this looks like an attack rather than people who
	// mistype: many accounts locked within minutes, or several within an hour
	// because of one source.
	Suspected bool
}

const (
	// Locks of one source belong together when the next came within a day.
	causeGap = 24 * time.Hour
	// burstLocks within burstTime belong together, wherever they came from.
	burstLocks = 10
	burstTime  = 10 * time.Minute
	// sourceLocks within sourceTime because of one source are suspect.
	sourceLocks = 5
	sourceTime  = time.Hour
)

// Causes groups locked accounts by what locked them, the latest cause first.
// Accounts that are not locked by wrong passwords are left out.
func Causes(accounts []Account) []Cause {
	var locked []Account
	for _, a := range accounts {
		if a.Lock.Cause == ByWrongPasswords {
			locked = append(locked, a)
		}
	}
	slices.SortFunc(locked, func(a, b Account) int {
		return cmp.Or(a.Lock.At.Compare(b.Lock.At), cmp.Compare(a.Name, b.Name))
	})

	// Each account points to an earlier one of the same cause, or to itself.
	first := make([]int, len(locked))
	for i := range first {
		first[i] = i
	}
	root := func(i int) int {
		for first[i] != i {
			i = first[i]
		}
		return i
	}
	join := func(i, j int) {
		i, j = root(i), root(j)
		first[max(i, j)] = min(i, j)
	}
	suspected := make(map[int]bool)

	bySource := make(map[netip.Prefix][]int)
	for i, a := range locked {
		for _, s := range lockSources(a) {
			bySource[s] = append(bySource[s], i)
		}
	}
	within := func(i, j int, d time.Duration) bool { return locked[j].Lock.At.Sub(locked[i].Lock.At) <= d }
	for _, of := range bySource {
		for k, i := range of {
			if k > 0 && within(of[k-1], i, causeGap) {
				join(of[k-1], i)
			}
			if k >= sourceLocks-1 && within(of[k-sourceLocks+1], i, sourceTime) {
				suspected[i] = true
			}
		}
	}
	for i := burstLocks - 1; i < len(locked); i++ {
		if within(i-burstLocks+1, i, burstTime) {
			for j := i - burstLocks + 1; j < i; j++ {
				join(j, i)
			}
			suspected[i] = true
		}
	}

	causes := make(map[int]*Cause)
	from := make(map[int]map[netip.Prefix]int)
	for i, a := range locked {
		r := root(i)
		c := causes[r]
		if c == nil {
			sum := sha256.Sum256([]byte(a.Lock.At.UTC().Format(time.RFC3339Nano) + " " + string(a.Name)))
			c = &Cause{ID: hex.EncodeToString(sum[:5]), First: a.Lock.At}
			causes[r], from[r] = c, make(map[netip.Prefix]int)
		}
		c.Last = a.Lock.At
		c.Accounts = append(c.Accounts, a.Name)
		c.Suspected = c.Suspected || suspected[i]
		for _, s := range lockSources(a) {
			from[r][s]++
		}
	}
	var all []Cause
	for r, c := range causes {
		for s := range from[r] {
			c.Sources = append(c.Sources, s)
		}
		slices.SortFunc(c.Sources, func(a, b netip.Prefix) int {
			return cmp.Or(cmp.Compare(from[r][b], from[r][a]), a.Addr().Compare(b.Addr()))
		})
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Cause) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return all
}

// FindCauses groups the accounts that are locked now.
func FindCauses(ctx context.Context, store Lister) ([]Cause, error) {
	var locked []Account
	err := Walk(ctx, store, Filter{Locked: true}, func(a Account) error { locked = append(locked, a); return nil })
	if err != nil {
		return nil, fmt.Errorf("list locked accounts: %w", err)
	}
	return Causes(locked), nil
}

// FindCausesOfNames groups the accounts that are locked now as [FindCauses] does, and
// adds the names that nobody ever logged in with and that are locked. Such a name is of
// a cause of accounts when they have a source in common, within a day, or when it was
// locked in the midst of what looks like an attack; the others have causes without
// accounts. It changes neither the ID of a cause of accounts nor whether an attack is
// suspected, so that all agree on these who must not see the names.
//
// A name may be a password that somebody has typed in the wrong place: it is for those
// who unlock, and for no count, metric or report.
func FindCausesOfNames(ctx context.Context, store Lister) ([]Cause, error) {
	var accounts, names []Account
	err := Walk(ctx, store, Filter{Locked: true, Unknown: true}, func(a Account) error {
		if a.Known() {
			accounts = append(accounts, a)
		} else if a.Lock.Cause == ByWrongPasswords {
			names = append(names, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list locked accounts and names: %w", err)
	}
	slices.SortFunc(names, func(a, b Account) int {
		return cmp.Or(a.Lock.At.Compare(b.Lock.At), cmp.Compare(a.Name, b.Name))
	})
	causes := Causes(accounts)
	of := make([]func(Account) bool, 0, 2*len(causes)) // by its sources first
	for _, c := range causes {
		sources := make(map[netip.Prefix]bool)
		for _, s := range c.Sources {
			sources[s] = true
		}
		of = append(of, func(a Account) bool {
			return c.near(a, causeGap) && slices.ContainsFunc(lockSources(a), func(s netip.Prefix) bool { return sources[s] })
		})
	}
	for _, c := range causes {
		of = append(of, func(a Account) bool { return c.Suspected && c.near(a, burstTime) })
	}
	var alone []Account
	for _, a := range names {
		i := slices.IndexFunc(of, func(is func(Account) bool) bool { return is(a) })
		if i < 0 {
			alone = append(alone, a)
			continue
		}
		c := &causes[i%len(causes)]
		c.Unknown = append(c.Unknown, a.Name)
		for _, s := range lockSources(a) {
			if !slices.Contains(c.Sources, s) {
				c.Sources = append(c.Sources, s)
			}
		}
	}
	for _, c := range Causes(alone) {
		c.Accounts, c.Unknown = nil, c.Accounts
		causes = append(causes, c)
	}
	slices.SortFunc(causes, func(a, b Cause) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return causes, nil
}

// Ended reports whether the cause has locked nothing for so long that nothing can be
// added to it any more. Its accounts stay locked until somebody unlocks them.
func (c Cause) Ended(now time.Time) bool { return now.Sub(c.Last) > causeGap }

// Attacks are those of the causes that look like an attack and have not ended.
func Attacks(causes []Cause, now time.Time) (attacks []Cause) {
	for _, c := range causes {
		if c.Suspected && !c.Ended(now) {
			attacks = append(attacks, c)
		}
	}
	return attacks
}

// near reports whether a was locked while the cause went on, or at most d before or
// after.
func (c Cause) near(a Account, d time.Duration) bool {
	return !a.Lock.At.Before(c.First.Add(-d)) && !a.Lock.At.After(c.Last.Add(d))
}

// lockSources are the sources of the wrong passwords that locked the account.
func lockSources(a Account) []netip.Prefix {
	var sources []netip.Prefix
	for _, m := range a.Mistakes {
		if s := Source(m.Source.Addr()); s.IsValid() && !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	return sources
}
