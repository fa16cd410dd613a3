package upstream

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// smtpServerFor is a client of fake, in memory.
func smtpServerFor(t *testing.T, fake *mailtest.SMTP) *Server {
	t.Helper()
	if fake.Accounts == nil {
		fake.Accounts = accounts()
	}
	t.Cleanup(func() { fake.Close() })
	s := &Server{Address: "mail.test:587", Dial: fake.Dial, Timeout: time.Minute}
	if fake.TLS != nil {
		s.TLS, s.TLSConfig = StartTLS, mailtest.ClientTLS()
		if fake.Implicit {
			s.TLS = Implicit
		}
	}
	return s
}

// scripted is a server that plays a dialogue: lines with "C: " are read and must
// match, lines with "S: " are said.
func scripted(t *testing.T, script string) *Server {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		r := bufio.NewReader(far)
		for line := range strings.Lines(script) {
			line = strings.TrimSpace(line)
			if said, ok := strings.CutPrefix(line, "S: "); ok {
				fmt.Fprintf(far, "%s\r\n", said)
				continue
			}
			want, ok := strings.CutPrefix(line, "C: ")
			if !ok {
				continue
			}
			got, err := r.ReadString('\n')
			if err != nil || strings.TrimRight(got, "\r\n") != want {
				t.Errorf("server read %q (%v), want %q", got, err, want)
				return
			}
		}
	}()
	t.Cleanup(func() { near.Close(); <-done })
	return &Server{Timeout: time.Minute, Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
}

func TestTheVerdictOfAnSMTPReply(t *testing.T) {
	s := &Server{
		CredentialPatterns:    []*regexp.Regexp{regexp.MustCompile(`^554 5\.7\.0 .*password`)},
		NotCredentialPatterns: []*regexp.Regexp{regexp.MustCompile(`(?i)try again later`)},
	}
	for reply, want := range map[string]auth.Judgement{
		"235 2.7.0 Authentication successful":                       auth.JudgedRight,
		"535 5.7.8 Error: authentication failed":                    auth.JudgedWrong,
		"535 Incorrect authentication data":                         auth.JudgedWrong, // Exim
		"535 5.7.8 Something is broken, try again later":            auth.RefusedOtherwise,
		"554 5.7.0 wrong password":                                  auth.JudgedWrong,
		"554 5.7.0 go away":                                         auth.RefusedOtherwise,
		"525 5.7.13 account disabled":                               auth.RefusedOtherwise,
		"534 5.7.9 mechanism too weak":                              auth.RefusedOtherwise,
		"454 4.7.0 Temporary authentication failure":                auth.Unreached,
		"421 4.3.2 shutting down":                                   auth.Unreached,
		"432 4.7.12 A password transition is needed":                auth.Unreached,
		"334 UGFzc3dvcmQ6":                                          auth.Unreached,
		"535-5.7.8 Username and Password not accepted\n5.7.8 Sorry": auth.JudgedWrong,
	} {
		var r smtpReply
		fmt.Sscan(reply, &r.code)
		r.lines = strings.Split(strings.TrimLeft(reply[3:], " -"), "\n")
		if got := s.judgeSMTP(r); got.Judgement != want || got.Code != "" {
			t.Errorf("%q: %v, want %v", reply, got, want)
		}
	}
}

func TestAnyPasswordSurvivesTheWayToTheSMTPServer(t *testing.T) {
	passwords := []string{
		password, "a", "\r\n.\r\n", "\xff\xfe\x80", strings.Repeat("x", 300), strings.Repeat("ạ", 3000), "=", "*", " ",
	}
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		for _, p := range passwords {
			fake := &mailtest.SMTP{Accounts: map[string]string{string(owner): p}, Mechanisms: []string{mechanism}}
			s := smtpServerFor(t, fake)
			conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(p), Client{})
			if answer.Judgement != auth.JudgedRight {
				t.Errorf("%s %.10q: %v %v", mechanism, p, answer.Judgement, answer.Err)
				continue
			}
			conn.Logout()
			if conn, answer = s.LoginSMTP(t.Context(), owner, auth.NewSecret(p+"!"), Client{}); answer.Judgement != auth.JudgedWrong || conn != nil {
				t.Errorf("%s %.10q!: %v %v", mechanism, p, answer.Judgement, answer.Err)
			}
		}
	}
}

