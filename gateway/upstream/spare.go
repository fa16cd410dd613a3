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

// spareLife is the lifetime of an unused spare connection. Servers close a connection
// without a login: Dovecot after 3 minutes, Postfix after 5.
const spareLife = time.Minute

// refillDelay lets a login finish, and its client be answered, before a connection for
// the next login loads the mail server and this machine.
const refillDelay = 2 * time.Millisecond

// spares are connections prepared up to the introduction of a client: connected, with
// TLS, greeting and capabilities. A login that finds one has only its credentials to
// send. A new connection costs a mail server much more than a round trip (Dovecot
// starts a process for it), and TLS costs a second handshake.
//
// Their number follows the logins, not the clients' connections, which an attacker can
// open freely: a login without a spare adds one, a login that takes one causes its
// replacement, and a spare unused for spareLife is closed. An idle gateway has none.
//
// A spare is owned by the goroutine that opens it, then by ready, then by the login
// that takes it.
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
	// pause ends the watch over the context, and removes deadlines; ok is false if the
	// context has ended.
	pause() (ok bool)
	// resume continues, watching over ctx.
	resume(ctx context.Context)
	// unchanged reports that the server has neither sent data nor closed since.
	unchanged() bool
	// quit ends the session and closes the connection.
	quit()
}

// take returns a spare that still works, if there is one.
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

// add makes a dialogue a spare; ok is false if the spares have been closed.
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

// remove removes a spare that no login has taken; ok is false if a login has it.
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

// discard closes all present spares: one of them turned out to be useless, and the
// others were opened before the same event, such as a reload of the server.
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

// loginOver logs in over a spare, or over a connection that open opens for the client.
func loginOver[D dialogue, C any](ctx context.Context, s *Server, kept *spares[D], c Client, open func(context.Context, Client) (D, error), login func(D) (C, auth.Answer)) (conn C, answer auth.Answer) {
	defer kept.refill(s.spare(), func(ctx context.Context) (D, error) { return open(ctx, Client{}) }, s.Panicked)
	if !c.Fresh {
		if conn, answer, done := loginOverSpare(ctx, kept, login); done {
			return conn, answer
		}
	}
	d, err := open(ctx, c)
	if err != nil {
		return conn, unreached(err)
	}
	return login(d)
}

// loginOverSpare logs in over a spare, if there is one. done is false if a new
// connection is needed: there is no spare, or it was useless and the server has not
// judged the password, according to its reply or because it could not read it. After a
// reload, Dovecot keeps its connections, reads the password, and then fails or closes.
// If it is unknown whether the server judged, answer says that the login may be
// repeated.
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

// close closes all spares, and waits until none is being opened; later ones are
// refused.
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

// silent reports that the peer has neither sent unread data nor closed the connection.
// Checking below TLS is sufficient: after the greeting no server sends data unasked and
// then continues.
func silent(conn net.Conn) bool {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	return nothingToRead(conn)
}
