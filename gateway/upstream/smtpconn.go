package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

// SMTPConn is a connection to the mail server on which a user is logged in. One
// goroutine at a time uses it; Close may be called by any.
//
// A reply of the server other than success is an error of type
// [*smtp.SMTPError]; any other error means that the connection is of no use any
// more.
type SMTPConn struct {
	// Extensions are what the server offers to this user.
	Extensions Extensions

	client    *smtp.Client
	tcp, conn net.Conn // conn is tcp, or TLS over it
	// open is set from DATA to the reply to the final dot.
	open atomic.Bool
}

// How long a client waits, at least (RFC 5321 section 4.5.3.2).
const (
	smtpCommandTimeout = 5 * time.Minute  // sections 4.5.3.2.2 and 4.5.3.2.3
	smtpBlockTimeout   = 3 * time.Minute  // section 4.5.3.2.5
	smtpDotTimeout     = 10 * time.Minute // section 4.5.3.2.6
)

// release gives the connection to go-smtp's client. That one insists on reading
// a greeting, so it is given one.
func (d *smtpDialogue) release() (*SMTPConn, error) {
	if err := d.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	client := smtp.NewClient(&smtpStream{Conn: d.conn, r: d.r, greeting: strings.NewReader("220 again\r\n")})
	client.CommandTimeout, client.SubmissionTimeout = d.server.step(), smtpDotTimeout
	if err := client.Hello(d.localName()); err != nil {
		return nil, err
	}
	if !d.stop() {
		return nil, d.ctx.Err()
	}
	client.CommandTimeout = smtpCommandTimeout
	return &SMTPConn{Extensions: d.extensions, client: client, tcp: d.tcp, conn: d.conn}, nil
}

// smtpStream is the connection below go-smtp's client. It gives each write its
// own time: the client gives none to the lines of a message.
type smtpStream struct {
	net.Conn
	greeting io.Reader
	r        *bufio.Reader
}

func (s *smtpStream) Read(b []byte) (int, error) {
	if n, err := s.greeting.Read(b); err == nil {
		return n, nil
	}
	return s.r.Read(b)
}

func (s *smtpStream) Write(b []byte) (int, error) {
	s.Conn.SetWriteDeadline(time.Now().Add(smtpBlockTimeout))
	return s.Conn.Write(b)
}

var errMessageOpen = errors.New("a message is under way")

// Mail begins a transaction. The AUTH parameter is never passed on (RFC 4954
// section 5: a client is not to be trusted with it).
func (c *SMTPConn) Mail(from string, options smtp.MailOptions) error {
	if c.open.Load() {
		return errMessageOpen
	}
	options.Auth = nil
	if options.UTF8 && !c.Extensions.Has("SMTPUTF8") {
		return &smtp.SMTPError{Code: 555, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "SMTPUTF8 is not available"}
	}
	path := ""
	if from != "" {
		var err error
		if path, err = smtpPath(from); err != nil {
			return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 7}, Message: err.Error()} // RFC 3463 section 3.2
		}
	}
	return c.client.Mail(path, &options)
}

// Rcpt adds a recipient.
func (c *SMTPConn) Rcpt(to string, options *smtp.RcptOptions) error {
	if c.open.Load() {
		return errMessageOpen
	}
	path, err := smtpPath(to)
	if err != nil {
		return &smtp.SMTPError{Code: 553, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: err.Error()} // RFC 3463 section 3.2
	}
	return c.client.Rcpt(path, options)
}

// Reset abandons a transaction in which no message was begun.
func (c *SMTPConn) Reset() error {
	if c.open.Load() {
		return errMessageOpen
	}
	return c.client.Reset()
}

// Data begins the message. From here on there are two ways out: Finish, which
// delivers it, and Close of the connection, which does not. There is no third,
// since go-smtp's client would end the message, as far as it went, with any
// command that follows.
func (c *SMTPConn) Data() (*SMTPMessage, error) {
	if c.open.Load() {
		return nil, errMessageOpen
	}
	w, err := c.client.Data()
	if err != nil {
		return nil, err
	}
	c.open.Store(true)
	return &SMTPMessage{conn: c, w: w}, nil
}

// SMTPMessage is a message on its way. What is written is the message itself,
// with lines that end in CRLF; dots are stuffed on the way.
type SMTPMessage struct {
	conn *SMTPConn
	w    *smtp.DataCommand
}

// Write implements io.Writer.
func (m *SMTPMessage) Write(b []byte) (int, error) { return m.w.Write(b) }

// Finish ends the message and returns the server's reply, which is code 250.
func (m *SMTPMessage) Finish() (*smtp.SMTPError, error) {
	response, err := m.w.CloseWithResponse()
	var refused *smtp.SMTPError
	if err == nil || errors.As(err, &refused) {
		m.conn.open.Store(false)
	}
	if err != nil {
		return nil, err
	}
	return successReply(response.StatusText), nil
}

// successReply takes the enhanced status code (RFC 2034 section 4) out of the
// text.
func successReply(text string) *smtp.SMTPError {
	reply := &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: text}
	code, rest, ok := strings.Cut(text, " ")
	var e smtp.EnhancedCode
	if n, err := fmt.Sscanf(code, "%d.%d.%d", &e[0], &e[1], &e[2]); ok && err == nil && n == 3 && e[0] == 2 {
		reply.EnhancedCode, reply.Message = e, strings.ReplaceAll(rest, "\n"+code+" ", "\n")
	}
	return reply
}

// Close closes the connection, whatever is under way. A message that was not
// finished is not delivered.
func (c *SMTPConn) Close() error { return c.tcp.Close() }

// Quit takes leave, without waiting for an answer, and closes the connection.
func (c *SMTPConn) Quit() {
	if !c.open.Load() {
		c.conn.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(c.conn, "QUIT\r\n")
	}
	c.Close()
}

var errPath = errors.New("bad address syntax")

// smtpPath writes an address, whose local part has no quotes any more, the way
// it has to stand between < and > (RFC 5321 section 4.1.2). Without this,
// `"b> NOTIFY=NEVER "@example.com` would be an address and a parameter.
func smtpPath(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || !utf8.ValidString(address) {
		return "", errPath
	}
	local, domain := address[:i], address[i+1:]
	// An @ in a quoted local part cannot be told from one that begins a domain.
	if strings.ContainsRune(local, '@') || !validDomain(domain) {
		return "", errPath
	}
	atom, quoted := true, new(strings.Builder)
	for _, r := range local {
		switch {
		case r < ' ' || r == 0x7f:
			return "", errPath
		case r == '"' || r == '\\':
			atom = false
			quoted.WriteByte('\\')
		case strings.ContainsRune(" ()<>[]:;,", r):
			atom = false
		}
		quoted.WriteRune(r)
	}
	if atom && local[0] != '.' && local[len(local)-1] != '.' && !strings.Contains(local, "..") {
		return address, nil
	}
	return `"` + quoted.String() + `"@` + domain, nil
}

// validDomain allows a domain or an address literal and nothing that could end
// it early.
func validDomain(domain string) bool {
	if domain == "" || len(domain) > 255 { // RFC 5321 section 4.5.3.1.2
		return false
	}
	if inner, ok := strings.CutPrefix(domain, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEFIPv:.") == ""
	}
	for _, r := range domain {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_', r >= utf8.RuneSelf:
		default:
			return false
		}
	}
	return true
}
