// Package proxyproto reads the client's address from the header that a load balancer
// sends before the first octet of the client (the PROXY protocol, versions 1 and 2,
// https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt).
//
// Only listed balancers may send a header, and they must. Every other connection is
// passed on unchanged: a header in it is then the client's first data, and no command
// and no TLS handshake begins like one. The listener never guesses whether there is a
// header (section 2 of the
// specification forbids it).
//
// The header stands below everything, TLS included. It is read in a goroutine of
// the connection's own, so that a silent balancer delays no other connection, and
// [Listener.Accept] returns connections whose client is known: a count of connections
// by address counts clients.
package proxyproto

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

// Policy says which peers may send a PROXY header.
type Policy struct {
	// From are the networks of the load balancers. Empty: there are none.
	From []netip.Prefix
	// Timeout is how long a balancer may take for its header, which it has ready
	// before it connects. 0: [DefaultTimeout].
	Timeout time.Duration
}

// trusts reports whether a header is to be expected from this address.
func (p Policy) trusts(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, network := range p.From {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// maxPending limits the connections that wait for their header. Each costs a goroutine
// and half a kilobyte.
const maxPending = 4096

// Listener accepts connections of clients and of load balancers. Set the fields before
// the first Accept and do not change them afterwards.
type Listener struct {
	// Listener is the wrapped listener; it is closed with this one.
	net.Listener
	// Policy is called for each new connection. Nil: there are no balancers.
	Policy func() Policy
	// Log receives a line for balancers without a header. Nil: discarded.
	Log *slog.Logger
	// Panicked is called for each panic while a header is read; each has ended one
	// connection. Nil: not called.
	Panicked func(value any, stack []byte)

	start   sync.Once
	ready   chan accepted
	running sync.WaitGroup
	// readers are those of balancers' connections; only run adds to them.
	readers sync.WaitGroup

	mu         sync.Mutex
	closing    chan struct{}
	closed     bool
	pending    map[net.Conn]struct{}
	lastLogged time.Time // of a connection without a header
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns the next connection whose client is known. Its RemoteAddr is the
// client's. Errors are those of the wrapped listener, and net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	l.start.Do(l.begin)
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.closing:
		return nil, net.ErrClosed
	}
}

// Close closes the listener and every connection that Accept has not returned, and
// waits for the goroutines of both.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.prepare()
	var err error
	if !l.closed {
		l.closed = true
		close(l.closing)
		err = l.Listener.Close()
		for conn := range l.pending {
			conn.Close()
		}
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// lastHeaders is the time after Shut for headers that are still missing.
const lastHeaders = time.Second

// Shut closes only the wrapped listener: Accept still returns connections that arrived
// before, and then net.ErrClosed. Otherwise a client that was taken from the queue of
// the socket would be cut off between two successive processes. The caller must still
// call Close.
func (l *Listener) Shut() error {
	l.start.Do(l.begin)
	err := l.Listener.Close()
	time.AfterFunc(lastHeaders, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for conn := range l.pending {
			conn.SetReadDeadline(time.Unix(1, 0))
		}
	})
	return err
}

// prepare initializes a zero Listener. l.mu is held.
func (l *Listener) prepare() {
	if l.closing == nil {
		l.closing = make(chan struct{})
		l.ready = make(chan accepted)
		l.pending = make(map[net.Conn]struct{})
	}
}

func (l *Listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prepare()
	if !l.closed {
		l.running.Go(l.run)
	}
}

// run accepts connections. It waits for the caller of Accept only.
func (l *Listener) run() {
	for {
		conn, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			l.readers.Wait()
		}
		if err != nil {
			// Delivered before the next Accept, so that the caller can wait for free
			// file descriptors.
			if !l.deliver(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		var policy Policy
		if l.Policy != nil {
			policy = l.Policy()
		}
		tcp, ok := conn.(*net.TCPConn)
		switch {
		case !ok || !policy.trusts(conn.RemoteAddr()):
			if !l.deliver(accepted{conn: conn}) {
				conn.Close()
				return
			}
		case !l.startHeader(tcp, policy.Timeout):
			conn.Close()
		}
	}
}

// deliver passes a result to the caller of Accept, unless the listener is closed first.
func (l *Listener) deliver(a accepted) bool {
	select {
	case l.ready <- a:
		return true
	case <-l.closing:
		return false
	}
}

var errTooMany = errors.New("too many connections are waiting for their header")

// startHeader starts to read the header of a balancer's connection.
func (l *Listener) startHeader(conn *net.TCPConn, timeout time.Duration) bool {
	l.mu.Lock()
	if l.closed || len(l.pending) >= maxPending {
		full := !l.closed
		l.mu.Unlock()
		if full {
			l.logRefused(conn, errTooMany)
		}
		return false
	}
	l.pending[conn] = struct{}{}
	l.readers.Add(1)
	l.running.Go(func() {
		defer l.readers.Done()
		l.readHeader(conn, timeout)
	})
	l.mu.Unlock()
	return true
}

// readHeader reads the header and delivers the connection.
func (l *Listener) readHeader(conn *net.TCPConn, timeout time.Duration) {
	defer func() {
		if p := recover(); p != nil {
			conn.Close()
			if l.Panicked != nil {
				l.Panicked(p, debug.Stack())
			}
		}
		l.mu.Lock()
		delete(l.pending, conn)
		l.mu.Unlock()
	}()
	client, err := read(conn, timeout)
	if err != nil {
		l.logRefused(conn, err)
		conn.Close()
		return
	}
	if !l.deliver(accepted{conn: client}) {
		conn.Close()
	}
}

// errSilent: the balancer only tests that the port is open.
var errSilent = errors.New("closed without a word")

// logRefused logs a connection that was closed, at most every 10 seconds: a balancer
// without the setting for the header fails with all its clients.
func (l *Listener) logRefused(conn net.Conn, err error) {
	log := l.Log
	if log == nil {
		return
	}
	l.mu.Lock()
	now := time.Now()
	worth := !l.closed && !errors.Is(err, errSilent) && now.Sub(l.lastLogged) > 10*time.Second
	if worth {
		l.lastLogged = now
	}
	l.mu.Unlock()
	if worth {
		log.Warn("a load balancer of proxy_protocol.from sent no PROXY header that can be read: its connection is closed; set it up to send one (send-proxy-v2 in HAProxy)",
			"balancer", conn.RemoteAddr().String(), "err", err)
		return
	}
	log.Debug("a load balancer's connection is closed", "balancer", conn.RemoteAddr().String(), "err", err)
}

// DefaultTimeout is the time for a header if none is set.
const DefaultTimeout = 5 * time.Second

// headerBuffer has room for a complete header of version 1 (107 octets, section 2.1),
// which the library needs at once, and for version 2 with its usual extensions.
const headerBuffer = 256

// read reads the header of a connection, within its time limit.
func read(conn *net.TCPConn, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("set the time for the header: %w", err)
	}
	r := bufio.NewReaderSize(conn, headerBuffer)
	if _, err := r.Peek(1); err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			// As health checks do, often with a reset.
			return nil, errSilent
		}
		return nil, fmt.Errorf("read the header: %w", err)
	}
	header, err := readHeader(r)
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear the time for the header: %w", err)
	}
	source, err := sourceOf(header)
	if err != nil {
		return nil, err
	}
	ahead, err := r.Peek(r.Buffered())
	if err != nil {
		return nil, fmt.Errorf("take what follows the header: %w", err)
	}
	if source == nil {
		source = conn.RemoteAddr()
	}
	return &Conn{tcp: conn, Conn: conn, source: source, ahead: bytes.Clone(ahead)}, nil
}

