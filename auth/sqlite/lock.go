package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockFile takes the lock beside the database, which one process at a time can
// hold; it ends with the file or the process. It is a file of its own: closing
// the database file itself would drop the locks that SQLite holds on it
// (fcntl(2)). The lock file stays; removing it would let two processes lock
// two files of one name.
func lockFile(path string) (*os.File, error) {
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
	// For people and for the error of the next process only; on a full disk
	// the lock holds all the same.
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// holder says who holds the lock.
func holder(f *os.File) string {
	text, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "one whose process id is not known"
	}
	return fmt.Sprintf("process %d; stop it first, or use its admin socket", pid)
}
