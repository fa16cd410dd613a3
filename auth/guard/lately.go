package guard

import (
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// What this process has seen of an account lately, for support staff: through which
// door its owner came last, and which wrong passwords came from where. It is in
// memory only, so that no login writes more than before; another gateway on the same
// store has its own, and a restart forgets it.

// maxOrigins is how many accounts have their last login remembered.
const maxOrigins = 16384

// LastLogin is where the last login of an account through this process came from; zero
// when it does not remember one.
func (g *Guard) LastLogin(name auth.Name) auth.Origin {
	g.init()
	o, _ := g.origins.Get(name)
	return o
}

// Tried is one wrong password of an account as it came to this process from one
// address through one door and program, however often.
type Tried struct {
	First, Last time.Time
	Times       int
	Source      netip.Addr
	Protocol    auth.Protocol
	Program     string
	// Password tells equal passwords by equal numbers, from 1, and says nothing else
	// of them.
	Password int
}

// triedPassword is one with the digest of its password. A list of them is not altered
// but replaced, since it is read without a lock.
type triedPassword struct {
	Tried
	digest auth.Digest
}

// maxTried is how many are remembered of one account, the latest.
const maxTried = 8

// noteTried remembers a wrong password of an account. What a locked account is tried
// with is not judged: it is remembered only where it is known to be wrong.
func (g *Guard) noteTried(a auth.Attempt, v auth.Verdict, now time.Time) {
	if a.SSO || !v.Known {
		return
	}
	latest := triedPassword{
		Tried: Tried{
			First: now, Last: now, Times: 1,
			Source: a.Source.Addr().Unmap(), Protocol: a.Protocol, Program: auth.ProgramName(a.Program),
		},
		digest: g.digest(v.Name, a.Password),
	}
	if v.Outcome == auth.Locked {
		g.recent.Alter(v.Name, func(r *recent) {
			if slices.ContainsFunc(r.tried, latest.same) {
				r.tried = latest.after(r.tried)
			}
		})
		return
	}
	g.recent.Update(v.Name, func(r recent) recent {
		r.tried = latest.after(r.tried)
		return r
	})
}

// same reports whether another try was with the same password.
func (p triedPassword) same(other triedPassword) bool { return p.digest == other.digest }

// after returns a list of tries with one more, which takes the place of an equal one.
func (p triedPassword) after(all []triedPassword) []triedPassword {
	kept := make([]triedPassword, 0, len(all)+1)
	for _, other := range all {
		if p.same(other) && p.Source == other.Source && p.Protocol == other.Protocol && p.Program == other.Program {
			p.First, p.Times = other.First, other.Times+1
			continue
		}
		kept = append(kept, other)
	}
	kept = append(kept, p)
	return kept[max(0, len(kept)-maxTried):]
}

// LatelyTried returns the wrong passwords that came to this process for an account
// within a day, since it was unlocked last, in the order of their latest tries.
func (g *Guard) LatelyTried(name auth.Name) []Tried {
	g.init()
	lately, _ := g.recent.Get(name)
	now := g.now()
	var digests []auth.Digest
	var found []Tried
	for _, p := range lately.tried {
		if now.Sub(p.Last) >= refusalMemory {
			continue
		}
		i := slices.Index(digests, p.digest)
		if i < 0 {
			i, digests = len(digests), append(digests, p.digest)
		}
		p.Password = i + 1
		found = append(found, p.Tried)
	}
	return found
}
