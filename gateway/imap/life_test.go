package imap

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
)

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

func TestASlowClientIsToldGoodbye(t *testing.T) {
	for name, test := range map[string]struct {
		implicit bool
		say      func(net.Conn)
		after    time.Duration
		bye      bool
	}{
		"silent":       {say: func(net.Conn) {}, after: 60 * time.Second, bye: true},
		"no handshake": {implicit: true, say: func(net.Conn) {}, after: 60 * time.Second},
		"an octet every ten seconds": {say: func(conn net.Conn) {
			for _, octet := range "a LOGIN nguyen.van.a@congthu.test" {
				time.Sleep(10 * time.Second)
				if _, err := io.WriteString(conn, string(octet)); err != nil {
					return
				}
			}
		}, after: 60 * time.Second, bye: true},
		"a command every 50 seconds": {say: func(conn net.Conn) {
			for range 10 {
				time.Sleep(50 * time.Second)
				if _, err := io.WriteString(conn, "a NOOP\r\n"); err != nil {
					return
				}
			}
		}, after: 3 * time.Minute, bye: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, l := newScene(t), newPipes()
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() { served <- s.server.Serve(ctx, l, test.implicit) }()
				conn := l.dial()
				start := time.Now()
				var talk sync.WaitGroup
				talk.Go(func() { test.say(conn) })
				rest, _ := io.ReadAll(conn)
				if took := time.Since(start); took != test.after || strings.HasSuffix(string(rest), "* BYE Qua thoi gian cho / Too slow\r\n") != test.bye {
					t.Errorf("after %v: %q", took, rest)
				}
				conn.Close()
				cancel()
				<-served
				talk.Wait()
			})
		})
	}
}

// The user is asked for the password, and looks for it: the next try comes on the same
// connection, where the same password costs nothing.
func TestARefusedLoginLeavesThreeMinutesForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newScene(t), newPipes()
		s.guard.before = auth.WrongPassword
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- s.server.Serve(ctx, l, true) }()
		conn := l.dial()
		secured := tls.Client(conn, mailtest.ClientTLS())
		r := bufio.NewReader(secured)
		read := func(want string) {
			t.Helper()
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("read %q, %v; want %q", line, err, want)
			}
		}
		read("* OK")
		for range 3 { // past the three minutes that a connection has before its first login
			time.Sleep(50 * time.Second)
			io.WriteString(secured, "a LOGIN "+owner+" wrong\r\n")
			read("a NO [AUTHENTICATIONFAILED]")
			time.Sleep(2 * time.Minute)
			io.WriteString(secured, "b NOOP\r\n") // takes no more time
			read("b OK")
		}
		began := time.Now()
		read("* BYE Qua thoi gian cho / Too slow")
		if took := time.Since(began); took != time.Minute {
			t.Errorf("after the last login it took %v, want 3 minutes in all", 2*time.Minute+took)
		}
		conn.Close()
		cancel()
		<-served
	})
}

func TestAShutdownSaysBYEBeforeLoginAndNothingAfter(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout = 20 * time.Second
	early, late := s.connect(false), s.connect(true)
	late.login(password)
	late.expect("l OK")
	s.guard.hold = make(chan struct{})
	<-s.guard.asked
	between := s.connect(true)
	between.login(password)
	<-s.guard.asked

	s.stop()
	if got := early.gone(); got != "* BYE May chu dang dung, vui long thu lai / The server is shutting down, please try again\r\n" {
		t.Errorf("before login, the client read %q", got)
	}
	if _, err := net.Dial("tcp", s.address); err == nil {
		t.Error("the listener is still open")
	}
	// Whoever is logged in, or about to be, goes on.
	late.say("a NOOP")
	late.expect("a OK")
	close(s.guard.hold)
	between.expect("l OK")
	between.say("a NOOP")
	between.expect("a OK")
	between.Close()
	select {
	case <-s.served:
		t.Fatal("Serve did not wait")
	default:
	}
	s.sessions.End(owner)
	if got := late.gone(); got != "" {
		t.Errorf("after login, the client read %q", got)
	}
	if err := <-s.served; err != nil {
		t.Error(err)
	}
	s.stop = nil
}

