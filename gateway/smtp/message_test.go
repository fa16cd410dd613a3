package smtp

import (
	"crypto/tls"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/mailtest"
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

func TestALineWithoutEndIsRefused(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.do("DATA", "354")
	c.send(hello + strings.Repeat("x", 70000) + "\r\n.\r\n")
	c.want("500 5.5.2")
	c.want("500 5.4.0")
	c.closed()
	g.wantDelivered()
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
			// Had the message ended early, there would be more replies.
			c.do("RSET", "250")
			c.do("QUIT", "221")
			c.closed()
			if got := g.delivered(); len(got) > 0 {
				t.Errorf("%s, %q: delivered %q", where, trick, got)
			}
			g.stop()
		}
	}
}

// hidden is a CR that go-smtp may swallow.
var hidden = regexp.MustCompile(`\n\.\r[^\n]`)

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
		// What go-smtp hides cannot be put right.
		if hidden.MatchString(trick + "M") {
			if !strings.HasPrefix(got, "500 5.5.2") || len(delivered) > 0 {
				t.Errorf("%q: %q, delivered %q", trick, got, delivered)
			}
			continue
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
			c.want("250 2.0.0 Continue")
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
	if got, want := messages[3], "From: "+owner+"\r\n\r\n.\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := messages[4]; got != big+"\r\n" {
		t.Errorf("%d octets became %d", len(big), len(got))
	}
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
		c.want("250 2.0.0 Continue")
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

func TestSendersAreChecked(t *testing.T) {
	const theirs = "From: boss@congthu.test\r\n\r\nx\r\n"
	for _, test := range []struct {
		mode         auth.Mode
		mail, header string
		results      []Result
	}{
		{auth.Enforce, "553 5.7.1", "550 5.7.1", []Result{NotYours, NotYours, Accepted}},
		{auth.Warn, "250", "250 2.0.0", []Result{WouldRefuse, WouldRefuse, Accepted, Accepted}},
		{auth.Off, "250", "250 2.0.0", []Result{Accepted, Accepted}},
	} {
		g := start(t, func(g *gateway) { g.Sender = func() Sender { return Sender{Mode: test.mode} } })
		c := g.login()
		c.do("MAIL FROM:<boss@congthu.test>", test.mail)
		c.do("RSET", "250")
		c.do("MAIL FROM:<>", "250") // a receipt
		c.do("RCPT TO:<b@congthu.test>", "250")
		c.do("DATA", "354")
		c.send(theirs + ".\r\n")
		c.want(test.header)
		if test.mode == auth.Enforce && g.fake.Begun() > 0 {
			t.Error("DATA was said to the mail server before the header was checked")
		}
		// The refusal does not end the session.
		if got := c.message(hello); !strings.HasPrefix(got, "250 2.0.0") {
			t.Errorf("%v: %q", test.mode, got)
		}
		if got := g.records.submitted(); !slices.Equal(got, test.results) {
			t.Errorf("%v: recorded %v", test.mode, got)
		}
		c.do("QUIT", "221")
		g.stop()
		if got := strings.Contains(g.log.String(), "would"); got != (test.mode == auth.Warn) {
			t.Errorf("%v: logged %s", test.mode, g.log)
		}
	}
}

func TestAHeaderWithoutEndIsRefused(t *testing.T) {
	endless := "From: " + owner + "\r\n" + strings.Repeat("X: 0123456789\r\n", 20000) + "\r\nx\r\n"
	for mode, want := range map[auth.Mode]string{auth.Enforce: "550 5.7.1", auth.Warn: "250", auth.Off: "250"} {
		g := start(t, func(g *gateway) { g.Sender = func() Sender { return Sender{Mode: mode} } })
		if got := g.login().message(endless); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q", mode, got)
		}
		if want == "250" {
			g.wantDelivered(endless)
		}
	}
	// One that is as long as may be.
	long := "From: " + owner + "\r\n" + strings.Repeat("X: 0123456789\r\n", 17000) + "\r\nx\r\n"
	g := start(t, nil)
	if got := g.login().message(long); !strings.HasPrefix(got, "250") {
		t.Errorf("%q", got)
	}
	g.wantDelivered(long)
}

