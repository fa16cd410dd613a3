package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"congthu/auth"
	"congthu/gateway/accept"
	"congthu/gateway/relay"
	"congthu/gateway/upstream"
)

// client is one connection of a mail client, before its login and after.
type client struct {
	door   *door
	server *Server
	log    *slog.Logger
	id     string         // names the session in logs
	peer   netip.AddrPort // whose connection it is
	source netip.AddrPort // whose login it is: the peer's, unless a forwarder says otherwise
	begun  time.Time
	leave  func() // gives its place among the connections back

	raw    net.Conn // below TLS
	conn   net.Conn
	in     *input
	secure bool

	said     []upstream.IDField // by ID
	misled   bool               // by an address that is none, and the log was told
	mistakes *auth.Mistaken
	bad      int       // commands
	failed   int       // logins
	refused  time.Time // the latest login with credentials

	mu       sync.Mutex
	draining bool // say BYE when next waiting for a command
	brief    bool // end the session when it is quiet
	ended    bool // close
	revoked  bool // the login under way must not become a session
	pair     *relay.Pair
}

var past = time.Unix(1, 0)

func newClient(d *door, conn net.Conn) *client {
	c := &client{
		door: d, server: d.server, id: accept.ID(), begun: time.Now(),
		peer: accept.Source(conn),
		raw:  conn, conn: conn, mistakes: new(auth.Mistaken),
	}
	c.in = newInput(conn, maxTalk)
	c.speakFor(c.peer)
	return c
}

// drain ends the client unless it is logged in, or about to be.
func (c *client) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.pair == nil {
		c.raw.SetReadDeadline(past)
	}
}

// endWhenQuiet ends the session of this client, once there is one, when nothing
// moves on it.
func (c *client) endWhenQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brief = true
	if c.pair != nil {
		c.pair.KickWhenQuiet()
	}
}

// end ends the client, whatever it is doing. An attempt under way is settled
// first.
func (c *client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.pair != nil {
		c.pair.Kick()
		return
	}
	c.raw.SetDeadline(past)
}

// endSession ends the session of this client's login. A login that is still
// being settled is left to its verdict: one that revokes the account ends all
// sessions of it, and its own client is to read why.
func (c *client) endSession() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = true
	if c.pair != nil {
		c.pair.Kick()
	}
}

func (c *client) isRevoked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked
}

