package realtest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// pythonTries logs in with Python and returns the code of the reply and all of
// it.
func pythonTries(t *testing.T, door Door, from, how, user, password, authorize string) (string, string) {
	t.Helper()
	o := pythonOutput(t, "login.py", door, user, password, map[string]any{"door": how, "authorize": authorize, "from": from})
	var answer struct{ Code, Text string }
	if err := json.Unmarshal([]byte(o.Stdout), &answer); err != nil {
		t.Fatalf("login.py: %v\n%s\n%s", err, o.Stdout, o.Stderr)
	}
	reply := answer.Code + " " + answer.Text
	// Python 3.11 prints some replies as the bytes they came as.
	reply = strings.Replace(reply, "NO [b'", "NO [", 1)
	return code(reply), reply
}

// curlTries does the same with curl, which tells what the server said with -v.
func curlTries(t *testing.T, door Door, from, scheme, user, password, authorize string) (string, string) {
	t.Helper()
	argv := curl(t, door, scheme, user, "")
	argv = append(argv, "-v", "--interface", from, "--user", user+":"+password)
	if authorize != "" {
		argv = append(argv, "--sasl-authzid", authorize, "--login-options", "AUTH=PLAIN")
	}
	if strings.HasPrefix(scheme, "smtp") {
		argv = append(argv, "-X", "NOOP")
	}
	o := Command(t, "", nil, argv...)
	var reply string
	for line := range strings.Lines(o.Stderr) {
		said, ours := strings.CutPrefix(strings.TrimSpace(line), "< ")
		if !ours {
			continue
		}
		if tag, rest, _ := strings.Cut(said, " "); strings.HasPrefix(scheme, "imap") && strings.HasPrefix(tag, "A") {
			if strings.HasPrefix(rest, "NO ") || strings.HasPrefix(rest, "OK [CAPABILITY") || strings.HasPrefix(rest, "BAD ") {
				reply = rest
			}
		} else if strings.HasPrefix(scheme, "smtp") && (strings.HasPrefix(said, "235 ") || said >= "400" && said < "600") && !strings.HasPrefix(reply, "235") {
			reply = said
		}
	}
	if (o.Code == 0) != (accepted(reply) || strings.HasPrefix(reply, "235")) {
		t.Errorf("curl took %q for exit code %d\n%s", reply, o.Code, o.Stderr)
	}
	return code(reply), reply
}

// Every row of the reply table, through programs that people use.
func TestEveryReplyReachesPythonAndCurl(t *testing.T) {
	t.Parallel()
	g := Congthu(t)
	// The doors behind which something is broken.
	down := OwnDovecot(t)
	downToo := OwnPostfix(t, down)
	broken := OwnCongthu(t, Setup{Dovecot: down, Postfix: downToo})
	down.Stop()
	downToo.Stop()
	strict := OwnCongthu(t, Setup{Extra: "throttle: { accounts: 2, failures: 4 }"})
	const suspect = "127.0.6.1"
	for range 2 {
		if got := tryIMAP(t, strict.Door(), suspect, Dovecot(t).Account(t), "wrong"); got != imapWrong {
			t.Fatal(got)
		}
	}

	fresh := func(t *testing.T) string { return Dovecot(t).Account(t) }
	locked := func(t *testing.T) string {
		user := fresh(t)
		lockOut(t, g.Door(), user)
		return user
	}
	for _, row := range []struct {
		name       string
		door       Door
		from       string
		user       func(*testing.T) string
		password   string
		authorize  string
		imap, smtp string
		judged     bool // the mail server was asked
		text       string
	}{
		{name: "accepted", user: fresh, password: Password, imap: "OK [CAPABILITY]", smtp: smtpAccepted, judged: true},
		{name: "wrong password", user: fresh, password: "sai", imap: imapWrong, smtp: smtpWrong, judged: true},
		{name: "unknown account", user: func(t *testing.T) string { return strings.Replace(fresh(t), "u", "nobody", 1) }, password: "sai", imap: imapWrong, smtp: smtpWrong, judged: true},
		{name: "domain not served here", user: func(t *testing.T) string { return strings.Replace(fresh(t), Domain, "example.com", 1) }, password: Password, imap: imapWrong, smtp: smtpWrong},
		{name: "locked", user: locked, password: Password, imap: imapLocked, smtp: smtpLocked, text: "hotro@"},
		{name: "other identity", user: fresh, password: Password, authorize: AliasOf, imap: "NO [AUTHORIZATIONFAILED]", smtp: smtpWrong},
		{name: "master user", user: func(t *testing.T) string { return strings.Replace(fresh(t), "@", "*"+"admin@", 1) }, password: Password, imap: "NO [AUTHORIZATIONFAILED]", smtp: smtpWrong},
		{name: "too many from this source", door: strict.Door(), from: suspect, user: fresh, password: Password, imap: imapLater, smtp: smtpLater},
		{name: "mail server down", door: broken.Door(), user: fresh, password: Password, imap: imapLater, smtp: smtpLater},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.door.Name == "" {
				row.door = g.Door()
			}
			from := func() string {
				if row.from != "" {
					return row.from
				}
				return FreshAddress()
			}
			for _, program := range []struct {
				name string
				try  func(t *testing.T, user string) (code, reply string)
				want string
			}{
				{"imaplib LOGIN", func(t *testing.T, user string) (string, string) {
					how := "imaps"
					if row.authorize != "" {
						how = "imap-plain"
					}
					return pythonTries(t, row.door, from(), how, user, row.password, row.authorize)
				}, row.imap},
				{"smtplib", func(t *testing.T, user string) (string, string) {
					how := "smtps"
					if row.authorize != "" {
						how = "smtp-plain"
					}
					return pythonTries(t, row.door, from(), how, user, row.password, row.authorize)
				}, row.smtp},
				{"curl imaps", func(t *testing.T, user string) (string, string) {
					return curlTries(t, row.door, from(), "imaps", user, row.password, row.authorize)
				}, row.imap},
				{"curl imap", func(t *testing.T, user string) (string, string) {
					return curlTries(t, row.door, from(), "imap", user, row.password, row.authorize)
				}, row.imap},
				{"curl smtps", func(t *testing.T, user string) (string, string) {
					return curlTries(t, row.door, from(), "smtps", user, row.password, row.authorize)
				}, row.smtp},
				{"curl smtp", func(t *testing.T, user string) (string, string) {
					return curlTries(t, row.door, from(), "smtp", user, row.password, row.authorize)
				}, row.smtp},
			} {
				user := row.user(t)
				before := Dovecot(t).Judged(user)
				got, reply := program.try(t, user)
				if got != program.want {
					t.Errorf("%s: %q, want %s", program.name, reply, program.want)
				}
				if !strings.Contains(reply, row.text) {
					t.Errorf("%s: %q does not say %q", program.name, reply, row.text)
				}
				if asked := Dovecot(t).Judged(user) > before; asked != row.judged {
					t.Errorf("%s: the mail server was asked: %v, want %v", program.name, asked, row.judged)
				}
			}
		})
	}
}

