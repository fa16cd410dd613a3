package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"congthu/auth"
)

// talk is the common part of the dialogues with a server up to the login. Everything
// that the server can send is limited: a faulty mail server may cost one login, not the
// gateway.
type talk struct {
	server *Server
	ctx    context.Context
	// tcp is below TLS; conn is the same, or TLS over it.
	tcp, conn net.Conn
	r         *bufio.Reader
	// stop ends the watch over ctx and reports whether ctx was still active.
	stop func() bool

	longest int      // octets of a line
	room    int      // octets that the server may still send
	sent    bool     // the server has, or may have, the password
	hidden  []string // must not appear in errors
}

var (
	errLongLine = errors.New("the server's line is too long")
	errTalk     = errors.New("the server talks too much")
	errNUL      = errors.New("a NUL in the name or the password")

	past = time.Unix(1, 0)
)

// readers are the readers of dialogues: a logged-in session has none. A longer line
// takes a few more reads.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1<<10) }}

// converse starts a dialogue with a server over a connection. Until the login is
// complete the server may send room octets, in lines of at most longest octets.
func converse(ctx context.Context, s *Server, conn net.Conn, longest, room int) talk {
	d := talk{server: s, ctx: ctx, longest: longest, room: room, stop: func() bool { return true }, tcp: conn}
	if secured, ok := conn.(*tls.Conn); ok {
		d.tcp = secured.NetConn()
	}
	d.r = readers.Get().(*bufio.Reader)
	d.use(conn)
	return d
}

// use continues over conn.
func (d *talk) use(conn net.Conn) {
	d.stop()
	d.conn = conn
	d.watch()
	d.r.Reset(conn)
}

// watch ends every step when the context does.
func (d *talk) watch() {
	conn := d.conn
	d.stop = context.AfterFunc(d.ctx, func() { conn.SetDeadline(past) })
}

// step starts a step and limits its time.
func (d *talk) step() {
	d.conn.SetDeadline(time.Now().Add(d.server.step()))
	if d.ctx.Err() != nil {
		d.conn.SetDeadline(past)
	}
}

// pause implements dialogue.
func (d *talk) pause() bool { return d.stop() && d.conn.SetDeadline(time.Time{}) == nil }

// resume implements dialogue.
func (d *talk) resume(ctx context.Context) {
	d.ctx = ctx
	d.watch()
}

// unchanged implements dialogue.
func (d *talk) unchanged() bool { return d.r.Buffered() == 0 && silent(d.conn) }

// leave ends the session with a command, without waiting for an answer. It does not
// send TLS's close_notify, which can take seconds if the server does not read.
func (d *talk) leave(command string) {
	d.stop()
	d.conn.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(d.conn, command+"\r\n")
	d.tcp.Close()
	d.done()
}

// close ends the dialogue and closes its connection.
func (d *talk) close() {
	d.stop()
	d.conn.Close()
	d.done()
}

// done returns the reader. No later code reads from it.
func (d *talk) done() {
	d.r.Reset(nil)
	readers.Put(d.r)
	d.r = nil
}

// giveAway ends the dialogue and leaves its connection open, without a deadline. ahead
// is data that was read after the server's last reply.
func (d *talk) giveAway() (ahead []byte, err error) {
	if !d.stop() {
		return nil, context.Cause(d.ctx)
	}
	if err := d.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	buffered, _ := d.r.Peek(d.r.Buffered())
	ahead = append(ahead, buffered...)
	d.done()
	return ahead, nil
}

// handshake completes a TLS handshake, which the server has agreed to.
func (d *talk) handshake() error {
	// Data from before the handshake was not protected by it, and must not count as sent
	// under TLS (CVE-2011-0411; CVE-2021-33515 is the opposite direction).
	if d.r.Buffered() > 0 {
		return errors.New("the server, or somebody in between, sent more before the handshake")
	}
	d.step()
	secured, err := d.server.secure(d.ctx, d.conn)
	if err != nil {
		return err
	}
	d.use(secured)
	return nil
}

func (d *talk) write(s string) error {
	d.step()
	if _, err := io.WriteString(d.conn, s); err != nil {
		return d.failed("write", err)
	}
	return nil
}

