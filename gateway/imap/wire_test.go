package imap

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

func TestPipelinedCommandsAreAnsweredOnceEach(t *testing.T) {
	login := "a1 LOGIN " + owner + " " + password + "\r\n"
	for name, first := range map[string]string{
		"LOGIN":        login,
		"literals":     fmt.Sprintf("a1 LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(owner), owner, len(password), password),
		"AUTHENTICATE": "a1 AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+owner+"\x00"+password)) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			c := s.connect(true)
			c.Send("a0 CAPABILITY\r\n" + first + "a2 SELECT INBOX\r\na3 NOOP\r\na4 LOGOUT\r\n")
			want := `* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN
a0 OK done
a1 OK [CAPABILITY IMAP4rev1 ID IDLE UIDPLUS COMPRESS=DEFLATE CONDSTORE] Logged in
* FLAGS (\Seen)
* 0 EXISTS
* OK [UIDVALIDITY 1] ok
a2 OK [READ-WRITE] done
a3 OK NOOP done
* BYE bye
a4 OK done
`
			if diff := cmp.Diff(want, strings.ReplaceAll(c.Gone(), "\r\n", "\n")); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"SELECT INBOX", "NOOP", "LOGOUT"}, s.fake.Commands()); diff != "" {
				t.Error(diff)
			}
			if n := len(s.Guard.Made()); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func TestAfterLoginEveryOctetPasses(t *testing.T) {
	s := newScene(t)
	s.fake.OK = "OK hi\r\n* 1 EXISTS" // read ahead with the answer
	s.fake.Untagged = "* CAPABILITY IMAP4rev1 XECHO\r\n"
	c := s.connect(true)
	c.login(password)
	c.Expect("* CAPABILITY IMAP4rev1 XECHO")
	c.Expect("l OK hi")
	c.Expect("* 1 EXISTS")
	c.Say("e ECHO")
	c.Expect("e OK echo")
	c.Echoed()
	s.Close()
	if r := s.Recorder.Counts(); r.Opened != 1 || r.Closed != 1 || r.Handshakes != 1 || r.FromClient < 1<<20 || r.FromUpstream < 1<<20 {
		t.Errorf("recorded %+v", r)
	}
	if s.Sessions.Len("") != 0 {
		t.Errorf("%d sessions are still registered", s.Sessions.Len(""))
	}
}

func TestLiteralsAndQuotedStrings(t *testing.T) {
	// The words of LOGIN, as sent, and what they mean.
	for _, test := range []struct {
		send           string
		login, wanted  string
		synchronising  int
		refused, ended bool
	}{
		{send: `a b`, login: "a", wanted: "b"},
		{send: `"a" "b c"`, login: "a", wanted: "b c"},
		{send: `"a" "\"\\"`, login: "a", wanted: `"\`},
		{send: `a ""`, login: "a", wanted: ""},
		{send: `a  b  `, login: "a", wanted: "b"},
		{send: ` "a"  "b" `, login: "a", wanted: "b"},
		{send: `"a""b"`, login: "a", wanted: "b"},
		{send: `a "b\c"`, login: "a", wanted: "bc"},
		{send: " {1+}\r\na  {2+}\r\nb   ", login: "a", wanted: "b "},
		{send: `a p%ss*w]rd`, login: "a", wanted: "p%ss*w]rd"},
		{send: `a mật-khẩu`, login: "a", wanted: "mật-khẩu"},
		{send: "a {3}\r\nb\r\n", login: "a", wanted: "b\r\n", synchronising: 1},
		{send: "{1}\r\na {3}\r\n\x80{}", login: "a", wanted: "\x80{}", synchronising: 2},
		{send: "{1+}\r\na {5+}\r\n{99}\n", login: "a", wanted: "{99}\n"},
		{send: "{001+}\r\na {0+}\r\n", login: "a", wanted: ""},
		{send: `"a" "{5}"`, login: "a", wanted: "{5}"},
		{send: "a {4096+}\r\n" + strings.Repeat("x", 4096), login: "a", wanted: strings.Repeat("x", 4096)},

		{send: `a`, refused: true},
		{send: `a b c`, refused: true},
		{send: `a "b`, refused: true},
		{send: `a "b"c`, refused: true},
		{send: `a (b)`, refused: true},
		{send: "a {3+}\r\na\x00b", refused: true},
		{send: "a \"b\x00\"", refused: true},
		{send: "\"a\rb\" c", refused: true},
		{send: "{3+}\r\na\nb c", refused: true}, // no name has a line end
		{send: "a ~{1+}\r\nb", refused: true},   // a binary literal is no astring
		{send: "a {4097}", refused: true},
		{send: "a {99999999999999999999999}", refused: true},
		{send: `a "` + strings.Repeat("x", 5000) + `"`, refused: true},
		{send: "a {4097+}\r\nx LOGOUT", ended: true},
		{send: "a {18446744073709551617+}\r\nx", ended: true},
		{send: "a {2147483648+}\r\nx", ended: true},
		{send: "a " + strings.Repeat("x", 17_000), ended: true},
		{send: "a " + strings.Repeat("x", 70_000), ended: true},
	} {
		t.Run(fmt.Sprintf("%.40q", test.send), func(t *testing.T) {
			s := newScene(t)
			s.Guard.Before = auth.Locked
			c := s.connect(true)
			parts := strings.SplitAfterN("z LOGIN "+test.send+"\r\n", "}\r\n", test.synchronising+1)
			for i, part := range parts {
				c.Send(part)
				if i < test.synchronising {
					c.Expect("+ ")
				}
			}
			switch {
			case test.ended:
				c.Expect("* BYE ")
				if rest := c.Gone(); rest != "" {
					t.Errorf("then read %q", rest)
				}
			case test.refused:
				c.Expect("z BAD ")
			default:
				c.Expect("* NO [ALERT]")
				c.Expect("z NO [CONTACTADMIN]")
			}
			made := s.Guard.Made()
			if test.refused || test.ended {
				if len(made) != 0 {
					t.Errorf("the guard was asked")
				}
				return
			}
			if len(made) != 1 || made[0].Login != test.login || made[0].Password.Reveal() != test.wanted {
				t.Errorf("the guard was asked about %+v", made)
			}
			// The next command is understood as such.
			c.Say("y NOOP")
			c.Expect("y OK")
		})
	}
}

func TestTheGuardLearnsEverythingOfAnAttempt(t *testing.T) {
	s := newScene(t)
	s.Guard.Before = auth.OtherIdentity
	before := time.Now()
	c := s.connect(true)
	opened := time.Now()
	c.Say("a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("boss@congthu.test\x00"+owner+"\x00"+password)))
	c.Expect("a NO [AUTHORIZATIONFAILED]")
	c.login(password)
	c.Expect("l NO")
	made := s.Guard.Made()
	a := made[0]
	source := netip.MustParseAddrPort(c.LocalAddr().String())
	if a.Protocol != auth.IMAP || a.Mechanism != auth.Plain || a.Source != source || a.Authorize != "boss@congthu.test" ||
		a.Login != owner || a.Password.Reveal() != password || a.Session == "" || a.Rejected == nil {
		t.Errorf("attempt %+v", a)
	}
	if a.Connected.Before(before) || a.Connected.After(opened) || made[1].Connected != a.Connected {
		t.Errorf("connected at %v and %v, want between %v and %v", a.Connected, made[1].Connected, before, opened)
	}
	if made[1].Mechanism != auth.LoginCommand || made[1].Rejected != a.Rejected || made[1].Session != a.Session {
		t.Errorf("second attempt %+v", made[1])
	}
}

func TestTheMailServerLearnsOfTheClient(t *testing.T) {
	s := newScene(t)
	s.server.Upstream.(*upstream.Server).PassClient = upstream.PassID
	c := s.connect(true)
	c.Say(`i ID ("name" "Thunder\"bird" "X-Originating-IP" "203.0.113.1" "vendor" NIL "x-forwarded-for" {9+}` + "\r\n203.0.113)")
	c.Expect("* ID")
	c.Expect("i OK")
	c.login(password)
	c.Expect("l OK")
	source := netip.MustParseAddrPort(c.LocalAddr().String())
	want := []map[string]string{{
		"name": `Thunder"bird`, "x-originating-ip": "127.0.0.1", "x-originating-port": fmt.Sprint(source.Port()),
		"x-session-id": s.Guard.Made()[0].Session, "x-proxy-ttl": "5",
	}}
	if diff := cmp.Diff(want, s.fake.IDs()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheMailServerShowsBeforeLoginIsShownWhereItHoldsAfterIt(t *testing.T) {
	const base = "* CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN AUTH=LOGIN"
	long := goimap.Cap(strings.Repeat("A", 600))
	for _, test := range []struct {
		server []goimap.Cap
		want   string
	}{
		{nil, base},
		{[]goimap.Cap{"IDLE", "ENABLE", "COMPRESS=DEFLATE", "UTF8=ACCEPT"}, base + " IDLE ENABLE COMPRESS=DEFLATE UTF8=ACCEPT"},
		// What is said before login is ours.
		{[]goimap.Cap{"IMAP4rev1", "IMAP4rev2", "ID", "STARTTLS", "LOGINDISABLED", "LOGIN-REFERRALS", "AUTH=GSSAPI", "SASL-IR", "LITERAL+", "LITERAL-", "UNAUTHENTICATE", "X-ANY"}, base},
		{[]goimap.Cap{"IDLE]", "A\"B", "MOVE"}, base + " MOVE"},
		{[]goimap.Cap{long, long, "IDLE"}, base + " " + string(long)},
	} {
		s := newScene(t)
		s.server.Shown = func() []goimap.Cap { return test.server }
		c := s.connect(true)
		c.Say("a CAPABILITY")
		if got := c.Line(); got != test.want {
			t.Errorf("%q: %q, want %q", test.server, got, test.want)
		}
	}
}

func TestIDIsBounded(t *testing.T) {
	fields := func(n int) string { return strings.TrimSuffix(strings.Repeat(`"a" "b" `, n), " ") }
	for _, test := range []struct{ list, want string }{
		{"(" + fields(30) + ")", "OK"},
		{"(" + fields(31) + ")", "OK"}, // and the last is dropped
		{"(" + fields(2000) + ")", "OK"},
		{"(" + fields(2100) + ")", "BYE"}, // more than a command before login may have
		{`( "a"  "b" )  `, "OK"},
		{`( )`, "OK"},
		{`("a")`, "OK"},
		{"", "OK"},
		{" ", "OK"},
		{"nil ", "OK"},
		{"()", "OK"},
		{"NIL", "OK"},
		{"nothing", "BAD"},
		{`("a" "b"`, "BAD"},
		{`("a" "b") c`, "OK"},
		{`("a""b")`, "OK"},
		{`(a"b")`, "BAD"},
		{`("a" ("b"))`, "BAD"},
		{`("` + strings.Repeat("a", 31) + `" "b")`, "BAD"},
		{`("a" "` + strings.Repeat("b", 1025) + `")`, "BAD"},
	} {
		s := newScene(t)
		c := s.connect(false)
		c.Say("i ID " + test.list)
		if line := c.Line(); !strings.HasPrefix(line, "* ID") {
			t.Logf("%.30s: %s", test.list, line)
			if !strings.HasPrefix(line, "i "+test.want) && !strings.HasPrefix(line, "* "+test.want) {
				t.Errorf("ID %.40s: %s, want %s", test.list, line, test.want)
			}
		} else {
			c.Expect("i " + test.want)
		}
	}
}

func TestNothingInClearTextIsRememberedBehindTheHandshake(t *testing.T) {
	s := newScene(t)
	s.server.Upstream.(*upstream.Server).PassClient = upstream.PassID
	c := s.connect(false)
	c.Say(`i ID ("name" "injected")`)
	c.Expect("* ID")
	c.Expect("i OK")
	c.Say("s STARTTLS")
	c.Expect("s OK")
	c.Secure()
	c.login(password)
	c.Expect("l OK")
	if got := s.fake.IDs()[0]["name"]; got != "congthu" {
		t.Errorf("the mail server was told the name %q", got)
	}
}

func TestABlankBehindSTARTTLSIsNothing(t *testing.T) {
	s := newScene(t)
	c := s.connect(false)
	c.Say("s STARTTLS x") // in clear text nothing else is guessed at
	c.Expect("s BAD")
	c.Say("s STARTTLS ")
	c.Expect("s OK")
	c.Secure()
	c.login(password)
	c.Expect("l OK")
}

func TestPlaintextInPlaceOfTheHandshakeEndsTheConnection(t *testing.T) {
	s := newScene(t)
	c := s.connect(false)
	c.Say("s STARTTLS")
	c.Expect("s OK")
	c.Say("a LOGIN " + owner + " " + password)
	c.Gone()
	if n := len(s.Guard.Made()); n != 0 {
		t.Errorf("%d attempts", n)
	}
}

func TestAHandshakeForAnotherProtocolIsRefused(t *testing.T) {
	for _, implicit := range []bool{true, false} {
		for _, test := range []struct {
			offer []string
			ok    bool
		}{{nil, true}, {[]string{"imap"}, true}, {[]string{"h2", "imap"}, true}, {[]string{"http/1.1", "h2"}, false}, {[]string{"smtp"}, false}} {
			s := newScene(t)
			s.Implicit = implicit
			conn, err := s.Dial()
			if err != nil {
				t.Fatal(err)
			}
			if !implicit {
				io.WriteString(conn, "s STARTTLS\r\n")
				for got := ""; !strings.Contains(got, "s OK begin\r\n"); {
					buf := make([]byte, 1024)
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got += string(buf[:n])
				}
			}
			config := mailtest.ClientTLS()
			config.NextProtos = test.offer
			if err := tls.Client(conn, config).Handshake(); (err == nil) != test.ok {
				t.Errorf("implicit %v: offered %v: %v", implicit, test.offer, err)
			}
			conn.Close()
		}
	}
}

func TestSASLLinesAreBounded(t *testing.T) {
	for name, send := range map[string]string{
		"a command":           "a NOOP " + strings.Repeat("x", 17_000) + "\r\nb NOOP\r\n",
		"literals":            "a LOGIN" + strings.Repeat(" {4000+}\r\n"+strings.Repeat("x", 4000), 5) + "\r\nb NOOP\r\n",
		"an exchange":         "a AUTHENTICATE LOGIN\r\n" + strings.Repeat("QUFB", 2500) + "\r\n" + strings.Repeat("QUFB", 2500) + "\r\nb NOOP\r\n",
		"a response":          "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 13_000) + "\r\n",
		"an initial response": "a AUTHENTICATE PLAIN " + strings.Repeat("A", 13_000) + "\r\nb LOGOUT\r\n",
		"no end":              strings.Repeat("A", 100_000),
		"many small lines":    "a AUTHENTICATE LOGIN\r\nAAAA\r\n*\r\n" + strings.Repeat("a NOOP\r\n", 60_000),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			c := s.connect(true)
			go io.WriteString(c.Conn, send)
			if got := c.Gone(); !strings.Contains(got, "* BYE ") {
				t.Errorf("no BYE in %.200q", got)
			}
			if n := len(s.Guard.Made()); n != 0 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

// The bounds are those of one command: 16 KiB with its line ends, of which a SASL
// response may have 12 KiB.
func TestALongCommandIsACommandUpToTheBound(t *testing.T) {
	const bound = 16 << 10
	for _, test := range []struct {
		send   string
		answer string // to "z"
	}{
		{"z NOOP" + strings.Repeat(" ", bound-len("z NOOP\r\n")) + "\r\n", "z OK"},
		{"z NOOP" + strings.Repeat(" ", bound-len("z NOOP\r\n")+1) + "\r\n", "* BYE Qua nhieu du lieu truoc khi dang nhap"},
		{"z AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 12<<10) + "\r\n", "z BAD malformed credentials"},
		{"z AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 12<<10+4) + "\r\n", "* BYE Qua nhieu du lieu truoc khi dang nhap"},
		{"z AUTHENTICATE LOGIN\r\n" + strings.Repeat("QUFB", 1900) + "\r\n" + strings.Repeat("QUFB", 2100) + "\r\n", "z NO"},
		{"z AUTHENTICATE LOGIN\r\n" + strings.Repeat("QUFB", 1900) + "\r\n" + strings.Repeat("QUFB", 2300) + "\r\n", "* BYE Qua nhieu du lieu truoc khi dang nhap"},
		{"z LOGIN {4096+}\r\n" + strings.Repeat("x", 4096) + " {4096+}\r\n" + strings.Repeat("y", 4096) + "\r\n", "* NO [ALERT]"},
	} {
		for _, secure := range []string{"in one record", "in pieces"} {
			s := newScene(t)
			s.Guard.Before = auth.Locked
			c := s.connect(true)
			before := "y NOOP\r\n" // each command has the whole room
			if secure == "in pieces" {
				for _, octets := range []string{before + test.send[:1000], test.send[1000:]} {
					c.Send(octets)
				}
			} else {
				c.Send(before + test.send)
			}
			c.Expect("y OK")
			line := c.Line()
			for strings.HasPrefix(line, "+ ") || strings.HasPrefix(line, "* NO [ALERT]") && !strings.HasPrefix(test.answer, "*") {
				line = c.Line()
			}
			if !strings.HasPrefix(line, test.answer) {
				t.Errorf("%.40q, %d octets %s: %q, want %q", test.send, len(test.send), secure, line, test.answer)
			}
		}
	}
}

func TestTheLogNeverHasAPassword(t *testing.T) {
	const canary = "canary-7f3a"
	encoded := base64.StdEncoding.EncodeToString([]byte("\x00" + owner + "\x00" + canary))
	var log bytes.Buffer
	s := newScene(t)
	s.server.Log = frontendtest.Log(&log)
	s.fake.Wrong = "NO [AUTHENTICATIONFAILED] " + canary + " is wrong, and so is " + encoded
	s.fake.Accounts = nil
	answers := ""
	for _, line := range []string{
		"a LOGIN " + owner + " " + canary, canary, "a " + canary, canary + "\x00", `a LOGIN x "` + canary, "a LOGIN x {" + canary + "}",
		"a AUTHENTICATE PLAIN " + encoded, "a AUTHENTICATE PLAIN " + encoded + "!", "a AUTHENTICATE " + canary, "a ID " + canary,
		"a LOGIN " + canary + " {99999999+}", canary + " / HTTP/1.1",
	} {
		for _, secure := range []bool{false, true} {
			c := s.connect(secure)
			c.Say(line)
			c.Say("z LOGOUT")
			// The tag is the client's own and has to be repeated.
			answers += strings.TrimPrefix(c.Gone(), canary+" ")
		}
	}
	for _, a := range s.Guard.Made() {
		answers += fmt.Sprintf("%v %+v", a, a)
	}
	s.Close()
	for _, secret := range []string{canary, encoded} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has the password:\n%s", log.String())
		}
		if strings.Contains(answers, secret) {
			t.Errorf("an answer has the password:\n%s", answers)
		}
	}
}
