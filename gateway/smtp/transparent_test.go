package smtp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/gateway/frontend"
	"congthu/gateway/relay"
	"congthu/gateway/upstream"
)

// patient is a mail server that says 421 to a client which is silent for some time, as
// Postfix does (smtpd_timeout).
type patient struct {
	timeout time.Duration
	mu      sync.Mutex
	said    []string // commands, and "message" with its text
}

func (p *patient) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, line)
}

// heard are the commands with that verb.
func (p *patient) heard(verb string) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.said {
		if strings.HasPrefix(line, verb) {
			all = append(all, line)
		}
	}
	return all
}

func (p *patient) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	read := func(read func() error) bool {
		conn.SetReadDeadline(time.Now().Add(p.timeout))
		err := read()
		if err != nil && isTimeout(err) {
			io.WriteString(conn, "421 4.4.2 mail.test Error: timeout exceeded\r\n")
		}
		return err == nil
	}
	line := func() (line string, ok bool) {
		ok = read(func() (err error) { line, err = r.ReadString('\n'); return err })
		return line, ok
	}
	io.WriteString(conn, "220 mail.test\r\n")
	for {
		said, ok := line()
		if !ok {
			return
		}
		p.note(strings.TrimSpace(said))
		reply := "250 2.0.0 Ok"
		switch verb, argument, _ := strings.Cut(strings.TrimSpace(said), " "); verb {
		case "EHLO":
			reply = "250-mail.test\r\n250-CHUNKING\r\n250 AUTH PLAIN"
		case "AUTH":
			reply = "235 2.7.0 Ok"
		case "DATA":
			io.WriteString(conn, "354 Go on\r\n")
			text := ""
			for said != ".\r\n" {
				if said, ok = line(); !ok {
					return
				}
				text += said
			}
			p.note("message " + text)
			reply = "250 2.0.0 Ok: queued as 4XyzAB12cd"
		case "BDAT":
			var size int
			fmt.Sscan(argument, &size)
			text := make([]byte, size)
			if !read(func() error { _, err := io.ReadFull(r, text); return err }) {
				return
			}
			p.note("chunk " + string(text))
		}
		if _, err := io.WriteString(conn, reply+"\r\n"); err != nil {
			return
		}
	}
}

// slowly runs a client that is logged in, in virtual time, before a patient server.
func slowly(t *testing.T, p *patient, test func(t *testing.T, g *gateway, c *client)) {
	t.Helper()
	bubble(t, true, func(g *gateway) {
		g.Upstream = &upstream.Server{Timeout: time.Minute, Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go p.serve(far)
			return near, nil
		}}
	}, func(t *testing.T, g *gateway, dial func() *client) {
		c := dial().secured()
		c.want("220")
		c.do("EHLO x", "250")
		c.do("AUTH PLAIN "+plain("", owner, password), "235")
		test(t, g, c)
		c.conn.Close()
		synctest.Wait()
	})
}

func TestTheMailServersOwnTimeIsTheClients(t *testing.T) {
	p := &patient{timeout: 120 * time.Second}
	slowly(t, p, func(t *testing.T, g *gateway, c *client) {
		for range 20 { // ten minutes
			time.Sleep(30 * time.Second)
			c.do("NOOP", "250")
		}
		c.do("MAIL FROM:<"+owner+">", "250")
		began := time.Now()
		c.want("421 4.4.2 mail.test Error: timeout exceeded")
		c.closed()
		if took := time.Since(began); took != 120*time.Second {
			t.Errorf("421 after %v", took)
		}
		if n := len(p.heard("NOOP")); n != 20 {
			t.Errorf("the mail server heard %d NOOPs, want the client's 20", n)
		}
	})
}

// A header may come slowly: the mail server, who has not heard of the message, is kept.
func TestAHeaderMayTakeLongerThanTheMailServerWaits(t *testing.T) {
	for _, pause := range []time.Duration{140 * time.Second, 4*time.Minute + 59*time.Second} {
		p := &patient{timeout: 120 * time.Second}
		slowly(t, p, func(t *testing.T, g *gateway, c *client) {
			c.envelope()
			c.do("DATA", "354")
			c.send("From: " + owner + "\r\n")
			time.Sleep(pause)
			c.send("Subject: slow\r\n\r\nx\r\n.\r\n")
			if got := c.reply(); got != "250 2.0.0 Ok: queued as 4XyzAB12cd\r\n" {
				t.Errorf("after %v: %q", pause, got)
			}
			if got, want := p.heard("message"), []string{"message From: " + owner + "\r\nSubject: slow\r\n\r\nx\r\n.\r\n"}; !slices.Equal(got, want) {
				t.Errorf("after %v: %q", pause, got)
			}
			c.do("NOOP", "250 2.0.0 Ok")
			if n, most := len(p.heard("NOOP")), int(pause/noopEvery)+1; n < 2 || n > most+1 {
				t.Errorf("%d NOOPs in %v", n, pause)
			}
			// The same in chunks.
			c.envelope()
			c.chunk("From: "+owner+"\r\n", "", "250")
			time.Sleep(pause)
			c.chunk("\r\nx\r\n", " LAST", "250")
			if got := strings.Join(p.heard("chunk"), "|"); got != "chunk From: "+owner+"\r\n\r\nx\r\n" {
				t.Errorf("after %v: %q", pause, got)
			}
		})
	}
}

