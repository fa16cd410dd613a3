package smtp

import (
	"fmt"
	"strings"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/gateway/relay"
	"congthu/gateway/smtp/wire"
	"congthu/gateway/upstream"
)

// replies takes what the server has said.
func (s *session) replies() {
	for !s.over {
		code, n, err := wire.ReadReply(s.mail.in())
		if err != nil {
			s.strange()
			return
		}
		if n == 0 {
			break
		}
		raw := string(s.mail.in()[:n])
		s.mail.use(n)
		s.reply(code, raw)
	}
	if s.mail.err != nil && !s.over {
		s.lose(s.mail.err)
	}
}

// reply takes one reply.
func (s *session) reply(code int, raw string) {
	s.talked = time.Now()
	var e expected
	asked := s.owed()
	if asked {
		e, s.expected = s.expected[0], s.expected[1:]
	}
	switch {
	case code == 421: // RFC 5321 section 3.8: it closes the connection
		s.refusedBy(e.verb, code, raw)
		s.abandon(Refused, &gosmtp.SMTPError{Code: code}, said(raw))
		s.expected = nil
		s.client.out = append(s.client.out, raw...)
		s.finish(fmt.Errorf("the mail server: %.60q", logged(strings.TrimSpace(raw))))
		return
	case !asked || (code/100 == 3) != (e.kind == toData && code < 400):
		s.strange()
		return
	}
	if code >= 400 {
		s.refusedBy(e.verb, code, raw)
	}
	good := code/100 == 2
	switch e.kind {
	case toMail:
		if good {
			s.transaction = transaction{open: true, sender: e.address}
		}
	case toRcpt:
		if good {
			s.transaction.recipients = append(s.transaction.recipients, e.address)
		}
	case toReset:
		if good {
			s.reset()
		}
		if e.verb == "HELO" && good {
			raw = string(wire.FilterHello([]byte(raw), s.name))
		}
	case toEhlo:
		if good {
			s.reset()
			s.learn(raw)
			raw = string(wire.FilterHello([]byte(raw), s.name, s.server.limits()...))
		}
	case toQuit:
		if s.leaving = good; good {
			s.finish(nil)
		}
	case toData:
		s.dataReply(code, raw)
		raw = ""
	case toMessage:
		s.messageReply(code, raw)
	case toPiece:
		s.pieceReply(code, raw)
		raw = ""
	case toChunk:
		raw = s.chunkReply(code, raw)
	case toNothing:
		raw = ""
	}
	s.client.out = append(s.client.out, raw...)
	for len(s.expected) > 0 && s.expected[0].own != "" {
		s.client.out = append(s.client.out, s.expected[0].own...)
		s.expected = s.expected[1:]
	}
	if !s.owed() {
		s.expected, s.blocked = nil, false
	}
	s.blocked = s.blocked && len(s.expected) > 0
}

// learn notes what the server offers now.
func (s *session) learn(raw string) {
	s.chunking = false
	for keyword, text := range wire.Extensions([]byte(raw)) {
		switch keyword {
		case "CHUNKING":
			s.chunking = true
		case "SIZE":
			s.size = upstream.Extensions{"SIZE": strings.TrimPrefix(text[len(keyword):], " ")}.Size()
		}
	}
}

// reset is the end of a transaction without a message.
func (s *session) reset() {
	if s.message != nil {
		s.fail(&failure{result: Abandoned, code: notNow.basic, err: errReset})
	}
	s.transaction = transaction{}
}

// refusedBy notes a refusal of the server.
func (s *session) refusedBy(verb string, code int, raw string) {
	s.log.Info("mail server refused", "step", verb, "code", code, "reply", logged(wire.Text([]byte(raw))))
}

// strange is something that no server should say there.
func (s *session) strange() { s.lose(errStrange) }

// lose is the end of the connection to the server: coming back means to log in again.
func (s *session) lose(err error) {
	s.mail.err = err
	if s.isKicked() {
		s.bid(ended, "This session was ended", relay.ErrKicked)
		return
	}
	if s.leaving { // it has gone without a word
		s.client.out = append(s.client.out, "221 2.0.0 Bye\r\n"...)
		s.finish(nil)
		return
	}
	step := "no command"
	if s.owed() {
		step = s.expected[0].verb
	} else if s.message != nil {
		step = "message"
	}
	s.log.Warn("mail server lost", "step", step, "err", err)
	reply := notNow.says("Connection to the mail server lost; try again later")
	if err == errStrange {
		reply = strangeReply.says("The mail server gave a strange reply")
	}
	if s.message != nil || err == errStrange { // no permanent error: the message is not at fault
		s.client.out = append(s.client.out, line(reply)...)
	}
	s.abandon(ServerLost, reply, err)
	s.bid(serverGone, "Connection to the mail server lost; log in again", fmt.Errorf("the mail server was lost: %w", err))
}
