package upstream

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

const (
	owner = auth.Name("nguyen.van.a@congthu.test")
	// Every octet but NUL is allowed in a password.
	password = "Mật khẩu \"1\" \\ {3}\r\n%"
)

func accounts() map[string]string { return map[string]string{string(owner): password} }

// serverFor is a client of fake: in memory, or over TCP with TLS, whose alerts
// need a connection with buffers.
func serverFor(t *testing.T, fake *mailtest.IMAP) *Server {
	t.Helper()
	t.Cleanup(func() { fake.Close() })
	s := &Server{Address: "mail.test:143", Dial: fake.Dial, Timeout: time.Minute}
	if fake.TLS != nil {
		address, err := fake.Start()
		if err != nil {
			t.Fatal(err)
		}
		s.Address, s.Dial = address, nil
		s.TLS, s.TLSConfig = StartTLS, mailtest.ClientTLS()
		if fake.Implicit {
			s.TLS = Implicit
		}
	}
	return s
}

func TestTheVerdictOfAnIMAPReply(t *testing.T) {
	s := &Server{
		CredentialPatterns:    []*regexp.Regexp{regexp.MustCompile(`^NO \[ALERT\] Invalid credentials`), regexp.MustCompile(`^BAD LOGIN failed`)},
		NotCredentialPatterns: []*regexp.Regexp{regexp.MustCompile(`(?i)try again later`)},
	}
	for _, test := range []struct {
		reply string
		want  auth.Judgement
		code  string
	}{
		{"OK Logged in", auth.JudgedRight, ""},
		{"OK [CAPABILITY IMAP4rev1] Logged in", auth.JudgedRight, ""},
		{"NO [AUTHENTICATIONFAILED] Authentication failed.", auth.JudgedWrong, ""},
		{"no [authenticationfailed] authentication failed.", auth.JudgedWrong, ""},
		{"NO LOGIN failed", auth.JudgedWrong, ""}, // Zimbra
		{"NO", auth.JudgedWrong, ""},
		{"NO [UNAVAILABLE] Temporary authentication failure.", auth.Unreached, ""},
		{"NO [SERVERBUG] Internal error", auth.Unreached, ""},
		{"NO [EXPIRED] Password expired", auth.RefusedOtherwise, "EXPIRED"},
		{"NO [CONTACTADMIN] Account disabled", auth.RefusedOtherwise, "CONTACTADMIN"},
		{"NO [LIMIT] Maximum number of connections from user+IP exceeded", auth.RefusedOtherwise, "LIMIT"},
		{"NO [AUTHORIZATIONFAILED] no", auth.RefusedOtherwise, "AUTHORIZATIONFAILED"},
		{"NO [REFERRAL imap://elsewhere.test/] Try there", auth.RefusedOtherwise, ""},
		{"NO [ALERT] Closed for the night", auth.RefusedOtherwise, "ALERT"},
		{"NO [ALERT] Invalid credentials (Failure)", auth.JudgedWrong, ""},
		{"NO Try again later", auth.Unreached, ""},
		{"NO [AUTHENTICATIONFAILED] try again later", auth.Unreached, ""},
		{"NO [ALERT] Invalid credentials, try again later", auth.RefusedOtherwise, "ALERT"},
		{"BAD Error in IMAP command", auth.Unreached, ""},
		{"BAD LOGIN failed", auth.JudgedWrong, ""},
		{"BYE shutting down", auth.Unreached, ""},
	} {
		status, ok := parseStatus(imapResponse{tag: "g1", rest: test.reply})
		if !ok {
			t.Fatalf("%q is not a status", test.reply)
		}
		if got := s.judgeIMAP(status); got.Judgement != test.want || got.Code != test.code {
			t.Errorf("%q is judged %v %q, want %v %q", test.reply, got.Judgement, got.Code, test.want, test.code)
		}
	}
}

