package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// spoken is a dialogue without a server.
type spoken struct {
	mu              sync.Mutex
	dead, left      bool
	paused, resumed int
}

func (s *spoken) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *spoken) pause() (ok bool) {
	s.locked(func() { s.paused++; ok = true })
	return ok
}
func (s *spoken) resume(context.Context)  { s.locked(func() { s.resumed++ }) }
func (s *spoken) unchanged() (alive bool) { s.locked(func() { alive = !s.dead }); return alive }
func (s *spoken) quit()                   { s.locked(func() { s.left = true }) }
func (s *spoken) hasLeft() (left bool)    { s.locked(func() { left = s.left }); return left }
func (s *spoken) die()                    { s.locked(func() { s.dead = true }) }

// opener makes conversations, and keeps them.
type opener struct {
	mu   sync.Mutex
	made []*spoken
	err  error
	hang bool // until the context ends
}

func (o *opener) open(ctx context.Context) (*spoken, error) {
	o.mu.Lock()
	hang, err := o.hang, o.err
	o.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.made = append(o.made, new(spoken))
	return o.made[len(o.made)-1], nil
}

func (o *opener) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.made)
}

// inSpares runs f in a bubble with spares, at most most, which are closed at
// the end.
func inSpares(t *testing.T, most int, f func(t *testing.T, o *opener, login func() (found *spoken))) {
	synctest.Test(t, func(t *testing.T) {
		var s spares[*spoken]
		o := new(opener)
		f(t, o, func() *spoken {
			found, _ := s.take(t.Context())
			s.refill(most, o.open, nil)
			time.Sleep(2 * refillDelay)
			synctest.Wait()
			return found
		})
		s.close()
		for i, made := range o.made {
			if !made.hasLeft() && made.resumed == 0 {
				t.Errorf("connection %d was neither used nor closed", i)
			}
		}
	})
}

func TestALoginLeavesASpareConnectionForTheNext(t *testing.T) {
	inSpares(t, 2, func(t *testing.T, o *opener, login func() *spoken) {
		if login() != nil {
			t.Error("there was a connection before the first login")
		}
		if found := login(); found == nil || found != o.made[0] || found.paused != 1 || found.resumed != 1 {
			t.Errorf("the second login found %+v", found)
		}
		if found := login(); found == nil || found != o.made[1] {
			t.Errorf("the third login found %+v", found)
		}
	})
}

func TestSpareConnectionsAreAsManyAsLoginsThatFoundNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spares[*spoken]
		o := new(opener)
		for range 10 { // at once
			s.refill(3, o.open, nil)
		}
		time.Sleep(2 * refillDelay)
		if o.count() != 3 {
			t.Errorf("%d connections were made, at most 3 are wanted", o.count())
		}
		s.close()
	})
	inSpares(t, 0, func(t *testing.T, o *opener, login func() *spoken) {
		if login(); o.count() != 0 {
			t.Error("a spare was made where none is wanted")
		}
	})
}

func TestASpareThatNobodyNeedsIsGivenUp(t *testing.T) {
	inSpares(t, 2, func(t *testing.T, o *opener, login func() *spoken) {
		login()
		time.Sleep(spareLife - 3*refillDelay)
		if o.made[0].hasLeft() {
			t.Error("it was given up too early")
		}
		time.Sleep(3 * refillDelay)
		if synctest.Wait(); !o.made[0].hasLeft() || o.count() != 1 {
			t.Errorf("after %v it is still there, or was replaced: %d", spareLife, o.count())
		}
		if login() != nil {
			t.Error("it was used nevertheless")
		}
	})
}

func TestASpareThatTheServerHasGivenUpIsNotUsed(t *testing.T) {
	inSpares(t, 2, func(t *testing.T, o *opener, login func() *spoken) {
		login()
		o.made[0].die()
		if found := login(); found != nil {
			t.Error("a dead connection was used")
		}
		if !o.made[0].hasLeft() {
			t.Error("a dead connection was left open")
		}
	})
}

