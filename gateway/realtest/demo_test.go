package realtest

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// The demo's addresses are fixed, so that people can script it.
var demoDoor = Door{Name: "demo", IMAP: 1143, IMAPS: 1993, Submission: 1587, Submissions: 1465, POP3: 1110, POP3S: 1995}

const demoAdmin = "http://127.0.0.1:8080"

// startDemo starts congthu demo and waits for the line "ready".
func startDemo(t *testing.T, dir string, flags ...string) *Process {
	t.Helper()
	for _, port := range []int{demoDoor.IMAP, demoDoor.IMAPS, demoDoor.Submission, demoDoor.Submissions, demoDoor.POP3, demoDoor.POP3S, 8080} {
		l, err := net.Listen("tcp", addr(port))
		if err != nil {
			t.Fatalf("the demo needs port %d, which something else on this machine uses: %v", port, err)
		}
		l.Close()
	}
	log := filepath.Join(t.TempDir(), "demo.log")
	tailOnFailure(t, log)
	p := start(t, "demo", log, append([]string{Binary(t), "demo", "--dir", dir}, flags...)...)
	t.Cleanup(p.Kill)
	Eventually(t, "the demo to say ready", func() bool {
		if code, ended := p.Exited(); ended {
			t.Fatalf("the demo ended with code %d:\n%s", code, readFrom(log, 0))
		}
		return regexp.MustCompile(`(?m)^ready\s*$`).MatchString(readFrom(log, 0))
	})
	return p
}

// demoTLS is trust in the certificate that the demo wrote down.
func demoTLS(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "cert.pem")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is no PEM", file)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return file
}

// demoCurl logs in at a door of the demo with curl and returns the code of the
// reply and everything the server said.
func demoCurl(t *testing.T, ca, scheme, user, password string) (string, string) {
	t.Helper()
	port := map[string]int{"imap": 1143, "imaps": 1993, "smtp": 1587, "smtps": 1465}[scheme]
	o := Command(t, "", nil, "curl", "-sv", "--cacert", ca, "--ssl-reqd", "--max-time", "60", "-u", user+":"+password, "-X", "NOOP",
		fmt.Sprintf("%s://localhost:%d/", scheme, port))
	last := ""
	for line := range strings.Lines(o.Stderr) {
		said, ours := strings.CutPrefix(strings.TrimSpace(line), "< ")
		if !ours {
			continue
		}
		if scheme == "imap" || scheme == "imaps" {
			if tag, rest, _ := strings.Cut(said, " "); strings.HasPrefix(tag, "A") && (strings.HasPrefix(rest, "NO") || strings.HasPrefix(rest, "OK") && last == "" && strings.Contains(o.Stderr, "AUTHENTICATE")) && !strings.HasPrefix(last, "NO") {
				last = rest
			}
		} else if strings.HasPrefix(said, "235") || last == "" && said >= "400" && said < "600" {
			last = said
		}
	}
	if o.Code != 0 && !strings.HasPrefix(last, "NO") && (last == "" || last < "4") {
		t.Errorf("curl %s %s: exit code %d, last reply %q\n%s", scheme, user, o.Code, last, o.Stderr)
	}
	return code(last), o.Stderr
}

// demoAPI asks the demo's admin listener with the demo's token.
func demoAPI(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	return request(t, method, demoAdmin+"/api/v1"+path, body, map[string]string{"Authorization": "Bearer demo"})
}

