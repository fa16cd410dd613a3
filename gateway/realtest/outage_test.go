package realtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The mail server stops and comes back: no account is locked by that, and no restart is
// necessary.
func TestAnOutageCountsNothingAndHeals(t *testing.T) {
	t.Parallel()
	d := OwnDovecot(t)
	g := OwnCongthu(t, Setup{Dovecot: d, Postfix: OwnPostfix(t, d)})
	user := d.Account(t)
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Fatal(got)
	}
	d.Stop()
	for i := range 8 {
		if got := tryIMAP(t, g.Door(), "", user, fmt.Sprint("wrong ", i)); got != imapLater {
			t.Errorf("IMAP while the server is down: %s", got)
		}
	}
	if got := trySMTP(t, g.Door(), "", user, "wrong"); got != smtpLater && got != smtpAway {
		t.Errorf("submission while the server that knows the passwords is down: %s", got)
	}
	d.Start(t)
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("IMAP after the outage: %s", got)
	}
	// Postfix's own smtpd may have died without Dovecot.
	Eventually(t, "submission to work after the outage", func() bool {
		return trySMTP(t, g.Door(), "", user, Password) == smtpAccepted
	})
	if o := g.Run(t, "account", "show", user, "--output", "json"); !regexp.MustCompile(`"failures": ?0\b`).MatchString(o.Stdout) {
		t.Errorf("failures after the outage: %s", o.All())
	}
}

// Postfix alone is down: IMAP goes on.
func TestOneDoorsOutageIsNotTheOthers(t *testing.T) {
	t.Parallel()
	d := Dovecot(t)
	p := OwnPostfix(t, d)
	g := OwnCongthu(t, Setup{Postfix: p})
	user := d.Account(t)
	p.Stop()
	if got := trySMTP(t, g.Door(), "", user, Password); got != smtpLater && got != smtpAway {
		t.Errorf("submission: %s", got)
	}
	Eventually(t, "submission to greet with the outage", func() bool {
		return trySMTP(t, g.Door(), "", user, Password) == smtpAway
	})
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("IMAP: %s", got)
	}
}

// When a client has read NO, that failure is on disk: kill -9 at any moment between,
// before or during guesses loses none of the answered ones.
func TestKillLosesNoFailureThatWasAnswered(t *testing.T) {
	t.Parallel()
	d := Dovecot(t)
	g := OwnCongthu(t, Setup{})
	const rounds = 6
	for round := range rounds {
		user := d.Account(t)
		answered := rand.IntN(6)
		each(answered, func(i int) {
			if got := tryIMAP(t, g.Door(), "", user, fmt.Sprint("wrong ", i)); got != imapWrong {
				t.Errorf("round %d: %s", round, got)
			}
		})
		if round%2 == 1 && answered < 5 {
			// One more is on its way when the power goes.
			c := g.Door().DialIMAP(t, "")
			c.Say("a LOGIN " + quoted(user) + " underway\r\n")
			time.Sleep(time.Duration(rand.IntN(int(200 * time.Millisecond))))
		}
		g.Process.Kill()
		g.Start(t)
		var after tally
		each(8, func(i int) { after.add(tryIMAP(t, g.Door(), "", user, fmt.Sprint("after ", i))) })
		if rejected := after.counts[imapWrong]; answered+rejected > 6 || rejected+after.counts[imapLocked] != 8 {
			t.Errorf("round %d: %d wrong passwords were answered before the kill, after it: %v", round, answered, after.counts)
		}
		// The lock survives as well.
		g.Process.Kill()
		g.Start(t)
		if got := tryIMAP(t, g.Door(), "", user, Password); got != imapLocked {
			t.Errorf("round %d: after another kill: %s", round, got)
		}
		if o := g.Run(t, "account", "unlock", user, "--reason", "end of the round"); o.Code != 0 {
			t.Errorf("unlock: %s", o.All())
		}
		g.Process.Kill()
		g.Start(t)
		if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
			t.Errorf("round %d: the unlock did not survive: %s", round, got)
		}
	}
	if o := g.Run(t, "audit", "verify"); o.Code != 0 {
		t.Errorf("audit verify: exit code %d: %s", o.Code, o.All())
	}
}

// SIGTERM: no new clients are accepted, sessions may finish, other clients receive a
// farewell.
func TestTerminationDrains(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{})
	door, user := g.Door(), Dovecot(t).Account(t)
	imap, reply := door.LoginIMAP(t, "", user, Password)
	if !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	smtp, reply := door.LoginSMTP(t, "", user, Password)
	if !strings.HasPrefix(reply, "235") {
		t.Fatal(reply)
	}
	waiting := door.DialIMAP(t, "")
	g.Process.Signal(syscall.SIGTERM)
	Eventually(t, "the listeners to close", func() bool {
		conn, err := tryDial(g.IMAPS)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	// A load balancer sees it, and a supervisor has no reason to act.
	if code, body := Get(t, g.URL("/readyz")); code != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("/readyz while draining: %d %s", code, body)
	}
	if code, body := Get(t, g.URL("/healthz")); code != http.StatusOK {
		t.Errorf("/healthz while draining: %d %s", code, body)
	}
	// Logged in: the session continues until drain_timeout.
	if reply := imap.Command("b", "SELECT INBOX"); !strings.HasPrefix(reply, "OK") {
		t.Errorf("an IMAP session while draining: %s", reply)
	}
	if reply := imap.Command("c", "LOGOUT"); !strings.HasPrefix(reply, "OK") {
		t.Errorf("an IMAP session while draining: %s", reply)
	}
	if rest := smtp.Rest(); !strings.HasPrefix(rest, "421 ") {
		t.Errorf("an idle submission session was ended with %q, want 421", rest)
	}
	if rest := waiting.Rest(); !strings.HasPrefix(rest, "* BYE") {
		t.Errorf("a connection that had not logged in was ended with %q, want BYE", rest)
	}
	if code := g.Process.Wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// SIGHUP with a bad file keeps what was; with a good one it takes effect.
func TestABadFileDoesNotReplaceAGoodOne(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{})
	good, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	metric := func(name string) float64 {
		_, body := Get(t, g.URL("/metrics"))
		m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("no metric %s", name)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const successful = "congthu_config_last_reload_successful"
	if got := metric(successful); got != 1 {
		t.Errorf("at start: %v", got)
	}
	user := Dovecot(t).Account(t)
	imap, reply := g.Door().LoginIMAP(t, "", user, Password)
	if !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	writeFile(t, g.Config, string(good)+"\nno_such_section: 1\n", 0o600)
	g.Reload()
	Eventually(t, "the bad file to be noticed", func() bool { return metric(successful) == 0 })
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("with a bad file: %s", got)
	}
	writeFile(t, g.Config, strings.Replace(string(good), "rules:\n", "rules:\n  lockout: { tolerated: 1 }\n", 1), 0o600)
	g.Reload()
	Eventually(t, "the good file to be taken", func() bool { return metric(successful) == 1 })
	other := Dovecot(t).Account(t)
	for i, want := range []string{imapWrong, imapWrong, imapLocked} {
		if got := tryIMAP(t, g.Door(), "", other, fmt.Sprint("wrong ", i)); got != want {
			t.Errorf("with one tolerated mistake, guess %d: %s, want %s", i+1, got, want)
		}
	}
	if reply := imap.Command("b", "NOOP"); !strings.HasPrefix(reply, "OK") {
		t.Errorf("a session from before: %s", reply)
	}
}
