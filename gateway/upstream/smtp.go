package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"congthu/auth"
)

// Extensions are a server's reply to EHLO (RFC 5321 section 4.1.1.1): keywords in upper
// case, each with its parameters.
type Extensions map[string]string

// Has reports whether the server has an extension.
func (e Extensions) Has(keyword string) bool { _, ok := e[keyword]; return ok }

// Size returns the largest message that the server accepts, in octets (RFC 1870 section
// 4); 0 if it does not say.
func (e Extensions) Size() int64 {
	size, err := strconv.ParseInt(e["SIZE"], 10, 64)
	if err != nil || size < 0 {
		return 0
	}
	return size
}

// mechanism reports whether the server offers a SASL mechanism.
func (e Extensions) mechanism(name string) bool {
	for offered := range strings.FieldsSeq(e["AUTH"]) {
		if strings.EqualFold(offered, name) {
			return true
		}
	}
	return false
}

// LoginSMTP logs in at the server. The connection is nil unless the password was
// JudgedRight. The judgement is InDoubt exactly if the password was, or may have been,
// sent and no reply came; Again is set if that was over a spare connection. The error
// never contains the password, even if the server repeats it.
//
// The dialogue is written here rather than with go-smtp's client, which sends "*" after
// a refusal, cannot report whether the password was sent, and does not support XCLIENT.
// That client takes over after the login.
func (s *Server) LoginSMTP(ctx context.Context, name auth.Name, password auth.Secret, c Client) (*SMTPConn, auth.Answer) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	login, secret := s.LoginName(name), password.Reveal()
	// PLAIN cannot carry a NUL (RFC 4616 section 2).
	if strings.ContainsRune(secret, 0) || strings.ContainsRune(login, 0) {
		return nil, unreached(errors.New("a NUL in the name or the password"))
	}
	defer s.smtpSpares.refill(s.spare(), s.openSMTP, s.Panicked)
	over := func(d *smtpDialogue) (*SMTPConn, auth.Answer) { return d.loginFor(c, login, secret) }
	if !c.Fresh {
		if conn, answer, done := loginOverSpare(ctx, &s.smtpSpares, over); done {
			return conn, answer
		}
	}
	d, err := s.openSMTPFor(ctx, c)
	if err != nil {
		return nil, unreached(err)
	}
	return over(d)
}

// loginFor introduces the client and logs in. If that fails, it closes the connection.
func (d *smtpDialogue) loginFor(c Client, login, secret string) (*SMTPConn, auth.Answer) {
	if d.server.PassClient == PassXCLIENT && c.Address.IsValid() {
		if err := d.introduce(c); err != nil {
			d.close()
			return nil, unreached(d.orCause(fmt.Errorf("XCLIENT: %w", err)))
		}
	}
	d.hidden = []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), plainMessage(login, secret)}
	answer := d.login(login, secret)
	if answer.Judgement != auth.JudgedRight {
		d.quit()
		return nil, answer
	}
	conn, err := d.release()
	if err != nil {
		d.close()
		return nil, unreached(fmt.Errorf("after login: %w", err))
	}
	return conn, answer
}

// ProbeSMTP connects, negotiates TLS and asks for the extensions, without logging in.
// Its error is one that would make every login fail.
func (s *Server) ProbeSMTP(ctx context.Context) (Extensions, error) {
	return s.ProbeSMTPFor(ctx, Client{})
}

// ProbeSMTPFor is ProbeSMTP for a given client, which only a PROXY header names.
// Postfix may accept a header without a client and still refuse certain clients.
func (s *Server) ProbeSMTPFor(ctx context.Context, client Client) (Extensions, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	d, err := s.openSMTPFor(ctx, client)
	if err != nil {
		return nil, err
	}
	defer d.quit()
	if !d.extensions.mechanism("PLAIN") && !d.extensions.mechanism("LOGIN") {
		return nil, d.noMechanism()
	}
	return d.extensions, nil
}

