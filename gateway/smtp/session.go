package smtp

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// session is one connection as go-smtp sees it. Every method returns a reply of
// its own: of any other error go-smtp would make one, with the error's text in
// it, and a permanent one in DATA.
type session struct {
	server *Server
	conn   *conn
	ctx    context.Context // never cancelled: an attempt is always settled
	id     string
	source netip.AddrPort
	log    *slog.Logger

	// Before login.
	mistakes auth.RejectedPasswords
	failures int

	// After login. up stays set when the connection is lost.
	account auth.Name
	leave   func() // takes the session out of the register
	up      atomic.Pointer[upstream.SMTPConn]
	lost    atomic.Bool
	gone    atomic.Bool // the mail server, by itself
	revoked atomic.Bool // an admin, or a revocation, ended this session

	// The transaction: open from MAIL on; dirty while the mail server has one that
	// nobody wants any more; utf8 when MAIL said SMTPUTF8; bounce when it named no
	// sender.
	open, dirty, utf8, bounce bool
	recipients                int
	longest                   int64 // message that the mail server takes; 0: it does not say
	messages                  int   // submitted in this session

	// data is held while a message is taken: with BDAT that is another goroutine.
	data sync.Mutex
}

// wanted says why nothing more is done for this client, if so.
func (s *session) wanted() error {
	if s.conn.kicked.Load() {
		s.conn.hangUp()
		return ended.says("This session was ended; log in again")
	}
	return nil
}

// why says why a session ended that its client did not end; empty: it did, or was
// silent for too long, or the gateway stops.
func (s *session) why() string {
	switch {
	case s.revoked.Load():
		return "ended by an admin, or the account was revoked"
	case s.gone.Load():
		return "the mail server was lost"
	}
	return ""
}

// ready says why no mail can be submitted now, if so.
func (s *session) ready() error {
	if err := s.wanted(); err != nil {
		return err
	}
	if s.account == "" {
		return loginFirst.says("Authentication required")
	}
	if s.lost.Load() {
		s.conn.hangUp()
		return serverGone.says("Connection to the mail server lost; log in again")
	}
	return nil
}

// Mail implements [gosmtp.Session].
func (s *session) Mail(from string, options *gosmtp.MailOptions) error {
	if err := s.ready(); err != nil {
		return err
	}
	if s.open {
		return wrongOrder.says("A transaction is already open")
	}
	if !ascii(from) && !options.UTF8 {
		return needsUTF8.says("This address needs SMTPUTF8")
	}
	// Bounces and receipts have no sender (RFC 5321 section 4.5.5).
	if policy := s.server.sender(); from != "" && policy.Mode != auth.Off && !policy.Owns(s.account, from) {
		if policy.Mode == auth.Enforce {
			s.submitted(NotYours)
			s.log.Info("sender refused", "in", "MAIL", "address", tried(from))
			return senderRefused.says("Sender address is not one of this account")
		}
		s.would("MAIL", from)
	}
	up := s.up.Load()
	if s.dirty {
		if err := up.Reset(); err != nil {
			return s.passOn("RSET", err)
		}
		s.dirty = false
	}
	if err := up.Mail(from, *options); err != nil {
		return s.passOn("MAIL", err)
	}
	s.open, s.utf8, s.bounce, s.recipients = true, options.UTF8, from == "", 0
	s.conn.transaction(true)
	return nil
}

// Rcpt implements [gosmtp.Session].
func (s *session) Rcpt(to string, options *gosmtp.RcptOptions) error {
	if err := s.ready(); err != nil {
		return err
	}
	if !ascii(to) && !s.utf8 {
		return needsUTF8.says("This address needs SMTPUTF8")
	}
	if err := s.up.Load().Rcpt(to, options); err != nil {
		return s.passOn("RCPT", err)
	}
	s.recipients++
	return nil
}

// Reset implements [gosmtp.Session]: RSET, a second EHLO, or the end of a
// transaction. It does not log out.
func (s *session) Reset() {
	s.waitForData()
	defer s.data.Unlock()
	// The mail server is told when there is something new to begin.
	s.dirty = s.dirty || s.open
	s.open = false
	s.conn.chunked.Store(false)
	s.conn.transaction(false)
}

// Logout implements [gosmtp.Session]: the client is gone.
func (s *session) Logout() error {
	s.waitForData()
	defer s.data.Unlock()
	if s.leave != nil {
		s.leave()
		s.leave = nil
	}
	if up := s.up.Load(); up != nil && !s.lost.Swap(true) {
		up.Quit()
	}
	return nil
}

// waitForData locks data. If a message is being taken at that time, go-smtp has
// already broken it off, and nothing but the mail server can hold it up.
func (s *session) waitForData() {
	if !s.data.TryLock() {
		s.abort()
		s.data.Lock()
	}
}

// abort closes the connection to the mail server: whatever it has of a message
// is not delivered. Anybody may call it.
func (s *session) abort() {
	s.lost.Store(true)
	if up := s.up.Load(); up != nil {
		up.Close()
	}
}

// passOn makes a reply of an error of the mail server: its own refusal as it is;
// when the connection is lost, the client's has to end, since coming back means
// to log in again.
func (s *session) passOn(step string, err error) *gosmtp.SMTPError {
	var reply *gosmtp.SMTPError
	if !errors.As(err, &reply) {
		s.abort()
		s.gone.Store(true)
		s.log.Warn("mail server lost", "step", step, "err", err)
		s.conn.hangUp()
		return serverGone.says("Connection to the mail server lost; try again later")
	}
	s.log.Info("mail server refused", "step", step, "code", reply.Code, "reply", withoutAddresses(printable(reply.Message)))
	switch {
	case reply.Code == 421: // RFC 5321 section 3.8: it closes the connection
		s.abort()
		s.conn.hangUp()
	case reply.Code < 400 || reply.Code > 599:
		s.abort()
		return strangeReply.says("The mail server gave a strange reply")
	}
	return &gosmtp.SMTPError{Code: reply.Code, EnhancedCode: reply.EnhancedCode, Message: printable(reply.Message)}
}

// would notes what mode warn lets pass; address may be empty.
func (s *session) would(where, address string) {
	s.submitted(WouldRefuse)
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

// queueID matches how mail servers say under which name they have taken a
// message: "queued as 4XyzAB" (Postfix), "id=1sAbC-000-00" (Exim), "Queued mail for
// delivery id" and "4XyzAB Message accepted" (Sendmail).
var queueID = regexp.MustCompile(`(?i)(?:\bqueued as |\bid[= ])([A-Za-z0-9._-]{4,64})|^([A-Za-z0-9]{10,32}) Message accepted`)

// queuedAs is the mail server's name for a message, out of its reply; empty when
// it tells none that is known here. The reply is in the log as well.
func queuedAs(reply string) string {
	m := queueID.FindStringSubmatch(reply)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

func (s *session) submitted(r Result) {
	if s.server.Recorder != nil {
		s.server.Recorder.Submitted(r)
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
