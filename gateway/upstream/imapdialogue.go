package upstream

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// imapDialogue is the conversation with a server up to the login.
type imapDialogue struct {
	talk

	tags   int
	queued []byte // commands to write together

	caps         imap.CapSet // nil: unknown
	capabilities string

	idTag string // tag of an ID command that is not answered yet
	keep  bool   // untagged responses are for the client from now on
	// hasCapabilities: untagged contains the server's capabilities.
	hasCapabilities bool
	asking          bool
	untagged        []byte
}

const (
	maxIMAPLine = 64 << 10
	maxIMAPTalk = 256 << 10 // all data from the server until the login is complete
)

// quit implements dialogue.
func (d *imapDialogue) quit() { d.leave("bye LOGOUT") }

// queue queues a command and returns its tag.
func (d *imapDialogue) queue(command string) (tag string) {
	d.tags++
	tag = "g" + strconv.Itoa(d.tags)
	d.queued = append(d.queued, tag+" "+command+"\r\n"...)
	return tag
}

// flush writes what is queued, at once.
func (d *imapDialogue) flush() error {
	queued := d.queued
	d.queued = nil
	return d.write(string(queued))
}

// flushSecret is flush for a password.
func (d *imapDialogue) flushSecret() error {
	queued := d.queued
	d.queued = nil
	return d.writeSecret(string(queued))
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
			return r, d.failed("read", err)
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
