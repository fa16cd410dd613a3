// Package upstream connects to the mail server behind the gateway: it dials, negotiates
// TLS, reads the greeting, passes the client's address, logs in, and decides what the
// server's answer means for the rules.
//
// That meaning is the purpose of the package. Only an explicit "these credentials are
// wrong" counts; everything else (an outage, a time-out, a policy, a protocol error)
// does not count, and the client receives "try again later".
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

// Missing abilities of a server without which the configured TLS does not work.
var (
	// ErrWantsTLS reports a server that accepts passwords only after STARTTLS.
	ErrWantsTLS = errors.New("the server takes passwords over TLS only, and offers STARTTLS for it")
	// ErrNoStartTLS reports a server without STARTTLS.
	ErrNoStartTLS = errors.New("the server does not offer it")
)

// PassClient is the way in which the server receives the client's address. Each way
// requires a server that trusts the gateway.
type PassClient uint8

const (
	PassNone    PassClient = iota // not at all
	PassID                        // IMAP: ID x-originating-ip (RFC 2971)
	PassXCLIENT                   // SMTP: Postfix's XCLIENT
	// PassPROXY is a PROXY header (version 2) at the start of each connection. The
	// server must expect one. Spare connections are impossible: a connection belongs to
	// its client from the first octet.
	PassPROXY
)

// String is the word of the configuration.
func (p PassClient) String() string { return [...]string{"none", "id", "xclient", "proxy"}[p] }

// DefaultTimeout limits each step of a [Server] without another time limit.
const DefaultTimeout = 30 * time.Second

// Server is one mail server with its settings. Close it when no more logins will start.
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
	// Timeout limits each step: connecting, the TLS handshake, one reply. The whole
	// login takes at most three times as long. 0: 30 s.
	Timeout time.Duration
	// CredentialPatterns match further replies that mean wrong credentials, beyond
	// those that package upstream knows. A reply that matches NotCredentialPatterns
	// never means wrong credentials.
	CredentialPatterns, NotCredentialPatterns []*regexp.Regexp
	// Spare is the largest number of connections kept ready for the next logins. 0:
	// none. With PassPROXY there are none.
	Spare int
	// Panicked is called for each panic while a spare connection is opened; only that
	// connection is lost. The value may contain anything: see [auth.PanicText]. Nil:
	// not called.
	Panicked func(value any, stack []byte)
	// Dial replaces the dialer in tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	imapCaps   atomic.Pointer[[]imap.Cap]
	imapSpares spares[*imapDialogue]
	smtpSpares spares[*smtpDialogue]
}

// Close closes the spare connections. Logins in progress and their sessions continue;
// later logins open their own connections.
func (s *Server) Close() {
	s.imapSpares.close()
	s.smtpSpares.close()
}

// Client is the client of a login. Each field that goes to the server is escaped where
// it is written.
type Client struct {
	// Address is the client's address and port.
	Address netip.AddrPort
	// TLS is the version of TLS between the client and the gateway; 0: unknown.
	TLS uint16
	// Session is the id of the client's connection in the gateway's logs.
	Session string
	// ID holds the fields of the client's IMAP ID command (RFC 2971). Fields of the
	// kind that a proxy adds (x-...) are dropped: every client can write them.
	ID []IDField
	// Fresh requests a new connection, because an answer over a spare one was in doubt.
	Fresh bool
}

// IDField is one field of an IMAP ID command.
type IDField struct{ Name, Value string }

// TLSVersion returns the version of a client's TLS; 0 without TLS.
func TLSVersion(client net.Conn) uint16 {
	if secured, ok := client.(*tls.Conn); ok {
		return secured.ConnectionState().Version
	}
	return 0
}

// LoginName returns the name under which the server knows the account.
func (s *Server) LoginName(name auth.Name) string {
	if s.LocalNames {
		return name.Local()
	}
	return string(name)
}

// step returns the time limit of a step.
func (s *Server) step() time.Duration {
	if s.Timeout <= 0 {
		return DefaultTimeout
	}
	return s.Timeout
}

// spare returns the largest number of spare connections.
func (s *Server) spare() int {
	if s.PassClient == PassPROXY {
		return 0
	}
	return s.Spare
}

// connect dials the server, sends the PROXY header with PassPROXY, and completes the
// TLS handshake with Implicit.
func (s *Server) connect(ctx context.Context, client Client) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.step())
	defer cancel()
	dial := s.Dial
	if dial == nil {
		// Each step has a deadline, and the relay detects dead peers itself.
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
