package realtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

func TestMain(m *testing.M) { Main(m) }

// python runs a script of testdata at a door and returns what it printed.
func python(t *testing.T, script string, door Door, user string, more map[string]any) string {
	t.Helper()
	o := pythonOutput(t, script, door, user, Password, more)
	if o.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s\n%s", script, o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

func pythonOutput(t *testing.T, script string, door Door, user, password string, more map[string]any) Output {
	t.Helper()
	args := map[string]any{
		"imap": door.IMAP, "imaps": door.IMAPS, "submission": door.Submission, "submissions": door.Submissions, "pop3": door.POP3, "pop3s": door.POP3S,
		"ca": TheAuthority(t).File, "user": user, "password": password, "from": FreshAddress(),
	}
	for name, value := range more {
		args[name] = value
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return Python(t, script, string(encoded))
}

func TestPythonImaplibSeesTheSame(t *testing.T) {
	for _, how := range []string{"login", "plain", "sasl-login"} {
		for _, implicit := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, implicit TLS %v", how, implicit), func(t *testing.T) {
				BothWays(t, func(t *testing.T, door Door, user string) string {
					return Anonymous(python(t, "imap_tour.py", door, user, map[string]any{"how": how, "implicit": implicit}))
				})
			})
		}
	}
}

func TestPythonSmtplibSeesTheSame(t *testing.T) {
	for _, implicit := range []bool{true, false} {
		t.Run(fmt.Sprintf("implicit TLS %v", implicit), func(t *testing.T) {
			type result struct {
				Replies   string
				Delivered []string
			}
			BothWays(t, func(t *testing.T, door Door, user string) result {
				replies := python(t, "submit.py", door, user, map[string]any{"implicit": implicit})
				Postfix(t).Settle(t)
				return result{Anonymous(replies), delivered(t, user)}
			})
		})
	}
}

var (
	traces    = regexp.MustCompile(`(?m)^(Return-Path|Delivered-To|Received):.*\n(?:[ \t].*\n)*`)
	volatile  = regexp.MustCompile(`(?m)^(Date|Message-Id|Message-ID|User-Agent|X-Mailer|X-TUID):.*\n`)
	boundary  = regexp.MustCompile(`[0-9A-F]{8,12}(?:\.\d+)?/mail\.congthu\.test`)
	queueID   = regexp.MustCompile(`[0-9A-F]{10,12}`)
	timeStamp = regexp.MustCompile(`\w{3}, +\d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}(?: \(\w+\))?`)
)

// delivered is what is in the INBOX of user, without what differs from one
// message to the next, sorted.
func delivered(t *testing.T, user string) []string {
	t.Helper()
	messages := Dovecot(t).Delivered(t, user)
	for i, m := range messages {
		m = traces.ReplaceAllString(m, "")
		m = volatile.ReplaceAllString(m, "")
		m = boundary.ReplaceAllString(m, "BOUNDARY")
		m = queueID.ReplaceAllString(m, "QUEUEID")
		m = timeStamp.ReplaceAllString(m, "DATE")
		messages[i] = Anonymous(m)
	}
	slices.Sort(messages)
	return messages
}

// fill puts messages and Vietnamese folders into a mailbox, straight.
func fill(t *testing.T, user string) {
	t.Helper()
	straight := Straight(t)
	d, _ := straight.LoginIMAP(t, "", user, Password)
	folders := []string{"INBOX", "C&APQ-ng v&AQM-n &AREevw-n", "&HuY-y ban.X&AOM- Minh H&AbA-ng"}
	for i, folder := range folders {
		if i > 0 {
			d.Command("c", "CREATE "+quoted(folder))
		}
		for j := range 3 {
			text := fmt.Sprintf("From: <%s>\r\nSubject: %d of %d\r\nDate: Thu, 05 Mar 2026 08:00:00 +0700\r\nMessage-ID: <%d.%d@x>\r\n\r\nN\xe1\xbb\x99i dung %d\r\n", user, j, i, i, j, j)
			if reply := d.Command("d", `APPEND `+quoted(folder)+` (\Seen) "05-Mar-2026 08:00:00 +0700" `+literal(text)); !strings.HasPrefix(reply, "OK") {
				t.Fatalf("append: %s", reply)
			}
		}
	}
	d.Command("z", "LOGOUT")
}

