package smtp

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

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

func TestASubaddressWithAnythingInItIsRefused(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, address := range []string{
		"\"nguyen.van.a+\x1b[2J\"@congthu.test", "\"nguyen.van.a+\\\x01\"@congthu.test", `"nguyen.van.a+x y"@congthu.test`, `"nguyen.van.a+x@other.domain>"@congthu.test`, `"nguyen.van.a+../boss"@congthu.test`, `"nguyen.van.a+\""@congthu.test`,
	} {
		want := "553 5.7.1"
		if strings.ContainsAny(address, "\x01\x1b") {
			want = "501 5.1.7" // no address at all
		}
		c.do("MAIL FROM:<"+address+">", want)
		c.envelope()
		c.do("DATA", "354")
		c.send("From: " + address + "\r\n\r\nx\r\n.\r\n")
		c.want("550 5.7.1")
	}
	c.do(`MAIL FROM:<"nguyen.van.a+x"@congthu.test>`, "250")
	if slices.ContainsFunc(g.fake.Lines(), func(line string) bool { return strings.Contains(line, "+") && !strings.Contains(line, "a+x@") }) {
		t.Errorf("reached the mail server: %q", g.fake.Lines())
	}
}

// Whoever asks why a mail was refused must be told which address it was; what
// somebody has put into it must not make lines of its own.
func TestTheLogTellsWhichSenderWasRefused(t *testing.T) {
	for mode, line := range map[auth.Mode]string{auth.Enforce: "refused", auth.Warn: "would be refused"} {
		g := start(t, func(g *gateway) { g.Sender = func() Sender { return Sender{Mode: mode} } })
		c := g.login()
		c.send("MAIL FROM:<boss@congthu.test>\r\n")
		c.reply()
		c.do("RSET", "250")
		c.message("From: " + owner + "\r\nSender: \"x\\\\y\" <chief@congthu.test>\r\n\r\nx\r\n")
		c.message("From: office@congthu.test <" + owner + ">\r\n\r\nx\r\n")
		c.do("QUIT", "221")
		g.stop()
		log := g.log.String()
		for _, want := range []string{"address=boss@congthu.test", "address=chief@congthu.test", "address=office@congthu.test"} {
			if !strings.Contains(log, want) {
				t.Errorf("%s: no word of %s in\n%s", line, want, log)
			}
		}
	}
}

func TestAnAddressInTheLogIsShortAndOnOneLine(t *testing.T) {
	for address, want := range map[string]string{
		"an@congthu.test":                "an@congthu.test",
		"văn-thư@congthu.test":           "văn-thư@congthu.test",
		"a\r\nb\x00@x":                   `a\r\nb\x00@x`,
		"a\u202eb@x":                     `a\u202eb@x`,
		"a\xffb@x":                       "a\uFFFDb@x",
		strings.Repeat("a", 1000):        strings.Repeat("a", 320),
		strings.Repeat("a\x00", 1000):    strings.Repeat(`a\x00`, 64),
		strings.Repeat("ư", 1000) + "@x": strings.Repeat("ư", 160),
	} {
		if got := tried(address); got != want {
			t.Errorf("%.40q: %.400q, want %.400q", address, got, want)
		}
	}
}

