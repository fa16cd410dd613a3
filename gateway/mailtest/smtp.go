package mailtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// SMTP is a submission server that does as it is told. Set the fields before
// the first connection.
//
// Its steps are "greeting", "tls", the commands as they come in ("EHLO", "HELO",
// "STARTTLS", "XCLIENT", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"),
// "verdict" (complete credentials, before they are judged) and "message" (the
// final dot, before the message is delivered).
type SMTP struct {
	// Accounts are names and passwords.
	Accounts map[string]string
	// Extensions are the lines of the EHLO reply but for STARTTLS, AUTH and
	// XCLIENT. Nil: PIPELINING, SIZE 10240000, ENHANCEDSTATUSCODES, 8BITMIME,
	// SMTPUTF8, DSN. With CHUNKING there is BDAT, and what is longer than a SIZE is
	// refused.
	Extensions []string
	// Mechanisms are those of the AUTH line. Nil: PLAIN LOGIN; empty: no AUTH.
	Mechanisms []string
	// XClient offers XCLIENT.
	XClient bool
	// TLS is for STARTTLS or, with Implicit, from the first byte. Nil: no TLS.
	TLS      *tls.Config
	Implicit bool
	// Proxied waits for a PROXY header before anything else, and hangs up when
	// something else comes; see Headers.
	Proxied bool
	// Greeting is the first reply. Empty: "220 mail.test ESMTP".
	Greeting string
	// Wrong is the reply to wrong credentials. Empty: what Postfix says.
	Wrong string
	// Recipient, if set, gives the reply to RCPT; "" takes the recipient.
	Recipient func(address string) string
	// Misbehave, if set, is asked at each step.
	Misbehave func(Step) Misdeed

	fake
	messages []Message
	begun    int
	clients  []map[string]string
	lines    []string
}

// Message is one that was delivered: the final dot was seen and answered.
type Message struct {
	// User is who was logged in; "" for nobody.
	User string
	// From and To are the arguments of MAIL and RCPT after the colon, with their
	// parameters, as they came.
	From string
	To   []string
	// Data is what came after DATA, dots unstuffed, without the final one.
	Data []byte
	// ID is the queue id of the reply.
	ID string
	// Client is what XCLIENT said before it.
	Client map[string]string
}

// Start listens on a free loopback port and returns its address.
func (s *SMTP) Start() (address string, err error) { return s.listen(s.serve) }

// Dial connects to the server in memory; it fits the Dial fields of clients.
func (s *SMTP) Dial(context.Context, string, string) (net.Conn, error) { return s.dial(s.serve), nil }

// Messages returns what was delivered, in order.
func (s *SMTP) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Begun returns how many DATA commands were answered with 354.
func (s *SMTP) Begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// Clients returns the attributes of every XCLIENT command, in order.
func (s *SMTP) Clients() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]string(nil), s.clients...)
}

// Lines returns the commands of all connections, in order, without the lines of
// SASL and of messages.
func (s *SMTP) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// smtpSession is one connection.
type smtpSession struct {
	*SMTP
	session
	client map[string]string
	user   string
	from   string
	to     []string
	mail   bool
	chunks []byte // that have come by BDAT
}

func (s *SMTP) serve(conn net.Conn) {
	c := &smtpSession{SMTP: s, session: session{server: &s.fake, conn: conn, tls: s.TLS, misbehave: s.Misbehave}}
	if !c.begin(s.Proxied, s.Implicit) || !c.greet() {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		verb, arg, _ := strings.Cut(line, " ")
		if !c.command(strings.ToUpper(verb), arg) {
			return
		}
	}
}

func (c *smtpSession) greet() bool {
	return c.session.greet(cmp.Or(c.Greeting, "220 "+Host+" ESMTP"))
}

