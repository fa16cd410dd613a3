package mailtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
)

// POP3 is a mail server that does as it is told. Set the fields before the first
// connection.
//
// Its steps are "greeting", "tls", the commands as they come in, "verdict" (complete
// credentials, before they are judged) and "judged" (before it says so).
//
// After login it answers every command with +OK, and these specially: STAT, LIST, QUIT,
// and ECHO: +OK, and from then on every octet comes back as it is, until the client has
// closed its side.
type POP3 struct {
	// Accounts are names and passwords.
	Accounts map[string]string
	// Caps are the capabilities, STLS not among them. Nil: USER, SASL PLAIN LOGIN,
	// RESP-CODES, AUTH-RESP-CODE, UIDL and TOP. Empty: CAPA is not known.
	Caps []string
	// TLS is for STLS or, with Implicit, from the first octet. Nil: no TLS.
	TLS      *tls.Config
	Implicit bool
	// Proxied waits for a PROXY header before anything else, and hangs up when
	// something else comes; see Headers.
	Proxied bool
	// Greeting is the first line. Empty: an +OK.
	Greeting string
	// OK and Wrong are the answers to right and to wrong credentials. Empty: what
	// Dovecot says.
	OK, Wrong string
	// Misbehave, if set, is asked at each step.
	Misbehave func(Step) Misdeed

	fake
	cmds []string
}

// Start listens on a free loopback port and returns its address.
func (s *POP3) Start() (address string, err error) { return s.listen(s.serve) }

// Dial connects to the server in memory; it fits the Dial fields of clients.
func (s *POP3) Dial(context.Context, string, string) (net.Conn, error) { return s.dial(s.serve), nil }

// Commands returns the commands of all connections after their logins, in order.
func (s *POP3) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.cmds...)
}

// Script is for a dialogue file.
func (s *POP3) Script() Script { return Script{&s.Wrong, &s.OK, &s.Misbehave} }

// pop3Session is one connection.
type pop3Session struct {
	*POP3
	session
	user string
}

func (s *POP3) serve(conn net.Conn) {
	c := &pop3Session{POP3: s, session: session{server: &s.fake, conn: conn, tls: s.TLS, misbehave: s.Misbehave}}
	goOn := c.begin(s.Proxied, s.Implicit) && c.greet(cmp.Or(s.Greeting, "+OK ready"))
	for goOn {
		line, ok := c.line()
		goOn = ok && c.obey(line)
	}
}

// obey does a command before login; ok is false when the dialogue is over.
func (c *pop3Session) obey(line string) (ok bool) {
	keyword, argument, _ := strings.Cut(line, " ")
	keyword = strings.ToUpper(keyword)
	if behave, goOn := c.at(Step(keyword)); !behave {
		return goOn
	}
	switch keyword {
	case "CAPA":
		caps := c.Caps
		if caps == nil {
			caps = []string{"USER", "SASL PLAIN LOGIN", "RESP-CODES", "AUTH-RESP-CODE", "UIDL", "TOP"}
		}
		if len(caps) == 0 {
			c.say("-ERR unknown")
			return true
		}
		if c.offersTLS() {
			caps = append(append([]string(nil), caps...), "STLS")
		}
		c.say("+OK\r\n%s\r\n.", strings.Join(caps, "\r\n"))
	case "STLS":
		if !c.offersTLS() {
			c.say("-ERR no TLS")
			return true
		}
		c.say("+OK begin")
		return c.handshake()
	case "USER":
		c.user = argument
		c.say("+OK")
	case "PASS":
		return c.verdict(c.user, argument)
	case "AUTH":
		_, response, initial := strings.Cut(argument, " ")
		name, password, malformed, ok := c.plain(response, initial)
		if malformed {
			c.say("-ERR malformed")
			return true
		}
		return ok && c.verdict(name, password)
	case "QUIT":
		c.say("+OK bye")
		return false
	default:
		c.say("-ERR unknown")
	}
	return true
}

// verdict judges complete credentials, and serves the session.
func (c *pop3Session) verdict(name, password string) (ok bool) {
	right, behave, goOn := c.session.verdict(c.Accounts, name, password)
	if !behave {
		return goOn
	}
	if !right {
		c.say("%s", cmp.Or(c.Wrong, "-ERR [AUTH] Authentication failed."))
		return true
	}
	c.say("%s", cmp.Or(c.OK, "+OK Logged in."))
	for {
		line, ok := c.line()
		if !ok {
			return false
		}
		c.mu.Lock()
		c.cmds = append(c.cmds, line)
		c.mu.Unlock()
		switch strings.ToUpper(line) {
		case "STAT":
			c.say("+OK 2 320")
		case "LIST":
			c.say("+OK\r\n1 120\r\n2 200\r\n.")
		case "QUIT":
			c.say("+OK bye")
			return false
		case "ECHO":
			c.say("+OK echo")
			io.Copy(c.conn, c.r)
			return false
		default:
			c.say("+OK")
		}
	}
}
