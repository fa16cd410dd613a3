package guard

import (
	"context"
	"errors"
	"time"

	"congthu/auth"
)

// repeatMemory is how long a wrong password is remembered that is not offered any more,
// maxEntries how many are, of all accounts.
const (
	repeatMemory = 24 * time.Hour
	maxEntries   = 65536
)

// entry is what is remembered of one wrong password of an account. Durations are since
// the guard came into use, by the machine's monotonic clock.
type entry struct {
	first    time.Time // when it was first counted, by the guard's clock: an unlock forgives what came before
	since    time.Duration
	offered  time.Duration // the latest time
	answered time.Duration // when the latest that counted was
	written  chan struct{} // closed when that is; nil once it is
}

// same reports whether the password, offered now on a connection opened at an instant,
// is an entry that has been counted.
func (e entry) same(window auth.RepeatWindow, now, connected time.Duration) bool {
	switch {
	case e.written != nil: // not answered yet: the connection is open
		return true
	case now-e.since >= time.Duration(window):
		return true
	}
	return connected < e.answered
}

// running is how long the guard has been in use at an instant of this process.
func (g *Guard) running(at time.Time) time.Duration { return at.Sub(g.began) }

// enterWrong notes that a wrong password was offered and reports whether it is the same
// entry as before. written is closed when the entry is in the store: for entered to do
// when the entry is a new one, nil when it is there already.
func (t *try) enterWrong(now time.Time) (written chan struct{}, same bool) {
	window := t.rules.Lockout.CountRepeats
	if window == auth.AlwaysCountRepeats {
		return nil, false
	}
	at, connected := t.running(time.Now()), t.running(t.Connected)
	forgiven, _ := t.forgiven.Get(t.name)
	t.entries.Update(t.digest, func(e entry) entry {
		if !e.first.After(forgiven) || at-e.offered >= repeatMemory {
			e = entry{first: now, since: at} // entered for the first time, or anew
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

// entered notes that an entry is about to be answered; counted is set when the store
// has it, or will.
func (t *try) entered(written chan struct{}, counted bool) {
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

// errNotWritten: the entry that an attempt is a part of was not counted.
var errNotWritten = errors.New("the wrong password could not be written")

// settleSame waits until the entry is on disk that the try is a part of: nobody must
// read "wrong" before, on whichever connection.
func (t *try) settleSame(ctx context.Context, written <-chan struct{}) error {
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
	return t.payHeard(ctx, t.holder())
}
