package realtest

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Door is a way to the mail: directly at the servers, or through the gateway.
type Door struct {
	Name                                 string
	IMAP, IMAPS, Submission, Submissions int // ports on 127.0.0.1
	POP3, POP3S                          int
}

// Straight returns the way past the gateway.
func Straight(t testing.TB) Door {
	t.Helper()
	d, p := Dovecot(t), Postfix(t)
	return Door{"straight", d.IMAP, d.IMAPS, p.Submission, p.Submissions, d.POP3, d.POP3S}
}

// Door returns the way through the gateway.
func (g *Gateway) Door() Door {
	return Door{"gateway", g.IMAP, g.IMAPS, g.Submission, g.Submissions, g.POP3, g.POP3S}
}

// BothWays runs a test directly at the servers and then through the shared gateway,
// each with a new account, and fails if the results differ.
func BothWays[T any](t *testing.T, try func(t *testing.T, door Door, user string) T) {
	t.Helper()
	var results []T
	try1 := func(name string, door func(testing.TB) Door) {
		t.Run(name, func(t *testing.T) {
			results = append(results, try(t, door(t), Dovecot(t).Account(t)))
		})
	}
	try1("straight", Straight)
	try1("gateway", func(t testing.TB) Door { return Congthu(t).Door() })
	if len(results) == 2 { // -run may have skipped one
		if diff := cmp.Diff(results[0], results[1]); diff != "" {
			t.Errorf("straight (-) and through the gateway (+) differ:\n%s", diff)
		}
	}
}

var (
	accountInText = regexp.MustCompile(`\bu\d{3}\b`)
	timing        = regexp.MustCompile(`\([0-9.]+ \+[ 0-9.+]* secs\)`)
)

// Anonymous replaces what differs between any two runs: the names of the accounts, and
// Dovecot's times.
func Anonymous(text string) string {
	return timing.ReplaceAllString(accountInText.ReplaceAllString(text, "USER"), "(TIME)")
}
