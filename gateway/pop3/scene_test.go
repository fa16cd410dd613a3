package pop3

import (
	"bufio"
	"context"
	"crypto/tls"
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
	password = "Mat khau 1" // blanks belong to it
)

// guard is a stub: it asks the mail server, as the real one does, unless it is told to
// refuse before, or after.
type guard struct {
	mu            sync.Mutex
	before, after auth.Outcome
	attempts      []auth.Attempt
}

func (g *guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	g.mu.Lock()
	g.attempts = append(g.attempts, a)
	before, after := g.before, g.after
	g.mu.Unlock()
	if before != auth.Accepted {
		return auth.Verdict{Outcome: before}
	}
	answer := a.Verify(ctx, auth.Name(a.Login))
	switch answer.Judgement {
	case auth.JudgedRight:
		return auth.Verdict{Outcome: after, Name: auth.Name(a.Login)}
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
	}
	return "words for " + o.String()
}

// scene is a server under test between clients and a fake mail server.
type scene struct {
	t        testing.TB
	fake     *mailtest.POP3
	guard    *guard
	server   *Server
	sessions *session.Registry
	implicit bool
	refused  []auth.Outcome
	log      strings.Builder

	once    sync.Once
	address string
	stop    context.CancelFunc
	served  chan error
}

func newScene(t testing.TB) *scene {
	s := &scene{t: t, fake: &mailtest.POP3{Accounts: map[string]string{owner: password}}, guard: new(guard), sessions: new(session.Registry), served: make(chan error, 1)}
	behind := sync.OnceValues(s.fake.Start)
	s.server = &Server{
		Server: frontend.Server{
			Guard: s.guard, TLSConfig: mailtest.ServerTLS(), Hostname: "mail.test", Text: words, Sessions: s.sessions, DrainTimeout: -1,
			Refused: func(_ auth.Attempt, o auth.Outcome) { s.refused = append(s.refused, o) },
			Log:     slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		},
		Upstream: &upstream.Server{Timeout: 10 * time.Second, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			address, err := behind()
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}},
	}
	t.Cleanup(s.close)
	return s
}

func (s *scene) dial() (net.Conn, error) {
	s.once.Do(func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.t.Fatal(err)
		}
		s.address = l.Addr().String()
		var ctx context.Context
		ctx, s.stop = context.WithCancel(context.Background())
		go func() { s.served <- s.server.Serve(ctx, l, s.implicit) }()
	})
	return net.Dial("tcp", s.address)
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

// talker is a client.
type talker struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// connect makes a connection over TLS, and reads the greeting.
func (s *scene) connect() *talker {
	s.t.Helper()
	s.implicit = true
	conn, err := s.dial()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	secured := tls.Client(conn, mailtest.ClientTLS())
	c := &talker{s.t, secured, bufio.NewReader(secured)}
	c.expect("+OK mail.test ready")
	return c
}

func (c *talker) say(octets string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, octets); err != nil {
		c.t.Fatal(err)
	}
}

func (c *talker) expect(want string) {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil || strings.TrimSuffix(line, "\r\n") != want {
		c.t.Fatalf("read %q, %v; want %q", line, err, want)
	}
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