// readHeader reads a header that may arrive in several segments.
func readHeader(r *bufio.Reader) (*proxyproto.Header, error) {
	// The library needs the complete line of version 1. It has 107 octets at most
	// (section 2.1).
	const signature, longest = "PROXY ", 107
	for n := 1; n <= longest; n = r.Buffered() + 1 {
		if _, err := r.Peek(n); err != nil {
			return nil, err
		}
		got, err := r.Peek(r.Buffered())
		if err != nil {
			return nil, err
		}
		if k := min(len(got), len(signature)); string(got[:k]) != signature[:k] || bytes.ContainsRune(got, '\n') {
			break
		}
	}
	// The library limits it: 107 octets in version 1, 4096 in version 2.
	return proxyproto.Read(r)
}

// sourceOf returns the client's address. It is nil if the connection is the balancer's
// own, as for health checks (LOCAL, section 2.2; UNKNOWN, section 2.1), or if the
// client has no address (a Unix socket).
func sourceOf(header *proxyproto.Header) (net.Addr, error) {
	if header.Command.IsLocal() || header.TransportProtocol == proxyproto.UnixStream {
		return nil, nil
	}
	tcp, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("the header tells of a client that does not speak TCP (%T)", header.SourceAddr)
	}
	source := tcp.AddrPort()
	// A dual-stack balancer writes 192.0.2.1 as ::ffff:192.0.2.1.
	addr := source.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return nil, fmt.Errorf("the header has an address that no client can have: %s", addr)
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, source.Port())), nil
}

// Conn is a connection that a load balancer made for a client. It has everything
// that is looked for below TLS: the socket with its options, and both halves.
//
// Octets that came with the header are read first. They are the client's first
// ones, so nothing is left of them once a TLS handshake is complete, and reading
// from the socket itself then misses nothing.
type Conn struct {
	// An interface, so that the WriteTo of the TCP connection cannot bypass the data
	// read ahead.
	net.Conn
	tcp    *net.TCPConn
	source net.Addr
	ahead  []byte
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.source }

// NetConn returns the connection to the balancer.
func (c *Conn) NetConn() net.Conn { return c.tcp }

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

// CloseWrite closes the write half.
func (c *Conn) CloseWrite() error { return c.tcp.CloseWrite() }
