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

// Extensions are what a server says to EHLO (RFC 5321 section 4.1.1.1):
// keywords in upper case, each with its parameters.
type Extensions map[string]string

// Has reports whether the server has an extension.
func (e Extensions) Has(keyword string) bool { _, ok := e[keyword]; return ok }

// Size is the longest message that the server takes, in octets (RFC 1870
// section 4); 0 when it does not say.
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
// JudgedRight. The judgement is InDoubt exactly when the password was, or may
// have been, sent and no reply came; Again is set if that was over a spare connection. The error never has the password in it,
// even where the server repeats it.
//
// All of it is spoken here, octet by octet, rather than by go-smtp's client:
// that one sends "*" after a refusal, cannot say whether the password was on
// its way, and knows no XCLIENT. It takes over when the user is logged in.
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

// loginFor introduces the client and logs in. Unless that succeeds the connection is
// closed.
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

// ProbeSMTP connects, negotiates TLS and asks for the extensions, without
// logging in. The error is what would make every login fail.
func (s *Server) ProbeSMTP(ctx context.Context) (Extensions, error) {
	return s.ProbeSMTPFor(ctx, Client{})
}

// ProbeSMTPFor is ProbeSMTP as if a client were there, which only a PROXY header
// says. Postfix takes the header of nobody and still not that of everybody.
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

// noMechanism is why nobody can log in to a server that offers no AUTH of use. One
// that offers STARTTLS may offer more under TLS (RFC 4954 section 4).
func (d *smtpDialogue) noMechanism() error {
	if d.server.TLS == Plain && d.extensions.Has("STARTTLS") {
		return ErrWantsTLS
	}
	return errors.New("the server offers neither AUTH PLAIN nor AUTH LOGIN")
}

// smtpDialogue is the conversation with a server up to the login. Everything
// that the server can say is bounded.
type smtpDialogue struct {
	server *Server
	ctx    context.Context
	// tcp is closed when ctx ends; conn is the same, or TLS over it.
	tcp, conn net.Conn
	r         *bufio.Reader
	stop      func() bool

	extensions Extensions
	sent       bool     // the password is, perhaps, with the server
	hidden     []string // must not appear in errors
}

// openSMTP is openSMTPFor nobody, yet.
func (s *Server) openSMTP(ctx context.Context) (*smtpDialogue, error) {
	return s.openSMTPFor(ctx, Client{})
}

// openSMTPFor goes as far as a server that can be asked to log somebody in. Who
// the client is has not been said yet, but for a PROXY header.
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

// orCause adds to an error why the context has ended, if it has.
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
		// What was said before TLS must be forgotten (RFC 3207 section 4.2).
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

// smtpReaders are the readers of dialogues: a session that is logged in has none.
var smtpReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// close leaves out TLS's goodbye, which can take seconds when the server does not
// read.
func (d *smtpDialogue) close() {
	d.stop()
	d.tcp.Close()
	d.done()
}

// done gives the reader back. Nothing is read from it any more.
func (d *smtpDialogue) done() {
	d.r.Reset(nil)
	smtpReaders.Put(d.r)
	d.r = nil
}

// quit takes leave without waiting for an answer.
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
	// Whatever came with the reply was not protected and must not be taken for
	// something said under TLS (CVE-2021-33515 is this, the other way round).
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
		// "AUTH=PLAIN" is an old way to write "AUTH PLAIN".
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

// localName is what the gateway calls itself towards the server: its address, so
// that there is no name to be set up (RFC 5321 section 4.1.3, 4.1.4).
func (d *smtpDialogue) localName() string {
	local, ok := d.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	return "[" + smtpAddress(local.AddrPort().Addr()) + "]"
}

// smtpAddress writes an address as SMTP wants it (RFC 5321 section 4.1.3;
// XCLIENT has the same form).
func smtpAddress(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		return "IPv6:" + address.String()
	}
	return address.String()
}

// introduce tells a server that offers Postfix's XCLIENT whom the gateway speaks
// for. Nothing but numbers is passed on, so nothing has to be escaped. LOGIN is
// not passed on: the server checks the password itself.
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
	// The session begins anew, with a greeting and a second EHLO.
	if err := d.expect(220); err != nil {
		return err
	}
	return d.ehlo()
}

// maxAuthLine is how long a command may be (RFC 5321 section 4.5.3.1.4), with an
// initial response as without (RFC 4954 section 4).
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
		// The name alone was enough to refuse: no password was judged.
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

// authLogin follows draft-murchison-sasl-login: what the challenges say is not
// looked at, their order is.
func (d *smtpDialogue) authLogin(name, password string) (smtpReply, error) {
	for _, line := range []string{"AUTH LOGIN", base64.StdEncoding.EncodeToString([]byte(name))} {
		reply, err := d.ask(line)
		if err != nil || reply.code != 334 {
			return reply, err
		}
	}
	return d.askSecret(base64.StdEncoding.EncodeToString([]byte(password)))
}

// judgeSMTP says what the reply to complete credentials means for the rules
// (RFC 4954 section 6). Only 535 says that the credentials are wrong.
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

// quote makes something that the server said fit for an error.
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

// askSecret is ask for a password. It has been sent unless nothing of it could be
// written: TLS writes it in one record, of which a part is of no use to anybody.
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

// maxReplyLines bounds a reply; its lines are bounded by the buffer of d.r, 4096
// octets, where 512 are allowed (RFC 5321 section 4.5.3.1.5).
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
