package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-smtp"
)

// SMTPConn is a connection to the mail server on which a user is logged in. One
// goroutine at a time uses it; any goroutine may call Close.
//
// A reply of the server other than success is an error of type [*smtp.SMTPError]; after
// any other error the connection cannot be used.
type SMTPConn struct {
	// Extensions are the server's extensions for this user.
	Extensions Extensions

	client    *smtp.Client
	stream    *smtpStream
	tcp, conn net.Conn // conn is tcp, or TLS over it
	// open is set from DATA to the reply to the final dot.
	open atomic.Bool
}

// The minimum times for which a client waits (RFC 5321 section 4.5.3.2).
const (
	smtpCommandTimeout = 5 * time.Minute  // sections 4.5.3.2.2 and 4.5.3.2.3
	smtpBlockTimeout   = 3 * time.Minute  // section 4.5.3.2.5
	smtpDotTimeout     = 10 * time.Minute // section 4.5.3.2.6
)

// release gives the connection to go-smtp's client, which insists on a greeting and so
// receives one.
func (d *smtpDialogue) release() (*SMTPConn, error) {
	if err := d.conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	// Unsolicited data from the server is read first.
	ahead, err := d.r.Peek(d.r.Buffered())
	if err != nil {
		return nil, err
	}
	stream := &smtpStream{Conn: d.conn, ahead: strings.NewReader("220 again\r\n" + string(ahead))}
	client := smtp.NewClient(stream)
	client.CommandTimeout, client.SubmissionTimeout = d.server.step(), smtpDotTimeout
	if err := client.Hello(d.localName()); err != nil {
		return nil, err
	}
	if !d.stop() {
		return nil, d.ctx.Err()
	}
	client.CommandTimeout = smtpCommandTimeout
	d.done()
	return &SMTPConn{Extensions: d.extensions, client: client, stream: stream, tcp: d.tcp, conn: d.conn}, nil
}

// smtpStream is the connection below go-smtp's client. It sets a deadline for each
// write, since the client sets none for the lines of a message. It sends the end of a
// message together with the rest of it.
type smtpStream struct {
	net.Conn
	ahead   *strings.Reader    // is read first, unless nil
	message *[messageSize]byte // with n octets still to send; or nil
	n       int
}

func (s *smtpStream) Read(b []byte) (int, error) {
	if s.ahead != nil {
		if n, err := s.ahead.Read(b); err == nil {
			return n, nil
		}
		s.ahead = nil
	}
	return s.Conn.Read(b)
}

func (s *smtpStream) Write(b []byte) (int, error) {
	if s.n > 0 {
		before := s.n
		n, err := s.send(append(s.message[:before], b...))
		s.n = 0
		return max(0, n-before), err
	}
	return s.send(b)
}

func (s *smtpStream) send(b []byte) (int, error) {
	s.Conn.SetWriteDeadline(time.Now().Add(smtpBlockTimeout))
	return s.Conn.Write(b)
}

// messageSize is the size of the buffer for a message. A session between two messages
// has no buffer.
const messageSize = 16 << 10

var messagePool = sync.Pool{New: func() any { return new([messageSize]byte) }}

// put adds octets of a message to the buffer, and sends the buffer when it is full.
func (s *smtpStream) put(b []byte) error {
	if s.message == nil {
		s.message = messagePool.Get().(*[messageSize]byte)
	}
	for len(b) > 0 {
		if s.n == messageSize {
			if _, err := s.send(s.message[:]); err != nil {
				return err
			}
			s.n = 0
		}
		n := copy(s.message[s.n:], b)
		s.n, b = s.n+n, b[n:]
	}
	return nil
}

// done releases the buffer.
func (s *smtpStream) done() {
	if s.message != nil {
		messagePool.Put(s.message)
		s.message, s.n = nil, 0
	}
}

var errMessageOpen = errors.New("a message is under way")

// Mail starts a transaction. The AUTH parameter is never passed on (RFC 4954 section 5:
// a client's value is not to be trusted).
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

// Reset abandons a transaction before its message has begun.
func (c *SMTPConn) Reset() error {
	if c.open.Load() {
		return errMessageOpen
	}
	return c.client.Reset()
}

