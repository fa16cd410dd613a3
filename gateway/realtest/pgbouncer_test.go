package realtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"congthu/auth/postgres/pgtest"
)

// pgbouncerSettings are those of the guide's pgbouncer.ini, without addresses, keys
// and certificates.
func pgbouncerSettings(t *testing.T, guide string) (settings []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/guide", guide))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```ini\n.*?\\[pgbouncer\\]\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s shows no pgbouncer.ini", guide)
	}
	for line := range strings.Lines(string(block[1])) {
		if !regexp.MustCompile(`^(listen_|auth_|client_tls_|server_tls_)`).MatchString(line) {
			settings = append(settings, strings.TrimSpace(line))
		}
	}
	return settings
}

// TestLoginsThroughPgBouncer: a gateway on the guide's PgBouncer does what one on
// PostgreSQL does, and one whose connections keep no session does not start.
func TestLoginsThroughPgBouncer(t *testing.T) {
	t.Parallel()
	settings := pgbouncerSettings(t, "postgres-replicas.md")
	if got := pgbouncerSettings(t, "postgres-replicas.vi.md"); strings.Join(got, "\n") != strings.Join(settings, "\n") || len(got) == 0 {
		t.Fatalf("the guides differ: %q, %q", settings, got)
	}
	r := NewReplicas(t, 1, 0)
	g := r.Gateways[0]
	g.Stop()
	through := func(pooler *pgtest.Pooler) {
		t.Helper()
		writeFile(t, filepath.Join(r.shared, "dsn"), pooler.Through(r.Database.DSN("postgres"))+" password="+databasePassword+"\n", 0o600)
	}
	pooler := r.Database.Pool(t, settings...)
	through(pooler)
	g.Start(t)

	victim, other := r.Account(t), r.Account(t)
	if code := g.Guess(t, "", other, Password); !accepted(code) {
		t.Errorf("a login: %q", code)
	}
	for i := range 7 {
		g.Guess(t, "", victim, "wrong"+string(rune('a'+i)))
	}
	if n := r.Wrong(victim); n != 6 {
		t.Errorf("%d wrong passwords were judged, want 6", n)
	}
	if code := g.Guess(t, "", victim, Password); code != imapLocked {
		t.Errorf("a locked account: %q", code)
	}
	pooler.Stop()
	pooler.Start(t)
	Eventually(t, "a login after the pooler was restarted", func() bool { return accepted(g.Guess(t, "", other, Password)) })
	if code := g.Guess(t, "", victim, Password); code != imapLocked {
		t.Errorf("a locked account after the pooler was restarted: %q", code)
	}
	o := Command(t, "", nil, Binary(t), "check", "-c", g.Config)
	for _, want := range []string{
		"ok       store          statement_timeout 1500ms, lock_timeout 1s, idle_in_transaction_session_timeout 750ms",
		"ok       store          a pooler is in between and keeps the session of each connection", "fsync off, full_page_writes on, synchronous_commit on",
	} {
		if !strings.Contains(o.All(), want) {
			t.Errorf("check does not say %q:\n%s", want, o.All())
		}
	}

	g.Stop()
	for mode, want := range map[string]string{"transaction": "pool_mode=transaction", "statement": "pool_mode=statement"} {
		through(r.Database.Pool(t, "pool_mode = "+mode))
		for _, command := range []string{"check", "serve"} {
			o := Command(t, "", nil, Binary(t), command, "-c", g.Config)
			if o.Code != 1 || !strings.Contains(o.All(), want) || !strings.Contains(o.All(), "write pool_mode=session") {
				t.Errorf("%s: exit code %d:\n%s", command, o.Code, o.All())
			}
		}
	}
}
