package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// An open file still works when its name is removed or given to another file, and SQLite
// continues to write to it: what it confirms is lost when the process ends. So the store
// compares the names with the files that it opened, by device and inode, after every
// commit and before the callers get their results, and four times a second. The inode of
// an open file is not given to another file.
//
// After the first difference the store refuses all work for the life of the process: a
// file that has come back may contain an older state.

// checkEvery is the interval between checks of the files while there are no commits.
const checkEvery = 250 * time.Millisecond

// files are the files of an open database.
type files struct {
	path string
	log  *slog.Logger
	lost atomic.Pointer[error] // why the database can no longer be used

	mu     sync.Mutex
	opened map[string]os.FileInfo // by suffix of the name
	// index is the index of the write-ahead log. It is closed after SQLite's own
	// files, since closing it drops the locks that the process holds on it (fcntl(2)).
	index *os.File
	size  int64 // size of the database file at the last check
	ended bool  // the store is being closed, and SQLite itself removes some files

	quit, stopped chan struct{}
}

// suffixes are the suffixes of the names of the files, that of the lock first: if all
// are gone, the error is about the database.
var suffixes = []string{".lock", "-shm", "-wal", ""}

// noteFiles notes the files that were opened; all of them must exist.
func noteFiles(path string, log *slog.Logger) (*files, error) {
	// A relative path names other files when the process changes its directory.
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f := &files{path: abs, log: log, opened: make(map[string]os.FileInfo), quit: make(chan struct{}), stopped: make(chan struct{})}
	for _, suffix := range suffixes {
		info, err := os.Stat(abs + suffix)
		if err != nil {
			return nil, err
		}
		f.opened[suffix] = info
	}
	f.size = f.opened[""].Size()
	if f.index, err = os.Open(abs + "-shm"); err != nil {
		return nil, err
	}
	go f.watch()
	return f, nil
}

// watch checks the files until end.
func (f *files) watch() {
	defer close(f.stopped)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for f.check() == nil {
		select {
		case <-tick.C:
		case <-f.quit:
			return
		}
	}
}

// end is called when the store begins to close: the files are not checked any more.
func (f *files) end() {
	if f == nil {
		return
	}
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	close(f.quit)
	<-f.stopped
}

// close closes the index. SQLite's connections must be closed before.
func (f *files) close() error {
	if f == nil {
		return nil
	}
	return f.index.Close()
}

// problem returns the known reason why the database cannot be used; nil if there is none.
func (f *files) problem() error {
	if f == nil {
		return nil
	}
	if lost := f.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// check checks the files, which takes a few microseconds.
func (f *files) check() error {
	if err := f.problem(); err != nil || f == nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return f.problem()
	}
	err := f.compare()
	if err != nil && f.lost.CompareAndSwap(nil, &err) {
		f.log.Error("the database is used no longer: its files are not those that were opened", "file", f.path, "err", err)
	}
	return f.problem()
}

// compare returns the difference between the names and the opened files.
func (f *files) compare() (err error) {
	sizes := make(map[string]int64, len(suffixes))
	for _, suffix := range suffixes {
		info, statErr := os.Stat(f.path + suffix)
		switch {
		case errors.Is(statErr, fs.ErrNotExist):
			err = f.gone(suffix, "was removed")
		case statErr != nil:
			err = f.gone(suffix, "cannot be seen any more ("+plain(statErr)+")")
		case !os.SameFile(info, f.opened[suffix]):
			err = f.gone(suffix, "was replaced by another file")
		default:
			sizes[suffix] = info.Size()
		}
	}
	if err != nil {
		return err // if several are gone, the error is about the last one, the database
	}
	return f.measure(sizes[""], sizes["-wal"])
}

// measure finds files that were cut. The index of the write-ahead log contains the
// length that they must have (https://www.sqlite.org/walformat.html section 2.1): frames
// are in the log before they are in the index.
func (f *files) measure(size, wal int64) error {
	var header [48]byte
	if _, err := f.index.ReadAt(header[:], 0); err != nil {
		return nil // the index has no header yet
	}
	frames := int64(binary.NativeEndian.Uint32(header[16:]))
	pages := int64(binary.NativeEndian.Uint32(header[20:]))
	page := int64(binary.NativeEndian.Uint16(header[14:]))
	if page == 1 {
		page = 65536
	}
	const logHeader, frameHeader = 32, 24
	if frames > 0 && wal < logHeader+frames*(frameHeader+page) {
		// The log may have been restarted between the two reads.
		info, err := os.Stat(f.path + "-wal")
		if _, again := f.index.ReadAt(header[:], 0); again == nil && err == nil &&
			int64(binary.NativeEndian.Uint32(header[16:])) >= frames && info.Size() < logHeader+frames*(frameHeader+page) {
			return f.gone("-wal", "was cut", restore)
		}
	}
	// The file grows when the log is copied into it, and becomes shorter only when the
	// database does.
	if size < f.size && (pages == 0 || size < pages*page) {
		return f.gone("", "was cut", restore)
	}
	f.size = size
	return nil
}

// advice is what the operator should do.
type advice uint8

const (
	byName  advice = iota // depends on which file it is
	restore               // content is lost: restore a backup
)

// gone returns the error for a file that has changed, with the advice.
func (f *files) gone(suffix, what string, a ...advice) error {
	err := fmt.Errorf("%w: %s%s %s", ErrFilesLost, f.path, suffix, what)
	switch {
	case suffix == "" || len(a) > 0 && a[0] == restore:
		return fmt.Errorf("%w. Stop the gateway, put the newest backup in its place, without -wal and -shm files beside it, and start again", err)
	case suffix == ".lock":
		return fmt.Errorf("%w. Without it a second gateway could use the database: make sure that none does, start this one again, and let nobody remove the file", err)
	}
	return fmt.Errorf("%w. Stop the gateway without kill -9: as it ends it writes into the database what the file held; then start again", err)
}

// plain returns the text of an error without the name of the system call.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// keepOpen opens a connection that is not used. As long as it exists SQLite neither
// removes nor creates the write-ahead log, so any such change comes from outside.
func (s *Store) keepOpen(ctx context.Context) error {
	s.anchor = connect(s.path, true)
	s.anchor.SetMaxOpenConns(1)
	s.anchor.SetConnMaxIdleTime(0)
	s.anchor.SetConnMaxLifetime(0)
	// A connection opens the log at its first read.
	var n int
	return s.anchor.QueryRowContext(ctx, `SELECT count(*) FROM head`).Scan(&n)
}

// usable returns the known reason why the database cannot be used; nil if there is none.
func (s *Store) usable() error {
	if s.writer.isClosed() {
		return ErrClosed
	}
	return s.files.problem()
}

// lost returns why the files can no longer be used; nil while they can.
func (s *Store) lost() error { return s.files.problem() }

// explain adds to an error what an operator can do about it. Removed files cause all
// kinds of errors, so it checks them first.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	if lost := s.files.check(); lost != nil {
		return fmt.Errorf("%w (%w)", lost, err)
	}
	return explain(s.path, err)
}
