package smtp

import (
	"crypto/tls"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheReplyToAMessageIsTheMailServersOwn(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for i := range 2 {
		want := fmt.Sprintf("250 2.0.0 Ok: queued as 4Q%08X\r\n", i+1)
		if got := c.message(hello); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	c.play("C: QUIT\nS: 221")
	g.wantDelivered(hello, hello)
	m := g.fake.Messages()[0]
	if m.User != owner || !strings.HasPrefix(m.From, "<"+owner+">") || !slices.Equal(m.To, []string{"<b@congthu.test>"}) {
		t.Errorf("envelope %q %q %q", m.User, m.From, m.To)
	}
	if got := g.records.submitted(); !slices.Equal(got, []Result{Accepted, Accepted}) {
		t.Errorf("recorded %v", got)
	}
}

func TestAMessageIsNotChanged(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, body := range []string{
		".\r\n", "..\r\n", ".a\r\n...\r\n", "\r\n\r\n", "\x00\x01\xff\r\n", "",
		strings.Repeat("x", 20000) + "\r\n", // 16 times what RFC 5321 section 4.5.3.1.6 allows, and usual
		strings.Repeat(strings.Repeat("y", 998)+"\r\n", 2000),
	} {
		message := "From: " + owner + "\r\n\r\n" + body
		c.envelope()
		c.do("DATA", "354")
		for line := range strings.Lines(message) {
			if line[0] == '.' {
				line = "." + line
			}
			c.send(line)
		}
		c.do(".", "250 2.0.0")
		messages := g.delivered()
		if got := messages[len(messages)-1]; got != message {
			t.Errorf("%.40q became %.60q", message, got)
		}
	}
}

// A picture in HTML is one line of megabytes.
func TestALineMayBeOfAnyLength(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for i, n := range []int{100_000, 10 << 20 >> 1} {
		text := hello + strings.Repeat("x", n) + "\r\n"
		if got := c.message(text); !strings.HasPrefix(got, "250") {
			t.Errorf("%d octets: %q", n, got)
		}
		if got := g.delivered(); len(got) != i+1 || got[i] != text {
			t.Errorf("a line of %d octets was changed", n)
		}
	}
}

// All that can be taken for the end of a message, or of a line, by somebody
// (CVE-2023-51764, -51765, -51766).
var smugglers = []string{
	"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n.\r", "\r.\n", "\r\n.\r\r\n", "\r\n.\r.\r\n", "\r\n.\r\n\n"[:4] + "x",
	"\r\r\n.\r\n"[:5] + "x", "\r\n\n.\r\n"[:5] + "\r\n", "x\n", "x\r", "\n", "\r", "\r\n.\rx",
}

const smuggled = "MAIL FROM:<boss@congthu.test>\r\nRCPT TO:<b@congthu.test>\r\nDATA\r\nFrom: boss@congthu.test\r\n\r\nsmuggled\r\n"

func TestNothingCanBeSmuggledInAMessage(t *testing.T) {
	for _, where := range []string{"header", "body", "after a long body", "at once"} {
		for _, trick := range smugglers {
			g := start(t, nil)
			c := g.login()
			c.envelope()
			message := hello + trick + smuggled
			switch where {
			case "header":
				message = "From: " + owner + "\r\nSubject: x" + trick + smuggled
			case "after a long body":
				message = hello + strings.Repeat("0123456789abcde\r\n", 4096) + "x" + trick + smuggled
			case "at once":
				message = trick + smuggled
			}
			c.do("DATA", "354")
			c.send(message + "\r\n.\r\n")
			want := "500 5.5.2"
			if where == "header" || where == "at once" {
				want = "5" // or the header is none
			}
			c.want(want)
			// Had the message ended early, there would be more replies. Where the mail server
			// has half of the message already, its connection had to be closed.
			if where == "after a long body" {
				c.want("421 4.4.2")
			} else {
				c.do("RSET", "250")
				c.do("QUIT", "221")
			}
			c.closed()
			if got := g.delivered(); len(got) > 0 {
				t.Errorf("%s, %q: delivered %q", where, trick, got)
			}
			g.stop()
		}
	}
}

// All bodies of up to four octets that matter, by an oracle.
func TestEveryShortBodyIsOneMessageOrNone(t *testing.T) {
	bodies := []string{""}
	for from, length := 0, 0; length < 4; length++ {
		to := len(bodies)
		for _, body := range bodies[from:to] {
			for _, octet := range []string{"\r", "\n", ".", "x"} {
				bodies = append(bodies, body+octet)
			}
		}
		from = to
	}
	bare := regexp.MustCompile(`\r[^\n]|[^\r]\n`)
	g := start(t, nil)
	delivered := 0
	for _, body := range bodies {
		sent := hello + body + "\r\n.\r\n"
		text := sent[:strings.Index(sent, "\r\n.\r\n")+2]
		c := g.login()
		c.envelope()
		c.do("DATA", "354")
		c.send(sent)
		got := c.reply()
		if bare.MatchString(text) {
			if !strings.HasPrefix(got, "500 5.5.2") {
				t.Errorf("%q: %q", body, got)
			}
		} else {
			if delivered++; !strings.HasPrefix(got, "250") {
				t.Errorf("%q: %q", body, got)
			}
			messages := g.delivered()
			if got, want := messages[len(messages)-1], strings.ReplaceAll(text, "\r\n.", "\r\n"); got != want {
				t.Errorf("%q: delivered %q, want %q", body, got, want)
			}
		}
		c.conn.Close()
	}
	g.stop()
	g.fake.Close()
	if n := len(g.delivered()); n != delivered {
		t.Errorf("%d messages delivered, want %d", n, delivered)
	}
}

func TestBareNewlinesAreNormalisedOnRequest(t *testing.T) {
	for _, trick := range smugglers {
		g := start(t, func(g *gateway) { g.NormaliseNewlines = true })
		c := g.login()
		got := c.message("From: " + owner + "\r\n\r\nx" + trick + smuggled)
		c.do("QUIT", "221")
		delivered := g.delivered()
		if len(delivered) > 1 {
			t.Errorf("%q: delivered %q", trick, delivered)
		}
		if !strings.HasPrefix(got, "250") || len(delivered) != 1 {
			t.Errorf("%q: %q, delivered %q", trick, got, delivered)
			continue
		}
		if text := strings.ReplaceAll(delivered[0], "\r\n", ""); strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q: delivered %q", trick, delivered)
		}
	}
}

// chunk sends a chunk and wants a reply.
func (c *client) chunk(text, last, prefix string) string {
	c.t.Helper()
	c.send(fmt.Sprintf("BDAT %d%s\r\n%s", len(text), last, text))
	return c.want(prefix)
}

func TestChunksMakeOneMessage(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	split := strings.Index(hello, "\r\n") + 1 // between CR and LF
	for _, dialogue := range []string{
		fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello), hello),
		fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", split, hello[:split], len(hello)-split, hello[split:]),
		fmt.Sprintf("BDAT %d\r\n%sBDAT 0\r\nBDAT 0 last\r\n", len(hello), hello),
	} {
		c.envelope()
		c.send(dialogue) // pipelined
		for range strings.Count(dialogue, "BDAT") - 1 {
			c.want("250 2.0.0")
		}
		c.want("250 2.0.0 Ok: queued as")
	}
	g.wantDelivered(hello, hello, hello)

	// A message in chunks need not end in CRLF, and may be in one line.
	c.envelope()
	c.chunk("From: "+owner+"\r\n\r\n.", " LAST", "250")
	big := "From: " + owner + "\r\n\r\n" + strings.Repeat("x", 300000)
	c.envelope()
	c.chunk(big, " LAST", "250")
	messages := g.delivered()
	if got, want := messages[3], "From: "+owner+"\r\n\r\n."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := messages[4]; got != big {
		t.Errorf("%d octets became %d", len(big), len(got))
	}
}

