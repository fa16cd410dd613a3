package upstream

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

const pop3Owner = auth.Name("nguyen.van.a@congthu.test")

// pop3 starts a fake and gives the server that leads to it.
func pop3(t *testing.T, fake *mailtest.POP3) *Server {
	t.Helper()
	if fake.Accounts == nil {
		fake.Accounts = map[string]string{string(pop3Owner): "Mat-khau-1"}
	}
	address, err := fake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	s := &Server{Address: address, Timeout: 10 * time.Second}
	if fake.TLS != nil {
		s.TLS, s.TLSConfig = StartTLS, mailtest.ClientTLS()
		if fake.Implicit {
			s.TLS = Implicit
		}
	}
	return s
}

func TestPOP3Login(t *testing.T) {
	secure := mailtest.ServerTLS()
	long := strings.Repeat("dai", 200)
	for name, c := range map[string]struct {
		fake     *mailtest.POP3
		password string
		steps    string
	}{
		"SASL PLAIN":               {&mailtest.POP3{}, "Mat-khau-1", "greeting CAPA AUTH verdict judged"},
		"USER and PASS":            {&mailtest.POP3{Caps: []string{"USER"}}, "Mat-khau-1", "greeting CAPA USER PASS verdict judged"},
		"a server without CAPA":    {&mailtest.POP3{Caps: []string{}}, "Mat-khau-1", "greeting CAPA USER PASS verdict judged"},
		"blanks in the password":   {&mailtest.POP3{Caps: []string{"USER"}}, " a  b ", "greeting CAPA USER PASS verdict judged"},
		"a long password":          {&mailtest.POP3{}, long, "greeting CAPA AUTH verdict judged"},
		"a line end in it":         {&mailtest.POP3{}, "a\r\nb", "greeting CAPA AUTH verdict judged"},
		"STLS":                     {&mailtest.POP3{TLS: secure}, "Mat-khau-1", "greeting STLS tls CAPA AUTH verdict judged"},
		"TLS from the first octet": {&mailtest.POP3{TLS: secure, Implicit: true}, "Mat-khau-1", "tls greeting CAPA AUTH verdict judged"},
		"a welcome of its own":     {&mailtest.POP3{OK: "+OK maildrop has 2 messages"}, "Mat-khau-1", "greeting CAPA AUTH verdict judged"},
	} {
		t.Run(name, func(t *testing.T) {
			c.fake.Accounts = map[string]string{string(pop3Owner): c.password}
			s := pop3(t, c.fake)
			conn, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret(c.password), Client{})
			if conn == nil || answer.Judgement != auth.JudgedRight {
				t.Fatalf("%+v", answer)
			}
			want := c.fake.OK
			if want == "" {
				want = "+OK Logged in."
			}
			if conn.OK != want {
				t.Errorf("the client is to read %q", conn.OK)
			}
			var steps []string
			for _, step := range c.fake.Steps() {
				steps = append(steps, string(step))
			}
			if got := strings.Join(steps, " "); got != c.steps {
				t.Errorf("steps %s, want %s", got, c.steps)
			}
			conn.Logout()
		})
	}
}

// What a reply means for the rules. Only an explicit "these credentials are wrong" is
// counted.
func TestWhatAPOP3ReplyMeans(t *testing.T) {
	modern := []string{"SASL PLAIN", "AUTH-RESP-CODE", "RESP-CODES"}
	old := []string{"SASL PLAIN"}
	for _, c := range []struct {
		caps  []string
		reply string
		want  auth.Judgement
		code  string
	}{
		{modern, "-ERR [AUTH] Authentication failed.", auth.JudgedWrong, ""},
		{modern, "-err [auth] no", auth.JudgedWrong, ""},
		{modern, "-ERR no", auth.Unreached, ""},
		{modern, "-ERR [IN-USE] Do you have another POP session running?", auth.RefusedOtherwise, "IN-USE"},
		{modern, "-ERR [SYS/TEMP] later", auth.Unreached, ""},
		{modern, "-ERR [SYS/PERM] see your administrator", auth.RefusedOtherwise, "SYS/PERM"},
		{modern, "-ERR [LOGIN-DELAY] wait", auth.RefusedOtherwise, "LOGIN-DELAY"},
		{modern, "-ERR wrong password, says our own server", auth.JudgedWrong, ""}, // by pattern
		{old, "-ERR invalid password", auth.JudgedWrong, ""},
		{old, "-ERR", auth.JudgedWrong, ""},
		{old, "-ERR [AUTH] no", auth.JudgedWrong, ""},
		{old, "-ERR [SYS/TEMP] later", auth.Unreached, ""},
		{old, "-ERR [IN-USE] busy", auth.RefusedOtherwise, "IN-USE"},
		{old, "-ERR maildrop already locked", auth.Unreached, ""}, // RFC 1939 section 7; by pattern
		{old, "BYE", auth.Unreached, ""},
		{modern, "500 what?", auth.Unreached, ""},
	} {
		s := pop3(t, &mailtest.POP3{Caps: c.caps, Wrong: c.reply})
		s.CredentialPatterns, s.NotCredentialPatterns = patternsOf("our own server"), patternsOf("already locked")
		conn, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret("sai"), Client{})
		if conn != nil || answer.Judgement != c.want || answer.Code != c.code || answer.Err == nil {
			t.Errorf("%q with %q: %+v, want %v %q", c.reply, c.caps, answer, c.want, c.code)
		}
	}
}

