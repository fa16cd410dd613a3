package frontendtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/gateway/mailtest"
)

// Client is a mail client. What it does not expect fails its test.
type Client struct {
	T testing.TB
	net.Conn
	r *bufio.Reader
}

// NewClient returns a client on a connection, which has a minute for all it does: only
// a failing test needs it.
func NewClient(t testing.TB, conn net.Conn) *Client {
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &Client{t, conn, bufio.NewReader(conn)}
}

// Secure makes a TLS handshake.
func (c *Client) Secure() {
	c.T.Helper()
	secured := tls.Client(c.Conn, mailtest.ClientTLS())
	if err := secured.Handshake(); err != nil {
		c.T.Fatal(err)
	}
	c.Conn, c.r = secured, bufio.NewReader(secured)
}

// Say says a line.
func (c *Client) Say(line string) {
	c.T.Helper()
	c.Send(line + "\r\n")
}

// Send says octets as they are.
func (c *Client) Send(octets string) {
	c.T.Helper()
	if _, err := io.WriteString(c.Conn, octets); err != nil {
		c.T.Fatalf("write: %v", err)
	}
}

// Line reads a line, without its end.
func (c *Client) Line() string {
	c.T.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.T.Fatalf("read %q, then %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// Expect reads a line that begins as prefix says.
func (c *Client) Expect(prefix string) string {
	c.T.Helper()
	line := c.Line()
	if !strings.HasPrefix(line, prefix) {
		c.T.Fatalf("read %q, want %q...", line, prefix)
	}
	return line
}

// ExpectLine reads exactly this line.
func (c *Client) ExpectLine(want string) {
	c.T.Helper()
	if line := c.Line(); line != want {
		c.T.Fatalf("read %q, want %q", line, want)
	}
}

// Gone waits for the end of the connection and returns what came before.
func (c *Client) Gone() string {
	c.T.Helper()
	rest, err := io.ReadAll(c.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.T.Fatalf("the connection is still open after %q", rest)
	}
	return string(rest)
}

// Echoed sends a mebibyte of any octets and the end of its own, where they come back as
// they are.
func (c *Client) Echoed() {
	c.T.Helper()
	noise := make([]byte, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	go func() {
		c.Write(noise)
		c.Conn.(*tls.Conn).CloseWrite()
	}()
	if got := c.Gone(); got != string(noise) {
		c.T.Errorf("%d octets of %d came back, or others", len(got), len(noise))
	}
}

// Pipes is a listener in memory.
type Pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// NewPipes returns a listener in memory.
func NewPipes() *Pipes { return &Pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

// Accept implements [net.Listener].
func (p *Pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (p *Pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// Addr implements [net.Listener].
func (p *Pipes) Addr() net.Addr { return new(net.TCPAddr) }

// Dial connects to the listener.
func (p *Pipes) Dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}
