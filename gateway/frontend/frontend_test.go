package frontend

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"congthu/auth"
	"congthu/gateway/session"
)

// verdicts is a guard that asks the mail server, and then waits until it may decide.
type verdicts struct {
	asked, decide chan struct{}
	outcome       auth.Outcome
}

func (g *verdicts) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	answer := a.Verify(ctx, auth.Name(a.Login))
	if g.decide != nil {
		close(g.asked)
		<-g.decide
	}
	if answer.Judgement != auth.JudgedRight {
		return auth.Verdict{Outcome: auth.WrongPassword}
	}
	return auth.Verdict{Outcome: g.outcome, Name: auth.Name(a.Login)}
}

// mailbox is a mail server that accepts every password, and echoes after the login.
type mailbox struct {
	opened    int
	loggedOut chan struct{}
}

func (m *mailbox) open() (*Session, auth.Answer) {
	m.opened++
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		io.Copy(far, far)
	}()
	return &Session{
		Conn: near, Ahead: []byte("you have mail\r\n"),
		Logout:  func() { near.Close(); close(m.loggedOut) },
		Welcome: func(v auth.Verdict) string { return "welcome " + string(v.Name) + "\r\n" },
	}, auth.Answer{Judgement: auth.JudgedRight}
}

// toy is a protocol: "in NAME PASSWORD", "sasl MECHANISM", "tls", "hi" and "out".
func (m *mailbox) toy() Protocol {
	return Protocol{
		Name: auth.IMAP, ALPN: []string{"toy"},
		Bye: func(f Farewell) string { return "bye " + string(f) },
		Speak: func(c *Client) error {
			err := c.Say("hello from " + c.Hostname() + "\r\n")
			for err == nil {
				c.Arm()
				var line string
				if line, err = c.Input.Line(1000); err != nil {
					break
				}
				word, rest, _ := strings.Cut(line, " ")
				login := Login{
					Verify:  func(context.Context, auth.Name, bool) (*Session, auth.Answer) { return m.open() },
					Refusal: func(v auth.Verdict) string { return "no " + v.Outcome.String() + "\r\n" },
				}
				var nothing SASLError
				switch word {
				case "in":
					name, password, _ := strings.Cut(rest, " ")
					login.Credentials = Credentials{Login: name, Password: auth.NewSecret(password)}
					err = c.Login(login)
				case "sasl":
					mech, ok := Choose(rest)
					if !ok {
						err = c.BadMechanism()
						break
					}
					login.Mechanism = mech.Name
					if login.Credentials, err = c.Authenticate(mech, nil); errors.As(err, &nothing) {
						err = c.Say("bad " + string(nothing) + "\r\n")
					} else if err == nil {
						err = c.Login(login)
					}
				case "clear":
					err = c.Cleartext(auth.Plain, "no, not without TLS\r\n")
				case "tls":
					err = c.StartTLS("begin\r\n")
				case "hi":
					err = c.Say("hi\r\n")
				case "out":
					err = ErrLoggedOut
				default:
					if err = c.Say("what?\r\n"); err == nil {
						err = c.Bad()
					}
				}
			}
			return err
		},
	}
}

// talk has one connection served, in virtual time, and gives its other end.
func talk(t *testing.T, s *Server, m *mailbox) (conn net.Conn, r *bufio.Reader, served chan struct{}) {
	near, far := net.Pipe()
	served = make(chan struct{})
	go func() {
		s.ServeConn(t.Context(), far, false, m.toy())
		close(served)
	}()
	return near, bufio.NewReader(near), served
}

func say(t *testing.T, conn net.Conn, r *bufio.Reader, line, want string) {
	t.Helper()
	if line != "" {
		if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := r.ReadString('\n'); err != nil || got != want+"\r\n" {
		t.Fatalf("%q: read %q, %v; want %q", line, got, err, want)
	}
}

// Between the guard's decision and the splice an administrator may lock the account:
// the session is registered before the decision, so the lock finds it.
func TestALockFindsASessionThatIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, sessions := &mailbox{loggedOut: make(chan struct{})}, new(session.Registry)
		g := &verdicts{asked: make(chan struct{}), decide: make(chan struct{})}
		conn, r, served := talk(t, &Server{Guard: g, Sessions: sessions}, m)
		say(t, conn, r, "", "hello from congthu")
		io.WriteString(conn, "in lan x\r\n")
		<-g.asked
		if n := sessions.End("lan"); n != 1 {
			t.Fatalf("%d sessions are registered before the verdict, want 1", n)
		}
		synctest.Wait() // End tells the session in a goroutine of its own
		close(g.decide)
		if got, _ := io.ReadAll(r); len(got) > 0 {
			t.Errorf("the client read %q", got)
		}
		<-m.loggedOut
		<-served
		if n := sessions.Len(""); n != 0 {
			t.Errorf("%d sessions are registered at the end", n)
		}
	})
}

