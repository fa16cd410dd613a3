package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// memory is a listener for connections in memory.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory {
	return &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}
func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// bubble runs a gateway in which time travels.
func bubble(t *testing.T, implicit bool, change func(*gateway), test func(t *testing.T, g *gateway, dial func() *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{t: t, fake: &mailtest.SMTP{Accounts: map[string]string{owner: password}, Extensions: extensions}, guard: &guard{}, records: &records{}}
		g.Server = newServer(g.guard, g.records)
		g.Upstream = &upstream.Server{Dial: g.fake.Dial, Timeout: time.Minute}
		if change != nil {
			change(g)
		}
		l := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := g.Serve(ctx, l, implicit); err != nil {
				t.Error(err)
			}
		})
		g.stop = func() { cancel(); serving.Wait() }
		test(t, g, func() *client {
			near, far := net.Pipe()
			l.conns <- far
			return &client{t: t, conn: near, r: bufio.NewReader(near)}
		})
		g.stop()
		g.fake.Close()
	})
}

// secured is the client with TLS over it.
func (c *client) secured() *client {
	conn := tls.Client(c.conn, mailtest.ClientTLS())
	return &client{t: c.t, conn: conn, r: bufio.NewReader(conn)}
}

func TestTimeBeforeLogin(t *testing.T) {
	after := func(t *testing.T, want time.Duration, do func()) {
		t.Helper()
		began := time.Now()
		do()
		if took := time.Since(began); took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	}
	bubble(t, false, nil, func(t *testing.T, g *gateway, dial func() *client) {
		c := dial()
		c.want("220")
		after(t, time.Minute, func() { c.want("421 4.4.2"); c.closed() })

		// Octet by octet: the line counts, not the octet.
		c = dial()
		c.want("220")
		after(t, time.Minute, func() {
			for _, octet := range "NOOP" {
				c.send(string(octet))
				time.Sleep(14 * time.Second)
			}
			c.want("421 4.4.2")
		})

		// Line by line: all of it counts.
		c = dial()
		c.want("220")
		after(t, 3*time.Minute, func() {
			for range 3 {
				c.do("NOOP", "250")
				time.Sleep(50 * time.Second)
			}
			c.do("NOOP", "250")
			c.want("421 4.4.2")
		})
	})
	bubble(t, true, nil, func(t *testing.T, g *gateway, dial func() *client) {
		c := dial()
		after(t, time.Minute, func() { c.closed() }) // no handshake

		c = dial().secured()
		c.want("220")
		after(t, time.Minute, func() { c.want("421 4.4.2"); c.closed() })

		c = dial().secured()
		c.want("220")
		after(t, time.Minute, func() {
			c.do("EHLO x", "250")
			c.do("AUTH LOGIN", "334")
			c.want("421 4.4.2")
			c.closed()
		})
	})
	bubble(t, true, func(g *gateway) {
		g.fake.Misbehave = mailtest.At("verdict", mailtest.Misdeed{Delay: 50 * time.Second})
		g.LoginTotal = 30 * time.Second
	}, func(t *testing.T, g *gateway, dial func() *client) {
		// The attempt itself takes as long as it takes.
		c := dial().secured()
		c.want("220")
		c.do("EHLO x", "250")
		after(t, 50*time.Second, func() { c.do("AUTH PLAIN "+plain("", owner, password), "235") })
		c.do("NOOP", "250")
		c.do("QUIT", "221")
		c.closed()
	})
}

// The user is asked for the password, and looks for it: the next try comes on the same
// connection, where the same password costs nothing.
func TestARefusedLoginLeavesThreeMinutesForTheNext(t *testing.T) {
	bubble(t, true, nil, func(t *testing.T, g *gateway, dial func() *client) {
		c := dial().secured()
		c.want("220")
		c.do("EHLO x", "250")
		for range 3 { // past the three minutes that a connection has before its first login
			time.Sleep(50 * time.Second)
			c.do("AUTH PLAIN "+plain("", owner, "wrong"), "535")
			time.Sleep(2 * time.Minute)
			c.do("NOOP", "250") // takes no more time
		}
		began := time.Now()
		c.want("421 4.4.2")
		if took := time.Since(began); took != time.Minute {
			t.Errorf("after the last login it took %v, want 3 minutes in all", 2*time.Minute+took)
		}
		c.closed()
	})
}

// Mail programs show the text of a greeting, and ask for no password.
func TestWhileTheMailServerIsAwayTheGreetingSaysSo(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		var away atomic.Bool
		bubble(t, implicit, func(g *gateway) {
			g.Away = away.Load
			g.Text = func(o auth.Outcome) string { return "Tam thoi ban / " + o.String() }
		}, func(t *testing.T, g *gateway, dial func() *client) {
			greeted := func() *client {
				if implicit {
					return dial().secured()
				}
				return dial()
			}
			before := greeted()
			before.want("220")
			away.Store(true)
			c := greeted()
			c.want("421 4.3.2 Tam thoi ban / unavailable")
			c.closed()
			before.do("EHLO x", "250") // who is there may stay
			away.Store(false)
			greeted().want("220")
		})
	}
}