func TestASpareThatCannotBeMadeIsMissedByNobody(t *testing.T) {
	inSpares(t, 1, func(t *testing.T, o *opener, login func() *spoken) {
		o.err = errors.New("connection refused")
		login()
		o.err = nil
		if login(); o.count() != 1 {
			t.Error("after a failure none is made")
		}
		o.mu.Lock()
		o.hang = true
		o.mu.Unlock()
		if login() == nil { // and close ends the one that hangs
			t.Error("the spare was not used")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var s spares[*spoken]
		told := 0
		s.refill(1, func(context.Context) (*spoken, error) { panic("a mistake") }, func(value any, stack []byte) {
			if told++; value != "a mistake" || !bytes.Contains(stack, []byte("spare_test.go")) {
				t.Errorf("told of %v at %s", value, stack)
			}
		})
		time.Sleep(2 * refillDelay)
		synctest.Wait()
		if told != 1 {
			t.Errorf("told of %d panics, want 1", told)
		}
		o := new(opener)
		s.refill(1, o.open, nil)
		time.Sleep(2 * refillDelay)
		if o.count() != 1 {
			t.Error("after a panic none is made")
		}
		s.close()
	})
}

func TestClosedSparesStayClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spares[*spoken]
		o := new(opener)
		s.refill(1, o.open, nil) // is being made when they are closed
		s.close()
		s.refill(1, o.open, nil)
		time.Sleep(2 * refillDelay)
		if _, ok := s.take(t.Context()); ok || o.count() > 1 {
			t.Errorf("there is a spare after the end, %d made", o.count())
		}
		if o.count() == 1 && !o.made[0].hasLeft() {
			t.Error("the one that was being made is open")
		}
	})
}

// awaitOpen waits until so many connections to the fake are open.
func awaitOpen(t *testing.T, open func() int, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); open() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open, want %d", open(), want)
		}
	}
}

// overSpares logs in from three clients, each but the first over the connection
// that the login before has left, and once more when the server has closed that.
// login returns what ends the session, or nil; told is of whom the server knows.
func overSpares(t *testing.T, s *Server, fake interface {
	Open() int
	Cut()
}, login func(context.Context, Client) (leave func(), answer auth.Answer), told func() []map[string]string,
) {
	t.Helper()
	s.Spare = 1
	t.Cleanup(s.Close)
	for i, from := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		ctx, end := context.WithCancel(t.Context())
		leave, answer := login(ctx, Client{Address: netip.AddrPortFrom(netip.MustParseAddr(from), 1000)})
		if leave == nil {
			t.Fatalf("login %d: %+v", i, answer)
		}
		end() // no connection ends with the login that it was made for, nor with the one before
		// One for this session, and one for the next.
		awaitOpen(t, fake.Open, 2)
		if said := told(); len(said) != i+1 || !slices.Contains(slices.Collect(maps.Values(said[i])), from) {
			t.Errorf("login %d from %s, the server was told %q", i, from, said)
		}
		leave()
		awaitOpen(t, fake.Open, 1)
	}
	fake.Cut() // as at a restart of the server
	awaitOpen(t, fake.Open, 0)
	leave, answer := login(t.Context(), Client{})
	if leave == nil {
		t.Fatalf("when the server had closed the spare connection: %+v", answer)
	}
	leave()
	s.Close()
	awaitOpen(t, fake.Open, 0)
}

func TestAnIMAPLoginOverASpareConnectionIsLikeAnyOther(t *testing.T) {
	for name, secured := range map[string]bool{"clear": false, "STARTTLS": true} {
		t.Run(name, func(t *testing.T) {
			fake := &mailtest.IMAP{Accounts: accounts()}
			if secured {
				fake.TLS = mailtest.ServerTLS()
			}
			s := serverFor(t, fake)
			if !secured {
				s.Address, s.Dial = started(t, fake), nil
			}
			login := func(ctx context.Context, c Client) (func(), auth.Answer) {
				conn, answer := s.LoginIMAP(ctx, owner, auth.NewSecret(password), c)
				if conn == nil {
					return nil, answer
				}
				return conn.Logout, answer
			}
			s.PassClient = PassID
			overSpares(t, s, fake, login, fake.IDs)
		})
	}
}

