package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"congthu/auth"
	"congthu/gateway/session"
)

// Guard decides on complete credentials.
type Guard interface {
	Attempt(context.Context, auth.Attempt) auth.Verdict
}

// Recorder counts events. It must not block.
type Recorder interface {
	// Opened and Closed are called once for each connection.
	Opened(auth.Protocol)
	Closed(auth.Protocol)
	// RecordHandshake is called for each TLS handshake; the error says why it failed.
	RecordHandshake(auth.Protocol, error)
	// Panicked is called for each panic; each has ended one connection.
	Panicked(auth.Protocol)
	// Relayed is called when octets have reached the other side.
	Relayed(p auth.Protocol, fromClient, fromServer int64)
}

// Protocol is the part of a mail protocol that differs from others.
type Protocol struct {
	Name auth.Protocol
	// ALPN are the protocol's names for ALPN in a TLS handshake.
	ALPN []string
	// Speak greets the client and answers its commands. It returns the reason for the
	// end of the dialogue: the error of a method of the client, or a [Farewell]. It
	// runs in the connection's goroutine and must not start others.
	Speak func(*Client) error
	// Bye returns the reply line for a farewell, without CRLF.
	Bye func(Farewell) string
	// Challenge precedes each SASL challenge. Empty: "+ ".
	Challenge string
}

// Server serves a protocol whose sessions are relayed to the mail server after the
// login. Set the fields before Serve and do not change them afterwards. It may serve
// several listeners at once.
type Server struct {
	// Guard is required.
	Guard Guard
	// TLSConfig has the certificate, or GetCertificate. The server sets ALPN and the
	// lowest version, which GetConfigForClient would bypass. Nil: no TLS, and therefore
	// no logins.
	TLSConfig *tls.Config
	// Hostname is the name in the greeting. Empty: "congthu".
	Hostname string
	// Text returns the operator's text for an outcome: one line of ASCII. Nil: the
	// outcome's name.
	Text func(auth.Outcome) string
	// Sessions registers the logged-in sessions. Nil: they are not registered.
	Sessions *session.Registry
	// Recorder receives counts. Nil: nothing is counted.
	Recorder Recorder
	// Refused is called for credentials that did not reach the guard, which therefore
	// records nothing. The attempt has neither name nor password. Nil: they are not
	// recorded.
	Refused func(auth.Attempt, auth.Outcome)
	// Log is for the operator. Nil: discarded.
	Log *slog.Logger

	// Limiter limits the connections; front ends may share one. Nil: no limit.
	Limiter *Limiter
	// LoginTimeout limits the TLS handshake and each command before login. 0: 60 s.
	LoginTimeout time.Duration
	// LoginTotal limits the time from the first octet to the last command before login.
	// 0: 3 min.
	LoginTotal time.Duration
	// IdleTimeout ends an idle session. RFC 9051 section 5.4 requires at least 30
	// minutes. 0: 35 min.
	IdleTimeout time.Duration
	// MaxFailures limits the refused logins of a connection. 0: 10.
	MaxFailures int
	// MaxBad limits the commands that are unknown or not permitted. 0: 5.
	MaxBad int
	// DrainTimeout is the time for which sessions may continue after Serve's context
	// has ended. 0: 30 s; negative: none.
	DrainTimeout time.Duration
	// LoginGrace is the part of DrainTimeout for clients that are not logged in yet, so
	// that a client of the last moment need not connect again. 0: none.
	LoginGrace time.Duration
	// EndQuiet ends a session when it is idle after the end of Serve's context: the
	// next process waits for the end of this one.
	EndQuiet bool

	refusals Refusals

	mu      sync.Mutex
	clients map[*Client]struct{}
}

// Serve accepts clients from l, which it closes, until ctx ends. Then it sends a
// farewell to clients that are not logged in after LoginGrace, lets sessions continue
// for DrainTimeout, and returns nil when all have ended. implicit means TLS from the
// first octet (RFC 8314).
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool, p Protocol) error {
	defer l.Close()
	if implicit && s.TLSConfig == nil {
		return fmt.Errorf("%s: implicit TLS without a TLS configuration", p.Name)
	}
	stop := context.AfterFunc(ctx, func() { Shut(l) })
	defer stop()
	v := s.serving(ctx, implicit, p)
	err := Loop(ctx, l, s.log().With("protocol", p.Name), v.take)
	v.drain()
	return err
}

