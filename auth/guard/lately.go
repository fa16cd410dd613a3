package guard

import (
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// What this process has seen of an account lately, for support staff: the service that
// its owner used last, and the sources of wrong passwords. It is in memory only, so that
// logins write no more than before. Another gateway on the same store has its own, and a
// restart clears it.

// maxOrigins is the number of accounts whose last login is remembered.
const maxOrigins = 16384

// LastLogin is the origin of the last login of an account through this process; zero if
// the process does not remember one.
func (g *Guard) LastLogin(name auth.Name) auth.Origin {
	g.init()
	o, _ := g.origins.Get(name)
	return o
}

// Tried is one wrong password of an account as it came to this process from one address
// through one protocol and mail program, any number of times.
type Tried struct {
	First, Last time.Time
	Times       int
	Source      netip.Addr
	Protocol    auth.Protocol
	Program     string
	// Password is a number, from 1: equal numbers are equal passwords. It says nothing else
	// about them.
	Password int
}

// triedPassword is a Tried with the digest of its password. Lists of them are read
// without a lock, so they are never changed in place but replaced.
type triedPassword struct {
	Tried
	digest auth.Digest
}

// maxTried is the number of tries remembered for one account, the latest.
const maxTried = 8

// noteTried remembers a wrong password of an account. Passwords tried on a locked
// account are not judged: they are remembered only if they are already known to be
// wrong.
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

// same reports whether another try had the same password.
func (p triedPassword) same(other triedPassword) bool { return p.digest == other.digest }

// after returns the list with one more try, which replaces an equal one.
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
// within a day and since its last unlock, in the order of their latest tries.
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