func TestCurlReadsTheSameMail(t *testing.T) {
	for _, scheme := range []string{"imap", "imaps"} {
		t.Run(scheme, func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) string {
				fill(t, user)
				var all strings.Builder
				for _, c := range []struct{ path, request string }{
					{"", ""},
					{"", "LSUB \"\" *"},
					{"INBOX;UID=1", ""},
					{"INBOX;UID=2;SECTION=TEXT", ""},
					{"INBOX?SUBJECT%202", ""},
					{"C&APQ-ng%20v&AQM-n%20&AREevw-n", "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE)"},
					{"INBOX", "STATUS \"&HuY-y ban.X&AOM- Minh H&AbA-ng\" (MESSAGES UNSEEN)"},
				} {
					argv := curl(t, door, scheme, user, c.path)
					if c.request != "" {
						argv = append(argv, "-X", c.request)
					}
					fmt.Fprintf(&all, "%s %s\n%s\n", c.path, c.request, MustSucceed(t, "", nil, argv...).Stdout)
				}
				// And one message goes up.
				text := "From: <" + user + ">\r\nSubject: up\r\n\r\nc\xc3\xb4ng v\xc4\x83n\r\n"
				MustSucceed(t, "", nil, append(curl(t, door, scheme, user, "INBOX"), "-T", tempFile(t, "letter", text))...)
				all.WriteString(MustSucceed(t, "", nil, curl(t, door, scheme, user, "INBOX;UID=4")...).Stdout)
				return Anonymous(all.String())
			})
		})
	}
}

func curl(t *testing.T, door Door, scheme, user, path string) []string {
	t.Helper()
	port := map[string]int{"imap": door.IMAP, "imaps": door.IMAPS, "smtp": door.Submission, "smtps": door.Submissions, "pop3": door.POP3, "pop3s": door.POP3S}[scheme]
	return []string{
		"curl", "-sS", "--cacert", TheAuthority(t).File, "--ssl-reqd", "--max-time", "60", "--interface", FreshAddress(), "-u", user + ":" + Password,
		fmt.Sprintf("%s://localhost:%d/%s", scheme, port, path),
	}
}

// letter is a message with everything that a way could damage: dots at the
// beginning of lines, eight-bit text, a long line, trailing blanks.
func letter(from, to, subject string) string {
	return "From: <" + from + ">\r\nTo: <" + to + ">\r\nSubject: " + subject + "\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
		".\r\n..two dots\r\nK\xc3\xadnh g\xe1\xbb\xadi  \r\n" + strings.Repeat("d\xc3\xa0i ", 180) + "\r\n\r\nend\r\n"
}

func TestCurlSubmitsTheSameMail(t *testing.T) {
	for _, scheme := range []string{"smtp", "smtps"} {
		t.Run(scheme, func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) []string {
				argv := append(curl(t, door, scheme, user, "client.example"), "--mail-from", user, "--mail-rcpt", user, "-T", "-")
				MustSucceed(t, letter(user, user, scheme), nil, argv...)
				Postfix(t).Settle(t)
				return arrived(t, user, 1)
			})
		})
	}
}

// arrived is delivered with a fixed number of messages.
func arrived(t *testing.T, user string, n int) []string {
	t.Helper()
	messages := delivered(t, user)
	if len(messages) != n {
		t.Fatalf("%d messages were delivered, want %d:\n%q", len(messages), n, messages)
	}
	return messages
}

