package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/gateway/frontend"
)

// What a client may do before it is logged in, besides talking to go-smtp's own
// limits: enough for ten logins that fail, far from enough to be a burden.
const (
	maxEarlyLines  = 100
	maxEarlyOctets = 512 << 10
	// maxEarlyCommand bounds one command, with its responses.
	maxEarlyCommand = frontend.MaxCommand
)

// writeTimeout is the longest that a client may take to read a reply.
const writeTimeout = time.Minute

// displacedTime is the same for a client whose place is another's.
const displacedTime = time.Second

// conn is one client's connection: the bare one during the dialogue in clear,
// then TLS over it. See the package's comment for why it is above TLS.
type conn struct {
	times times
	// inner is replaced under mu by secure, before go-smtp is there. gate is below TLS.
	inner net.Conn
	gate  *frontend.Gate
	place *frontend.Place // before the login it can be taken

	mu       sync.Mutex
	opened   time.Time
	refused  time.Time // the latest login
	began    time.Time // when the line began that is being read
	loggedIn bool
	// displaced: the place of this connection is another's, and every Read fails as
	// if the time were over, unless the login that is under way is right.
	displaced bool
	busy      bool  // a mail transaction is open
	draining  bool  // no new transaction may begin
	expired   bool  // every Read fails as if the time were over
	tooLong   bool  // every Read fails as after a line that is too long
	ended     bool  // every Read says that the client is gone
	lines     int   // begun before login
	command   int   // octets read of the command, before login
	room      int   // octets left before login
	later     error // what Read came upon together with its last octets
	message   bool  // the client is sending a message by DATA
	ends      int   // what dots.ends was when the transaction began

	// kicked: an admin, or the end of the drain, ends this session; nothing more
	// is done for it.
	kicked atomic.Bool
	// over: there is nothing more to read: the client is gone, or out of time.
	// A chunk that go-smtp calls complete is not, then.
	over atomic.Bool
	// chunked: a message is being sent with BDAT.
	chunked atomic.Bool
	// mute drops the next greeting. partial are the lines of a reply whose last one
	// is still to come.
	mute    bool
	partial []byte

	// Only the goroutine that reads uses these. held was read and not given out;
	// inLine is set from the begin of a line that is given out alone to its end;
	// alone says that it was, so that go-smtp holds nothing that came after it.
	// chunk is how much of a chunk go-smtp has not been given yet.
	held    []byte
	inLine  bool
	alone   bool
	chunk   int
	maxLine int

	http httpWatch
	dots dotWatch

	received, sent atomic.Int64
	closing        sync.Once
	closed         chan struct{}
}

// times are the limits of Server, filled in.
type times struct{ login, total, command time.Duration }

func newConn(inner net.Conn, t times) *conn {
	now := time.Now()
	inner, gate := frontend.Watch(inner)
	return &conn{inner: inner, gate: gate, times: t, opened: now, began: now, room: maxEarlyOctets, maxLine: maxClearLine, closed: make(chan struct{})}
}

// errEarly: RFC 3207 section 4.2; CVE-2011-0411. What came before the handshake
// must not be taken for something that was said after it.
var errEarly = errors.New("octets before the handshake")

// secure makes the TLS handshake, within the time for a login.
func (c *conn) secure(ctx context.Context, config *tls.Config) error {
	if len(c.held) > 0 {
		return errEarly
	}
	ctx, cancel := context.WithTimeout(ctx, c.times.login)
	defer cancel()
	c.mu.Lock()
	if c.expired || c.displaced || c.ended {
		c.mu.Unlock()
		return os.ErrDeadlineExceeded // what forced it came before this goroutine
	}
	c.inner.SetDeadline(time.Time{})
	c.mu.Unlock()
	c.gate.Handshake()
	secured := tls.Server(c.inner, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inner, c.maxLine = secured, maxLine
	c.gate.Talk(func() int { return frontend.MaxCommand })
	return nil
}

// Read implements net.Conn. Of a command it gives one whole line only: go-smtp
// would take what there is of a line, when the client is gone, for all of it, and
// half a password is a wrong one; and what comes after DATA is read by message,
// as long as go-smtp does not have it. Of what follows BDAT it gives the chunk only
// (RFC 3030): a command behind it, that go-smtp would hold, would leave
// the next chunk to be taken for a line.
//
// What is held when the connection has ended stays unread: go-smtp would take it
// for commands, of a session that is over.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.finished(); err != nil {
		c.over.Store(true)
		return 0, err
	}
	if c.inLine || c.chunk == 0 {
		return c.readHeld(b)
	}
	n, err := c.readHeld(b[:min(len(b), c.chunk)])
	c.chunk -= n
	return n, err
}