// But not for ever: after five minutes the server's time is the client's again.
func TestAHeaderIsNotHeldForEver(t *testing.T) {
	p := &patient{timeout: 120 * time.Second}
	slowly(t, p, func(t *testing.T, g *gateway, c *client) {
		c.envelope()
		c.do("DATA", "354")
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 20 {
				if _, err := io.WriteString(c.conn, "X: y\r\n"); err != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		}()
		c.want("421 4.4.2 mail.test Error: timeout exceeded")
		if took := time.Since(began); took < maxHold || took > maxHold+2*time.Minute+noopEvery {
			t.Errorf("ended after %v", took)
		}
		c.conn.Close()
		<-done
	})
}

// What Postfix takes, and the gateway once refused.
func TestWhatTheMailServerTakesIsTaken(t *testing.T) {
	g := start(t, func(g *gateway) {
		g.fake.Recipient = func(address string) string {
			if address == "<u5>" {
				return "550 5.1.1 <u5>: Recipient address rejected"
			}
			return ""
		}
	})
	c := g.login()
	c.play(`
		C: MAIL FROM:<nguyen.van.a>
		S: 250
		C: RCPT TO:<u5>
		S: 550 5.1.1 <u5>: Recipient address rejected
		C: RCPT TO:<Postmaster>
		S: 250`)
	c.send("NOOP \r\nDATA \r\n")
	c.play("S: 250\nS: 354")
	c.send(hello + ".\r\nRSET \t\r\n")
	c.play("S: 250 2.0.0 Ok: queued\nS: 250")
	for range 10 {
		c.do("XYZZY", "502 5.5.2")
		if got := c.message(hello); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	for _, verb := range []string{"SEND FROM:<x>", "SOML FROM:<boss@congthu.test>", "SAML FROM:<x>", "EXDATA", "X-EXPS", "XEXCH50 1 2", "XCLIENT ADDR=192.0.2.1", "XFORWARD ADDR=192.0.2.1", "BURL imap://x", "TURN", "", "MA\u0130L FROM:<x>"} {
		c.do(verb, "502 5.5.2")
	}
	c.do("AUTH PLAIN AAAA", "503 5.5.1")
	c.do("STARTTLS", "503 5.5.1")
	c.envelope()
	c.chunk(hello[:20], "", "250")
	c.do("DATA", "503 5.5.1")
	c.do("MAIL FROM:<"+owner+">", "503 5.5.1")
	c.do("RCPT TO:<b@congthu.test>", "503 5.5.1")
	c.do("RSET", "250")
	c.do("RCPT TO:<b@congthu.test>", "503 5.5.1")
	if got := c.message(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	c.do("VRFY b", "500") // the mail server's own
	c.send("QUIT \r\n")
	c.want("221")
	c.closed()
	if n := len(g.delivered()); n != 12 {
		t.Errorf("%d messages delivered, want 12", n)
	}
	for _, line := range g.fake.Lines() {
		verb, _, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"EHLO", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "QUIT"}, verb) {
			t.Errorf("passed on: %q", line)
		}
	}
}

// Lines that servers could end in different places never reach one.
func TestALineThatIsNotOneIsNotPassedOn(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, line := range []string{"NOOP x\x00\r\n", "NOOP x\ry\r\n", "NOOP\n", "RCPT TO:<b@congthu.test>\n", "MAIL FROM:<boss@congthu.test>\r\r\n"} {
		c.send(line)
		c.want("500 5.5.2")
	}
	c.send("NOOP\nRSET\r\nNOOP y\r\n")
	c.play("S: 500 5.5.2\nS: 250\nS: 250")
	c.do("NOOP "+strings.Repeat("x", 3000), "500 5.5.2")
	c.do("QUIT", "221")
	for _, line := range g.fake.Lines() {
		if strings.ContainsAny(line, "x\x00") && strings.HasPrefix(line, "NOOP") || strings.HasPrefix(line, "RCPT") || strings.HasPrefix(line, "MAIL") {
			t.Errorf("passed on: %.40q", line)
		}
	}
}

