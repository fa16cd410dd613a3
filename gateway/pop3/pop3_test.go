package pop3

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend/frontendtest"
)

// Each file of testdata is a row of the reply table, or one rule of the wire, as a
// transcript.
func TestDialogues(t *testing.T) {
	frontendtest.Play(t, newScene, func(s *scene, name, value string) error { return s.Set(name, value) })
}

// Every outcome has a reply; what must not be told apart is said in the same words, and
// only what a person can mend at once asks for the password again.
func TestEveryOutcomeHasAReply(t *testing.T) {
	s := newScene(t)
	for _, o := range auth.Outcomes() {
		if o == auth.Accepted {
			continue
		}
		r, ok := replies[o]
		if !ok {
			t.Errorf("no reply for %s", o)
		}
		line := s.server.refusal(auth.Verdict{Outcome: o})
		if !strings.HasPrefix(line, "-ERR ") || strings.Count(line, "\r\n") != 1 || !strings.HasSuffix(line, "\r\n") {
			t.Errorf("%s: %q", o, line)
		}
		same := line == s.server.refusal(auth.Verdict{Outcome: auth.WrongPassword})
		if wrong := r.code == codeAuth; wrong != same {
			t.Errorf("%s: %q", o, line)
		}
	}
	for code, want := range map[string]string{"IN-USE": "[IN-USE] ", "LOGIN-DELAY": "[LOGIN-DELAY] ", "SYS/PERM": "[SYS/PERM] ", "AUTH": "", "X Y": "", "": ""} {
		if got := s.server.refusal(auth.Verdict{Outcome: auth.Refused, Code: code}); got != "-ERR "+want+"words for refused\r\n" {
			t.Errorf("the mail server's code %q: %q", code, got)
		}
	}
}

func plain(authorize, name, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authorize + "\x00" + name + "\x00" + password))
}

// Commands in one segment are answered once each; what follows the login is the mail
// server's, octet for octet.
func TestWhatFollowsTheLoginIsTheMailServers(t *testing.T) {
	for name, login := range map[string]string{
		"USER and PASS": "USER " + owner + "\r\nPASS " + password + "\r\n",
		"AUTH PLAIN":    "AUTH PLAIN " + plain("", owner, password) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.fake.OK = "+OK maildrop has 2 messages"
			c := s.connect()
			c.Send(login + "STAT\r\nECHO\r\n")
			if name == "USER and PASS" {
				c.ExpectLine("+OK")
			}
			c.ExpectLine("+OK maildrop has 2 messages")
			c.ExpectLine("+OK 2 320")
			c.ExpectLine("+OK echo")
			if n := s.Sessions.Len(owner); n != 1 {
				t.Errorf("%d sessions", n)
			}
			c.Echoed()
			a := s.Guard.Made()
			if len(a) != 1 || a[0].Protocol != auth.POP3 || a[0].Login != owner || a[0].Password.Reveal() != password {
				t.Errorf("attempts: %+v", a)
			}
		})
	}
}

func TestCredentialsOverPOP3(t *testing.T) {
	for _, c := range []struct {
		send     string
		answers  []string
		name, pw string // "" for no attempt
	}{
		{"user a\r\npass b c \r\n", []string{"+OK", "-ERR [SYS/PERM]"}, "a", "b c "},
		{"USER a b\r\nPASS \r\n", []string{"+OK", "-ERR [SYS/PERM]"}, "a b", ""},
		{"PASS b\r\n", []string{"-ERR USER comes first"}, "", ""},
		{"USER a\r\nPASS b\r\nPASS c\r\n", []string{"+OK", "-ERR [SYS/PERM]", "-ERR USER comes first"}, "a", "b"},
		{"USER\r\n", []string{"-ERR USER wants a name"}, "", ""},
		{"USER a\x01\r\nPASS b\r\n", []string{"+OK", "-ERR a control character in the name"}, "", ""},
		{"USER a\x00\r\n", []string{"-ERR a NUL or CR"}, "", ""},
		{"AUTH PLAIN " + plain("", "a", "b\r\n") + "\r\n", []string{"-ERR [SYS/PERM]"}, "a", "b\r\n"},
		{"AUTH PLAIN\r\n" + plain("", "a", "b") + "\r\n", []string{"+ ", "-ERR [SYS/PERM]"}, "a", "b"},
		{"AUTH LOGIN\r\nYQ==\r\nYg==\r\n", []string{"+ VXNlcm5hbWU6", "+ UGFzc3dvcmQ6", "-ERR [SYS/PERM]"}, "a", "b"},
		{"AUTH PLAIN =\r\n", []string{"-ERR malformed credentials"}, "", ""},
		{"AUTH PLAIN\r\n*\r\nNOOP\r\n", []string{"+ ", "-ERR cancelled", "-ERR unknown, or not before login"}, "", ""},
		{"AUTH PLAIN !\r\n", []string{"-ERR not base64"}, "", ""},
		{"AUTH CRAM-MD5\r\n", []string{"-ERR no such mechanism"}, "", ""},
		{"AUTH\r\n", []string{"+OK", "PLAIN", "LOGIN", "."}, "", ""},
		{"APOP a 0123456789abcdef0123456789abcdef\r\n", []string{"-ERR unknown, or not before login"}, "", ""},
	} {
		s := newScene(t)
		s.Guard.Before = auth.Locked
		client := s.connect()
		client.Send(c.send)
		for _, want := range c.answers {
			if line := client.Line(); !strings.HasPrefix(line, want) {
				t.Fatalf("%q: read %q; want %q", c.send, line, want)
			}
		}
		client.Send("QUIT\r\n")
		client.ExpectLine("+OK Da dang xuat / Logging out")
		client.Gone()
		made := s.Guard.Made()
		if c.name == "" && len(made) > 0 || c.name != "" && (len(made) != 1 || made[0].Login != c.name || made[0].Password.Reveal() != c.pw) {
			t.Errorf("%q: attempts %+v", c.send, made)
		}
	}
}

