package mailtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"strings"
)

// IMAP is a mail server that does as it is told. Set the fields before the first
// connection.
//
// Its steps are "greeting", "tls", the commands as they come in, "verdict"
// (complete credentials, before they are judged) and "judged" (before it says so).
//
// After login it answers every command with OK, and these specially: CAPABILITY,
// SELECT (three untagged lines), IDLE (until DONE), LOGOUT, BURST n (n octets of
// untagged data), and ECHO: OK, and from then on every octet comes back as it
// is, until the client has closed its side.
type IMAP struct {
	// Accounts are names and passwords.
	Accounts map[string]string
	// Caps are the capabilities before login, STARTTLS not among them. Nil:
	// IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN.
	Caps []string
	// LoggedInCaps are those after login. Nil: IMAP4rev1 ID IDLE UIDPLUS
	// COMPRESS=DEFLATE CONDSTORE.
	LoggedInCaps []string
	// TLS is for STARTTLS or, with Implicit, from the first byte. Nil: no TLS.
	TLS      *tls.Config
	Implicit bool
	// Proxied waits for a PROXY header before anything else, and hangs up when
	// something else comes; see Headers.
	Proxied bool
	// Greeting is the first line. Empty: an OK with the capabilities.
	Greeting string
	// OK is the answer to right credentials, without the tag. Empty: an OK with
	// the capabilities. Untagged is sent before it, as it is.
	OK, Untagged string
	// Wrong is the answer to wrong credentials, without the tag. Empty: what
	// Dovecot says.
	Wrong string
	// Misbehave, if set, is asked at each step.
	Misbehave func(Step) Misdeed

	fake
	raw  bytes.Buffer
	ids  []map[string]string
	cmds []string
}

// Start listens on a free loopback port and returns its address.
func (s *IMAP) Start() (address string, err error) { return s.listen(s.serve) }

// Dial connects to the server in memory; it fits the Dial fields of clients.
func (s *IMAP) Dial(context.Context, string, string) (net.Conn, error) { return s.dial(s.serve), nil }

// Raw returns every octet that the server has read, TLS taken off.
func (s *IMAP) Raw() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.raw.Bytes())
}

// IDs returns the fields of every ID command, in order.
func (s *IMAP) IDs() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]string(nil), s.ids...)
}

// Commands returns the commands of all connections that came after a login, in
// order, without their tags.
func (s *IMAP) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.cmds...)
}

// Script is for a dialogue file.
func (s *IMAP) Script() Script { return Script{&s.Wrong, &s.OK, &s.Misbehave} }

// imapSession is one connection.
type imapSession struct {
	*IMAP
	session
	user string
}

func (s *IMAP) serve(conn net.Conn) {
	c := &imapSession{IMAP: s, session: session{server: &s.fake, conn: conn, tls: s.TLS, misbehave: s.Misbehave, read: (*rawLog)(s)}}
	goOn := c.begin(s.Proxied, s.Implicit) && c.greet(cmp.Or(s.Greeting, "* OK [CAPABILITY "+c.capabilities()+"] ready."))
	for goOn {
		goOn = c.command()
	}
}

type rawLog IMAP

func (l *rawLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.raw.Write(p)
}

func (c *imapSession) capabilities() string {
	caps := c.Caps
	switch {
	case c.user != "" && c.LoggedInCaps != nil:
		return strings.Join(c.LoggedInCaps, " ")
	case c.user != "":
		return "IMAP4rev1 ID IDLE UIDPLUS COMPRESS=DEFLATE CONDSTORE"
	case caps == nil:
		caps = []string{"IMAP4rev1", "SASL-IR", "LITERAL+", "ID", "AUTH=PLAIN", "AUTH=LOGIN"}
	}
	if c.offersTLS() {
		caps = append([]string{"STARTTLS"}, caps...)
	}
	return strings.Join(caps, " ")
}

