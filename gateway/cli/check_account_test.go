package cli

import (
	"strings"
	"testing"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/mailtest"
)

// A mistyped password is more common than a server whose replies are not understood.
func TestCheckTakesARightPasswordThatIsRefusedForATypingMistakeFirst(t *testing.T) {
	for name, test := range map[string]struct {
		typed      string
		imap, smtp string // the server's reply to wrong credentials; "": the usual one
		is, not    []string
	}{
		"mistyped": {"hoa-snn-7", "", "",
			[]string{"failed   imap           right password", "failed   smtp           right password", "mistyped", "an@example.vn", "imap.upstream.login_name"},
			[]string{"not_wrong"}},
		"right": {"hoa-sen-7", "", "",
			[]string{"ok       imap           right password", "ok       smtp           wrong password"},
			[]string{"failed  ", "mistyped"}},
		"mistyped, and the reply is not understood": {"hoa-snn-7", "NO [ALERT] Bad password", "550 Bad password",
			[]string{"failed   imap           right password", "mistyped", "failed   imap           wrong password", "see imap.upstream.wrong and not_wrong"},
			nil},
		"right, and the reply is not understood": {"hoa-sen-7", "NO [ALERT] Bad password", "550 Bad password",
			[]string{"ok       imap           right password", "failed   smtp           wrong password", "see smtp.upstream.wrong and not_wrong"},
			[]string{"mistyped"}},
	} {
		t.Run(name, func(t *testing.T) {
			accounts := map[string]string{"an@example.vn": "hoa-sen-7"}
			imap, smtp := &mailtest.IMAP{Accounts: accounts, Wrong: test.imap}, &mailtest.SMTP{Accounts: accounts, Wrong: test.smtp}
			t.Cleanup(func() { imap.Close(); smtp.Close() })
			at, err := imap.Start()
			if err != nil {
				t.Fatal(err)
			}
			k, out := checkOf(t, "imap", `{ address: "`+at+`", tls: none }`)
			if at, err = smtp.Start(); err != nil {
				t.Fatal(err)
			}
			k.config.SMTP.Listen = []config.Listener{{Address: "127.0.0.1:0"}}
			k.config.SMTP.Upstream = config.Upstream{Address: at}
			if err := k.judge(t.Context(), "an@example.vn", auth.NewSecret(test.typed)); err != nil {
				t.Fatal(err)
			}
			for _, want := range test.is {
				if !strings.Contains(out.String(), want) {
					t.Errorf("does not say %q:\n%s", want, out)
				}
			}
			for _, not := range test.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("says %q:\n%s", not, out)
				}
			}
			if strings.Contains(out.String(), test.typed) {
				t.Errorf("prints the password:\n%s", out)
			}
		})
	}
}
