package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// Attempt decides one login: admit, verify, settle. Once it is called the
// credentials are complete, so ctx must not end with the client's connection:
// hanging up does not help a guesser.
func (g *Guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	g.init()
	v := g.attempt(ctx, a, false)
	g.record(a, v)
	return v
}

// attempt is Attempt; second is set when it is made because the first was in doubt.
func (g *Guard) attempt(ctx context.Context, a auth.Attempt, second bool) auth.Verdict {
	t, v := g.begin(ctx, a)
	if t == nil {
		return v
	}
	defer t.end()
	answer := t.verify(ctx)
	t.answeredNow()
	if answer.Judgement != auth.InDoubt || !answer.Again || second {
		return t.settle(ctx, answer)
	}
	// I1: the mail server may judge both, so that both need a slot.
	v = g.attempt(ctx, a, true)
	if v.Outcome == auth.Accepted {
		answer.Judgement = auth.Unreached // the password was no wrong one
	}
	t.settle(ctx, answer)
	v.Upstream += t.answered.Sub(t.asked)
	return v
}

// record remembers how an attempt ended, and tells the recorder.
func (g *Guard) record(a auth.Attempt, v auth.Verdict) {
	g.noteLately(a, v)
	if g.Recorder != nil {
		g.Recorder.RecordAttempt(a, v)
	}
}

// try is one attempt on its way through the guard.
type try struct {
	*Guard
	auth.Attempt
	rules  auth.Rules
	strays *strays
	source netip.Prefix
	// network is the known one that the source lies in; invalid for none.
	network netip.Prefix
	name    auth.Name
	digest  auth.Digest
	// started, asked and answered are when the try began, was admitted, and had an answer.
	started, asked, answered time.Time

	account     auth.Account      // as of the admission; that of counter if there is one
	reservation auth.Reservation  // none when good
	settled     bool              // the reservation is, or is owed
	counter     auth.Name         // that the name shares with others, for want of room; empty for none
	place       place             // in the room for unknown names
	good        bool              // the same password was accepted before
	seen        int               // the account was logged in to from near this source lately: see throttled
	looked      bool              // so that seen is known
	charged     bool              // the throttle counts it as under way
	passed      throttle.Decision // what the throttle said when it began to
	granted     bool              // the throttle has given it one of the source's grants
	aside       bool              // it waits for a grant, or for a slot that needs none
	ending      throttle.Ending   // and so when it is over
	compared    auth.Digest       // the latest known-good digest when this try has missed
	missedGood  bool              // there was one
	offline     bool              // the store is down, and good will do
}

// begin admits an attempt. Without a try the verdict is final; with one the mail
// server is to be asked, and whoever has it calls settle, and then end.
func (g *Guard) begin(ctx context.Context, a auth.Attempt) (*try, auth.Verdict) {
	policy := g.policy.Load()
	started := time.Now()
	if a.Connected.IsZero() {
		a.Connected = started
	}
	t := &try{
		Guard: g, Attempt: a, rules: g.inForce(policy.Rules), strays: policy.strays, started: started,
		source: auth.Source(a.Source.Addr()), network: g.KnownNetwork(a.Source.Addr()),
	}

	name, err := policy.Names.Canonical(a.Login)
	if errors.Is(err, auth.ErrNotASCII) {
		var outcome auth.Outcome
		if name, outcome, err = t.existing(ctx, policy.Names); outcome != auth.Accepted {
			return nil, auth.Verdict{Outcome: outcome, Err: err}
		}
	}
	switch {
	case errors.Is(err, auth.ErrMasterUser):
		return nil, auth.Verdict{Outcome: auth.OtherIdentity, Err: err}
	case errors.Is(err, auth.ErrForeignDomain):
		return nil, auth.Verdict{Outcome: auth.NoSuchDomain, Err: err}
	case err != nil:
		return nil, auth.Verdict{Outcome: auth.Malformed, Err: err}
	case !a.SSO && (a.Password.IsZero() || len(a.Password.Reveal()) > auth.MaxPassword):
		return nil, auth.Verdict{Outcome: auth.Malformed, Name: name, Err: auth.ErrMalformedPassword}
	}
	// Art. 13.8: acting as somebody else is refused, whoever asks. Aliases do not
	// count: the answer would tell whose they are.
	if a.Authorize != "" && a.Authorize != a.Login && !policy.Names.SameAddress(a.Authorize, a.Login) {
		return nil, auth.Verdict{Outcome: auth.OtherIdentity, Name: name}
	}
	t.name, t.digest = name, g.digest(name, a.Password)
	if known, seen := a.Rejected.Has(t.digest); seen {
		return nil, auth.Verdict{Outcome: auth.RepeatedPassword, Name: name, Known: known}
	}

	admitted := false
	defer func() {
		if !admitted {
			t.end()
		}
	}()
	v := t.admit(ctx)
	admitted, t.settled = v.Outcome == auth.Accepted, v.Outcome != auth.Accepted
	t.asked = time.Now()
	v = t.about(v)
	v.Admission = t.asked.Sub(started)
	if !admitted {
		return nil, v
	}
	return t, v
}

// about completes a verdict with what it is about.
func (t *try) about(v auth.Verdict) auth.Verdict {
	v.Name, v.Known, v.KnownGood, v.Shared = t.name, t.account.Known(), t.good, t.counter != ""
	return v
}

// verify asks the mail server. A panic there costs this attempt, not the slot
// for ever.
func (t *try) verify(ctx context.Context) (answer auth.Answer) {
	defer func() {
		if p := recover(); p != nil {
			t.Log.Error("asking the mail server panicked", "session", t.Session, "panic", auth.PanicText(p), "stack", string(debug.Stack()))
			if t.Panicked != nil {
				t.Panicked(t.Protocol)
			}
			answer = auth.Answer{Judgement: auth.InDoubt, Err: fmt.Errorf("verify panicked: %s", auth.PanicText(p))}
		}
	}()
	return t.Verify(ctx, t.name)
}

// answeredNow notes that the mail server was asked, and that what it said is known.
func (t *try) answeredNow() {
	t.answered = time.Now()
	t.paid()
}

// end gives back what the try has taken beside its slot. A slot that is not settled
// by now never is: something has panicked on the way, and the password may have been
// judged.
func (t *try) end() {
	if !t.settled && t.reservation != 0 {
		t.owe(&debt{name: t.holder(), reservation: t.reservation, change: t.counted(t.rules.Doubt)})
	}
	if t.charged {
		t.Throttle.End(t.throttled(), t.ending, t.now())
	}
	t.leavePlace()
}
