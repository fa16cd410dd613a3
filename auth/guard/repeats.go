package guard

import (
	"context"
	"errors"
	"time"

	"congthu/auth"
)

// repeatMemory is how long a wrong password is remembered after it was last offered.
// maxEntries is the number of wrong passwords remembered, of all accounts together.
const (
	repeatMemory = 24 * time.Hour
	maxEntries   = 65536
)

// entry is what is remembered of one wrong password of an account. Durations are since
// [Guard].began, by the machine's monotonic clock.
type entry struct {
	first    time.Time // when it was first counted, by the guard's clock; an unlock after it forgives the entry
	since    time.Duration
	offered  time.Duration // when it was offered last
	answered time.Duration // when the latest counted one was answered
	written  chan struct{} // closed when the entry is in the store or has failed; nil after that
}

// same reports whether the password, offered now on a connection opened at connected, is
// an entry that has already been counted.
func (e entry) same(window auth.RepeatWindow, now, connected time.Duration) bool {
	switch {
	case e.written != nil: // not answered yet: its connection is still open
		return true
	case now-e.since >= time.Duration(window):
		return true
	}
	return connected < e.answered
}

// running is the time from [Guard].began to an instant of this process.
func (g *Guard) running(at time.Time) time.Duration { return at.Sub(g.began) }

// enterWrong notes that a wrong password was offered and reports whether it is the same
// entry as before. written is closed when the entry is in the store: if the entry is
// new, the caller must pass it to entered. It is nil if the entry is already in the
// store.
func (t *attempt) enterWrong(now time.Time) (written chan struct{}, same bool) {
	window := t.rules.Lockout.CountRepeats
	if window == auth.AlwaysCountRepeats {
		return nil, false
	}
	at, connected := t.running(time.Now()), t.running(t.Connected)
	forgiven, _ := t.forgiven.Get(t.name)
	t.entries.Update(t.digest, func(e entry) entry {
		if !e.first.After(forgiven) || at-e.offered >= repeatMemory {
			e = entry{first: now, since: at} // entered for the first time, or again after it was forgotten
		} else if e.same(window, at, connected) {
			same, written, e.offered = true, e.written, at
			return e
		}
		written = make(chan struct{})
		e.offered, e.written = at, written
		return e
	})
	return written, same
}

// entered notes that an entry is about to be answered; counted is set if the store has
// it or will have it.
func (t *attempt) entered(written chan struct{}, counted bool) {
	if written == nil {
		return
	}
	if counted {
		t.entries.Alter(t.digest, func(e *entry) {
			if e.written == written {
				e.written, e.answered = nil, t.running(time.Now())
			}
		})
	} else {
		t.entries.RemoveIf(t.digest, func(e entry) bool { return e.written == written })
	}
	close(written)
}

// errNotWritten: the entry to which an attempt belongs was not counted.
var errNotWritten = errors.New("the wrong password could not be written")

// settleSame waits until the entry of the attempt is on disk: I3, no client may read "wrong"
// before, on any connection.
func (t *attempt) settleSame(ctx context.Context, written <-chan struct{}) error {
	t.release(ctx)
	if written != nil {
		select {
		case <-written:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if e, there := t.entries.Get(t.digest); !there || e.written != nil {
			return errNotWritten
		}
	}
	return t.writeHeard(ctx, t.holder())
}
