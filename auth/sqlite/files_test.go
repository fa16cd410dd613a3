package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"congthu/auth"
)

// used opens a database in a directory of its own, with failures of n in it.
func used(t *testing.T) (s *Store, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: filepath.Join(dir, "congthu.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// replace puts another file with the same content in place of a file.
func replace(t *testing.T, name string) {
	t.Helper()
	content := read(t, name)
	if err := os.WriteFile(name+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// Each damage to the files of a database while the gateway runs, and a part of the error
// that it must cause.
var mishaps = map[string]struct {
	happen func(t *testing.T, path string)
	advice string
}{
	"the file is removed":               {func(t *testing.T, path string) { remove(t, path) }, "newest backup"},
	"all files are removed":             {func(t *testing.T, path string) { remove(t, path, path+"-wal", path+"-shm") }, "newest backup"},
	"another file has taken its place":  {func(t *testing.T, path string) { replace(t, path) }, "newest backup"},
	"its directory is removed":          {func(t *testing.T, path string) { removeAll(t, filepath.Dir(path)) }, "newest backup"},
	"its directory is renamed":          {func(t *testing.T, path string) { rename(t, filepath.Dir(path)) }, "newest backup"},
	"the file is emptied":               {func(t *testing.T, path string) { truncate(t, path, 0) }, "newest backup"},
	"the file is cut":                   {func(t *testing.T, path string) { truncate(t, path, 4096) }, "newest backup"},
	"the write-ahead log is removed":    {func(t *testing.T, path string) { remove(t, path+"-wal") }, "without kill -9"},
	"another log has taken its place":   {func(t *testing.T, path string) { replace(t, path+"-wal") }, "without kill -9"},
	"the write-ahead log is emptied":    {func(t *testing.T, path string) { truncate(t, path+"-wal", 0) }, "newest backup"},
	"the log's index is removed":        {func(t *testing.T, path string) { remove(t, path+"-shm") }, "without kill -9"},
	"the lock file is removed":          {func(t *testing.T, path string) { remove(t, path+".lock") }, "let nobody remove"},
	"another lock file is in its place": {func(t *testing.T, path string) { replace(t, path+".lock") }, "let nobody remove"},
}

func remove(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func removeAll(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, name string) {
	t.Helper()
	if err := os.Rename(name, name+".away"); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, name string, size int64) {
	t.Helper()
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
}

func TestNoWriteIsConfirmedAfterTheFilesAreGone(t *testing.T) {
	for name, m := range mishaps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := used(t)
			path := filepath.Join(dir, "congthu.db")
			if strings.HasPrefix(name, "the file is") {
				checkpoint(t, path) // so that the file has content to lose
			}
			m.happen(t, path)
			// The next write must not be confirmed.
			_, err := s.Update(t.Context(), "n@congthu.test", 0, fail)
			t.Log(err)
			if err == nil {
				t.Error("a write was confirmed")
			}
			wantLost(t, s, m.advice)
		})
	}
}

func TestLostFilesAreNoticedWithoutALogin(t *testing.T) {
	for name, m := range mishaps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := used(t)
			path := filepath.Join(dir, "congthu.db")
			if strings.HasPrefix(name, "the file is") {
				checkpoint(t, path)
			}
			m.happen(t, path)
			for s.lost() == nil {
				if t.Context().Err() != nil {
					t.Fatal("the loss was not noticed")
				}
				time.Sleep(time.Millisecond)
			}
			wantLost(t, s, m.advice)
		})
	}
}

// checkpoint copies the content of the write-ahead log into the file.
func checkpoint(t *testing.T, path string) {
	t.Helper()
	raw(t, path, `PRAGMA wal_checkpoint(PASSIVE)`)
}