func (c *conn) readHeld(b []byte) (int, error) {
	n := len(c.held)
	if n == 0 {
		var err error
		if n, err = c.read(b); err != nil || !c.inLine {
			return n, err
		}
		// The usual case: one line that came in one piece.
		if bytes.IndexByte(b[:n], '\n') == n-1 && n > 0 {
			c.inLine, c.alone, c.chunk = false, true, chunkSize(b[:n])
			return n, nil
		}
		c.held = append(c.held, b[:n]...)
	}
	if c.inLine {
		if err := c.fillLine(); err != nil {
			return 0, err
		}
		n = bytes.IndexByte(c.held, '\n') + 1
		if n == 0 { // too long; go-smtp says so
			n = len(c.held)
		}
	}
	if n = copy(b, c.held[:n]); n > 0 && b[n-1] == '\n' {
		if c.alone = c.inLine; c.alone {
			c.chunk = chunkSize(b[:n])
		}
		c.inLine = false
	}
	c.keep(c.held[n:])
	return n, nil
}

// chunkSize is how long the chunk is that follows a command, read as go-smtp reads
// it; 0 for any command but BDAT. Should go-smtp refuse the command all the same,
// the next one ends the chunk.
func chunkSize(line []byte) int {
	words := bytes.Fields(line)
	if len(words) < 2 || !bytes.EqualFold(words[0], []byte("BDAT")) {
		return 0
	}
	size, err := strconv.ParseUint(string(words[1]), 10, 32)
	if err != nil {
		return 0
	}
	return int(size)
}

// keep is what is held from now on. An idle connection has no buffer.
func (c *conn) keep(rest []byte) {
	if c.held = rest; len(rest) == 0 {
		c.held = nil
	}
}

// fillLine reads until held has the end of a line.
func (c *conn) fillLine() error {
	for bytes.IndexByte(c.held, '\n') < 0 && len(c.held) <= c.maxLine {
		c.held = slices.Grow(c.held, 2048)
		n, err := c.read(c.held[len(c.held):cap(c.held)])
		if err != nil {
			return err
		}
		c.held = c.held[:len(c.held)+n]
	}
	return nil
}

// read reads from the connection itself.
func (c *conn) read(b []byte) (int, error) {
	if err := c.arm(); err != nil {
		c.over.Store(true)
		return 0, err
	}
	n, err := c.inner.Read(b)
	if n > 0 {
		c.received.Add(int64(n))
		// Octets first, the error next time: otherwise a chunk that is complete
		// could look cut short.
		return c.look(b[:n], err)
	}
	if err == nil {
		return 0, nil
	}
	c.over.Store(true)
	if isTimeout(err) {
		return 0, c.expire()
	}
	return 0, err
}

// finished says why nothing more is to be read, be it here already.
func (c *conn) finished() error {
	select {
	case <-c.closed:
		return net.ErrClosed // QUIT, or a panic in go-smtp
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return io.EOF
	case c.expired, c.displaced:
		return c.timeout()
	case c.tooLong:
		return gosmtp.ErrTooLongLine // go-smtp answers 500 5.4.0 and closes
	}
	return nil
}

// arm sets the time for the Read that follows, or says why there is none.
func (c *conn) arm() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return io.EOF
	case c.expired, c.displaced:
		return c.timeout()
	case c.tooLong:
		return gosmtp.ErrTooLongLine
	case c.atMissedEnd():
		c.expired = true
		return c.timeout()
	case c.later != nil:
		if isTimeout(c.later) {
			c.expired = true
			return c.timeout()
		}
		return c.later
	}
	var until time.Time
	if c.loggedIn {
		// RFC 5321 section 4.5.3.2.7: at least five minutes; of a message, for each
		// piece of it.
		until = time.Now().Add(c.times.command)
	} else {
		until = earlier(c.began.Add(c.times.login), c.opened.Add(c.times.total))
		if !c.refused.IsZero() {
			// Its user is asked for the password: the next try is to come on this
			// connection, where the same password costs nothing.
			until = c.refused.Add(c.times.total)
		}
	}
	return c.inner.SetReadDeadline(until)
}

// refuse notes that a login was refused.
func (c *conn) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = time.Now()
}

// atMissedEnd reports whether the message has ended and go-smtp, who wants to read
// more of it, has not noticed.
func (c *conn) atMissedEnd() bool { return c.message && c.dots.ends > c.ends }

func (c *conn) missedEnd() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.atMissedEnd()
}

// look examines what was read.
func (c *conn) look(b []byte, err error) (n int, late error) {
	c.mu.Lock()
	n, late = c.examine(b, err)
	early, command := !c.loggedIn, c.command
	c.mu.Unlock()
	if early {
		c.place.HoldCommand(command) // which may displace this one
	}
	return n, late
}