// arm gives the client its time for the next command.
func (c *client) arm() {
	until := time.Now().Add(c.server.loginTimeout())
	if total := c.begun.Add(c.server.loginTotal()); total.Before(until) {
		until = total
	}
	if !c.refused.IsZero() {
		// Its user is asked for the password: the next try is to come on this
		// connection, where the same password costs nothing.
		until = c.refused.Add(c.server.loginTotal())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.ended {
		until = past
	}
	c.raw.SetReadDeadline(until)
}

func (s *Server) loginTimeout() time.Duration { return orElse(s.LoginTimeout, 60*time.Second) }
func (s *Server) loginTotal() time.Duration   { return orElse(s.LoginTotal, 3*time.Minute) }

func orElse[T int | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

// say writes whole lines.
func (c *client) say(lines string) error {
	c.mu.Lock()
	until := time.Now().Add(c.server.loginTimeout())
	if c.ended {
		until = past
	}
	c.raw.SetWriteDeadline(until)
	c.mu.Unlock()
	_, err := io.WriteString(c.conn, lines)
	return err
}

// serve is the life of a connection up to its end or its splice.
func (c *client) serve() {
	defer func() {
		p := recover()
		if p != nil {
			c.log.Error("a session panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
			c.server.recorder().Panicked(auth.IMAP)
		}
		switch pair := c.spliced(); {
		case pair == nil:
			c.conn.Close()
			c.gone()
		case p != nil:
			pair.Kick() // and its end is that of the connection
		}
	}()
	if c.door.implicit && !c.handshake() {
		return
	}
	hostname := c.server.Hostname
	if hostname == "" {
		hostname = "congthu"
	}
	// RFC 9051 section 7.1: the greeting saves the client a command.
	err := c.say("* OK [CAPABILITY " + c.capabilities() + "] " + oneLine(hostname) + " ready\r\n")
	for err == nil {
		err = c.next()
	}
	if !errors.Is(err, errSpliced) {
		c.farewell(err)
	}
}

// spliced returns the pair that the connection has become; nil before that.
func (c *client) spliced() *relay.Pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pair
}

// gone is the end of a connection, spliced or not. It is called once: by the pair
// if there is one, else by serve.
func (c *client) gone() {
	c.leave()
	c.server.remove(c)
	c.server.recorder().Closed(auth.IMAP)
	c.door.clients.Done()
}

// handshake puts TLS on the connection.
func (c *client) handshake() bool {
	c.arm()
	c.mu.Lock()
	if !c.ended {
		c.raw.SetWriteDeadline(time.Now().Add(c.server.loginTimeout()))
	}
	c.mu.Unlock()
	secured := tls.Server(c.raw, c.door.tls)
	err := secured.Handshake()
	c.server.recorder().Handshaken(auth.IMAP, err)
	if err != nil {
		c.log.Debug("TLS handshake", "err", err)
		return false
	}
	// Nothing said in clear text is remembered (RFC 9051 section 6.2.1).
	c.conn, c.secure, c.said = secured, true, nil
	c.speakFor(c.peer)
	c.in.turnTo(secured)
	return true
}

// Ways in which a dialogue ends; next returns them as its error.
var (
	errSpliced = errors.New("spliced")
	errLogout  = errors.New("logged out")
	errVanish  = errors.New("no reason given to the client")
)

// farewell is a reason to say BYE: Vietnamese without diacritics and English, since
// some mail programs show it.
type farewell string

const (
	farewellTooMuch  farewell = "Qua nhieu du lieu truoc khi dang nhap / Too much data before login"
	farewellShutdown farewell = "May chu dang dung, vui long thu lai / The server is shutting down, please try again"
	farewellTooSlow  farewell = "Qua thoi gian cho / Too slow"
	farewellCommands farewell = "Qua nhieu lenh sai / Too many bad commands"
	farewellRefusals farewell = "Qua nhieu lan dang nhap bi tu choi / Too many refusals"
	farewellWeb      farewell = "Day khong phai may chu web / This is no web server"
	farewellStartTLS farewell = "Khong duoc gui gi sau STARTTLS / Nothing may follow STARTTLS"
	farewellLogout   farewell = "Da dang xuat / Logging out"
	farewellCrowd    farewell = "[UNAVAILABLE] Qua nhieu ket noi, vui long thu lai sau / Too many connections, please try again later"
)

func (f farewell) Error() string { return string(f) }

// farewell says BYE where that makes sense (RFC 9051 section 7.1.5).
func (c *client) farewell(err error) {
	c.mu.Lock()
	draining, ended := c.draining, c.ended
	c.mu.Unlock()
	var f farewell
	var timeout net.Error
	switch {
	case ended:
		return
	case errors.As(err, &f):
	case errors.Is(err, errLineTooLong), errors.Is(err, errCommandTooLong), errors.Is(err, errLiteralTooLong), errors.Is(err, errTalkTooLong):
		f = farewellTooMuch
	case errors.As(err, &timeout) && timeout.Timeout() && draining:
		f = farewellShutdown
	case errors.As(err, &timeout) && timeout.Timeout():
		f = farewellTooSlow // RFC 9051 section 5.4
	default:
		// Logged out, hung up, or not worth a word.
		c.log.Debug("connection ends", "why", err)
		return
	}
	c.log.Debug("connection ends", "why", err)
	if c.say("* BYE "+string(f)+"\r\n") == nil && !draining {
		c.linger()
	}
}

// linger lets the client read our last words: closing a socket with something
// unread in it would take them back.
func (c *client) linger() {
	if secured, ok := c.conn.(*tls.Conn); ok {
		secured.CloseWrite()
	}
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	if !c.ended && !c.draining {
		c.raw.SetReadDeadline(time.Now().Add(time.Second))
	}
	c.mu.Unlock()
	io.CopyN(io.Discard, c.raw, maxTalk)
}

// attempt asks the guard about complete credentials. The verdict is settled even
// if the client hangs up meanwhile.
func (c *client) attempt(a auth.Attempt) auth.Verdict {
	a.Session, a.Protocol, a.Source, a.Mistakes, a.Connected = c.id, auth.IMAP, c.source, c.mistakes, c.begun
	for _, field := range c.said {
		if strings.EqualFold(field.Name, "name") { // RFC 2971 section 3.3
			a.Program = field.Value
		}
	}
	return c.server.Guard.Attempt(context.WithoutCancel(c.door.ctx), a)
}