func TestAWrongPasswordOverASpareConnectionIsWrong(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: accounts()}
	s := serverFor(t, fake)
	s.Address, s.Dial, s.Spare = started(t, fake), nil, 1
	t.Cleanup(s.Close)
	for i := range 2 { // the second finds a spare
		if conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret("wrong"), Client{}); conn != nil || answer.Judgement != auth.JudgedWrong {
			t.Errorf("login %d: %+v", i, answer)
		}
		awaitOpen(t, fake.Open, 1)
	}
}

// count is how many spare connections are ready.
func count[D dialogue](s *spares[D]) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

// behindASpare leaves a spare connection, misbehaves on it from then on, and logs in. It
// returns how often the password of that login was judged right.
func behindASpare(t *testing.T, m func(mailtest.Step) mailtest.Misdeed, caps ...string) (answer auth.Answer, judged int) {
	t.Helper()
	var over atomic.Bool
	fake := &mailtest.IMAP{Accounts: accounts(), Caps: caps, Misbehave: func(step mailtest.Step) mailtest.Misdeed {
		if !over.Load() {
			return mailtest.Misdeed{}
		}
		return m(step)
	}}
	s := serverFor(t, fake)
	s.Address, s.Dial, s.Spare = started(t, fake), nil, 2
	t.Cleanup(s.Close)
	conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
	if conn == nil {
		t.Fatal(answer)
	}
	conn.Logout()
	awaitOpen(t, func() int { return count(&s.imapSpares) }, 1)
	over.Store(true)
	before := fake.Verdicts(string(owner)).Right
	if conn, answer = s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{}); conn != nil {
		conn.Logout()
	}
	return answer, fake.Verdicts(string(owner)).Right - before
}

func TestASpareThatIsOfNoUseCostsNoLogin(t *testing.T) {
	closes := mailtest.Misdeed{Close: true}
	for name, test := range map[string]struct {
		misdeed   func(mailtest.Step) mailtest.Misdeed
		caps      []string
		judged    int
		judgement auth.Judgement
		again     bool
	}{
		// The server's own word, as Dovecot's behind a reload.
		"it says that it cannot": {mailtest.Once("judged", mailtest.Misdeed{Say: "%TAG% NO [UNAVAILABLE] Internal error\r\n", Close: true}), nil, 2, auth.JudgedRight, false},
		// Where the password waits for a "+" it was not sent.
		"it closes before the password": {mailtest.Once("AUTHENTICATE", closes), []string{"IMAP4rev1", "AUTH=PLAIN"}, 1, auth.JudgedRight, false},
		"it closes before the name":     {mailtest.Once("LOGIN", closes), []string{"IMAP4rev1"}, 1, auth.JudgedRight, false},
		// It may have judged.
		"it closes on the password": {mailtest.Once("verdict", closes), nil, 0, auth.InDoubt, true},
		"it judges and closes":      {mailtest.Once("judged", closes), nil, 1, auth.InDoubt, true},
		"it says BYE":               {mailtest.Once("judged", mailtest.Misdeed{Say: "* BYE\r\n", Close: true}), nil, 1, auth.InDoubt, true},
		// Once more, and no more than that.
		"a new one is of no use, too": {mailtest.At("judged", mailtest.Misdeed{Say: "%TAG% NO [UNAVAILABLE] Internal error\r\n", Close: true}), nil, 2, auth.Unreached, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer, judged := behindASpare(t, test.misdeed, test.caps...)
			if answer.Judgement != test.judgement || answer.Again != test.again || judged != test.judged {
				t.Errorf("%+v, judged %d times; want judgement %d, again %v, %d times", answer, judged, test.judgement, test.again, test.judged)
			}
		})
	}
}

func TestDoubtOverANewConnectionIsNotAskedAgain(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: accounts(), Misbehave: mailtest.At("judged", mailtest.Misdeed{Close: true})}
	s := serverFor(t, fake)
	s.Address, s.Dial, s.Spare = started(t, fake), nil, 1
	t.Cleanup(s.Close)
	for i := range 3 { // the later ones could have a spare
		_, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{Fresh: true})
		if answer.Judgement != auth.InDoubt || answer.Again {
			t.Errorf("login %d: %+v", i, answer)
		}
		awaitOpen(t, func() int { return count(&s.imapSpares) }, 1)
	}
}

