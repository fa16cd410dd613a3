package realtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// behindHAProxy are the lines that the guide gives for the gateway.
const behindHAProxy = "proxy_protocol: { from: [" + BalancerAddress + "] }\n"

func TestTheGuidesShowTheSameHAProxy(t *testing.T) {
	if HAProxyFile(t, "haproxy.md") != HAProxyFile(t, "haproxy.vi.md") {
		t.Error("the English and the Vietnamese guide differ")
	}
}

// knowsSource checks that an event of the account has the address.
func knowsSource(t *testing.T, g *Gateway, user, kind, from string) {
	t.Helper()
	_, events := g.API(t, http.MethodGet, "/events?account="+user, "")
	for _, event := range strings.Split(events, `"seq"`) {
		if strings.Contains(event, `"kind":"`+kind+`"`) && strings.Contains(event, `"source":"`+from+`:`) {
			return
		}
	}
	t.Errorf("the audit log has no %s from %s: %s", kind, from, events)
}

// startTLS makes an IMAP connection through the door with STARTTLS.
func startTLS(t *testing.T, door Door, from string) *Dialogue {
	t.Helper()
	d := Dial(t, door.IMAP, from)
	if greeting := d.Hear(); !strings.HasPrefix(greeting, "* OK") {
		t.Fatalf("greeting: %q", greeting)
	}
	if reply := d.Command("s", "STARTTLS"); !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	d.Secure()
	return d
}

func TestEverybodyLearnsTheClientsAddressBehindHAProxy(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct{ in, out string }{
		"send-proxy-v2": {"send-proxy-v2", ""},
		"send-proxy":    {"send-proxy", ""},
		"send-proxy-v2, and on in a header, STARTTLS": {"send-proxy-v2", "starttls"},
		"send-proxy-v2, and on in a header, implicit": {"send-proxy-v2", "implicit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := OwnCongthu(t, Setup{Extra: behindHAProxy, Proxy: way.out})
			arrives(t, g, HAProxy(t, g, way.in))
			if log := g.LogText(); strings.Contains(log, "no PROXY header") || strings.Contains(log, "panic") {
				t.Errorf("the gateway's log has complaints: %s", log)
			}
		})
	}
}

// arrives checks that the gateway behind h and the servers behind it all know
// who the clients of h are.
func arrives(t *testing.T, g *Gateway, h *HAProxyServer) {
	t.Helper()
	door, user, from := h.Door(), Dovecot(t).Account(t), FreshAddress()

	imap, reply := door.LoginIMAP(t, from, user, Password)
	if !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	knowsSource(t, g, user, "login.first", from)
	// The spliced connection works: both ways, large, to its end.
	large := "Subject: large\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 5000)
	if reply := imap.Command("b", "APPEND INBOX "+literal(large)); !strings.HasPrefix(reply, "OK") {
		t.Errorf("APPEND: %s", reply)
	}
	imap.Command("c", "SELECT INBOX")
	if lines := imap.fetch("d", "FETCH 1 BODY[]"); !strings.Contains(lines, "Subject: large") || len(lines) < len(large) {
		t.Errorf("FETCH gave %d octets of %d", len(lines), len(large))
	}
	imap.Command("e", "LOGOUT")
	Eventually(t, "Dovecot to log the client's address", func() bool {
		return Dovecot(t).LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+from+",")
	})

	other := FreshAddress()
	if reply := startTLS(t, door, other).Command("a", "LOGIN "+quoted(user)+" "+quoted(Password)); !strings.HasPrefix(reply, "OK") {
		t.Errorf("with STARTTLS: %s", reply)
	}
	Eventually(t, "Dovecot to log the client's address with STARTTLS", func() bool {
		return Dovecot(t).LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+other+",")
	})

	wrong := FreshAddress()
	if got := trySMTP(t, door, wrong, user, "wrong"); got != smtpWrong {
		t.Errorf("submission: %s", got)
	}
	knowsSource(t, g, user, "password.wrong", wrong)
	postfixKnows(t, door, from, user)
	Eventually(t, "HAProxy's checks", func() bool {
		for _, name := range []string{"imap", "imaps", "submission", "submissions"} {
			if !lineHas(readFrom(h.Log, 0), "Health check for server "+name+"/congthu1 succeeded") {
				return false
			}
		}
		return true
	})
	if log := readFrom(h.Log, 0); strings.Contains(log, "DOWN") {
		t.Errorf("HAProxy: %s", log)
	}
}

// fetch says a command and returns all of the answer.
func (d *Dialogue) fetch(tag, command string) string {
	d.t.Helper()
	d.Say(tag + " " + command + "\r\n")
	return strings.Join(d.Tagged(tag), "\r\n")
}

