package smtp

import (
	"bytes"
	"errors"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/smtp/wire"
)

// message is one that the client is sending.
type message struct {
	began  time.Time
	scan   wire.Body
	octets int64
	ended  bool  // the client has sent all of it
	lost   int64 // octets of it that were swallowed

	// held is what has come until the server has said 354, or until the header of a message
	// in chunks was checked.
	held     []byte
	searched int // where the end of the header is looked for, in held
	header   []byte
	checked  bool
	// opened: the server has octets of it. There are two ways out then: its end, or to close
	// the connection.
	opened bool

	// Of the chunk that is coming (RFC 3030).
	left     int64
	last     bool
	answered string // the reply to it, which is ours
	dropped  bool   // its octets are swallowed
	// refused is the server's reply to a piece of it.
	refused     string
	refusedCode int

	// failure is why nobody takes the message.
	failure *failure
}

// hold holds octets. Nearly all messages find room in a buffer that is borrowed.
func (m *message) hold(octets []byte) {
	if m.held == nil && len(octets) <= largeBuffer {
		m.held = borrow(largeBuffer)[:0]
	}
	if len(m.held)+len(octets) <= cap(m.held) {
		m.held = append(m.held, octets...)
		return
	}
	more := append(make([]byte, 0, 2*(len(m.held)+len(octets))), m.held...)
	giveBack(m.held)
	m.held = append(more, octets...)
}

// let lets go of what was held, but for the header.
func (m *message) let() {
	m.header = bytes.Clone(m.header)
	giveBack(m.held)
	m.held = nil
}

// shrink keeps what is held and no more, for as long as nothing comes.
func (m *message) shrink() {
	if cap(m.held) == largeBuffer && m.isHeld() {
		exact := bytes.Clone(m.held)
		giveBack(m.held)
		m.held = exact
	}
}

// whole reports whether the client has sent all of it.
func (m *message) whole() bool {
	return m.ended || m.scan.Chunked && m.last && m.left == 0
}

// isHeld reports whether the server has not heard of the message yet.
func (m *message) isHeld() bool { return !m.opened && !m.dropped && m.failure == nil }

// failure is why a message was not submitted.
type failure struct {
	result Result
	code   int
	reply  string // for the client, once it has sent all
	// err is for the operator.
	err error
	// address is the sender that is not the account's, if that is why.
	address string
}

// ours is a failure with a reply of ours.
func ours(result Result, reply *gosmtp.SMTPError, err error) *failure {
	return &failure{result: result, code: reply.Code, reply: line(reply), err: err}
}

// data is DATA. The 354 is ours, so that the header can be checked before the server
// hears of a message, if there is a transaction that can have one.
func (s *session) data(c wire.Command) {
	switch {
	case s.message != nil: // after BDAT (RFC 3030 section 2)
		s.say(line(wrongOrder.says("DATA and BDAT cannot be mixed")))
	case c.Args != "" || !s.ready():
		s.tell(c.String(), expected{verb: c.Verb})
	default:
		s.message = &message{began: time.Now()}
		s.state = header
		s.carried.ReadAhead(true)
		s.say("354 End data with <CR><LF>.<CR><LF>\r\n")
	}
}

// ready reports whether the server has accepted a sender and a recipient.
func (s *session) ready() bool { return s.transaction.open && len(s.transaction.recipients) > 0 }

// octets takes octets of a message after DATA.
func (s *session) octets() bool {
	in := s.client.in()
	if len(in) == 0 {
		return false
	}
	m := s.message
	piece, n := s.scan(in)
	s.client.use(n)
	m.octets += int64(n)
	switch s.state {
	case swallowing:
		if m.lost += int64(n); m.lost > s.drainSize() {
			s.client.out = append(s.client.out, m.failure.reply...)
			s.fail(m.failure)
			s.bid(ended, "Too much data", errTooMuch)
			return false
		}
		if m.ended {
			s.answerFailure()
		}
	case header:
		if m.scan.Bare {
			s.refuse(malformed())
			return true
		}
		m.hold(piece)
		if whole, f := s.checked(m.ended); f != nil {
			s.refuse(f)
		} else if whole {
			s.tell("DATA", expected{kind: toData, verb: "DATA"})
			s.state, m.opened = opening, true
		}
	case body:
		if m.scan.Bare {
			// The server has half of it.
			s.mail.err = errBareNewline
			s.client.out = append(s.client.out, malformed().reply...)
			s.fail(malformed())
			s.bid(serverGone, "The message was given up; log in again", errBareNewline)
			return false
		}
		if m.ended {
			s.state = finishing
			s.expect(expected{kind: toMessage, verb: "message"})
		}
		s.write(&s.mail, piece, blockTimeout)
	}
	return true
}

var (
	errBareNewline = errors.New("a CR without LF, or an LF without CR")
	errTooMuch     = errors.New("it goes on for too long after it was refused")
)

func malformed() *failure {
	return ours(Malformed, badData.says("A bare CR or LF is not allowed"), errBareNewline)
}