func TestMbsyncMakesTheSameCopy(t *testing.T) {
	for _, security := range []string{"STARTTLS", "IMAPS"} {
		t.Run(security, func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) map[string]string {
				fill(t, user)
				dir := t.TempDir()
				port := door.IMAP
				if security == "IMAPS" {
					port = door.IMAPS
				}
				config := writeFile(t, filepath.Join(dir, "mbsyncrc"), fmt.Sprintf(`
IMAPAccount it
Host localhost
Port %d
User %s
Pass %s
SSLType %s
SystemCertificates no
CertificateFile %s
Timeout 60

IMAPStore far
Account it

MaildirStore near
Path %s/mail/
Inbox %[6]s/inbox
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Sync All
SyncState *
Expunge Both
CopyArrivalDate yes
`, port, user, Password, security, TheAuthority(t).File, dir), 0o600)
				if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
					t.Fatal(err)
				}
				MustSucceed(t, "", []string{"HOME=" + dir}, "mbsync", "-c", config, "all")
				// A message made here goes there with the second run, one deleted here
				// disappears there.
				writeFile(t, filepath.Join(dir, "inbox/new/1.here"), "From: <"+user+">\nSubject: from here\n\nHere\n", 0o600)
				MustSucceed(t, "", []string{"HOME=" + dir}, "mbsync", "-c", config, "all")
				copied := maildir(t, dir)
				copied["at the server"] = strings.Join(delivered(t, user), "\n---\n")
				return copied
			})
		})
	}
}

// maildir is what a program made of a mailbox on disk: folders and the messages
// in them.
func maildir(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string][]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "mbsyncrc" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(dir, filepath.Dir(filepath.Dir(path)))
		found[folder] = append(found[folder], Anonymous(tuid.ReplaceAllString(string(text), "")))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for folder, messages := range found {
		slices.Sort(messages)
		all[folder] = strings.Join(messages, "\n---\n")
	}
	return all
}

// tuid is a header that mbsync marks a message with while it is on its way.
var tuid = regexp.MustCompile(`(?m)^X-TUID:.*\n`)

func TestMsmtpSubmitsTheSameMail(t *testing.T) {
	for _, starttls := range []string{"on", "off"} {
		for _, method := range []string{"plain", "login"} {
			t.Run("starttls "+starttls+", "+method, func(t *testing.T) {
				BothWays(t, func(t *testing.T, door Door, user string) []string {
					port := door.Submissions
					if starttls == "on" {
						port = door.Submission
					}
					config := tempFile(t, "msmtprc", fmt.Sprintf(`
account default
host localhost
port %d
tls on
tls_starttls %s
tls_trust_file %s
auth %s
user %s
password %s
from %s
timeout 60
`, port, starttls, TheAuthority(t).File, method, user, Password, user))
					MustSucceed(t, strings.ReplaceAll(letter(user, user, "msmtp"), "\r\n", "\n"), nil, "msmtp", "-C", config, user)
					Postfix(t).Settle(t)
					return arrived(t, user, 1)
				})
			})
		}
	}
}

func TestSwaksSubmitsTheSameMail(t *testing.T) {
	for _, tls := range []string{"-tls", "-tlsc"} {
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			t.Run(tls+" "+mechanism, func(t *testing.T) {
				BothWays(t, func(t *testing.T, door Door, user string) []string {
					port := door.Submissions
					if tls == "-tls" {
						port = door.Submission
					}
					MustSucceed(t, "", nil, "swaks", "--server", "localhost", "--port", itoa(port), tls,
						"--tls-verify", "--tls-ca-path", TheAuthority(t).File, "--helo", "client.example",
						"--auth", mechanism, "--auth-user", user, "--auth-password", Password,
						"--from", user, "--to", user, "--data", tempFile(t, "letter", letter(user, user, "swaks")), "--timeout", "60")
					Postfix(t).Settle(t)
					return arrived(t, user, 1)
				})
			})
		}
	}
}