// noMechanism explains why no login is possible at a server without a usable AUTH. A
// server that offers STARTTLS may offer more under TLS (RFC 4954 section 4).
func (d *smtpDialogue) noMechanism() error {
	if d.server.TLS == Plain && d.extensions.Has("STARTTLS") {
		return ErrWantsTLS
	}
	return errors.New("the server offers neither AUTH PLAIN nor AUTH LOGIN")
}

// smtpDialogue is the conversation with a server up to the login. Everything that the
// server can send is limited.
type smtpDialogue struct {
	server *Server
	ctx    context.Context
	// tcp is closed when ctx ends; conn is tcp, or TLS over it.
	tcp, conn net.Conn
	r         *bufio.Reader
	stop      func() bool

	extensions Extensions
	sent       bool     // the server has, or may have, the password
	hidden     []string // must not appear in errors
}

// openSMTP opens a connection that is not for a particular client.
func (s *Server) openSMTP(ctx context.Context) (*smtpDialogue, error) {
	return s.openSMTPFor(ctx, Client{})
}

// openSMTPFor opens a connection up to the point where a login is possible. Only a
// PROXY header has named the client so far.
func (s *Server) openSMTPFor(ctx context.Context, client Client) (*smtpDialogue, error) {
	conn, err := s.connect(ctx, client)
	if err != nil {
		return nil, err
	}
	d := &smtpDialogue{server: s, ctx: ctx, tcp: conn}
	if secured, ok := conn.(*tls.Conn); ok {
		d.tcp = secured.NetConn()
	}
	d.use(conn)
	d.watch()
	if err := d.open(); err != nil {
		d.close()
		return nil, s.afterHeader(d.orCause(err))
	}
	return d, nil
}

// watch closes the connection when the context ends.
func (d *smtpDialogue) watch() {
	d.stop = context.AfterFunc(d.ctx, func() { d.tcp.Close() })
}