// RFC 1939's own example: a right password while another session has the maildrop, at a
// server without codes. With not_wrong nothing is counted.
func TestAMaildropThatIsLockedIsNoWrongPassword(t *testing.T) {
	s := pop3(t, &mailtest.POP3{Caps: []string{"USER"}, Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "-ERR maildrop already locked\r\n"})})
	s.NotCredentialPatterns = patternsOf(`(?i)locked`)
	for range 10 {
		if _, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret("Mat-khau-1"), Client{}); answer.Judgement != auth.Unreached {
			t.Fatalf("%+v", answer)
		}
	}
}

// A server that goes away is no judgement; in doubt only once the password was sent.
func TestAPOP3ServerThatFailsJudgesNothing(t *testing.T) {
	for step, want := range map[mailtest.Step]auth.Judgement{
		"greeting": auth.Unreached, "CAPA": auth.Unreached, "USER": auth.Unreached, "PASS": auth.InDoubt, "verdict": auth.InDoubt, "judged": auth.InDoubt,
	} {
		s := pop3(t, &mailtest.POP3{Caps: []string{"USER"}, Misbehave: mailtest.At(step, mailtest.Misdeed{Close: true})})
		if conn, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret("Mat-khau-1"), Client{}); conn != nil || answer.Judgement != want {
			t.Errorf("closed at %s: %+v, want %v", step, answer, want)
		}
	}
	for _, says := range []string{"-ERR too many connections\r\n", "* OK IMAP4rev1\r\n", "220 smtp\r\n", strings.Repeat("x", 100_000)} {
		s := pop3(t, &mailtest.POP3{Misbehave: mailtest.At("greeting", mailtest.Misdeed{Say: says, Close: true})})
		if _, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret("Mat-khau-1"), Client{}); answer.Judgement != auth.Unreached || answer.Err == nil {
			t.Errorf("greeted with %.20q: %+v", says, answer)
		}
	}
	endless := strings.Repeat("X-ANY\r\n", 20_000)
	s := pop3(t, &mailtest.POP3{Misbehave: mailtest.At("CAPA", mailtest.Misdeed{Say: "+OK\r\n" + endless})})
	if _, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret("Mat-khau-1"), Client{}); !errors.Is(answer.Err, errTalk) {
		t.Errorf("capabilities without end: %v", answer.Err)
	}
}

func TestAPOP3ServerThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &mailtest.POP3{Caps: []string{"USER"}, Misbehave: mailtest.At("verdict", mailtest.Misdeed{Hang: true})}
		defer fake.Close()
		s := &Server{Timeout: 10 * time.Second, Dial: fake.Dial}
		began := time.Now()
		if _, answer := s.LoginPOP3(context.WithoutCancel(t.Context()), pop3Owner, auth.NewSecret("x"), Client{}); answer.Judgement != auth.InDoubt {
			t.Errorf("%+v", answer)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// The password is in no error, even where the server repeats it.
func TestAPOP3ErrorHasNoPassword(t *testing.T) {
	const canary = "canary-9a1c"
	message := plainMessage(string(pop3Owner), canary)
	s := pop3(t, &mailtest.POP3{Wrong: "-ERR " + canary + " and " + message + " are wrong"})
	_, answer := s.LoginPOP3(t.Context(), pop3Owner, auth.NewSecret(canary), Client{})
	if answer.Err == nil || strings.Contains(answer.Err.Error(), canary) || strings.Contains(answer.Err.Error(), message) {
		t.Errorf("%v", answer.Err)
	}
}

func TestProbePOP3(t *testing.T) {
	if caps, err := pop3(t, &mailtest.POP3{}).ProbePOP3(t.Context()); err != nil || !caps.Has("AUTH-RESP-CODE") {
		t.Errorf("%v, %v", caps, err)
	}
	if _, err := pop3(t, &mailtest.POP3{Caps: []string{"UIDL"}}).ProbePOP3(t.Context()); err == nil {
		t.Error("no error of a server that takes no password")
	}
	s := pop3(t, &mailtest.POP3{Caps: []string{"UIDL"}, TLS: mailtest.ServerTLS()})
	s.TLS = Plain
	if _, err := s.ProbePOP3(t.Context()); !errors.Is(err, ErrWantsTLS) {
		t.Errorf("a server that wants TLS first: %v", err)
	}
	s = pop3(t, &mailtest.POP3{})
	s.TLS, s.TLSConfig = StartTLS, mailtest.ClientTLS()
	if _, err := s.ProbePOP3(t.Context()); !errors.Is(err, ErrNoStartTLS) {
		t.Errorf("a server without STLS: %v", err)
	}
}

func patternsOf(expressions ...string) (all []*regexp.Regexp) {
	for _, e := range expressions {
		all = append(all, regexp.MustCompile(e))
	}
	return all
}
