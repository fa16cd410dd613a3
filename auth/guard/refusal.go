package guard

import (
	"errors"
	"net/netip"
	"time"

	"congthu/auth"
)

// Refusal is an attempt that was refused for now: nothing of it is held against
// the account, so nothing is stored. Support staff must see it all the same when
// its user calls, so the process remembers the latest of each name.
type Refusal struct {
	At     time.Time
	Source netip.AddrPort
	// Outcome is Throttled or Busy where the mail server was not asked, Unavailable
	// where it gave no verdict, and StoreUnavailable where the store failed.
	Outcome auth.Outcome
	// Unfamiliar is set when it was refused for the wrong passwords of the day on
	// the account itself and not for its source: see [auth.Lockout].DailyFailureCap.
	Unfamiliar bool
}

// IsZero reports whether there was none.
func (r Refusal) IsZero() bool { return r.At.IsZero() }

// ErrUnfamiliar: the account had too many wrong passwords today, and was not logged
// in to from the source lately. Nothing is held against the source.
var ErrUnfamiliar = errors.New("too many wrong passwords for the account today, and no login from this source lately")

// refusalMemory is how long a process remembers what support staff look for.
const refusalMemory = 24 * time.Hour

// maxRefusals is how many names have their latest refusal of each sort remembered.
const maxRefusals = 4096

// noteLately remembers a refusal until the next login from its source or unlock, and
// that the mail server gave no verdict until it gives one.
//
// It also remembers where logins and wrong passwords came from.
func (g *Guard) noteLately(a auth.Attempt, v auth.Verdict) {
	switch v.Outcome {
	case auth.Accepted:
		g.origins.Put(v.Name, auth.OriginOf(a, g.now()))
	case auth.WrongPassword, auth.RepeatedPassword, auth.Locked:
		g.noteTried(a, v)
	}
	switch {
	case v.Name == "":
	case v.Outcome == auth.Throttled, v.Outcome == auth.Busy:
		latest := Refusal{At: g.now(), Source: a.Source, Outcome: v.Outcome, Unfamiliar: errors.Is(v.Err, ErrUnfamiliar)}
		g.refusals.Update(v.Name, func(r refusals) refusals {
			r.add(latest)
			return r
		})
	case v.Outcome == auth.Unavailable, v.Outcome == auth.StoreUnavailable:
		g.unanswered.Put(v.Name, Refusal{At: g.now(), Source: a.Source, Outcome: v.Outcome})
	case v.Outcome == auth.Accepted:
		g.refusals.Alter(v.Name, func(r *refusals) { r.loggedIn(auth.Source(a.Source.Addr())) })
		g.refusals.RemoveIf(v.Name, func(r refusals) bool { return len(r) == 0 })
		g.unanswered.Remove(v.Name)
	case v.Outcome == auth.WrongPassword, v.Outcome == auth.PreviousPassword, v.Outcome == auth.Refused, v.Outcome == auth.Revoked, v.Outcome == auth.Expired:
		g.unanswered.Remove(v.Name)
	}
}

// LatelyRefused returns the latest attempt on the account that this process has
// refused for now, without asking the mail server, within a day, if no login came
// after it from the same source.
func (g *Guard) LatelyRefused(name auth.Name) Refusal {
	g.init()
	r, _ := g.refusals.Get(name)
	return g.lately(r.latest())
}

// LatelyUnanswered returns the latest attempt on the account within a day to which the
// mail server gave this process no verdict, or that the store could not read or write,
// if there was no verdict since. There is nothing about it to unlock.
func (g *Guard) LatelyUnanswered(name auth.Name) Refusal {
	g.init()
	r, _ := g.unanswered.Get(name)
	return g.lately(r)
}

func (g *Guard) lately(r Refusal) Refusal {
	if g.now().Sub(r.At) >= refusalMemory {
		return Refusal{}
	}
	return r
}