func TestMuttSubmitsAndFilesACopy(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) []string {
		home := t.TempDir()
		config := writeFile(t, filepath.Join(home, "muttrc"), fmt.Sprintf(`
set ssl_starttls=yes ssl_force_tls=yes ssl_ca_certificates_file=%s ssl_verify_host=yes
set from=%s realname="Xa" use_from=yes envelope_from=yes user_agent=no
set imap_user=%[2]s imap_pass=%[3]s smtp_pass=%[3]s
set smtp_url=smtps://%[4]s@localhost:%[5]d/
set folder=imaps://localhost:%[6]d/ record=imaps://localhost:%[6]d/INBOX
set copy=yes charset=utf-8 send_charset=utf-8 allow_8bit=yes hostname=client.example
`, TheAuthority(t).File, user, Password, strings.ReplaceAll(user, "@", "%40"), door.Submissions, door.IMAPS), 0o600)
		MustSucceed(t, "Kính gửi\n.\nend\n", []string{"HOME=" + home, "TERM=dumb"}, "mutt", "-n", "-F", config, "-s", "mutt", user)
		Postfix(t).Settle(t)
		// One came by mail, the other is the copy that mutt put there itself.
		return arrived(t, user, 2)
	})
}

func TestMuttReadsAFolder(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) map[string]string {
		fill(t, user)
		home := t.TempDir()
		config := writeFile(t, filepath.Join(home, "muttrc"), fmt.Sprintf(`
set ssl_starttls=yes ssl_force_tls=yes ssl_ca_certificates_file=%s
set imap_user=%s imap_pass=%s charset=utf-8 folder=imap://localhost:%[4]d/ mbox_type=Maildir
set delete=yes confirmappend=no confirmcreate=no copy=no sleep_time=0 wait_key=no imap_check_subscribed=no
push "<tag-pattern>~A<enter><tag-prefix><copy-message>%[5]s/out<enter><exit>"
`, TheAuthority(t).File, user, Password, door.IMAP, home), 0o600)
		// mutt wants a terminal to read on: script gives it one.
		screen := MustSucceed(t, "", []string{"HOME=" + home, "TERM=vt100"}, "script", "-qec",
			fmt.Sprintf("mutt -n -F %s -f 'imap://localhost:%d/Công văn đến'", config, door.IMAP), "/dev/null")
		copied := maildir(t, home)
		delete(copied, "..")
		if n := strings.Count(copied["out"], "Subject:"); n != 3 {
			t.Fatalf("mutt has copied %d messages, want 3: %q\n%s", n, copied, screen.All())
		}
		return copied
	})
}

func TestGoClientSeesTheSame(t *testing.T) {
	type result struct {
		Folders  []string
		Messages []string
		Caps     []string
	}
	BothWays(t, func(t *testing.T, door Door, user string) (r result) {
		fill(t, user)
		client, err := imapclient.DialStartTLS(addr(door.IMAP), &imapclient.Options{TLSConfig: TheAuthority(t).TLS()})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := client.Login(user, Password).Wait(); err != nil {
			t.Fatal(err)
		}
		for c := range client.Caps() {
			r.Caps = append(r.Caps, string(c))
		}
		slices.Sort(r.Caps)
		folders, err := client.List("", "*", nil).Collect()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range folders {
			r.Folders = append(r.Folders, fmt.Sprint(f.Mailbox, f.Attrs))
			if slices.Contains(f.Attrs, imap.MailboxAttrNoSelect) {
				continue
			}
			if _, err := client.Select(f.Mailbox, &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
				t.Fatal(err)
			}
			messages, err := client.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
				UID: true, Flags: true, InternalDate: true, RFC822Size: true, Envelope: true,
				BodySection: []*imap.FetchItemBodySection{{Peek: true}},
			}).Collect()
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range messages {
				r.Messages = append(r.Messages, Anonymous(fmt.Sprint(f.Mailbox, m.UID, m.Flags, m.InternalDate.UTC(), m.RFC822Size,
					m.Envelope.Subject, string(m.BodySection[0].Bytes))))
			}
		}
		if len(r.Folders) != 4 || len(r.Messages) != 9 { // the level above the last folder is listed too
			t.Fatalf("%d folders, %d messages: %q", len(r.Folders), len(r.Messages), r.Folders)
		}
		return r
	})
}

