package cli

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/postgres"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/sqlite"
	"congthu/auth/storetest"
	"congthu/auth/storetest/testenv"
	"congthu/gateway/admin"
	"congthu/gateway/config"
)

// served is an admin socket with a store of its own and without a gateway.
type served struct {
	*fake
	store *sqlite.Store
	// interrupt stops imports after their first batch.
	interrupt bool
}

func newServed(t *testing.T) *served {
	t.Helper()
	t.Setenv(socketVariable, "")
	dir := testenv.Dir(t)
	s := &served{fake: &fake{T: t, dir: dir, socket: filepath.Join(dir, "admin.sock")}}
	var err error
	if s.store, err = sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(dir, "congthu.db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	g := &guard.Guard{Store: s.store, Now: func() time.Time { return at("2026-11-24 12:00:00") }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{
		Default: "example.org", Aliases: map[auth.Name]auth.Name{"office@example.org": "an@example.org"},
	}})
	server := &admin.Server{
		Accounts: s.store, Guard: g, Canonical: g.Canonical, Own: g.Own, Now: g.Now,
		Import: func(ctx context.Context, list []auth.Imported, act auth.Act, o guard.ImportOptions) (guard.Importation, error) {
			if s.interrupt {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				defer cancel()
				o.Progress = func(int) { cancel() }
			}
			return g.Import(ctx, s.store, list, act, o)
		},
	}
	listener, err := admin.ListenSocket(s.socket, "")
	if err != nil {
		t.Fatal(err)
	}
	h := server.HTTPServer(server.SocketHandler())
	done := make(chan error, 1)
	go func() { done <- h.Serve(listener) }()
	t.Cleanup(func() {
		h.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

func (s *served) file(name, content string) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

func TestAListIsImportedOnceAndAllItsErrorsAreShown(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		s := newServed(t)
		t.Setenv(socketVariable, s.socket)
		list := s.file("accounts.csv", "\ufeffaddress;unit;registered;last_login;password_changed\r\n"+
			"an@example.org;Sở Y tế;15/01/2024;2026-11-01;2026-07-01\r\n"+
			"binh@example.org;Sở Nội vụ;2020-01-01;2025-01-01;\r\n"+
			"cu@example.org;;;;2026-11-20T08:00:00+07:00\r\n")
		bad := s.file("bad.csv", "address,last_login\noffice@example.org,\nd@example.com,tomorrow\nd@example.org,2026-11-25\nD@example.org,\n")
		s.expect(0, "import", "accounts", list, "--dry-run")
		s.expect(0, "import", "accounts", list, "--reason", "công văn 12/CV")
		s.expect(0, "import", "accounts", list, "--reason", "công văn 12/CV")
		s.expect(0, "import", "accounts", s.file("numbered.csv", ";address;unit;\r\n1;an@example.org\r\n2;binh@example.org;Sở Nội vụ\r\n"), "--dry-run")
		s.expect(0, "import", "accounts", "../../deploy/examples/accounts.csv", "--dry-run")
		s.expect(1, "import", "accounts", bad, "--dry-run")
		s.expect(1, "import", "accounts", bad, "--reason", "công văn 12/CV")
		s.expect(exitUsage, "import", "accounts", list)
		s.expect(exitUsage, "import", "accounts", "--reason", "công văn 12/CV")
		s.expect(1, "import", "accounts", filepath.Join(s.dir, "none.csv"), "--dry-run")
		s.expect(1, "import", "accounts", s.file("empty.csv", ""), "--dry-run")
		s.expect(1, "import", "accounts", s.file("large.csv", strings.Repeat("x", maxList+1)), "--dry-run")
		s.compare("import-accounts")

		out, _ := s.expect(0, "import", "accounts", list, "--dry-run", "-o", "json")
		if !strings.Contains(out, `"unchanged": 3`) {
			t.Errorf("%s", out)
		}
		code := Run(t.Context(), []string{"import", "accounts", "-", "--reason", "thêm"}, strings.NewReader("address\nmoi@example.org\n"), io.Discard, t.Output())
		events, err := s.store.Events(t.Context(), auth.EventFilter{})
		if code != 0 || err != nil || len(events) != 3+2+2+1+2 {
			t.Fatalf("exit code %d, events %+v, %v", code, events, err)
		}
		if e := events[1]; e.Account != "moi@example.org" || !strings.HasPrefix(e.Actor, fmt.Sprintf("uid:%d ", os.Getuid())) || e.Reason != "thêm" {
			t.Errorf("event %+v", e)
		}
	})
}