// scan follows the message, and returns what is to be passed on.
func (s *session) scan(in []byte) (piece []byte, n int) {
	m := s.message
	if s.server.NormaliseNewlines && s.state != swallowing && !m.dropped {
		piece, n, m.ended = m.scan.Normalise(nil, in)
		return piece, n
	}
	n, m.ended = m.scan.Scan(in)
	return in[:n], n
}

var (
	endOfHeader = []byte("\r\n\r\n")
	endOfData   = []byte(".\r\n")
)

// checked checks the header when all of it is there. all: nothing more comes.
func (s *session) checked(all bool) (ok bool, f *failure) {
	m := s.message
	text := m.held
	if all && !m.scan.Chunked {
		text = text[:len(text)-len(endOfData)]
	}
	at := bytes.Index(text[min(m.searched, len(text)):], endOfHeader)
	end := -1
	switch {
	case bytes.HasPrefix(text, endOfHeader[2:]):
		end = 0
	case at >= 0:
		end = m.searched + at + 2
	case all:
		end = len(text) // a message without a body (RFC 5322 section 2.1)
	case len(m.held) <= maxHeader:
		m.searched = max(0, len(m.held)-len(endOfHeader)+1)
		return false, nil
	}
	m.checked = true
	policy := s.server.sender()
	if end < 0 {
		m.header = m.held[:maxHeader]
		return true, s.headerRefused(policy.Mode, errors.New("no end of the header within 256 KiB"))
	}
	if m.header = m.held[:end]; !m.scan.Chunked {
		m.header = wire.Unstuff(m.header) // as its readers see it
	}
	if policy.Mode == auth.Off {
		return true, nil
	}
	err := checkHeader(m.header, func(address string) bool { return policy.Owns(s.account, address) })
	// The sender of the envelope, which was checked, is all that names the author then.
	// A submission server may add a Sender:, a Date: or a Message-ID: (RFC 6409
	// sections 8.1 to 8.3), but not an author: that is left to the mail server.
	if err == errNoFrom && s.transaction.sender != "" && (len(text) > 0 || !all) {
		err = nil
	}
	if err != nil {
		return true, s.headerRefused(policy.Mode, err)
	}
	return true, nil
}

// headerRefused is a failure, unless the rule only warns, or is off.
func (s *session) headerRefused(mode auth.Mode, why error) *failure {
	address := ""
	if other := new(notMine); errors.As(why, &other) {
		address = other.address
	}
	if other := new(otherTitle); errors.As(why, &other) {
		address = other.address
	}
	switch mode {
	case auth.Off:
		return nil
	case auth.Warn:
		s.would(why.Error(), address)
		return nil
	}
	f := ours(NotYours, headerRefused.says("Message refused: "+why.Error()), why)
	f.address = address
	return f
}

// refuse takes a message no further: its client reads why when it has sent all.
func (s *session) refuse(f *failure) {
	s.message.failure = f
	s.state = swallowing
	if s.message.ended {
		s.answerFailure()
	}
}

// answerFailure is the end of a message that nobody takes. As at the server itself, its
// transaction is over.
func (s *session) answerFailure() {
	f := s.message.failure
	s.say(f.reply)
	s.fail(f)
	s.tell("RSET", expected{kind: toNothing, verb: "RSET"})
	s.transaction = transaction{}
	s.state = commands
	s.carried.ReadAhead(false)
}

// dataReply is the server's reply to our DATA.
func (s *session) dataReply(code int, raw string) {
	m := s.message
	if code != 354 {
		if code < 400 {
			s.strange()
			return
		}
		m.opened = false
		s.refuse(&failure{result: Refused, code: code, reply: raw, err: said(raw)})
		return
	}
	s.state = body
	if m.ended {
		s.state = finishing
		s.expect(expected{kind: toMessage, verb: "message"})
	}
	s.write(&s.mail, m.held, blockTimeout)
	m.let()
}

// messageReply is the server's reply to a message.
func (s *session) messageReply(code int, raw string) {
	s.state = commands
	s.carried.ReadAhead(false)
	s.settle(code, raw)
	s.transaction = transaction{}
}

// settle is what became of a message, by the server's reply to all of it.
func (s *session) settle(code int, raw string) {
	m := s.message
	if code/100 == 2 {
		s.submitted(m, raw)
		s.message = nil
		return
	}
	s.fail(&failure{result: refusal(code), code: code, err: said(raw)})
}

// refusal is what a reply of the server to a message means.
func refusal(code int) Result {
	if code == 552 { // RFC 1870 section 6.3
		return TooLarge
	}
	return Refused
}

// abandon gives up the message that is under way, if there is one.
func (s *session) abandon(result Result, reply *gosmtp.SMTPError, why error) {
	m := s.message
	switch {
	case m == nil:
		return
	case m.failure != nil:
		s.fail(m.failure)
	case m.dropped: // it was none
		s.message = nil
	default:
		s.fail(&failure{result: result, code: reply.Code, err: why})
	}
	if m.opened {
		s.mail.err = errHalf
	}
}

// errHalf: the server has half a message.
var errHalf = errors.New("a message was given up")
