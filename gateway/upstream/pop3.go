package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"congthu/auth"
)

// POP3Conn is a connection to the mail server on which a user is logged in. The holder
// must pass it to the relay or call Logout.
type POP3Conn struct {
	net.Conn
	// Ahead is data that was read after the server's last reply: it belongs to the
	// client.
	Ahead []byte
	// OK is the server's reply to the credentials, such as "+OK Logged in.".
	OK string
}

// Logout ends the session if possible, without waiting for an answer. No message is
// marked as deleted, so QUIT removes none (RFC 1939 section 6).
func (c *POP3Conn) Logout() {
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, "QUIT\r\n")
	c.Close()
}

// Capabilities of POP3 (RFC 2449), in upper case, with their arguments.
type Capabilities map[string]string

// Has reports whether the server has a capability.
func (c Capabilities) Has(name string) bool { _, ok := c[name]; return ok }

// mechanism reports whether a SASL mechanism is offered (RFC 5034 section 3).
func (c Capabilities) mechanism(name string) bool {
	for m := range strings.FieldsSeq(c["SASL"]) {
		if strings.EqualFold(m, name) {
			return true
		}
	}
	return false
}

// LoginPOP3 logs in at the server. The connection is nil unless the password was
// JudgedRight. The judgement is InDoubt exactly if the password was, or may have been,
// sent and no answer came. The error never contains the password, even if the server
// repeats it. Each login opens a connection of its own.
func (s *Server) LoginPOP3(ctx context.Context, name auth.Name, password auth.Secret, c Client) (*POP3Conn, auth.Answer) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	login, secret, err := s.credentials(name, password)
	if err != nil {
		return nil, unreached(err)
	}
	d, err := s.openPOP3(ctx, c)
	if err != nil {
		return nil, unreached(err)
	}
	d.hide(login, secret)
	reply, answer := d.login(login, secret)
	if answer.Judgement != auth.JudgedRight {
		d.close()
		return nil, answer
	}
	ahead, err := d.giveAway()
	if err != nil {
		d.close()
		return nil, unreached(fmt.Errorf("after login: %w", err))
	}
	return &POP3Conn{Conn: d.conn, Ahead: ahead, OK: reply.line}, answer
}

// ProbePOP3 connects, negotiates TLS and asks for the capabilities, without logging in.
// Its error is one that would make every login fail.
func (s *Server) ProbePOP3(ctx context.Context) (Capabilities, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	d, err := s.openPOP3(ctx, Client{})
	if err != nil {
		return nil, err
	}
	defer d.leave("QUIT")
	return d.capabilities, d.mechanism()
}

// pop3Dialogue is the conversation with a server up to the login.
type pop3Dialogue struct {
	talk
	capabilities Capabilities // nil: the server does not know CAPA
}

const (
	maxPOP3Line = 4 << 10
	maxPOP3Talk = 64 << 10 // all data from the server until the login is complete
	// maxPOP3Initial is the maximum length of an AUTH line with an initial response
	// (RFC 5034 section 4).
	maxPOP3Initial = 255
)

// openPOP3 opens a connection up to the point where a login is possible.
func (s *Server) openPOP3(ctx context.Context, client Client) (*pop3Dialogue, error) {
	conn, err := s.connect(ctx, client)
	if err != nil {
		return nil, err
	}
	d := &pop3Dialogue{talk: converse(ctx, s, conn, maxPOP3Line, maxPOP3Talk)}
	if err := d.open(); err != nil {
		d.close()
		return nil, s.afterHeader(err)
	}
	return d, nil
}

func (d *pop3Dialogue) open() error {
	reply, err := d.reply() // RFC 1939 section 4
	switch {
	case err != nil:
		return d.noGreeting(err)
	case !reply.ok && reply.known:
		return fmt.Errorf("the server refused the connection: %s", d.quote(reply.line))
	case !reply.ok:
		return fmt.Errorf("not a POP3 greeting: %s", d.quote(reply.line))
	}
	if d.server.TLS == StartTLS {
		if err := d.startTLS(); err != nil {
			return fmt.Errorf("STLS: %w", err)
		}
	}
	return d.capa()
}

// startTLS follows RFC 2595 section 4. It is required even if the server does not offer
// it: an attacker in the middle could hide the offer.
func (d *pop3Dialogue) startTLS() error {
	reply, err := d.ask("STLS")
	if err != nil {
		return err
	}
	if !reply.ok {
		return fmt.Errorf("%w: %s", ErrNoStartTLS, d.quote(reply.line))
	}
	return d.handshake()
}

// capa asks for the capabilities (RFC 2449 section 5). A server without the command has
// none.
func (d *pop3Dialogue) capa() error {
	reply, err := d.ask("CAPA")
	if err != nil {
		return fmt.Errorf("CAPA: %w", err)
	}
	if !reply.ok {
		return nil
	}
	d.capabilities = make(Capabilities)
	for {
		line, err := d.text()
		if err != nil {
			return fmt.Errorf("CAPA: %w", err)
		}
		if line == "." {
			return nil
		}
		name, arguments, _ := strings.Cut(line, " ")
		d.capabilities[strings.ToUpper(name)] = arguments
	}
}