func TestAnyPasswordSurvivesTheWayToTheServer(t *testing.T) {
	ways := map[string][]string{
		"PLAIN in one line":  {"IMAP4rev1", "SASL-IR", "AUTH=PLAIN"},
		"PLAIN in two steps": {"IMAP4rev1", "AUTH=PLAIN"},
		"LOGIN at once":      {"IMAP4rev1", "LITERAL+"},
		"LOGIN in steps":     {"IMAP4rev1"},
		"IMAP4rev2":          {"imap4rev2"},
	}
	for name, caps := range ways {
		for _, secret := range []string{password, strings.Repeat("dài ", 3000)} {
			t.Run(fmt.Sprintf("%s, %d octets", name, len(secret)), func(t *testing.T) {
				fake := &mailtest.IMAP{Accounts: map[string]string{string(owner): secret}, Caps: caps}
				s := serverFor(t, fake)
				for _, right := range []bool{true, false} {
					tried, want := secret, auth.JudgedRight
					if !right {
						tried, want = tried+" ", auth.JudgedWrong
					}
					conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(tried), Client{})
					if answer.Judgement != want {
						t.Fatalf("judged %v (%v), want %v", answer.Judgement, answer.Err, want)
					}
					if (conn != nil) != right {
						t.Fatalf("connection %v with judgement %v", conn, want)
					}
					if conn != nil {
						conn.Logout()
					}
				}
				if got, want := fake.Verdicts(string(owner)), (mailtest.Verdicts{Right: 1, Wrong: 1}); got != want {
					t.Errorf("the server gave verdicts %+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestLoginOverTLS(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		fake := &mailtest.IMAP{Accounts: accounts(), TLS: mailtest.ServerTLS(), Implicit: implicit}
		s := serverFor(t, fake)
		conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
		if answer.Judgement != auth.JudgedRight {
			t.Fatalf("implicit %v: judged %v: %v", implicit, answer.Judgement, answer.Err)
		}
		if !conn.Caps.Has(imap.CapIdle) || !conn.HasCapabilities {
			t.Errorf("capabilities after login: %q, told %v", conn.Capabilities, conn.HasCapabilities)
		}
		conn.Logout()

		s.TLSConfig.ServerName = "other.test"
		_, answer = s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
		if answer.Judgement != auth.Unreached || !strings.Contains(fmt.Sprint(answer.Err), "other.test") {
			t.Errorf("implicit %v: a foreign certificate: judged %v: %v", implicit, answer.Judgement, answer.Err)
		}
	}
}

func TestAServerThatCannotBeAskedJudgesNobody(t *testing.T) {
	long := strings.Repeat("x", 300<<10)
	for name, fake := range map[string]*mailtest.IMAP{
		"closes at once":        {Misbehave: mailtest.At("greeting", mailtest.Misdeed{Close: true})},
		"greets with BYE":       {Greeting: "* BYE too many connections"},
		"greets with PREAUTH":   {Greeting: "* PREAUTH [CAPABILITY IMAP4rev1] welcome"},
		"speaks SMTP":           {Greeting: "220 mail.test ESMTP"},
		"greets with NO":        {Greeting: "* NO"},
		"a long line":           {Greeting: "* OK " + long},
		"no end of lines":       {Misbehave: mailtest.At("CAPABILITY", mailtest.Misdeed{Say: strings.Repeat("* OK still here\r\n", 100_000)}), Greeting: "* OK hello"},
		"a giant literal":       {Misbehave: mailtest.At("CAPABILITY", mailtest.Misdeed{Say: "* LIST {99999999}\r\n"}), Greeting: "* OK hello"},
		"an endless literal":    {Misbehave: mailtest.At("CAPABILITY", mailtest.Misdeed{Say: "* LIST {99999999999999999999}\r\n", Close: true}), Greeting: "* OK hello"},
		"no capabilities":       {Misbehave: mailtest.At("CAPABILITY", mailtest.Misdeed{Say: "%TAG% OK done\r\n"}), Greeting: "* OK hello"},
		"no way to log in":      {Caps: []string{"IMAP4rev1", "LOGINDISABLED"}},
		"no mechanism":          {Caps: []string{"IMAP4rev1", "AUTH=PLAIN"}, Misbehave: mailtest.At("AUTHENTICATE", mailtest.Misdeed{Say: "%TAG% NO no such mechanism\r\n"})},
		"refuses LOGIN":         {Caps: []string{"IMAP4rev1"}, Misbehave: mailtest.At("LOGIN", mailtest.Misdeed{Say: "%TAG% NO [AUTHENTICATIONFAILED] no\r\n"})},
		"UNAUTHENTICATE before": {Caps: []string{"IMAP4rev1", "AUTH=PLAIN", "Unauthenticate"}},
		"no STARTTLS": {TLS: mailtest.ServerTLS(),
			Misbehave: mailtest.At("STARTTLS", mailtest.Misdeed{Say: "%TAG% BAD unknown\r\n"})},
		"injects before TLS": {TLS: mailtest.ServerTLS(),
			Misbehave: mailtest.At("STARTTLS", mailtest.Misdeed{Say: "%TAG% OK begin\r\n* CAPABILITY IMAP4rev1\r\n"})},
	} {
		t.Run(name, func(t *testing.T) {
			fake.Accounts = accounts()
			s := serverFor(t, fake)
			conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
			if conn != nil || answer.Judgement != auth.Unreached || answer.Err == nil {
				t.Fatalf("judged %v: %v", answer.Judgement, answer.Err)
			}
			if judged := fake.Judged(); len(judged) != 0 {
				t.Errorf("the server judged %v", judged)
			}
		})
	}
}

func TestUNAUTHENTICATEAfterLoginIsRefused(t *testing.T) {
	for _, ok := range []string{"", "OK Logged in"} {
		fake := &mailtest.IMAP{Accounts: accounts(), LoggedInCaps: []string{"IMAP4rev1", "UNAUTHENTICATE"}, OK: ok}
		s := serverFor(t, fake)
		conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
		if conn != nil || answer.Judgement != auth.Unreached || !strings.Contains(fmt.Sprint(answer.Err), "UNAUTHENTICATE") {
			t.Errorf("judged %v: %v", answer.Judgement, answer.Err)
		}
	}
}

func TestNoAnswerToCredentialsIsInDoubt(t *testing.T) {
	for name, m := range map[string]mailtest.Misdeed{
		"close":          {Close: true},
		"BYE":            {Say: "* BYE too slow\r\n", Close: true},
		"garbage":        {Say: "\x00\x01\x02\r\n"},
		"another tag":    {Say: "zzz OK Logged in\r\n"},
		"asks for more":  {Say: "+ go on\r\n"},
		"half an answer": {Say: "%TAG% OK Logged", Close: true},
	} {
		for _, caps := range [][]string{nil, {"IMAP4rev1", "AUTH=PLAIN"}, {"IMAP4rev1"}, {"IMAP4rev1", "LITERAL+"}} {
			fake := &mailtest.IMAP{Accounts: accounts(), Caps: caps, Misbehave: mailtest.At("verdict", m)}
			s := serverFor(t, fake)
			conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
			if conn != nil || answer.Judgement != auth.InDoubt || answer.Err == nil {
				t.Errorf("%s, %v: judged %v: %v", name, caps, answer.Judgement, answer.Err)
			}
		}
	}
}

func TestASilentServerCostsAStepAndEndsWithTheContext(t *testing.T) {
	for step, want := range map[mailtest.Step]auth.Judgement{
		"greeting": auth.Unreached, "CAPABILITY": auth.Unreached, "verdict": auth.InDoubt,
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := &mailtest.IMAP{Accounts: accounts(), Greeting: "* OK hello", Misbehave: mailtest.At(step, mailtest.Misdeed{Hang: true})}
			defer fake.Close()
			s := serverFor(t, fake)
			start := time.Now()
			_, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
			if answer.Judgement != want || time.Since(start) != s.Timeout {
				t.Errorf("%s: judged %v after %v: %v", step, answer.Judgement, time.Since(start), answer.Err)
			}

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start = time.Now()
			_, answer = s.LoginIMAP(ctx, owner, auth.NewSecret(password), Client{})
			if answer.Judgement != want || time.Since(start) != time.Second {
				t.Errorf("%s, with a context: judged %v after %v: %v", step, answer.Judgement, time.Since(start), answer.Err)
			}
		})
	}
}

func TestTheClientIsPassedOnByID(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: accounts()}
	s := serverFor(t, fake)
	client := Client{
		Address: netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711"), Session: "S1",
		ID: []IDField{
			{"name", "Thư\r\na1 LOGOUT \"x\" \\"}, {"x-originating-ip", "203.0.113.1"}, {"X-Forwarded-For", "203.0.113.1"}, {"NAME", "again"},
		},
	}
	for _, pass := range []PassClient{PassNone, PassID} {
		s.PassClient = pass
		conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), client)
		if conn == nil {
			t.Fatal(answer.Err)
		}
		conn.Logout()
	}
	want := []map[string]string{{
		"name": "Th????a1 LOGOUT \"x\" \\", "x-originating-ip": "192.0.2.7", "x-originating-port": "4711",
		"x-session-id": "S1", "x-proxy-ttl": "5",
	}}
	if diff := cmp.Diff(want, fake.IDs()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatFollowsTheAnswerBelongsToTheClient(t *testing.T) {
	for name, test := range map[string]struct {
		fake                      *mailtest.IMAP
		ok, untagged, caps, ahead string
		told                      bool
	}{
		"code": {
			fake: &mailtest.IMAP{OK: "OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n* 1 EXISTS"},
			ok:   "OK [CAPABILITY IMAP4rev1 IDLE] hi", caps: "IMAP4rev1 IDLE", told: true, ahead: "* 1 EXISTS\r\n",
		},
		"untagged": {
			fake: &mailtest.IMAP{OK: "OK hi", Untagged: "* CAPABILITY IMAP4rev1 NOTIFY\r\n* OK [ALERT] quota\r\n* XYZ {4}\r\n\r\nab c\r\n"},
			ok:   "OK hi", caps: "IMAP4rev1 NOTIFY", told: true,
			untagged: "* CAPABILITY IMAP4rev1 NOTIFY\r\n* OK [ALERT] quota\r\n* XYZ {4}\r\n\r\nab c\r\n",
		},
		"asked": {
			fake: &mailtest.IMAP{OK: "OK hi", Untagged: "* OK [ALERT] quota\r\n"},
			ok:   "OK hi", caps: "IMAP4rev1 ID IDLE UIDPLUS COMPRESS=DEFLATE CONDSTORE", untagged: "* OK [ALERT] quota\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.fake.Accounts = accounts()
			s := serverFor(t, test.fake)
			s.PassClient = PassID
			conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
			if conn == nil {
				t.Fatal(answer.Err)
			}
			defer conn.Logout()
			if conn.OK != test.ok || string(conn.Untagged) != test.untagged || conn.Capabilities != test.caps ||
				string(conn.Ahead) != test.ahead || conn.HasCapabilities != test.told {
				t.Errorf("got OK %q, untagged %q, capabilities %q, ahead %q, told %v",
					conn.OK, conn.Untagged, conn.Capabilities, conn.Ahead, conn.HasCapabilities)
			}
		})
	}
}

