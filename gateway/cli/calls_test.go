package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/admin"
	"congthu/gateway/demo"
)

// What support staff read while a user calls, from a running gateway with a mail server
// behind it. Each call has one file in testdata/calls, with the commands and their
// output. Words replace times, ports and numbers of events.

// desk is a gateway, a mail server and a member of support staff on the telephone.
type desk struct {
	*process
	imap string // the gateway's address for logins
	// transcript is the text on the screen.
	transcript bytes.Buffer
}

// call plays a call in each language of the support staff.
func call(t *testing.T, play func(t *testing.T)) {
	for language, locale := range map[string]string{"en": "C.UTF-8", "vi": "vi_VN.UTF-8"} {
		t.Run(language, func(t *testing.T) {
			t.Setenv("LC_ALL", locale)
			t.Setenv("SUDO_USER", "")
			play(t)
		})
	}
}

const deskPassword = "Mat-khau-1"

// newDesk runs a gateway. accounts exist before the start; up says whether the mail
// server runs.
func newDesk(t *testing.T, up bool, accounts ...func(*auth.Account, time.Time)) *desk {
	t.Helper()
	upstream := "127.0.0.1:1"
	if up {
		upstream = deskServer(t)
	}
	s := newSite(t, "")
	text := fmt.Sprintf(`domain: example.vn
domains: [tinh.example.vn]
hostname: localhost
data_dir: .
tls: { certificate: cert.pem, key: key.pem }
imap:
  listen: [{ address: "127.0.0.1:0", tls: starttls }]
  upstream: { address: %q, tls: none }
smtp: { listen: [] }
rules: { password: { change_url: "https://mail.example.vn/doi-mat-khau" } }
throttle: { accounts: 4 }
store: { last_login_window: 0s }
`, upstream)
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.prepare = func(ctx context.Context, store auth.Store, _ auth.Fingerprinter) error {
		now := time.Now().UTC().Truncate(time.Microsecond)
		for _, change := range accounts {
			var made auth.Account
			change(&made, now)
			if _, err := store.Update(ctx, made.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
				*a = made
				return nil, true
			}); err != nil {
				return err
			}
		}
		return nil
	}
	d := &desk{process: s.run()}
	d.imap = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(d.log.String()[strings.Index(d.log.String(), "listeners="):])
	return d
}

// deskServer runs a mail server at which all accounts have the same password.
func deskServer(t *testing.T) (address string) {
	t.Helper()
	imap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	smtp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &demo.MailServer{Passwords: map[string]string{}}
	for _, local := range []string{"nguyenvan.an", "tranthi.binh", "vanthu.xmh"} {
		server.Passwords[local+"@example.vn"] = deskPassword
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, imap, smtp) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return imap.Addr().String()
}

// person is an account that logged in yesterday.
func person(local string, more ...func(*auth.Account, time.Time)) func(*auth.Account, time.Time) {
	return func(a *auth.Account, now time.Time) {
		a.Name = auth.Name(local + "@example.vn")
		a.Registered = auth.AddMonths(now, -18)
		a.FirstLogin, a.LastLogin = a.Registered, now.AddDate(0, 0, -1)
		a.Password.Since = now.AddDate(0, 0, -20)
		for _, f := range more {
			f(a, now)
		}
	}
}

// logIn logs in as a mail program does, and returns the connection and the answer.
func (d *desk) logIn(program, local, password string) (conn net.Conn, answer string) {
	d.t.Helper()
	conn, err := net.Dial("tcp", d.imap)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(conn)
	say := func(tag, command string) string {
		fmt.Fprintf(conn, "%s %s\r\n", tag, command)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				d.t.Fatal(err)
			}
			if strings.HasPrefix(line, tag+" ") {
				return line
			}
		}
	}
	say("a", "STARTTLS")
	conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	r = bufio.NewReader(conn)
	if program != "" {
		say("b", fmt.Sprintf("ID (\"name\" %q)", program))
	}
	return conn, say("c", fmt.Sprintf("LOGIN %s %s", local, password))
}

// wrong enters a wrong password.
func (d *desk) wrong(program, local, password string) {
	d.t.Helper()
	conn, answer := d.logIn(program, local, password)
	defer conn.Close()
	if !strings.HasPrefix(answer, "c NO") {
		d.t.Errorf("%s", answer)
	}
}