// wantLost checks that every operation fails with the reason and the advice.
func wantLost(t *testing.T, s *Store, advice string) {
	t.Helper()
	ctx := t.Context()
	for name, operation := range map[string]func() error{
		"account": func() error { _, err := s.Account(ctx, "n@congthu.test"); return err },
		"reserve": func() error {
			_, _, err := s.Reserve(ctx, "n@congthu.test", func(auth.Account) int { return 100 })
			return err
		},
		"update":         func() error { _, err := s.Update(ctx, "n@congthu.test", 0, fail); return err },
		"update a batch": func() error { return s.UpdateBatch(ctx, []auth.Name{"n@congthu.test"}, fail) },
		"list":           func() error { _, err := s.List(ctx, auth.Filter{Limit: 1}); return err },
		"events":         func() error { _, err := s.Events(ctx, auth.EventFilter{Limit: 1}); return err },
		"verify":         func() error { _, err := s.Verify(ctx, nil); return err },
		"removed":        func() error { _, err := s.Removed(ctx); return err },
		"contents":       func() error { _, _, err := s.Contents(ctx); return err },
		"unknown":        func() error { _, err := s.UnknownNames(ctx); return err },
		"backup":         func() error { return s.Backup(ctx, filepath.Join(t.TempDir(), "backup.db")) },
		"agree":          func() error { return s.Agree(ctx, "pepper", "x") },
		"health":         func() error { return s.Health(ctx) },
	} {
		if err := operation(); !errors.Is(err, ErrFilesLost) || !strings.Contains(err.Error(), advice) {
			t.Errorf("%s: error %v, want %v with %q", name, err, ErrFilesLost, advice)
		}
	}
}

func TestOrdinaryUseOfTheFilesIsNoLoss(t *testing.T) {
	s, dir := used(t)
	path := filepath.Join(dir, "congthu.db")
	ctx := t.Context()
	names := make([]auth.Name, 3000)
	for i := range names {
		names[i] = auth.Name(fmt.Sprintf("many%04d@congthu.test", i))
	}
	if err := s.UpdateBatch(ctx, names, fail); err != nil { // more than the log holds before it restarts
		t.Fatal(err)
	}
	for range 50 {
		if _, err := s.Update(ctx, "n@congthu.test", 0, fail); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Backup(ctx, filepath.Join(dir, "backup.db")); err != nil {
		t.Fatal(err)
	}
	// People use database shells: VACUUM makes the file shorter.
	raw(t, path, `CREATE TABLE ballast AS SELECT randomblob(1000000)`, `PRAGMA wal_checkpoint(TRUNCATE)`)
	if err := s.files.check(); err != nil {
		t.Fatal(err)
	}
	raw(t, path, `DROP TABLE ballast`, `VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`)
	// A failed transaction closes the writer's connection, and readers may have no connection.
	s.readers.SetMaxIdleConns(0)
	s.writer.faults.Store(&faults{before: errInjected})
	if _, err := s.Update(ctx, "n@congthu.test", 0, fail); !errors.Is(err, errInjected) {
		t.Fatal(err)
	}
	s.writer.faults.Store(nil)
	for range 10 {
		if _, err := s.Update(ctx, "n@congthu.test", 0, fail); err != nil {
			t.Fatal(err)
		}
		if err := s.files.check(); err != nil {
			t.Fatal(err)
		}
	}
}

// The advice to stop the gateway keeps its promise.
func TestAnOrderlyEndSavesWhatARemovedLogHeld(t *testing.T) {
	for _, suffix := range []string{"-wal", "-shm"} {
		s, dir := used(t)
		path := filepath.Join(dir, "congthu.db")
		for range 4 {
			if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
				t.Fatal(err)
			}
		}
		remove(t, path+suffix)
		if err := s.Health(t.Context()); err == nil {
			s.Update(t.Context(), "n@congthu.test", 0, fail)
		}
		s.Close()
		s, err := Open(t.Context(), Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Account(t.Context(), "n@congthu.test")
		if err != nil || a.Failures < 5 {
			t.Errorf("without %s: %d failures, error %v; want all 5", suffix, a.Failures, err)
		}
		shut(t, s)
	}
}

func TestAMissingDatabaseIsNotAFirstStart(t *testing.T) {
	for name, vanish := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		s, dir := used(t)
		path := filepath.Join(dir, "congthu.db")
		shut(t, s)
		content := read(t, path)
		if err := vanish(path); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a refused start does not forget it
			_, err := Open(t.Context(), Options{Path: path})
			if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), path+".lock") || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("%s: error %v, want %v with what to do", name, err, ErrMissing)
			}
		}
		if after, err := os.ReadFile(path); len(after) > 0 || name == "removed" && err == nil {
			t.Errorf("%s: a new file was left in its place", name)
		}
		// The first solution: restore the backup.
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Path: path})
		if a, err := s.Account(t.Context(), "n@congthu.test"); err != nil || a.Failures != 1 {
			t.Errorf("%s: %v, error %v", name, a, err)
		}
		shut(t, s)
		// The second solution: begin with an empty database.
		remove(t, path, path+".lock")
		s = open(t, Options{Path: path})
		shut(t, s)
	}
}