// A session at the mail server belongs to the client only when the guard has let it
// in: after any other verdict it is logged out there.
func TestASessionIsKeptUntilTheVerdict(t *testing.T) {
	for _, outcome := range []auth.Outcome{auth.Accepted, auth.Expired} {
		t.Run(outcome.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, sessions := &mailbox{loggedOut: make(chan struct{})}, new(session.Registry)
				conn, r, served := talk(t, &Server{Guard: &verdicts{outcome: outcome}, Sessions: sessions}, m)
				say(t, conn, r, "", "hello from congthu")
				if outcome == auth.Accepted {
					io.WriteString(conn, "in lan x\r\nechoed\r\n") // read ahead, and passed on once
					say(t, conn, r, "", "welcome lan")
					say(t, conn, r, "", "you have mail")
					say(t, conn, r, "", "echoed")
					if n := sessions.Len("lan"); n != 1 {
						t.Errorf("%d sessions", n)
					}
				} else {
					say(t, conn, r, "in lan x", "no expired")
					<-m.loggedOut
					say(t, conn, r, "eh", "what?")
				}
				conn.Close()
				<-served
				if n := sessions.Len(""); n != 0 {
					t.Errorf("%d sessions are registered at the end", n)
				}
			})
		})
	}
}

func TestAnExchangeIsMadeOnceForAllProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		encode := base64.StdEncoding.EncodeToString
		m := &mailbox{loggedOut: make(chan struct{})}
		conn, r, served := talk(t, &Server{Guard: &verdicts{}}, m)
		say(t, conn, r, "", "hello from congthu")
		say(t, conn, r, "sasl PLAIN", "+ ")
		say(t, conn, r, "*", "bad cancelled")
		say(t, conn, r, "sasl plain", "+ ")
		say(t, conn, r, "!", "bad not base64")
		say(t, conn, r, "sasl PLAIN", "+ ")
		say(t, conn, r, encode([]byte("lan")), "bad malformed credentials")
		say(t, conn, r, "sasl login", "+ "+encode([]byte("Username:")))
		say(t, conn, r, encode([]byte("lan")), "+ "+encode([]byte("Password:")))
		say(t, conn, r, encode([]byte("x")), "welcome lan")
		conn.Close()
		<-served
	})
}

// The mistakes of a connection are limited, and the client reads why it ends.
func TestAConnectionEndsWithAFarewell(t *testing.T) {
	for name, c := range map[string]struct {
		says string
		want Farewell
	}{
		"bad commands":      {strings.Repeat("eh\r\n", 5), BadCommands},
		"bad mechanisms":    {strings.Repeat("sasl X\r\n", 5), ManyRefusals},
		"refusals":          {strings.Repeat("clear\r\n", 10), ManyRefusals},
		"a line too long":   {strings.Repeat("x", 1003), MuchData},
		"silence":           {"", TooSlow},
		"early octets":      {"tls\r\nin lan x\r\n", EarlyOctets},
		"good commands":     {strings.Repeat("hi\r\n", 101), MuchData},
		"what it asked for": {strings.Repeat("hi\r\n", 99) + "out\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := new(mailbox)
				near, far := net.Pipe()
				// Read as one segment, which a pipe gives as it was written.
				go func() {
					io.WriteString(near, c.says)
				}()
				done := make(chan string)
				go func() {
					all, _ := io.ReadAll(near)
					done <- string(all)
				}()
				s := &Server{Guard: &verdicts{}, Log: slog.New(slog.DiscardHandler)}
				s.ServeConn(t.Context(), far, false, m.toy())
				all := strings.Split(strings.TrimSuffix(<-done, "\r\n"), "\r\n")
				last := all[len(all)-1]
				if c.want == "" && strings.HasPrefix(last, "bye") || c.want != "" && last != "bye "+string(c.want) {
					t.Errorf("the last line is %q", last)
				}
				if m.opened > 0 {
					t.Error("there was a login")
				}
			})
		})
	}
}

func TestAPlaceIsGivenBackOnce(t *testing.T) {
	l := &Limiter{Max: 1}
	s := &Server{Guard: &verdicts{}, Limiter: l}
	for range 3 {
		near, far := net.Pipe()
		go func() {
			bufio.NewReader(near).ReadString('\n')
			near.Close()
		}()
		s.ServeConn(t.Context(), far, false, new(mailbox).toy())
		if l.total != 0 || len(s.clients) != 0 {
			t.Fatalf("%d places are taken, %d clients known, when the connection has ended", l.total, len(s.clients))
		}
	}
}
