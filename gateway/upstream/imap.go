package upstream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
)

// IMAPConn is a connection to the mail server on which a user is logged in. The holder
// must pass it to the relay or call Logout.
type IMAPConn struct {
	net.Conn
	// Ahead is data that was read after the server's last reply: it belongs to the
	// client.
	Ahead []byte
	// OK is the server's tagged answer without its tag, such as
	// "OK [CAPABILITY IMAP4rev1 IDLE] Logged in".
	OK string
	// HasCapabilities is set if OK has a CAPABILITY code, or Untagged has a CAPABILITY
	// response: the client then receives the capabilities from the server itself.
	HasCapabilities bool
	// Untagged are the responses between the credentials and the answer: complete lines
	// that belong to the client.
	Untagged []byte
	// Caps are the capabilities after login; Capabilities has them as the server wrote
	// them.
	Caps         imap.CapSet
	Capabilities string
}

// Logout ends the session if possible, without waiting for an answer.
func (c *IMAPConn) Logout() {
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "bye LOGOUT\r\n") // RFC 9051 section 6.1.3
	c.Close()
}

// errUnauthenticate: a client could leave its account and guess passwords of another,
// without any rule (RFC 8437).
var errUnauthenticate = errors.New("the mail server offers UNAUTHENTICATE (RFC 8437), which would let clients log in past the rules: switch it off")

// LoginIMAP logs in at the server. The connection is nil unless the password was
// JudgedRight. The judgement is InDoubt exactly if the password was, or may have been,
// sent and no tagged answer came; Again is set if that was over a spare connection. The
// error never contains the password, even if the server repeats it.
func (s *Server) LoginIMAP(ctx context.Context, name auth.Name, password auth.Secret, c Client) (*IMAPConn, auth.Answer) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	login, secret, err := s.credentials(name, password)
	if err != nil {
		return nil, unreached(err)
	}
	return loginOver(ctx, s, &s.imapSpares, c, s.openIMAP, func(d *imapDialogue) (*IMAPConn, auth.Answer) { return d.loginFor(c, login, secret) })
}

// loginFor introduces the client and logs in. If that fails, it closes the connection.
func (d *imapDialogue) loginFor(c Client, login, secret string) (*IMAPConn, auth.Answer) {
	if d.server.PassClient == PassID && d.caps.Has(imap.CapID) {
		d.identify(c)
	}
	d.hide(login, secret)
	conn, answer := d.login(login, secret)
	if answer.Judgement != auth.JudgedRight {
		d.close()
		return nil, answer
	}
	ahead, err := d.giveAway()
	if err != nil {
		d.close()
		return nil, unreached(fmt.Errorf("after login: %w", err))
	}
	conn.Ahead = ahead
	return conn, answer
}

// ProbeIMAP connects, negotiates TLS and asks for the capabilities, without logging in.
// Its error is one that would make every login fail.
func (s *Server) ProbeIMAP(ctx context.Context) (imap.CapSet, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	d, err := s.openIMAP(ctx, Client{})
	if err != nil {
		return nil, err
	}
	d.quit()
	if !d.caps.Has("AUTH=PLAIN") && d.caps.Has(imap.CapLoginDisabled) {
		return nil, d.noMechanism()
	}
	return d.caps, nil
}

// noMechanism explains why no login is possible at a server without AUTH=PLAIN and with
// LOGINDISABLED. A server that offers STARTTLS may accept passwords under TLS (RFC 9051
// section 6.2.3).
func (d *imapDialogue) noMechanism() error {
	if d.server.TLS == Plain && d.caps.Has(imap.CapStartTLS) {
		return ErrWantsTLS
	}
	return errors.New("the server offers neither AUTH=PLAIN nor LOGIN")
}

// openIMAP opens a connection up to the point where the capabilities are known and
// suffice. Only a PROXY header has named the client so far.
func (s *Server) openIMAP(ctx context.Context, client Client) (*imapDialogue, error) {
	conn, err := s.connect(ctx, client)
	if err != nil {
		return nil, err
	}
	d := &imapDialogue{talk: converse(ctx, s, conn, maxIMAPLine, maxIMAPTalk)}
	if err := d.open(); err != nil {
		d.close()
		return nil, s.afterHeader(err)
	}
	before := slices.Sorted(maps.Keys(d.caps))
	s.imapCaps.Store(&before)
	return d, nil
}

// BeforeIMAP returns the capabilities that the server last showed before a login, in
// order; nil before the first connection.
func (s *Server) BeforeIMAP() []imap.Cap {
	if caps := s.imapCaps.Load(); caps != nil {
		return *caps
	}
	return nil
}

