package frontend

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"congthu/auth"
)

// Client is one connection of a mail client, before and after its login. Its exported
// part is for the protocol's dialogue and its goroutine only.
type Client struct {
	// Log adds the session's id and its source to each line.
	Log *slog.Logger
	// ID is the session's id in logs.
	ID string
	// Peer is the address at the other end of the connection.
	Peer netip.AddrPort
	// Input reads what the client sends. Nil after the login.
	Input *Input

	serving *serving
	source  netip.AddrPort // of the login: the peer's, unless a forwarder named another
	begun   time.Time
	place   *Place

	raw     net.Conn // below TLS
	gate    *Gate    // the same connection
	conn    net.Conn
	secured bool

	mistakes *auth.RejectedPasswords
	bad      int       // commands
	failed   int       // logins
	refused  time.Time // the latest login with credentials

	mu        sync.Mutex
	draining  bool // send the farewell when next waiting for a command
	displaced bool // the same, because another connection took its place
	brief     bool // end the session when it is quiet
	ended     bool // close
	revoked   bool // the login in progress must not become a session
	pair      Relay
}

var past = time.Unix(1, 0)

func newClient(v *serving, conn net.Conn) *Client {
	c := &Client{
		serving: v, ID: ID(), begun: time.Now(), Peer: Source(conn),
		mistakes: new(auth.RejectedPasswords),
	}
	c.raw, c.gate = Watch(conn)
	c.conn, c.Input = c.raw, NewInput(c.raw)
	c.SpeakFor(c.Peer)
	return c
}

// Secured reports whether TLS protects the connection.
func (c *Client) Secured() bool { return c.secured }

// OffersTLS reports whether STARTTLS is, or was, available.
func (c *Client) OffersTLS() bool { return c.serving.tls != nil }

// Conn returns the connection, to inspect it; only Input reads it.
func (c *Client) Conn() net.Conn { return c.conn }

// Hostname returns the name for the greeting.
func (c *Client) Hostname() string { return c.serving.hostname() }

// Source returns the source of the login: the peer's address, unless SpeakFor set
// another.
func (c *Client) Source() netip.AddrPort { return c.source }

// SpeakFor sets the source of this login for the guard, the mail server and the log. A
// TLS handshake resets it.
func (c *Client) SpeakFor(source netip.AddrPort) {
	if c.Log != nil && source == c.source {
		return
	}
	c.source = source
	c.Log = c.serving.log().With("protocol", c.serving.protocol.Name, "session", c.ID, "source", source)
	if source != c.Peer {
		c.Log = c.Log.With("forwarder", c.Peer)
	}
}

// drain ends the client unless it is logged in or about to be. The relay of a session is
// told if it has a last line for its client.
func (c *Client) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.pair == nil {
		c.raw.SetReadDeadline(past)
	} else if d, ok := c.pair.(drainer); ok {
		d.Drain()
	}
}

// displace ends the client, unless it is about to be logged in, because another
// connection takes its place. It does not wait for a client that does not read.
func (c *Client) displace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.displaced = true; c.pair == nil && !c.ended {
		c.raw.SetReadDeadline(past)
		c.raw.SetWriteDeadline(time.Now().Add(refusalTime))
	}
}

// endWhenQuiet ends the session of this client, now or after the login, when it is
// idle.
func (c *Client) endWhenQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brief = true
	if c.pair != nil {
		c.pair.KickWhenQuiet()
	}
}

// end ends the client in any state. An attempt in progress is settled first.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.pair != nil {
		c.pair.Kick()
		return
	}
	c.raw.SetDeadline(past)
}