func TestRepliesAreInTheOrderOfTheCommands(t *testing.T) {
	g := start(t, func(g *gateway) { g.MaxRecipients = 2 })
	c := g.login()
	c.send("NOOP\r\nXYZZY\r\nMAIL FROM:<boss@congthu.test>\r\nMAIL FROM:<" + owner + ">\r\nAUTH x\r\nRCPT TO:<b@congthu.test>\r\nRCPT TO:<b@congthu.test>\r\nRCPT TO:<b@congthu.test>\r\n" +
		"BDAT 3\r\nFroXYZZY\r\nHELO x\r\nDATA\r\nEHLO y\r\nMAIL FROM:<" + owner + ">\r\nRCPT TO:<b@congthu.test>\r\nDATA\r\n")
	c.play(`
		S: 250 2.0.0
		S: 502 5.5.2
		S: 553 5.7.1
		S: 250 2.1.0
		S: 503 5.5.1
		S: 250 2.1.5
		S: 250 2.1.5
		S: 452 4.5.3
		S: 250 2.0.0 Continue
		S: 502 5.5.2
		S: 250 gateway.test
		S: 503 5.5.1
		S: 250-gateway.test
		S: 250 2.1.0
		S: 250 2.1.5
		S: 354`)
	c.send(hello + ".\r\nQUIT\r\n")
	c.play("S: 250 2.0.0 Ok: queued as\nS: 221")
	g.wantDelivered(hello)
}

// However many commands are sent ahead, none is lost, and no more replies are owed than
// find room.
func TestManyCommandsMayBeSentAhead(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	const n = 5000
	go io.WriteString(c.conn, strings.Repeat("NOOP\r\nXYZZY\r\n", n)+"QUIT\r\n")
	for range n {
		c.want("250")
		c.want("502")
	}
	c.want("221")
	c.closed()
}

// A mail server without CHUNKING has no BDAT: its octets are no commands.
func TestWithoutCHUNKINGThereIsNoBDAT(t *testing.T) {
	g := start(t, func(g *gateway) { g.fake.Extensions = []string{"PIPELINING"} })
	c := g.login()
	c.envelope()
	c.send("BDAT 23 LAST\r\nMAIL FROM:<x>\r\nRSET\r\n\r\nNOOP\r\n")
	c.play("S: 502 5.5.1\nS: 250 2.0.0")
	c.do("DATA", "354")
	c.send(hello + ".\r\n")
	c.want("250")
	c.send("BDAT x\r\nNOOP\r\n")
	c.play("S: 501 5.5.4\nS: 421")
	c.closed()
	g.wantDelivered(hello)
	if slices.ContainsFunc(g.fake.Lines(), func(line string) bool { return strings.HasPrefix(line, "BDAT") }) {
		t.Errorf("the mail server heard %q", g.fake.Lines())
	}
}

// scripted is a mail server that is logged in at and then does as the test says.
func scripted(t *testing.T, says func(r *bufio.Reader, conn net.Conn)) *client {
	t.Helper()
	g := start(t, func(g *gateway) {
		g.Upstream = &upstream.Server{Dial: func(context.Context, string, string) (net.Conn, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer l.Close()
			near, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			far, err := l.Accept()
			if err != nil {
				return nil, err
			}
			go func() {
				defer far.Close()
				r := bufio.NewReader(far)
				for _, reply := range []string{"220 mail.test\r\n", "250-mail.test\r\n250-CHUNKING\r\n250 AUTH PLAIN\r\n", "235 2.7.0 Ok\r\n"} {
					io.WriteString(far, reply)
					if line, err := r.ReadString('\n'); err != nil || line == "QUIT\r\n" {
						return
					}
				}
				says(r, far)
			}()
			return near, nil
		}}
	})
	c := g.login()
	c.send("NOOP\r\n") // which the server has read, and has not answered
	return c
}

func TestAPieceOfAChunkThatIsRefused(t *testing.T) {
	c := scripted(t, func(r *bufio.Reader, conn net.Conn) {
		io.WriteString(conn, "250 ok\r\n")
		for n := 0; ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			reply := "250 2.0.0 Ok\r\n"
			if size, ok := strings.CutPrefix(line, "BDAT "); ok {
				var octets int64
				fmt.Sscan(size, &octets)
				io.CopyN(io.Discard, r, octets)
				if n++; n == 2 {
					reply = "452 4.3.1 no room\r\n"
				} else if n > 2 { // each is one more error of the client's
					t.Errorf("another piece: %q", line)
				}
			}
			io.WriteString(conn, reply)
		}
	})
	c.want("250 ok")
	c.envelope()
	c.chunk(hello+strings.Repeat("x", 100_000)+"\r\n", " LAST", "452 4.3.1 no room")
	c.do("NOOP", "250")
	c.chunk("x", " LAST", "503 5.5.1") // the message was given up
	c.do("RSET", "250")
}