func (c *imapSession) command() bool {
	line, ok := c.line()
	if !ok {
		return false
	}
	tag, rest, _ := strings.Cut(line, " ")
	verb, arg, _ := strings.Cut(rest, " ")
	verb = strings.ToUpper(verb)
	if c.user != "" {
		c.mu.Lock()
		c.cmds = append(c.cmds, rest)
		c.mu.Unlock()
	}
	c.tag = tag
	if behave, goOn := c.at(Step(verb)); !behave {
		return goOn
	}
	switch {
	case verb == "CAPABILITY":
		c.say("* CAPABILITY %s\r\n%s OK done", c.capabilities(), tag)
	case verb == "ID":
		c.id(arg)
		c.say("* ID NIL\r\n%s OK done", tag)
	case verb == "LOGOUT":
		c.say("* BYE bye\r\n%s OK done", tag)
		return false
	case c.user != "":
		return c.loggedIn(tag, verb, arg)
	case verb == "STARTTLS" && c.offersTLS():
		c.say("%s OK begin", tag)
		return c.handshake()
	case verb == "AUTHENTICATE":
		return c.authenticate(tag, arg)
	case verb == "LOGIN":
		words, ok := c.words(arg)
		if !ok {
			return false
		}
		if len(words) != 2 {
			c.say("%s BAD two words, please", tag)
			return true
		}
		return c.verdict(tag, words[0], words[1])
	case verb == "NOOP":
		c.say("%s OK done", tag)
	default:
		c.say("%s BAD not now", tag)
	}
	return true
}

func (c *imapSession) loggedIn(tag, verb, arg string) bool {
	switch verb {
	case "SELECT":
		c.say("* FLAGS (\\Seen)\r\n* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n%s OK [READ-WRITE] done", tag)
	case "IDLE":
		c.say("+ idling")
		for {
			line, ok := c.line()
			if !ok {
				return false
			}
			if strings.EqualFold(line, "DONE") {
				break
			}
		}
		c.say("%s OK done", tag)
	case "BURST":
		n, _ := strconv.Atoi(arg)
		c.conn.Write([]byte("* BURST "))
		c.conn.Write(bytes.Repeat([]byte("x"), n))
		c.say("\r\n%s OK done", tag)
	case "ECHO":
		c.say("%s OK echo", tag)
		io.Copy(c.conn, c.r)
		return false
	default:
		c.say("%s OK %s done", tag, verb)
	}
	return true
}

// words splits the arguments of LOGIN, and reads the literals among them.
func (c *imapSession) words(arg string) (words []string, ok bool) {
	for arg != "" {
		switch {
		case arg[0] == ' ':
			arg = arg[1:]
		case arg[0] == '"':
			var b strings.Builder
			i := 1
			for ; i < len(arg) && arg[i] != '"'; i++ {
				if arg[i] == '\\' && i+1 < len(arg) {
					i++
				}
				b.WriteByte(arg[i])
			}
			words = append(words, b.String())
			arg = arg[min(i+1, len(arg)):]
		case arg[0] == '{':
			size := strings.TrimSuffix(arg[1:], "}")
			if !strings.HasSuffix(size, "+") {
				c.say("+ go on")
			}
			n, err := strconv.Atoi(strings.TrimSuffix(size, "+"))
			if err != nil {
				return nil, false
			}
			literal := make([]byte, n)
			if _, err := io.ReadFull(c.r, literal); err != nil {
				return nil, false
			}
			words = append(words, string(literal))
			if arg, ok = c.line(); !ok {
				return nil, false
			}
		default:
			word, rest, _ := strings.Cut(arg, " ")
			words = append(words, word)
			arg = rest
		}
	}
	return words, true
}

func (c *imapSession) id(arg string) {
	fields := make(map[string]string)
	words, _ := c.words(strings.TrimSuffix(strings.TrimPrefix(arg, "("), ")"))
	for i := 0; i+1 < len(words); i += 2 {
		fields[words[i]] = words[i+1]
	}
	c.mu.Lock()
	c.ids = append(c.ids, fields)
	c.mu.Unlock()
}

func (c *imapSession) authenticate(tag, arg string) bool {
	mechanism, initial, has := strings.Cut(arg, " ")
	if !strings.EqualFold(mechanism, "PLAIN") {
		c.say("%s NO no such mechanism", tag)
		return true
	}
	name, password, malformed, ok := c.plain(initial, has)
	if malformed {
		c.say("%s BAD malformed", tag)
		return true
	}
	return ok && c.verdict(tag, name, password)
}

func (c *imapSession) verdict(tag, name, password string) bool {
	right, behave, goOn := c.session.verdict(c.Accounts, name, password)
	if !behave {
		return goOn
	}
	if !right {
		c.say("%s %s", tag, cmp.Or(c.Wrong, "NO [AUTHENTICATIONFAILED] Authentication failed."))
		return true
	}
	c.user = name
	ok := cmp.Or(c.OK, "OK [CAPABILITY "+c.capabilities()+"] Logged in")
	c.conn.Write([]byte(c.Untagged + tag + " " + ok + "\r\n"))
	return true
}
