package smtp

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"congthu/gateway/accept"
	"congthu/gateway/mailtest"
)

func TestHTTPDoesNotGetFar(t *testing.T) {
	g := start(t, nil)
	request := "POST / HTTP/1.1\r\nHost: gateway.test\r\n\r\nEHLO x\r\nAUTH PLAIN " + plain("", owner, "wrong") + "\r\nQUIT\r\n"
	c := g.dial(g.starttls)
	c.want("220")
	c.send(request)
	c.closed()
	c = g.dial(g.implicit)
	c = newClient(t, tls.Client(c.conn, mailtest.ClientTLS()))
	c.want("220")
	c.send(request)
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
			if got := says(c, strings.Repeat(rubbish, 4)); len(got) > 1000 {
				t.Errorf("%q: %d octets", rubbish, len(got))
			}
		}
	}
	c := g.dial(g.starttls)
	c.want("220")
	c.send(strings.Repeat("x", 5000))
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
		func(g *gateway) { g.Limiter = &accept.Limiter{Max: 2} },
		func(g *gateway) { g.Limiter = &accept.Limiter{PerSource: 2} },
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