func TestALongPasswordIsNotAnInitialResponse(t *testing.T) {
	message := func(p string) string { return plainMessage(string(owner), p) }
	short := strings.Repeat("x", 300)
	for len("AUTH PLAIN "+message(short+"x"))+2 <= 512 {
		short += "x"
	}
	fake := &mailtest.SMTP{}
	s := smtpServerFor(t, fake)
	for _, p := range []string{short, short + "xxx"} {
		s.LoginSMTP(t.Context(), owner, auth.NewSecret(p), Client{})
	}
	var got []string
	for _, line := range fake.Lines() {
		if strings.HasPrefix(line, "AUTH") {
			got = append(got, line)
		}
	}
	if diff := cmp.Diff([]string{"AUTH PLAIN " + message(short), "AUTH PLAIN"}, got); diff != "" {
		t.Error(diff)
	}
	if v := fake.Verdicts(string(owner)); v.Wrong != 2 {
		t.Errorf("%d verdicts, want 2", v.Wrong)
	}
}

func TestSMTPLoginOverTLS(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		fake := &mailtest.SMTP{TLS: mailtest.ServerTLS(), Implicit: implicit}
		s := smtpServerFor(t, fake)
		// Not in memory: an alert needs a buffer.
		s.Dial = nil
		var err error
		if s.Address, err = fake.Start(); err != nil {
			t.Fatal(err)
		}
		conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
		if answer.Judgement != auth.JudgedRight {
			t.Fatalf("implicit %v: %v %v", implicit, answer.Judgement, answer.Err)
		}
		conn.Logout()
		s.TLSConfig.RootCAs = nil
		if _, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{}); answer.Judgement != auth.Unreached {
			t.Errorf("a certificate that nobody signed: %v", answer.Judgement)
		}
	}
}

func TestAnSMTPServerWithoutSTARTTLSIsNotToldThePassword(t *testing.T) {
	s := smtpServerFor(t, &mailtest.SMTP{})
	s.TLS, s.TLSConfig = StartTLS, mailtest.ClientTLS()
	if _, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{}); answer.Judgement != auth.Unreached {
		t.Errorf("%v, want unreached", answer.Judgement)
	}
}

func TestWhatAnSMTPServerSaysBeforeTheHandshakeIsNotBelieved(t *testing.T) {
	near, far := net.Pipe()
	go func() {
		r := bufio.NewReader(far)
		far.Write([]byte("220 mail.test\r\n"))
		r.ReadString('\n')
		far.Write([]byte("250-mail.test\r\n250 STARTTLS\r\n"))
		r.ReadString('\n')
		far.Write([]byte("220 go\r\n250 AUTH PLAIN\r\n"))
	}()
	defer near.Close()
	s := &Server{Timeout: time.Minute, TLS: StartTLS, TLSConfig: mailtest.ClientTLS(),
		Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil }}
	_, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
	if answer.Judgement != auth.Unreached || !strings.Contains(fmt.Sprint(answer.Err), "before the handshake") {
		t.Errorf("%v %v", answer.Judgement, answer.Err)
	}
}

func TestAnSMTPServerThatCannotBeAskedJudgesNobody(t *testing.T) {
	for name, fake := range map[string]*mailtest.SMTP{
		"turns away":            {Greeting: "554 5.3.2 no service"},
		"is busy":               {Greeting: "421 4.3.2 too many connections"},
		"is no mail server":     {Greeting: "HTTP/1.1 400 Bad Request"},
		"talks without end":     {Misbehave: mailtest.At("greeting", mailtest.Misdeed{Say: strings.Repeat("220-x\r\n", 200), Close: true})},
		"has an endless line":   {Misbehave: mailtest.At("greeting", mailtest.Misdeed{Say: "220 " + strings.Repeat("x", 10000), Close: true})},
		"says nothing":          {Misbehave: mailtest.At("greeting", mailtest.Misdeed{Close: true})},
		"refuses EHLO":          {Misbehave: mailtest.At("EHLO", mailtest.Misdeed{Say: "502 5.5.1 no\r\n"})},
		"offers no mechanism":   {Mechanisms: []string{}},
		"offers only CRAM-MD5":  {Mechanisms: []string{"CRAM-MD5"}},
		"refuses for now":       {Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "454 4.7.0 later\r\n"})},
		"goes down":             {Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "421 4.3.2 bye\r\n", Close: true})},
		"asks for another step": {Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "334 \r\n"})},
	} {
		conn, answer := smtpServerFor(t, fake).LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
		if answer.Judgement != auth.Unreached || answer.Err == nil || conn != nil {
			t.Errorf("a server that %s: %v %v", name, answer.Judgement, answer.Err)
		}
	}
}