// Data starts the message. It can end in two ways: Finish delivers it, and Close of the
// connection does not. There is no third way, since go-smtp's client would end the
// incomplete message with any further command.
func (c *SMTPConn) Data() (*SMTPMessage, error) {
	if c.open.Load() {
		return nil, errMessageOpen
	}
	w, err := c.client.Data()
	if err != nil {
		return nil, err
	}
	c.open.Store(true)
	return &SMTPMessage{conn: c, w: w, begins: true}, nil
}

// SMTPMessage is a message being sent. Write takes the message itself, with lines that
// end in CRLF, and adds the dot-stuffing.
//
// go-smtp's writer would process each octet, and pass on its data every 4096. So it
// receives only the end of the message: the last CRLF, and the close. It turns that
// into CRLF.CRLF, which smtpStream sends together with the rest of the message.
type SMTPMessage struct {
	conn *SMTPConn
	w    *smtp.DataCommand

	begins bool // the next octet begins a line
	held   int  // octets of CRLF that were held back: it may be the last
}

// Write implements io.Writer. It sends nothing that one server treats as the end of a
// line and another does not (CVE-2023-51764).
func (m *SMTPMessage) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line := rest
		if end := bytes.IndexByte(rest, '\n'); end >= 0 {
			line = rest[:end+1]
		}
		rest = rest[len(line):]
		if m.held == 1 {
			if line[0] != '\n' {
				return 0, errNoCRLF
			}
			m.held, m.begins = 2, true
			continue
		}
		if err := m.put(crlf[:m.held]); err != nil {
			return 0, err
		}
		if m.begins && line[0] == '.' { // RFC 5321 section 4.5.2
			if err := m.put(dot); err != nil {
				return 0, err
			}
		}
		m.held = 0
		switch cr := bytes.IndexByte(line, '\r'); {
		case cr >= 0 && cr == len(line)-1:
			m.held = 1
		case cr >= 0 && cr == len(line)-2 && line[cr+1] == '\n':
			m.held = 2
		case cr >= 0 || line[len(line)-1] == '\n':
			return 0, errNoCRLF
		}
		m.begins = m.held == 2
		if err := m.put(line[:len(line)-m.held]); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

var (
	crlf, dot = []byte("\r\n"), []byte(".")
	errNoCRLF = errors.New("a line of the message does not end in CRLF")
)

func (m *SMTPMessage) put(b []byte) error { return m.conn.stream.put(b) }

// Finish ends the message and returns the server's reply with code 250.
func (m *SMTPMessage) Finish() (*smtp.SMTPError, error) {
	defer m.conn.stream.done()
	// Without a last CRLF go-smtp's writer adds one.
	if _, err := m.w.Write(crlf[:m.held]); err != nil {
		return nil, err
	}
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

// successReply separates the enhanced status code (RFC 2034 section 4) from the text.
func successReply(text string) *smtp.SMTPError {
	reply := &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: text}
	code, rest, ok := strings.Cut(text, " ")
	var e smtp.EnhancedCode
	if n, err := fmt.Sscanf(code, "%d.%d.%d", &e[0], &e[1], &e[2]); ok && err == nil && n == 3 && e[0] == 2 {
		reply.EnhancedCode, reply.Message = e, strings.ReplaceAll(rest, "\n"+code+" ", "\n")
	}
	return reply
}

// Close closes the connection in any state. An unfinished message is not delivered.
func (c *SMTPConn) Close() error { return c.tcp.Close() }

// Quit ends the session without waiting for an answer, and closes the connection.
func (c *SMTPConn) Quit() {
	if !c.open.Load() {
		c.conn.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(c.conn, "QUIT\r\n")
	}
	c.Close()
}

var errPath = errors.New("bad address syntax")

// smtpPath formats an address, whose local part is unquoted, for the place between <
// and > (RFC 5321 section 4.1.2). Without this, `"b> NOTIFY=NEVER "@example.com` would
// be an address and a parameter.
func smtpPath(address string) (string, error) {
	i := strings.LastIndexByte(address, '@')
	if i <= 0 || !utf8.ValidString(address) {
		return "", errPath
	}
	local, domain := address[:i], address[i+1:]
	// An @ in a quoted local part would look like the beginning of a domain.
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

// validDomain accepts a domain or an address literal, and nothing that could end it
// early.
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