// Whoever was let in at the last moment may log in still. With somebody waiting for
// the end, the session is over at its first pause.
func TestAShutdownWithGraceLetsThoseInWhoHaveCome(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout, s.server.LoginGrace, s.server.EndQuiet = time.Minute, 50*time.Second, true
	early, late, idle := s.connect(false), s.connect(true), s.connect(true)
	idle.login(password)
	idle.expect("l OK")
	s.stop()
	if got := idle.gone(); got != "" {
		t.Errorf("a session without anything to do read %q", got)
	}
	late.login(password)
	late.expect("l OK")
	late.say("a NOOP")
	late.expect("a OK")
	if got := late.gone(); got != "" {
		t.Errorf("a session that has had its pause read %q", got)
	}
	early.Close()
	if err := <-s.served; err != nil {
		t.Error(err)
	}
	s.stop = nil
}

func TestAShutdownDoesNotWaitForEver(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout = time.Millisecond
	c := s.connect(true)
	c.login(password)
	c.expect("l OK")
	s.stop()
	if got := c.gone(); got != "" {
		t.Errorf("the client read %q", got)
	}
}

func TestEndingTheSessionsOfAnAccountLeavesTheOthers(t *testing.T) {
	s := newScene(t)
	s.fake.Accounts["other@congthu.test"] = password
	a, b := s.connect(true), s.connect(true)
	a.login(password)
	a.expect("l OK")
	b.say("l LOGIN other@congthu.test " + password)
	b.expect("l OK")
	if n := s.sessions.End(owner); n != 1 {
		t.Errorf("%d sessions of the account", n)
	}
	if got := a.gone(); got != "" {
		t.Errorf("the client read %q", got)
	}
	b.say("a NOOP")
	b.expect("a OK")
}

func TestARefusalAfterARightPasswordLogsOutAtTheMailServer(t *testing.T) {
	s := newScene(t)
	s.guard.after = auth.Expired
	c := s.connect(true)
	c.login(password)
	c.expect("* NO [ALERT] Mat khau het han")
	c.expect("l NO [EXPIRED]")
	waitFor(t, func() bool { return s.fake.Open() == 0 })
	if s.sessions.Len("") != 0 {
		t.Error("the session is registered")
	}
	if raw := string(s.fake.Raw()); !strings.HasSuffix(raw, "LOGOUT\r\n") {
		t.Errorf("the mail server read %q", raw)
	}
}

// waitFor waits for something that another goroutine does by itself.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

func TestHangingUpAfterThePasswordIsSettledAllTheSame(t *testing.T) {
	s := newScene(t)
	verdict := make(chan struct{})
	s.fake.Misbehave = mailtest.At("verdict", mailtest.Misdeed{Wait: verdict})
	c := s.connect(true)
	c.login("sai")
	<-s.guard.asked
	c.Close()
	close(verdict)
	waitFor(t, func() bool { return s.fake.Verdicts(owner).Wrong == 1 })

	c = s.connect(true)
	c.login(password)
	<-s.guard.asked
	c.Close()
	waitFor(t, func() bool { return s.fake.Verdicts(owner).Right == 1 })
	waitFor(t, func() bool { return s.fake.Open() == 0 && s.sessions.Len("") == 0 })
}

// broken panics at a name.
type broken struct{ *guard }

func (b broken) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	v := b.guard.Attempt(ctx, a)
	if a.Login == owner {
		panic("out of luck with " + a.Password.Reveal())
	}
	return v
}

