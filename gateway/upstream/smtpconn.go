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
// goroutine at a time uses it; Close may be called by any.
//
// A reply of the server other than success is an error of type
// [*smtp.SMTPError]; any other error means that the connection is of no use any
// more.
type SMTPConn struct {
	// Extensions are what the server offers to this user.
	Extensions Extensions

	client    *smtp.Client
	stream    *smtpStream
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
	// A server that talks on when it was asked nothing is heard all the same.
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

// smtpStream is the connection below go-smtp's client. It gives each write its
// own time: the client gives none to the lines of a message. And it sends what is
// left of a message in one piece with its end.
type smtpStream struct {
	net.Conn
	ahead   *strings.Reader    // what is read before anything else; or nil
	message *[messageSize]byte // with n octets that are still to be sent; or nil
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

// messageSize is how much of a message waits, at most, for what comes next. A
// session between two messages has no buffer.
const messageSize = 16 << 10

var messagePool = sync.Pool{New: func() any { return new([messageSize]byte) }}

// put adds octets of a message to those that wait, and sends them when there are
// too many.
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

// done forgets what waits.
func (s *smtpStream) done() {
	if s.message != nil {
		messagePool.Put(s.message)
		s.message, s.n = nil, 0
	}
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
	return &SMTPMessage{conn: c, w: w, begins: true}, nil
}

// SMTPMessage is a message on its way. What is written is the message itself,
// with lines that end in CRLF; dots are stuffed on the way.
//
// go-smtp's writer would look at each octet by itself, and hand on what it has
// every 4096. So it is shown the end of the message only: the last CRLF, and that
// there is nothing more. It makes CRLF.CRLF of it, which smtpStream sends together
// with what is left of the message.
type SMTPMessage struct {
	conn *SMTPConn
	w    *smtp.DataCommand

	begins bool // a line
	held   int  // how much of CRLF was held back: it may be the last
}

// Write implements io.Writer. Nothing leaves here that another server could take
// for the end of a line and this one does not, or the other way round
// (CVE-2023-51764).
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

// Finish ends the message and returns the server's reply, which is code 250.
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
