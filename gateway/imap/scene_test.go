package imap

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
	"congthu/gateway/session"
	"congthu/gateway/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	owner    = "nguyen.van.a@congthu.test"
	password = "Mat-khau-1"
)

// guard is a stub: it asks the mail server, as the real one does, unless it is
// told to refuse before, or after.
type guard struct {
	mu sync.Mutex
	// before refuses without asking, after overrules a right password.
	before, after auth.Outcome
	alert         bool
	expiresIn     int
	// hold, if set, is waited for between the mail server's answer and the
	// verdict.
	hold     chan struct{}
	asked    chan struct{} // told when an attempt begins, if there is room
	attempts []auth.Attempt
}

func (g *guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	g.mu.Lock()
	g.attempts = append(g.attempts, a)
	before, after, alert, days, hold := g.before, g.after, g.alert, g.expiresIn, g.hold
	g.mu.Unlock()
	select {
	case g.asked <- struct{}{}:
	default:
	}
	if before != auth.Accepted {
		return auth.Verdict{Outcome: before}
	}
	answer := a.Verify(ctx, auth.Name(a.Login))
	if hold != nil {
		<-hold
	}
	switch answer.Judgement {
	case auth.JudgedRight:
		return auth.Verdict{Outcome: after, Name: auth.Name(a.Login), Alert: alert && after == auth.Accepted, ExpiresIn: days}
	case auth.JudgedWrong:
		return auth.Verdict{Outcome: auth.WrongPassword}
	case auth.RefusedOtherwise:
		return auth.Verdict{Outcome: auth.Refused, Code: answer.Code}
	}
	return auth.Verdict{Outcome: auth.Unavailable, Err: answer.Err}
}

func (g *guard) made() []auth.Attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]auth.Attempt(nil), g.attempts...)
}

// words are what the operator has configured, in this package's tests.
func words(o auth.Outcome) string {
	switch o {
	case auth.WrongPassword:
		return "Ten dang nhap hoac mat khau khong dung. Wrong name or password."
	case auth.Locked:
		return "Hop thu bi khoa, goi 0844.689393. Locked, call the helpdesk."
	case auth.Revoked:
		return "Hop thu da bi thu hoi, goi 0844.689393. Revoked, call the helpdesk."
	case auth.Expired:
		return "Mat khau het han, doi tai https://doi.test. Password expired, change it there."
	}
	return "words for " + o.String()
}

// scene is a server under test between clients and a fake mail server.
type scene struct {
	t        testing.TB
	fake     *mailtest.IMAP
	guard    *guard
	server   *Server
	recorder *recorder
	sessions *session.Registry
	implicit bool

	once    sync.Once
	address string
	// listener, if set, wraps the listener.
	listener func(net.Listener) net.Listener
	// fakeAddress starts the fake at its first use.
	fakeAddress func() (string, error)
	stop        context.CancelFunc
	served      chan error
}

func newScene(t testing.TB) *scene {
	s := &scene{
		t: t, fake: &mailtest.IMAP{Accounts: map[string]string{owner: password}}, guard: &guard{asked: make(chan struct{}, 1)},
		recorder: &recorder{}, sessions: &session.Registry{}, served: make(chan error, 1),
	}
	s.fakeAddress = sync.OnceValues(s.fake.Start)
	s.server = &Server{
		Server: frontend.Server{
			Guard: s.guard, TLSConfig: mailtest.ServerTLS(), Hostname: "mail.test", Text: words,
			Sessions: s.sessions, Recorder: s.recorder, Refused: s.recorder.refused, DrainTimeout: -1,
			Log: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		Upstream:  &upstream.Server{Dial: s.dialFake, Timeout: 10 * time.Second},
		AlertText: func(days int) string { return fmt.Sprintf("Mat khau con %d ngay. %d days left.", days, days) },
	}
	t.Cleanup(s.close)
	return s
}

// start begins to serve, at the first connection.
func (s *scene) start() {
	s.once.Do(func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		s.address = l.Addr().String()
		if s.listener != nil {
			l = s.listener(l)
		}
		var ctx context.Context
		ctx, s.stop = context.WithCancel(context.Background())
		go func() { s.served <- s.server.Serve(ctx, l, s.implicit) }()
	})
}

// close ends the server, if it has begun, and the fake.
func (s *scene) close() {
	if s.stop != nil {
		s.stop()
		if err := <-s.served; err != nil {
			s.t.Errorf("serve: %v", err)
		}
		s.stop = nil
	}
	s.fake.Close()
}

func (s *scene) dial() (net.Conn, error) {
	s.start()
	return net.Dial("tcp", s.address)
}

// dialFake connects to the mail server over TCP, which can be closed by halves.
func (s *scene) dialFake(ctx context.Context, network, _ string) (net.Conn, error) {
	address, err := s.fakeAddress()
	if err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// talker is a client.
type talker struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// connect greets and, over TLS, is where a client may log in.
func (s *scene) connect(secure bool) *talker {
	s.t.Helper()
	conn, err := s.dial()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &talker{s.t, conn, bufio.NewReader(conn)}
	if !s.implicit {
		c.expect("* OK [CAPABILITY ")
	}
	if !s.implicit && secure {
		c.say("s STARTTLS")
		c.expect("s OK")
	}
	if secure {
		c.secure()
	}
	if s.implicit {
		c.expect("* OK [CAPABILITY ")
	}
	return c
}

func (c *talker) secure() {
	c.t.Helper()
	secured := tls.Client(c.Conn, mailtest.ClientTLS())
	if err := secured.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn, c.r = secured, bufio.NewReader(secured)
}

func (c *talker) say(line string) { c.send(line + "\r\n") }

func (c *talker) send(octets string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, octets); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *talker) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read %q, then %v", line, err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (c *talker) expect(prefix string) string {
	c.t.Helper()
	line := c.line()
	if !strings.HasPrefix(line, prefix) {
		c.t.Fatalf("read %q, want %q...", line, prefix)
	}
	return line
}

// gone waits for the end of the connection and returns what came before.
func (c *talker) gone() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		c.t.Fatalf("the connection is still open after %q", rest)
	}
	return string(rest)
}

func (c *talker) login(word string) {
	c.say(`l LOGIN ` + owner + ` ` + word)
}

// recorder counts, and checks that what was opened is closed.
type recorder struct {
	mu                       sync.Mutex
	opened, closed           int
	handshakes, failed       int
	panics                   int
	fromClient, fromUpstream int64
	outcomes                 []auth.Outcome
}

func (r *recorder) Opened(auth.Protocol)   { r.do(func() { r.opened++ }) }
func (r *recorder) Closed(auth.Protocol)   { r.do(func() { r.closed++ }) }
func (r *recorder) Panicked(auth.Protocol) { r.do(func() { r.panics++ }) }
func (r *recorder) RecordHandshake(_ auth.Protocol, err error) {
	r.do(func() {
		r.handshakes++
		if err != nil {
			r.failed++
		}
	})
}
func (r *recorder) Relayed(_ auth.Protocol, c, u int64) {
	r.do(func() { r.fromClient += c; r.fromUpstream += u })
}
func (r *recorder) refused(a auth.Attempt, o auth.Outcome) {
	r.do(func() { r.outcomes = append(r.outcomes, o) })
	if a.Login != "" || !a.Password.IsZero() {
		panic("a refused attempt tells a name or a password")
	}
}
func (r *recorder) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}
