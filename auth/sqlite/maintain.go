package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"congthu/auth"
)

// Health reports whether accounts can be read, and whether the last write succeeded. If
// it failed, Health tries another write.
func (s *Store) Health(ctx context.Context) error {
	if _, _, err := s.readRow(ctx, ""); err != nil {
		return err
	}
	if s.writer.failed.Load() == nil {
		return nil
	}
	_, err := s.writer.update(ctx, &request{probe: true, change: func(*auth.Account) ([]auth.Event, bool) { return nil, false }})
	return err
}

// Backup writes a copy of the database, as of one moment, to a new file while the store
// is in use. Open accepts the copy as a database.
func (s *Store) Backup(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up to %s: %w", path, explain(path, err))
		}
	}()
	if err := s.usable(); err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	// A file with the final name is always a complete backup.
	partial := path + ".partial"
	if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	defer func() {
		if err != nil {
			os.Remove(partial)
		}
	}()
	db := connect(s.path, false)
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, dsn(partial, nil)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(partial, path); err != nil {
		return err
	}
	return syncDirectory(path)
}

// Contents counts the accounts, including names without a login, and returns a text that
// identifies the content of the database: it is different after any change.
func (s *Store) Contents(ctx context.Context) (state string, accounts int64, err error) {
	if err := s.usable(); err != nil {
		return "", 0, err
	}
	var h head
	err = s.readers.QueryRowContext(ctx, `SELECT seq, hash, commits, (SELECT count(*) FROM accounts) FROM head`).
		Scan(&h.Seq, &h.Hash, &h.commits, &accounts)
	if err != nil {
		return "", 0, fmt.Errorf("read head: %w", s.explain(err))
	}
	// The number of transactions shows changes without an event as well.
	return fmt.Sprintf("%d:%d:%s", h.commits, h.Seq, h.Hash), accounts, nil
}
