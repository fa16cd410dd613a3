package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"congthu/auth"
)

// Ticket is an attempt that [Guard.Begin] has admitted: the mail server may be asked
// about it, and [Ticket.Settle] says what it answered. Until then it holds a slot of
// the account, unless its password is known to be good.
//
// A ticket is abandoned when the context that it began with ends, or when it was not
// settled within [Guard].Lease. Then its password may have been judged, and becomes a
// failure in doubt like an attempt to which the mail server gave no answer: the slot
// stays taken until the lease ends, and then counts, but never locks by itself. The
// recorder is told of an attempt that ended as [auth.Unavailable].
//
// A ticket may be used by several goroutines at once.
type Ticket struct {
	try *try

	mu    sync.Mutex
	ended error // why it cannot be settled any more; nil while it can
	// lease and unwatch stop what abandons it.
	lease   *time.Timer
	unwatch func() bool
}

var (
	// ErrSettled: the ticket was settled before. Nothing was changed.
	ErrSettled = errors.New("the attempt was settled before")
	// ErrAbandoned: the ticket was abandoned before it was settled. Nothing was changed:
	// the attempt is counted as a failure in doubt.
	ErrAbandoned = errors.New("the attempt was abandoned before it was settled")
)

// Begin admits one login. Without a ticket the verdict is final. With one the mail
// server is to be asked about [Ticket.Name], and its answer is for [Ticket.Settle],
// whose verdict is final; the one beside the ticket has the outcome
// [auth.Unavailable], so that nobody is let in by a caller that overlooks the ticket.
//
// It is [Guard.Attempt] for callers to whom the mail server's answer comes by another
// way than a function: [auth.Attempt].Verify is not used. As there, ctx must not end
// with the client's connection, and it must outlast the call: when it ends, the ticket
// is abandoned. [auth.Attempt].Mistakes is used until the ticket is settled.
func (g *Guard) Begin(ctx context.Context, a auth.Attempt) (*Ticket, auth.Verdict) {
	g.init()
	t, v := g.begin(ctx, a)
	if t == nil {
		g.record(a, v)
		return nil, v
	}
	k := &Ticket{try: t}
	k.mu.Lock() // either may abandon it at once
	defer k.mu.Unlock()
	k.lease = time.AfterFunc(g.lease(), func() {
		// The slot was held for the whole lease.
		k.abandon(time.Time{}, fmt.Errorf("no answer within %v", g.lease()))
	})
	k.unwatch = context.AfterFunc(ctx, func() { k.abandon(time.Now().Add(g.lease()), context.Cause(ctx)) })
	v.Outcome = auth.Unavailable
	return k, v
}

// Name is the account that the mail server is to be asked about.
func (k *Ticket) Name() auth.Name { return k.try.name }

// Settle makes the account tell of the mail server's answer and returns the verdict
// on the attempt. Nobody may be let in who has another verdict than [auth.Accepted],
// whatever the mail server said.
//
// Only the first call counts. Later ones, and those for a ticket that was abandoned,
// change nothing: their verdict is [auth.Unavailable] with [ErrSettled] or
// [ErrAbandoned]. [auth.Answer].Again has no meaning here: an attempt that is to be
// made again begins with a ticket of its own.
func (k *Ticket) Settle(ctx context.Context, answer auth.Answer) auth.Verdict {
	return k.end(ErrSettled, func() auth.Verdict { return k.try.settle(ctx, answer) })
}

// abandon ends the ticket without an answer. It counts when it is due.
func (k *Ticket) abandon(due time.Time, why error) {
	k.end(ErrAbandoned, func() auth.Verdict {
		return k.try.complete(k.try.settleDoubt(auth.Answer{Err: fmt.Errorf("%w: %w", ErrAbandoned, why)}, due))
	})
}

// end settles the ticket if nobody has; what comes later reads ended.
func (k *Ticket) end(ended error, settle func() auth.Verdict) auth.Verdict {
	t := k.try
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