func TestTheErrorNeverHasThePassword(t *testing.T) {
	const canary = "canary-7f3a"
	message := plainMessage(string(owner), canary)
	for _, say := range []string{
		"%TAG% NO [AUTHENTICATIONFAILED] wrong: " + canary, "%TAG% BAD unknown: AUTHENTICATE PLAIN " + message,
		"* BYE " + canary, canary, "%TAG% NO [LIMIT] " + message,
	} {
		fake := &mailtest.IMAP{Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: say + "\r\n"})}
		s := serverFor(t, fake)
		_, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(canary), Client{})
		if text := fmt.Sprint(answer.Err); strings.Contains(text, canary) || strings.Contains(text, message) || text == "" {
			t.Errorf("the error repeats the password: %s", text)
		}
	}
}

func TestANULIsNotSent(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: accounts()}
	s := serverFor(t, fake)
	_, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret("a\x00b"), Client{})
	if answer.Judgement != auth.Unreached || len(fake.Raw()) != 0 {
		t.Errorf("judged %v, and the server read %q", answer.Judgement, fake.Raw())
	}
}

func TestTheServerMayKnowTheAccountByItsLocalPart(t *testing.T) {
	fake := &mailtest.IMAP{Accounts: map[string]string{owner.Local(): password}}
	s := serverFor(t, fake)
	s.LocalNames = true
	conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), Client{})
	if conn == nil {
		t.Fatal(answer.Err)
	}
	conn.Logout()
}

func TestAProbeTellsTheCapabilities(t *testing.T) {
	s := serverFor(t, &mailtest.IMAP{TLS: mailtest.ServerTLS()})
	caps, err := s.ProbeIMAP(t.Context())
	if err != nil || !caps.Has(imap.CapSASLIR) || caps.Has(imap.CapStartTLS) {
		t.Errorf("capabilities %v: %v", caps, err)
	}
}
