package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

func TestALoginThroughEveryDoorAndMechanism(t *testing.T) {
	g := start(t, func(g *gateway) { g.fake.TLS = mailtest.ServerTLS() })
	logins := map[string]string{
		"PLAIN at once": "C: AUTH PLAIN " + plain("", owner, password) + "\nS: 235 2.7.0",
		"plain, asked":  "C: auth plain\nS: 334 \nC: " + plain("", owner, password) + "\nS: 235 2.7.0",
		"LOGIN": "C: AUTH LOGIN\nS: 334 " + encode("Username:") + "\nC: " + encode(owner) +
			"\nS: 334 " + encode("Password:") + "\nC: " + encode(password) + "\nS: 235 2.7.0",
		"LOGIN with a name": "C: AUTH LOGIN " + encode(owner) + "\nS: 334 " + encode("Password:") + "\nC: " + encode(password) + "\nS: 235 2.7.0",
	}
	for name, login := range logins {
		t.Run(name, func(t *testing.T) {
			c := g.connect()
			c.t = t
			c.play(login)
			c.play("C: QUIT\nS: 221")
			c.closed()
		})
		t.Run(name+" after STARTTLS", func(t *testing.T) {
			c := g.dial(g.starttls)
			c.t = t
			c.play(`
				S: 220 gateway.test ESMTP
				C: EHLO client.test
				S: 250-gateway.test
				C: STARTTLS
				S: 220 2.0.0`)
			c = newClient(t, tls.Client(c.conn, mailtest.ClientTLS()))
			// No second greeting.
			c.play("C: EHLO client.test\nS: 250-gateway.test")
			c.play(login)
			c.play("C: QUIT\nS: 221")
			c.closed()
		})
	}
	if got := g.fake.Verdicts(owner); got.Right != 2*len(logins) || got.Wrong != 0 {
		t.Errorf("the mail server judged %v", got)
	}
	g.stop()
	if n := 2 * len(logins); g.records.opened != n || g.records.closed != n || g.records.handshakes != n || g.records.bad != 0 || g.records.fromClient == 0 || g.records.sent == 0 {
		t.Errorf("recorded %+v", g.records)
	}
	if n := g.Sessions.Len(""); n != 0 {
		t.Errorf("%d sessions are live", n)
	}
}

// Each row of the reply table.
func TestTheReplyToEachOutcome(t *testing.T) {
	texts := func(o auth.Outcome) string { return "text of " + o.String() }
	for _, row := range []struct {
		outcome auth.Outcome
		want    string
		text    auth.Outcome // whose text it has
	}{
		{auth.WrongPassword, "535 5.7.8 ", auth.WrongPassword},
		{auth.PreviousPassword, "535 5.7.8 ", auth.WrongPassword},
		{auth.RepeatedPassword, "535 5.7.8 ", auth.WrongPassword},
		{auth.NoSuchDomain, "535 5.7.8 ", auth.WrongPassword},
		{auth.Malformed, "535 5.7.8 ", auth.WrongPassword},
		{auth.Refused, "535 5.7.8 ", auth.Refused},
		{auth.Locked, "525 5.7.13 ", auth.Locked},
		{auth.Revoked, "525 5.7.13 ", auth.Revoked},
		{auth.Expired, "535 5.7.8 ", auth.Expired},
		{auth.OtherIdentity, "535 5.7.8 ", auth.OtherIdentity},
		{auth.Throttled, "454 4.7.0 ", auth.Throttled},
		{auth.Busy, "454 4.7.0 ", auth.Busy},
		{auth.Unavailable, "454 4.7.0 ", auth.Unavailable},
		{auth.StoreUnavailable, "454 4.7.0 ", auth.StoreUnavailable},
	} {
		for _, asks := range []bool{false, true} {
			g := start(t, func(g *gateway) { g.guard.outcome, g.guard.asks, g.Text = row.outcome, asks, texts })
			c := g.connect()
			got := c.do("AUTH PLAIN "+plain("", owner, password), row.want)
			if want := row.want + texts(row.text) + "\r\n"; got != want {
				t.Errorf("%v: %q, want %q", row.outcome, got, want)
			}
			// Not logged in, even when the mail server took the password.
			c.do("MAIL FROM:<"+owner+">", "530 5.7.0")
			if n := g.Sessions.Len(""); n != 0 {
				t.Errorf("%v: %d sessions are live", row.outcome, n)
			}
			c.play("C: QUIT\nS: 221")
			g.stop()
		}
	}
	for _, o := range auth.Outcomes() {
		if _, ok := refusals[o]; !ok && o != auth.Accepted {
			t.Errorf("no reply for %v", o)
		}
	}
}