// examine is look, with c.mu held.
func (c *conn) examine(b []byte, err error) (int, error) {
	c.later = err
	c.dots.see(b)
	if c.loggedIn {
		return len(b), nil
	}
	if c.room -= len(b); c.room < 0 {
		c.expired = true
	}
	if c.command += len(b); c.command > maxEarlyCommand {
		c.tooLong = true
	}
	// A browser that was made to talk to a mail server must not get far.
	if c.http.see(b) {
		c.ended = true
		c.over.Store(true)
		return 0, io.EOF
	}
	return len(b), nil
}

// expire notes that the time is over, for good.
func (c *conn) expire() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = true
	return c.timeout()
}

// timeout is what go-smtp answers with 421. In the middle of BDAT it would
// answer 554 and the text of the error, unless the error is a reply.
func (c *conn) timeout() error {
	if c.chunked.Load() {
		c.ended = true // said once
		return timedOut()
	}
	return os.ErrDeadlineExceeded
}

// timedOut is the reply to a client that was too slow, or is not wanted any more
// (RFC 5321 section 3.8).
func timedOut() *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: 421, EnhancedCode: gosmtp.EnhancedCode{4, 4, 2}, Message: "Session ended"}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// SetReadDeadline is called by go-smtp when it begins to read a command, or a
// line of AUTH. The time itself does not matter, the call does.
func (c *conn) SetReadDeadline(time.Time) error {
	c.inLine, c.alone, c.chunk = true, false, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.message = time.Now(), false
	if !c.loggedIn {
		c.command = 0
		if c.lines++; c.lines > maxEarlyLines {
			c.expired = true
		}
	}
	if c.draining && !c.busy {
		c.expired = true
	}
	return nil
}

// SetWriteDeadline and SetDeadline do nothing: Write sets its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
func (c *conn) SetDeadline(time.Time) error      { return nil }

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.mute {
		c.mute = false
		return len(b), nil
	}
	// go-smtp writes a reply line by line; each would be a record of TLS.
	if continues(b) {
		c.partial = append(c.partial, b...)
		return len(b), nil
	}
	before := len(c.partial)
	if before > 0 {
		b = append(c.partial, b...)
		c.partial = nil
	}
	c.mu.Lock()
	most := writeTimeout
	if c.displaced {
		most = displacedTime
	}
	c.inner.SetWriteDeadline(time.Now().Add(most))
	c.mu.Unlock()
	n, err := c.inner.Write(b)
	c.sent.Add(int64(n))
	return max(0, n-before), err
}

// continues reports whether b ends with a line after which its reply goes on (RFC
// 5321 section 4.2.1).
func continues(b []byte) bool {
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return false
	}
	line := b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]
	return len(line) > 4 && line[3] == '-'
}

// Close implements net.Conn.
func (c *conn) Close() (err error) {
	c.closing.Do(func() {
		c.mu.Lock()
		linger := c.tooLong
		c.mu.Unlock()
		if linger {
			c.linger()
		}
		err = c.inner.Close()
		close(c.closed)
	})
	return err
}

// linger lets a client that sends too much read why it was too much: closing a socket
// with something unread in it would take the reply back.
func (c *conn) linger() {
	if secured, ok := c.inner.(*tls.Conn); ok {
		secured.CloseWrite()
	}
	below := c.gate.NetConn()
	half, ok := below.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	below.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, below, maxEarlyOctets) // whatever ends it: the connection ends
}

// abort closes the connection under everything; anybody may call it.
func (c *conn) abort() {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	inner.Close()
}

// LocalAddr and RemoteAddr implement net.Conn.
func (c *conn) LocalAddr() net.Addr  { return c.inner.LocalAddr() }
func (c *conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// login switches to the times and limits of a client that is logged in.
func (c *conn) login() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loggedIn = true
	c.displaced = false // the next Read and Write set their times
	c.place.LoggedIn()
	c.gate.Open()
}

// swallowed reports whether go-smtp has hidden a bare CR from a session.
func (c *conn) swallowed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dots.swallowed
}

// transaction notes that a mail transaction begins or is over.
func (c *conn) transaction(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = open
	c.ends = c.dots.ends
}

// data notes that a message is being sent, until the next command begins.
func (c *conn) data(chunked bool) {
	c.chunked.Store(chunked)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.message = !chunked
}

// hangUp ends the connection after the reply that is about to be written.
func (c *conn) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

// kick ends the session at once; a message that is not complete is not
// delivered.
func (c *conn) kick() {
	c.kicked.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.force()
}

// displace ends the session unless it is logged in: another has its place. It does
// not wait for a client that does not read.
func (c *conn) displace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loggedIn {
		c.displaced = true
		c.inner.SetReadDeadline(time.Unix(1, 0))
		c.inner.SetWriteDeadline(time.Now().Add(displacedTime))
	}
}

// drain ends the session when no mail transaction is open, or when it is over.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if !c.busy {
		c.force()
	}
}

// force makes the Read under way, and every other, run out of time.
func (c *conn) force() {
	c.expired = true
	c.inner.SetReadDeadline(time.Unix(1, 0))
}
