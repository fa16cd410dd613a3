package relay

import (
	"net"
	"sync"
)

// Quiet lets the owner of two connections wait for them without a goroutine and without
// a buffer. It is for those who read the two in turn; a [Pair] has one of its own for
// each direction.
//
// Whoever owns the connections calls Park, and owns them no longer if that succeeds.
// They belong next to whom an event wakes, or to the one whose Take succeeds: to one of
// them, and once.
type Quiet struct {
	wake    func(b bool)
	sockets [2]socket

	mu     sync.Mutex
	parked [2]bool
	user   bool // of the idle poller
}

// NewQuiet waits for a and b. wake is called, in a goroutine of its own, when something
// can be read from a or from b, which may be an end or an error, and for nothing at
// times. What TLS has read and not given out is not seen.
func NewQuiet(wake func(b bool), a, b net.Conn) *Quiet {
	q := &Quiet{wake: wake}
	for i, conn := range []net.Conn{a, b} {
		q.sockets[i].owner = q
		q.sockets[i].raw, _ = rawConn(conn) // without one it is not parked
	}
	return q
}

// Park begins to wait, for a, for b or for both. ok is false where that needs a
// goroutine: there is no socket below a connection, or no epoll.
func (q *Quiet) Park(a, b bool) (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.user {
		if q.sockets[0].raw == nil || q.sockets[1].raw == nil || poller.enter() != nil {
			return false
		}
		q.user = true
	}
	for i, wanted := range []bool{a, b} {
		if !wanted {
			continue
		}
		if poller.park(&q.sockets[i]) != nil {
			q.remove()
			return false
		}
		q.parked[i] = true
	}
	return true
}

// Take ends the wait. ok is false when it has ended already, or has not begun.
func (q *Quiet) Take() (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ok = q.parked[0] || q.parked[1]
	q.remove()
	return ok
}

// remove takes the sockets out. q.mu is held.
func (q *Quiet) remove() {
	for i := range q.sockets {
		if q.parked[i] {
			poller.remove(&q.sockets[i])
			q.parked[i] = false
		}
	}
}

// resume is the event of one of the sockets.
func (q *Quiet) resume(s *socket) {
	if q.Take() {
		q.wake(s == &q.sockets[1])
	}
}

// Close ends the use. Its owner has closed the connections.
func (q *Quiet) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.user {
		q.user = false
		poller.leave()
	}
}