// Passwords offered without TLS are refused unread: the mail server is not
// asked and nothing is counted.
func TestNobodyLogsInWithoutTLS(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for range 7 {
		if got, reply := pythonTries(t, g.Door(), FreshAddress(), "imap-cleartext", user, "sai", ""); got != "NO [PRIVACYREQUIRED]" {
			t.Errorf("imaplib: %q", reply)
		}
		if got, reply := pythonTries(t, g.Door(), FreshAddress(), "smtp-cleartext", user, "sai", ""); !strings.HasPrefix(got, "523 5.7.10") && !strings.HasPrefix(got, "538 5.7.11") {
			t.Errorf("smtplib: %q", reply)
		}
	}
	// curl asks for capabilities, sees LOGINDISABLED or no AUTH, and gives up.
	if o := Command(t, "", nil, "curl", "-sS", "-u", user+":"+Password, fmt.Sprintf("imap://localhost:%d/", g.IMAP)); o.Code == 0 {
		t.Errorf("curl imap: exit code 0: %s", o.All())
	}
	if o := Command(t, letter(user, user, "clear"), nil, "curl", "-sS", "-u", user+":"+Password, "--mail-from", user, "--mail-rcpt", user, "-T", "-",
		fmt.Sprintf("smtp://localhost:%d/", g.Submission)); o.Code == 0 {
		t.Errorf("curl smtp: exit code 0: %s", o.All())
	}
	if n := Dovecot(t).Judged(user); n != 0 {
		t.Errorf("the mail server was asked %d times", n)
	}
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("afterwards, with TLS: %s", got)
	}
}

// What the mail server refuses for a reason of its own is passed on with its
// code and is no wrong password. Here it is Dovecot's limit of 10 connections
// of one user from one address.
func TestARefusalForAnotherReasonIsNotCounted(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	const from = "127.0.4.1"
	for range 10 {
		if _, reply := g.Door().LoginIMAP(t, from, user, Password); !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
	}
	for range 7 {
		_, reply := g.Door().LoginIMAP(t, from, user, Password)
		if got := code(reply); got != "NO [LIMIT]" {
			t.Errorf("with ten connections open: %q", reply)
		}
	}
	if got := tryIMAP(t, g.Door(), "127.0.4.2", user, Password); !accepted(got) {
		t.Errorf("from another address: %s", got)
	}
}

func TestMailWithoutALoginIsRefused(t *testing.T) {
	t.Parallel()
	d, _ := Congthu(t).Door().DialSMTP(t, "")
	for _, command := range []string{"MAIL FROM:<a@congthu.test>"} {
		if got := code(d.Ask(command)); got != "530 5.7.0" {
			t.Errorf("%s: %s", command, got)
		}
	}
}