func TestClientsBehindHAProxyAreThrottledAndCountedOneByOne(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{
		Extra:  behindHAProxy + "throttle: { accounts: 2, failures: 4 }\n",
		Limits: "    connections_per_source: 3",
	})
	h := HAProxy(t, g, "send-proxy-v2")
	suspect, owner := FreshAddress(), FreshAddress()
	for range 2 {
		if got := tryIMAP(t, h.Door(), suspect, Dovecot(t).Account(t), "wrong"); got != imapWrong {
			t.Fatal(got)
		}
	}
	user := Dovecot(t).Account(t)
	if got := tryIMAP(t, h.Door(), suspect, user, Password); got != imapLater {
		t.Errorf("the suspect, IMAP: %s", got)
	}
	if got := trySMTP(t, h.Door(), suspect, user, Password); got != smtpLater {
		t.Errorf("the suspect, submission: %s", got)
	}
	if got := tryIMAP(t, h.Door(), owner, user, Password); !accepted(got) {
		t.Errorf("the owner, IMAP: %s", got)
	}
	if got := trySMTP(t, h.Door(), owner, user, Password); got != smtpAccepted {
		t.Errorf("the owner, submission: %s", got)
	}

	// A header of one's own changes nothing.
	for i := range 3 {
		d := Dial(t, g.IMAP, suspect)
		d.Hear()
		if reply := d.Command("PROXY", fmt.Sprintf("TCP4 127.8.8.%d 127.0.0.1 50000 143", 1+i)); !strings.HasPrefix(reply, "BAD") {
			t.Errorf("a header in front of the greeting: %s", reply)
		}
		d.Command("s", "STARTTLS")
		d.Secure()
		if got := code(d.Command("a", "LOGIN "+quoted(user)+" "+quoted(Password))); got != imapLater {
			t.Errorf("the suspect with a header: %s", got)
		}
	}
	if strings.Contains(g.LogText(), "127.8.8.") || strings.Contains(readFrom(Dovecot(t).Log, 0), "127.8.8.") {
		t.Error("an address that a stranger claimed is in a log")
	}

	// Three of one client are as many as it may have, whatever others have.
	crowd, many := FreshAddress(), FreshAddress()
	for range 3 {
		startTLS(t, h.Door(), crowd)
	}
	if greeting := Dial(t, h.IMAP, crowd).Hear(); !strings.HasPrefix(greeting, "* BYE") {
		t.Errorf("the fourth connection of one client: %s", greeting)
	}
	startTLS(t, h.Door(), many)
}

func TestAHeaderGainsAStrangerNothingAndGarbageEndsABalancersConnection(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{Extra: behindHAProxy})
	const (
		v1 = "PROXY TCP4 127.8.7.6 127.0.0.1 50000 143\r\n"
		v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x08\x07\x06\x7f\x00\x00\x01\xc3\x50\x00\x8f"
	)
	for _, header := range []string{v1, v2} {
		for name, port := range map[string]int{"IMAPS": g.IMAPS, "submissions": g.Submissions} {
			d := Dial(t, port, "")
			d.Say(header)
			if err := trySecure(d); err == nil {
				t.Errorf("%s: a stranger's header is read", name)
			}
		}
		for name, port := range map[string]int{"IMAP": g.IMAP, "submission": g.Submission} {
			d := Dial(t, port, BalancerAddress)
			d.Say(header)
			if greeting := d.Hear(); !strings.HasPrefix(greeting, "* OK") && !strings.HasPrefix(greeting, "220 ") {
				t.Errorf("%s: behind a balancer: %q", name, greeting)
			}
		}
	}
	submission := Dial(t, g.Submission, "")
	submission.Hear()
	if reply := submission.Ask(strings.TrimSpace(v1)); !strings.HasPrefix(reply, "502") {
		t.Errorf("a stranger's header, submission: %s", reply)
	}
	for _, port := range []int{g.IMAP, g.IMAPS, g.Submission, g.Submissions} {
		for _, garbage := range []string{"a CAPABILITY\r\n", "EHLO x\r\n", "\x16\x03\x01\x00\x05hello", "PROXY TCP4 a b c d\r\n", v2[:14] + "\xff\xff" + strings.Repeat("x", 500), "\x00"} {
			d := Dial(t, port, BalancerAddress)
			d.Say(garbage)
			if rest := d.Rest(); rest != "" {
				t.Errorf("%q from a balancer: it reads %q", garbage, rest)
			}
		}
	}
	if got := tryIMAP(t, g.Door(), "", Dovecot(t).Account(t), Password); !accepted(got) {
		t.Errorf("afterwards: %s", got)
	}
	log := g.LogText()
	if !strings.Contains(log, "no PROXY header") || strings.Contains(log, "panic") {
		t.Errorf("the gateway's log: %s", log)
	}
}

