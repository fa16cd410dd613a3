package realtest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A new version at noon: while the gateway is restarted three times, clients log in all
// the time. Each connection is accepted and each login succeeds; some wait. A client
// with a transfer in progress can finish it.
func TestARestartUnderLoadRefusesNobody(t *testing.T) {
	t.Parallel()
	g := Configured(t, Setup{})
	m := Managed(t, g)
	m.Start(t)
	door := g.Door()
	var over atomic.Bool
	var waits struct {
		sync.Mutex
		n    int
		most time.Duration
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	defer over.Store(true)
	for i := range 6 {
		user := Dovecot(t).Account(t)
		clients.Go(func() {
			for n := 0; !over.Load(); n++ {
				began := time.Now()
				if i%2 == 0 {
					if got := tryIMAP(t, door, "", user, Password); !accepted(got) {
						t.Errorf("client %d, login %d, over IMAP: %s", i, n, got)
					}
				} else if got := trySMTP(t, door, "", user, Password); got != smtpAccepted {
					t.Errorf("client %d, login %d, over submission: %s", i, n, got)
				}
				waits.Lock()
				waits.n++
				waits.most = max(waits.most, time.Since(began))
				waits.Unlock()
			}
		})
	}
	logins := func() int {
		waits.Lock()
		defer waits.Unlock()
		return waits.n
	}
	user := Dovecot(t).Account(t)
	for round := range 3 {
		before := logins()
		Eventually(t, "some logins", func() bool { return logins() > before+10 })
		idle, reply := door.LoginIMAP(t, "", user, Password)
		if !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
		reader, reply := door.LoginIMAP(t, "", user, Password)
		if !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
		writer, reply := door.LoginSMTP(t, "", user, Password)
		if !strings.HasPrefix(reply, "235") {
			t.Fatal(reply)
		}
		for _, command := range []string{"MAIL FROM:<" + user + ">", "RCPT TO:<" + user + ">", "DATA"} {
			if reply := writer.Ask(command); reply[0] != '2' && reply[0] != '3' {
				t.Fatalf("%s: %s", command, reply)
			}
		}
		writer.Say("From: " + user + "\r\nSubject: at noon\r\n\r\nbegun before the restart\r\n")
		reader.Say("b NOOP\r\n")
		reader.Tagged("b")

		early := door.DialIMAP(t, "")

		from, began := len(m.Said()), time.Now()
		g.Process.Signal(syscall.SIGTERM)
		Eventually(t, "load balancers to be told", func() bool {
			code, body := Get(t, g.URL("/readyz"))
			if code == 0 {
				t.Fatal("the gateway has ended before it said so in /readyz")
			}
			return code == http.StatusServiceUnavailable && strings.Contains(body, "shutting down")
		})
		if reply := early.Command("a", "LOGIN "+quoted(user)+" "+quoted(Password)); !strings.HasPrefix(reply, "OK") {
			t.Errorf("the login of a client that had been let in before: %s", reply)
		}
		if reply := reader.Command("c", "SELECT INBOX"); !strings.HasPrefix(reply, "OK") {
			t.Errorf("an IMAP session while draining: %s", reply)
		}
		if reply := writer.Ask("finished after it began\r\n."); !strings.HasPrefix(reply, "250") {
			t.Errorf("a message under way while draining: %s", reply)
		}
		if rest := idle.Rest(); rest != "" {
			t.Errorf("a session on which nothing moved was ended with %q, want no words", rest)
		}
		if code := g.Process.Wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		ended := time.Since(began)
		m.Await(t, from, "STOPPING=1", "STATUS=")
		m.Start(t)
		t.Logf("round %d: the old process ended after %v, the next was ready after %v", round, ended.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	before := logins()
	Eventually(t, "logins after the last restart", func() bool { return logins() > before+10 })
	over.Store(true)
	clients.Wait()
	t.Logf("%d logins, the longest took %v", waits.n, waits.most.Round(time.Millisecond))
}

// systemd receives notifications when the gateway is ready, at the beginning and the
// end of a reload (good or bad), while it is alive, and when it stops.
func TestSystemdIsToldHowTheGatewayIs(t *testing.T) {
	t.Parallel()
	g := Configured(t, Setup{})
	m := Managed(t, g)
	m.Start(t, fmt.Sprintf("WATCHDOG_USEC=%d", 600*time.Millisecond/time.Microsecond))
	m.Await(t, 0, "STATUS=0 sessions")
	Eventually(t, "signs of life", func() bool {
		signs := 0
		for _, said := range m.Said() {
			signs += strings.Count(said, "WATCHDOG=1")
		}
		return signs > 3
	})
	for _, more := range []string{"", "\nno_such_section: 1\n"} {
		writeFile(t, g.Config, readFrom(g.Config, 0)+more, 0o600)
		from := len(m.Said())
		g.Reload()
		Eventually(t, "the end of a reload", func() bool { return m.Heard(from, "READY=1") })
		if !m.Heard(from, "RELOADING=1") || !m.Heard(from, "MONOTONIC_USEC=") {
			t.Errorf("the beginning of a reload was not told: %q", m.Said()[from:])
		}
	}
	from := len(m.Said())
	g.Process.Signal(syscall.SIGTERM)
	if code := g.Process.Wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	m.Await(t, from, "STOPPING=1")
}
