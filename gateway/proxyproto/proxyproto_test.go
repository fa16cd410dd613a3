package proxyproto

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/gateway/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	balancerAddress = "127.0.7.1" // is listed
	strangerAddress = "127.0.7.2" // is not
)

// stage is a listener under test.
type stage struct {
	*Listener
	t   testing.TB
	log *log
}

type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newStage(t testing.TB, timeout time.Duration) *stage {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, log: new(log)}
	policy := Policy{From: []netip.Prefix{netip.MustParsePrefix(balancerAddress + "/32")}, Timeout: timeout}
	s.Listener = &Listener{Listener: inner, Policy: func() Policy { return policy },
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	t.Cleanup(func() { s.Close() })
	return s
}

// dial connects from an address and says something.
func (s *stage) dial(from, words string) *net.TCPConn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, words); err != nil {
		s.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func (s *stage) accept() net.Conn {
	s.t.Helper()
	conn, err := s.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// gone waits until the other side has closed.
func gone(t *testing.T, conn net.Conn) {
	t.Helper()
	rest, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Fatal("the connection is still open")
	}
	if len(rest) > 0 {
		t.Fatalf("the balancer was told %q", rest)
	}
}

// v2 is a header of version 2.
func v2(command, family byte, body ...byte) string {
	return "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + string(body)
}

func ipv6(source, destination string) []byte {
	a, b := netip.MustParseAddr(source).As16(), netip.MustParseAddr(destination).As16()
	return append(append(a[:], b[:]...), 0xc0, 0x01, 3, 225)
}

func TestTheClientIsTheOneThatTheHeaderTellsOf(t *testing.T) {
	v4 := []byte{192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 3, 225}
	for name, c := range map[string]struct{ header, want string }{
		"version 1":                       {"PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n", "192.0.2.7:49153"},
		"version 1, IPv6":                 {"PROXY TCP6 2001:db8::7 2001:db8::1 49153 993\r\n", "[2001:db8::7]:49153"},
		"version 1, IPv4 in IPv6":         {"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 49153 993\r\n", "192.0.2.7:49153"},
		"version 2":                       {v2(0x21, 0x11, v4...), "192.0.2.7:49153"},
		"version 2, IPv6":                 {v2(0x21, 0x21, ipv6("2001:db8::7", "2001:db8::1")...), "[2001:db8::7]:49153"},
		"version 2, IPv4 in IPv6":         {v2(0x21, 0x21, ipv6("::ffff:192.0.2.7", "::1")...), "192.0.2.7:49153"},
		"version 2 with additions":        {v2(0x21, 0x11, append(v4, append([]byte{4, 2, 0}, make([]byte, 512)...)...)...), "192.0.2.7:49153"},
		"a health check, version 1":       {"PROXY UNKNOWN\r\n", ""},
		"a health check, version 2":       {v2(0x20, 0x00), ""},
		"one that tells an address":       {v2(0x20, 0x11, v4...), ""},
		"a client without an address":     {v2(0x21, 0x31, make([]byte, 216)...), ""},
		"version 1, the longest there is": {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 0)
			balancer := s.dial(balancerAddress, c.header+"a CAPABILITY\r\n")
			conn := s.accept()
			if c.want == "" {
				c.want = balancer.LocalAddr().String()
			}
			if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort().String(); got != c.want {
				t.Errorf("the client is %s, want %s", got, c.want)
			}
			hear(t, conn, "a CAPABILITY\r\n")
			io.WriteString(balancer, "b NOOP\r\n")
			hear(t, conn, "b NOOP\r\n")
		})
	}
}

// The sender should write the header at once, but a network may divide it all the
// same, and the receiver may be tolerant (sections 2 and 2.1).
func TestAHeaderMayComeInParts(t *testing.T) {
	for name, header := range map[string]string{
		"version 1":                   "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n",
		"version 1, IPv6":             "PROXY TCP6 ::ffff:192.0.2.7 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 49153 993\r\n",
		"version 2":                   v2(0x21, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 3, 225),
		"version 2 with an \\n early": v2(0x21, 0x11, 192, 0, 2, 7, '\n', 51, 100, 1, 0xc0, 0x01, 3, 225),
	} {
		t.Run(name, func(t *testing.T) {
			for _, rest := range []string{"", "a CAPABILITY\r\n"} {
				for cut := 1; cut < len(header)+min(1, len(rest)); cut++ {
					ours, theirs := net.Pipe() // each Write is a segment of its own
					go func() {
						io.WriteString(theirs, header[:min(cut, len(header))])
						io.WriteString(theirs, (header + rest)[min(cut, len(header)):])
					}()
					r := bufio.NewReaderSize(ours, headerBuffer)
					h, err := readHeader(r)
					if err != nil {
						t.Fatalf("cut at %d: %v", cut, err)
					}
					if got, err := sourceOf(h); err != nil || got.String() != "192.0.2.7:49153" {
						t.Fatalf("cut at %d: the client is %v, %v", cut, got, err)
					}
					if rest != "" {
						got := make([]byte, len(rest))
						if _, err := io.ReadFull(r, got); err != nil || string(got) != rest {
							t.Fatalf("cut at %d: the client says %q, %v", cut, got, err)
						}
					}
					ours.Close()
					theirs.Close()
				}
			}
		})
	}
	// Octet by octet, over the network.
	s := newStage(t, 0)
	balancer := s.dial(balancerAddress, "")
	balancer.SetNoDelay(true)
	for _, octet := range []byte("PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n") {
		balancer.Write([]byte{octet})
		time.Sleep(time.Millisecond)
	}
	if got := s.accept().RemoteAddr().String(); got != "192.0.2.7:49153" {
		t.Errorf("octet by octet: the client is %s", got)
	}
}