func (c *smtpSession) command(verb, arg string) bool {
	behave, goOn := c.at(Step(verb))
	if !behave {
		return goOn
	}
	switch verb {
	case "EHLO":
		c.from, c.to, c.mail, c.chunks = "", nil, false, nil
		c.ehlo()
	case "HELO":
		c.from, c.to, c.mail, c.chunks = "", nil, false, nil
		c.say("250 %s", Host)
	case "STARTTLS":
		if c.TLS == nil || c.secure {
			c.say("502 5.5.1 Error: command not implemented")
			return true
		}
		c.say("220 2.0.0 Ready to start TLS")
		return c.handshake()
	case "XCLIENT":
		return c.xclient(arg)
	case "AUTH":
		return c.auth(arg)
	case "MAIL":
		if c.mail {
			c.say("503 5.5.1 Error: nested MAIL command")
			return true
		}
		most, _ := c.offers("SIZE")
		_, size, _ := strings.Cut(arg, " SIZE=")
		size, _, _ = strings.Cut(size, " ")
		if n, err := strconv.Atoi(size); err == nil {
			if most, err := strconv.Atoi(most); err == nil && n > most {
				c.say("552 5.3.4 Message size exceeds fixed limit")
				return true
			}
		}
		c.from, c.to, c.mail = strings.TrimPrefix(arg, "FROM:"), nil, true
		c.say("250 2.1.0 Ok")
	case "RCPT":
		c.rcpt(strings.TrimPrefix(arg, "TO:"))
	case "DATA":
		return c.data()
	case "BDAT":
		return c.bdat(arg)
	case "RSET":
		c.from, c.to, c.mail, c.chunks = "", nil, false, nil
		c.say("250 2.0.0 Ok")
	case "NOOP":
		c.say("250 2.0.0 Ok")
	case "QUIT":
		c.say("221 2.0.0 Bye")
		return false
	default:
		c.say("500 5.5.2 Error: command not recognized")
	}
	return true
}

func (c *smtpSession) ehlo() {
	extensions := c.Extensions
	if extensions == nil {
		extensions = []string{"PIPELINING", "SIZE 10240000", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN"}
	}
	lines := append([]string{Host}, extensions...)
	if c.TLS != nil && !c.secure {
		lines = append(lines, "STARTTLS")
	}
	mechanisms := c.Mechanisms
	if mechanisms == nil {
		mechanisms = []string{"PLAIN", "LOGIN"}
	}
	if len(mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " "))
	}
	if c.XClient {
		lines = append(lines, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
	}
	var b strings.Builder
	for i, line := range lines {
		separator := "-"
		if i == len(lines)-1 {
			separator = " "
		}
		fmt.Fprintf(&b, "250%s%s\r\n", separator, line)
	}
	c.conn.Write([]byte(b.String()))
}

// xclient begins the session anew, as Postfix does.
func (c *smtpSession) xclient(arg string) bool {
	if !c.XClient || c.mail {
		c.say("550 5.7.0 Error: insufficient authorization")
		return true
	}
	attributes := make(map[string]string)
	for field := range strings.FieldsSeq(arg) {
		name, value, _ := strings.Cut(field, "=")
		attributes[strings.ToUpper(name)] = value
	}
	c.mu.Lock()
	c.clients = append(c.clients, attributes)
	c.mu.Unlock()
	c.client, c.user = attributes, ""
	return c.greet()
}

func (c *smtpSession) auth(arg string) bool {
	if c.user != "" {
		c.say("503 5.5.1 Error: already authenticated")
		return true
	}
	mechanism, initial, hasInitial := strings.Cut(arg, " ")
	ask := func(challenge string) (string, bool) {
		c.say("334 %s", base64.StdEncoding.EncodeToString([]byte(challenge)))
		line, err := c.r.ReadString('\n')
		return strings.TrimRight(line, "\r\n"), err == nil
	}
	decode := func(s string) string {
		if s == "=" {
			return ""
		}
		raw, _ := base64.StdEncoding.DecodeString(s)
		return string(raw)
	}
	var name, password string
	ok := true
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		if !hasInitial {
			if initial, ok = ask(""); !ok {
				return false
			}
		}
		parts := strings.Split(decode(initial), "\x00")
		if len(parts) != 3 {
			c.say("535 5.7.8 Error: authentication failed: malformed")
			return true
		}
		name, password = parts[1], parts[2]
	case "LOGIN":
		if !hasInitial {
			if initial, ok = ask("Username:"); !ok {
				return false
			}
		}
		name = decode(initial)
		second, ok := ask("Password:")
		if !ok {
			return false
		}
		password = decode(second)
	default:
		c.say("504 5.5.4 Error: unrecognized mechanism")
		return true
	}
	behave, goOn := c.at("verdict")
	if !behave {
		return goOn
	}
	if !c.judge(c.Accounts, name, password) {
		wrong := c.Wrong
		if wrong == "" {
			wrong = "535 5.7.8 Error: authentication failed: (reason unavailable)"
		}
		c.say("%s", wrong)
		return true
	}
	c.user = name
	c.say("235 2.7.0 Authentication successful")
	return true
}

