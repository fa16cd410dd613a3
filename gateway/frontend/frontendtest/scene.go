// Package frontendtest is the harness for the tests of a protocol that stands on
// package frontend: a [Scene] is the protocol's server between clients and one of the
// fake mail servers of package mailtest, with a [Guard] and a [Recorder] that the test
// directs and reads. A protocol adds its server, its greeting and its own settings of
// dialogues; [Fuzz] and [HoldLittleMemory] need only that server.
package frontendtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
	"congthu/gateway/session"
	"congthu/gateway/upstream"
)

// Owner is the account that the scenes' mail servers know.
const Owner = "nguyen.van.a@congthu.test"

// Words are what the operator has configured, in a [Scene].
func Words(o auth.Outcome) string {
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

// MailServer is a fake mail server, as those of package mailtest.
type MailServer interface {
	Start() (address string, err error)
	Close() error
	Verdicts(name string) mailtest.Verdicts
	Script() mailtest.Script
}

// Serve serves a protocol on a listener until ctx ends.
type Serve func(ctx context.Context, l net.Listener, implicit bool) error

// Scene is a server under test between clients and a fake mail server.
type Scene struct {
	T        testing.TB
	Guard    *Guard
	Recorder *Recorder
	Sessions *session.Registry
	// Implicit is TLS from the first octet.
	Implicit bool
	// Listener, if set, wraps the listener.
	Listener func(net.Listener) net.Listener
	// Serve serves the protocol. It is called at the first connection.
	Serve Serve
	// Address is where the server listens, once it does.
	Address string

	mail   MailServer
	start  func() // once
	stop   context.CancelFunc
	served chan error
}

// New returns a scene in front of a mail server. Set Serve, which serves a server made
// with FrontEnd and Upstream; both servers end with the test.
func New(t testing.TB, mail MailServer) *Scene {
	s := &Scene{
		T: t, Guard: &Guard{Asked: make(chan struct{}, 1)}, Recorder: new(Recorder), Sessions: new(session.Registry),
		mail: mail, served: make(chan error, 1),
	}
	s.start = sync.OnceFunc(s.listen)
	t.Cleanup(s.Close)
	return s
}

// FrontEnd is the common part of the server under test.
func (s *Scene) FrontEnd() frontend.Server {
	return frontend.Server{
		Guard: s.Guard, TLSConfig: mailtest.ServerTLS(), Hostname: mailtest.Host, Text: Words,
		Sessions: s.Sessions, Recorder: s.Recorder, Refused: s.Recorder.refused, DrainTimeout: -1,
		Log: Log(io.Discard),
	}
}

// Upstream is the way to the mail server, over TCP, which can be closed by halves. The
// mail server starts at the first use.
func (s *Scene) Upstream() *upstream.Server {
	start := sync.OnceValues(s.mail.Start)
	return &upstream.Server{Timeout: 10 * time.Second, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := start()
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
}

// Log is a log of everything.
func Log(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (s *Scene) listen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.T.Fatal(err)
	}
	s.Address = l.Addr().String()
	if s.Listener != nil {
		l = s.Listener(l)
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { s.served <- s.Serve(ctx, l, s.Implicit) }()
}

// Dial connects to the server under test, which begins to serve at the first
// connection.
func (s *Scene) Dial() (net.Conn, error) {
	s.start()
	return net.Dial("tcp", s.Address)
}

// Connect is Dial for a client.
func (s *Scene) Connect() *Client {
	s.T.Helper()
	conn, err := s.Dial()
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { conn.Close() })
	return NewClient(s.T, conn)
}

// Stop begins the end of the server, and does not wait for it.
func (s *Scene) Stop() { s.stop() }

// Stopped reports whether the server has ended.
func (s *Scene) Stopped() bool { return len(s.served) > 0 }

// Wait waits for the end of the server, after Stop.
func (s *Scene) Wait() {
	s.T.Helper()
	if err := <-s.served; err != nil {
		s.T.Errorf("serve: %v", err)
	}
	s.stop = nil
}

// Close ends the server, if it has begun, and the mail server.
func (s *Scene) Close() {
	if s.stop != nil {
		s.stop()
		s.Wait()
	}
	s.mail.Close()
}

// Play plays each dialogue of testdata in a scene of its own, whose settings set does.
func Play[S interface{ Dial() (net.Conn, error) }](t *testing.T, scene func(testing.TB) S, set func(S, string, string) error) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := scene(t)
			mailtest.Play(t, file, mailtest.Stage{
				Dial: s.Dial, TLS: mailtest.ClientTLS(),
				Set: func(name, value string) error { return set(s, name, value) },
			})
		})
	}
}

// Set does the settings and checks of a dialogue that every protocol has.
func (s *Scene) Set(name, value string) error {
	script := s.mail.Script()
	switch name {
	case "tls": // "implicit": from the first octet
		s.Implicit = value == "implicit"
	case "before", "after": // what the guard says before, or after, a right password
		for _, o := range auth.Outcomes() {
			if o.String() == value && name == "before" {
				s.Guard.Before = o
				return nil
			} else if o.String() == value {
				s.Guard.After = o
				return nil
			}
		}
		return fmt.Errorf("no such outcome")
	case "says": // the mail server, to a wrong password
		*script.Wrong = value
	case "welcomes": // the mail server, after a right password
		*script.OK = value
	case "down": // where the mail server hangs up
		*script.Misbehave = mailtest.At(mailtest.Step(value), mailtest.Misdeed{Close: true})
	case "judged": // what the mail server was asked to judge
		v := s.mail.Verdicts(Owner)
		if got := fmt.Sprintf("%d right, %d wrong", v.Right, v.Wrong); got != value {
			return fmt.Errorf("the mail server judged %s", got)
		}
	case "attempts": // how many the guard was asked about
		if got := strconv.Itoa(len(s.Guard.Made())); got != value {
			return fmt.Errorf("the guard was asked about %s", got)
		}
	case "refused": // what was recorded without asking the guard
		if got := fmt.Sprint(s.Recorder.Counts().Refused); got != "["+value+"]" {
			return fmt.Errorf("recorded: %s", got)
		}
	default:
		return fmt.Errorf("no such setting: %s", name)
	}
	return nil
}

// WaitFor waits for something that another goroutine does by itself.
func WaitFor(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