func (d *imapDialogue) open() error {
	if err := d.greeting(); err != nil {
		return d.noGreeting(err)
	}
	if d.server.TLS == StartTLS {
		if err := d.startTLS(); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	}
	// A server that does not know the header greets all the same, and would take
	// it together with the first command: that must not be the password.
	if unsure := d.server.PassClient == PassPROXY && d.server.TLS == Plain; d.caps == nil || unsure {
		if err := d.askCapabilities(); err != nil {
			return err
		}
	}
	if d.caps.Has(imap.CapUnauthenticate) {
		return errUnauthenticate
	}
	return nil
}

// greeting reads the first line (RFC 9051 section 7.1.4, 7.1.5).
func (d *imapDialogue) greeting() error {
	d.step()
	r, err := d.response()
	if err != nil {
		return err
	}
	status, ok := parseStatus(r)
	switch {
	case !ok || r.tag != "*":
		return fmt.Errorf("not an IMAP greeting: %s", d.quote(r.String()))
	case status.kind == imap.StatusResponseTypeBye:
		return fmt.Errorf("the server turned us away: %s", d.quote(status.text))
	case status.kind == imap.StatusResponseTypePreAuth:
		// A user is logged in already, and STARTTLS is impossible (RFC 9051 section
		// 6.2.1).
		return errors.New("the server greets with PREAUTH: nobody's password would be judged")
	case status.kind != imap.StatusResponseTypeOK:
		return fmt.Errorf("not an IMAP greeting: %s", d.quote(r.String()))
	}
	d.learn(status)
	return nil
}

// startTLS follows RFC 9051 section 6.2.1. It is required even if the server does not
// offer it: an attacker in the middle could hide the offer.
func (d *imapDialogue) startTLS() error {
	status, err := d.ask("STARTTLS")
	if err != nil {
		return err
	}
	if status.kind != imap.StatusResponseTypeOK {
		return fmt.Errorf("%w: %s", ErrNoStartTLS, d.quote(status.String()))
	}
	if err := d.handshake(); err != nil {
		return err
	}
	// Capabilities from before TLS must be forgotten (RFC 9051 section 6.2.1).
	d.caps, d.capabilities = nil, ""
	return nil
}

func (d *imapDialogue) askCapabilities() error {
	status, err := d.ask("CAPABILITY")
	switch {
	case err != nil:
		return fmt.Errorf("CAPABILITY: %w", err)
	case status.kind != imap.StatusResponseTypeOK || d.caps == nil:
		return fmt.Errorf("CAPABILITY: %s", d.quote(status.String()))
	}
	return nil
}

// identify queues an ID command, to be written together with the next command. Dovecot
// trusts these fields from login_trusted_networks; the login need not wait for its
// reply.
func (d *imapDialogue) identify(c Client) {
	var b strings.Builder
	has := make(map[string]bool)
	// The limits, and the rule against repeated names, are those of RFC 2971 section
	// 3.3.
	field := func(name, value string) {
		if key := strings.ToLower(name); !has[key] {
			if has[key] = true; b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(quoted(name, 30) + " " + quoted(value, 1024))
		}
	}
	for _, f := range c.ID {
		// The fields of a proxy come from the gateway only: a client could claim any
		// address in them.
		if len(has) < 25 && f.Name != "" && !strings.HasPrefix(strings.ToLower(f.Name), "x-") {
			field(f.Name, f.Value)
		}
	}
	field("name", "congthu")
	if c.Address.IsValid() {
		field("x-originating-ip", c.Address.Addr().Unmap().WithZone("").String())
		if port := c.Address.Port(); port != 0 { // a webmail server may not know it
			field("x-originating-port", strconv.Itoa(int(port)))
		}
	}
	if c.Session != "" {
		field("x-session-id", c.Session)
	}
	field("x-proxy-ttl", "5") // a loop of proxies ends
	d.idTag = d.queue("ID (" + b.String() + ")")
}

