package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"congthu/auth"
)

// population is a database with 200 accounts and 200 events.
var population []byte

// populated returns the path of a closed copy of population.
func populated(t *testing.T) string {
	t.Helper()
	if population == nil {
		s := open(t, Options{})
		for i := range 200 {
			name := auth.Name(fmt.Sprintf("n%03d@congthu.test", i))
			if _, err := s.Update(t.Context(), name, 0, fail); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, s)
		population = read(t, s.path)
	}
	path := filepath.Join(t.TempDir(), "congthu.db")
	if err := os.WriteFile(path, population, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// raw runs statements on a database file without the store.
func raw(t testing.TB, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// wantRefused checks that Open refuses a database with this reason and advice, and
// leaves it unchanged.
func wantRefused(t *testing.T, path string, reason error, advice string) {
	t.Helper()
	before := read(t, path)
	s, err := Open(t.Context(), Options{Path: path})
	if err == nil {
		s.Close()
		t.Fatalf("opened; want %v", reason)
	}
	t.Log(err)
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), advice) {
		t.Errorf("error %v, want %q with %q", err, reason, advice)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("the file was changed")
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	path := populated(t)
	raw(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`)
	wantRefused(t, path, ErrNewerSchema, "its schema is version 999, this program knows up to 7: install the newer version again")
}

func TestAnotherProgramsDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	raw(t, path, `CREATE TABLE bookmarks (url TEXT)`)
	wantRefused(t, path, ErrForeign, "give another path")
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("Cộng hòa xã hội chủ nghĩa Việt Nam\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, path, ErrDamaged, "newest backup")
}

func TestADamagedDatabaseIsRefused(t *testing.T) {
	whole := read(t, populated(t))
	for name, damage := range map[string]func(content []byte) []byte{
		"header":        func(c []byte) []byte { copy(c, "SQLite format 9\x00"); return c },
		"first page":    func(c []byte) []byte { clear(c[100:4096]); return c },
		"a page":        func(c []byte) []byte { clear(c[5*4096 : 6*4096]); return c },
		"cut in half":   func(c []byte) []byte { return c[:len(c)/2/4096*4096] },
		"cut in a page": func(c []byte) []byte { return c[:len(c)-2000] },
		"noise": func(c []byte) []byte {
			noise := rand.NewChaCha8([32]byte{1})
			noise.Read(c[2*4096 : 4*4096])
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "congthu.db")
			if err := os.WriteFile(path, damage(bytes.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, path, ErrDamaged, "newest backup")
		})
	}
}

func TestDamageWhileInUseIsAnError(t *testing.T) {
	path := populated(t)
	s := open(t, Options{Path: path})
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Every page except the first, which every connection has read.
	size := int64(len(read(t, path)))
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(size-4096)), 4096)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Account(t.Context(), "n100@congthu.test"); !errors.Is(err, ErrDamaged) {
		t.Errorf("read: %v, want ErrDamaged", err)
	}
	if _, _, err := s.Reserve(t.Context(), "n100@congthu.test", func(auth.Account) int { return 1 }); !errors.Is(err, ErrDamaged) {
		t.Errorf("reserve: %v, want ErrDamaged", err)
	}
	if _, err := s.Update(t.Context(), "n100@congthu.test", 0, fail); !errors.Is(err, ErrDamaged) {
		t.Errorf("update: %v, want ErrDamaged", err)
	}
	if err := s.Health(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("health: %v, want ErrDamaged", err)
	}
}

func TestAMissingDirectorySaysHowToMakeIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nowhere")
	_, err := Open(t.Context(), Options{Path: filepath.Join(dir, "congthu.db")})
	if err == nil || !strings.Contains(err.Error(), "install -d -m 0700 -o USER "+dir) {
		t.Fatalf("error %v, want one that says how to make %s", err, dir)
	}
}

func TestADirectoryInPlaceOfTheFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(t.Context(), Options{Path: dir}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Fatalf("error %v", err)
	}
	os.Remove(dir + ".lock")
}

func TestOnlyTheOwnerMayReadTheFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "congthu.db")
	wantPrivate := func() {
		t.Helper()
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", path+suffix, info.Mode())
			}
		}
	}
	s := open(t, Options{Path: path})
	if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	wantPrivate()
	shut(t, s)
	chmod(t, path, 0o644) // for example after a restore from a backup
	s = open(t, Options{Path: path})
	if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	wantPrivate()
}

func TestAnyFileNameWillDo(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=memory", "a#b", "a%20b", "file:x", "cổng thư.db", "a&b;c'd\"e"} {
		path := filepath.Join(t.TempDir(), name)
		s := open(t, Options{Path: path})
		if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		shut(t, s)
		if len(read(t, path)) < 4096 {
			t.Errorf("%q: the database is not in that file", name)
		}
	}
}

// TestCommitsReachTheDisk: durability depends on these settings of SQLite.
func TestCommitsReachTheDisk(t *testing.T) {
	s := open(t, Options{})
	if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000",
		"trusted_schema": "0", "cell_size_check": "1", "query_only": "0",
	} {
		var got string
		if err := s.writer.conn.conn.QueryRowContext(t.Context(), `PRAGMA `+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("the writer has %s = %q, error %v; want %q", pragma, got, err, want)
		}
	}
	var got string
	if err := s.readers.QueryRow(`PRAGMA query_only`).Scan(&got); err != nil || got != "1" {
		t.Errorf("readers have query_only = %q, error %v", got, err)
	}
}

// TestTheUsualQueriesUseAnIndex: a login makes at most one query, with an index.
func TestTheUsualQueriesUseAnIndex(t *testing.T) {
	s := open(t, Options{})
	for query, want := range map[string]string{
		selectAccount: "SEARCH accounts USING PRIMARY KEY (name=?)",
		countUnknown:  "USING COVERING INDEX accounts_unknown",
		`SELECT ` + accountColumns + ` FROM accounts WHERE name > ? AND lock_cause <> '' ORDER BY name LIMIT ?`:       "USING INDEX accounts_locked",
		`SELECT ` + accountColumns + ` FROM accounts WHERE name > ? AND registered IS NOT NULL ORDER BY name LIMIT ?`: "SEARCH accounts USING PRIMARY KEY (name>?)",
		`SELECT ` + eventColumns + ` FROM events WHERE account = ? AND seq < ? ORDER BY seq DESC LIMIT ?`:             "SEARCH events USING INDEX events_account",
		`SELECT ` + eventColumns + ` FROM events WHERE seq > ? ORDER BY seq LIMIT ?`:                                  "SEARCH events USING INTEGER PRIMARY KEY",
	} {
		rows, err := s.readers.Query(`EXPLAIN QUERY PLAN `+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		rows.Close()
		if got := strings.Join(plan, "; "); !strings.Contains(got, want) || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("%s\n\tis planned as %s\n\twant %s", query, got, want)
		}
	}
}
