package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestPythonPoplibSeesTheSame(t *testing.T) {
	for _, implicit := range []bool{true, false} {
		t.Run(fmt.Sprintf("implicit TLS %v", implicit), func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) string {
				fill(t, user)
				return Anonymous(python(t, "pop3_tour.py", door, user, map[string]any{"implicit": implicit}))
			})
		})
	}
}

func TestCurlFetchesTheSameMail(t *testing.T) {
	for _, scheme := range []string{"pop3", "pop3s"} {
		t.Run(scheme, func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) string {
				fill(t, user)
				var all strings.Builder
				for _, path := range []string{"", "1", "2"} {
					for _, how := range []string{"AUTH=PLAIN", "AUTH=LOGIN"} { // USER and PASS are poplib's
						fmt.Fprintf(&all, "%s %s\n%s\n", path, how, MustSucceed(t, "", nil, append(curl(t, door, scheme, user, path), "--login-options", how)...).Stdout)
					}
				}
				return Anonymous(all.String())
			})
		})
	}
}

// fetchmail asks for the capabilities, upgrades by STLS, and fetches what is new.
func TestFetchmailFetchesTheSameMail(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) string {
		fill(t, user)
		dir := newDir(t, "f")
		into := filepath.Join(dir, "mbox")
		rc := fmt.Sprintf("poll localhost service %d protocol pop3 timeout 60\n  user %q password %q sslproto \"auto\" sslcertck sslcertfile %q keep fetchall mda \"cat >> %s\"\n",
			door.POP3, user, Password, TheAuthority(t).File, into)
		file := filepath.Join(dir, "fetchmailrc")
		writeFile(t, file, rc, 0o600)
		MustSucceed(t, "", []string{"HOME=" + dir, "FETCHMAILHOME=" + dir}, "fetchmail", "-f", file, "--nobounce", "--nosyslog")
		text, err := os.ReadFile(into)
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for line := range strings.Lines(string(text)) { // but for what says how it came
			if strings.HasPrefix(line, "Subject:") || strings.Contains(line, "dung") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	})
}

// Dovecot judges six of a hundred guesses over three protocols, and the client of the
// seventh reads that the mailbox is locked.
func TestGuessesOverThreeProtocolsAreJudgedSixTimes(t *testing.T) {
	g := OwnCongthu(t, Setup{Extra: "throttle: { enabled: false }"})
	d := Dovecot(t)
	user := d.Account(t)
	door := g.Door()
	var guesses sync.WaitGroup
	slots := make(chan struct{}, 34)
	for i := range 100 {
		scheme := []string{"imaps", "smtps", "pop3s"}[i%3]
		slots <- struct{}{}
		guesses.Go(func() {
			defer func() { <-slots }()
			argv := curl(t, door, scheme, user, "")
			for j, word := range argv {
				if word == user+":"+Password {
					argv[j] = fmt.Sprintf("%s:wrong%d", user, i)
				}
			}
			if scheme == "smtps" {
				argv = append(argv, "--mail-from", user, "--mail-rcpt", user, "-T", "-")
			}
			if o := Command(t, "", nil, argv...); o.Code == 0 {
				t.Errorf("a wrong password was accepted over %s", scheme)
			}
		})
	}
	guesses.Wait()
	// Postfix asks Dovecot, so its log has the guesses over all three.
	Eventually(t, "Dovecot to have written its log", func() bool { return d.Verdicts(user) >= 6 })
	if n := d.Verdicts(user); n != 6 {
		t.Errorf("Dovecot judged %d wrong passwords, want 6", n)
	}
	o := Command(t, "", nil, append(curl(t, door, "pop3s", user, ""), "-v")...)
	if o.Code == 0 || !strings.Contains(o.Stderr, "-ERR [SYS/PERM] ") {
		t.Errorf("exit code %d\n%s", o.Code, o.Stderr)
	}
}

// Dovecot says by AUTH-RESP-CODE which password is wrong, and so does congthu.
func TestAWrongPasswordOverPOP3(t *testing.T) {
	user := Dovecot(t).Account(t)
	fill(t, user)
	said := python(t, "pop3_tour.py", Congthu(t).Door(), user, map[string]any{"implicit": true, "wrong": []string{"sai", "sai nua"}})
	if strings.Count(said, `["wrong", "b'-ERR [AUTH"]`) != 2 {
		t.Errorf("%s", said)
	}
}