// Arm starts a command: it resets the client's time limit and size limit for one.
func (c *Client) Arm() {
	c.Input.begin()
	until := time.Now().Add(c.serving.loginTimeout())
	if total := c.begun.Add(c.serving.loginTotal()); total.Before(until) {
		until = total
	}
	if !c.refused.IsZero() {
		// The program asks its user for the password: the next attempt should come on
		// this connection, where a repeated password is not counted.
		until = c.refused.Add(c.serving.loginTotal())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.displaced || c.ended {
		until = past
	}
	c.raw.SetReadDeadline(until)
}

// Say writes complete lines.
func (c *Client) Say(lines string) error {
	c.mu.Lock()
	until := time.Now().Add(c.serving.loginTimeout())
	switch {
	case c.ended:
		until = past
	case c.displaced:
		until = time.Now().Add(refusalTime)
	}
	c.raw.SetWriteDeadline(until)
	c.mu.Unlock()
	_, err := io.WriteString(c.conn, lines)
	return err
}

// serve runs a connection until its end or its splice.
func (c *Client) serve() {
	passed := false // to another goroutine
	defer func() {
		p := recover()
		if p != nil {
			c.panicked(p, debug.Stack())
		}
		switch pair := c.spliced(); {
		case passed:
		case pair == nil:
			c.conn.Close()
			c.gone()
		case p != nil:
			pair.Kick() // its end is the end of the connection
		}
	}()
	if c.serving.implicit && !c.secured {
		if c.handshake() {
			// The stack that the handshake has grown ends with this goroutine: a client
			// may be silent for minutes.
			passed = true
			go c.serve()
		}
		return
	}
	if err := c.serving.protocol.Speak(c); !errors.Is(err, errSpliced) {
		c.farewell(err)
	}
}

// panicked reports a panic, which ends this connection.
func (c *Client) panicked(p any, stack []byte) {
	p, stack = OpenPanic(p, stack)
	c.Log.Error("a session panicked", "panic", auth.PanicText(p), "stack", string(stack))
	c.serving.recorder().Panicked(c.serving.protocol.Name)
}

// spliced returns the relay of the session; nil before the splice.
func (c *Client) spliced() Relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pair
}

// gone runs at the end of a connection, spliced or not. It is called once: by the pair
// if there is one, otherwise by serve.
func (c *Client) gone() {
	c.place.Leave()
	c.serving.remove(c)
	c.serving.recorder().Closed(c.serving.protocol.Name)
	c.serving.clients.Done()
}

// StartTLS writes lines, such as "begin", and starts TLS on the connection. Its error
// ends the dialogue. The caller must forget everything that the client sent before (RFC
// 9051 section 6.2.1).
func (c *Client) StartTLS(lines string) error {
	if c.Input.r.Buffered() > 0 {
		// The sender of these octets, perhaps an attacker on the path, wants them
		// executed after the handshake (CVE-2011-0411, CVE-2021-33515).
		c.Log.Warn("bytes between STARTTLS and the handshake")
		return EarlyOctets
	}
	if err := c.Say(lines); err != nil {
		return err
	}
	secured := false
	OnFreshStack(func() { secured = c.handshake() })
	if !secured {
		return errVanish
	}
	return nil
}

// handshake starts TLS on the connection.
func (c *Client) handshake() bool {
	c.Arm()
	c.mu.Lock()
	if !c.ended && !c.displaced {
		c.raw.SetWriteDeadline(time.Now().Add(c.serving.loginTimeout()))
	}
	c.mu.Unlock()
	c.gate.Handshake()
	secured := tls.Server(c.raw, c.serving.tls)
	err := secured.Handshake()
	c.serving.recorder().RecordHandshake(c.serving.protocol.Name, err)
	if err != nil {
		c.Log.Debug("TLS handshake", "err", err)
		return false
	}
	c.gate.Talk(c.Input.Left)
	c.conn, c.secured = secured, true
	c.SpeakFor(c.Peer)
	c.Input.turnTo(secured)
	return true
}

// Bad counts a command that is unknown or not permitted now. The error ends the
// dialogue: a browser, or a client of another protocol, must not get far.
func (c *Client) Bad() error {
	if c.bad++; c.bad >= positive(c.serving.MaxBad, 5) {
		return BadCommands
	}
	return nil
}

// BadMechanism counts an unknown SASL mechanism, as Bad does for commands.
func (c *Client) BadMechanism() error {
	if c.bad++; c.bad >= positive(c.serving.MaxBad, 5) {
		return ManyRefusals
	}
	return nil
}

// Cleartext records that a client sent or announced credentials without TLS. They reach
// neither the guard nor the mail server and are not counted. It answers with lines.
func (c *Client) Cleartext(mech auth.Mechanism, lines string) error {
	if c.serving.Refused != nil {
		c.serving.Refused(auth.Attempt{Session: c.ID, Protocol: c.serving.protocol.Name, Mechanism: mech, Source: c.source}, auth.Cleartext)
	}
	if err := c.Say(lines); err != nil {
		return err
	}
	return c.fail()
}

// fail counts a refused login.
func (c *Client) fail() error {
	if c.failed++; c.failed >= positive(c.serving.MaxFailures, 10) {
		return ManyRefusals
	}
	return nil
}