// The command is read together with the chunk before it, as pipelining clients send
// them; its own chunk comes later and has no end of a line.
func TestAChunkMayComeBehindAPipelinedCommand(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.send(fmt.Sprintf("BDAT %d\r\n%sBDAT 6 LAST\r\n", len(hello), hello))
	c.want("250 2.0.0 Ok: ")
	c.send("world!")
	c.want("250 2.0.0 Ok: queued as")
	// A command that is refused has a chunk all the same, which is no command.
	c.send("BDAT 12 LAST\r\n")
	c.send("QUIT\r\nQUIT\r\nNOOP\r\n")
	c.want("503 5.5.1")
	c.want("250")
	g.wantDelivered(hello + "world!")
}

func TestChunksAreCheckedLikeAnyMessage(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"From: boss@congthu.test\r\n\r\nx\r\n", "550 5.7.1"},
		{hello + "a\nb", "500 5.5.2"},
		{hello + "a\r", "500 5.5.2"},
		{hello[:20] + "\n.\n" + hello[20:], "500 5.5.2"},
		{hello + "\r\n.\r\n", "250"},
	} {
		g := start(t, nil)
		c := g.login()
		c.envelope()
		c.chunk(test.text, " LAST", test.want)
		c.do("NOOP", "250")
		if got := g.delivered(); (len(got) == 1) != (test.want == "250") {
			t.Errorf("%q: delivered %q", test.text, got)
		}
		g.stop()
	}
}

func TestRSETBetweenChunksDeliversNothing(t *testing.T) {
	for _, first := range []string{"BDAT 0\r\n", "BDAT 5\r\nFrom:", fmt.Sprintf("BDAT %d\r\n%s", len(hello), hello)} {
		g := start(t, nil)
		c := g.login()
		c.envelope()
		c.send(first)
		c.want("250 2.0.0")
		c.do("RSET", "250")
		c.do("NOOP", "250")
		c.do("QUIT", "221")
		c.closed()
		g.wantDelivered()
		g.stop()
	}
}

