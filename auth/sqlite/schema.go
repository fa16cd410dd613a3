package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks the files of this program; the first migration writes it.
const applicationID = 1668247143

// connect returns a pool of connections; it opens none yet.
func connect(path string, readOnly bool) *sql.DB {
	q := url.Values{
		// SQLite must not create the file after Open.
		"mode":          {"rw"},
		"_busy_timeout": {"5000"},
		"_foreign_keys": {"1"},
		// FULL, not NORMAL: a commit is on disk when it returns.
		"_synchronous": {"FULL"},
		"_dqs":         {"0"},
		"_defensive":   {"1"},
		"_error_rc":    {"1"},
		"_pragma": {
			"trusted_schema(0)",
			"cell_size_check(1)",
			"journal_size_limit(67108864)", // of the WAL after a checkpoint
		},
	}
	if readOnly {
		q.Set("_query_only", "1")
	}
	// The only error of sql.Open is that the driver is unknown.
	db, err := sql.Open("sqlite", dsn(path, q))
	if err != nil {
		panic(err)
	}
	return db
}

func dsn(path string, q url.Values) string {
	// An absolute path makes a URI without an authority
	// (https://www.sqlite.org/uri.html).
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// makePrivate creates the file if it is missing, readable by its owner only: it contains
// fingerprints of passwords. SQLite gives its other files the same mode.
func (s *Store) makePrivate() error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		return errors.Join(f.Close(), syncDirectory(s.path))
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	for _, name := range []string{s.path, s.path + "-wal", s.path + "-shm"} {
		info, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is not a regular file", name)
		case info.Mode().Perm()&0o077 != 0:
			err := os.Chmod(name, info.Mode().Perm()&^0o077)
			s.log.Warn("the database could be read by others", "file", name, "mode", info.Mode().Perm().String(), "corrected", err == nil)
		}
	}
	return nil
}

// syncDirectory makes a new file name in the directory of path durable.
func syncDirectory(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// prepare checks that the file belongs to this program, is not newer than it and is not
// damaged, and migrates it.
func prepare(ctx context.Context, path string, made bool, log *slog.Logger) error {
	db := connect(path, false)
	defer db.Close()
	db.SetMaxOpenConns(1)

	var id, tables int64
	err := db.QueryRowContext(ctx, `SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id`).Scan(&id, &tables)
	if err != nil {
		return err
	}
	if tables > 0 && id != applicationID {
		return fmt.Errorf("%w: give another path or move the file away", ErrForeign)
	}
	if tables == 0 && made {
		return missing(path, "is empty")
	}
	if err := check(ctx, db, path); err != nil {
		return err
	}

	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if tables > 0 {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if have > want {
			return fmt.Errorf("%w: its schema is version %d, this program knows up to %d: install the newer version again, or restore the backup made before it",
				ErrNewerSchema, have, want)
		}
	}
	// The mode is stored in the file. Readers and the writer then do not wait for each other.
	var mode string
	if err := db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("no write-ahead log on this file system (journal mode %s): use a local disk", mode)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	return nil
}

// check looks for damage, so that it is found at the start and not during a login.
func check(ctx context.Context, db *sql.DB, path string) error {
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return damaged(path, errors.New(strings.Join(strings.Fields(found), " ")))
	}
	return nil
}
