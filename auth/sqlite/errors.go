package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// States of a database that an admin must correct. The message around each error says
// how.
var (
	ErrInUse       = errors.New("the database is in use by another process")
	ErrNewerSchema = errors.New("the database was written by a newer version")
	ErrForeign     = errors.New("the database is another program's")
	ErrDamaged     = errors.New("the database is damaged")
	ErrDiskFull    = errors.New("no space left for the database")
	ErrReadOnly    = errors.New("the database cannot be written")
	// ErrMissing: the file was there at an earlier start.
	ErrMissing = errors.New("the database is missing")
	// ErrFilesLost: the store cannot be used until the next start.
	ErrFilesLost = errors.New("a file of the database was removed or replaced while the gateway ran")
	ErrClosed    = errors.New("the database is closed")
)

// explain adds to an error of SQLite or the file system what an operator can do about
// it.
func explain(path string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var code int
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		code = e.Code()
	}
	switch primary := code & 0xff; {
	case primary == sqlite3.SQLITE_FULL || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: free some on the file system of %s: %w", ErrDiskFull, path, err)
	case primary == sqlite3.SQLITE_READONLY || errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %s or its directory is read-only: mount it writable and give both to the user that runs the gateway: %w",
			ErrReadOnly, path, err)
	case primary == sqlite3.SQLITE_CORRUPT || primary == sqlite3.SQLITE_NOTADB:
		return damaged(path, err)
	case primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("another program keeps %s locked: end it (fuser -v %s): %w", path, path, err)
	case code == sqlite3.SQLITE_IOERR|3<<8: // SQLITE_IOERR_WRITE
		return fmt.Errorf("%w: %s could not be written: look for a full disk, a quota or a limit on file sizes (ulimit -f): %w",
			ErrDiskFull, path, err)
	case primary == sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the disk under %s fails: look into the kernel's log (dmesg): %w", path, err)
	case errors.Is(err, fs.ErrPermission) || primary == sqlite3.SQLITE_CANTOPEN || primary == sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: give %s and its directory to the user that runs the gateway: %w", ErrReadOnly, path, err)
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(path)
		return fmt.Errorf("the directory of the database is missing: create it and give it to the user that runs the gateway (install -d -m 0700 -o USER %s): %w",
			dir, err)
	}
	return err
}

func damaged(path string, why error) error {
	return fmt.Errorf("%w: stop the gateway, keep a copy of %s for examination and put the newest backup in its place, without the -wal and -shm files beside it: %w",
		ErrDamaged, path, why)
}