func TestWhatAMailServerSaysUnaskedReachesTheClientAtOnce(t *testing.T) {
	for says, want := range map[string]string{
		"421 4.3.2 Shutting down\r\n": "421 4.3.2 Shutting down\r\n",
		"":                            "421 4.4.2 Connection to the mail server lost; log in again\r\n",
		"250 what\r\n":                "451 4.3.0 The mail server gave a strange reply\r\n",
		"rubbish\r\n":                 "451 4.3.0 The mail server gave a strange reply\r\n",
	} {
		for name, before := range map[string]func(c *client){
			"quiet":          func(c *client) { untilParked(c.t) },
			"at once":        func(c *client) {},
			"in transaction": func(c *client) { c.envelope(); untilParked(c.t) },
		} {
			ready := make(chan struct{})
			c := scripted(t, func(r *bufio.Reader, conn net.Conn) {
				io.WriteString(conn, "250 ok\r\n")
				if name == "in transaction" {
					for range 2 {
						r.ReadString('\n')
						io.WriteString(conn, "250 ok\r\n")
					}
				}
				<-ready
				io.WriteString(conn, says)
			})
			c.want("250 ok")
			before(c)
			close(ready)
			if got := c.reply(); got != want {
				t.Errorf("%s, %q: %q", name, says, got)
			}
			if strings.HasPrefix(want, "451") {
				c.want("421 4.4.2")
			}
			c.closed()
		}
	}
}

// untilParked waits until no goroutine carries a session.
func untilParked(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if n := runtime.Stack(stacks, true); !strings.Contains(string(stacks[:n]), "smtp.(*session)") {
			return
		}
	}
	t.Fatal("sessions are carried by goroutines")
}

// A quiet session has no goroutine and no buffer, and is what it was when it goes on.
func TestAQuietSessionIsParked(t *testing.T) {
	g := start(t, nil)
	c, held, chunked := g.login(), g.login(), g.login()
	if got := c.message(hello); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	untilParked(t)
	c.do("NOOP", "250")
	held.envelope()
	held.do("DATA", "354")
	held.send(hello[:30])
	chunked.envelope()
	chunked.chunk(hello[:30], "", "250")
	c.send("MAIL FR")
	untilParked(t)
	c.do("OM:<"+owner+">", "250")
	held.send(hello[30:])
	untilParked(t)
	held.send(".\r\n")
	held.want("250")
	chunked.chunk(hello[30:], " LAST", "250")
	g.wantDelivered(hello, hello, hello)
}

// parked is a session between two sockets, as it is when it is parked.
func parked(t *testing.T) (s *session, client, mail net.Conn) {
	t.Helper()
	pair := func() (near, far net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if far, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { near.Close(); far.Close() })
		near.SetDeadline(time.Now().Add(patience))
		return near, far
	}
	client, inner := pair()
	mail, outer := pair()
	server := newServer(nil, nil)
	done := make(chan struct{})
	t.Cleanup(func() { client.Close(); <-done })
	s = server.carry(frontend.Carriage{
		Client: relay.Side{Conn: inner}, Server: relay.Side{Conn: outer}, Account: owner, Log: slog.New(slog.DiscardHandler), Moved: func(int, int) {}, ReadAhead: func(bool) {},
		Done:     func(*slog.Logger, relay.Result) { close(done) },
		Panicked: func(p any, stack []byte) { t.Errorf("%v\n%s", p, stack) },
	}, "gateway.test", upstream.Extensions{}).(*session)
	io.WriteString(client, "NOOP\r\n")
	io.ReadFull(mail, make([]byte, len("NOOP\r\n")))
	io.WriteString(mail, "250 2.0.0 Ok\r\n")
	io.ReadFull(client, make([]byte, len("250 2.0.0 Ok\r\n")))
	untilParked(t)
	return s, client, mail
}

func TestAParkedSessionHoldsNothing(t *testing.T) {
	s, _, _ := parked(t)
	s.mu.Lock() // after the goroutine that has parked it
	defer s.mu.Unlock()
	if s.client.buf != nil || s.client.out != nil || s.mail.buf != nil || s.mail.out != nil || s.expected != nil || s.message != nil {
		t.Errorf("%+v", s)
	}
}