// quoted returns a quoted string (RFC 9051 section 4.3) of at most max octets. Anything
// but printable ASCII becomes a question mark: no text of a client or a name server can
// end the line or the string.
func quoted(s string, max int) string {
	s = s[:min(len(s), max)]
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch ch := s[i]; {
		case ch < 0x20 || ch > 0x7e:
			b.WriteByte('?')
		case ch == '"' || ch == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteByte(ch)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// maxCommand is the length of a command line above which a client should choose another
// way (RFC 2683 section 3.2.1.5).
const maxCommand = 1000

// login sends the credentials in a way that preserves every octet.
func (d *imapDialogue) login(name, password string) (*IMAPConn, auth.Answer) {
	var tag string
	var err error
	d.step()
	switch {
	case d.caps.Has("AUTH=PLAIN"):
		tag, err = d.sendPlain(plainMessage(name, password))
	case d.caps.Has(imap.CapLoginDisabled):
		err = d.noMechanism()
	default:
		tag, err = d.sendLogin(name, password)
	}
	if err != nil {
		return nil, d.undecided(err)
	}
	status, err := d.await(tag)
	if err != nil {
		return nil, d.undecided(fmt.Errorf("log in: %w", err))
	}
	if answer := d.judged(d.server.judgeIMAP(status), status.String()); answer.Judgement != auth.JudgedRight {
		return nil, answer
	}
	return d.loggedIn(status)
}

// sendPlain sends AUTHENTICATE PLAIN (RFC 9051 section 6.2.2), with the initial
// response if the server supports RFC 4959 and the line stays short enough.
func (d *imapDialogue) sendPlain(message string) (tag string, err error) {
	d.keep = true
	if d.caps.Has(imap.CapSASLIR) && len(message) < maxCommand {
		tag = d.queue("AUTHENTICATE PLAIN " + message)
		return tag, d.flushSecret()
	}
	tag = d.queue("AUTHENTICATE PLAIN")
	if err := d.flushAndContinue(tag); err != nil {
		return tag, fmt.Errorf("AUTHENTICATE: %w", err)
	}
	d.queued = append(d.queued, message+"\r\n"...)
	return tag, d.flushSecret()
}

// sendLogin sends LOGIN (RFC 9051 section 6.2.3), both arguments as literals.
func (d *imapDialogue) sendLogin(name, password string) (tag string, err error) {
	d.keep = true
	// RFC 7888 sections 3 and 5.
	if d.caps.Has(imap.CapLiteralPlus) ||
		d.caps.Has(imap.CapLiteralMinus) && len(name) <= 4096 && len(password) <= 4096 {
		tag = d.queue(fmt.Sprintf("LOGIN {%d+}\r\n%s {%d+}\r\n%s", len(name), name, len(password), password))
		return tag, d.flushSecret()
	}
	tag = d.queue(fmt.Sprintf("LOGIN {%d}", len(name)))
	if err := d.flushAndContinue(tag); err != nil {
		return tag, fmt.Errorf("LOGIN: %w", err)
	}
	d.queued = fmt.Appendf(d.queued, "%s {%d}\r\n", name, len(password))
	if err := d.flushAndContinue(tag); err != nil {
		return tag, fmt.Errorf("LOGIN: %w", err)
	}
	d.queued = append(d.queued, password+"\r\n"...)
	return tag, d.flushSecret()
}

// loggedIn collects what the client must receive.
func (d *imapDialogue) loggedIn(status imapStatus) (*IMAPConn, auth.Answer) {
	d.learn(status)
	conn := &IMAPConn{OK: status.String(), HasCapabilities: d.hasCapabilities || status.code == codeCapability}
	if !conn.HasCapabilities {
		d.caps = nil
		if err := d.askCapabilities(); err != nil {
			return nil, unreached(fmt.Errorf("after login: %w", err))
		}
	}
	if d.caps.Has(imap.CapUnauthenticate) {
		d.write("bye LOGOUT\r\n")
		return nil, unreached(errUnauthenticate)
	}
	conn.Conn = d.conn
	conn.Caps, conn.Capabilities, conn.Untagged = d.caps, d.capabilities, d.untagged
	return conn, auth.Answer{Judgement: auth.JudgedRight}
}

// judgeIMAP returns the meaning of a tagged reply to complete credentials for the rules
// (response codes: RFC 5530 section 3).
func (s *Server) judgeIMAP(reply imapStatus) auth.Answer {
	// Zimbra and Courier answer a wrong password with a bare NO.
	no, plain := reply.kind == imap.StatusResponseTypeNo, reply.code == "" || reply.code == imap.ResponseCodeAuthenticationFailed
	otherwise := auth.Answer{Judgement: auth.RefusedOtherwise}
	switch {
	case !no, plain, reply.code == imap.ResponseCodeUnavailable, reply.code == imap.ResponseCodeServerBug:
		otherwise.Judgement = auth.Unreached
	case reply.arg == "": // a code without its argument would be useless to the client
		otherwise.Code = string(reply.code)
	}
	return s.judge(reply.String(), reply.kind == imap.StatusResponseTypeOK, no && plain, otherwise)
}
