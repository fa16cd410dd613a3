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

	"github.com/emersion/go-imap/v2"
)

// imapDialogue is the conversation with a server up to the login. Everything that the
// server can send is limited: a faulty mail server may cost one login, not the gateway.
type imapDialogue struct {
	server *Server
	ctx    context.Context
	conn   net.Conn
	r      *bufio.Reader
	// stop ends the watch over ctx and reports whether ctx was still active.
	stop func() bool

	tags   int
	queued []byte // commands to write together
	room   int    // octets that the server may still send

	caps         imap.CapSet // nil: unknown
	capabilities string

	idTag string // tag of an ID command that is not answered yet
	sent  bool   // the server has, or may have, the credentials
	keep  bool   // untagged responses are for the client from now on
	// hasCapabilities: untagged contains the server's capabilities.
	hasCapabilities bool
	asking          bool
	untagged        []byte

	hidden []string // must not appear in errors
}

const (
	maxIMAPLine = 64 << 10
	maxIMAPTalk = 256 << 10 // all data from the server until the login is complete
)

var (
	errLongLine = errors.New("the server's line is too long")
	errTalk     = errors.New("the server talks too much")
)

func newIMAPDialogue(ctx context.Context, s *Server, conn net.Conn) *imapDialogue {
	d := &imapDialogue{server: s, ctx: ctx, room: maxIMAPTalk}
	d.use(conn)
	return d
}

// use continues the dialogue over conn.
func (d *imapDialogue) use(conn net.Conn) {
	if d.stop != nil {
		d.stop()
	}
	d.conn = conn
	d.watch()
	if d.r == nil {
		// Each login has a dialogue; longer lines need a few more reads.
		d.r = bufio.NewReaderSize(conn, 1<<10)
	} else {
		d.r.Reset(conn)
	}
}

// watch ends every step when the context ends.
func (d *imapDialogue) watch() {
	conn := d.conn
	d.stop = context.AfterFunc(d.ctx, func() { conn.SetDeadline(past) })
}

// pause implements dialogue.
func (d *imapDialogue) pause() bool { return d.stop() && d.conn.SetDeadline(time.Time{}) == nil }

// resume implements dialogue.
func (d *imapDialogue) resume(ctx context.Context) {
	d.ctx = ctx
	d.watch()
}

// unchanged implements dialogue.
func (d *imapDialogue) unchanged() bool { return d.r.Buffered() == 0 && silent(d.conn) }

// quit logs out without waiting for an answer.
func (d *imapDialogue) quit() {
	d.conn.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(d.conn, "bye LOGOUT\r\n")
	d.close()
}

var past = time.Unix(1, 0)

// step starts a step and its time limit.
func (d *imapDialogue) step() {
	d.conn.SetDeadline(time.Now().Add(d.server.step()))
	if d.ctx.Err() != nil {
		d.conn.SetDeadline(past)
	}
}

func (d *imapDialogue) close() {
	d.stop()
	d.conn.Close()
}

// release gives the connection away, without a deadline.
func (d *imapDialogue) release() error {
	if !d.stop() {
		return context.Cause(d.ctx)
	}
	if err := d.conn.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("after login: %w", err)
	}
	return nil
}

// hide keeps these texts out of errors, should the server repeat them.
func (d *imapDialogue) hide(texts ...string) { d.hidden = append(d.hidden, texts...) }

