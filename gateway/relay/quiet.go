package relay

import (
	"net"
	"sync"
)

// Quiet waits for two connections without a goroutine and without a buffer. It is for an
// owner that reads the two in turn; a [Pair] parks each direction by itself.
//
// If Park succeeds the caller no longer owns the connections. The next owner is the call
// of wake, or the caller whose Take succeeds: exactly one of them.
type Quiet struct {
	wake    func(b bool)
	sockets [2]socket

	mu     sync.Mutex
	parked [2]bool
	user   bool // of the idle poller
}

// NewQuiet is for a and b. wake is called in its own goroutine when a or b can be read,
// which may give an end, an error, or nothing. Data that TLS holds is not seen: read it
// before Park.
func NewQuiet(wake func(b bool), a, b net.Conn) *Quiet {
	q := &Quiet{wake: wake}
	for i, conn := range []net.Conn{a, b} {
		q.sockets[i].owner = q
		q.sockets[i].raw, _ = rawConn(conn) // without a raw connection it cannot be parked
	}
	return q
}

// Park waits for a, for b or for both. ok is false if that is impossible: a connection has
// no socket, or there is no epoll.
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

// Take ends the wait. ok is false if nothing is parked.
func (q *Quiet) Take() (ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ok = q.parked[0] || q.parked[1]
	q.remove()
	return ok
}

// remove removes the sockets from the poller. q.mu is held.
func (q *Quiet) remove() {
	for i := range q.sockets {
		if q.parked[i] {
			poller.remove(&q.sockets[i])
			q.parked[i] = false
		}
	}
}

// resume is called for an event of one of the sockets.
func (q *Quiet) resume(s *socket) {
	if q.Take() {
		q.wake(s == &q.sockets[1])
	}
}

// Close is called when the connections are closed.
func (q *Quiet) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.user {
		q.user = false
		poller.leave()
	}
}
