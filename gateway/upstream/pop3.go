package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
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
	login, secret := s.LoginName(name), password.Reveal()
	if strings.ContainsRune(secret, 0) || strings.ContainsRune(login, 0) { // RFC 4616 section 2
		return nil, unreached(errors.New("a NUL in the name or the password"))
	}
	d, err := s.openPOP3(ctx, c)
	if err != nil {
		return nil, unreached(err)
	}
	d.hidden = []string{secret, plainMessage(login, secret)}
	conn, answer := d.login(login, secret)
	if conn == nil {
		d.close()
		return nil, answer
	}
	if !d.stop() || conn.SetDeadline(time.Time{}) != nil {
		conn.Close()
		return nil, unreached(errors.New("after login: the time is over"))
	}
	return conn, answer
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
	defer d.close()
	d.write("QUIT\r\n")
	return d.capabilities, d.mechanism()
}

// pop3Dialogue is the conversation with a server up to the login. Everything that the
// server can send is limited.
type pop3Dialogue struct {
	server *Server
	ctx    context.Context
	conn   net.Conn
	r      *bufio.Reader
	stop   func() bool
	room   int // octets that the server may still send

	capabilities Capabilities // nil: the server does not know CAPA
	sent         bool         // the server has, or may have, the password
	hidden       []string     // must not appear in errors
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
	d := &pop3Dialogue{server: s, ctx: ctx, conn: conn, r: bufio.NewReaderSize(conn, 1<<10), room: maxPOP3Talk}
	d.watch()
	if err := d.open(); err != nil {
		d.close()
		return nil, s.afterHeader(err)
	}
	return d, nil
}

// watch ends every step when the context ends.
func (d *pop3Dialogue) watch() {
	conn := d.conn
	d.stop = context.AfterFunc(d.ctx, func() { conn.SetDeadline(past) })
}

func (d *pop3Dialogue) open() error {
	reply, err := d.reply() // RFC 1939 section 4
	switch {
	case err != nil:
		return fmt.Errorf("read greeting: %w", err)
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
	// Data from before the handshake was not protected by it (CVE-2011-0411).
	if d.r.Buffered() > 0 {
		return errors.New("the server, or somebody in between, sent more before the handshake")
	}
	d.step()
	secured, err := d.server.secure(d.ctx, d.conn)
	if err != nil {
		return err
	}
	d.stop()
	d.conn = secured
	d.watch()
	d.r.Reset(secured)
	return nil
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
		line, err := d.line()
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
func (d *pop3Dialogue) login(name, password string) (*POP3Conn, auth.Answer) {
	if err := d.mechanism(); err != nil {
		return nil, unreached(err)
	}
	send := d.userPass
	if d.capabilities.mechanism("PLAIN") {
		send = d.plain
	}
	reply, err := send(name, password)
	switch {
	case err != nil && d.sent:
		return nil, auth.Answer{Judgement: auth.InDoubt, Err: fmt.Errorf("log in: %w", err)}
	case err != nil:
		return nil, unreached(fmt.Errorf("log in: %w", err))
	}
	if answer := d.server.judgePOP3(reply, d.capabilities); answer.Judgement != auth.JudgedRight {
		answer.Err = fmt.Errorf("the mail server says: %s", d.quote(reply.line))
		return nil, answer
	}
	ahead, _ := d.r.Peek(d.r.Buffered())
	return &POP3Conn{Conn: d.conn, Ahead: append([]byte(nil), ahead...), OK: reply.line}, auth.Answer{Judgement: auth.JudgedRight}
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
	line, err := d.line()
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

// tell sends a line with the password and reads the reply. The line counts as sent
// unless nothing of it could be written.
func (d *pop3Dialogue) tell(secret string) (pop3Reply, error) {
	d.step()
	n, err := io.WriteString(d.conn, secret)
	d.sent = n > 0 || err == nil
	if err != nil {
		return pop3Reply{}, fmt.Errorf("write: %w", err)
	}
	return d.reply()
}

// judgePOP3 returns the meaning of a reply to complete credentials for the rules. From
// a server with AUTH-RESP-CODE (RFC 3206) only [AUTH] means "these credentials are
// wrong"; from another server an -ERR without a code means it. Such a server also sends
// that for a maildrop that another session has locked (RFC 1939 section 7):
// NotCredentialPatterns match its text.
func (s *Server) judgePOP3(reply pop3Reply, offered Capabilities) auth.Answer {
	if reply.ok {
		return auth.Answer{Judgement: auth.JudgedRight}
	}
	wrong := reply.known && (reply.code == "AUTH" || reply.code == "" && !offered.Has("AUTH-RESP-CODE")) || matches(s.CredentialPatterns, reply.line)
	if matches(s.NotCredentialPatterns, reply.line) {
		wrong = false
	}
	switch {
	case wrong:
		return auth.Answer{Judgement: auth.JudgedWrong}
	case !reply.known, reply.code == "", reply.code == "AUTH", reply.code == "SYS/TEMP":
		return auth.Answer{Judgement: auth.Unreached}
	}
	return auth.Answer{Judgement: auth.RefusedOtherwise, Code: reply.code}
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
	line, err := d.line()
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

// line reads a line, without its end.
func (d *pop3Dialogue) line() (string, error) {
	var line []byte
	for {
		part, err := d.r.ReadSlice('\n')
		line = append(line, part...)
		d.room -= len(part)
		switch {
		case d.room < 0:
			return "", errTalk
		case len(line) > maxPOP3Line:
			return "", errLongLine
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", fmt.Errorf("read: %w", err)
		}
	}
}

func (d *pop3Dialogue) write(s string) error {
	d.step()
	if _, err := io.WriteString(d.conn, s); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// step starts a step and its time limit.
func (d *pop3Dialogue) step() {
	d.conn.SetDeadline(time.Now().Add(d.server.step()))
	if d.ctx.Err() != nil {
		d.conn.SetDeadline(past)
	}
}

func (d *pop3Dialogue) close() {
	d.stop()
	d.conn.Close()
}

// quote makes a text of the server safe for an error.
func (d *pop3Dialogue) quote(said string) string {
	for _, text := range d.hidden {
		if text != "" {
			said = strings.ReplaceAll(said, text, "***")
		}
	}
	if len(said) > 200 {
		said = said[:200] + "..."
	}
	return strconv.QuoteToASCII(said)
}