// quote makes a text of the server safe for an error.
func (d *imapDialogue) quote(said string) string {
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

// queue queues a command and returns its tag.
func (d *imapDialogue) queue(command string) (tag string) {
	d.tags++
	tag = "g" + strconv.Itoa(d.tags)
	d.queued = append(d.queued, tag+" "+command+"\r\n"...)
	return tag
}

// flush writes the queued commands at once.
func (d *imapDialogue) flush() error {
	queued := d.queued
	d.queued = nil
	return d.write(string(queued))
}

// flushSecret is flush for a password. It counts as sent unless nothing could be
// written: TLS writes it in one record, and part of a record is useless to the server.
func (d *imapDialogue) flushSecret() error {
	queued := d.queued
	d.queued = nil
	d.step()
	n, err := d.conn.Write(queued)
	d.sent = n > 0 || err == nil
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func (d *imapDialogue) write(s string) error {
	d.step()
	if _, err := io.WriteString(d.conn, s); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// ask sends a command and waits for its answer.
func (d *imapDialogue) ask(command string) (imapStatus, error) {
	d.asking = true
	defer func() { d.asking = false }()
	tag := d.queue(command)
	if err := d.flush(); err != nil {
		return imapStatus{}, err
	}
	return d.await(tag)
}

// await reads up to the tagged answer.
func (d *imapDialogue) await(tag string) (imapStatus, error) {
	answer, goOn, err := d.next(tag)
	if err == nil && goOn {
		err = errors.New("the server asks for more than there is")
	}
	return answer, err
}

// flushAndContinue writes the queued commands and waits for the server's "+" (RFC 9051
// section 7.6). A tagged answer is an error: no credentials were sent.
func (d *imapDialogue) flushAndContinue(tag string) error {
	if err := d.flush(); err != nil {
		return err
	}
	answer, goOn, err := d.next(tag)
	if err == nil && !goOn {
		err = fmt.Errorf("the server says: %s", d.quote(answer.String()))
	}
	return err
}

// next reads up to the tagged answer or a continuation request.
func (d *imapDialogue) next(tag string) (answer imapStatus, goOn bool, err error) {
	d.step()
	for {
		r, err := d.response()
		if err != nil {
			return answer, false, err
		}
		status, isStatus := parseStatus(r)
		switch {
		case r.tag == "+" && d.idTag == "":
			return answer, true, nil
		case r.tag == "*":
			if isStatus && status.kind == imap.StatusResponseTypeBye {
				return answer, false, fmt.Errorf("the server hangs up: %s", d.quote(status.text))
			}
			if isStatus && status.kind == imap.StatusResponseTypeBad && !d.keep && d.server.PassClient == PassPROXY {
				// Not the tag of a command: there is no answer to wait for.
				return answer, false, fmt.Errorf("the server does not understand: %s", d.quote(status.String()))
			}
			d.note(r, status, isStatus)
		case r.tag == tag && isStatus:
			return status, false, nil
		case r.tag == d.idTag && isStatus:
			d.idTag = "" // any result: nothing depends on it
		default:
			return answer, false, fmt.Errorf("unexpected response %s", d.quote(r.String()))
		}
	}
}

// note handles an untagged response.
func (d *imapDialogue) note(r imapResponse, status imapStatus, isStatus bool) {
	keyword, list, _ := strings.Cut(r.rest, " ")
	capability := strings.EqualFold(keyword, string(codeCapability))
	switch {
	case capability:
		d.setCaps(list)
	case isStatus && status.code == codeCapability:
		d.learn(status)
		capability = true
	}
	if !d.keep || d.idTag != "" || capability && d.asking {
		return
	}
	d.hasCapabilities = d.hasCapabilities || capability
	d.untagged = append(d.untagged, r.raw...)
}

// learn reads the capabilities from a status response that contains them.
func (d *imapDialogue) learn(status imapStatus) {
	if status.code == codeCapability {
		d.setCaps(status.arg)
	}
}

func (d *imapDialogue) setCaps(list string) {
	d.capabilities, d.caps = list, make(imap.CapSet)
	for name := range strings.FieldsSeq(list) {
		name = strings.ToUpper(name)
		switch name { // in go-imap's spelling
		case "IMAP4REV1":
			name = string(imap.CapIMAP4rev1)
		case "IMAP4REV2":
			name = string(imap.CapIMAP4rev2)
		}
		d.caps[imap.Cap(name)] = struct{}{}
	}
}

// imapResponse is one response: a line or, with literals, several.
type imapResponse struct {
	raw  []byte
	tag  string // "*", "+" or a tag
	rest string // the rest of the first line
}

func (r imapResponse) String() string { return r.tag + " " + r.rest }

// response reads one response.
func (d *imapDialogue) response() (imapResponse, error) {
	raw, err := d.line(nil)
	if err != nil {
		return imapResponse{}, err
	}
	first := strings.TrimRight(string(raw), "\r\n")
	tag, rest, _ := strings.Cut(first, " ")
	r := imapResponse{tag: tag, rest: rest}
	_, isStatus := parseStatus(r)
	last := first
	for tag == "*" && !isStatus {
		n, ok := endsInLiteral(last)
		if !ok {
			break
		}
		if n > d.room {
			return r, errTalk
		}
		d.room -= n
		start := len(raw)
		raw = append(raw, make([]byte, n)...)
		if _, err := io.ReadFull(d.r, raw[start:]); err != nil {
			return r, fmt.Errorf("read: %w", err)
		}
		start = len(raw)
		if raw, err = d.line(raw); err != nil {
			return r, err
		}
		last = strings.TrimRight(string(raw[start:]), "\r\n")
	}
	r.raw = raw
	return r, nil
}

// line reads a line and appends it to buf.
func (d *imapDialogue) line(buf []byte) ([]byte, error) {
	start := len(buf)
	for {
		part, err := d.r.ReadSlice('\n')
		buf = append(buf, part...)
		if d.room -= len(part); d.room < 0 {
			return buf, errTalk
		}
		switch {
		case len(buf)-start > maxIMAPLine:
			return buf, errLongLine
		case err == nil:
			return buf, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return buf, fmt.Errorf("read: %w", err)
		}
	}
}

// endsInLiteral finds the size of the literal that a line announces (RFC 9051
// section 4.3).
func endsInLiteral(line string) (n int, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	size, err := strconv.ParseUint(line[open+1:len(line)-1], 10, 31)
	return int(size), err == nil
}

// codeCapability is a response code (RFC 9051 section 7.1) and, as a keyword, a
// response (section 7.2.2).
const codeCapability imap.ResponseCode = "CAPABILITY"

// imapStatus is a status response (RFC 9051 section 7.1).
type imapStatus struct {
	kind imap.StatusResponseType
	code imap.ResponseCode // in upper case
	arg  string            // of the code
	text string
	line string // the whole line without the tag
}

func (s imapStatus) String() string { return s.line }

func parseStatus(r imapResponse) (imapStatus, bool) {
	kind, text, _ := strings.Cut(r.rest, " ")
	s := imapStatus{kind: imap.StatusResponseType(strings.ToUpper(kind)), text: text, line: r.rest}
	switch s.kind {
	case imap.StatusResponseTypeOK, imap.StatusResponseTypeNo, imap.StatusResponseTypeBad,
		imap.StatusResponseTypeBye, imap.StatusResponseTypePreAuth:
	default:
		return imapStatus{}, false
	}
	if code, after, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(code, "[") {
		name, arg, _ := strings.Cut(code[1:], " ")
		s.code, s.arg = imap.ResponseCode(strings.ToUpper(name)), arg
		s.text = strings.TrimPrefix(after, " ")
	}
	return s, true
}