func TestAMessageMayHaveNoBody(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, text := range []string{"From: " + owner + "\r\n", "From: " + owner + "\r\n\r\n"} {
		if got := c.message(text); !strings.HasPrefix(got, "250") {
			t.Errorf("%q", got)
		}
	}
	if got := c.message(""); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("nothing at all: %q", got)
	}
	if got := c.message("\r\nx\r\n"); !strings.HasPrefix(got, "550 5.7.1") {
		t.Errorf("no header: %q", got)
	}
	g.wantDelivered("From: "+owner+"\r\n", "From: "+owner+"\r\n\r\n")
}

func TestTheEnvelopeIsPassedOn(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.play(`
		C: MAIL FROM:<"nguyen.van.a"@congthu.test> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159 AUTH=boss@congthu.test
		S: 250
		C: MAIL FROM:<` + owner + `>
		S: 503 5.5.1
		C: RCPT TO:<@a.example,@b.example:b@congthu.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@example.org
		S: 250
		C: RCPT TO:<"a b\"c> NOTIFY=NEVER "@congthu.test>
		S: 250
		C: RCPT TO:<tiếng.việt@congthu.test>
		S: 250
		C: RCPT TO:<a@b@congthu.test>
		S: 553 5.1.3
		C: RCPT TO:<a@b,c>
		S: 553 5.1.3
		C: DATA
		S: 354`)
	c.send(hello + ".\r\n")
	c.want("250")
	var got []string
	for _, line := range g.fake.Lines() {
		if strings.HasPrefix(line, "MAIL") || strings.HasPrefix(line, "RCPT") {
			got = append(got, line)
		}
	}
	if diff := cmp.Diff([]string{
		"MAIL FROM:<" + owner + "> BODY=8BITMIME SIZE=1000 SMTPUTF8 RET=HDRS ENVID=QQ314159",
		"RCPT TO:<b@congthu.test> NOTIFY=SUCCESS,FAILURE ORCPT=RFC822;x+2By@example.org",
		`RCPT TO:<"a b\"c> NOTIFY=NEVER "@congthu.test>`,
		"RCPT TO:<tiếng.việt@congthu.test>",
	}, got); diff != "" {
		t.Error(diff)
	}
	c.play(`
		C: MAIL FROM:<` + owner + `>
		S: 250
		C: RCPT TO:<tiếng.việt@congthu.test>
		S: 553 5.6.7
		C: RSET
		S: 250
		C: MAIL FROM:<tiếng.việt@congthu.test>
		S: 553 5.6.7
		C: MAIL FROM:<` + owner + `> BODY=BINARYMIME
		S: 504
		C: MAIL FROM:<` + owner + `> SIZE=99999999
		S: 552 5.3.4`)
}

