package frontendtest

import (
	"context"
	"slices"
	"sync"

	"congthu/auth"
)

// Guard is a stub: it asks the mail server, as the real one does, unless it is told to
// refuse before, or after. Set the fields while no attempt is under way.
type Guard struct {
	// Before refuses without asking, After overrules a right password.
	Before, After auth.Outcome
	// Alert and ExpiresIn belong to the verdict on a right password.
	Alert     bool
	ExpiresIn int
	// Hold, if set, is waited for between the mail server's answer and the verdict.
	Hold chan struct{}
	// Asked, if set, is sent to when an attempt begins and there is room.
	Asked chan struct{}

	mu       sync.Mutex
	attempts []auth.Attempt
}

// Attempt implements the guard of the front ends.
func (g *Guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	g.mu.Lock()
	g.attempts = append(g.attempts, a)
	before, after, alert, days, hold := g.Before, g.After, g.Alert, g.ExpiresIn, g.Hold
	g.mu.Unlock()
	select {
	case g.Asked <- struct{}{}:
	default:
	}
	if before != auth.Accepted {
		return auth.Verdict{Outcome: before}
	}
	answer := a.Verify(ctx, auth.Name(a.Login))
	if hold != nil {
		<-hold
	}
	switch answer.Judgement {
	case auth.JudgedRight:
		return auth.Verdict{Outcome: after, Name: auth.Name(a.Login), Alert: alert && after == auth.Accepted, ExpiresIn: days}
	case auth.JudgedWrong:
		return auth.Verdict{Outcome: auth.WrongPassword}
	case auth.RefusedOtherwise:
		return auth.Verdict{Outcome: auth.Refused, Code: answer.Code}
	}
	return auth.Verdict{Outcome: auth.Unavailable, Err: answer.Err}
}

// Made are the attempts, in order.
func (g *Guard) Made() []auth.Attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.attempts)
}

// Forget forgets the attempts: unlike this one, the real guard keeps none.
func (g *Guard) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attempts = nil
}

// Recorder counts what a front end records.
type Recorder struct {
	mu     sync.Mutex
	counts Counts
}

// Counts are what a [Recorder] has counted.
type Counts struct {
	Opened, Closed           int
	Handshakes, Failed       int
	Panics                   int
	FromClient, FromUpstream int64
	Refused                  []auth.Outcome // without asking the guard
}

// Counts returns what was counted until now.
func (r *Recorder) Counts() (now Counts) {
	r.record(func(c *Counts) {
		now = *c
		now.Refused = slices.Clone(c.Refused)
	})
	return now
}

// Opened implements the recorder of the front ends; so do the others.
func (r *Recorder) Opened(auth.Protocol) { r.record(func(c *Counts) { c.Opened++ }) }

// Closed counts a connection that has ended.
func (r *Recorder) Closed(auth.Protocol) { r.record(func(c *Counts) { c.Closed++ }) }

// Panicked counts a panic.
func (r *Recorder) Panicked(auth.Protocol) { r.record(func(c *Counts) { c.Panics++ }) }

// RecordHandshake counts a TLS handshake.
func (r *Recorder) RecordHandshake(_ auth.Protocol, err error) {
	r.record(func(c *Counts) {
		c.Handshakes++
		if err != nil {
			c.Failed++
		}
	})
}

// Relayed counts the octets of a session.
func (r *Recorder) Relayed(_ auth.Protocol, fromClient, fromUpstream int64) {
	r.record(func(c *Counts) { c.FromClient += fromClient; c.FromUpstream += fromUpstream })
}

func (r *Recorder) refused(a auth.Attempt, o auth.Outcome) {
	r.record(func(c *Counts) { c.Refused = append(c.Refused, o) })
	if a.Login != "" || !a.Password.IsZero() {
		panic("a refused attempt tells a name or a password")
	}
}

func (r *Recorder) record(f func(*Counts)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.counts)
}
