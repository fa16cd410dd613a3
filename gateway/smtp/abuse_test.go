package smtp

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
)

func TestHTTPDoesNotGetFar(t *testing.T) {
	g := start(t, nil)
	request := "POST / HTTP/1.1\r\nHost: gateway.test\r\n\r\nEHLO x\r\nAUTH PLAIN " + plain("", owner, "wrong") + "\r\nQUIT\r\n"
	c := g.dial(g.starttls)
	c.want("220")
	c.send(request)
	c.want("421 4.7.0")
	c.closed()
	c = g.dial(g.implicit)
	c = newClient(t, tls.Client(c.conn, mailtest.ClientTLS()))
	c.want("220")
	c.send(request)
	c.want("421 4.7.0")
	c.closed()
	c = g.dial(g.implicit)
	c.send(request) // no TLS at all
	io.Copy(io.Discard, c.conn)
	if n := len(g.guard.asked()); n != 0 {
		t.Errorf("%d attempts reached the guard", n)
	}
}

func TestRubbishEndsTheConnection(t *testing.T) {
	g := start(t, nil)
	// What is said until the connection ends, whether or not there is still
	// somebody to hear all of it.
	says := func(c *client, text string) string {
		c.t.Helper()
		io.WriteString(c.conn, text)
		all, err := io.ReadAll(c.r)
		if err != nil && isTimeout(err) {
			t.Errorf("%.20q: not closed", text)
		}
		return string(all)
	}
	for _, rubbish := range []string{"XYZZY\r\n", "\x00\xff\r\n", "\r\n", "*\r\n"} {
		for _, c := range []*client{g.dial(g.starttls), g.connect()} {
			if got := says(c, strings.Repeat(rubbish, 5)); len(got) > 1000 {
				t.Errorf("%q: %d octets", rubbish, len(got))
			}
		}
	}
	c := g.dial(g.starttls)
	c.want("220")
	c.send(strings.Repeat("x", frontend.MaxCommand+2000))
	c.want("500 5.5.2")
	c.closed()
	if n := strings.Count(says(g.connect(), strings.Repeat("NOOP\r\n", 5000)), "250 "); n > 1000 {
		t.Errorf("%d commands before login", n)
	}
	if got := says(g.dial(g.starttls), strings.Repeat("NOOP\r\n", 5000)); strings.Count(got, "250 ") > 1000 {
		t.Error("endless commands before TLS")
	}
}

func TestTooManyConnections(t *testing.T) {
	for _, change := range []func(*gateway){
		func(g *gateway) { g.Limiter = &frontend.Limiter{Max: 2} },
		func(g *gateway) { g.Limiter = &frontend.Limiter{PerSource: 2} },
	} {
		g := start(t, change)
		a, b := g.connect(), g.connect()
		for range 20 {
			c := g.dial(g.starttls)
			c.want("421 4.7.0")
			c.closed()
		}
		g.dial(g.implicit).closed()
		a.do("QUIT", "221")
		a.closed()
		b.do("NOOP", "250")
		// The place is free when the connection is closed; that takes a moment.
		for {
			c := g.dial(g.starttls)
			if strings.HasPrefix(c.reply(), "220") {
				break
			}
		}
		g.stop()
		// Whoever is turned away does not fill the disk with it.
		if n := strings.Count(g.log.String(), "too many connections"); n != 1 {
			t.Errorf("the log tells %d times of more than 20 refused connections, want once", n)
		}
	}
}

// What a client sends behind its last command, in one piece with it, is not for
// anybody: it is neither done nor answered, and costs no panic.
func TestNothingIsDoneBehindTheLastCommand(t *testing.T) {
	g := start(t, nil)
	behind := []string{
		"MAIL FROM:<" + owner + ">", "EHLO x", "HELO x", "RSET", "NOOP", "QUIT", "DATA", "BDAT 3 LAST\r\nabc", "RCPT TO:<b@congthu.test>", "STARTTLS", "VRFY x", "XYZZY", "",
		"AUTH PLAIN " + plain("", owner, password), "AUTH LOGIN\r\n" + encode(owner) + "\r\n" + encode(password),
	}
	for name, c := range map[string]struct {
		connect func() *client
		first   string
		replies string
		logins  int
	}{
		"QUIT before EHLO":      {g.greeted, "QUIT\r\n", "221 ", 0},
		"QUIT":                  {g.connect, "QUIT\r\n", "221 ", 0},
		"EHLO and QUIT":         {g.connect, "EHLO x\r\nQUIT\r\n", "250-221 ", 0},
		"QUIT after login":      {g.login, "QUIT\r\n", "221 ", 1},
		"QUIT in a transaction": {g.login, "MAIL FROM:<" + owner + ">\r\nQUIT\r\n", "250 221 ", 1},
		"login and QUIT":        {g.connect, "AUTH PLAIN " + plain("", owner, password) + "\r\nQUIT\r\n", "235 221 ", 1},
		"QUIT after a chunk":    {g.login, "MAIL FROM:<" + owner + ">\r\nRCPT TO:<b@congthu.test>\r\nBDAT 3\r\nabcQUIT\r\n", "250 250 250 221 ", 1},
	} {
		for _, then := range behind {
			t.Run(name+", "+then, func(t *testing.T) {
				before := len(g.guard.asked())
				conn := c.connect()
				conn.t = t
				conn.send(c.first + then + "\r\n" + then + "\r\n")
				got := ""
				for {
					reply, err := conn.tryReply()
					if err != nil {
						break
					}
					got += reply[:min(4, len(reply))]
				}
				if got != c.replies {
					t.Errorf("answered %q, want %q", got, c.replies)
				}
				if n := len(g.guard.asked()) - before; n != c.logins {
					t.Errorf("%d logins, want %d", n, c.logins)
				}
			})
		}
	}
	g.stop()
	if g.records.panics != 0 {
		t.Errorf("%d panics", g.records.panics)
	}
	g.wantDelivered()
}
