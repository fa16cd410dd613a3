package realtest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

// unusedSince makes the store say that nobody has logged in to an account since
// a time, which no client can make it say.
func unusedSince(t *testing.T, g *Gateway, user string, since time.Time) {
	t.Helper()
	o := MustSucceed(t, "", nil, "sqlite3", "-cmd", ".timeout 10000", filepath.Join(g.Dir, "data", "congthu.db"), fmt.Sprintf(
		"UPDATE accounts SET registered = %[1]d, first_login = %[1]d, last_login = %[1]d WHERE name = '%[2]s'; SELECT changes()",
		since.UnixMicro(), user))
	if strings.TrimSpace(o.Stdout) != "1" {
		t.Fatalf("%s is not in the store: %s", user, o.All())
	}
}

// sweepSoon sets the daily sweep to a minute that is about to come, waits for
// that minute, and for the end of the sweep.
func sweepSoon(t *testing.T, g *Gateway) {
	t.Helper()
	text, err := os.ReadFile(g.Config)
	if err != nil {
		t.Fatal(err)
	}
	rules := strings.Replace(string(text), "rules:\n", "rules:\n  dormancy: { sweep_at: \"HH:MM\" }\n", 1)
	zone := time.FixedZone("Asia/Ho_Chi_Minh", 7*60*60)
	for {
		at := time.Now().Add(10 * time.Second).Truncate(time.Minute).Add(time.Minute)
		writeFile(t, g.Config, strings.Replace(rules, "HH:MM", at.In(zone).Format("15:04"), 1), 0o600)
		reloads := strings.Count(g.LogText(), "the new configuration is in force")
		g.Reload()
		Eventually(t, "the reload", func() bool {
			return strings.Count(g.LogText(), "the new configuration is in force") > reloads
		})
		if time.Now().After(at) {
			continue // this machine is too slow for that
		}
		time.Sleep(time.Until(at)) // not for something to be done: for the time of day
		Eventually(t, "the sweep", func() bool { return lineHas(g.LogText(), "swept for dormant accounts") })
		return
	}
}

// Art. 5.3.c, from one end to the other: what the sweep of the day does to those
// who are logged in and to those who are not, what every client is told after
// it, and the way back.
func TestTheDailySweepRevokesDormantAccounts(t *testing.T) {
	t.Parallel()
	g, d := OwnCongthu(t, Setup{}), Dovecot(t)
	door, dormant, other := g.Door(), d.Account(t), d.Account(t)
	var reading, sending [2]*Dialogue
	for i, user := range []string{dormant, other} {
		var reply string
		if reading[i], reply = door.LoginIMAP(t, "", user, Password); !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
		if sending[i], reply = door.LoginSMTP(t, "", user, Password); !strings.HasPrefix(reply, "235") {
			t.Fatal(reply)
		}
		awaitPasswordSeen(t, g, user) // or that would be written later, as of now
	}
	unusedSince(t, g, dormant, auth.AddMonths(time.Now(), -13))
	unusedSince(t, g, other, auth.AddMonths(time.Now(), -11))
	sweepSoon(t, g)

	if rest := reading[0].Rest(); rest != "" {
		t.Errorf("the spliced session was ended with words: %q", rest)
	}
	if rest := sending[0].Rest(); !strings.HasPrefix(rest, "421 ") {
		t.Errorf("the submission session was ended with %q", rest)
	}
	if reply := reading[1].Command("b", "SELECT INBOX"); !strings.HasPrefix(reply, "OK") {
		t.Errorf("the session of an account unused for 11 months: %s", reply)
	}
	sending[1].MustReply("250", "NOOP")

	if o := g.Run(t, "account", "list", "--state", "revoked"); !strings.Contains(o.Stdout, dormant) || strings.Contains(o.Stdout, other) {
		t.Errorf("account list --state revoked: exit code %d: %s", o.Code, o.All())
	}
	_, events := g.API(t, http.MethodGet, "/events?account="+dormant, "")
	if strings.Count(events, "account.revoked") != 1 || !strings.Contains(events, "not logged in to since") {
		t.Errorf("the audit log: %s", events)
	}
	_, metrics := Get(t, g.URL("/metrics"))
	for _, want := range []string{`congthu_accounts{state="revoked"} 1`, `congthu_revocations_total{cause="dormancy"} 1`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no metric %s", want)
		}
	}
	if !lineHas(g.LogText(), "swept for dormant accounts", `"revoked":1`) {
		t.Error("the log does not tell how many were revoked")
	}

	// Only a client with the right password learns that the account is revoked.
	if got := tryIMAP(t, door, "", dormant, "sai"); got != imapWrong {
		t.Errorf("a wrong password: %s", got)
	}
	const imapRevoked, smtpRevoked = "NO [CONTACTADMIN]", "525 5.7.13"
	for name, try := range map[string]func() (code, reply string){
		"imaplib": func() (string, string) { return pythonTries(t, door, FreshAddress(), "imaps", dormant, Password, "") },
		"smtplib": func() (string, string) { return pythonTries(t, door, FreshAddress(), "smtps", dormant, Password, "") },
		"curl imaps": func() (string, string) {
			return curlTries(t, door, FreshAddress(), "imaps", dormant, Password, "")
		},
		"curl smtp": func() (string, string) { return curlTries(t, door, FreshAddress(), "smtp", dormant, Password, "") },
	} {
		want := imapRevoked
		if strings.Contains(name, "smtp") {
			want = smtpRevoked
		}
		if got, reply := try(); got != want || !strings.Contains(reply, "hotro@") {
			t.Errorf("%s: %q", name, reply)
		}
	}
	// The reply arrives whole and the connection is as good as before, every time.
	for i := range 20 {
		c, reply := door.LoginSMTP(t, "", dormant, Password)
		if !strings.HasPrefix(reply, smtpRevoked) {
			t.Fatalf("try %d: %q", i, reply)
		}
		c.MustReply("250", "NOOP")
		c.MustReply("530", "MAIL FROM:<"+dormant+">")
		c.MustReply("221", "QUIT")
		if rest := c.Rest(); rest != "" {
			t.Fatalf("try %d: after QUIT: %q", i, rest)
		}
	}

	if o := g.Run(t, "account", "restore", dormant, "--reason", "back from leave"); o.Code != 0 {
		t.Errorf("account restore: exit code %d: %s", o.Code, o.All())
	}
	if got := trySMTP(t, door, "", dormant, Password); got != smtpAccepted {
		t.Errorf("restored: %s", got)
	}
	if o := g.Run(t, "audit", "verify"); o.Code != 0 {
		t.Errorf("audit verify: exit code %d: %s", o.Code, o.All())
	}
}