// types runs a command of support staff and records its output.
func (d *desk) types(code int, args ...string) {
	d.t.Helper()
	var out, err bytes.Buffer
	full := append(args[:len(args):len(args)], "--socket", d.path("admin.sock"))
	got := Run(context.Background(), full, strings.NewReader(""), &out, &err)
	if got != code {
		d.t.Errorf("%v: exit code %d, want %d: %s%s", args, got, code, out.String(), err.String())
	}
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = quote(a)
	}
	fmt.Fprintf(&d.transcript, "$ congthu %s\n%s", strings.Join(words, " "), out.String())
	for line := range strings.Lines(err.String()) {
		d.transcript.WriteString("! " + line)
	}
	fmt.Fprintf(&d.transcript, "= %d\n\n", got)
}

// changing matches what differs from run to run.
var changing = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(` --socket \S*admin\.sock`), ""},
	{regexp.MustCompile(`\S*admin\.sock`), "SOCKET"},
	{regexp.MustCompile(`\([^ ()]*congthu\.db\)`), "(DATABASE)"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d \+07`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d ngày \d\d/\d\d/\d{4}`), "LÚC"},
	{regexp.MustCompile(`\w+day \d+ \w+ \d{4} \d\d:\d\d`), "DAY AND TIME"},
	{regexp.MustCompile(`\d\d:\d\d (Chủ nhật|thứ \S+), ngày \d\d/\d\d/\d{4}`), "NGÀY GIỜ"},
	{regexp.MustCompile(`\b\d\d/\d\d/\d{4}\b`), "NGÀY"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\d\b`), "DATE"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`uid:\d+ \([^)]*\)`), "uid:0 (root)"},
	{regexp.MustCompile("quản trị viên " + regexp.QuoteMeta(currentUser()) + `\b`), "quản trị viên root"},
	{regexp.MustCompile(`\d+ days?( and \d+ hours?)? from now`), "N days from now"},
	{regexp.MustCompile(`còn \d+ ngày( \d+ giờ)?`), "còn N ngày"},
	{regexp.MustCompile(` {2,}`), "  "},
	{regexp.MustCompile(`(?m)^  \d+  TIME`), "  N  TIME"},
	{regexp.MustCompile(`(?m)^  \d+  LÚC`), "  N  LÚC"},
}

// screen compares the text on the screen with a file.
func (d *desk) screen(name string) {
	d.t.Helper()
	got := d.transcript.String()
	for _, c := range changing {
		got = c.pattern.ReplaceAllString(got, c.word)
	}
	language := "en"
	if spoken() == vietnamese {
		language = "vi"
	}
	file := filepath.Join("testdata", "calls", language+"-"+name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		d.t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

// 1 and 2. A user has entered wrong passwords; after the unlock, a telephone locks the
// account again.
func TestACallFromAUserWhoIsLockedAndLockedAgainByATelephone(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an"))
		for i := range 6 {
			d.wrong("Thunderbird", "nguyenvan.an", fmt.Sprint("sai-", i))
		}
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(0, "account", "unlock", "nguyenvan.an", "--reason", "called, identity checked")
		d.screen("1-locked")
		d.transcript.Reset()
		for range 6 {
			d.wrong("K-9 Mail", "nguyenvan.an", "mat-khau-cu")
		}
		d.wrong("K-9 Mail", "nguyenvan.an", "mat-khau-cu") // it keeps trying
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(0, "account", "unlock", "nguyenvan.an", "--reason", "the telephone is switched off now")
		d.types(0, "account", "show", "nguyenvan.an")
		d.screen("2-locked-again")
	})
}

// 3. The password has expired.
func TestACallFromAUserWhosePasswordHasRunOut(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an", func(a *auth.Account, now time.Time) { a.Password.Since = auth.AddMonths(now, -4) }))
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(1, "account", "grace", "nguyenvan.an", "--days", "9", "--reason", "on a mission")
		d.types(0, "account", "grace", "nguyenvan.an", "--days", "3", "--reason", "on a mission")
		d.types(0, "account", "show", "nguyenvan.an")
		d.screen("3-run-out")
	})
}

// 4. The password will expire soon.
func TestACallFromAUserWhosePasswordRunsOutSoon(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an", func(a *auth.Account, now time.Time) { a.Password.Since = auth.AddMonths(now, -3).AddDate(0, 0, 4) }))
		d.types(0, "account", "show", "nguyenvan.an")
		d.screen("4-runs-out-soon")
	})
}

// 5. The account was revoked.
func TestACallFromAUserWhoseAccountIsRevoked(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an", func(a *auth.Account, now time.Time) {
			a.LastLogin = auth.AddMonths(now, -14)
			a.Password.Since = time.Time{}
			a.Revocation = auth.Mark{At: auth.AddMonths(now, -1), By: auth.ByGateway, Reason: "no login for more than 12 months"}
		}))
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(0, "account", "restore", "nguyenvan.an", "--reason", "request 123/CV of the agency")
		d.types(0, "account", "show", "nguyenvan.an")
		d.screen("5-revoked")
	})
}

// 6. A new user, whose mailbox was imported.
func TestACallFromAUserWhoHasNeverLoggedIn(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true)
		list := d.path("list.csv")
		if err := os.WriteFile(list, []byte("address,unit\nvanthu.xmh@example.vn,UBND xã Minh Hưng\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := d.command("import", "accounts", list, "--reason", "newcomers", "--socket", d.path("admin.sock")); code != 0 {
			t.Fatal(out)
		}
		d.types(0, "account", "show", "vanthu.xmh")
		if _, answer := d.logIn("Thunderbird", "vanthu.xmh", deskPassword); !strings.HasPrefix(answer, "c OK") {
			t.Fatal(answer)
		}
		d.types(0, "account", "show", "vanthu.xmh")
		d.screen("6-never-logged-in")
	})
}

// 7. The address is misspelt.
func TestACallWithAMisspeltAddress(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an"), person("nguyenvan.anh"), person("tranthi.binh"))
		for _, spelling := range []string{"nguyevan.an@example.vn", "Nguyễn Văn.An@example.vn", "nguyenvan.an@tinh.example.vn", "tranthi.bihn@exemple.vn", "somebody.else@example.vn"} {
			code := 0
			if strings.Contains(spelling, "exemple") || strings.Contains(spelling, " ") {
				code = 1
			}
			d.types(code, "account", "show", spelling)
		}
		d.types(1, "account", "lock", "nguyevan.an@example.vn", "--reason", "telephone stolen")
		d.types(1, "account", "unlock", "nguyevan.an@example.vn", "--reason", "called")
		d.screen("7-misspelt")
	})
}

// 8. The source of an office is refused.
func TestACallFromAnOfficeThatIsThrottled(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an"))
		for i := range 8 {
			d.wrong("", fmt.Sprintf("khach.%d", i), "sai")
		}
		d.wrong("Outlook", "nguyenvan.an", deskPassword)
		d.types(0, "account", "show", "nguyenvan.an")
		d.screen("8-throttled")
	})
}

// 9. The mail server is down.
func TestACallWhileTheMailServerIsDown(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, false, person("nguyenvan.an"))
		d.eventually("the mail server is seen to be away", func() bool {
			status, body := d.get("/readyz")
			return status == 503 && !strings.Contains(body, admin.ErrNotProbed.Error())
		})
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(1, "health", "--ready")
		d.screen("9-server-down")
	})
}

// 9, second case. The gateway has lost its store, or has ended.
func TestACallWhileTheGatewayHasAFault(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an"))
		d.remove("congthu.db")
		d.eventually("the store is seen to be away", func() bool {
			status, _ := d.get("/api/v1/accounts/nguyenvan.an")
			return status == 503
		})
		d.types(1, "account", "show", "nguyenvan.an")
		d.eventually("the gateway is not ready", func() bool {
			status, _ := d.get("/readyz")
			return status == 503
		})
		d.types(1, "health", "--ready")
		d.stop()
		d.types(1, "account", "show", "nguyenvan.an")
		d.screen("9-gateway-down")
	})
}

// 10. A telephone was stolen.
func TestACallFromAUserWhoseTelephoneWasStolen(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true, person("nguyenvan.an"))
		conn, answer := d.logIn("K-9 Mail", "nguyenvan.an", deskPassword)
		if !strings.HasPrefix(answer, "c OK") {
			t.Fatal(answer)
		}
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(0, "account", "lock", "nguyenvan.an", "--reason", "telephone stolen")
		if _, err := bufio.NewReader(conn).ReadString('x'); err == nil {
			t.Error("the session goes on")
		}
		d.eventually("the session has ended", func() bool {
			_, body := d.get("/api/v1/accounts/nguyenvan.an")
			return strings.Contains(body, `"sessions":0`)
		})
		d.types(0, "account", "show", "nguyenvan.an")
		d.types(0, "account", "unlock", "nguyenvan.an", "--reason", "new password set")
		d.screen("10-stolen")
	})
}

// 10, second case. The mailbox was never logged in to through the gateway.
func TestACallAboutAStolenTelephoneWithAMailboxThatIsNotKnown(t *testing.T) {
	call(t, func(t *testing.T) {
		d := newDesk(t, true)
		d.types(0, "account", "show", "son")
		d.types(1, "account", "lock", "son@example.vn", "--reason", "telephone stolen")
		d.screen("10-stolen-unknown")
	})
}
