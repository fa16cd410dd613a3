package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lock is the file beside the database by which one process at a time owns it. It stays
// when the process ends, and records that there is a database: otherwise a database that
// was removed would look like a first start, and all accounts would be forgotten without
// an error.
type lock struct {
	file *os.File
	made bool // a database was there at an earlier start
}

// lockMark is the second line of a lock file beside which a database was made.
const lockMark = "a database was made beside this file: without it the gateway does not start\n"

// lockFile takes the lock beside the database, which one process at a time can hold; it
// ends with the file descriptor or the process. The lock needs a file of its own:
// closing the database file would drop the locks that SQLite holds on it (fcntl(2)). The
// lock file stays: if it were removed, two processes could lock two files of the same
// name.
func lockFile(path string) (*lock, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrInUse, holder(f))
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	text, err := readLock(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	l := &lock{file: f, made: strings.Contains(text, lockMark)}
	// Only for people and for the error message of the next process: on a full disk the
	// lock holds without it. The mark is already there, or remember writes it.
	l.write()
	return l, nil
}

func readLock(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, 256))
	return string(text), err
}

// write writes the process id and the mark. The file contains the mark at every moment:
// the text is written over the old one, and then the file is truncated.
func (l *lock) write() error {
	text := strconv.Itoa(os.Getpid()) + "\n"
	if l.made {
		text += lockMark
	}
	if _, err := l.file.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return l.file.Truncate(int64(len(text)))
}

// remember records durably that there is a database.
func (l *lock) remember() error {
	if l.made {
		return nil
	}
	l.made = true
	if err := l.write(); err != nil {
		return fmt.Errorf("write %s: %w", l.file.Name(), err)
	}
	return errors.Join(l.file.Sync(), syncDirectory(l.file.Name()))
}

func (l *lock) close() error { return l.file.Close() }

// refuseVanished refuses to make a new database if there was one before.
func (s *Store) refuseVanished() error {
	if !s.lock.made {
		return nil
	}
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return missing(s.path, "was there at an earlier start")
	}
	return nil
}

func missing(path, why string) error {
	return fmt.Errorf("%w: %s %s. Put the newest backup in its place, without -wal and -shm files beside it, and start again. "+
		"To begin anew instead, with every account, lock and event forgotten, remove %s.lock while no gateway runs", ErrMissing, path, why, path)
}

// Vanished returns [ErrMissing], with an explanation, if a database existed at path at
// an earlier start and does not now; nil otherwise. It changes nothing, and a gateway
// may be running.
func Vanished(path string) error {
	text, err := os.ReadFile(path + ".lock")
	if err != nil || !strings.Contains(string(text), lockMark) {
		return nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missing(path, "was there at an earlier start")
	case err == nil && info.Size() == 0:
		return missing(path, "is empty")
	}
	return nil
}

// holder names the process that holds the lock.
func holder(f *os.File) string {
	text, _ := readLock(f)
	first, _, _ := strings.Cut(text, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return "one whose process id is not known"
	}
	return fmt.Sprintf("process %d; stop it first, or use its admin socket", pid)
}
