package smtp

import (
	"strings"

	"congthu/auth"
	"congthu/gateway/smtp/wire"
)

// obey does what the client has said, as far as that can be done now.
func (s *session) obey() {
	for !s.over && s.mail.err == nil && s.step() {
	}
	if s.client.err == nil || s.over {
		return
	}
	// The client is gone, or listens only. Half a command is none, half a message too.
	switch {
	case s.owed() && (s.message == nil || s.message.whole()): // what is said has its reply
	default:
		s.abandon(Abandoned, notNow.says("Message incomplete"), s.client.err)
		s.finish(s.client.err)
	}
}

// step does one thing that the client has said; ok when there may be another one.
func (s *session) step() (ok bool) {
	switch s.state {
	case commands:
		return !s.leaving && s.command()
	case skipping:
		return s.skip()
	case header, body, swallowing:
		return s.octets()
	case chunk:
		return s.chunkOctets()
	}
	return false
}

// skip swallows the rest of a line.
func (s *session) skip() bool {
	in := s.client.in()
	_, n, err := wire.ReadCommand(in)
	if n > 0 {
		s.client.use(n)
		s.state = commands
		s.say(line(badData.says("Line too long")))
		return true
	}
	if err != nil {
		s.client.use(len(in))
	}
	return false
}

// command does one command.
func (s *session) command() bool {
	c, n, err := wire.ReadCommand(s.client.in())
	switch {
	case n == 0 && err != nil:
		s.state = skipping
		return true
	case n == 0:
		return false
	case len(s.expected) >= maxExpected:
		s.blocked = true
		return false
	case err == wire.ErrLong:
		s.client.use(n)
		s.say(line(badData.says("Line too long")))
		return true
	case err != nil:
		s.client.use(n)
		s.say(line(badData.says("A NUL, or a bare CR or LF, is not allowed")))
		return true
	case (c.Verb == "DATA" && c.Args == "" || c.Verb == "BDAT") && s.owed():
		// What becomes of the transaction has to be known.
		s.blocked = true
		return false
	case s.message != nil && s.message.whole() && (c.Verb == "MAIL" || c.Verb == "RCPT"):
		s.blocked = true // until the message has its reply
		return false
	}
	s.client.use(n)
	if s.message != nil && (c.Verb == "MAIL" || c.Verb == "RCPT") {
		// The server may not have heard of the message yet, and would take it.
		s.say(line(wrongOrder.says("A message in chunks is being sent")))
		return true
	}
	switch c.Verb {
	case "MAIL":
		s.mailFrom(c.Args)
	case "RCPT":
		s.rcpt(c)
	case "DATA":
		s.data(c)
	case "BDAT":
		s.bdat(c.Args)
	case "RSET", "HELO":
		s.tell(c.String(), expected{kind: toReset, verb: c.Verb})
	case "EHLO":
		s.tell(c.String(), expected{kind: toEhlo, verb: c.Verb})
	case "QUIT":
		s.tell(c.String(), expected{kind: toQuit, verb: c.Verb})
		s.leaving = true
	case "NOOP", "HELP", "VRFY", "EXPN", "ETRN":
		s.tell(c.String(), expected{verb: c.Verb})
	case "AUTH", "STARTTLS":
		s.say(line(wrongOrder.says("Already done")))
	default:
		s.say(line(notHere.says("Command not implemented")))
	}
	return true
}

// mailFrom is MAIL: its path is sent as it was read.
func (s *session) mailFrom(args string) {
	path, parameters, err := wire.ParseMail(args)
	switch err {
	case nil:
	case wire.ErrPath:
		s.say(line(badSender.says("Bad sender address syntax")))
		return
	default:
		s.say(line(badArgument.says(err.Error())))
		return
	}
	if path.Local != "" && path.Domain == "" {
		path.Domain = s.account.Domain()
	}
	address := path.Address()
	// Bounces and receipts have no sender (RFC 5321 section 4.5.5).
	if policy := s.server.sender(); address != "" && policy.Mode != auth.Off && !policy.Owns(s.account, address) {
		if policy.Mode == auth.Enforce {
			s.server.count(NotYours)
			s.log.Info("sender refused", "in", "MAIL", "address", tried(address))
			s.say(line(senderRefused.says("Sender address is not one of this account")))
			return
		}
		s.would("MAIL", address)
	}
	command := "MAIL FROM:" + path.String()
	for _, parameter := range parameters {
		keyword, _, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(keyword, "AUTH") { // RFC 4954 section 5: no client is to be trusted with it
			command += " " + parameter
		}
	}
	s.tell(command, expected{kind: toMail, verb: "MAIL", address: address})
}

// rcpt is RCPT, which goes as written.
func (s *session) rcpt(c wire.Command) {
	if most := s.server.MaxRecipients; most > 0 {
		n := len(s.transaction.recipients)
		for _, e := range s.expected {
			if e.kind == toRcpt {
				n++
			}
		}
		if n >= most {
			s.say(line(manyRcpts.says("Too many recipients")))
			return
		}
	}
	to := c.Args
	if len(to) > 3 && strings.EqualFold(to[:3], "TO:") {
		to = strings.TrimLeft(to[3:], " ")
	}
	s.tell(c.String(), expected{kind: toRcpt, verb: c.Verb, address: to})
}