func (c *smtpSession) rcpt(address string) {
	if !c.mail {
		c.say("503 5.5.1 Error: need MAIL command")
		return
	}
	if c.Recipient != nil {
		if reply := c.Recipient(address); reply != "" {
			c.say("%s", reply)
			return
		}
	}
	c.to = append(c.to, address)
	c.say("250 2.1.5 Ok")
}

// data ends only at CRLF.CRLF (RFC 5321 section 4.1.1.4).
func (c *smtpSession) data() bool {
	if len(c.to) == 0 {
		c.say("503 5.5.1 Error: need RCPT command")
		return true
	}
	c.mu.Lock()
	c.begun++
	c.mu.Unlock()
	c.say("354 End data with <CR><LF>.<CR><LF>")
	var body bytes.Buffer
	var line []byte
	for {
		part, err := c.r.ReadBytes('\n')
		if err != nil {
			return false
		}
		line = append(line, part...)
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			continue
		}
		if string(line) == ".\r\n" {
			break
		}
		body.Write(bytes.TrimPrefix(line, []byte(".")))
		line = line[:0]
	}
	return c.deliver(body.Bytes())
}

// offers returns the parameters of an extension that is offered.
func (c *smtpSession) offers(keyword string) (parameters string, ok bool) {
	for _, line := range c.Extensions {
		if word, rest, _ := strings.Cut(line, " "); word == keyword {
			return rest, true
		}
	}
	return "", false
}

// bdat takes a chunk (RFC 3030). Its octets are read whatever becomes of it.
func (c *smtpSession) bdat(arg string) bool {
	if _, ok := c.offers("CHUNKING"); !ok {
		c.say("502 5.5.1 Error: command not implemented")
		return true
	}
	count, last, _ := strings.Cut(arg, " ")
	size, err := strconv.Atoi(count)
	if err != nil {
		c.say("501 5.5.4 Syntax: BDAT count [LAST]")
		return true
	}
	octets := make([]byte, size)
	if _, err := io.ReadFull(c.r, octets); err != nil {
		return false
	}
	switch {
	case len(c.to) == 0:
		c.say("503 5.5.1 Error: need RCPT command")
		return true
	case c.chunks == nil:
		c.mu.Lock()
		c.begun++
		c.mu.Unlock()
	}
	c.chunks = append(append([]byte{}, c.chunks...), octets...)
	if !strings.EqualFold(last, "LAST") {
		c.say("250 2.0.0 Ok: %d bytes", size)
		return true
	}
	text := c.chunks
	c.chunks = nil
	return c.deliver(text)
}

// deliver takes a message whose end has come.
func (c *smtpSession) deliver(text []byte) bool {
	from, to := c.from, c.to
	c.from, c.to, c.mail = "", nil, false
	behave, goOn := c.at("message")
	if !behave {
		return goOn
	}
	size, _ := c.offers("SIZE")
	if most, err := strconv.Atoi(size); err == nil && len(text) > most {
		c.say("552 5.3.4 Error: message file too big")
		return true
	}
	c.mu.Lock()
	id := fmt.Sprintf("4Q%08X", len(c.messages)+1)
	c.messages = append(c.messages, Message{
		User: c.user, From: from, To: to, Data: text, ID: id, Client: c.client,
	})
	c.mu.Unlock()
	c.say("250 2.0.0 Ok: queued as %s", id)
	return true
}
