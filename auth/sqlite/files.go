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

// An open file goes on working when its name is removed or given to another file,
// and SQLite goes on writing to it: what it confirms is gone with the process. So
// the names are compared with the files that were opened, by device and inode,
// after every commit and before its callers hear of it, and four times a second.
// An inode that is open is not given to another file.
//
// The first difference ends the use of the database for the life of the process.
// Going on with a file that has come back would be going on with an older state.

// checkEvery is how often the files are looked at while nobody writes.
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
	size  int64 // of the database file, when it was last looked at
	ended bool  // the store is being closed, and SQLite removes some itself

	quit, stopped chan struct{}
}

// suffixes are those of the names of the files, the lock's first: should all be
// gone, the error is about the database.
var suffixes = []string{".lock", "-shm", "-wal", ""}

// noteFiles notes which files were opened: all must be.
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

// watch looks at the files until end.
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

// end is for the beginning of the store's end: from now on nobody looks at the files.
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

// problem is why the database cannot be used, as far as is known; nil if it can.
func (f *files) problem() error {
	if f == nil {
		return nil
	}
	if lost := f.lost.Load(); lost != nil {
		return *lost
	}
	return nil
}

// check looks at the files: a few microseconds.
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

// compare returns what is wrong with the files.
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
		return err // about the last one, the database, if there are several
	}
	return f.measure(sizes[""], sizes["-wal"])
}

// measure finds files that were cut. The index of the write-ahead log tells how
// long they must be (https://www.sqlite.org/walformat.html section 2.1): the log
// has its frames before the index tells of them.
func (f *files) measure(size, wal int64) error {
	var header [48]byte
	if _, err := f.index.ReadAt(header[:], 0); err != nil {
		return nil // it has none yet
	}
	frames := int64(binary.NativeEndian.Uint32(header[16:]))
	pages := int64(binary.NativeEndian.Uint32(header[20:]))
	page := int64(binary.NativeEndian.Uint16(header[14:]))
	if page == 1 {
		page = 65536
	}
	const logHeader, frameHeader = 32, 24
	if frames > 0 && wal < logHeader+frames*(frameHeader+page) {
		// The log may have begun anew between the two looks.
		info, err := os.Stat(f.path + "-wal")
		if _, again := f.index.ReadAt(header[:], 0); again == nil && err == nil &&
			int64(binary.NativeEndian.Uint32(header[16:])) >= frames && info.Size() < logHeader+frames*(frameHeader+page) {
			return f.gone("-wal", "was cut", restore)
		}
	}
	// The file grows when the log is copied into it, and gets shorter only with the
	// database itself.
	if size < f.size && (pages == 0 || size < pages*page) {
		return f.gone("", "was cut", restore)
	}
	f.size = size
	return nil
}

// advice is what to do.
type advice uint8

const (
	byName  advice = iota // which of the files it is says what
	restore               // the content is lost
)

// gone describes a file that is not what it was.
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

// plain is an error without the name of the system call.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// hold opens a connection that nobody uses. While there is one SQLite neither
// removes the write-ahead log nor makes another, so that whoever does is somebody
// else.
func (s *Store) hold(ctx context.Context) error {
	s.anchor = connect(s.path, true)
	s.anchor.SetMaxOpenConns(1)
	s.anchor.SetConnMaxIdleTime(0)
	s.anchor.SetConnMaxLifetime(0)
	// A connection has the log open once it has read something.
	var n int
	return s.anchor.QueryRowContext(ctx, `SELECT count(*) FROM head`).Scan(&n)
}

// usable returns why the database cannot be used; nil if it can, as far as is
// known.
func (s *Store) usable() error {
	if s.writer.isClosed() {
		return ErrClosed
	}
	return s.files.problem()
}

// lost returns why the files can no longer be used; nil while they can.
func (s *Store) lost() error { return s.files.problem() }

// explain is what an operator can do about an error: files that were removed make
// all kinds of them.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	if lost := s.files.check(); lost != nil {
		return fmt.Errorf("%w (%w)", lost, err)
	}
	return explain(s.path, err)
}
