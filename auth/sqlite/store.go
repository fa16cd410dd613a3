package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"congthu/auth"
)

// Options are the options of [Open].
type Options struct {
	// Path is the database file. It is made if it is missing; its directory
	// is not. Required.
	Path string
	// MaxUnknown is the largest number of names without a login.
	// 0: [auth.DefaultMaxUnknown].
	MaxUnknown int
	// Recorder records how long operations take; nil: they are not recorded.
	Recorder Recorder
	// Log is for the operator; nil: discarded.
	Log *slog.Logger
	// Now is the clock that measures operations; nil: time.Now.
	Now func() time.Time
}

// Recorder records the work of a store, for metrics. It must not block.
type Recorder interface {
	// ObserveStoreOp records one operation. If no slot is free, err is nil.
	ObserveStoreOp(op auth.StoreOp, took time.Duration, err error)
	// Committed records one transaction with this number of changes.
	Committed(batch int, took time.Duration)
	// Queued records the number of changes that wait for the writer.
	Queued(depth int)
}

// Store is a database that this process owns. [Open] makes one.
type Store struct {
	path     string
	recorder Recorder
	log      *slog.Logger
	now      func() time.Time

	lock    *lock
	files   *files  // nil until the files are open
	anchor  *sql.DB // a connection that keeps the files open; see keepOpen
	readers *sql.DB
	account *sql.Stmt // reads one account
	cache   *cache
	slots   slots
	writer  *writer

	closing sync.Once
	closed  error // error of the first Close
}

var (
	_ auth.Store    = (*Store)(nil)
	_ auth.Importer = (*Store)(nil)
)

