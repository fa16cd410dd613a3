package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

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
func (s *Server) LoginSMTP(ctx context.Context, name auth.Name, password auth.Secret, c Client) (*SMTPConn, auth.Answer) {
	ctx, cancel := context.WithTimeout(ctx, 3*s.step())
	defer cancel()
	login, secret, err := s.credentials(name, password)
	if err != nil {
		return nil, unreached(err)
	}
	return loginOver(ctx, s, &s.smtpSpares, c, s.openSMTP, func(d *smtpDialogue) (*SMTPConn, auth.Answer) { return d.loginFor(c, login, secret) })
}

// loginFor introduces the client and logs in. If that fails, it closes the connection.
func (d *smtpDialogue) loginFor(c Client, login, secret string) (*SMTPConn, auth.Answer) {
	if d.server.PassClient == PassXCLIENT && c.Address.IsValid() {
		if err := d.introduce(c); err != nil {
			d.close()
			return nil, unreached(fmt.Errorf("XCLIENT: %w", err))
		}
	}
	d.hide(login, secret)
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
	d, err := s.openSMTP(ctx, client)
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

// smtpDialogue is the conversation with a server up to the login.
type smtpDialogue struct {
	talk
	extensions Extensions
	ok         smtpReply // to the correct credentials
}

const (
	maxSMTPLine = 4 << 10   // of the 512 octets that are allowed (RFC 5321 section 4.5.3.1.5)
	maxSMTPTalk = 256 << 10 // all that a server may say until the login is done
	// maxReplyLines bounds a reply.
	maxReplyLines = 100
)

// openSMTP opens a connection up to the point where a login is possible. Only a PROXY
// header has named the client so far.
func (s *Server) openSMTP(ctx context.Context, client Client) (*smtpDialogue, error) {
	conn, err := s.connect(ctx, client)
	if err != nil {
		return nil, err
	}
	d := &smtpDialogue{talk: converse(ctx, s, conn, maxSMTPLine, maxSMTPTalk)}
	if err := d.open(); err != nil {
		d.close()
		return nil, s.afterHeader(err)
	}
	return d, nil
}

// quit implements dialogue.
func (d *smtpDialogue) quit() { d.leave("QUIT") }

func (d *smtpDialogue) open() error {
	if err := d.expect(220); err != nil { // RFC 5321 section 3.1
		return d.noGreeting(err)
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

func (d *smtpDialogue) startTLS() error {
	if !d.extensions.Has("STARTTLS") {
		return ErrNoStartTLS
	}
	if err := d.write("STARTTLS\r\n"); err != nil {
		return err
	}
	if err := d.expect(220); err != nil {
		return err
	}
	return d.handshake()
}

func (d *smtpDialogue) ehlo() error {
	reply, err := d.ask("EHLO " + d.localName())
	if err == nil && reply.code != 250 {
		err = errors.New(d.quote(reply.String()))
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
	if err := d.write(command + "\r\n"); err != nil {
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
	case err != nil:
		return d.undecided(fmt.Errorf("log in: %w", err))
	case !d.sent && reply.code == 535:
		// The server refused the name alone: it judged no password.
		return d.judged(auth.Answer{Judgement: auth.RefusedOtherwise}, reply.String())
	case !d.sent:
		return d.judged(auth.Answer{Judgement: auth.Unreached}, reply.String())
	}
	d.ok = reply
	return d.judged(d.server.judgeSMTP(reply), reply.String())
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
func (s *Server) judgeSMTP(reply smtpReply) auth.Answer {
	otherwise := auth.Answer{Judgement: auth.Unreached}
	if reply.code >= 500 {
		otherwise.Judgement = auth.RefusedOtherwise
	}
	return s.judge(reply.String(), reply.code == 235, reply.code == 535, otherwise)
}

// smtpReply is one reply, of one line or more (RFC 5321 section 4.2.1).
type smtpReply struct {
	code  int
	lines []string // without the code
}

// raw is the reply as it is on the wire.
func (r smtpReply) raw() string {
	var b strings.Builder
	for i, line := range r.lines {
		between := "-"
		if i == len(r.lines)-1 {
			between = " "
		}
		fmt.Fprintf(&b, "%d%s%s\r\n", r.code, between, line)
	}
	return b.String()
}

func (r smtpReply) String() string { return fmt.Sprintf("%d %s", r.code, strings.Join(r.lines, "\n")) }

func (d *smtpDialogue) ask(line string) (smtpReply, error) {
	if err := d.write(line + "\r\n"); err != nil {
		return smtpReply{}, err
	}
	return d.reply()
}

// askSecret is ask for a password.
func (d *smtpDialogue) askSecret(line string) (smtpReply, error) {
	if err := d.writeSecret(line + "\r\n"); err != nil {
		return smtpReply{}, err
	}
	return d.reply()
}

// expect reads a reply that must have the code.
func (d *smtpDialogue) expect(code int) error {
	reply, err := d.reply()
	if err == nil && reply.code != code {
		err = d.said(reply.String())
	}
	return err
}

func (d *smtpDialogue) reply() (reply smtpReply, err error) {
	d.step()
	for len(reply.lines) < maxReplyLines {
		line, err := d.text()
		if err != nil {
			return reply, fmt.Errorf("read reply: %w", err)
		}
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
	return reply, errTalk
}