func TestRefusalsOfTheMailServerReachTheClient(t *testing.T) {
	g := start(t, func(g *gateway) {
		g.fake.Recipient = func(address string) string {
			switch address {
			case "<nobody@congthu.test>":
				return "550-5.1.1 No such user\r\n550 5.1.1 here"
			case "<later@congthu.test>":
				return "450 4.2.0 Greylisted"
			case "<plain@congthu.test>":
				return "550 no"
			case "<strange@congthu.test>":
				return "354 what"
			}
			return ""
		}
		g.MaxRecipients = 2
	})
	c := g.login()
	c.do("MAIL FROM:<"+owner+">", "250")
	for address, want := range map[string]string{
		"nobody": "550-No such user\r\n550 5.1.1 here\r\n",
		"later":  "450 4.2.0 Greylisted\r\n",
		"plain":  "550 5.0.0 no\r\n",
	} {
		if got := c.do("RCPT TO:<"+address+"@congthu.test>", ""); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	c.do("DATA", "502 5.5.1") // no recipients
	c.do("RCPT TO:<b@congthu.test>", "250")
	c.do("RCPT TO:<c@congthu.test>", "250")
	c.do("RCPT TO:<d@congthu.test>", "452 4.5.3")
	c.do("DATA", "354")
	c.send(hello + ".\r\n")
	c.want("250 2.0.0")
	c.do("MAIL FROM:<"+owner+">", "250")
	c.do("RCPT TO:<strange@congthu.test>", "451 4.3.0")
	c.do("RCPT TO:<b@congthu.test>", "421 4.4.2")
	c.closed()
}

func TestRefusalsOfAMessageReachTheClient(t *testing.T) {
	for _, step := range []mailtest.Step{"MAIL", "DATA", "message"} {
		for reply, want := range map[string]string{
			"554 5.7.1 Spam":                        "554 5.7.1 Spam\r\n",
			"451 4.3.0 Milter down":                 "451 4.3.0 Milter down\r\n",
			"552-5.3.4 too\r\n552 5.3.4 big":        "552-too\r\n552 5.3.4 big\r\n",
			"550 5.7.1 " + strings.Repeat("x", 600): "550 5.7.1 " + strings.Repeat("x", maxReplyText) + "\r\n",
			"550 5.7.1 a\x07b\tc":                   "550 5.7.1 a?b?c\r\n",
			"421 4.3.2 Shutting down":               "421 4.3.2 Shutting down\r\n",
		} {
			g := start(t, func(g *gateway) { g.fake.Misbehave = mailtest.Once(step, say(reply)) })
			c := g.login()
			var got string
			if step == "MAIL" {
				got = c.do("MAIL FROM:<"+owner+">", "")
			} else {
				got = c.message(hello)
			}
			if got != want {
				t.Errorf("%s: %.60q, want %.60q", step, got, want)
			}
			if strings.HasPrefix(reply, "421") {
				c.closed()
			} else if got := c.message(hello); !strings.HasPrefix(got, "250") {
				t.Errorf("%s: the next message: %q", step, got)
			}
			g.stop()
		}
	}
}

func TestAMailServerThatDiesIsNoPermanentError(t *testing.T) {
	dies := map[string]mailtest.Misdeed{"closes": {Close: true}, "talks rubbish": {Say: "rubbish\r\n"}}
	for name, m := range dies {
		for step, want := range map[mailtest.Step]string{"MAIL": "421 4.4.2", "RCPT": "421 4.4.2", "DATA": "451 4.4.2", "message": "451 4.4.2"} {
			g := start(t, func(g *gateway) { g.fake.Misbehave = mailtest.At(step, m) })
			c := g.login()
			got := func() string {
				for _, line := range []string{"MAIL FROM:<" + owner + ">", "RCPT TO:<b@congthu.test>"} {
					c.send(line + "\r\n")
					if got := c.reply(); got[:3] != "250" {
						return got
					}
				}
				c.do("DATA", "354")
				c.send(hello + ".\r\n")
				return c.reply()
			}()
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s at %s: %q, want %q", name, step, got, want)
			}
			if want[:3] == "451" {
				// Coming back means to log in again.
				c.do("MAIL FROM:<"+owner+">", "421 4.4.2")
			}
			c.closed()
			if strings.Contains(got, "EOF") || strings.Contains(got, "127.0.0.1") {
				t.Errorf("internal text: %q", got)
			}
			g.wantDelivered()
			g.stop()
		}
	}
}

func TestAMailServerThatDiesInTheMiddleOfAMessage(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.envelope()
	c.do("DATA", "354")
	c.send(hello)
	for g.fake.Begun() == 0 {
		c.send("x\r\n")
	}
	g.fake.Cut()
	c.send(strings.Repeat("0123456789\r\n", 100000) + ".\r\n")
	c.want("451 4.4.2")
	c.do("NOOP", "250")
	c.do("MAIL FROM:<"+owner+">", "421 4.4.2")
	c.closed()
	if got := g.records.submitted(); !slices.Equal(got, []Result{ServerLost}) {
		t.Errorf("recorded %v", got)
	}
}

func TestAMailServerThatTimesOutBetweenMessages(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.message(hello)
	g.fake.Cut()
	c.do("NOOP", "250")
	c.do("MAIL FROM:<"+owner+">", "421 4.4.2")
	c.closed()
	if n := len(g.guard.asked()); n != 1 {
		t.Errorf("%d attempts, want 1", n)
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
		g := start(t, func(g *gateway) { g.fake.Extensions = []string{"SIZE 1000"} })
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
		func(g *gateway) { g.MaxConnections = 2 },
		func(g *gateway) { g.MaxPerSource = 2 },
	} {
		g := start(t, change)
		a, b := g.connect(), g.connect()
		c := g.dial(g.starttls)
		c.want("421 4.7.0")
		c.closed()
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
	}
}
