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
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/mailtest"
)

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
				s, l := newScene(t), frontendtest.NewPipes()
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() { served <- s.server.Serve(ctx, l, test.implicit) }()
				conn := l.Dial()
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
		s, l := newScene(t), frontendtest.NewPipes()
		s.Guard.Before = auth.WrongPassword
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- s.server.Serve(ctx, l, true) }()
		conn := l.Dial()
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
	late.Expect("l OK")
	s.Guard.Hold = make(chan struct{})
	<-s.Guard.Asked
	between := s.connect(true)
	between.login(password)
	<-s.Guard.Asked

	s.Stop()
	if got := early.Gone(); got != "* BYE May chu dang dung, vui long thu lai / The server is shutting down, please try again\r\n" {
		t.Errorf("before login, the client read %q", got)
	}
	if _, err := net.Dial("tcp", s.Address); err == nil {
		t.Error("the listener is still open")
	}
	// Whoever is logged in, or about to be, goes on.
	late.Say("a NOOP")
	late.Expect("a OK")
	close(s.Guard.Hold)
	between.Expect("l OK")
	between.Say("a NOOP")
	between.Expect("a OK")
	between.Close()
	if s.Stopped() {
		t.Fatal("Serve did not wait")
	}
	s.Sessions.End(owner)
	if got := late.Gone(); got != "" {
		t.Errorf("after login, the client read %q", got)
	}
	s.Wait()
}

// Whoever was let in at the last moment may log in still. With somebody waiting for
// the end, the session is over at its first pause.
func TestAShutdownWithGraceLetsThoseInWhoHaveCome(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout, s.server.LoginGrace, s.server.EndQuiet = time.Minute, 50*time.Second, true
	early, late, idle := s.connect(false), s.connect(true), s.connect(true)
	idle.login(password)
	idle.Expect("l OK")
	s.Stop()
	if got := idle.Gone(); got != "" {
		t.Errorf("a session without anything to do read %q", got)
	}
	late.login(password)
	late.Expect("l OK")
	late.Say("a NOOP")
	late.Expect("a OK")
	if got := late.Gone(); got != "" {
		t.Errorf("a session that has had its pause read %q", got)
	}
	early.Close()
	s.Wait()
}

func TestAShutdownDoesNotWaitForEver(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout = time.Millisecond
	c := s.connect(true)
	c.login(password)
	c.Expect("l OK")
	s.Stop()
	if got := c.Gone(); got != "" {
		t.Errorf("the client read %q", got)
	}
}

func TestEndingTheSessionsOfAnAccountLeavesTheOthers(t *testing.T) {
	s := newScene(t)
	s.fake.Accounts["other@congthu.test"] = password
	a, b := s.connect(true), s.connect(true)
	a.login(password)
	a.Expect("l OK")
	b.Say("l LOGIN other@congthu.test " + password)
	b.Expect("l OK")
	if n := s.Sessions.End(owner); n != 1 {
		t.Errorf("%d sessions of the account", n)
	}
	if got := a.Gone(); got != "" {
		t.Errorf("the client read %q", got)
	}
	b.Say("a NOOP")
	b.Expect("a OK")
}

func TestARefusalAfterARightPasswordLogsOutAtTheMailServer(t *testing.T) {
	s := newScene(t)
	s.Guard.After = auth.Expired
	c := s.connect(true)
	c.login(password)
	c.Expect("* NO [ALERT] Mat khau het han")
	c.Expect("l NO [EXPIRED]")
	frontendtest.WaitFor(t, func() bool { return s.fake.Open() == 0 })
	if s.Sessions.Len("") != 0 {
		t.Error("the session is registered")
	}
	if raw := string(s.fake.Raw()); !strings.HasSuffix(raw, "LOGOUT\r\n") {
		t.Errorf("the mail server read %q", raw)
	}
}