func TestAPanicCostsOneConnection(t *testing.T) {
	s := newScene(t)
	var log bytes.Buffer
	s.server.Log = slog.New(slog.NewTextHandler(&log, nil))
	s.fake.Accounts["other@congthu.test"] = password
	s.server.Guard = broken{s.guard}
	unlucky, lucky := s.connect(true), s.connect(true)
	unlucky.login(password)
	unlucky.gone()
	lucky.say("l LOGIN other@congthu.test " + password)
	lucky.expect("l OK")
	waitFor(t, func() bool { return s.fake.Open() == 1 && s.sessions.Len("") == 1 })
	s.recorder.do(func() {
		if s.recorder.panics != 1 {
			t.Errorf("%d panics counted, want 1", s.recorder.panics)
		}
	})
	s.close()
	// Whoever panics may have the password at hand.
	if got := log.String(); strings.Contains(got, password) || !strings.Contains(got, `panic="a value of type string" stack=`) {
		t.Error(got)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	s := newScene(t)
	s.server.Limiter = &frontend.Limiter{PerSource: 2}
	first := s.connect(false)
	s.connect(false)
	third, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if got, _ := io.ReadAll(third); string(got) != "* BYE [UNAVAILABLE] Qua nhieu ket noi, vui long thu lai sau / Too many connections, please try again later\r\n" {
		t.Errorf("read %q", got)
	}
	first.say("a LOGOUT")
	first.gone()
	waitFor(t, func() (left bool) {
		s.recorder.do(func() { left = s.recorder.closed == 1 })
		return left
	})
	s.connect(false)
}

func TestImplicitTLSNeedsACertificate(t *testing.T) {
	s := newScene(t)
	s.server.TLSConfig = nil
	if err := s.server.Serve(t.Context(), newPipes(), true); err == nil {
		t.Error("served")
	}
}

func TestWithoutTLSThereIsNoLogin(t *testing.T) {
	s := newScene(t)
	s.server.TLSConfig = nil
	c := s.connect(false)
	c.say("a STARTTLS")
	c.expect("a BAD")
	c.login(password)
	c.expect("l NO [PRIVACYREQUIRED]")
}

func TestASessionThatWasLoggedInTellsItsEnd(t *testing.T) {
	s := newScene(t)
	var log bytes.Buffer
	s.server.Log = slog.New(slog.NewTextHandler(&log, nil))
	c, early := s.connect(true), s.connect(true)
	c.login(password)
	c.expect("l OK")
	c.Close()
	waitFor(t, func() bool { return s.sessions.Len("") == 0 })
	early.say("a LOGOUT")
	early.gone()
	s.close()
	if got := log.String(); strings.Count(got, `msg="session ends"`) != 1 ||
		!regexp.MustCompile(`msg="session ends" protocol=imap session=\S{16} source=127\S+ account=`+owner+` from_client=\d+ to_client=\d+ seconds=\d`).MatchString(got) {
		t.Error(got)
	}
}

// fragile is a listener whose connections panic when their deadline is cleared,
// which the relay does first of all.
type fragile struct{ net.Listener }

type fragileConn struct{ net.Conn }

func (l fragile) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return fragileConn{conn}, err
}

func (c fragileConn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		panic("out of luck")
	}
	return c.Conn.SetDeadline(t)
}

// A panic between the verdict and the relay leaves nothing behind: no session at
// the mail server, none in the register, and the connection is counted once.
func TestAPanicAtTheSpliceLeavesNoSession(t *testing.T) {
	s := newScene(t)
	s.listener = func(l net.Listener) net.Listener { return fragile{l} }
	c := s.connect(true)
	c.login(password)
	c.gone()
	waitFor(t, func() bool { return s.fake.Open() == 0 && s.sessions.Len("") == 0 })
	s.close()
	if r := s.recorder; r.opened != 1 || r.closed != 1 || r.panics != 1 {
		t.Errorf("%d connections opened, %d closed, %d panics; want one each", r.opened, r.closed, r.panics)
	}
}

// Whoever is refused and does not read why holds up nobody: others are let in at
// the same time. A crowd of them is not waited for either.
func TestARefusedClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &Server{Server: frontend.Server{Guard: &guard{}, Limiter: &frontend.Limiter{Max: 1}, DrainTimeout: -1}}
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- server.Serve(ctx, l, false) }()
		greeted := func(conn net.Conn) bool {
			line, err := bufio.NewReader(conn).ReadString('\n')
			return err == nil && strings.HasPrefix(line, "* OK ")
		}
		first := l.dial()
		if !greeted(first) {
			t.Fatal("not greeted")
		}
		begun := time.Now()
		var refused []net.Conn
		for range 1000 {
			refused = append(refused, l.dial())
		}
		synctest.Wait()
		first.Close()
		synctest.Wait()
		if !greeted(l.dial()) || time.Since(begun) > 0 {
			t.Errorf("let in after %s", time.Since(begun))
		}
		told := 0
		for _, conn := range refused {
			if text, _ := io.ReadAll(conn); string(text) == "* BYE [UNAVAILABLE] Qua nhieu ket noi, vui long thu lai sau / Too many connections, please try again later\r\n" {
				told++
			}
		}
		if told != 100 {
			t.Errorf("%d of a crowd of 1000 were told why, want 100", told)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