// The demo is the first thing a newcomer runs: every scene that it promises is
// played, and it goes on where it stopped.
func TestTheDemoKeepsItsPromises(t *testing.T) {
	need(t)
	const accepted = "235 2.0.0" // the reply of the demo's own mail server
	dir := t.TempDir()
	demo := startDemo(t, dir)
	ca := demoTLS(t, dir)
	said := readFrom(demo.Log, 0)
	for _, want := range []string{"127.0.0.1:1143", "127.0.0.1:1993", "127.0.0.1:1587", "127.0.0.1:1465", "127.0.0.1:1110", "127.0.0.1:1995", "127.0.0.1:8080", "active@congthu.test", Password, "demo"} {
		if !strings.Contains(said, want) {
			t.Errorf("the demo does not print %q", want)
		}
	}

	for _, scene := range []struct{ user, password, imap, smtp string }{
		{"active", Password, "OK", accepted},
		{"active", "sai", imapWrong, smtpWrong},
		{"expiring", Password, "OK", accepted},
		{"expired", Password, "NO [EXPIRED]", smtpWrong},
		{"expired", "sai", imapWrong, smtpWrong},
		{"dormant", "sai", imapWrong, smtpWrong},
		{"dormant", Password, imapLocked, smtpLocked},
		{"locked", Password, imapLocked, smtpLocked},
		{"stale", "Mat-khau-0", imapWrong, smtpWrong},
		{"stale", Password, "OK", accepted},
	} {
		user := scene.user + "@" + Domain
		for _, scheme := range []string{"imap", "imaps"} {
			if got, all := demoCurl(t, ca, scheme, user, scene.password); !strings.HasPrefix(got, scene.imap) {
				t.Errorf("%s %s with %s: %s, want %s\n%s", scheme, user, scene.password, got, scene.imap, all)
			}
		}
		for _, scheme := range []string{"smtp", "smtps"} {
			if got, all := demoCurl(t, ca, scheme, user, scene.password); got != scene.smtp {
				t.Errorf("%s %s with %s: %s, want %s\n%s", scheme, user, scene.password, got, scene.smtp, all)
			}
		}
		if scene.password == "sai" {
			continue // four wrong passwords are enough
		}
		for how, want := range map[string]string{"imaps": scene.imap, "imap-plain": scene.imap, "smtps": scene.smtp} {
			o := pythonOutput(t, "login.py", demoDoor, user, scene.password, map[string]any{"door": how, "ca": ca})
			var answer struct{ Code, Text string }
			if err := json.Unmarshal([]byte(o.Stdout), &answer); err != nil {
				t.Errorf("%s %s with %s: %v\n%s", how, user, scene.password, err, o.All())
			} else if got := code(answer.Code + " " + answer.Text); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s with %s: %s, want %s", how, user, scene.password, got, want)
			}
		}
	}

	t.Run("the previous password counts nothing", func(t *testing.T) {
		each(8, func(int) { demoCurl(t, ca, "imaps", "stale@"+Domain, "Mat-khau-0") })
		if got, _ := demoCurl(t, ca, "imaps", "stale@"+Domain, Password); !strings.HasPrefix(got, "OK") {
			t.Errorf("stale with the current password: %s", got)
		}
	})

	t.Run("a password about to run out is announced once a day", func(t *testing.T) {
		// The scenes above have logged in already, so it is all said by now.
		if _, all := demoCurl(t, ca, "imaps", "expiring@"+Domain, Password); strings.Contains(all, "[ALERT]") {
			t.Errorf("announced a second time:\n%s", all)
		}
		if _, body := demoAPI(t, http.MethodGet, "/accounts/expiring@"+Domain, ""); !strings.Contains(body, `"expiring"`) {
			t.Errorf("expiring: %s", body)
		}
	})

	t.Run("a sent message can be read", func(t *testing.T) {
		user := "active@" + Domain
		text := letter(user, user, "gui thu")
		MustSucceed(t, text, nil, "curl", "-sS", "--cacert", ca, "--ssl-reqd", "-u", user+":"+Password,
			"--mail-from", user, "--mail-rcpt", user, "-T", "-", "smtp://localhost:1587/client.example")
		var index string
		Eventually(t, "the message", func() bool {
			o := Command(t, "", nil, "curl", "-sS", "--cacert", ca, "-u", user+":"+Password, "imaps://localhost:1993/INBOX?SUBJECT%20%22gui%20thu%22")
			if m := regexp.MustCompile(`\* SEARCH (\d+)`).FindStringSubmatch(o.Stdout); m != nil {
				index = m[1]
			}
			return index != ""
		})
		o := MustSucceed(t, "", nil, "curl", "-sS", "--cacert", ca, "-u", user+":"+Password, "imaps://localhost:1993/INBOX;MAILINDEX="+index)
		_, body, _ := strings.Cut(text, "\r\n\r\n")
		if !strings.Contains(o.Stdout, body) {
			t.Errorf("came back changed: %q", o.Stdout)
		}
	})

	t.Run("somebody else's name is refused", func(t *testing.T) {
		user, other := "active@"+Domain, "stale@"+Domain
		o := Command(t, letter(other, user, "gia mao"), nil, "curl", "-sS", "--cacert", ca, "-u", user+":"+Password,
			"--mail-from", user, "--mail-rcpt", user, "-T", "-", "smtps://localhost:1465/client.example")
		if o.Code == 0 {
			t.Errorf("a forged From went through: %s", o.All())
		}
	})

	t.Run("metrics", func(t *testing.T) {
		status, body := Get(t, demoAdmin+"/metrics")
		if status != http.StatusOK || !strings.Contains(body, "congthu_") || strings.Contains(body, "@") {
			t.Errorf("metrics: %d, %d octets", status, len(body))
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, body := Get(t, demoAdmin+path); status != http.StatusOK {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	})

	t.Run("unlock with the demo's token", func(t *testing.T) {
		user := "locked@" + Domain
		if status, _ := Get(t, demoAdmin+"/api/v1/accounts/"+user); status != http.StatusUnauthorized {
			t.Errorf("without a token: %d", status)
		}
		if status, body := demoAPI(t, http.MethodPost, "/accounts/"+user+"/unlock", `{"reason": "goi tu so co quan"}`); status != http.StatusOK {
			t.Fatalf("unlock: %d %s", status, body)
		}
		if got, all := demoCurl(t, ca, "imaps", user, Password); !strings.HasPrefix(got, "OK") {
			t.Errorf("after the unlock: %s\n%s", got, all)
		}
		if status, body := demoAPI(t, http.MethodPost, "/accounts/dormant@"+Domain+"/restore", `{"reason": "nghi thai san"}`); status != http.StatusOK {
			t.Fatalf("restore: %d %s", status, body)
		}
		// A user who was away for 13 months has an old password as well.
		if got, all := demoCurl(t, ca, "imaps", "dormant@"+Domain, Password); got != "NO [EXPIRED]" {
			t.Errorf("after the restore: %s\n%s", got, all)
		}
		for _, name := range []string{"dormant", "expired"} {
			user := name + "@" + Domain
			if status, body := demoAPI(t, http.MethodPost, "/accounts/"+user+"/grace", `{"reason": "di cong tac", "days": 7}`); status != http.StatusOK {
				t.Fatalf("grace: %d %s", status, body)
			}
			if got, all := demoCurl(t, ca, "imaps", user, Password); !strings.HasPrefix(got, "OK") {
				t.Errorf("%s in grace: %s\n%s", name, got, all)
			}
		}
	})

	t.Run("started again it goes on where it was", func(t *testing.T) {
		user := "active@" + Domain
		each(6, func(i int) { demoCurl(t, ca, "imaps", user, fmt.Sprint("sai-", i)) })
		if got, _ := demoCurl(t, ca, "smtps", user, Password); got != smtpLocked {
			t.Fatalf("after six wrong passwords: %s", got)
		}
		before := readFrom(ca, 0)
		demo.Stop()
		startDemo(t, dir)
		if readFrom(ca, 0) != before {
			t.Error("the certificate was made anew")
		}
		if got, _ := demoCurl(t, ca, "imaps", user, Password); got != imapLocked {
			t.Errorf("the lock: %s", got)
		}
		if got, _ := demoCurl(t, ca, "imaps", "locked@"+Domain, Password); !strings.HasPrefix(got, "OK") {
			t.Errorf("the unlock: %s", got)
		}
	})
}

// The first login of the day says that the password runs out, at one of the
// connections that a mail program opens.
func TestTheDemoAnnouncesAPasswordThatRunsOutOnce(t *testing.T) {
	need(t)
	dir := t.TempDir()
	startDemo(t, dir)
	ca := demoTLS(t, dir)
	var lock sync.Mutex
	alerts := 0
	each(5, func(int) {
		_, all := demoCurl(t, ca, "imaps", "expiring@"+Domain, Password)
		lock.Lock()
		defer lock.Unlock()
		if strings.Contains(all, "[ALERT]") {
			alerts++
		}
	})
	if alerts != 1 {
		t.Errorf("announced %d times, want once", alerts)
	}
}

// startDemoElsewhere starts a demo in a directory and at ports of its own.
func startDemoElsewhere(t *testing.T) (demo *Process, dir string, ports [7]int) {
	t.Helper()
	dir = t.TempDir()
	argv := []string{Binary(t), "demo", "--dir", dir}
	for i, flag := range []string{"--imap-address", "--imaps-address", "--submission-address", "--submissions-address", "--pop3-address", "--pop3s-address", "--admin-address"} {
		ports[i] = freePort(t)
		argv = append(argv, flag, addr(ports[i]))
	}
	log := filepath.Join(dir, "demo.log")
	demo = start(t, "demo", log, argv...)
	Eventually(t, "the demo to say ready", func() bool { return strings.Contains(readFrom(log, 0), "\nready\n") })
	return demo, dir, ports
}

// The lines that the demo prints work as they are copied: a mail is sent, and read over
// IMAP and over POP3.
func TestTheLinesThatTheDemoPrintsSendAndReadAMail(t *testing.T) {
	need(t)
	demo, _, ports := startDemoElsewhere(t)
	printed := readFrom(demo.Log, 0)
	line := func(with string) string {
		t.Helper()
		for line := range strings.Lines(printed) {
			if strings.Contains(line, with) {
				return line
			}
		}
		t.Fatalf("no line has %q:\n%s", with, printed)
		return ""
	}
	MustSucceed(t, "", nil, "sh", "-c", line("printf 'From:")+line("smtps://"+addr(ports[3])))
	for _, url := range []string{"imaps://" + addr(ports[1]) + "/INBOX;MAILINDEX=2", "pop3s://" + addr(ports[5]) + "/2"} {
		if o := MustSucceed(t, "", nil, "sh", "-c", line(url)); !strings.Contains(o.Stdout, "Subject: Xin chao") || !strings.Contains(o.Stdout, "Xin chao quy vi.") {
			t.Errorf("%s: %s", url, o.All())
		}
	}
	if o := MustSucceed(t, "", nil, "sh", "-c", line("imaps://"+addr(ports[1])+"/ ")); !strings.Contains(o.Stdout, "LIST") {
		t.Errorf("the folders: %s", o.All())
	}
}

// The login at which an account turns out to be revoked ends the account's
// sessions; it must not end its own connection before the answer is read.
func TestTheLoginThatFindsAnAccountRevokedIsTold(t *testing.T) {
	need(t)
	for range 4 { // each demo has one such login
		demo, dir, ports := startDemoElsewhere(t)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(readFrom(demoTLS(t, dir), 0)))
		d := Dial(t, ports[1], "")
		secured := tls.Client(d.Conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})
		d.Conn, d.r = secured, bufio.NewReader(secured)
		d.Hear()
		d.Say("a LOGIN dormant@" + Domain + " " + Password + "\r\n")
		if line, err := d.Line(); !strings.HasPrefix(line, "* NO [ALERT] ") {
			t.Errorf("%q (%v)", line, err)
		}
		if line, err := d.Line(); !strings.HasPrefix(line, "a NO [CONTACTADMIN]") {
			t.Errorf("%q (%v)", line, err)
		}
		demo.Kill()
	}
}

// A port that is taken is an error that says how to move it.
func TestTheDemoSaysWhichFlagMovesATakenPort(t *testing.T) {
	need(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := func() string { return addr(freePort(t)) }
	for _, flag := range []string{"--imap-address", "--imaps-address", "--submission-address", "--submissions-address", "--pop3-address", "--pop3s-address", "--admin-address"} {
		addresses := map[string]string{
			"--imap-address": free(), "--imaps-address": free(), "--submission-address": free(), "--submissions-address": free(), "--pop3-address": free(), "--pop3s-address": free(), "--admin-address": free(),
		}
		addresses[flag] = taken.Addr().String()
		argv := []string{Binary(t), "demo", "--dir", t.TempDir()}
		for name, value := range addresses {
			argv = append(argv, name, value)
		}
		o := Command(t, "", nil, argv...)
		if o.Code == 0 || !strings.Contains(o.All(), flag) {
			t.Errorf("exit code %d, and %s is not named:\n%s", o.Code, flag, o.All())
		}
	}
}