func TestHangingUpAfterThePasswordIsSettledAllTheSame(t *testing.T) {
	s := newScene(t)
	verdict := make(chan struct{})
	s.fake.Misbehave = mailtest.At("verdict", mailtest.Misdeed{Wait: verdict})
	c := s.connect(true)
	c.login("sai")
	<-s.Guard.Asked
	c.Close()
	close(verdict)
	frontendtest.WaitFor(t, func() bool { return s.fake.Verdicts(owner).Wrong == 1 })

	c = s.connect(true)
	c.login(password)
	<-s.Guard.Asked
	c.Close()
	frontendtest.WaitFor(t, func() bool { return s.fake.Verdicts(owner).Right == 1 })
	frontendtest.WaitFor(t, func() bool { return s.fake.Open() == 0 && s.Sessions.Len("") == 0 })
}

// broken panics at a name.
type broken struct{ *frontendtest.Guard }

func (b broken) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	v := b.Guard.Attempt(ctx, a)
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
	s.server.Guard = broken{s.Guard}
	unlucky, lucky := s.connect(true), s.connect(true)
	unlucky.login(password)
	unlucky.Gone()
	lucky.Say("l LOGIN other@congthu.test " + password)
	lucky.Expect("l OK")
	frontendtest.WaitFor(t, func() bool { return s.fake.Open() == 1 && s.Sessions.Len("") == 1 })
	if n := s.Recorder.Counts().Panics; n != 1 {
		t.Errorf("%d panics counted, want 1", n)
	}
	s.Close()
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
	third, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if got, _ := io.ReadAll(third); string(got) != "* BYE [UNAVAILABLE] Qua nhieu ket noi, vui long thu lai sau / Too many connections, please try again later\r\n" {
		t.Errorf("read %q", got)
	}
	first.Say("a LOGOUT")
	first.Gone()
	frontendtest.WaitFor(t, func() bool { return s.Recorder.Counts().Closed == 1 })
	s.connect(false)
}

func TestImplicitTLSNeedsACertificate(t *testing.T) {
	s := newScene(t)
	s.server.TLSConfig = nil
	if err := s.server.Serve(t.Context(), frontendtest.NewPipes(), true); err == nil {
		t.Error("served")
	}
}

func TestWithoutTLSThereIsNoLogin(t *testing.T) {
	s := newScene(t)
	s.server.TLSConfig = nil
	c := s.connect(false)
	c.Say("a STARTTLS")
	c.Expect("a BAD")
	c.login(password)
	c.Expect("l NO [PRIVACYREQUIRED]")
}

func TestASessionThatWasLoggedInTellsItsEnd(t *testing.T) {
	s := newScene(t)
	var log bytes.Buffer
	s.server.Log = slog.New(slog.NewTextHandler(&log, nil))
	c, early := s.connect(true), s.connect(true)
	c.login(password)
	c.Expect("l OK")
	c.Close()
	frontendtest.WaitFor(t, func() bool { return s.Sessions.Len("") == 0 })
	early.Say("a LOGOUT")
	early.Gone()
	s.Close()
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
	s.Listener = func(l net.Listener) net.Listener { return fragile{l} }
	c := s.connect(true)
	c.login(password)
	c.Gone()
	frontendtest.WaitFor(t, func() bool { return s.fake.Open() == 0 && s.Sessions.Len("") == 0 })
	s.Close()
	if r := s.Recorder.Counts(); r.Opened != 1 || r.Closed != 1 || r.Panics != 1 {
		t.Errorf("%d connections opened, %d closed, %d panics; want one each", r.Opened, r.Closed, r.Panics)
	}
}

// Whoever is refused and does not read why holds up nobody: others are let in at
// the same time. A crowd of them is not waited for either.
func TestARefusedClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &Server{Server: frontend.Server{Guard: new(frontendtest.Guard), Limiter: &frontend.Limiter{Max: 1}, DrainTimeout: -1}}
		l := frontendtest.NewPipes()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- server.Serve(ctx, l, false) }()
		greeted := func(conn net.Conn) bool {
			line, err := bufio.NewReader(conn).ReadString('\n')
			return err == nil && strings.HasPrefix(line, "* OK ")
		}
		first := l.Dial()
		if !greeted(first) {
			t.Fatal("not greeted")
		}
		begun := time.Now()
		var refused []net.Conn
		for range 1000 {
			refused = append(refused, l.Dial())
		}
		synctest.Wait()
		first.Close()
		synctest.Wait()
		if !greeted(l.Dial()) || time.Since(begun) > 0 {
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
