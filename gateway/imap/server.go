package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"congthu/auth"
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

	// MaxConnections is how many clients there may be, MaxPerSource how many from
	// one IPv4 address or IPv6 /64. 0: no limit.
	MaxConnections, MaxPerSource int
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

	mu        sync.Mutex
	sessions  map[*client]struct{}
	perSource map[string]int
	told      time.Time // of too many connections
}

// Serve accepts clients from l, which it closes, until ctx ends; then it
// says BYE to those who are not logged in, lets the others go on for
// DrainTimeout or until Kick, and returns nil when all are gone. implicit is TLS
// from the first byte.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	defer l.Close()
	if implicit && s.TLSConfig == nil {
		return errors.New("imap: implicit TLS without a TLS configuration")
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	d := &door{server: s, ctx: ctx, implicit: implicit}
	if s.TLSConfig != nil {
		d.tls = s.TLSConfig.Clone()
		d.tls.NextProtos = []string{"imap"} // RFC 7301; ALPACA
		d.tls.MinVersion = max(d.tls.MinVersion, tls.VersionTLS12)
	}
	err := d.accept(l)
	d.drain()
	return err
}

// Kick ends all sessions of all listeners, logged in or not, without waiting.
func (s *Server) Kick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.end()
	}
}

// door is one listener that is being served.
type door struct {
	server   *Server
	ctx      context.Context
	implicit bool
	tls      *tls.Config
	clients  sync.WaitGroup
}

func (d *door) accept(l net.Listener) error {
	pause := time.Duration(0)
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			d.take(conn)
			continue
		case d.ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		}
		// Out of file descriptors, most likely: it passes.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		d.server.log().Error("accept", "protocol", auth.IMAP, "error", err)
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
		}
	}
}

// take gives a connection its goroutine.
func (d *door) take(conn net.Conn) {
	c := newClient(d, conn)
	if admitted, tell := d.server.admit(c); !admitted {
		if tell {
			d.server.log().Warn("too many connections", "protocol", auth.IMAP, "source", c.peer)
		}
		if !d.implicit {
			// The first bytes of a connection fit into any buffer.
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(conn, "* BYE [UNAVAILABLE] Too many connections\r\n")
		}
		conn.Close()
		return
	}
	d.server.recorder().Opened(auth.IMAP)
	d.clients.Add(1)
	go c.serve()
}

// drain waits for the clients after the listener has closed.
func (d *door) drain() {
	d.each((*client).drain)
	gone := make(chan struct{})
	go func() {
		d.clients.Wait()
		close(gone)
	}()
	timeout := d.server.DrainTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	timer := time.NewTimer(max(timeout, 0))
	defer timer.Stop()
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
	for c := range d.server.sessions {
		if c.door == d {
			do(c)
		}
	}
}

// admit takes a client in, if there is room. Now and then a refusal is worth
// telling the operator.
func (s *Server) admit(c *client) (admitted, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil {
		s.sessions = make(map[*client]struct{})
		s.perSource = make(map[string]int)
	}
	key := sourceKey(c.peer.Addr())
	if s.MaxConnections > 0 && len(s.sessions) >= s.MaxConnections ||
		s.MaxPerSource > 0 && key != "" && s.perSource[key] >= s.MaxPerSource {
		now := time.Now()
		if tell = now.Sub(s.told) > 10*time.Second; tell {
			s.told = now
		}
		return false, tell
	}
	s.sessions[c] = struct{}{}
	s.perSource[key]++
	return true, false
}

// leave lets a client go.
func (s *Server) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	key := sourceKey(c.peer.Addr())
	if s.perSource[key]--; s.perSource[key] <= 0 {
		delete(s.perSource, key)
	}
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
func (nobody) Relayed(auth.Protocol, int64, int64) {}
