package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
)

// begun sends more of a message until the mail server has begun to take it.
func (g *gateway) begun(c *client) {
	g.t.Helper()
	for g.fake.Begun() == 0 {
		c.send("0123456789\r\n")
	}
}

func TestAnEndedSessionSubmitsNothingMore(t *testing.T) {
	for name, test := range map[string]func(g *gateway, c *client){
		"idle": func(g *gateway, c *client) {},
		"in a transaction": func(g *gateway, c *client) {
			c.envelope()
		},
		"in the header": func(g *gateway, c *client) {
			c.envelope()
			c.do("DATA", "354")
			c.send(hello[:10])
		},
		"in the body": func(g *gateway, c *client) {
			c.envelope()
			c.do("DATA", "354")
			c.send(hello)
			g.begun(c)
		},
		"in a chunk": func(g *gateway, c *client) {
			c.envelope()
			c.send("BDAT 10000000 LAST\r\n" + hello)
			g.begun(c)
		},
		"between chunks": func(g *gateway, c *client) {
			c.envelope()
			c.chunk(hello, "", "250 2.0.0")
		},
		"in a line": func(g *gateway, c *client) {
			c.send("MAIL FROM:<")
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, nil)
			c := g.login()
			test(g, c)
			if n := g.Sessions.End(owner); n != 1 {
				t.Errorf("%d sessions ended", n)
			}
			c.want("421 4.")
			c.closed()
			g.stop()
			g.fake.Close()
			g.wantDelivered()
			if n := g.Sessions.Len(""); n != 0 {
				t.Errorf("%d sessions are live", n)
			}
		})
	}
}

// An attempt is in the register before it is decided, so that a lock finds it;
// one that is refused was never a session, and its client reads why.
func TestASessionEndedDuringItsLoginIsToldTheVerdict(t *testing.T) {
	for range 20 { // the register ends sessions in goroutines of their own
		g := start(t, func(g *gateway) {
			g.guard.outcome, g.guard.asks = auth.Revoked, true
			g.guard.judged = func() {
				if n := g.Sessions.End(owner); n != 1 {
					t.Errorf("%d sessions ended", n)
				}
			}
		})
		c := g.connect()
		c.do("AUTH PLAIN "+plain("", owner, password), "525 5.7.13")
		c.do("NOOP", "250")
		c.do("AUTH PLAIN "+plain("", owner, password), "525 5.7.13")
		c.do("QUIT", "221")
		c.closed()

		g.guard.mu.Lock()
		g.guard.outcome = auth.Accepted
		g.guard.mu.Unlock()
		c = g.connect()
		c.send("AUTH PLAIN " + plain("", owner, password) + "\r\n")
		// Nobody has to say anything for that, nor is anything said to one who has not been
		// welcomed yet.
		if got, err := c.tryReply(); err == nil {
			if !strings.HasPrefix(got, "235") {
				t.Errorf("%q", got)
			}
			c.want("421")
		}
		c.closed()
		g.stop()
		if n := g.Sessions.Len(""); n != 0 {
			t.Errorf("%d sessions are live", n)
		}
	}
}

func TestALockDuringTheLoginFindsTheSession(t *testing.T) {
	g := start(t, nil)
	g.Guard = guardFunc(func(ctx context.Context, a auth.Attempt) auth.Verdict {
		a.Verify(ctx, owner)
		// The mail server has said yes; an admin is faster than the rest.
		if n := g.Sessions.End(owner); n != 1 {
			t.Errorf("%d sessions ended", n)
		}
		return auth.Verdict{Outcome: auth.Accepted, Name: owner}
	})
	c := g.connect()
	c.send("AUTH PLAIN " + plain("", owner, password) + "\r\n")
	// The end is ordered in a goroutine of the registry: it comes before the welcome, and
	// then the connection closes without a word, or after it.
	switch got, err := c.tryReply(); {
	case err != nil:
		return
	case !strings.HasPrefix(got, "235"):
		t.Fatalf("%q", got)
	}
	for {
		if _, err := io.WriteString(c.conn, "NOOP\r\n"); err != nil {
			return
		}
		if got, err := c.tryReply(); err != nil || strings.HasPrefix(got, "421") {
			return
		}
	}
}

type guardFunc func(context.Context, auth.Attempt) auth.Verdict

func (f guardFunc) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict { return f(ctx, a) }