func TestTheVerdictOfTheMailServerReachesTheClient(t *testing.T) {
	for reply, want := range map[string]string{
		"535 5.7.8 no":                 "535 5.7.8 ",
		"554 5.7.1 your licence ended": "535 5.7.8 ",
		"454 4.7.0 later":              "454 4.7.0 unavailable",
		"421 4.3.2 bye":                "454 4.7.0 unavailable",
	} {
		g := start(t, func(g *gateway) { g.fake.Misbehave = mailtest.At("verdict", say(reply)) })
		g.connect().do("AUTH PLAIN "+plain("", owner, password), want)
	}
}

func TestCleartextIsForNothingButSTARTTLS(t *testing.T) {
	g := start(t, nil)
	var refused []auth.Attempt
	g.Refused = func(a auth.Attempt, o auth.Outcome) {
		if refused = append(refused, a); o != auth.Cleartext {
			t.Errorf("told of %v", o)
		}
	}
	c := g.dial(g.starttls)
	c.play(`
		S: 220 gateway.test ESMTP
		C: EHLO client.test
		S: 250-gateway.test
		C: AUTH PLAIN ` + plain("", owner, password) + `
		S: 538 5.7.11
		C: MAIL FROM:<` + owner + `>
		S: 530 5.7.0
		C: NOOP
		S: 250
		C: RSET
		S: 250
		C: STARTTLS now
		S: 501 5.5.4
		C: XYZZY
		S: 502 5.5.1
		C: DATA
		S: 530 5.7.0
		C: XYZZY
		S: 502 5.5.1
		S: 421`)
	c.closed()
	if len(refused) != 1 || refused[0].Login != "" || !refused[0].Password.IsZero() || refused[0].Mechanism != auth.Plain || refused[0].Session == "" {
		t.Errorf("told of %v", refused)
	}
	c = g.dial(g.starttls)
	c.want("220")
	if got := c.do("EHLO client.test", "250"); strings.Contains(got, "AUTH") || !strings.Contains(got, "STARTTLS") {
		t.Errorf("offered in clear: %q", got)
	}
	c.play("C: QUIT\nS: 221")
	c.closed()
	if n := len(g.guard.asked()); n != 0 {
		t.Errorf("%d attempts reached the guard", n)
	}
}

// CVE-2011-0411 and its relatives.
func TestCommandsBeforeTheHandshakeAreNotExecutedAfterIt(t *testing.T) {
	g := start(t, nil)
	for _, injected := range []string{"STARTTLS\r\nAUTH PLAIN " + plain("", owner, password) + "\r\n", "STARTTLS\r\nNOOP\r\n", "STARTTLS\r\n\x16"} {
		c := g.dial(g.starttls)
		c.want("220")
		c.do("EHLO client.test", "250")
		c.send(injected)
		c.want("421 4.7.0")
		c.closed()
	}
	if n := len(g.guard.asked()); n != 0 {
		t.Errorf("%d attempts reached the guard", n)
	}
}

