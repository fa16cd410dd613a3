package cli

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/sqlite"
)

// remember puts rows into the site's store.
func (s *site) remember(rows ...auth.Account) {
	s.t.Helper()
	store, err := sqlite.Open(context.Background(), sqlite.Options{Path: s.path("congthu.db")})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, row := range rows {
		if _, err := store.Update(context.Background(), row.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			*a = row
			return nil, true
		}); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// found returns what check says about names.
func (s *site) found() (code int, lines []string) {
	s.t.Helper()
	var out, errOut bytes.Buffer
	code = Run(context.Background(), []string{"check", "-c", s.file}, strings.NewReader(""), &out, &errOut)
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, " names  ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return code, lines
}

func TestCheckListsWhatTheConfigurationTakesForOtherNames(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	lock := auth.Lock{Mark: auth.Mark{At: at, By: "An", Reason: "left"}, Cause: auth.ByAdmin}
	s := newSite(t, "")
	if _, lines := s.found(); len(lines) != 0 {
		t.Errorf("without a store: %q", lines)
	}
	s.remember(
		auth.Account{Name: "lan@example.vn", Registered: at, FirstLogin: at},
		auth.Account{Name: "lân@example.vn", Registered: at, FirstLogin: at},
		auth.Account{Name: "bình@example.vn", Failures: 1, Mistakes: []auth.Mistake{{At: at}}},
		auth.Account{Name: "front@example.vn", Registered: at, Lock: lock},
		auth.Account{Name: "desk@example.vn", Failures: 6, Mistakes: []auth.Mistake{{At: at}}},
		auth.Account{Name: "lan@other.vn", Registered: at, Revocation: auth.Mark{At: at, By: auth.ByGateway}},
	)
	want := func(more string, lines ...string) {
		t.Helper()
		s.configure(more)
		_, got := s.found()
		if len(got) != len(lines) {
			t.Fatalf("%q:\n%s\nwant %q", more, strings.Join(got, "\n"), lines)
		}
		for i, line := range lines {
			if result, says, _ := strings.Cut(line, " "); !strings.HasPrefix(got[i], result) || !strings.Contains(got[i], says) {
				t.Errorf("%q: %q, want %q", more, got[i], line)
			}
		}
	}
	want("names: { unicode: true }\n")
	want("", "failed 1 account with letters beyond ASCII before the @, while names.unicode is false")
	want("names: { unicode: true }\naliases: { front@example.vn: lan@example.vn, desk@example.vn: lan@example.vn }\n",
		"warning a name that nobody ever logged in with is another name of lan@example.vn",
		"warning front@example.vn is another name of lan@example.vn, and it is locked",
		"warning 2 rows under another name of an account, 1 of them locked or revoked")

	// check also works while the gateway runs and owns the file.
	s.configure("names: { unicode: true }\naliases: { front@example.vn: lan@example.vn }\n")
	p := s.run()
	if code, lines := s.found(); len(lines) != 2 || code != 1 { // there is no mail server
		t.Errorf("beside the gateway: %d, %q", code, lines)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(strings.Split(p.log.String(), "\n"), func(line string) bool {
		return strings.Contains(line, "accounts are kept under names that mean other accounts now") && strings.Contains(line, "count=1")
	}) {
		t.Errorf("the log: %s", p.log)
	}
}

func TestCheckSaysThatALockInAnotherDomainHolds(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := newSite(t, "")
	s.remember(auth.Account{Name: "lan@other.vn", Registered: at, Revocation: auth.Mark{At: at, By: auth.ByGateway}})
	s.configure("domains: [other.vn]\n")
	if _, lines := s.found(); len(lines) != 0 {
		t.Errorf("domains that the mail server tells apart: %q", lines)
	}
	s.local()
	if _, lines := s.found(); len(lines) != 2 || !strings.Contains(lines[0], "lan@other.vn is another name of lan@example.vn, and it is revoked") {
		t.Errorf("domains that it does not: %q", lines)
	}
}

// local configures the mail server to know accounts by the part before the @.
func (s *site) local() {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.file, bytes.Replace(text, []byte("tls: none }"), []byte("tls: none, login_name: local }"), 1), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