func TestNoReplyToSMTPCredentialsIsInDoubt(t *testing.T) {
	for name, m := range map[string]mailtest.Misdeed{
		"closes":       {Close: true},
		"says rubbish": {Say: "what?\r\n"},
		"half a line":  {Say: "53", Close: true},
	} {
		for _, mechanism := range []string{"PLAIN", "LOGIN"} {
			fake := &mailtest.SMTP{Misbehave: mailtest.At("verdict", m), Mechanisms: []string{mechanism}}
			_, answer := smtpServerFor(t, fake).LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
			if answer.Judgement != auth.InDoubt {
				t.Errorf("%s, %s: %v %v", name, mechanism, answer.Judgement, answer.Err)
			}
		}
	}
}

func TestARefusalBeforeThePasswordIsNoVerdictOnIt(t *testing.T) {
	for reply, want := range map[string]auth.Judgement{
		"535 5.7.8 no such user": auth.RefusedOtherwise,
		"504 5.5.4 not today":    auth.Unreached,
		"454 4.7.0 later":        auth.Unreached,
	} {
		s := scripted(t, `
			S: 220 mail.test
			C: EHLO localhost
			S: 250-mail.test
			S: 250 AUTH LOGIN
			C: AUTH LOGIN
			S: 334 VXNlcm5hbWU6
			C: `+base64.StdEncoding.EncodeToString([]byte(owner))+`
			S: `+reply+`
			C: QUIT`)
		if _, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{}); answer.Judgement != want {
			t.Errorf("%s: %v %v", reply, answer.Judgement, answer.Err)
		}
	}
}

func TestTheOldFormOfTheAUTHLineIsUnderstood(t *testing.T) {
	s := scripted(t, `
		S: 220-mail.test
		S: 220 at your service
		C: EHLO localhost
		S: 250-mail.test
		S: 250-auth=login plain
		S: 250 size 5000
		C: AUTH PLAIN `+plainMessage(string(owner), password)+`
		S: 235 ok
		C: QUIT`)
	conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
	if answer.Judgement != auth.JudgedRight {
		t.Fatal(answer.Judgement, answer.Err)
	}
	if got := conn.Extensions.Size(); got != 5000 {
		t.Errorf("size %d, want 5000", got)
	}
	conn.Logout()
}

