package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"congthu/auth"
)

// Ticket is an attempt that [Guard.Begin] has admitted: the caller may ask the mail
// server about it, and passes the answer to [Ticket.Settle]. Until then the ticket holds
// a slot of the account, unless its password is known to be good.
//
// A ticket is abandoned when the context that it began with ends, or when it was not
// settled within [Guard].Lease. Then its password may have been judged, and becomes a
// failure in doubt, like an attempt to which the mail server gave no answer: the slot
// stays taken until the lease ends, and then counts as a failure, which never locks by
// itself. The recorder gets an attempt with the outcome [auth.Unavailable].
//
// Several goroutines may use a ticket at the same time.
type Ticket struct {
	attempt *attempt

	mu    sync.Mutex
	ended error // why it cannot be settled any more; nil while it is open
	// lease and unwatch stop the timer and the watch that abandon it.
	lease   *time.Timer
	unwatch func() bool
}

var (
	// ErrSettled: the ticket was already settled. Nothing was changed.
	ErrSettled = errors.New("the attempt was settled before")
	// ErrAbandoned: the ticket was abandoned before it was settled. Nothing was changed:
	// the attempt is counted as a failure in doubt.
	ErrAbandoned = errors.New("the attempt was abandoned before it was settled")
)

// Begin admits one login. Without a ticket the verdict is final. With a ticket the
// caller asks the mail server about [Ticket.Name] and passes its answer to
// [Ticket.Settle], whose verdict is final. The verdict that comes with a ticket has the
// outcome [auth.Unavailable], so that a caller that ignores the ticket lets no user in.
//
// Begin is [Guard.Attempt] for callers that do not get the mail server's answer from a
// function: [auth.Attempt].Verify is not used. As with Attempt, ctx must not end with
// the client's connection. It must also outlast the call: when it ends, the ticket is
// abandoned. [auth.Attempt].Rejected is used until the ticket is settled.
func (g *Guard) Begin(ctx context.Context, a auth.Attempt) (*Ticket, auth.Verdict) {
	g.init()
	t, v := g.begin(ctx, a)
	if t == nil {
		g.record(a, v)
		return nil, v
	}
	k := &Ticket{attempt: t}
	k.mu.Lock() // the timer or the context may abandon it at once
	defer k.mu.Unlock()
	k.lease = time.AfterFunc(g.lease(), func() {
		// The slot was held for the whole lease.
		k.abandon(time.Time{}, fmt.Errorf("no answer within %v", g.lease()))
	})
	k.unwatch = context.AfterFunc(ctx, func() { k.abandon(time.Now().Add(g.lease()), context.Cause(ctx)) })
	v.Outcome = auth.Unavailable
	return k, v
}

// Name is the account about which the caller asks the mail server.
func (k *Ticket) Name() auth.Name { return k.attempt.name }

// Settle records the mail server's answer on the account and returns the verdict on the
// attempt. The caller must not let the user in unless the verdict is [auth.Accepted],
// whatever the mail server said.
//
// Only the first call counts. Later calls, and calls for a ticket that was abandoned,
// change nothing: their verdict is [auth.Unavailable] with [ErrSettled] or
// [ErrAbandoned]. [auth.Answer].Again has no meaning here: a second try of the same
// attempt needs a ticket of its own.
func (k *Ticket) Settle(ctx context.Context, answer auth.Answer) auth.Verdict {
	return k.end(ErrSettled, func() auth.Verdict { return k.attempt.settle(ctx, answer) })
}

// abandon ends the ticket without an answer. It counts as a failure in doubt at due.
func (k *Ticket) abandon(due time.Time, why error) {
	k.end(ErrAbandoned, func() auth.Verdict {
		return k.attempt.complete(k.attempt.settleDoubt(auth.Answer{Err: fmt.Errorf("%w: %w", ErrAbandoned, why)}, due))
	})
}

// end settles the ticket if it is open, and sets ended as the error of later calls.
func (k *Ticket) end(ended error, settle func() auth.Verdict) auth.Verdict {
	t := k.attempt
	k.mu.Lock()
	if before := k.ended; before != nil {
		k.mu.Unlock()
		return auth.Verdict{Outcome: auth.Unavailable, Name: t.name, Err: before}
	}
	k.ended = ended
	k.lease.Stop()
	k.unwatch()
	k.mu.Unlock()

	t.answeredNow()
	v := func() auth.Verdict {
		defer t.end()
		return settle()
	}()
	t.record(t.Attempt, v)
	return v
}
