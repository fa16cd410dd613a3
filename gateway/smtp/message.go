package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
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

// Submission is a message that the mail server has taken.
type Submission struct {
	Account auth.Name
	// Sender is the envelope's; empty for a bounce.
	Sender string
	// Recipients are those that the server accepted, as the client wrote them.
	Recipients []string
	// Header is that of the message, up to the empty line; of one that is longer than 256
	// KiB, its beginning.
	Header []byte
	// QueueID is the server's name for it; empty when it tells none that is known here.
	QueueID string
	// Reply is what it said, without codes.
	Reply  string
	Octets int64
	Took   time.Duration
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

// said is an error that the server has told.
func said(raw string) error { return fmt.Errorf("the mail server says: %s", wire.Text([]byte(raw))) }

// bdat is BDAT (RFC 3030). Its octets are no commands, whatever becomes of it. A chunk is
// passed on in pieces that are chunks themselves, so that no chunk is ever open at the
// server.
func (s *session) bdat(args string) {
	size, last, err := wire.ParseBDAT(args)
	if err != nil {
		s.say(line(badArgument.says(err.Error())))
		s.bid(ended, "Where the octets of BDAT end is not known", err)
		s.state = chunk
		return
	}
	if s.message == nil {
		s.message = &message{began: time.Now(), scan: wire.Body{Chunked: true}}
	}
	m := s.message
	m.left, m.last = size, last
	switch {
	case m.opened || len(m.held) > 0 || m.failure != nil:
	case !s.chunking:
		m.dropped, m.answered = true, line(unknown.says("CHUNKING is not available"))
	case !s.ready():
		m.dropped, m.answered = true, line(wrongOrder.says("BDAT wants MAIL and RCPT first"))
	}
	s.state = chunk
}

// chunkOctets takes octets of a chunk.
func (s *session) chunkOctets() bool {
	m := s.message
	in := s.client.in()
	in = in[:min(int64(len(in)), m.left)]
	if len(in) == 0 && m.left > 0 {
		return false
	}
	piece, n := s.scan(in)
	s.client.use(n)
	m.left -= int64(n)
	m.octets += int64(n)
	done := m.left == 0
	if done && m.last {
		if s.server.NormaliseNewlines {
			piece = m.scan.FinishNormalised(piece)
		} else {
			m.scan.Finish()
		}
	}
	switch {
	case m.dropped:
		if m.lost += int64(n); m.lost > s.drainSize() {
			s.client.out = append(s.client.out, m.answered...)
			s.bid(ended, "Too much data", errTooMuch)
			return false
		}
	case m.scan.Bare:
		s.refuseChunk(malformed())
	case !m.checked:
		m.hold(piece)
		whole, f := s.checked(done && m.last)
		switch {
		case f != nil:
			s.refuseChunk(f)
		case whole:
			s.sendChunk(m.held, done)
			m.let()
		case done:
			m.answered = "250 2.0.0 Continue\r\n"
		}
	default:
		s.sendChunk(piece, done)
	}
	if !done {
		return true
	}
	s.state = commands
	if m.answered != "" {
		s.say(m.answered)
		m.answered = ""
	}
	if m.dropped {
		if m.failure != nil {
			s.fail(m.failure)
			s.transaction = transaction{}
		}
		s.message = nil
	}
	return true
}

// sendChunk passes on a piece of a chunk.
func (s *session) sendChunk(piece []byte, done bool) {
	m := s.message
	m.opened = true
	if len(piece) == 0 && !done {
		return
	}
	command := "BDAT " + strconv.Itoa(len(piece))
	e := expected{kind: toPiece, verb: "BDAT"}
	if done {
		if e.kind = toChunk; m.last {
			command += " LAST"
		}
	}
	s.tell(command, e)
	s.write(&s.mail, piece, blockTimeout)
}

// refuseChunk takes a message in chunks no further: what the server has of it is given up,
// and the rest of the chunk is swallowed.
func (s *session) refuseChunk(f *failure) {
	m := s.message
	m.failure, m.dropped, m.answered = f, true, f.reply
	s.tell("RSET", expected{kind: toNothing, verb: "RSET"})
}

// pieceReply is the server's reply to a piece of a chunk. After a refusal it is told no
// further piece: each would be one more error of the client's.
func (s *session) pieceReply(code int, raw string) {
	m := s.message
	switch {
	case m == nil || code < 400 || m.refused != "" || m.failure != nil:
	case s.state == chunk:
		s.refuseChunk(&failure{result: refusal(code), code: code, reply: raw, err: said(raw)})
	default:
		m.refused, m.refusedCode = raw, code
	}
}

// chunkReply is the server's reply to the last piece of a chunk: the client's, unless a
// piece was refused before.
func (s *session) chunkReply(code int, raw string) string {
	m := s.message
	if m == nil {
		return raw
	}
	if m.refused != "" {
		code, raw = m.refusedCode, m.refused
	}
	if code >= 400 || m.last {
		s.settle(code, raw)
		s.transaction = transaction{}
	}
	return raw
}

// fail tells that a message was not submitted.
func (s *session) fail(f *failure) {
	m := s.message
	s.message = nil
	s.server.count(f.result)
	log := s.log
	if f.address != "" {
		log = log.With("address", tried(f.address))
	}
	log.Info("message not submitted", "result", f.result, "code", f.code, "octets", m.octets, "recipients", len(s.transaction.recipients),
		"took_ms", milliseconds(time.Since(m.began)), "err", logged(f.err.Error()))
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

// submitted is what is known of a message that the server has taken.
func (s *session) submitted(m *message, raw string) {
	text := wire.Text([]byte(raw))
	s.messages++
	s.server.submitted(s, Submission{
		Account: s.account, Sender: s.transaction.sender, Recipients: s.transaction.recipients, Header: m.header,
		QueueID: queuedAs(text), Reply: text, Octets: m.octets, Took: time.Since(m.began),
	})
}

// submitted tells of a message that the mail server has taken.
func (s *Server) submitted(from *session, m Submission) {
	s.count(Accepted)
	from.log.Info("message submitted", "queue_id", m.QueueID, "recipients", len(m.Recipients), "octets", m.Octets,
		"took_ms", milliseconds(m.Took), "reply", logged(m.Reply))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// would notes what mode warn lets pass; address may be empty.
func (s *session) would(where, address string) {
	s.server.count(WouldRefuse)
	log := s.log
	if address != "" {
		log = log.With("address", tried(address))
	}
	log.Warn("sender would be refused", "in", where)
}

// maxTried is the longest address: 64 octets, an @ and 255 octets (RFC 5321
// section 4.5.3.1).
const maxTried = 320

// tried makes an address that somebody has tried to send as fit for the log:
// of what it is made is up to them.
func tried(address string) string {
	if len(address) > maxTried {
		address = address[:maxTried]
	}
	quoted := strconv.QuoteToGraphic(strings.ToValidUTF8(address, "\uFFFD"))
	quoted = quoted[1 : len(quoted)-1]
	if len(quoted) > maxTried {
		quoted = strings.ToValidUTF8(quoted[:maxTried], "")
	}
	return quoted
}

// address matches what may be somebody's address in a text.
var address = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)

// withoutAddresses puts *** in the place of addresses. Mail servers repeat the
// recipient that they refuse, and whom somebody writes to is nobody's business.
func withoutAddresses(text string) string { return address.ReplaceAllLiteralString(text, "***") }

// maxLogged is how much of a reply is logged, in octets.
const maxLogged = 480

// logged makes what a server said fit for the log.
func logged(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxLogged)], "")
	return withoutAddresses(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return '?'
		}
		return r
	}, text))
}

// queueID matches how mail servers say under which name they have taken a
// message: "queued as 4XyzAB" (Postfix), "id=1sAbC-000-00" (Exim), "Queued mail for
// delivery id" and "4XyzAB Message accepted" (Sendmail).
var queueID = regexp.MustCompile(`(?i)(?:\bqueued as |\bid[= ])([A-Za-z0-9._-]{4,64})|^(?:2\.\d+\.\d+ )?([A-Za-z0-9]{10,32}) Message accepted`)

// queuedAs is the mail server's name for a message, out of its reply; empty when
// it tells none that is known here. The reply is in the log as well.
func queuedAs(reply string) string {
	m := queueID.FindStringSubmatch(reply)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}