func TestASilentSMTPServerCostsAStepAndEndsWithTheContext(t *testing.T) {
	for _, step := range []mailtest.Step{"greeting", "EHLO", "AUTH", "verdict"} {
		synctest.Test(t, func(t *testing.T) {
			fake := &mailtest.SMTP{Misbehave: mailtest.At(step, mailtest.Misdeed{Hang: true})}
			s := smtpServerFor(t, fake)
			began := time.Now()
			_, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
			if took := time.Since(began); took > s.Timeout {
				t.Errorf("%s: took %v", step, took)
			}
			want := auth.Unreached
			if step == "AUTH" || step == "verdict" {
				want = auth.InDoubt
			}
			if answer.Judgement != want {
				t.Errorf("%s: %v", step, answer.Judgement)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began = time.Now()
			if _, answer = s.LoginSMTP(ctx, owner, auth.NewSecret(password), Client{}); answer.Judgement != want || time.Since(began) > time.Second {
				t.Errorf("%s: %v after %v", step, answer.Judgement, time.Since(began))
			}
			fake.Close()
		})
	}
}

func TestTheClientIsPassedOnByXCLIENT(t *testing.T) {
	for source, want := range map[string]map[string]string{
		"192.0.2.7:40000":               {"ADDR": "192.0.2.7", "PORT": "40000", "PROTO": "ESMTP"},
		"[::ffff:192.0.2.7]:40000":      {"ADDR": "192.0.2.7", "PORT": "40000", "PROTO": "ESMTP"},
		"[2001:db8::a%eth0]:40000":      {"ADDR": "IPV6:2001:DB8::A", "PORT": "40000", "PROTO": "ESMTP"},
		"[2001:db8::a%a\r\nRSET]:40000": {"ADDR": "IPV6:2001:DB8::A", "PORT": "40000", "PROTO": "ESMTP"},
	} {
		fake := &mailtest.SMTP{XClient: true, TLS: mailtest.ServerTLS()}
		s := smtpServerFor(t, fake)
		s.PassClient = PassXCLIENT
		conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{Address: netip.MustParseAddrPort(source)})
		if answer.Judgement != auth.JudgedRight {
			t.Fatal(answer.Judgement, answer.Err)
		}
		conn.Logout()
		if diff := cmp.Diff([]map[string]string{want}, fake.Clients()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestXCLIENTIsOnlyForServersThatWantIt(t *testing.T) {
	source := Client{Address: netip.MustParseAddrPort("192.0.2.7:40000")}
	for name, test := range map[string]struct {
		fake *mailtest.SMTP
		pass PassClient
		want auth.Judgement
	}{
		"not configured": {&mailtest.SMTP{XClient: true}, PassNone, auth.JudgedRight},
		"not offered":    {&mailtest.SMTP{}, PassXCLIENT, auth.JudgedRight},
		"refused": {&mailtest.SMTP{XClient: true, Misbehave: mailtest.At("XCLIENT", mailtest.Misdeed{Say: "550 5.7.0 no\r\n"})},
			PassXCLIENT, auth.Unreached},
	} {
		s := smtpServerFor(t, test.fake)
		s.PassClient = test.pass
		conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), source)
		if answer.Judgement != test.want {
			t.Errorf("%s: %v %v", name, answer.Judgement, answer.Err)
		}
		if conn != nil {
			conn.Logout()
		}
		if got := test.fake.Clients(); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTheSMTPErrorNeverHasThePassword(t *testing.T) {
	const canary = "canary-5f3a"
	fake := &mailtest.SMTP{Wrong: "535 5.7.8 bad password " + canary + " " + base64.StdEncoding.EncodeToString([]byte(canary)) +
		" " + plainMessage(string(owner), canary)}
	_, answer := smtpServerFor(t, fake).LoginSMTP(t.Context(), owner, auth.NewSecret(canary), Client{})
	text := fmt.Sprint(answer.Err)
	if answer.Judgement != auth.JudgedWrong || strings.Contains(text, canary) ||
		strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary))) || strings.Contains(text, plainMessage(string(owner), canary)) {
		t.Errorf("%v %v", answer.Judgement, answer.Err)
	}
}

func TestTheSMTPServerMayKnowTheAccountByItsLocalPart(t *testing.T) {
	fake := &mailtest.SMTP{Accounts: map[string]string{owner.Local(): password}}
	s := smtpServerFor(t, fake)
	s.LocalNames = true
	conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
	if answer.Judgement != auth.JudgedRight {
		t.Fatal(answer.Judgement, answer.Err)
	}
	conn.Logout()
}

func TestAnSMTPProbeTellsTheExtensions(t *testing.T) {
	fake := &mailtest.SMTP{TLS: mailtest.ServerTLS()}
	s := smtpServerFor(t, fake)
	got, err := s.ProbeSMTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Extensions{"PIPELINING": "", "SIZE": "10240000", "ENHANCEDSTATUSCODES": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": "", "AUTH": "PLAIN LOGIN"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := got.Size(); n != 10240000 {
		t.Errorf("size %d", n)
	}
	s = smtpServerFor(t, &mailtest.SMTP{Mechanisms: []string{}})
	if _, err := s.ProbeSMTP(t.Context()); err == nil {
		t.Error("a server without AUTH is of no use, and no error says so")
	}
}

// What the server says behind its reply to the credentials belongs to the client.
func TestALoginAtAnSMTPServerIsHandedOver(t *testing.T) {
	fake := &mailtest.SMTP{Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "235-2.7.0 Hello\r\n235 2.7.0 there\r\n421 4.3.2 bye\r\n"})}
	conn, answer := smtpServerFor(t, fake).LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
	if answer.Judgement != auth.JudgedRight {
		t.Fatal(answer.Judgement, answer.Err)
	}
	defer conn.Logout()
	if want := "235-2.7.0 Hello\r\n235 2.7.0 there\r\n"; conn.OK != want {
		t.Errorf("%q, want %q", conn.OK, want)
	}
	if string(conn.Ahead) != "421 4.3.2 bye\r\n" || !conn.Extensions.Has("DSN") {
		t.Errorf("%q ahead, %v", conn.Ahead, conn.Extensions)
	}
}
