package auth

import (
	"net/netip"
	"time"
)

// Refusal is an attempt that was refused for now, unasked: nothing of it is held
// against the account, so nothing is stored. Support staff must see it all the
// same when its user calls, so the process remembers the latest of each name.
type Refusal struct {
	At      time.Time
	Source  netip.AddrPort
	Outcome Outcome // Throttled or Busy
}

// IsZero reports whether there was none.
func (r Refusal) IsZero() bool { return r.At.IsZero() }

// maxRefusals is how many names have their latest refusal remembered.
const maxRefusals = 4096

// noteRefusal remembers a refusal until the next login or unlock.
func (g *Guard) noteRefusal(a Attempt, v Verdict) {
	switch {
	case v.Name == "":
	case v.Outcome == Throttled, v.Outcome == Busy:
		g.refusals.put(v.Name, Refusal{At: g.now(), Source: a.Source, Outcome: v.Outcome})
	case v.Outcome == Accepted:
		g.refusals.remove(v.Name)
	}
}

// LatelyRefused returns the latest attempt on the account that this process has
// refused for now within a day, if no login came after it.
func (g *Guard) LatelyRefused(name Name) Refusal {
	g.init()
	r, _ := g.refusals.get(name)
	if g.now().Sub(r.At) >= sourceMemory {
		return Refusal{}
	}
	return r
}
