package smtp

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/smtp/wire"
)

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

// said is an error that the server has told.
func said(raw string) error { return fmt.Errorf("the mail server says: %s", wire.Text([]byte(raw))) }

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