// What can be no header any more is not waited for.
func TestHalfAHeaderThatIsWrongIsRefusedAtOnce(t *testing.T) {
	for _, words := range []string{"PROXY " + strings.Repeat("1", 101), "PROXY TCP4 x\n", "\r\n\r\n\x00\r\nQ_IT\n!", "EHLO"} {
		s := newStage(t, time.Hour)
		go s.Accept() // until Close
		gone(t, s.dial(balancerAddress, words))
	}
}

func TestABalancerWithoutAProperHeaderIsClosedAndCostsNobodyElse(t *testing.T) {
	for name, words := range map[string]string{
		"a client's words":             "a CAPABILITY\r\n",
		"an SMTP client's":             "EHLO x\r\n",
		"a TLS handshake":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
		"no such family":               "PROXY TCP5 192.0.2.7 198.51.100.1 49153 993\r\n",
		"no address":                   "PROXY TCP4 mail.example 198.51.100.1 49153 993\r\n",
		"an address of nobody":         "PROXY TCP4 0.0.0.0 198.51.100.1 49153 993\r\n",
		"an address of many":           "PROXY TCP4 224.0.0.1 198.51.100.1 49153 993\r\n",
		"no port":                      "PROXY TCP4 192.0.2.7 198.51.100.1 99999 993\r\n",
		"a line without end":           "PROXY TCP4 " + strings.Repeat("1", 200),
		"UDP":                          v2(0x21, 0x12, make([]byte, 12)...),
		"version 3":                    v2(0x31, 0x11, make([]byte, 12)...),
		"addresses cut short":          v2(0x21, 0x11, 1, 2, 3),
		"longer than any header":       v2(0x21, 0x11, make([]byte, 60000)...),
		"half of version 2's greeting": "\r\n\r\n\x00\r\nQ_IT\n!",
		"octets":                       "\x00\xff\x00\xff\x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 0)
			balancer := s.dial(balancerAddress, "")
			go io.WriteString(balancer, words) // it may be closed half way
			after := s.dial(strangerAddress, "x")
			if got := s.accept().RemoteAddr().String(); got != after.LocalAddr().String() {
				t.Fatalf("accepted %s", got)
			}
			gone(t, balancer)
			if log := s.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, balancerAddress) {
				t.Errorf("the operator is told %q", log)
			}
		})
	}
}

func TestAHeaderFromAnybodyElseIsTheirOwnWords(t *testing.T) {
	for _, header := range []string{
		"PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n",
		v2(0x21, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 3, 225),
	} {
		s := newStage(t, 0)
		stranger := s.dial(strangerAddress, header)
		conn := s.accept()
		if got, want := conn.RemoteAddr().String(), stranger.LocalAddr().String(); got != want {
			t.Errorf("the client is %s, want %s", got, want)
		}
		hear(t, conn, header)
		if _, ok := conn.(*net.TCPConn); !ok {
			t.Errorf("a %T", conn)
		}
	}
}

// Neither a balancer that says nothing, nor one that says an octet now and then,
// keeps a client waiting.
func TestASilentBalancerHoldsNobodyUp(t *testing.T) {
	s := newStage(t, time.Hour)
	for range 100 {
		s.dial(balancerAddress, "")
		s.dial(balancerAddress, "\r\n\r\n")
	}
	late := s.dial(balancerAddress, "")
	stranger := s.dial(strangerAddress, "")
	if got := s.accept().RemoteAddr().String(); got != stranger.LocalAddr().String() {
		t.Fatalf("accepted %s", got)
	}
	io.WriteString(late, "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n")
	if got := s.accept().RemoteAddr().String(); got != "192.0.2.7:49153" {
		t.Fatalf("accepted %s", got)
	}
}

func TestABalancerHasAShortTimeForItsHeader(t *testing.T) {
	s := newStage(t, 50*time.Millisecond)
	go s.Accept() // until Close
	for _, words := range []string{"", "PROXY", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01"} {
		gone(t, s.dial(balancerAddress, words))
	}
}