func TestAParkedSessionObeysOrders(t *testing.T) {
	for name, order := range map[string]func(*session){"kick": (*session).Kick, "drain": (*session).Drain, "when quiet": (*session).KickWhenQuiet} {
		s, client, mail := parked(t)
		order(s)
		said, _ := io.ReadAll(client)
		if !strings.HasPrefix(string(said), "421 4.3.2 ") || strings.Count(string(said), "\n") != 1 {
			t.Errorf("%s: the client reads %q", name, said)
		}
		if heard, _ := io.ReadAll(mail); string(heard) != "QUIT\r\n" {
			t.Errorf("%s: the mail server reads %q", name, heard)
		}
		order(s) // comes late
	}
}

// Orders come while a session parks, is parked and is resumed: none is lost.
func TestNoOrderIsLost(t *testing.T) {
	g := start(t, nil)
	for i := range 12 {
		c := g.login()
		c.do("NOOP", "250")
		time.Sleep(pause - 5*time.Millisecond + time.Duration(i%10)*time.Millisecond)
		if n := g.Sessions.End(owner); n != 1 {
			t.Fatalf("%d sessions", n)
		}
		c.want("421 4.3.2")
		c.closed()
	}
}

// A header that is refused is refused in a chunk too, and the session goes on: what the
// mail server had of the message is given up.
func TestAChunkRefusedInTheMiddleIsGivenUp(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.chunk(hello, "", "250")
	c.chunk("bare\nLF", "", "500 5.5.2")
	c.chunk("more", "", "503 5.5.1")
	c.chunk("more", " LAST", "503 5.5.1")
	if got := c.message(hello); !strings.HasPrefix(got, "250") {
		t.Error(got)
	}
	g.wantDelivered(hello)
	if got := g.records.submitted(); !slices.Equal(got, []Result{Malformed, Accepted}) {
		t.Errorf("recorded %v", got)
	}
}

// A refusal can be read, however much the client goes on to send.
func TestARefusalCanBeReadBehindALongMessage(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 998)+"\r\n", 5000)
	for name, test := range map[string]struct{ begin, want string }{
		"header":       {"From: boss@congthu.test\r\n\r\n", "550 5.7.1"},
		"bare at once": {"From: " + owner + "\nX: y\r\n\r\n", "500 5.5.2"},
		"bare later":   {hello + strings.Repeat("y\r\n", 50_000) + "\n", "500 5.5.2"},
	} {
		g := start(t, nil)
		c := g.login()
		c.envelope()
		c.do("DATA", "354")
		c.send(test.begin + long + ".\r\n")
		c.want(test.want)
		if name == "bare later" {
			c.want("421")
			c.closed()
		} else if got := c.message(hello); !strings.HasPrefix(got, "250") {
			t.Errorf("%s: the next one: %q", name, got)
		}
		g.stop()
		if n := len(g.delivered()); name == "bare later" && n != 0 || name != "bare later" && n != 1 {
			t.Errorf("%s: %d messages delivered", name, n)
		}
	}
}

// One that goes on for longer than any message may be is not waited for.
func TestARefusedMessageIsNotSwallowedForEver(t *testing.T) {
	g := start(t, func(g *gateway) { g.fake.Extensions = []string{"SIZE 100000", "CHUNKING"} })
	for _, begin := range []string{"DATA\r\nFrom: boss@congthu.test\r\n\r\n", "BDAT 100000000 LAST\r\nFrom: boss@congthu.test\r\n\r\n"} {
		c := g.login()
		c.envelope()
		c.send(begin)
		if begin[0] == 'D' {
			c.want("354")
		}
		go func() {
			for {
				if _, err := io.WriteString(c.conn, strings.Repeat("x", 10_000)+"\r\n"); err != nil {
					return
				}
			}
		}()
		c.want("550 5.7.1")
		c.want("421")
		c.closed()
		c.conn.Close()
	}
	g.wantDelivered()
}

func TestDotsAreTheClients(t *testing.T) {
	for sent, header := range map[string]string{
		".From: boss@congthu.test\r\n\r\n.\r\n":                  "550 5.7.1", // the server takes the dot out
		"From: " + owner + "\r\n.From: boss@x.test\r\n\r\n.\r\n": "550 5.7.1",
		".From: " + owner + "\r\n\r\n.\r\n":                      "250",
	} {
		g := start(t, nil)
		c := g.login()
		c.envelope()
		c.do("DATA", "354")
		c.send(sent)
		c.want(header)
		g.stop()
	}
}