// mechanism returns the reason why no login is possible, or nil. A server that offers
// STLS may accept passwords under TLS only (RFC 2595 section 4).
func (d *pop3Dialogue) mechanism() error {
	switch {
	case d.capabilities == nil || d.capabilities.mechanism("PLAIN") || d.capabilities.Has("USER"):
		return nil
	case d.server.TLS == Plain && d.capabilities.Has("STLS"):
		return ErrWantsTLS
	}
	return errors.New("the server offers neither SASL PLAIN nor USER")
}

// login sends the credentials, if possible in a way that preserves every octet.
func (d *pop3Dialogue) login(name, password string) (pop3Reply, auth.Answer) {
	if err := d.mechanism(); err != nil {
		return pop3Reply{}, unreached(err)
	}
	send := d.userPass
	if d.capabilities.mechanism("PLAIN") {
		send = d.plain
	}
	reply, err := send(name, password)
	if err != nil {
		return reply, d.undecided(fmt.Errorf("log in: %w", err))
	}
	return reply, d.judged(d.server.judgePOP3(reply, d.capabilities), reply.line)
}

// plain is AUTH PLAIN (RFC 5034 section 4).
func (d *pop3Dialogue) plain(name, password string) (pop3Reply, error) {
	message := plainMessage(name, password)
	if command := "AUTH PLAIN " + message + "\r\n"; len(command) <= maxPOP3Initial {
		return d.tell(command)
	}
	if err := d.write("AUTH PLAIN\r\n"); err != nil {
		return pop3Reply{}, err
	}
	line, err := d.text()
	if err != nil {
		return pop3Reply{}, err
	}
	if !strings.HasPrefix(line, "+ ") && line != "+" {
		return pop3Reply{}, fmt.Errorf("the server says: %s", d.quote(line))
	}
	return d.tell(message + "\r\n")
}

// userPass is USER and PASS (RFC 1939 section 7).
func (d *pop3Dialogue) userPass(name, password string) (pop3Reply, error) {
	if strings.ContainsAny(name+password, "\r\n") {
		return pop3Reply{}, errors.New("the server offers no SASL PLAIN, and PASS cannot carry a line end")
	}
	reply, err := d.ask("USER " + name)
	if err != nil || !reply.ok {
		return reply, err // the server does not know the name
	}
	return d.tell("PASS " + password + "\r\n")
}

// tell sends data that contains the password, and reads the reply.
func (d *pop3Dialogue) tell(secret string) (pop3Reply, error) {
	if err := d.writeSecret(secret); err != nil {
		return pop3Reply{}, err
	}
	return d.reply()
}

// judgePOP3 returns the meaning of a reply to complete credentials for the rules. From
// a server with AUTH-RESP-CODE (RFC 3206) only [AUTH] means "these credentials are
// wrong"; from another server an -ERR without a code means it. Such a server also sends
// that for a maildrop that another session has locked (RFC 1939 section 7):
// NotCredentialPatterns match its text.
func (s *Server) judgePOP3(reply pop3Reply, offered Capabilities) auth.Answer {
	otherwise := auth.Answer{Judgement: auth.RefusedOtherwise, Code: reply.code}
	if !reply.known || reply.code == "" || reply.code == "AUTH" || reply.code == "SYS/TEMP" {
		otherwise = auth.Answer{Judgement: auth.Unreached}
	}
	wrong := reply.known && (reply.code == "AUTH" || reply.code == "" && !offered.Has("AUTH-RESP-CODE"))
	return s.judge(reply.line, reply.ok, wrong, otherwise)
}

// pop3Reply is one reply line of the server.
type pop3Reply struct {
	ok    bool
	known bool   // is +OK or -ERR
	code  string // of an -ERR, in upper case (RFC 2449 section 8)
	line  string
}

// ask sends a command and reads the reply.
func (d *pop3Dialogue) ask(command string) (pop3Reply, error) {
	if err := d.write(command + "\r\n"); err != nil {
		return pop3Reply{}, err
	}
	return d.reply()
}

func (d *pop3Dialogue) reply() (pop3Reply, error) {
	d.step()
	line, err := d.text()
	if err != nil {
		return pop3Reply{}, err
	}
	r := pop3Reply{line: line}
	indicator, text, _ := strings.Cut(line, " ")
	switch strings.ToUpper(indicator) {
	case "+OK":
		r.ok, r.known = true, true
	case "-ERR":
		r.known = true
		if code, _, found := strings.Cut(text, "]"); found && strings.HasPrefix(code, "[") {
			r.code = strings.ToUpper(code[1:])
		}
	}
	return r, nil
}