func TestTimeAfterLogin(t *testing.T) {
	bubble(t, true, nil, func(t *testing.T, g *gateway, dial func() *client) {
		login := func() *client {
			c := dial().secured()
			c.want("220")
			c.do("EHLO x", "250")
			c.do("AUTH PLAIN "+plain("", owner, password), "235")
			return c
		}
		c := login()
		time.Sleep(4*time.Minute + 59*time.Second)
		c.do("NOOP", "250")
		time.Sleep(5*time.Minute - time.Second)
		if got := c.message(hello); !strings.HasPrefix(got, "250") {
			t.Error(got)
		}
		began := time.Now()
		c.want("421 4.4.2")
		c.closed()
		if took := time.Since(began); took != 5*time.Minute {
			t.Errorf("ended after %v", took)
		}

		// A slow line is slow, but not idle.
		c = login()
		c.envelope()
		c.do("DATA", "354")
		var slow string
		for line := range strings.Lines(hello + strings.Repeat("slowly\r\n", 10)) {
			c.send(line)
			slow += line
			time.Sleep(4 * time.Minute)
		}
		c.do(".", "250")
		c.envelope()
		c.send(fmt.Sprintf("BDAT %d LAST\r\n", len(slow)))
		for line := range strings.Lines(slow) {
			time.Sleep(4 * time.Minute)
			c.send(line)
		}
		c.want("250")
		g.wantDelivered(hello, slow, slow)

		// A stalled message ends the session, and is not delivered.
		for _, begin := range []string{"DATA\r\n" + hello, fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello)+1, hello)} {
			c = login()
			c.envelope()
			c.send(begin)
			if begin[0] == 'D' {
				c.want("354")
			}
			began = time.Now()
			c.want("421 4.4.2")
			c.closed()
			if took := time.Since(began); took != 5*time.Minute {
				t.Errorf("ended after %v", took)
			}
		}
		g.wantDelivered(hello, slow, slow)
		if got := g.records.submitted(); !slices.Equal(got, []Result{Accepted, Accepted, Accepted, Abandoned, Abandoned}) {
			t.Errorf("recorded %v", got)
		}
	})
}

func TestAMailServerThatHangsDoesNotKeepUsAlive(t *testing.T) {
	bubble(t, true, func(g *gateway) {
		g.DrainTimeout = 0 // 30 s
		g.fake.Misbehave = mailtest.At("message", mailtest.Misdeed{Hang: true})
	}, func(t *testing.T, g *gateway, dial func() *client) {
		c := dial().secured()
		c.want("220")
		c.do("EHLO x", "250")
		c.do("AUTH PLAIN "+plain("", owner, password), "235")
		c.envelope()
		c.do("DATA", "354")
		c.send(hello + ".\r\n")
		synctest.Wait()
		began := time.Now()
		var client sync.WaitGroup
		client.Go(func() { io.Copy(io.Discard, c.r) })
		g.stop()
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("stopped after %v", took)
		}
		c.conn.Close()
		client.Wait()
	})
}

// Half-close is no reason to give up what is complete, however long the mail server takes.
func TestACompleteMessageIsDeliveredThoughItsClientIsDone(t *testing.T) {
	for _, sent := range []string{"DATA\r\n" + hello + ".\r\n", fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello), hello)} {
		bubble(t, true, func(g *gateway) {
			g.fake.Misbehave = mailtest.At("message", mailtest.Misdeed{Delay: 9 * time.Minute})
		}, func(t *testing.T, g *gateway, dial func() *client) {
			c := dial().secured()
			c.want("220")
			c.do("EHLO x", "250")
			c.do("AUTH PLAIN "+plain("", owner, password), "235")
			c.envelope()
			c.send(sent)
			if sent[0] == 'D' {
				c.want("354")
			}
			c.conn.(*tls.Conn).CloseWrite() // fails where nobody reads: in memory there is no buffer
			c.want("250 2.0.0 Ok: queued as")
			c.conn.Close()
			g.wantDelivered(hello)
			if got := g.records.submitted(); !slices.Equal(got, []Result{Accepted}) {
				t.Errorf("recorded %v", got)
			}
		})
	}
}

func TestAMailServerThatHangsIsGivenTimeAndThenUp(t *testing.T) {
	for step, test := range map[mailtest.Step]struct {
		want string
		took time.Duration
	}{
		"MAIL":    {"421 4.4.2", 5 * time.Minute},
		"RCPT":    {"421 4.4.2", 5 * time.Minute},
		"DATA":    {"451 4.4.2", 5 * time.Minute},
		"message": {"451 4.4.2", 10 * time.Minute},
	} {
		bubble(t, true, func(g *gateway) {
			g.fake.Misbehave = mailtest.At(step, mailtest.Misdeed{Hang: true})
		}, func(t *testing.T, g *gateway, dial func() *client) {
			c := dial().secured()
			c.want("220")
			c.do("EHLO x", "250")
			c.do("AUTH PLAIN "+plain("", owner, password), "235")
			began := time.Now()
			var got string
			for _, line := range []string{"MAIL FROM:<" + owner + ">\r\n", "RCPT TO:<b@congthu.test>\r\n", "DATA\r\n", hello + ".\r\n"} {
				c.send(line)
				if got = c.reply(); got[0] != '2' && got[0] != '3' {
					break
				}
			}
			if took := time.Since(began); took != test.took || !strings.HasPrefix(got, test.want) {
				t.Errorf("%s: %q after %v", step, got, took)
			}
			c.conn.Close()
		})
	}
}