func TestASessionThatWasLoggedInTellsItsEnd(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.message(hello)
	c.do("QUIT", "221")
	c.closed()
	early := g.connect()
	early.do("QUIT", "221")
	early.closed()
	g.stop()
	log := g.log.String()
	if n := strings.Count(log, `msg="session ends"`); n != 1 {
		t.Errorf("%d sessions end, want 1:\n%s", n, log)
	}
	if !regexp.MustCompile(`msg="session ends" .*protocol=smtp .*account=` + owner + ` messages=1 from_client=\d+ to_client=\d+ seconds=\d`).MatchString(log) {
		t.Error(log)
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
	g.wantDelivered("From: "+owner+"\r\n", "From: "+owner+"\r\n\r\n")
}

// Without From: the sender of the envelope is the author; where there is none either,
// nothing tells who sends.
func TestAMessageWithoutFromIsItsEnvelopeSenders(t *testing.T) {
	texts := []string{"Subject: x\r\n\r\nx\r\n", "Subject: x\r\nSender: " + owner + "\r\n", "\r\nx\r\n"}
	g := start(t, nil)
	c := g.login()
	for _, text := range texts {
		if got := c.message(text); !strings.HasPrefix(got, "250") {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range []string{"Subject: x\r\nSender: boss@congthu.test\r\n\r\n", "Resent-From: boss@congthu.test\r\n\r\n"} {
		if got := c.message(text); !strings.HasPrefix(got, "550 5.7.1") || !strings.Contains(got, "not an address of this account") {
			t.Errorf("%q: %q", text, got)
		}
	}
	for _, text := range texts {
		c.do("MAIL FROM:<>", "250")
		c.do("RCPT TO:<b@congthu.test>", "250")
		c.do("DATA", "354")
		c.send(text + ".\r\n")
		if got := c.reply(); !strings.HasPrefix(got, "550 5.7.1") || !strings.Contains(got, "no From:") {
			t.Errorf("%q from nobody: %q", text, got)
		}
	}
	// The sender of one transaction is not that of the next.
	if got := c.message(texts[0]); !strings.HasPrefix(got, "250") {
		t.Errorf("after a bounce: %q", got)
	}
	g.wantDelivered(append(texts, texts[0])...)
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
		C: rcpt to: <Postmaster>
		S: 250
		C: RCPT  TO:<u5>
		S: 250
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
		"MAIL FROM:<" + owner + "> SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159",
		"MAIL FROM:<" + owner + ">",
		"RCPT TO:<@a.example,@b.example:b@congthu.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@example.org",
		`RCPT TO:<"a b\"c> NOTIFY=NEVER "@congthu.test>`,
		"RCPT TO:<tiếng.việt@congthu.test>",
		"RCPT to: <Postmaster>",
		"RCPT TO:<u5>",
	}, got); diff != "" {
		t.Error(diff)
	}
	c.play(`
		C: MAIL FROM:<` + owner + `>
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<tiếng.việt@congthu.test>
		S: 553 5.7.1
		C: MAIL FROM:<nguyen.van.a> ENVID=a+3db ORCPT=x400;abc auth=<>
		S: 250
		C: RSET
		S: 250
		C: MAIL FROM:<boss>
		S: 553 5.7.1
		C: MAIL FROM:<` + owner + `> <boss@congthu.test>
		S: 501 5.5.4
		C: MAIL FROM:<` + owner + `> SIZE=99999999
		S: 552 5.3.4`)
	if !slices.Contains(g.fake.Lines(), "MAIL FROM:<"+owner+"> ENVID=a+3db ORCPT=x400;abc") {
		t.Errorf("the mail server has heard %q", g.fake.Lines())
	}
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
		"nobody": "550-5.1.1 No such user\r\n550 5.1.1 here\r\n",
		"later":  "450 4.2.0 Greylisted\r\n",
		"plain":  "550 no\r\n",
	} {
		if got := c.do("RCPT TO:<"+address+"@congthu.test>", ""); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	c.do("DATA", "503 5.5.1") // no recipients
	c.do("RCPT TO:<b@congthu.test>", "250")
	c.do("RCPT TO:<c@congthu.test>", "250")
	c.do("RCPT TO:<d@congthu.test>", "452 4.5.3")
	c.do("DATA", "354")
	c.send(hello + ".\r\n")
	c.want("250 2.0.0")
	c.do("MAIL FROM:<"+owner+">", "250")
	c.do("RCPT TO:<strange@congthu.test>", "451 4.3.0")
	c.want("421 4.4.2")
	c.closed()
}

func TestRefusalsOfAMessageReachTheClient(t *testing.T) {
	for _, step := range []mailtest.Step{"MAIL", "DATA", "message"} {
		for reply, want := range map[string]string{
			"554 5.7.1 Spam":                        "554 5.7.1 Spam\r\n",
			"451 4.3.0 Milter down":                 "451 4.3.0 Milter down\r\n",
			"552-5.3.4 too\r\n552 5.3.4 big":        "552-5.3.4 too\r\n552 5.3.4 big\r\n",
			"550 5.7.1 " + strings.Repeat("x", 600): "550 5.7.1 " + strings.Repeat("x", 600) + "\r\n",
			"550 5.7.1 a\x07b\tc":                   "550 5.7.1 a\x07b\tc\r\n",
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

// Whom an account writes to is not for the log, also where the server closes with it.
func TestNoReplyBringsARecipientIntoTheLog(t *testing.T) {
	for _, code := range []string{"421 4.2.1", "550 5.1.1", "450 4.2.0", "rubbish"} {
		g := start(t, func(g *gateway) {
			g.fake.Misbehave = mailtest.Once("RCPT", say(code+" <ai.do@xa.vn> cannot be reached"))
		})
		c := g.login()
		c.do("MAIL FROM:<"+owner+">", "250")
		c.send("RCPT TO:<ai.do@xa.vn>\r\n")
		c.reply()
		c.conn.Close()
		g.stop()
		if text := g.log.String(); strings.Contains(text, "ai.do") || !strings.Contains(text, "session ends") {
			t.Errorf("%s: %s", code, text)
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
			if m.Say != "" {
				want = "451 4.3.0"
			}
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s at %s: %q, want %q", name, step, got, want)
			}
			if want[:3] == "451" {
				// Coming back means to log in again.
				c.want("421 4.4.2")
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
	c.want("421 4.4.2")
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
	c.want("421 4.4.2") // nobody has to ask
	c.closed()
	if n := len(g.guard.asked()); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

func TestAMessageIsLoggedByItsQueueIDAndNotByItsRecipients(t *testing.T) {
	for reply, want := range map[string]string{
		"Ok: queued as 4XyzAB12cd":                     "4XyzAB12cd",
		"OK id=1sAbCd-000-0000-Xy":                     "1sAbCd-000-0000-Xy",
		"41BxyzAB012345 Message accepted for delivery": "41BxyzAB012345",
		"Ok":     "",
		"Ok: id": "",
	} {
		if got := queuedAs(reply); got != want {
			t.Errorf("%s: %q, want %q", reply, got, want)
		}
	}
	for text, want := range map[string]string{
		"<ai.do@xa.vn>: Recipient address rejected": "<***>: Recipient address rejected",
		"no mailbox for Ai.Do+x@XA.VN here":         "no mailbox for *** here",
		"văn-thư@xã.vn, b@c: no":                    "***, ***: no",
		"greylisted @ 10:00":                        "greylisted @ 10:00",
	} {
		if got := withoutAddresses(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	const stranger = "ai.do@elsewhere.example"
	g := start(t, func(g *gateway) {
		g.fake.Recipient = func(address string) string { return "550 5.1.1 <" + address + ">: Recipient address rejected" }
	})
	c := g.login()
	c.do("MAIL FROM:<"+owner+">", "250")
	if got := c.do("RCPT TO:<"+stranger+">", "550"); !strings.Contains(got, stranger) {
		t.Errorf("the client is not told which: %s", got)
	}
	c.do("QUIT", "221")
	g.stop()
	if log := g.log.String(); strings.Contains(log, stranger) || !strings.Contains(log, `msg="mail server refused"`) || !strings.Contains(log, "step=RCPT code=550") {
		t.Error(log)
	}
}