// writeSecret is write for a password. It counts as sent unless nothing could be
// written: TLS writes it in one record, and part of a record is useless to the server.
func (d *talk) writeSecret(s string) error {
	d.step()
	n, err := io.WriteString(d.conn, s)
	d.sent = n > 0 || err == nil
	if err != nil {
		return d.failed("write", err)
	}
	return nil
}

// line reads a line and appends it to buf.
func (d *talk) line(buf []byte) ([]byte, error) {
	start := len(buf)
	for {
		part, err := d.r.ReadSlice('\n')
		buf = append(buf, part...)
		if d.room -= len(part); d.room < 0 {
			return buf, errTalk
		}
		switch {
		case len(buf)-start > d.longest:
			return buf, errLongLine
		case err == nil:
			return buf, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return buf, d.failed("read", err)
		}
	}
}

// text reads a line, without its end.
func (d *talk) text() (string, error) {
	line, err := d.line(nil)
	return strings.TrimRight(string(line), "\r\n"), err
}

// failed returns the error of a step, with the cause of the context's end, if it has
// ended.
func (d *talk) failed(doing string, err error) error {
	if cause := context.Cause(d.ctx); cause != nil {
		return fmt.Errorf("%s: %w (%w)", doing, err, cause)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// hide keeps the password out of errors, even if the server repeats it.
func (d *talk) hide(name, password string) {
	// The longer forms first: they may end in the shorter ones.
	d.hidden = []string{plainMessage(name, password), base64.StdEncoding.EncodeToString([]byte(password)), password}
}

// quote makes a text of the server safe for an error.
func (d *talk) quote(said string) string {
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

// said returns the error of an unwanted reply.
func (d *talk) said(reply string) error {
	return fmt.Errorf("the mail server says: %s", d.quote(reply))
}

// undecided returns the answer if the server gave none.
func (d *talk) undecided(err error) auth.Answer {
	if d.sent {
		return auth.Answer{Judgement: auth.InDoubt, Err: err}
	}
	return unreached(err)
}

func unreached(err error) auth.Answer { return auth.Answer{Judgement: auth.Unreached, Err: err} }

// judged adds the text of the reply to an answer, unless the password is right.
func (d *talk) judged(answer auth.Answer, reply string) auth.Answer {
	if answer.Judgement != auth.JudgedRight {
		answer.Err = d.said(reply)
	}
	return answer
}

// judge returns the meaning of a reply to complete credentials for the rules. Only an
// explicit "these credentials are wrong" counts: by the protocol, or by the patterns of
// the configuration, which can also exclude a reply. Any other reply is otherwise.
func (s *Server) judge(reply string, right, wrong bool, otherwise auth.Answer) auth.Answer {
	switch {
	case right:
		return auth.Answer{Judgement: auth.JudgedRight}
	case (wrong || matches(s.CredentialPatterns, reply)) && !matches(s.NotCredentialPatterns, reply):
		return auth.Answer{Judgement: auth.JudgedWrong}
	}
	return otherwise
}

func matches(patterns []*regexp.Regexp, reply string) bool {
	for _, p := range patterns {
		if p.MatchString(reply) {
			return true
		}
	}
	return false
}

// credentials returns the name and the password for the server. Neither PLAIN (RFC 4616
// section 2) nor a literal of IMAP (RFC 9051 section 9, CHAR8) can contain a NUL.
func (s *Server) credentials(name auth.Name, password auth.Secret) (login, secret string, err error) {
	login, secret = s.LoginName(name), password.Reveal()
	if strings.ContainsRune(secret, 0) || strings.ContainsRune(login, 0) {
		err = errNUL
	}
	return login, secret, err
}

// plainMessage is the encoded message of RFC 4616 section 2, without an authorization
// identity.
func plainMessage(name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00" + password))
}

// noGreeting explains why a connection has no usable greeting. It names the server,
// since the connection itself was possible.
func (t *talk) noGreeting(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s accepts connections but says nothing within %.0f s: %w", t.server.Address, t.server.step().Seconds(), err)
	}
	return fmt.Errorf("read greeting of %s: %w", t.server.Address, err)
}