func TestALargeMessageArrivesByteForByte(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) string {
		// Postfix takes 10,240,000 octets by default.
		result := python(t, "large.py", door, user, map[string]any{"size": 10_000_000})
		if !strings.Contains(result, `"same": true`) {
			t.Errorf("came back changed: %s", result)
		}
		return result
	})
}

func TestIdleTellsOfNewMail(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) string {
		var result struct {
			Seen []string
			Took float64
		}
		out := python(t, "idle.py", door, user, nil)
		if err := json.Unmarshal([]byte(out), &result); err != nil {
			t.Fatal(err)
		}
		t.Logf("told after %s", time.Duration(result.Took*float64(time.Second)).Round(time.Millisecond))
		return strings.Join(result.Seen, "")
	})
}

func TestCompressionWorksAfterLogin(t *testing.T) {
	BothWays(t, func(t *testing.T, door Door, user string) string {
		result := python(t, "compress.py", door, user, nil)
		if !strings.Contains(result, `"compressed": true`) {
			t.Errorf("was not compressed: %s", result)
		}
		return Anonymous(result)
	})
}

// All commands arrive in one segment: the gateway answers the first and hands
// on the rest, exactly once.
func TestCommandsPipelinedBehindLoginAreAnsweredOnce(t *testing.T) {
	text := "Subject: pipelined\r\n\r\nonce\r\n"
	for _, login := range []string{
		"LOGIN " + quoted("USER") + " " + quoted(Password),
		"AUTHENTICATE PLAIN BLOB",
		"LOGIN LITERALS",
	} {
		t.Run(strings.Fields(login)[0]+strings.Fields(login)[1], func(t *testing.T) {
			BothWays(t, func(t *testing.T, door Door, user string) []string {
				d := door.DialIMAP(t, "")
				login := strings.NewReplacer("USER", user, "BLOB", plain("", user, Password),
					"LITERALS", literal(user)+" "+literal(Password)).Replace(login)
				d.Say("a " + login + "\r\nb SELECT INBOX\r\nc NOOP\r\nd APPEND INBOX " + literal(text) + "\r\ne STATUS INBOX (MESSAGES)\r\nf LOGOUT\r\n")
				var answers []string
				for line := range strings.Lines(d.Rest()) {
					if tag, rest, _ := strings.Cut(line, " "); len(tag) == 1 && tag != "*" {
						answers = append(answers, tag+" "+strings.Fields(rest)[0])
					} else if strings.Contains(line, "STATUS") || strings.Contains(line, "EXISTS") {
						answers = append(answers, strings.TrimSpace(line))
					}
				}
				if len(answers) < 6 || answers[len(answers)-1] != "f OK" {
					t.Errorf("answers: %q", answers)
				}
				return answers
			})
		})
	}
}

func TestTheServersLearnTheClientsAddress(t *testing.T) {
	door, user := Congthu(t).Door(), Dovecot(t).Account(t)
	const from = "127.5.6.7"
	imap, reply := door.LoginIMAP(t, from, user, Password)
	if !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	imap.Command("z", "LOGOUT")
	Eventually(t, "Dovecot to log the client's address", func() bool {
		return Dovecot(t).LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+from+",")
	})
	postfixKnows(t, door, from, user)
}

// postfixKnows submits a message from an address, and waits until Postfix has
// logged that address.
func postfixKnows(t *testing.T, door Door, from, user string) {
	t.Helper()
	smtp, reply := door.LoginSMTP(t, from, user, Password)
	if !strings.HasPrefix(reply, "235") {
		t.Fatal(reply)
	}
	smtp.MustReply("250", "MAIL FROM:<"+user+">")
	smtp.MustReply("250", "RCPT TO:<"+user+">")
	smtp.MustReply("354", "DATA")
	smtp.MustReply("250", letter(user, user, "whose")+".")
	Eventually(t, "Postfix to log the client's address", func() bool {
		return Postfix(t).LogHas("client=", "["+from+"]", "sasl_username="+user)
	})
}