func TestAGuardThatGivesUpLeavesNoConnectionBehind(t *testing.T) {
	g := start(t, nil)
	var late sync.WaitGroup
	answered := make(chan struct{})
	g.Guard = guardFunc(func(ctx context.Context, a auth.Attempt) auth.Verdict {
		late.Go(func() {
			<-answered
			a.Verify(ctx, owner)
		})
		return auth.Verdict{Outcome: auth.Unavailable}
	})
	c := g.connect()
	c.do("AUTH PLAIN "+plain("", owner, password), "454")
	close(answered)
	late.Wait()
	if n := g.Sessions.Len(""); n != 0 {
		t.Errorf("%d sessions are live", n)
	}
	c.do("MAIL FROM:<"+owner+">", "530")
	c.do("AUTH PLAIN "+plain("", owner, password), "454")
	late.Wait()
}

func TestAPanicCostsOneConnection(t *testing.T) {
	g := start(t, nil)
	decide := g.guard.Attempt
	var once sync.Once
	g.Guard = guardFunc(func(ctx context.Context, a auth.Attempt) auth.Verdict {
		v := decide(ctx, a)
		once.Do(func() { panic("out of luck with " + a.Password.Reveal()) })
		return v
	})
	unlucky, lucky := g.connect(), g.connect()
	unlucky.send("AUTH PLAIN " + plain("", owner, password) + "\r\n")
	unlucky.closed()
	if n := g.Sessions.Len(""); n != 0 {
		t.Errorf("%d sessions are live", n)
	}
	lucky.do("AUTH PLAIN "+plain("", owner, password), "235")
	g.stop()
	g.records.do(func() {
		if g.records.panics != 1 {
			t.Errorf("%d panics counted, want 1", g.records.panics)
		}
	})
	// Whoever panics may have the password at hand.
	if log := g.log.String(); strings.Contains(log, password) || !strings.Contains(log, `panic="a value of type string" stack=`) || !strings.Contains(log, "smtp.guardFunc.Attempt") {
		t.Error(log)
	}
}

func TestAClientThatHangsUpHasLoggedInAllTheSame(t *testing.T) {
	g := start(t, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	settled := make(chan auth.Judgement, 1)
	g.Guard = guardFunc(func(ctx context.Context, a auth.Attempt) auth.Verdict {
		close(asked)
		<-answer
		settled <- a.Verify(ctx, owner).Judgement
		return auth.Verdict{Outcome: auth.WrongPassword}
	})
	c := g.connect()
	c.send("AUTH PLAIN " + plain("", owner, "wrong") + "\r\n")
	<-asked
	c.conn.(*tls.Conn).NetConn().Close()
	close(answer)
	if got := <-settled; got != auth.JudgedWrong {
		t.Errorf("judged %v", got)
	}
}

func TestDrainLetsMessagesUnderWayEnd(t *testing.T) {
	g := start(t, func(g *gateway) { g.DrainTimeout = time.Hour })
	idle, early, busy, chunks := g.login(), g.connect(), g.login(), g.login()
	clear := g.dial(g.starttls)
	clear.want("220")
	busy.envelope()
	busy.do("DATA", "354")
	busy.send(hello[:10])
	chunks.envelope()
	chunks.chunk(hello[:10], "", "250")

	var stopped sync.WaitGroup
	stopped.Go(g.stop)
	for _, c := range []*client{idle, early, clear} {
		c.want("421")
		c.closed()
	}
	busy.send(hello[10:] + ".\r\n")
	busy.want("250 2.0.0 Ok: queued")
	busy.want("421")
	busy.closed()
	chunks.chunk(hello[10:], " LAST", "250 2.0.0 Ok: queued")
	chunks.want("421")
	chunks.closed()
	stopped.Wait()
	g.wantDelivered(hello, hello)
	if conn, err := net.Dial("tcp", g.implicit); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// Whoever was let in at the last moment may log in and send a message still.
func TestDrainWithGraceServesThoseWhoHaveCome(t *testing.T) {
	g := start(t, func(g *gateway) { g.DrainTimeout, g.LoginGrace = time.Hour, 3*time.Second })
	c, idle := g.login(), g.login()
	var stopped sync.WaitGroup
	stopped.Go(g.stop)
	for conn, err := net.Dial("tcp", g.implicit); err == nil; conn, err = net.Dial("tcp", g.implicit) {
		conn.Close()
	}
	c.envelope()
	c.do("DATA", "354")
	c.send(hello + ".\r\n")
	c.want("250 2.0.0 Ok: queued")
	for _, c := range []*client{c, idle} {
		c.want("421")
		c.closed()
	}
	stopped.Wait()
	g.wantDelivered(hello)
}

func TestDrainDoesNotWaitForEver(t *testing.T) {
	g := start(t, func(g *gateway) { g.DrainTimeout = time.Nanosecond })
	c := g.login()
	c.envelope()
	c.do("DATA", "354")
	c.send(hello)
	g.begun(c)
	var stopped sync.WaitGroup
	stopped.Go(g.stop)
	c.want("421 4.3.2")
	c.closed()
	stopped.Wait()
	g.wantDelivered()
}