// A database of an older version is recorded in the lock file at its first start.
func TestADatabaseOfAnOlderVersionIsRememberedAtItsFirstStart(t *testing.T) {
	path := populated(t)
	if err := os.WriteFile(path+".lock", []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shut(t, open(t, Options{Path: path}))
	if text := read(t, path+".lock"); !bytes.HasPrefix(text, []byte(fmt.Sprintf("%d\n", os.Getpid()))) || !bytes.Contains(text, []byte(lockMark)) {
		t.Errorf("the lock file says %q", text)
	}
	remove(t, path)
	if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v, want %v", err, ErrMissing)
	}
}

func TestAnInterruptedFirstStartIsRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Path: path}); err == nil {
		t.Fatal("opened")
	}
	shut(t, open(t, Options{Path: path}))
}

func TestTheFirstValueIsAgreedOn(t *testing.T) {
	s, dir := used(t)
	ctx := t.Context()
	if v, known, err := s.Agreed(ctx, "pepper"); err != nil || known || v != "" {
		t.Fatalf("a new database knows %q, %v, error %v", v, known, err)
	}
	if err := s.Agree(ctx, "pepper", "one"); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, Options{Path: filepath.Join(dir, "congthu.db")})
	if err := s.Agree(ctx, "pepper", "one"); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := s.Agree(ctx, "pepper", "two"); !errors.Is(err, auth.ErrDisagreement) {
		t.Errorf("another: %v, want %v", err, auth.ErrDisagreement)
	}
	if v, known, err := s.Agreed(ctx, "pepper"); err != nil || !known || v != "one" {
		t.Errorf("%q, %v, error %v", v, known, err)
	}
}

// An account with a fingerprint shows that there was a pepper; the first start stores
// which one.
func TestAnOlderDatabaseTakesThePepperOfItsFirstStart(t *testing.T) {
	for fingerprint, known := range map[string]bool{"NULL": false, "x'00'": true} {
		path := older(t, 3)
		raw(t, path, `INSERT INTO accounts (name, failures, mistakes, stale_source, lock_cause, locked_by, lock_reason, revoked_by, revoked_reason, alerted_on, registered, password)
			VALUES ('n@congthu.test', 0, '', '', '', '', '', '', '', '', 1, `+fingerprint+`)`)
		s := open(t, Options{Path: path})
		if v, was, err := s.Agreed(t.Context(), "pepper"); err != nil || was != known || v != "" {
			t.Errorf("with fingerprint %s: %q, %v, error %v", fingerprint, v, was, err)
		}
		if err := s.Agree(t.Context(), "pepper", "one"); err != nil {
			t.Error(err)
		}
		if err := s.Agree(t.Context(), "pepper", "two"); !errors.Is(err, auth.ErrDisagreement) {
			t.Errorf("another: %v", err)
		}
		shut(t, s)
	}
}

// older makes an empty database as an older version left it.
func older(t *testing.T, version int64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "congthu.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db := connect(path, false)
	defer db.Close()
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	return path
}