func TestAnInterruptedImportIsReportedUntilItIsFinished(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		s := newServed(t)
		t.Setenv(socketVariable, s.socket)
		var text strings.Builder
		text.WriteString("address\n")
		for i := range 250 {
			fmt.Fprintf(&text, "n%d@example.org\n", i)
		}
		list, small := s.file("accounts.csv", text.String()), s.file("small.csv", "address\nan@example.org\n")
		// The transcripts contain its digest, as sha256sum prints it.
		s.interrupt = true
		s.expect(exitFailed, "import", "accounts", list, "--reason", "công văn 12/CV")
		s.expect(exitFailed, "import", "accounts", list, "--reason", "công văn 12/CV", "-o", "json")
		s.interrupt = false
		s.expect(0, "import", "accounts", small, "--reason", "thêm")
		looks := func() string {
			var out strings.Builder
			c := &config.Config{Store: config.Store{Path: filepath.Join(s.dir, "congthu.db"), PepperFile: filepath.Join(s.dir, "pepper.key")}}
			c.Regulation.TimeZone = auth.DefaultRules().Location
			(&check{out: &out, config: c}).store(t.Context())
			return out.String()
		}
		looked := looks()
		want := trf("of %d accounts, begun on %s by %s (%s), is not finished: unless it goes on at the moment, import the same list again (SHA-256 %s). What is there already is left as it is",
			250, "2026-11-24 12:00", "ACTOR", "công văn 12/CV", fmt.Sprintf("%x", sha256.Sum256([]byte(text.String()))))
		before, after, _ := strings.Cut(want, "ACTOR")
		if !strings.Contains(looked, before) || !strings.Contains(looked, after) {
			t.Errorf("check does not tell of it (%s):\n%s", want, looked)
		}
		s.expect(0, "import", "accounts", list, "--reason", "công văn 12/CV")
		if looked := looks(); strings.Contains(looked, before) {
			t.Errorf("check tells of one that is finished:\n%s", looked)
		}
		s.expect(0, "import", "accounts", small, "--reason", "thêm")
		events, err := s.store.Events(t.Context(), auth.EventFilter{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(s.transcript.String(), events[0].Actor, "ACTOR")
		s.transcript.Reset()
		s.transcript.WriteString(got)
		s.compare("import-interrupted")
	})
}

// onTerminal returns what f writes to a terminal.
func onTerminal(t *testing.T, f func(screen *os.File)) string {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan string)
	go func() {
		all, _ := io.ReadAll(terminal) // ends with EIO when no process has it open
		written <- string(all)
	}()
	f(screen)
	screen.Close()
	return <-written
}

func TestTheProgressOfAnImportIsShownOnATerminalOnly(t *testing.T) {
	s := newServed(t)
	var list strings.Builder
	list.WriteString("address\n")
	for i := range 20_000 {
		fmt.Fprintf(&list, "n%d@example.org\n", i)
	}
	path := s.file("accounts.csv", list.String())
	shown := onTerminal(t, func(screen *os.File) {
		if code := Run(t.Context(), []string{"import", "accounts", path, "--socket", s.socket, "--reason", "test"}, nil, io.Discard, screen); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	if !strings.Contains(shown, "checking the list") {
		t.Errorf("on a terminal: %q", shown)
	}
	if _, stderr := s.expect(0, "import", "accounts", path, "--socket", s.socket, "--reason", "test"); stderr != "" {
		t.Errorf("elsewhere: %q", stderr)
	}
}

func TestAFileIsCopiedIntoPostgreSQL(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		dsn := pgtest.Database(t)
		s := newServed(t)
		config := s.file("congthu.yaml", "domain: example.org\ndata_dir: "+s.dir+"\n")
		to := s.file("postgres.dsn", dsn+"\n")
		if err := s.store.UpdateBatch(t.Context(), []auth.Name{"an@example.org", "binh@example.org"}, func(a *auth.Account) ([]auth.Event, bool) {
			*a = storetest.Full(a.Name)
			return []auth.Event{{At: at("2026-11-24 12:00:00"), Kind: auth.AccountLocked, Account: a.Name, Actor: "A", Reason: "r"}}, true
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.store.Update(t.Context(), "guessed@example.org", 0, func(a *auth.Account) ([]auth.Event, bool) { a.Failures = 2; return nil, true }); err != nil {
			t.Fatal(err)
		}
		if _, stderr := s.expect(1, "store", "copy", "-c", config, "--to-postgres", to); !strings.Contains(stderr, "in use by another process") || !strings.Contains(stderr, "systemctl stop congthu") {
			t.Errorf("while the gateway runs: %s", stderr)
		}
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		s.transcript.Reset()
		s.expect(0, "store", "copy", "-c", config, "--to-postgres", to)
		s.expect(0, "store", "copy", "-c", config, "--from", filepath.Join(s.dir, "congthu.db"), "--to-postgres", dsn)
		s.expect(exitUsage, "store", "copy", "-c", config)
		s.expect(1, "store", "copy", "-c", config, "--from", filepath.Join(s.dir, "none.db"), "--to-postgres", to)
		s.expect(1, "store", "copy", "-c", config, "--to-postgres", filepath.Join(s.dir, "none.dsn"))
		s.expect(1, "store", "copy", "-c", config, "--to-postgres", s.file("empty.dsn", "\n"))
		got := strings.ReplaceAll(s.transcript.String(), quote(dsn), "DSN")
		s.transcript.Reset()
		s.transcript.WriteString(got)
		s.compare("store-copy")
		if _, err := os.Stat(filepath.Join(s.dir, "none.db")); err == nil {
			t.Error("a file was made that was not there")
		}

		copied, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
		if err != nil {
			t.Fatal(err)
		}
		defer copied.Close()
		if a, err := copied.Account(t.Context(), "guessed@example.org"); err != nil || a.Failures != 2 {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := copied.Update(t.Context(), "an@example.org", 0, func(a *auth.Account) ([]auth.Event, bool) { a.Failures++; return nil, true }); err != nil {
			t.Fatal(err)
		}
		if _, stderr := s.expect(1, "store", "copy", "-c", config, "--to-postgres", to); !strings.Contains(stderr, "has other data") {
			t.Errorf("onto other data: %s", stderr)
		}
	})
}