// brokenWire is a connection on which nothing can be written any more.
type brokenWire struct{ net.Conn }

func (brokenWire) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAPasswordThatCouldNotBeWrittenWasNotSent(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: accounts()}
	s := serverFor(t, fake)
	d, err := s.openIMAP(t.Context(), Client{})
	if err != nil {
		t.Fatal(err)
	}
	d.conn = brokenWire{d.conn}
	if _, answer := d.loginFor(Client{}, string(owner), password); answer.Judgement != auth.Unreached {
		t.Errorf("IMAP: %+v", answer)
	}
	submission := &mailtest.SMTP{Accounts: accounts()}
	e, err := smtpServerFor(t, submission).openSMTP(t.Context(), Client{})
	if err != nil {
		t.Fatal(err)
	}
	e.conn = brokenWire{e.conn}
	if _, answer := e.loginFor(Client{}, string(owner), password); answer.Judgement != auth.Unreached {
		t.Errorf("SMTP: %+v", answer)
	}
}

func TestASpareOfSMTPThatIsOfNoUseCostsNoLogin(t *testing.T) {
	for name, test := range map[string]struct {
		misdeed   func(mailtest.Step) mailtest.Misdeed
		judgement auth.Judgement
		again     bool
	}{
		"before the password": {mailtest.Once("XCLIENT", mailtest.Misdeed{Close: true}), auth.JudgedRight, false},
		"with a word":         {mailtest.Once("verdict", mailtest.Misdeed{Say: "454 4.7.0 Temporary authentication failure\r\n"}), auth.JudgedRight, false},
		"without a word":      {mailtest.Once("verdict", mailtest.Misdeed{Close: true}), auth.InDoubt, true},
	} {
		t.Run(name, func(t *testing.T) {
			var over atomic.Bool
			fake := &mailtest.SMTP{Accounts: accounts(), XClient: true, Misbehave: func(step mailtest.Step) mailtest.Misdeed {
				if !over.Load() {
					return mailtest.Misdeed{}
				}
				return test.misdeed(step)
			}}
			s := smtpServerFor(t, fake)
			s.Address, s.Dial, s.Spare, s.PassClient = started(t, fake), nil, 1, PassXCLIENT
			t.Cleanup(s.Close)
			client := Client{Address: netip.MustParseAddrPort("192.0.2.1:1000")}
			conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), client)
			if conn == nil {
				t.Fatal(answer)
			}
			conn.Logout()
			awaitOpen(t, func() int { return count(&s.smtpSpares) }, 1)
			over.Store(true)
			if conn, answer = s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), client); conn != nil {
				conn.Logout()
			}
			if answer.Judgement != test.judgement || answer.Again != test.again {
				t.Errorf("%+v, want judgement %d, again %v", answer, test.judgement, test.again)
			}
		})
	}
}

// started is the address of a fake that listens.
func started(t *testing.T, fake interface{ Start() (string, error) }) string {
	t.Helper()
	address, err := fake.Start()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestAnSMTPLoginOverASpareConnectionIsLikeAnyOther(t *testing.T) {
	fake := &mailtest.SMTP{Accounts: accounts(), XClient: true}
	s := smtpServerFor(t, fake)
	s.Address, s.Dial = started(t, fake), nil
	login := func(ctx context.Context, c Client) (func(), auth.Answer) {
		conn, answer := s.LoginSMTP(ctx, owner, auth.NewSecret(password), c)
		if conn == nil {
			return nil, answer
		}
		if _, err := io.WriteString(conn, "MAIL FROM:<"+string(owner)+">\r\n"); err != nil {
			t.Error(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "250 ") {
			t.Errorf("MAIL: %q, %v", line, err)
		}
		return conn.Logout, answer
	}
	s.PassClient = PassXCLIENT
	overSpares(t, s, fake, login, fake.Clients)
}