// ServeConn serves one connection that the caller has accepted, and returns when it has
// ended. secured says that its transport protects it like TLS.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn, secured bool, p Protocol) {
	v := s.serving(ctx, false, p)
	if c := v.enter(conn); c != nil {
		c.secured = secured
		c.serve()
	}
	v.clients.Wait()
}

// serving is one listener of a server.
type serving struct {
	*Server
	protocol Protocol
	ctx      context.Context
	implicit bool
	tls      *tls.Config // nil: none
	clients  sync.WaitGroup
}

func (s *Server) serving(ctx context.Context, implicit bool, p Protocol) *serving {
	v := &serving{Server: s, protocol: p, ctx: ctx, implicit: implicit}
	if s.TLSConfig != nil {
		v.tls = TLS(s.TLSConfig, p.ALPN...) // ALPACA
	}
	return v
}

// take starts the goroutine of a connection.
func (v *serving) take(conn net.Conn) {
	if c := v.enter(conn); c != nil {
		go c.serve()
	}
}

// enter counts a connection; nil if there is no place for it.
func (v *serving) enter(conn net.Conn) *Client {
	c := newClient(v, conn)
	place, ok := v.Limiter.Enter(c.Peer.Addr(), c.Log, c.displace)
	switch {
	case ok:
	case v.implicit:
		conn.Close()
		return nil
	default:
		// RFC 9051 section 7.1.5
		v.clients.Go(func() { v.refusals.Say(conn, v.protocol.Bye(Crowded)) })
		return nil
	}
	c.place, c.gate.Place, c.Input.place = place, place, place
	v.add(c)
	v.recorder().Opened(v.protocol.Name)
	v.clients.Add(1)
	return c
}

// drain waits for the clients after the listener has closed.
func (v *serving) drain() {
	timeout := v.DrainTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	timer := time.NewTimer(max(timeout, 0))
	defer timer.Stop()
	if v.EndQuiet {
		v.each((*Client).endWhenQuiet)
	}
	gone := make(chan struct{})
	go func() {
		v.clients.Wait()
		close(gone)
	}()
	grace := time.NewTimer(min(v.LoginGrace, max(timeout, 0)))
	defer grace.Stop()
	select {
	case <-gone:
		return
	case <-grace.C:
		v.each((*Client).drain)
	}
	select {
	case <-gone:
		return
	case <-timer.C:
	}
	v.each((*Client).end)
	<-gone
}

func (v *serving) each(do func(*Client)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.Server.clients {
		if c.serving == v {
			do(c)
		}
	}
}

func (s *Server) add(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = make(map[*Client]struct{})
	}
	s.clients[c] = struct{}{}
}

func (s *Server) remove(c *Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// Words returns the operator's text for an outcome, in one non-empty line of ASCII.
func (s *Server) Words(o auth.Outcome) string {
	text := ""
	if s.Text != nil {
		text = OneLine(s.Text(o))
	}
	if text == "" {
		text = o.String()
	}
	return text
}

func (s *Server) hostname() string {
	if s.Hostname == "" {
		return "congthu"
	}
	return OneLine(s.Hostname)
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) recorder() Recorder {
	if s.Recorder == nil {
		return uncounted{}
	}
	return s.Recorder
}

func (s *Server) loginTimeout() time.Duration { return positive(s.LoginTimeout, 60*time.Second) }
func (s *Server) loginTotal() time.Duration   { return positive(s.LoginTotal, 3*time.Minute) }

// positive returns value, or the default if value is not set.
func positive[T int | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// uncounted is the recorder of a server without one.
type uncounted struct{}

func (uncounted) Opened(auth.Protocol)                 {}
func (uncounted) Closed(auth.Protocol)                 {}
func (uncounted) RecordHandshake(auth.Protocol, error) {}
func (uncounted) Panicked(auth.Protocol)               {}
func (uncounted) Relayed(auth.Protocol, int64, int64)  {}

// Ways in which a dialogue ends without a farewell.
var (
	errSpliced = errors.New("spliced")
	errVanish  = errors.New("no reason given to the client")
	// ErrLoggedOut is the end of a dialogue at the client's request, which has been
	// answered.
	ErrLoggedOut = errors.New("logged out")
)
