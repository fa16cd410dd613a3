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

// Attempt decides one login: admit, verify, settle. The credentials are complete when it
// is called, so ctx must not end with the client's connection: otherwise a guesser could
// undo a guess by hanging up.
func (g *Guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	g.init()
	v := g.attempt(ctx, a, false)
	g.record(a, v)
	return v
}

// attempt is Attempt without its record; second is set when the first was in doubt.
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
	// I1: the mail server may judge both, so both need a slot.
	v = g.attempt(ctx, a, true)
	if v.Outcome == auth.Accepted {
		answer.Judgement = auth.Unreached // the password was not wrong
	}
	t.settle(ctx, answer)
	v.Upstream += t.answered.Sub(t.asked)
	return v
}

// record remembers how an attempt ended, and passes it to the recorder.
func (g *Guard) record(a auth.Attempt, v auth.Verdict) {
	g.noteLately(a, v)
	if g.Recorder != nil {
		g.Recorder.RecordAttempt(a, v)
	}
}

// attempt is the state of one attempt in the guard.
type attempt struct {
	*Guard
	auth.Attempt
	rules  auth.Rules
	strays *strays
	source netip.Prefix
	// network is the known network that contains the source; invalid for none.
	network netip.Prefix
	name    auth.Name
	digest  auth.Digest
	// The attempt began at started, was admitted at asked, and had an answer at answered.
	started, asked, answered time.Time

	account     auth.Account      // as read at the admission; the row of counter if there is one
	reservation auth.Reservation  // 0 if good
	settled     bool              // the reservation is settled, or its settlement is pending
	counter     auth.Name         // shared counter of the name, if there was no room for the name; "" for none
	place       place             // the place taken in the room for unknown names
	good        bool              // this process has seen the password accepted
	seen        int               // how near to this source the account was logged in to lately: see throttled
	looked      bool              // seen has been read
	charged     bool              // the throttle counts it as in progress
	passed      throttle.Decision // the throttle's decision at that time
	granted     bool              // the throttle has given it one of the source's grants
	aside       bool              // it waits in the second queue: for a grant, or for a slot that needs none
	ending      throttle.Ending   // what the throttle learns when the attempt ends
	compared    auth.Digest       // the latest known-good digest at the time of a comparison that failed
	missedGood  bool              // there was such a comparison
	offline     bool              // the store is down, and StoreGrace accepts the password
}

// begin admits an attempt. Without an attempt the verdict is final. With one the caller
// asks the mail server, then calls settle, and then end.
func (g *Guard) begin(ctx context.Context, a auth.Attempt) (*attempt, auth.Verdict) {
	policy := g.policy.Load()
	started := time.Now()
	if a.Connected.IsZero() {
		a.Connected = started
	}
	t := &attempt{
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
	// Art. 13.8: acting as another user is refused, for every user. Aliases of the
	// user's own account are refused too: the answer would reveal whose they are.
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

// about adds to a verdict which account it concerns.
func (t *attempt) about(v auth.Verdict) auth.Verdict {
	v.Name, v.Known, v.KnownGood, v.Shared = t.name, t.account.Known(), t.good, t.counter != ""
	return v
}

// verify asks the mail server. A panic costs this attempt, but does not keep the slot.
func (t *attempt) verify(ctx context.Context) (answer auth.Answer) {
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

// answeredNow notes that the mail server was asked and that its answer is known.
func (t *attempt) answeredNow() {
	t.answered = time.Now()
	t.noteJudged()
}

// end releases everything that the attempt holds beside its slot. A slot that is not settled
// by now never will be: a panic has interrupted the attempt, and the password may have been
// judged, so it counts as a failure in doubt.
func (t *attempt) end() {
	if !t.settled && t.reservation != 0 {
		t.deferSettlement(&pendingSettlement{name: t.holder(), reservation: t.reservation, change: t.counted(t.rules.Doubt)})
	}
	if t.charged {
		t.Throttle.End(t.throttled(), t.ending, t.now())
	}
	t.leavePlace()
}