// orCause adds the cause of the context's end to an error, if it has ended.
func (d *smtpDialogue) orCause(err error) error {
	if cause := context.Cause(d.ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// pause implements dialogue.
func (d *smtpDialogue) pause() bool { return d.stop() && d.conn.SetDeadline(time.Time{}) == nil }

// resume implements dialogue.
func (d *smtpDialogue) resume(ctx context.Context) {
	d.ctx = ctx
	d.watch()
}

// unchanged implements dialogue.
func (d *smtpDialogue) unchanged() bool { return d.r.Buffered() == 0 && silent(d.conn) }

func (d *smtpDialogue) open() error {
	if err := d.expect(220); err != nil { // RFC 5321 section 3.1
		return fmt.Errorf("read greeting: %w", err)
	}
	if err := d.ehlo(); err != nil {
		return err
	}
	if d.server.TLS == StartTLS {
		if err := d.startTLS(); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
		// Extensions from before TLS must be forgotten (RFC 3207 section 4.2).
		if err := d.ehlo(); err != nil {
			return err
		}
	}
	return nil
}

func (d *smtpDialogue) use(conn net.Conn) {
	d.conn = conn
	if d.r == nil {
		d.r = smtpReaders.Get().(*bufio.Reader)
	}
	d.r.Reset(conn)
}

// smtpReaders are the readers of dialogues: a logged-in session has none.
var smtpReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// close does not send TLS's close_notify, which can take seconds if the server does not
// read.
func (d *smtpDialogue) close() {
	d.stop()
	d.tcp.Close()
	d.done()
}

// done returns the reader. No later code reads from it.
func (d *smtpDialogue) done() {
	d.r.Reset(nil)
	smtpReaders.Put(d.r)
	d.r = nil
}

// quit ends the session without waiting for an answer.
func (d *smtpDialogue) quit() {
	d.conn.SetDeadline(time.Now().Add(time.Second))
	d.conn.Write([]byte("QUIT\r\n"))
	d.close()
}

func (d *smtpDialogue) startTLS() error {
	if !d.extensions.Has("STARTTLS") {
		return ErrNoStartTLS
	}
	if err := d.write("STARTTLS"); err != nil {
		return err
	}
	if err := d.expect(220); err != nil {
		return err
	}
	// Data that came with the reply was not protected and must not count as sent under
	// TLS (CVE-2021-33515 is the opposite direction).
	if d.r.Buffered() > 0 {
		return errors.New("the server sent more than its reply before the handshake")
	}
	secured, err := d.server.secure(d.ctx, d.conn)
	if err != nil {
		return err
	}
	d.use(secured)
	return nil
}

func (d *smtpDialogue) ehlo() error {
	reply, err := d.ask("EHLO " + d.localName())
	if err == nil && reply.code != 250 {
		err = errors.New(d.quote(reply))
	}
	if err != nil {
		return fmt.Errorf("EHLO: %w", err)
	}
	d.extensions = make(Extensions)
	for _, line := range reply.lines[1:] {
		// "AUTH=PLAIN" is an old form of "AUTH PLAIN".
		if mechanisms, old := cutPrefixFold(line, "AUTH="); old {
			if !d.extensions.Has("AUTH") {
				d.extensions["AUTH"] = mechanisms
			}
			continue
		}
		keyword, parameters, _ := strings.Cut(line, " ")
		d.extensions[strings.ToUpper(keyword)] = parameters
	}
	return nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// localName is the gateway's name towards the server: its address, so that no name has
// to be configured (RFC 5321 section 4.1.3, 4.1.4).
func (d *smtpDialogue) localName() string {
	local, ok := d.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	return "[" + smtpAddress(local.AddrPort().Addr()) + "]"
}

// smtpAddress formats an address for SMTP (RFC 5321 section 4.1.3; XCLIENT uses the
// same form).
func smtpAddress(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return "IPv6:" + address.String()
	}
	return address.String()
}

// introduce passes the client to a server that offers Postfix's XCLIENT. It passes
// numbers only, so no escaping is needed. It does not pass LOGIN: the server checks the
// password itself.
func (d *smtpDialogue) introduce(c Client) error {
	offered := strings.Fields(strings.ToUpper(d.extensions["XCLIENT"]))
	has := func(attribute string) bool {
		for _, o := range offered {
			if o == attribute {
				return true
			}
		}
		return false
	}
	if !has("ADDR") {
		return nil
	}
	command := "XCLIENT ADDR=" + strings.ToUpper(smtpAddress(c.Address.Addr()))
	if has("PORT") && c.Address.Port() != 0 {
		command += " PORT=" + strconv.Itoa(int(c.Address.Port()))
	}
	if has("PROTO") {
		command += " PROTO=ESMTP"
	}
	if err := d.write(command); err != nil {
		return err
	}
	// The session starts again, with a greeting and a second EHLO.
	if err := d.expect(220); err != nil {
		return err
	}
	return d.ehlo()
}

// maxAuthLine is the maximum length of a command (RFC 5321 section 4.5.3.1.4), also
// with an initial response (RFC 4954 section 4).
const maxAuthLine = 512

// login sends the credentials.
func (d *smtpDialogue) login(name, password string) auth.Answer {
	var reply smtpReply
	var err error
	switch {
	case d.extensions.mechanism("PLAIN"):
		reply, err = d.authPlain(plainMessage(name, password))
	case d.extensions.mechanism("LOGIN"):
		reply, err = d.authLogin(name, password)
	default:
		err = d.noMechanism()
	}
	switch {
	case err != nil && d.sent:
		return auth.Answer{Judgement: auth.InDoubt, Err: fmt.Errorf("log in: %w", err)}
	case err != nil:
		return unreached(fmt.Errorf("log in: %w", err))
	case !d.sent && reply.code == 535:
		// The server refused the name alone: it judged no password.
		return auth.Answer{Judgement: auth.RefusedOtherwise, Err: d.said(reply)}
	case !d.sent:
		return unreached(d.said(reply))
	}
	answer := auth.Answer{Judgement: d.server.judgeSMTP(reply)}
	if answer.Judgement != auth.JudgedRight {
		answer.Err = d.said(reply)
	}
	return answer
}

func (d *smtpDialogue) said(reply smtpReply) error {
	return fmt.Errorf("the mail server says: %s", d.quote(reply))
}

func (d *smtpDialogue) authPlain(message string) (smtpReply, error) {
	if command := "AUTH PLAIN " + message; len(command)+2 <= maxAuthLine {
		return d.askSecret(command)
	}
	reply, err := d.ask("AUTH PLAIN")
	if err != nil || reply.code != 334 {
		return reply, err
	}
	return d.askSecret(message)
}

// authLogin follows draft-murchison-sasl-login: it uses the order of the challenges and
// ignores their text.
func (d *smtpDialogue) authLogin(name, password string) (smtpReply, error) {
	for _, line := range []string{"AUTH LOGIN", base64.StdEncoding.EncodeToString([]byte(name))} {
		reply, err := d.ask(line)
		if err != nil || reply.code != 334 {
			return reply, err
		}
	}
	return d.askSecret(base64.StdEncoding.EncodeToString([]byte(password)))
}

// judgeSMTP returns the meaning of the reply to complete credentials for the rules (RFC
// 4954 section 6). Only 535 means that the credentials are wrong.
func (s *Server) judgeSMTP(reply smtpReply) auth.Judgement {
	text := reply.String()
	wrong := reply.code == 535 || reply.code != 235 && matches(s.CredentialPatterns, text)
	if matches(s.NotCredentialPatterns, text) {
		wrong = false
	}
	switch {
	case reply.code == 235:
		return auth.JudgedRight
	case wrong:
		return auth.JudgedWrong
	case reply.code >= 500:
		return auth.RefusedOtherwise
	}
	return auth.Unreached
}

// smtpReply is one reply, of one line or more (RFC 5321 section 4.2.1).
type smtpReply struct {
	code  int
	lines []string // without the code
}

func (r smtpReply) String() string { return fmt.Sprintf("%d %s", r.code, strings.Join(r.lines, "\n")) }

// quote makes a text of the server safe for an error.
func (d *smtpDialogue) quote(r smtpReply) string {
	said := r.String()
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

func (d *smtpDialogue) write(line string) error {
	d.conn.SetDeadline(time.Now().Add(d.server.step()))
	if _, err := d.conn.Write([]byte(line + "\r\n")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (d *smtpDialogue) ask(line string) (smtpReply, error) {
	if err := d.write(line); err != nil {
		return smtpReply{}, err
	}
	return d.reply()
}

// askSecret is ask for a password. It counts as sent unless nothing could be written:
// TLS writes it in one record, and part of a record is useless to the server.
func (d *smtpDialogue) askSecret(line string) (smtpReply, error) {
	d.conn.SetDeadline(time.Now().Add(d.server.step()))
	n, err := d.conn.Write([]byte(line + "\r\n"))
	d.sent = n > 0 || err == nil
	if err != nil {
		return smtpReply{}, fmt.Errorf("write: %w", err)
	}
	return d.reply()
}

// expect reads a reply that must have the code.
func (d *smtpDialogue) expect(code int) error {
	reply, err := d.reply()
	if err == nil && reply.code != code {
		err = d.said(reply)
	}
	return err
}

// maxReplyLines limits the lines of a reply; the buffer of d.r limits each line to 4096
// octets, where RFC 5321 section 4.5.3.1.5 permits 512.
const maxReplyLines = 100

func (d *smtpDialogue) reply() (reply smtpReply, err error) {
	d.conn.SetReadDeadline(time.Now().Add(d.server.step()))
	for len(reply.lines) < maxReplyLines {
		raw, err := d.r.ReadSlice('\n')
		if err != nil {
			return reply, fmt.Errorf("read reply: %w", err)
		}
		line := strings.TrimRight(string(raw), "\r\n")
		if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return reply, errors.New("not an SMTP reply")
		}
		code, err := strconv.Atoi(line[:3])
		if err != nil || code < 200 || code > 599 || reply.code != 0 && code != reply.code {
			return reply, errors.New("not an SMTP reply")
		}
		reply.code = code
		if len(line) == 3 {
			line += " "
		}
		reply.lines = append(reply.lines, line[4:])
		if line[3] == ' ' {
			return reply, nil
		}
	}
	return reply, errors.New("the server talks too much")
}