func TestAClientOfAnotherProtocolIsRefusedByALPN(t *testing.T) {
	g := start(t, nil)
	for protocols, ok := range map[string]bool{"": true, "smtp": true, "http/1.1": false, "h2 http/1.1": false, "imap": false, "http/1.1 smtp": true} {
		config := mailtest.ClientTLS()
		config.NextProtos = strings.Fields(protocols)
		c := g.dial(g.implicit)
		if err := tls.Client(c.conn, config).Handshake(); (err == nil) != ok {
			t.Errorf("%q: %v", protocols, err)
		}
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	g := start(t, nil)
	config := mailtest.ClientTLS()
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if err := tls.Client(g.dial(g.implicit).conn, config).Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestWhatIsNoLoginIsNeverCounted(t *testing.T) {
	g := start(t, func(g *gateway) { g.MaxBad = 100 })
	c := g.connect()
	c.play(`
		C: AUTH PLAIN
		S: 334 
		C: *
		S: 501
		C: AUTH LOGIN
		S: 334
		C: ` + encode(owner) + `
		S: 334
		C: *
		S: 501
		C: AUTH PLAIN =
		S: 501 5.5.2
		C: AUTH PLAIN not-base64!
		S: 501 5.5.2
		C: AUTH PLAIN
		S: 334
		C: AAA=BBB
		S: 501 5.5.2
		C: AUTH PLAIN ` + encode("a\x00b") + `
		S: 501 5.5.2
		C: AUTH PLAIN ` + plain("", owner, "a\x00b") + `
		S: 501 5.5.2
		C: AUTH PLAIN ` + plain("", owner, "") + `
		S: 501 5.5.2
		C: AUTH PLAIN ` + plain("", "", password) + `
		S: 501 5.5.2
		C: AUTH LOGIN ` + encode(owner) + `
		S: 334
		C: 
		S: 501 5.5.2
		C: AUTH CRAM-MD5
		S: 504 5.5.4
		C: AUTH
		S: 501 5.5.4
		C: NOOP
		S: 250`)
	if n := len(g.guard.asked()); n != 0 {
		t.Errorf("%d attempts reached the guard", n)
	}
	if n := len(g.fake.Judged()); n != 0 {
		t.Errorf("the mail server judged %d", n)
	}
}

func TestALoginIsNotTooLong(t *testing.T) {
	g := start(t, nil)
	c := g.connect()
	c.do("AUTH PLAIN "+plain("", owner, strings.Repeat("x", 9100)), "535 5.7.8")
	c.do("AUTH PLAIN "+plain("", owner, strings.Repeat("x", 9300)), "500 5.5.6")
	c.do("AUTH LOGIN "+encode(strings.Repeat("x", 5000)), "334")
	c.do(encode(strings.Repeat("x", 5000)), "535 5.7.8")
	c.send("AUTH PLAIN " + strings.Repeat("A", 70000) + "\r\n")
	c.want("500 5.5.2")
	c.closed()
	if n := len(g.guard.asked()); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

// smtplib and others try a second mechanism when the first is refused: one entry
// by the user.
func TestTheConnectionRemembersItsMistakesForTheGuard(t *testing.T) {
	g := start(t, nil)
	before := time.Now()
	c := g.connect()
	opened := time.Now()
	c.do("AUTH PLAIN "+plain("", owner, "wrong"), "535 5.7.8")
	c.do("AUTH LOGIN "+encode(owner), "334")
	c.do(encode("wrong"), "535 5.7.8")
	c.do("AUTH LOGIN "+encode(owner), "334")
	c.do(encode(password), "235")
	other := g.connect()
	other.do("AUTH PLAIN "+plain("", owner, "wrong"), "535 5.7.8")

	asked := g.guard.asked()
	if len(asked) != 4 {
		t.Fatalf("%d attempts, want 4", len(asked))
	}
	if asked[0].Rejected == nil || asked[0].Rejected != asked[1].Rejected || asked[0].Rejected != asked[2].Rejected || asked[0].Rejected == asked[3].Rejected {
		t.Error("the memory of mistakes is not one per connection")
	}
	if at := asked[0].Connected; at.Before(before) || at.After(opened) || at != asked[1].Connected {
		t.Errorf("connected at %v and %v, want between %v and %v", at, asked[1].Connected, before, opened)
	}
	if asked[0].Session == "" || asked[0].Session != asked[1].Session || asked[0].Session == asked[3].Session {
		t.Error("the session's name is not one per connection")
	}
	got := []string{}
	for _, a := range asked {
		got = append(got, fmt.Sprintf("%v %v %v %q %v %v", a.Protocol, a.Mechanism, a.Login, a.Authorize, a.Source.IsValid(), a.Password))
	}
	if diff := cmp.Diff([]string{
		"smtp plain " + owner + ` "" true ***`, "smtp login " + owner + ` "" true ***`,
		"smtp login " + owner + ` "" true ***`, "smtp plain " + owner + ` "" true ***`,
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheAuthorizationIdentityIsForTheGuardToJudge(t *testing.T) {
	g := start(t, nil)
	g.connect().do("AUTH PLAIN "+plain("boss@congthu.test", owner, password), "235")
	if got := g.guard.asked()[0].Authorize; got != "boss@congthu.test" {
		t.Errorf("authorize %q", got)
	}
}

// Half a password is a wrong one, and a wrong one counts.
func TestALineCutShortIsNoCommand(t *testing.T) {
	g := start(t, nil)
	initial := "AUTH PLAIN " + plain("", owner, password) + "\r"
	login := "AUTH LOGIN\r\n" + encode(owner) + "\r\n" + encode(password) + "\r"
	for _, dialogue := range []string{initial, "NOOP\r\n" + initial, login} {
		for n := range len(dialogue) + 1 {
			c := g.connect()
			c.send(dialogue[:n])
			c.conn.(*tls.Conn).CloseWrite()
			io.Copy(io.Discard, c.r)
		}
	}
	g.stop()
	if n := len(g.guard.asked()); n != 0 {
		t.Errorf("%d attempts reached the guard", n)
	}
}

func TestTooManyFailedLoginsEndTheConnection(t *testing.T) {
	g := start(t, func(g *gateway) { g.MaxFailures = 3 })
	c := g.connect()
	for i := range 3 {
		c.do("AUTH PLAIN "+plain("", owner, fmt.Sprint("wrong", i)), "535 5.7.8")
	}
	c.do("AUTH PLAIN "+plain("", owner, password), "421 4.7.0")
	c.closed()
	if n := len(g.guard.asked()); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestASecondLoginIsRefusedAndRSETKeepsTheFirst(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	c.do("AUTH PLAIN "+plain("", owner, password), "503 5.5.1")
	c.do("RSET", "250")
	c.do("EHLO again.test", "250")
	c.do("AUTH LOGIN", "503 5.5.1")
	if got := c.message(hello); !strings.HasPrefix(got, "250 2.0.0 Ok: queued as ") {
		t.Errorf("%q", got)
	}
	g.wantDelivered(hello)
	if n := len(g.guard.asked()); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

func TestBeforeLoginNothingCanBeSent(t *testing.T) {
	g := start(t, nil)
	g.connect().play(`
		C: MAIL FROM:<` + owner + `>
		S: 530 5.7.0
		C: RCPT TO:<b@congthu.test>
		S: 530 5.7.0
		C: DATA
		S: 530 5.7.0
		C: BDAT 6 LAST
		C: QUIT
		S: 530 5.7.0
		C: VRFY b
		S: 530 5.7.0
		S: 421 4.7.0`)
}

func (c *client) offers() (offered []string) {
	c.t.Helper()
	for line := range strings.Lines(c.do("EHLO client.test", "250")) {
		offered = append(offered, strings.TrimSpace(line[4:]))
	}
	offered = offered[1:]
	slices.Sort(offered)
	return offered
}

func TestWhatTheMailServerOffersIsOffered(t *testing.T) {
	for _, test := range []struct{ server, want []string }{
		{nil, []string{"8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "PIPELINING", "SIZE 10240000", "SMTPUTF8"}},
		{[]string{}, nil},
		{
			[]string{"CHUNKING", "DELIVERBY 240", "MT-PRIORITY MIXER", "RRVS", "REQUIRETLS", "BINARYMIME", "VRFY", "BURL imap", "XFORWARD NAME"},
			[]string{"CHUNKING", "DELIVERBY 240", "MT-PRIORITY MIXER", "RRVS", "REQUIRETLS", "VRFY"},
		},
	} {
		g := start(t, func(g *gateway) { g.fake.Extensions = test.server; g.MaxRecipients = 100 })
		c := g.connect()
		after := slices.Sorted(slices.Values(append(test.want, "LIMITS RCPTMAX=100")))
		before := slices.Sorted(slices.Values(append(after, "AUTH PLAIN LOGIN")))
		if diff := cmp.Diff(before, c.offers()); diff != "" {
			t.Error(diff)
		}
		c.do("AUTH PLAIN "+plain("", owner, password), "235")
		if diff := cmp.Diff(after, c.offers()); diff != "" {
			t.Error(diff)
		}
	}
}

// probed is a mail server whose extensions come from a channel, nil for an error.
type probed struct {
	Upstream
	extensions chan upstream.Extensions
}

func (p probed) ProbeSMTP(ctx context.Context) (upstream.Extensions, error) {
	select {
	case e := <-p.extensions:
		if e != nil {
			return e, nil
		}
	case <-ctx.Done():
	}
	return nil, errors.New("no answer")
}

func TestNewConnectionsLearnWhatTheMailServerOffersNow(t *testing.T) {
	p := probed{extensions: make(chan upstream.Extensions)}
	g := start(t, func(g *gateway) {
		p.Upstream = g.upstream()
		g.Upstream, g.RefreshEvery, g.doors = p, time.Nanosecond, []bool{true}
	})
	has := func(c *client, what string) bool { return slices.Contains(c.offers(), what) }
	tell := func(e upstream.Extensions) {
		for range 2 { // the first is known when the second is taken
			p.extensions <- e
		}
	}
	tell(upstream.Extensions{"SIZE": "100"})
	old := g.connect()
	if !has(old, "SIZE 100") {
		t.Error("not offered what the server has")
	}
	tell(upstream.Extensions{"SIZE": "200", "SMTPUTF8": ""})
	tell(nil) // what is known stays known
	if !has(old, "SIZE 100") {
		t.Error("an open connection was changed")
	}
	if c := g.connect(); !has(c, "SIZE 200") || !has(c, "SMTPUTF8") {
		t.Error("a new connection does not know the news")
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	const canary = "canary-7d1f"
	g := start(t, nil)
	c := g.connect()
	c.do("AUTH PLAIN "+plain("", canary+"-name", canary), "535")
	c.do("AUTH LOGIN "+encode(canary), "334")
	c.do(encode(canary), "535")
	c.do("AUTH PLAIN "+encode(canary), "501")
	c.do("AUTH PLAIN "+canary+"!", "501")
	c.do("AUTH PLAIN "+plain("", owner, password), "235")
	c.message(hello)
	c.do("QUIT", "221")
	clear := g.dial(g.starttls)
	clear.want("220")
	clear.do("AUTH PLAIN "+plain("", owner, canary), "538")
	g.stop()
	for _, secret := range []string{canary, encode(canary), plain("", canary+"-name", canary), plain("", owner, canary), password, encode(password)} {
		if strings.Contains(g.log.String(), secret) {
			t.Errorf("%q was logged:\n%s", secret, g.log)
		}
	}
	if !strings.Contains(g.log.String(), "queued as") {
		t.Errorf("the queue id was not logged:\n%s", g.log)
	}
}
