package incident

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// Incident is a group of locks made by wrong passwords that have their sources, or their
// time, in common. Support staff unlock the accounts of one incident together. It is
// computed from the locked accounts at each request, so that replicas agree and nothing
// is out of date.
type Incident struct {
	// ID names the incident as long as the first of its accounts is locked.
	ID string
	// First and Last are the times of its first and last lock.
	First, Last time.Time
	// Accounts are in the order in which they were locked.
	Accounts []auth.Name
	// Unknown are the names without a login that belong to the incident, in the
	// order of their locks: see [FindWithNames].
	Unknown []auth.Name
	// Sources of the wrong passwords, the one with most accounts first; then
	// those of names in Unknown only.
	Sources []netip.Prefix
	// Suspected is set if this looks like an attack and not like people who
	// mistype: many accounts locked within minutes, or several within an hour
	// because of one source.
	Suspected bool
}

const (
	// Locks of one source belong together if each came within a day of the one before.
	sourceGap = 24 * time.Hour
	// burstLocks within burstTime belong together, from any sources.
	burstLocks = 10
	burstTime  = 10 * time.Minute
	// sourceLocks within sourceTime because of one source are suspect.
	sourceLocks = 5
	sourceTime  = time.Hour
)

// Group groups locked accounts into incidents, the latest first. Accounts that are not
// locked by wrong passwords are left out.
func Group(accounts []auth.Account) []Incident {
	var locked []auth.Account
	for _, a := range accounts {
		if a.Lock.Cause == auth.ByWrongPasswords {
			locked = append(locked, a)
		}
	}
	slices.SortFunc(locked, func(a, b auth.Account) int {
		return cmp.Or(a.Lock.At.Compare(b.Lock.At), cmp.Compare(a.Name, b.Name))
	})

	// Each account points to an earlier one of the same incident, or to itself.
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
			if k > 0 && within(of[k-1], i, sourceGap) {
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

	incidents := make(map[int]*Incident)
	from := make(map[int]map[netip.Prefix]int)
	for i, a := range locked {
		r := root(i)
		c := incidents[r]
		if c == nil {
			sum := sha256.Sum256([]byte(a.Lock.At.UTC().Format(time.RFC3339Nano) + " " + string(a.Name)))
			c = &Incident{ID: hex.EncodeToString(sum[:5]), First: a.Lock.At}
			incidents[r], from[r] = c, make(map[netip.Prefix]int)
		}
		c.Last = a.Lock.At
		c.Accounts = append(c.Accounts, a.Name)
		c.Suspected = c.Suspected || suspected[i]
		for _, s := range lockSources(a) {
			from[r][s]++
		}
	}
	var all []Incident
	for r, c := range incidents {
		for s := range from[r] {
			c.Sources = append(c.Sources, s)
		}
		slices.SortFunc(c.Sources, func(a, b netip.Prefix) int {
			return cmp.Or(cmp.Compare(from[r][b], from[r][a]), a.Addr().Compare(b.Addr()))
		})
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b Incident) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Ended reports whether the last lock of the incident is so old that no other lock can
// join it. Its accounts stay locked until they are unlocked.
func (c Incident) Ended(now time.Time) bool { return now.Sub(c.Last) > sourceGap }

// Attacks returns the incidents that look like an attack and have not ended.
func Attacks(incidents []Incident, now time.Time) (attacks []Incident) {
	for _, c := range incidents {
		if c.Suspected && !c.Ended(now) {
			attacks = append(attacks, c)
		}
	}
	return attacks
}

// near reports whether a was locked during the incident, or at most d before or after
// it.
func (c Incident) near(a auth.Account, d time.Duration) bool {
	return !a.Lock.At.Before(c.First.Add(-d)) && !a.Lock.At.After(c.Last.Add(d))
}

// lockSources returns the sources of the wrong passwords that locked the account.
func lockSources(a auth.Account) []netip.Prefix {
	var sources []netip.Prefix
	for _, m := range a.Mistakes {
		if s := auth.Source(m.Source.Addr()); s.IsValid() && !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	return sources
}