// Whole, or not at all.
func TestAClientCutAtEveryOctetDeliversNothingOrTheWhole(t *testing.T) {
	envelope := "MAIL FROM:<" + owner + ">\r\nRCPT TO:<b@congthu.test>\r\n"
	split := len(hello) - 7
	dialogues := map[string]string{
		"DATA": envelope + "DATA\r\n" + hello + ".\r\n",
		"BDAT": envelope + fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello), hello),
		"BDAT in two": envelope + fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s",
			split, hello[:split], len(hello)-split, hello[split:]),
	}
	for name, dialogue := range dialogues {
		for _, how := range []string{"TLS", "TCP", "half"} {
			g := start(t, nil)
			for n := range len(dialogue) {
				c := g.login()
				c.send(dialogue[:n])
				secured := c.conn.(*tls.Conn)
				switch how {
				case "TLS": // a goodbye, and everything closed
					secured.Close()
				case "TCP": // no goodbye
					secured.NetConn().Close()
				case "half": // a goodbye, and an ear for the replies
					secured.CloseWrite()
					io.Copy(io.Discard, c.r)
				}
			}
			g.stop()
			g.fake.Close()
			if got := g.delivered(); len(got) > 0 {
				t.Errorf("%s, %s: %d messages delivered, such as %q", name, how, len(got), got[0])
			}

			g = start(t, nil)
			c := g.login()
			c.send(dialogue)
			c.conn.(*tls.Conn).CloseWrite() // half-close is no reason to give up
			replies, _ := io.ReadAll(c.r)
			if !strings.HasSuffix(string(replies), "queued as 4Q00000001\r\n") {
				t.Errorf("%s: replies %q", name, replies)
			}
			g.wantDelivered(hello)
			g.stop()
		}
	}
}

func TestAMessageLongerThanAdvertisedIsRefused(t *testing.T) {
	long := hello + strings.Repeat("0123456789\r\n", 1000)
	for name, send := range map[string]func(c *client) string{
		"DATA": func(c *client) string { return c.message(long) },
		"BDAT": func(c *client) string {
			c.envelope()
			return c.chunk(long, " LAST", "")
		},
		"two chunks": func(c *client) string {
			c.envelope()
			c.chunk(long[:900], "", "250")
			return c.chunk(long[900:], " LAST", "")
		},
		"SIZE": func(c *client) string {
			return c.do(fmt.Sprintf("MAIL FROM:<"+owner+"> SIZE=%d", len(long)), "")
		},
	} {
		g := start(t, func(g *gateway) { g.fake.Extensions = []string{"SIZE 1000", "CHUNKING"} })
		c := g.login()
		if got := send(c); !strings.HasPrefix(got, "552 5.3.4") {
			t.Errorf("%s: %q", name, got)
		}
		c.do("RSET", "250")
		c.do("QUIT", "221")
		g.wantDelivered()
	}
}

func TestATransactionGivenUpIsGivenUpAtTheMailServerToo(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.do("MAIL FROM:<"+owner+">", "250")
	c.do("RCPT TO:<wrong@congthu.test>", "250")
	c.do("RSET", "250")
	c.message(hello)
	c.do("EHLO again.test", "250")
	c.message(hello)
	for _, m := range g.fake.Messages() {
		if !slices.Equal(m.To, []string{"<b@congthu.test>"}) {
			t.Errorf("delivered to %v", m.To)
		}
	}
	resets := 0
	for _, line := range g.fake.Lines() {
		if line == "RSET" {
			resets++
		}
	}
	if resets != 1 {
		t.Errorf("%d RSET, want 1", resets)
	}
}

func TestPipelinedCommandsAreAnsweredOnceEach(t *testing.T) {
	g := start(t, nil)
	c := g.connect()
	c.send("AUTH PLAIN " + plain("", owner, password) + "\r\nMAIL FROM:<" + owner + ">\r\nRCPT TO:<b@congthu.test>\r\nRCPT TO:<c@congthu.test>\r\nDATA\r\n")
	c.play("S: 235\nS: 250\nS: 250\nS: 250\nS: 354")
	c.send(hello + ".\r\nMAIL FROM:<" + owner + ">\r\nRSET\r\nQUIT\r\n")
	c.play("S: 250 2.0.0 Ok: queued\nS: 250\nS: 250\nS: 221")
	c.closed()
	g.wantDelivered(hello)
	if got := g.fake.Verdicts(owner); got.Right != 1 {
		t.Errorf("judged %v", got)
	}
}

func TestTwoConnectionsDoNotMix(t *testing.T) {
	g := start(t, func(g *gateway) { g.fake.Accounts["b@congthu.test"] = password })
	a, b := g.login(), g.connect()
	b.do("AUTH PLAIN "+plain("", "b@congthu.test", password), "235")
	a.envelope()
	b.do("MAIL FROM:<b@congthu.test>", "250")
	b.do("MAIL FROM:<b@congthu.test>", "503")
	b.do("RSET", "250")
	b.do("MAIL FROM:<"+owner+">", "553 5.7.1")
	a.do("DATA", "354")
	a.send(hello + ".\r\n")
	a.want("250")
	g.wantDelivered(hello)
}
