package realtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/gateway/mailtest"
)

// inFrontOf makes a gateway before an IMAP server that need not be Dovecot, on
// SQLite, ready to be started.
func inFrontOf(t *testing.T, mail *mailtest.IMAP) *Gateway {
	t.Helper()
	address, err := mail.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mail.Close() })
	dir := newDir(t, "g")
	g := &Gateway{
		IMAPS: freePort(t), Admin: freePort(t), Dir: dir,
		Config: filepath.Join(dir, "congthu.yaml"), Log: filepath.Join(dir, "congthu.log"), Socket: filepath.Join(dir, "data", "admin.sock"),
	}
	cert, key := TheAuthority(t).Issue(t, filepath.Base(dir))
	writeFile(t, g.Config, fmt.Sprintf(`domain: %s
hostname: gateway.%[1]s
data_dir: %[2]s/data
tls: { certificate: %[3]s, key: %[4]s }
imap:
  listen: [ { address: "127.0.0.1:%[5]d", tls: implicit } ]
  upstream: %[6]s
smtp: { listen: [] }
rules: { password: { change_url: "https://matkhau.%[1]s/" } }
throttle: { enabled: false }
limits: { connections_per_source: 20000 }
admin: { listen: "127.0.0.1:%[7]d" }
log: { level: info, format: json }
drain_timeout: 1s
`, Domain, dir, cert, key, g.IMAPS, address, g.Admin), 0o600)
	tailOnFailure(t, g.Log)
	return g
}

// Held is the memory in octets that the gateway holds now and that is not a
// file's.
func (g *Gateway) Held(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", g.Process.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss_Anon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no Pss_Anon in smaps_rollup: the kernel is older than 5.4")
	return 0
}

const memoryAccounts = 20

func memoryAccount(i int) string { return fmt.Sprintf("m%02d@%s", i%memoryAccounts, Domain) }

func memoryMail() *mailtest.IMAP {
	mail := &mailtest.IMAP{Accounts: make(map[string]string)}
	for i := range memoryAccounts {
		mail.Accounts[memoryAccount(i)] = Password
	}
	return mail
}

// hold opens so many sessions, 16 at a time, and lets each idle.
func (g *Gateway) hold(t testing.TB, sessions int) []net.Conn {
	t.Helper()
	held := make([]net.Conn, sessions)
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range held {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			conn, r, err := g.dial(t, "")
			if err != nil {
				t.Errorf("session %d: %v", i, err)
				return
			}
			held[i] = conn
			if got := command(conn, r, "LOGIN "+quoted(memoryAccount(i))+" "+quoted(Password)); !accepted(got) {
				t.Errorf("session %d: LOGIN: %q", i, got)
				return
			}
			if line, err := idle(conn, r); err != nil || !strings.HasPrefix(line, "+") {
				t.Errorf("session %d: IDLE: %q, %v", i, line, err)
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() { hangUp(held) })
	if t.Failed() {
		t.FailNow()
	}
	return held
}

func idle(conn net.Conn, r *bufio.Reader) (line string, err error) {
	if _, err := io.WriteString(conn, "i IDLE\r\n"); err != nil {
		return "", err
	}
	return r.ReadString('\n')
}

func hangUp(held []net.Conn) {
	for _, conn := range held {
		if conn != nil {
			conn.Close()
		}
	}
}

// In the evening all users log out at once.
func TestMemoryComesBackWithinAMinuteAfterABurstOfSessions(t *testing.T) {
	t.Parallel()
	sessions := 1000
	if soak(t) > 0 {
		sessions = 5000
	}
	g := inFrontOf(t, memoryMail())
	g.Start(t)
	t.Cleanup(func() { g.Process.Kill() })
	before := g.Held(t)

	// Fingerprints take much more than sessions: each account has its own before the
	// burst, and what they took is given back first.
	hangUp(g.hold(t, memoryAccounts))
	Eventually(t, "the memory of fingerprints to come back", func() bool { return g.Held(t) < before+12<<20 })

	held := g.hold(t, sessions)
	if n := g.Metric(t, "congthu_sessions_live"); int(n) != sessions {
		t.Fatalf("%v sessions live, want %d", n, sessions)
	}
	during := g.Held(t)
	hangUp(held)
	Eventually(t, "all sessions to be over", func() bool { return g.Metric(t, "congthu_sessions_live") == 0 })

	// What the first logins load and fill for good, and what Go's runtime keeps for
	// as many connections as there ever were: it has tables that only grow.
	more := int64(12<<20 + sessions*3<<10)
	ended := time.Now()
	for g.Held(t) > before+more {
		if time.Since(ended) > time.Minute {
			t.Fatalf("%d KiB are held a minute after the last of %d sessions; %d KiB with them, %d KiB before them",
				g.Held(t)>>10, sessions, during>>10, before>>10)
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Logf("held: %d KiB before %d sessions, %d KiB with them, %d KiB %v after them", before>>10, sessions, during>>10, g.Held(t)>>10, time.Since(ended).Round(time.Second))
	if during < before+int64(sessions)<<11 {
		t.Errorf("%d KiB before and %d KiB with %d sessions: this measures nothing", before>>10, during>>10, sessions)
	}
}

// A gateway with a small memory limit stays within it, also while all users log in.
func TestTheMemoryLimitOfTheOperatorIsKeptUnderLoad(t *testing.T) {
	t.Parallel()
	most := make(map[string]int64)
	// With GOGC=off nothing but the limit makes Go collect; without it, the gateway's
	// own policy is in force as well.
	for _, environment := range []string{"GOGC=off", "GOMEMLIMIT=48MiB GOGC=off", "GOMEMLIMIT=48MiB"} {
		g := inFrontOf(t, memoryMail())
		g.StartWith(t, strings.Fields(environment)...)
		t.Cleanup(func() { g.Process.Kill() })
		for range 6 {
			hangUp(g.hold(t, 200))
			most[environment] = max(most[environment], g.Held(t))
		}
		g.Process.Kill()
		t.Logf("%s: %d KiB are held at most", environment, most[environment]>>10)
		// What Go does not count is some MiB, and its limit is a soft one.
		if held := most[environment]; strings.Contains(environment, "48MiB") && held > 64<<20 {
			t.Errorf("%s: %d KiB are held", environment, held>>10)
		}
	}
	if held := most["GOGC=off"]; held < 72<<20 {
		t.Errorf("%d KiB are held without a limit: this measures nothing", held>>10)
	}
}
