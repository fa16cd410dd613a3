package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"congthu/auth"
)

// spareLife is how long a spare connection is kept. Servers end a connection on
// which nobody logs in: Dovecot after 3 minutes, Postfix after 5.
const spareLife = time.Minute

// refillDelay lets a login be over, and its client be answered, before the mail
// server and this machine are busy with a connection for the next one.
const refillDelay = 2 * time.Millisecond

// spares are connections on which everything has been said that comes before the
// introduction of a client: connected, TLS, greeting, what the server can do. A
// login that finds one has only its credentials to send. A new connection costs a
// mail server much more than a round trip (Dovecot starts a process for it), and
// TLS towards it costs a second handshake.
//
// Their number follows the logins, not the connections of clients, which an attacker
// can open at will: a login that finds no spare adds one, a login that takes one has it
// replaced, and a spare that is not used for spareLife is closed. An idle gateway has
// none.
//
// Each spare is owned by the goroutine that makes it, then by ready, then by the
// login that takes it.
type spares[D dialogue] struct {
	mu     sync.Mutex
	ready  []*spare[D] // the latest last: it is taken first
	making int
	closed bool
	ctx    context.Context // ends when they are closed
	cancel context.CancelFunc
	makers sync.WaitGroup
}

type spare[D dialogue] struct {
	dialogue D
	expiry   *time.Timer
}

// dialogue is a connection to a server that can be paused before a client is
// introduced.
type dialogue interface {
	// pause ends the watch over the context, and every deadline; ok is false if
	// the context has ended.
	pause() (ok bool)
	// resume goes on, watching over ctx.
	resume(ctx context.Context)
	// unchanged reports that the server has said nothing since, nor gone.
	unchanged() bool
	// quit takes leave and closes the connection.
	quit()
}

// take gives a spare to a login, if there is one that still works.
func (s *spares[D]) take(ctx context.Context) (d D, ok bool) {
	for {
		s.mu.Lock()
		n := len(s.ready)
		if n == 0 {
			s.mu.Unlock()
			return d, false
		}
		found := s.ready[n-1]
		s.ready[n-1] = nil
		s.ready = s.ready[:n-1]
		s.mu.Unlock()
		found.expiry.Stop()
		if found.dialogue.unchanged() {
			found.dialogue.resume(ctx)
			return found.dialogue, true
		}
		found.dialogue.quit()
	}
}

// refill opens one more spare soon, unless there are enough. panicked, unless nil, is
// called for a panic of open.
func (s *spares[D]) refill(most int, open func(context.Context) (D, error), panicked func(value any, stack []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.ready)+s.making >= most {
		return
	}
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	s.making++
	s.makers.Add(1)
	time.AfterFunc(refillDelay, func() { s.openOne(s.ctx, open, panicked) })
}

// openOne opens one spare connection. An error is ignored: the next login opens its own
// connection and reports the error. A panic costs this spare and is reported.
func (s *spares[D]) openOne(ctx context.Context, open func(context.Context) (D, error), panicked func(value any, stack []byte)) {
	defer s.makers.Done()
	defer func() {
		if p := recover(); p != nil && panicked != nil {
			panicked(p, debug.Stack())
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.making--
	}()
	d, err := open(ctx)
	if err != nil {
		return
	}
	if !d.pause() || !s.add(d) {
		d.quit()
	}
}

// add makes a dialogue a spare; ok is false when they have been closed.
func (s *spares[D]) add(d D) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	kept := &spare[D]{dialogue: d}
	kept.expiry = time.AfterFunc(spareLife, func() {
		if s.remove(kept) {
			d.quit()
		}
	})
	s.ready = append(s.ready, kept)
	return true
}

// remove removes a spare that no login has taken; ok is false when one has.
func (s *spares[D]) remove(old *spare[D]) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.ready, old)
	if i < 0 {
		return false
	}
	s.ready = slices.Delete(s.ready, i, i+1)
	return true
}

// discard gives those up that are there: one of them has turned out to be of no use,
// and the others were made before the same event, such as a reload of the server.
func (s *spares[D]) discard() {
	s.mu.Lock()
	ready := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, kept := range ready {
		kept.expiry.Stop()
		kept.dialogue.quit()
	}
}

// loginOverSpare logs in over a spare, if there is one. done is false when a new
// connection is needed: there is none, or it was of no use and the server has not
// judged the password, by its own word or because it could not have read it. Dovecot,
// once reloaded, goes on with the connections that it has, takes the password, and
// then fails or closes. Where it is not known whether it has judged, answer says that
// it may be asked again.
func loginOverSpare[D dialogue, C any](ctx context.Context, s *spares[D], login func(D) (C, auth.Answer)) (conn C, answer auth.Answer, done bool) {
	d, ok := s.take(ctx)
	if !ok {
		return conn, answer, false
	}
	conn, answer = login(d)
	switch answer.Judgement {
	case auth.Unreached:
		s.discard()
		return conn, answer, false
	case auth.InDoubt:
		s.discard()
		answer.Again = true
	}
	return conn, answer, true
}

// close gives all up and waits until none is being made; no more are.
func (s *spares[D]) close() {
	s.mu.Lock()
	s.closed = true
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.discard()
	s.makers.Wait()
}

// silent reports that the other end of a connection has neither said anything
// that was not read, nor closed. Below TLS that is as good: behind the greeting
// there is nothing that a server would say unasked and go on.
func silent(conn net.Conn) bool {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return nothingToRead(conn)
}