// The time is for the header alone.
func TestAClientBehindABalancerMayTakeItsTime(t *testing.T) {
	s := newStage(t, 100*time.Millisecond)
	balancer := s.dial(balancerAddress, "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n")
	conn, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.AfterFunc(200*time.Millisecond, func() { io.WriteString(balancer, "late") })
	hear(t, conn, "late")
}

func TestALookWhetherSomebodyListensIsNoMistake(t *testing.T) {
	s := newStage(t, 0)
	look := s.dial(balancerAddress, "")
	look.SetLinger(0) // by a reset
	look.Close()
	s.dial(balancerAddress, "").Close()
	s.dial(strangerAddress, "")
	s.accept()
	for deadline := time.Now().Add(30 * time.Second); strings.Count(s.log.String(), "\n") < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log has %q, want two lines", s.log)
		}
	}
	if log := s.log.String(); strings.Contains(log, "WARN") {
		t.Errorf("the operator is told %q", log)
	}
}

func TestManyConnectionsWithoutAHeaderAreTooMany(t *testing.T) {
	s := newStage(t, time.Hour)
	s.Policy = func() Policy {
		return Policy{From: []netip.Prefix{netip.MustParsePrefix(balancerAddress + "/32")}, Timeout: time.Hour}
	}
	s.mu.Lock()
	s.prepare()
	for range maxPending {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		s.pending[a] = struct{}{}
	}
	s.mu.Unlock()
	balancer := s.dial(balancerAddress, "")
	stranger := s.dial(strangerAddress, "")
	if got := s.accept().RemoteAddr().String(); got != stranger.LocalAddr().String() {
		t.Fatalf("accepted %s", got)
	}
	gone(t, balancer)
}

func TestCloseEndsWhatWasNotAccepted(t *testing.T) {
	s := newStage(t, time.Hour)
	s.dial(strangerAddress, "")
	s.accept()
	silent := s.dial(balancerAddress, "")
	introduced := s.dial(balancerAddress, "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n")
	stranger := s.dial(strangerAddress, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{silent, introduced, stranger} {
		gone(t, conn)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// lastLogged tells of each connection that is taken from the queue of a socket.
type told struct {
	net.Listener
	took chan struct{}
}

func (l told) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.took <- struct{}{}
	}
	return conn, err
}

// When one process follows another on the same socket, nobody but this one can
// serve those whose connections it has taken from the queue.
func TestShutHandsOutWhatHasCome(t *testing.T) {
	s := newStage(t, time.Hour)
	took := make(chan struct{}, 10)
	s.Listener.Listener = told{s.Listener.Listener, took}
	s.dial(strangerAddress, "")
	s.accept()
	silent, balancer := s.dial(balancerAddress, ""), s.dial(balancerAddress, "")
	stranger := s.dial(strangerAddress, "")
	for range 4 {
		<-took
	}
	if err := s.Shut(); err != nil {
		t.Fatal(err)
	}
	if got := s.accept().RemoteAddr().String(); got != stranger.LocalAddr().String() {
		t.Errorf("accepted %s", got)
	}
	if _, err := io.WriteString(balancer, "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := s.accept().RemoteAddr().String(); got != "192.0.2.7:49153" {
		t.Errorf("accepted %s", got)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the last: %v", err)
	}
	gone(t, silent) // it has had its time
}

func TestAClosedListenerNeedsNoAccept(t *testing.T) {
	s := newStage(t, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
}

// The header stands below TLS, and what is looked for below TLS is there: the
// relay sets options of the socket, and closes by halves.
func TestTLSAndTheSocketWorkBehindTheHeader(t *testing.T) {
	s := newStage(t, 0)
	balancer := s.dial(balancerAddress, v2(0x21, 0x11, 192, 0, 2, 7, 198, 51, 100, 1, 0xc0, 0x01, 3, 225))
	type result struct {
		answer []byte
		err    error
	}
	client := make(chan result, 1)
	go func() {
		secured := tls.Client(balancer, mailtest.ClientTLS())
		_, err := io.WriteString(secured, "hello")
		var answer []byte
		if err == nil {
			answer, err = io.ReadAll(secured)
		}
		client <- result{answer, err}
	}()
	conn := s.accept()
	secured := tls.Server(conn, mailtest.ServerTLS())
	hear(t, secured, "hello")
	if len(conn.(*Conn).ahead) > 0 {
		t.Error("something is left of what was read ahead")
	}
	raw, err := secured.NetConn().(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var option error
	if err := raw.Control(func(fd uintptr) { option = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) }); err != nil || option != nil {
		t.Error(err, option)
	}
	if _, ok := conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
		t.Error("no TCP connection below")
	}
	fmt.Fprint(secured, "bye")
	if err := secured.CloseWrite(); err != nil {
		t.Error(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if r := <-client; r.err != nil || string(r.answer) != "bye" {
		t.Errorf("the client read %q, %v", r.answer, r.err)
	}
	conn.SetReadDeadline(time.Unix(1, 0))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read behind a deadline: %v", err)
	}
}
