package guard

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// Refusal is an attempt that was refused for now. It does not count against the account,
// so nothing is stored. Support staff must see it when its user calls, so the process
// remembers the latest refusals of each name.
type Refusal struct {
	At     time.Time
	Source netip.AddrPort
	// Outcome is Throttled or Busy if the mail server was not asked, Unavailable
	// if it gave no verdict, and StoreUnavailable if the store failed.
	Outcome auth.Outcome
	// Unfamiliar is set if the reason is the number of wrong passwords of the day on
	// the account itself, and not its source: see [auth.Lockout].DailyFailureCap.
	Unfamiliar bool
}

// IsZero reports whether there was no refusal.
func (r Refusal) IsZero() bool { return r.At.IsZero() }

// ErrUnfamiliar: the account had too many wrong passwords today, and no recent login
// from the source. Nothing is held against the source itself.
var ErrUnfamiliar = errors.New("too many wrong passwords for the account today, and no login from this source lately")

// refusalMemory is how long a process remembers refusals and tries for support staff.
const refusalMemory = 24 * time.Hour

// noteLately remembers a refusal until the next login from its source or the next
// unlock, and remembers that the mail server gave no verdict until it gives one.
//
// It also remembers the sources of logins and of wrong passwords.
func (g *Guard) noteLately(a auth.Attempt, v auth.Verdict) {
	if v.Name == "" {
		return
	}
	now, source := g.now(), auth.Source(a.Source.Addr())
	switch v.Outcome {
	case auth.Accepted:
		g.origins.Put(v.Name, auth.OriginOf(a, now))
		g.recent.Alter(v.Name, func(r *recent) {
			r.refused.loggedIn(source)
			r.unanswered = Refusal{}
		})
		g.recent.RemoveIf(v.Name, recent.isZero)
	case auth.Throttled, auth.Busy:
		latest := Refusal{At: now, Source: a.Source, Outcome: v.Outcome, Unfamiliar: errors.Is(v.Err, ErrUnfamiliar)}
		g.recent.Update(v.Name, func(r recent) recent {
			r.refused.add(latest)
			return r
		})
	case auth.Unavailable, auth.StoreUnavailable:
		g.recent.Update(v.Name, func(r recent) recent {
			r.unanswered = Refusal{At: now, Source: a.Source, Outcome: v.Outcome}
			return r
		})
	case auth.WrongPassword, auth.PreviousPassword, auth.Refused, auth.Revoked, auth.Expired:
		g.recent.Alter(v.Name, func(r *recent) { r.unanswered = Refusal{} })
	}
	switch v.Outcome {
	case auth.WrongPassword, auth.RepeatedPassword, auth.Locked:
		g.noteTried(a, v, now)
	}
}

// LatelyRefused returns the latest attempt on the account within a day that this process
// has refused for now without asking the mail server, unless a login came after it from
// the same source.
func (g *Guard) LatelyRefused(name auth.Name) Refusal {
	g.init()
	r, _ := g.recent.Get(name)
	return g.lately(r.refused.latest())
}

// LatelyUnanswered returns the latest attempt on the account within a day to which the
// mail server gave this process no verdict, or for which the store could not be read or
// written, if there was no verdict since. An unlock does not help here.
func (g *Guard) LatelyUnanswered(name auth.Name) Refusal {
	g.init()
	r, _ := g.recent.Get(name)
	return g.lately(r.unanswered)
}

func (g *Guard) lately(r Refusal) Refusal {
	if g.now().Sub(r.At) >= refusalMemory {
		return Refusal{}
	}
	return r
}

// refusals are the attempts on one name that a process has refused for now: the latest
// of each source, the latest first, at most refusedSources. An unlock lets each of these
// sources try the account again, and its owner is at one of them. A list is read without
// a lock, so it is never changed in place but replaced.
type refusals []Refusal

// refusedSources bounds the sources of the refusals of one name.
const refusedSources = 8

// latest returns the latest refusal; zero for none.
func (r refusals) latest() Refusal {
	if len(r) == 0 {
		return Refusal{}
	}
	return r[0]
}

// sources returns the sources of the refusals.
func (r refusals) sources() []netip.Prefix {
	all := make([]netip.Prefix, len(r))
	for i, refusal := range r {
		all[i] = auth.Source(refusal.Source.Addr())
	}
	return all
}

// add adds a refusal.
func (r *refusals) add(latest Refusal) {
	source := auth.Source(latest.Source.Addr())
	others := slices.DeleteFunc(slices.Clone(*r), func(other Refusal) bool { return auth.Source(other.Source.Addr()) == source })
	*r = slices.Insert(others, 0, latest)
	*r = (*r)[:min(len(*r), refusedSources)]
}

// loggedIn removes the refusals that a login from a source has ended: those at that
// source, and those that had waited too long for other attempts. A login from another
// source says nothing about a source that is refused.
func (r *refusals) loggedIn(source netip.Prefix) {
	*r = slices.DeleteFunc(slices.Clone(*r), func(refusal Refusal) bool {
		return refusal.Outcome == auth.Busy || auth.Source(refusal.Source.Addr()) == source
	})
}