// At the port with STARTTLS the server speaks first, so that a header in the wrong
// place, or none, is in the way of nothing but the gateway's refusal.
func TestSubmissionTakesAHeaderFromBalancersAndFromNobodyElse(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{Extra: strings.Replace(behindHAProxy, "{ ", "{ timeout: 1s, ", 1)})
	user := Dovecot(t).Account(t)
	login := func(d *Dialogue, password string) (reply string) {
		d.MustReply("250", "EHLO client.test")
		d.MustReply("220", "STARTTLS")
		d.Secure()
		d.MustReply("250", "EHLO client.test")
		return d.Ask("AUTH PLAIN " + plain("", user, password))
	}
	const (
		v1 = "PROXY TCP4 127.8.7.5 127.0.0.1 50000 587\r\n"
		v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x08\x07\x05\x7f\x00\x00\x01\xc3\x50\x02\x4b"
	)
	// A balancer that says nothing is not greeted, one that lets its client speak
	// is not answered.
	for _, said := range []string{"", "EHLO client.test\r\n", "STARTTLS\r\n"} {
		d := Dial(t, g.Submission, BalancerAddress)
		d.Say(said)
		if rest := d.Rest(); rest != "" {
			t.Errorf("a balancer without a header, after %q, reads %q", said, rest)
		}
	}
	introduced := Dial(t, g.Submission, BalancerAddress)
	introduced.Say(v1)
	if greeting := introduced.Hear(); !strings.HasPrefix(greeting, "220 ") {
		t.Fatalf("a balancer with a header: %q", greeting)
	}
	if reply := login(introduced, Password); !strings.HasPrefix(reply, "235") {
		t.Errorf("a balancer's client: %s", reply)
	}
	knowsSource(t, g, user, "login.first", "127.8.7.5")

	// Version 1 is a command that does not exist, and what follows is the
	// stranger's own; version 2 is several, after which nothing follows.
	stranger := FreshAddress()
	d := Dial(t, g.Submission, stranger)
	d.Hear()
	if reply := d.Ask(strings.TrimSpace(v1)); !strings.HasPrefix(reply, "502") {
		t.Errorf("a stranger's header, version 1: %s", reply)
	}
	if reply := login(d, "wrong"); !strings.HasPrefix(reply, "535") {
		t.Errorf("a stranger behind a header: %s", reply)
	}
	knowsSource(t, g, user, "password.wrong", stranger)

	d = Dial(t, g.Submission, stranger)
	d.Hear()
	d.Say(v2 + "EHLO client.test\r\nSTARTTLS\r\n")
	if rest := d.Rest(); strings.Contains(rest, "250") || !strings.HasSuffix(rest, "221 2.0.0 Bye\r\n") {
		t.Errorf("a stranger's header, version 2, is followed by more: %q", rest)
	}
}

func TestAWebmailsUsersAreKnownByTheirOwnAddresses(t *testing.T) {
	t.Parallel()
	const webmail = "127.9.8.1"
	g := OwnCongthu(t, Setup{Extra: behindHAProxy + "trusted_forwarders: [" + webmail + "]\nthrottle: { accounts: 2, failures: 4 }\n"})
	h := HAProxy(t, g, "send-proxy-v2")
	login := func(door Door, via, from, user, password string) string {
		d := door.DialIMAP(t, via)
		if reply := d.Command("i", `ID ("name" "Roundcube" "x-originating-ip" "`+from+`" "x-originating-port" "50312")`); !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
		defer d.Close()
		return code(d.Command("a", "LOGIN "+quoted(user)+" "+quoted(password)))
	}
	// Straight and through the balancer the webmail is the same.
	for _, door := range []Door{g.Door(), h.Door()} {
		t.Run(door.Name, func(t *testing.T) {
			t.Parallel()
			suspect, owner, user := FreshAddress(), FreshAddress(), Dovecot(t).Account(t)
			each(2, func(int) {
				if got := login(door, webmail, suspect, Dovecot(t).Account(t), "wrong"); got != imapWrong {
					t.Errorf("the suspect, guessing: %s", got)
				}
			})
			if got := login(door, webmail, suspect, user, Password); got != imapLater {
				t.Errorf("the suspect: %s", got)
			}
			if got := login(door, webmail, owner, user, Password); !accepted(got) {
				t.Errorf("the owner: %s", got)
			}
			knowsSource(t, g, user, "login.first", owner)
			Eventually(t, "Dovecot to log the user's address", func() bool {
				return Dovecot(t).LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+owner+",")
			})
			// A stranger who says the same is themselves.
			stranger := FreshAddress()
			if got := login(door, stranger, "127.8.8.9", user, "wrong"); got != imapWrong {
				t.Errorf("a stranger: %s", got)
			}
			knowsSource(t, g, user, "password.wrong", stranger)
			if strings.Contains(g.LogText(), "127.8.8.9") {
				t.Error("an address that a stranger claimed is in the log")
			}
		})
	}
}
