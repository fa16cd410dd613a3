// Package upstream speaks to the mail server that congthu stands in front of:
// it dials, negotiates TLS, reads the greeting, passes the client's address, logs in,
// and decides what the server's answer means for the rules.
//
// The meaning is the point. Only an explicit "these credentials are wrong" is a
// judgement that counts; everything else (an outage, a time-out, a policy, a
// protocol error) is not, and is answered "try again later".
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
)

// TLSMode is how the connection to the mail server is protected.
type TLSMode uint8

const (
	Plain    TLSMode = iota // none: only towards a loopback address
	StartTLS                // RFC 3207, RFC 9051 section 6.2.1
	Implicit                // RFC 8314
)

// String is the word of the configuration.
func (m TLSMode) String() string { return [...]string{"none", "starttls", "implicit"}[m] }

// What a server does not do, with which the configured TLS does not work.
var (
	// ErrWantsTLS is a server that takes passwords after STARTTLS only.
	ErrWantsTLS = errors.New("the server takes passwords over TLS only, and offers STARTTLS for it")
	// ErrNoStartTLS is a server without STARTTLS.
	ErrNoStartTLS = errors.New("the server does not offer it")
)

// PassClient is how the gateway passes the client's address to the server. Each way
// needs a server that is set up to trust the gateway.
type PassClient uint8

const (
	PassNone    PassClient = iota // not at all
	PassID                        // IMAP: ID x-originating-ip (RFC 2971)
	PassXCLIENT                   // SMTP: Postfix's XCLIENT
	// PassPROXY is a PROXY header (version 2) in front of each connection. The
	// server must wait for one, and there can be no spare connections: a
	// connection has its client from its first octet.
	PassPROXY
)

// String is the word of the configuration.
func (p PassClient) String() string { return [...]string{"none", "id", "xclient", "proxy"}[p] }

// DefaultTimeout bounds each step of a [Server] that names no other time.
const DefaultTimeout = 30 * time.Second

// Server is one mail server, as the configuration describes it. Close it when no
// more logins are to begin.
type Server struct {
	// Address is host:port.
	Address string
	TLS     TLSMode
	// TLSConfig verifies the server; ServerName is set. Nil with Plain only.
	TLSConfig *tls.Config
	// LocalNames logs in with the local part instead of the whole address.
	LocalNames bool
	// PassClient is how the client's address is passed to the server.
	PassClient PassClient
	// Timeout bounds each step: connecting, the TLS handshake, one reply. The
	// whole login takes at most three times as long. 0: 30 s.
	Timeout time.Duration
	// CredentialPatterns match further replies that mean wrong credentials, beyond
	// those that package upstream knows. A reply that matches NotCredentialPatterns
	// never means wrong credentials.
	CredentialPatterns, NotCredentialPatterns []*regexp.Regexp
	// Spare is how many connections may be kept ready for the next logins, at
	// most. 0: none. There are none with PassPROXY.
	Spare int
	// Panicked is called for each panic while a spare connection is made, which has
	// cost that connection only. The value may hold anything: see [auth.PanicText].
	// Nil: not called.
	Panicked func(value any, stack []byte)
	// Dial replaces the dialer in tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	imapCaps   atomic.Pointer[[]imap.Cap]
	imapSpares spares[*imapDialogue]
	smtpSpares spares[*smtpDialogue]
}

// Close closes the spare connections. Logins under way and their sessions go on; later
// logins open connections of their own.
func (s *Server) Close() {
	s.imapSpares.close()
	s.smtpSpares.close()
}

// Client is the client of a login. Each field that is passed to the server is escaped
// where it is written.
type Client struct {
	// Address is the client's address and port.
	Address netip.AddrPort
	// TLS is the version of TLS between the client and the gateway; 0: not known.
	TLS uint16
	// Session is the name of the client's connection in the gateway's logs.
	Session string
	// ID holds the fields of the client's IMAP ID command (RFC 2971). Fields of the
	// kind that a proxy adds (x-...) are dropped: every client can write them.
	ID []IDField
	// Fresh asks for a new connection: an answer over a spare one was in doubt.
	Fresh bool
}

// IDField is one field of an IMAP ID command.
type IDField struct{ Name, Value string }

// TLSVersion is the version of a client's TLS; 0 when it has none.
func TLSVersion(client net.Conn) uint16 {
	if secured, ok := client.(*tls.Conn); ok {
		return secured.ConnectionState().Version
	}
	return 0
}

// LoginName is the name that the server knows the account by.
func (s *Server) LoginName(name auth.Name) string {
	if s.LocalNames {
		return name.Local()
	}
	return string(name)
}

// step is the longest that one step may take.
func (s *Server) step() time.Duration {
	if s.Timeout <= 0 {
		return DefaultTimeout
	}
	return s.Timeout
}

// spare is how many connections may be kept ready.
func (s *Server) spare() int {
	if s.PassClient == PassPROXY {
		return 0
	}
	return s.Spare
}

// connect dials the server, with PassPROXY says for whom, and with Implicit
// completes the TLS handshake.
func (s *Server) connect(ctx context.Context, client Client) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.step())
	defer cancel()
	dial := s.Dial
	if dial == nil {
		// Each step has a deadline, and the relay looks for dead peers in its own way.
		dial = (&net.Dialer{KeepAlive: -1}).DialContext
	}
	conn, err := dial(ctx, "tcp", s.Address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if s.PassClient == PassPROXY {
		if err := s.sendProxyHeader(ctx, conn, client); err != nil {
			conn.Close()
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	if s.TLS != Implicit {
		return conn, nil
	}
	secured, err := s.secure(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, s.afterHeader(err)
	}
	return secured, nil
}

// secure completes a TLS handshake over conn.
func (s *Server) secure(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.step())
	defer cancel()
	secured := tls.Client(conn, s.TLSConfig)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}