// A command before login has 16 KiB; a client of another protocol does not get far.
func TestAPOP3ConnectionIsBounded(t *testing.T) {
	for says, want := range map[string]string{
		"USER " + strings.Repeat("x", 17_000) + "\r\n":          "-ERR Qua nhieu du lieu truoc khi dang nhap / Too much data before login\r\n",
		"AUTH PLAIN\r\n" + strings.Repeat("A", 13_000) + "\r\n": "-ERR Qua nhieu du lieu truoc khi dang nhap / Too much data before login\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                     "-ERR Day khong phai may chu web / This is no web server\r\n",
		strings.Repeat("a1 NOOP\r\n", 5):                        "-ERR Qua nhieu lenh sai / Too many bad commands\r\n",
		strings.Repeat("USER a\r\nPASS b\r\n", 10):              "-ERR Qua nhieu lan dang nhap bi tu choi / Too many refusals\r\n",
		strings.Repeat("AUTH X\r\n", 5):                         "-ERR Qua nhieu lan dang nhap bi tu choi / Too many refusals\r\n",
	} {
		s := newScene(t)
		s.Guard.Before = auth.WrongPassword
		c := s.connect()
		c.Send(says)
		if got := c.Gone(); !strings.HasSuffix(got, want) {
			t.Errorf("%.30q: read %q, want %q at the end", says, got, want)
		}
	}
}

func TestAPOP3ShutdownSaysItIsTemporary(t *testing.T) {
	s := newScene(t)
	s.server.DrainTimeout = 20 * time.Second
	early, late := s.connect(), s.connect()
	late.Send("AUTH PLAIN " + plain("", owner, password) + "\r\n")
	late.ExpectLine("+OK Logged in.")
	s.Stop()
	if got := early.Gone(); got != "-ERR [SYS/TEMP] May chu dang dung, vui long thu lai / The server is shutting down, please try again\r\n" {
		t.Errorf("before login, the client read %q", got)
	}
	late.Send("QUIT\r\n")
	late.ExpectLine("+OK bye")
	late.Gone()
}

func TestTheLogNeverHasAPassword(t *testing.T) {
	const canary = "canary-7f3a"
	s := newScene(t)
	var log bytes.Buffer
	s.server.Log = frontendtest.Log(&log)
	s.fake.Wrong = "-ERR [AUTH] " + canary + " is wrong"
	answers := ""
	for _, says := range []string{
		"USER x\r\nPASS " + canary + "\r\n", "PASS " + canary + "\r\n", canary + "\r\n", "USER " + canary + "\r\nPASS x\r\n",
		"AUTH PLAIN " + plain("", owner, canary) + "\r\n", "AUTH PLAIN " + canary + "!\r\n", "AUTH " + canary + "\r\n", canary + " / HTTP/1.1\r\n",
	} {
		c := s.connect()
		c.Send(says + "QUIT\r\n")
		answers += c.Gone()
	}
	s.Close()
	if strings.Contains(log.String(), canary) || strings.Contains(answers, canary) {
		t.Errorf("the password is in the log or in an answer:\n%s\n%s", log.String(), answers)
	}
}