// Open opens the database, migrates its schema to the present version, and checks the
// file for damage. The error says what to do: see the Err variables.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{path: o.Path, recorder: o.Recorder, log: o.Log, now: o.Now, cache: newCache()}
	if s.recorder == nil {
		s.recorder = unrecorded{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	defer func() {
		if err != nil {
			s.release()
			err = fmt.Errorf("open database %s: %w", o.Path, explain(o.Path, err))
		}
	}()
	if s.lock, err = lockFile(o.Path); err != nil {
		return nil, err
	}
	if err := s.refuseVanished(); err != nil {
		return nil, err
	}
	if err := s.makePrivate(); err != nil {
		return nil, err
	}
	if err := removeStage(o.Path); err != nil {
		return nil, err
	}
	if err := prepare(ctx, o.Path, s.lock.made, s.log); err != nil {
		return nil, err
	}
	if err := s.lock.remember(); err != nil {
		return nil, err
	}
	if err := s.keepOpen(ctx); err != nil {
		return nil, err
	}
	s.readers = connect(o.Path, true)
	s.readers.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	s.readers.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	s.account, err = s.readers.PrepareContext(ctx, selectAccount)
	if err != nil {
		return nil, err
	}
	s.slots = slots{
		max: o.MaxUnknown, taken: make(map[auth.Reservation]*slot), names: make(map[auth.Name]*entry),
	}
	if s.slots.max == 0 {
		s.slots.max = auth.DefaultMaxUnknown
	}
	if err := s.readers.QueryRowContext(ctx, countUnknown).Scan(&s.slots.unknown); err != nil {
		return nil, err
	}
	if s.files, err = noteFiles(o.Path, s.log); err != nil {
		return nil, err
	}
	w := newWriter(s)
	if err := w.connect(); err != nil {
		return nil, err
	}
	s.writer = w
	go w.run()
	return s, nil
}

// Close waits for the changes in progress and closes the database. Later calls get
// [ErrClosed].
func (s *Store) Close() error {
	s.closing.Do(func() {
		close(s.writer.quit)
		<-s.writer.stopped
		s.closed = s.release()
	})
	return s.closed
}

// release closes what Open opened, the lock last.
func (s *Store) release() error {
	var errs []error
	s.files.end()
	if s.account != nil {
		errs = append(errs, s.account.Close())
	}
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.anchor != nil {
		errs = append(errs, s.anchor.Close())
	}
	errs = append(errs, s.files.close())
	if s.lock != nil {
		errs = append(errs, s.lock.close())
	}
	return errors.Join(errs...)
}

// Account implements [auth.Store].
func (s *Store) Account(ctx context.Context, name auth.Name) (_ auth.Account, err error) {
	defer s.operated(auth.OpAccount, s.now(), &err)
	a, _, err := s.read(ctx, name)
	return a, err
}

// Reserve implements [auth.Store].
func (s *Store) Reserve(ctx context.Context, name auth.Name, limit func(auth.Account) int) (_ auth.Account, _ auth.Reservation, err error) {
	defer s.operated(auth.OpReserve, s.now(), &err)
	return s.slots.reserve(ctx, name, limit, s.read)
}

// Update implements [auth.Store]. change never runs after Update has returned. If ctx
// ends while the change is being committed, the caller gets the error of ctx, and the
// change is either written completely or not at all.
func (s *Store) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (_ auth.Account, err error) {
	defer s.operated(auth.OpUpdate, s.now(), &err)
	a, _, err := s.read(ctx, name)
	if err != nil {
		return auth.Account{}, err
	}
	switch s.slots.look(r, name) {
	case settled:
		return a, nil
	case foreign:
		return a, errForeign
	}
	// Most settlements of accepted logins write nothing; they must not wait for the
	// disk. The writer runs the change again, on the account as it is then.
	tried := a.Clone()
	_, write, err := s.try(change, &tried)
	if err != nil {
		return a, err
	}
	if !write && s.slots.claim(r, name) == claimed {
		s.slots.release(r)
		return a, nil
	}
	return s.writer.update(ctx, &request{name: name, reservation: r, change: change})
}

// UpdateBatch implements [auth.Importer].
func (s *Store) UpdateBatch(ctx context.Context, names []auth.Name, change auth.Change) (err error) {
	defer s.operated(auth.OpUpdate, s.now(), &err)
	if err := s.usable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || len(names) == 0 {
		return err
	}
	batch := make([]*request, len(names))
	for i, name := range names {
		batch[i] = &request{name: name, change: change}
	}
	return s.writer.updateBatch(ctx, batch)
}

// removeStage removes the file in which an earlier release prepared an import, and which
// it leaves behind if it is killed: the file contains fingerprints.
func removeStage(path string) error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(path + ".import" + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// read returns one account as of the last commit, from memory if it is there.
func (s *Store) read(ctx context.Context, name auth.Name) (auth.Account, bool, error) {
	if err := s.usable(); err != nil {
		return auth.Account{}, false, err
	}
	if err := ctx.Err(); err != nil {
		return auth.Account{}, false, err
	}
	// If the disk fails, readers must see it, even if their accounts are in memory. This
	// comes first: then what is read after it is at least as new as current says.
	current := s.writer.failed.Load() == nil && s.writer.sawOthers()
	a, ok, version := s.cache.get(name)
	if ok && current {
		return a, true, nil
	}
	a, exists, err := s.readRow(ctx, name)
	if err == nil {
		s.cache.put(a, version)
	}
	return a, exists, err
}

// readRow reads one account from the file.
func (s *Store) readRow(ctx context.Context, name auth.Name) (auth.Account, bool, error) {
	if err := s.usable(); err != nil {
		return auth.Account{}, false, err
	}
	a, exists, err := readAccount(ctx, s.account, name)
	switch {
	case err == nil:
		return a, exists, nil
	case s.writer.isClosed():
		return a, false, ErrClosed
	}
	return a, false, fmt.Errorf("read account: %w", s.explain(err))
}

const (
	selectAccount = `SELECT ` + accountColumns + ` FROM accounts WHERE name = ?`
	countUnknown  = `SELECT count(*) FROM accounts WHERE registered IS NULL AND NOT ` + isShared
	// isShared is [auth.Name.Shared] of a name.
	isShared = `(name >= '@' AND name < 'A')`
)

func readAccount(ctx context.Context, stmt *sql.Stmt, name auth.Name) (a auth.Account, exists bool, err error) {
	switch err := stmt.QueryRowContext(ctx, string(name)).Scan(accountFields(&a)...); {
	case errors.Is(err, sql.ErrNoRows):
		return auth.Account{Name: name}, false, nil
	case err != nil:
		return auth.Account{}, false, err
	}
	return a, true, nil
}

// try runs change; a panic in it is an error of its caller only.
func (s *Store) try(change auth.Change, a *auth.Account) (events []auth.Event, write bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a change of an account panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
			events, write, err = nil, false, fmt.Errorf("change panicked: %s", auth.PanicText(p))
		}
	}()
	events, write = change(a)
	return events, write, nil
}

// operated records an operation; it is deferred, with the time at which the operation began.
func (s *Store) operated(op auth.StoreOp, began time.Time, err *error) {
	e := *err
	if errors.Is(e, auth.ErrNoSlot) {
		e = nil
	}
	s.recorder.ObserveStoreOp(op, s.now().Sub(began), e)
}

type unrecorded struct{}

func (unrecorded) ObserveStoreOp(auth.StoreOp, time.Duration, error) {}
func (unrecorded) Committed(int, time.Duration)                      {}
func (unrecorded) Queued(int)                                        {}
