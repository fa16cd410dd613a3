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
	"congthu/gateway/relay"
)

// Client is one connection of a mail client, before its login and after. Its
// exported part is for the protocol's dialogue and its goroutine alone.
type Client struct {
	// Log has the name of the session and its source with each line.
	Log *slog.Logger
	// ID is the name of the session in logs.
	ID string
	// Peer is the other end of the connection.
	Peer netip.AddrPort
	// Input reads what the client says. Nil after the login.
	Input *Input

	serving *serving
	source  netip.AddrPort // whose login it is: the peer's, unless a forwarder says otherwise
	begun   time.Time
	place   *Place

	raw     net.Conn // below TLS
	gate    *Gate    // the same
	conn    net.Conn
	secured bool

	mistakes *auth.RejectedPasswords
	bad      int       // commands
	failed   int       // logins
	refused  time.Time // the latest login with credentials

	mu        sync.Mutex
	draining  bool // say the farewell when next waiting for a command
	displaced bool // the same: its place is another's
	brief     bool // end the session when it is quiet
	ended     bool // close
	revoked   bool // the login under way must not become a session
	pair      *relay.Pair
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

// OffersTLS reports whether there is STARTTLS, or was.
func (c *Client) OffersTLS() bool { return c.serving.tls != nil }

// Conn is the connection, for what can be learned of it; only Input reads it.
func (c *Client) Conn() net.Conn { return c.conn }

// Hostname is the name for the greeting.
func (c *Client) Hostname() string { return c.serving.hostname() }

// Source is whose login it is: the peer's, unless SpeakFor was called.
func (c *Client) Source() netip.AddrPort { return c.source }

// SpeakFor sets whose login this is, for the guard, the mail server and the log,
// until a TLS handshake.
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

// drain ends the client unless it is logged in, or about to be.
func (c *Client) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.pair == nil {
		c.raw.SetReadDeadline(past)
	}
}

// displace ends the client, unless it is about to be logged in, since another has
// its place. It does not wait for a client that does not read.
func (c *Client) displace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.displaced = true; c.pair == nil && !c.ended {
		c.raw.SetReadDeadline(past)
		c.raw.SetWriteDeadline(time.Now().Add(refusalTime))
	}
}

// endWhenQuiet ends the session of this client, once there is one, when nothing
// moves on it.
func (c *Client) endWhenQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brief = true
	if c.pair != nil {
		c.pair.KickWhenQuiet()
	}
}

// end ends the client, whatever it is doing. An attempt under way is settled
// first.
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

// Arm is the begin of a command: it gives the client its time and its room for it.
func (c *Client) Arm() {
	c.Input.begin()
	until := time.Now().Add(c.serving.loginTimeout())
	if total := c.begun.Add(c.serving.loginTotal()); total.Before(until) {
		until = total
	}
	if !c.refused.IsZero() {
		// Its user is asked for the password: the next try is to come on this
		// connection, where the same password costs nothing.
		until = c.refused.Add(c.serving.loginTotal())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.displaced || c.ended {
		until = past
	}
	c.raw.SetReadDeadline(until)
}

// Say writes whole lines.
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

// serve is the life of a connection up to its end or its splice.
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
			pair.Kick() // and its end is that of the connection
		}
	}()
	if c.serving.implicit && !c.secured {
		if c.handshake() {
			// What the handshake has made of this stack ends with it: a client may
			// be silent for minutes.
			passed = true
			go c.serve()
		}
		return
	}
	if err := c.serving.protocol.Speak(c); !errors.Is(err, errSpliced) {
		c.farewell(err)
	}
}

// panicked tells of a panic, which costs this connection.
func (c *Client) panicked(p any, stack []byte) {
	p, stack = OpenPanic(p, stack)
	c.Log.Error("a session panicked", "panic", auth.PanicText(p), "stack", string(stack))
	c.serving.recorder().Panicked(c.serving.protocol.Name)
}

// spliced returns the pair that the connection has become; nil before that.
func (c *Client) spliced() *relay.Pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pair
}

// gone is the end of a connection, spliced or not. It is called once: by the pair
// if there is one, else by serve.
func (c *Client) gone() {
	c.place.Leave()
	c.serving.remove(c)
	c.serving.recorder().Closed(c.serving.protocol.Name)
	c.serving.clients.Done()
}

// StartTLS says lines, such as "begin", and puts TLS on the connection. Its error
// ends the dialogue. Whatever the client said before is to be forgotten (RFC 9051
// section 6.2.1).
func (c *Client) StartTLS(lines string) error {
	if c.Input.r.Buffered() > 0 {
		// The sender of that, perhaps an attacker in between, wants it executed
		// behind the handshake (CVE-2011-0411, CVE-2021-33515).
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

// handshake puts TLS on the connection.
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

// Bad counts a command that is none, or not for now. The error ends the dialogue: a
// browser, or another protocol's client, must not get far.
func (c *Client) Bad() error {
	if c.bad++; c.bad >= positive(c.serving.MaxBad, 5) {
		return BadCommands
	}
	return nil
}

// BadMechanism counts the choice of a SASL mechanism that there is not, as Bad does.
func (c *Client) BadMechanism() error {
	if c.bad++; c.bad >= positive(c.serving.MaxBad, 5) {
		return ManyRefusals
	}
	return nil
}

// Cleartext records credentials, or the offer of some, without TLS. They reach
// neither the guard nor the mail server and are not counted. The client is told lines.
func (c *Client) Cleartext(mech auth.Mechanism, lines string) error {
	if c.serving.Refused != nil {
		c.serving.Refused(auth.Attempt{Session: c.ID, Protocol: c.serving.protocol.Name, Mechanism: mech, Source: c.source}, auth.Cleartext)
	}
	if err := c.Say(lines); err != nil {
		return err
	}
	return c.fail()
}

// fail counts a login that was refused.
func (c *Client) fail() error {
	if c.failed++; c.failed >= positive(c.serving.MaxFailures, 10) {
		return ManyRefusals
	}
	return nil
}
