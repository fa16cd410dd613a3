package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
	"congthu/gateway/accept"
	"congthu/gateway/session"
	"congthu/gateway/upstream"
)

// Guard decides about complete credentials.
type Guard interface {
	Attempt(context.Context, auth.Attempt) auth.Verdict
}

// Upstream logs in at the mail server. The connection is nil unless the password
// was judged right.
type Upstream interface {
	LoginIMAP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.IMAPConn, auth.Answer)
}

// Recorder counts. It must not block.
type Recorder interface {
	// Opened and Closed are called once for each connection.
	Opened(auth.Protocol)
	Closed(auth.Protocol)
	// Handshaken is called for each TLS handshake; the error says why it failed.
	Handshaken(auth.Protocol, error)
	// Panicked is called for each panic, which has cost one connection.
	Panicked(auth.Protocol)
	// Relayed is called as octets arrive at the other side.
	Relayed(p auth.Protocol, fromClient, fromServer int64)
}

// Server is the IMAP door. Set the fields before Serve and leave them alone then.
// It may serve several listeners at once.
type Server struct {
	// Guard and Upstream are required.
	Guard    Guard
	Upstream Upstream
	// TLSConfig has the certificate, or GetCertificate; ALPN and the lowest
	// version are set here, which GetConfigForClient would undo. Nil: no TLS, and
	// so no login at all.
	TLSConfig *tls.Config
	// Hostname is the name in the greeting. Empty: "congthu".
	Hostname string
	// Text is the operator's words for an outcome: one line of ASCII. Nil: the
	// outcome's name.
	Text func(auth.Outcome) string
	// AlertText is what a user reads whose password runs out in so many days, 0
	// being today. Nil: nobody is alerted.
	AlertText func(days int) string
	// Forwarder reports whether an address is that of a machine which logs in for
	// others, as a webmail does, and is believed when it says in ID for whom
	// (x-originating-ip). It is asked about the connection's own address. Nil:
	// nobody is.
	Forwarder func(netip.Addr) bool
	// Shown are the mail server's capabilities before login, of which clients are shown
	// those that hold after it. Nil, or none: not known.
	Shown func() []imap.Cap
	// Sessions knows who is logged in. Nil: nobody does.
	Sessions *session.Registry
	// Recorder counts. Nil: nobody does.
	Recorder Recorder
	// Refused is told of credentials that were offered but not shown to the
	// guard, who therefore records nothing. The attempt has neither name nor
	// password. Nil: nobody is told.
	Refused func(auth.Attempt, auth.Outcome)
	// Log is for the operator. Nil: discarded.
	Log *slog.Logger

	// Limiter bounds the connections; other doors may share it. Nil: nothing does.
	Limiter *accept.Limiter
	// LoginTimeout bounds the TLS handshake and each command before login.
	// 0: 60 s.
	LoginTimeout time.Duration
	// LoginTotal bounds the time from the first byte to the last command before
	// login. 0: 3 min.
	LoginTotal time.Duration
	// IdleTimeout ends a logged-in session on which nothing moves. RFC 9051
	// section 5.4 wants 30 minutes at least. 0: 35 min.
	IdleTimeout time.Duration
	// MaxFailures is how many refused logins a connection may have. 0: 10.
	MaxFailures int
	// MaxBad is how many commands that are none, or not for now. 0: 5.
	MaxBad int
	// DrainTimeout is how long logged-in sessions may go on when Serve's context
	// has ended. 0: 30 s; negative: not at all.
	DrainTimeout time.Duration
	// LoginGrace is how much of DrainTimeout those have who are not logged in yet:
	// whoever was let in at the last moment need not be told to come again. 0: none.
	LoginGrace time.Duration
	// EndQuiet ends a session that is logged in as soon as nothing moves on it when
	// Serve's context has ended: somebody waits for the end of this process.
	EndQuiet bool

	refusals accept.Refusals

	mu      sync.Mutex
	clients map[*client]struct{}
}

// Serve accepts clients from l, which it closes, until ctx ends; then it
// says BYE to those who are not logged in after LoginGrace, lets the others go on
// for DrainTimeout, and returns nil when all are gone. implicit is TLS
// from the first byte.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	defer l.Close()
	if implicit && s.TLSConfig == nil {
		return errors.New("imap: implicit TLS without a TLS configuration")
	}
	stop := context.AfterFunc(ctx, func() { accept.Shut(l) })
	defer stop()
	d := &door{server: s, ctx: ctx, implicit: implicit}
	if s.TLSConfig != nil {
		d.tls = accept.TLS(s.TLSConfig, "imap") // ALPACA
	}
	err := accept.Loop(ctx, l, s.log().With("protocol", auth.IMAP), d.take)
	d.drain()
	return err
}

// door is one listener that is being served.
type door struct {
	server   *Server
	ctx      context.Context
	implicit bool
	tls      *tls.Config
	clients  sync.WaitGroup
}

// take gives a connection its goroutine.
func (d *door) take(conn net.Conn) {
	c := newClient(d, conn)
	leave, ok := d.server.Limiter.Enter(c.peer.Addr(), c.log)
	switch {
	case ok:
	case d.implicit:
		conn.Close()
		return
	default:
		// RFC 9051 section 7.1.5
		d.clients.Go(func() { d.server.refusals.Say(conn, "* BYE "+string(farewellCrowd)) })
		return
	}
	c.leave = leave
	d.server.add(c)
	d.server.recorder().Opened(auth.IMAP)
	d.clients.Add(1)
	go c.serve()
}

// drain waits for the clients after the listener has closed.
func (d *door) drain() {
	timeout := d.server.DrainTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	timer := time.NewTimer(max(timeout, 0))
	defer timer.Stop()
	if d.server.EndQuiet {
		d.each((*client).endWhenQuiet)
	}
	gone := make(chan struct{})
	go func() {
		d.clients.Wait()
		close(gone)
	}()
	grace := time.NewTimer(min(d.server.LoginGrace, max(timeout, 0)))
	defer grace.Stop()
	select {
	case <-gone:
		return
	case <-grace.C:
		d.each((*client).drain)
	}
	select {
	case <-gone:
		return
	case <-timer.C:
	}
	d.each((*client).end)
	<-gone
}

func (d *door) each(do func(*client)) {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	for c := range d.server.clients {
		if c.door == d {
			do(c)
		}
	}
}

func (s *Server) add(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = make(map[*client]struct{})
	}
	s.clients[c] = struct{}{}
}

func (s *Server) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Server) recorder() Recorder {
	if s.Recorder == nil {
		return nobody{}
	}
	return s.Recorder
}

// nobody is the recorder of those who have none.
type nobody struct{}

func (nobody) Opened(auth.Protocol)                {}
func (nobody) Closed(auth.Protocol)                {}
func (nobody) Handshaken(auth.Protocol, error)     {}
func (nobody) Panicked(auth.Protocol)              {}
func (nobody) Relayed(auth.Protocol, int64, int64) {}
