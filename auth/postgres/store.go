package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"congthu/auth"
	"congthu/auth/postgres/defaults"
)

// Options are the options of [Open]. The zero value of each is documented with it; the
// defaults suit three replicas and some ten thousand accounts.
type Options struct {
	// DSN is the connection string in the form of libpq: a URL
	// (postgres://congthu@db.internal/congthu?sslmode=verify-full) or settings
	// (host=/run/postgresql dbname=congthu). If it names several hosts, the one that
	// can be written is used. Required. A pooler in between must give each connection
	// a session of its own.
	DSN string

	// MaxUnknown is the largest number of names without a login, of all replicas
	// together. 0: [auth.DefaultMaxUnknown].
	MaxUnknown int
	// ReservationExpired is the change of an account one of whose reservations has expired:
	// its process died while the mail server judged a password, so the judgement is
	// lost. It is the rule for an attempt without an answer, which counts but never
	// locks by itself. The store's own goroutines call it, from Open on. nil: the slot
	// becomes free and nothing is counted.
	ReservationExpired auth.Change
	// Lease is how long the slots of a silent process stay taken; a process sends six
	// heartbeats in that time. Use the same value in all replicas. 0: [defaults.Lease].
	Lease time.Duration

	// MaxConns is the largest number of connections for reading. Three more are used
	// for writing and for heartbeats, and one for each [Store.Changes], [Store.Alone],
	// agreement and removal of events. 0: [defaults.MaxConns].
	MaxConns int
	// ConnLifetime is the largest age of a connection for reading. 0: 1 h.
	ConnLifetime time.Duration
	// ConnIdleTime is how long an unused connection is kept. 0: 30 min.
	ConnIdleTime time.Duration
	// ConnectTimeout bounds the making of a connection. 0: [defaults.ConnectTimeout].
	ConnectTimeout time.Duration

	// StatementTimeout bounds each statement (statement_timeout). 0: [defaults.StatementTimeout].
	StatementTimeout time.Duration
	// LockTimeout bounds the wait for other replicas (lock_timeout). It must be
	// longer than IdleInTransactionTimeout; otherwise one replica that loses its power
	// in a transaction makes the transactions of others fail. 0: [defaults.LockTimeout].
	LockTimeout time.Duration
	// IdleInTransactionTimeout is the time after which PostgreSQL ends a transaction
	// whose client sends nothing (idle_in_transaction_session_timeout). Transactions of
	// this package wait only for the network. 0: 3 s.
	IdleInTransactionTimeout time.Duration
	// Poll is the interval at which [Store.Changes] reads the log without a
	// notification. 0: [defaults.Poll].
	Poll time.Duration

	// Recorder receives the duration of each operation; nil: none.
	Recorder Recorder
	// Log is for the operator; nil: discarded.
	Log *slog.Logger
}

// withDefaults returns the options with the defaults in place of zero values.
func (o Options) withDefaults() Options {
	setDefault(&o.MaxUnknown, auth.DefaultMaxUnknown)
	setDefault(&o.Lease, defaults.Lease)
	setDefault(&o.MaxConns, defaults.MaxConns)
	setDefault(&o.ConnLifetime, time.Hour)
	setDefault(&o.ConnIdleTime, 30*time.Minute)
	setDefault(&o.ConnectTimeout, defaults.ConnectTimeout)
	setDefault(&o.StatementTimeout, defaults.StatementTimeout)
	setDefault(&o.LockTimeout, defaults.LockTimeout)
	setDefault(&o.IdleInTransactionTimeout, 3*time.Second)
	setDefault(&o.Poll, defaults.Poll)
	if o.Recorder == nil {
		o.Recorder = unrecorded{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// Recorder receives the work of a store, for metrics. Its methods must not block.
type Recorder interface {
	// ObserveStoreOp records one operation. If no slot is free, err is nil.
	ObserveStoreOp(op auth.StoreOp, took time.Duration, err error)
	// Committed records one transaction with batch changes.
	Committed(batch int, took time.Duration)
	// Queued records the number of callers that wait for the writers.
	Queued(depth int)
	// SlotsLost records n slots that were gone from the database before their answers
	// were written: the database has lost changes that it had confirmed.
	SlotsLost(n int)
}

// Store is a database that replicas share. [Open] makes one.
type Store struct {
	o       Options
	config  *pgx.ConnConfig
	session settings // settings of every session, apart from exceptions
	pool    *pgxpool.Pool
	resets  atomic.Int64 // number of resets of the pool
	clock   clock

	identity    atomic.Pointer[identity]
	opened      int64 // number of the newest event at the start: see [Store.Changes]
	registering sync.Mutex
	rules       atomic.Pointer[string] // digest of the settings of this process; nil: not agreed on yet
	held        held

	// admit takes slots, settle makes changes.
	admit, settle *lane
	leases        *leaseManager
	awaiting      sync.WaitGroup // goroutines that wait for commits whose callers have given up
	calls         sync.WaitGroup // calls that commit in the goroutine of their caller

	mu         sync.Mutex // no new call may begin while Close does
	spare      *link      // the link of [Store.apart]; nil: in use, or not made
	spareSince time.Time

	closing sync.Once
	life    context.Context // ends with Close
	end     context.CancelFunc
}

var (
	_ auth.Store    = (*Store)(nil)
	_ auth.Importer = (*Store)(nil)
)

// Open connects to the database, migrates its schema to the present version, and
// registers this process. The error says what to do: see the Err variables.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{o: o.withDefaults()}
	s.life, s.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.end()
			err = fmt.Errorf("open database: %w", explain(ctx, err))
		}
	}()
	config, err := s.configure()
	if err != nil {
		return nil, err
	}
	s.config = config.ConnConfig
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeConn(conn)
		}
	}()
	if err := s.admitPooler(ctx, conn); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, conn); err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if err := s.register(ctx, conn, nil); err != nil {
		s.pool.Close()
		return nil, err
	}
	if err := conn.QueryRow(ctx, `SELECT seq FROM head`).Scan(&s.opened); err != nil {
		s.pool.Close()
		return nil, err
	}
	if err := s.refuseHalfCopy(ctx, conn); err != nil {
		s.pool.Close()
		return nil, err
	}
	if err := s.mendCount(ctx, conn); err != nil {
		s.o.Log.Warn("the count of names that nobody ever logged in with could not be compared with them", "err", explain(ctx, err))
	}
	s.admit, s.settle = newLane(s, "admit", admitting), newLane(s, "settle", settling)
	if _, err := conn.Exec(ctx, commitHere, false); err != nil {
		s.pool.Close()
		return nil, err
	}
	s.leases = newLeaseManager(s, conn)
	go s.admit.run()
	go s.settle.run()
	go s.leases.run()
	return s, nil
}

// Close waits for the changes in progress, abandons imports, agreements and removals of
// events that are in progress, removes the registration of this process, and closes its
// connections. Slots that are still taken expire at once. Later calls get [ErrClosed].
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.end()
		s.mu.Unlock()
		<-s.admit.stopped
		<-s.settle.stopped
		<-s.leases.stopped
		s.calls.Wait() // before awaiting, since calls add to it
		s.awaiting.Wait()
		if l := s.takeSpare(); l != nil {
			closeConn(l.Conn)
		}
		s.pool.Close()
	})
	return nil
}

func (s *Store) isClosed() bool {
	return s.life.Err() != nil
}

// Now is the clock that all replicas share: the database's clock, read every few seconds
// and extrapolated by this machine's clock in between. It never goes back: if the
// database's clock is set back, this one runs slower until the other has caught up,
// unless it was set back by more than 5 min. Nothing in this package depends on it. The
// guard uses it, so that instants which replicas compare, such as the end of a lock,
// come from one clock.
func (s *Store) Now() time.Time { return s.clock.now() }

// Account implements [auth.Store].
func (s *Store) Account(ctx context.Context, name auth.Name) (a auth.Account, err error) {
	defer s.operated(auth.OpAccount, time.Now(), &err)
	err = s.read(ctx, func(ctx context.Context) error {
		a, err = readAccount(ctx, s.pool, name)
		return err
	})
	if err != nil {
		return auth.Account{}, fmt.Errorf("read account: %w", err)
	}
	return a, nil
}

// Reserve implements [auth.Store]. Once the account is locked in the database, the end
// of ctx does not end the call: Reserve waits for the database's answer, which the
// time-outs bound.
func (s *Store) Reserve(ctx context.Context, name auth.Name, slots func(auth.Account) int) (_ auth.Account, _ auth.Reservation, err error) {
	defer s.operated(auth.OpReserve, time.Now(), &err)
	q := &request{kind: reserving, name: name, slots: slots}
	a, err := s.admit.do(ctx, q)
	if err != nil {
		return a, 0, err
	}
	return a, q.reservation, nil
}

// Update implements [auth.Store]. change never runs after Update has returned. If ctx
// ends while the change is being committed, the caller gets the error of ctx, and the
// change is either written completely or not at all.
func (s *Store) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (_ auth.Account, err error) {
	defer s.operated(auth.OpUpdate, time.Now(), &err)
	a, found, err := s.look(ctx, name, r)
	if err != nil {
		return auth.Account{}, fmt.Errorf("read account: %w", err)
	}
	switch {
	case r == 0:
	case found == "" && !s.held.has(r):
		return a, nil // it was settled before
	case found != "" && found != name:
		return a, errForeign
	}
	// Most settlements of accepted logins write nothing; they must not wait for the
	// disk. The writer runs the change again, on the account as it is then.
	tried := a.Normalized()
	events, write, err := s.try(change, &tried)
	if err != nil {
		return a, err
	}
	if write {
		return s.settle.do(ctx, &request{kind: changing, name: name, reservation: r, change: change, tells: len(events) > 0})
	}
	if r != 0 {
		if err := s.release(ctx, r); err != nil {
			return a, fmt.Errorf("release slot: %w", err)
		}
	}
	return a, nil
}

// UpdateBatch implements [auth.Importer].
func (s *Store) UpdateBatch(ctx context.Context, names []auth.Name, change auth.Change) (err error) {
	defer s.operated(auth.OpUpdate, time.Now(), &err)
	if s.isClosed() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil || len(names) == 0 {
		return err
	}
	batch := make([]*request, len(names))
	for i, name := range names {
		batch[i] = &request{kind: changing, name: name, change: change}
	}
	return s.settle.doBatch(ctx, batch)
}

var errForeign = errors.New("the reservation is another account's")

// Health reports whether accounts can be read, and whether the last write succeeded. If
// it failed, Health tries another write.
func (s *Store) Health(ctx context.Context) error {
	if _, err := s.Account(ctx, ""); err != nil {
		return err
	}
	for _, l := range []*lane{s.admit, s.settle} {
		if l.failed.Load() == nil {
			continue
		}
		if _, err := l.do(ctx, &request{kind: probing}); err != nil {
			return err
		}
	}
	return nil
}

// look reads an account, and the name of the account to which a reservation belongs:
// none if the reservation no longer exists.
func (s *Store) look(ctx context.Context, name auth.Name, r auth.Reservation) (a auth.Account, of auth.Name, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		if r == 0 {
			a, err = readAccount(ctx, s.pool, name)
			return err
		}
		// The order matters: a caller that finds the reservation settled must also see
		// the change that settled it.
		var b pgx.Batch
		b.Queue(`SELECT account FROM reservations WHERE id = $1`, int64(r)).QueryRow(func(row pgx.Row) error {
			of = ""
			return none(row.Scan(&of))
		})
		b.Queue(selectAccount, string(name)).QueryRow(func(row pgx.Row) error {
			a, err = scanAccount(row, name)
			return err
		})
		return s.pool.SendBatch(ctx, &b).Close()
	})
	return a, of, err
}

// release frees a slot without a change to write. It need not reach the disk: if the
// database crashes and the slot is taken again, the lease manager frees it.
func (s *Store) release(ctx context.Context, r auth.Reservation) error {
	name, isHeld := s.held.holder(r)
	s.held.leave(r)
	err := s.read(ctx, func(ctx context.Context) error {
		var b pgx.Batch
		b.Queue(`BEGIN`)
		b.Queue(`SET LOCAL synchronous_commit = off`)
		b.Queue(`DELETE FROM reservations WHERE id = $1`, int64(r))
		b.Queue(`COMMIT`)
		return s.pool.SendBatch(ctx, &b).Close()
	})
	switch {
	case err == nil:
		s.held.drop(r)
	case isHeld:
		s.held.take(r, name)
	}
	return err
}

const selectAccount = `SELECT ` + accountColumns + ` FROM accounts WHERE name = $1`

func readAccount(ctx context.Context, pool *pgxpool.Pool, name auth.Name) (auth.Account, error) {
	return scanAccount(pool.QueryRow(ctx, selectAccount, string(name)), name)
}

func scanAccount(row pgx.Row, name auth.Name) (auth.Account, error) {
	var a auth.Account
	if err := row.Scan(accountFields(&a)...); err != nil {
		return auth.Account{Name: name}, none(err)
	}
	return a.Normalized(), nil
}

// none returns nil for the error "no rows".
func none(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// read runs f, which may run more than once: again if the connection was lost, as all
// connections of the pool are after a restart of the database.
func (s *Store) read(ctx context.Context, f func(context.Context) error) error {
	for try := 1; ; try++ {
		if s.isClosed() {
			return ErrClosed
		}
		resets := s.resets.Load()
		bounded, cancel := context.WithTimeout(ctx, 2*s.o.StatementTimeout)
		err := f(bounded)
		cancel()
		switch {
		case err == nil:
			return nil
		case s.isClosed():
			return ErrClosed
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case try == maxTries || !again(err):
			return explain(ctx, err)
		}
		// Only one of the callers with a lost connection resets the pool.
		if lost(err) && s.resets.CompareAndSwap(resets, resets+1) {
			s.pool.Reset()
		}
		if !s.pause(ctx, try) {
			return explain(ctx, err)
		}
	}
}

// maxTries is the largest number of tries.
const maxTries = 4

// pause waits before another try: 20, 40, 80 ms; false if another try makes no sense.
func (s *Store) pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(10 * time.Millisecond << try)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.life.Done():
	}
	return false
}

// try runs change; a panic in it is an error of its caller only.
func (s *Store) try(change auth.Change, a *auth.Account) (events []auth.Event, write bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Log.Error("a change of an account panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
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
	s.o.Recorder.ObserveStoreOp(op, time.Since(began), e)
}

type unrecorded struct{}

func (unrecorded) ObserveStoreOp(auth.StoreOp, time.Duration, error) {}
func (unrecorded) Committed(int, time.Duration)                      {}
func (unrecorded) Queued(int)                                        {}
func (unrecorded) SlotsLost(int)                                     {}

// held are the reservations of this process that are not settled. Other reservations in
// the database under this process are left over, and the lease manager frees them.
type held struct {
	mu    sync.Mutex
	all   map[auth.Reservation]auth.Name
	names map[auth.Name][]auth.Reservation // without those that are being released
}

func (h *held) take(r auth.Reservation, name auth.Name) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all, h.names = make(map[auth.Reservation]auth.Name), make(map[auth.Name][]auth.Reservation)
	}
	h.all[r] = name
	if !slices.Contains(h.names[name], r) {
		h.names[name] = append(h.names[name], r)
	}
}

// leave notes that a reservation is being released: if it is missing in the database, it
// does not count as a lost slot any more.
func (h *held) leave(r auth.Reservation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := h.all[r]
	left := slices.DeleteFunc(h.names[name], func(o auth.Reservation) bool { return o == r })
	if len(left) == 0 {
		delete(h.names, name)
		return
	}
	h.names[name] = left
}

func (h *held) drop(r auth.Reservation) {
	h.leave(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, r)
}

func (h *held) has(r auth.Reservation) bool {
	_, has := h.holder(r)
	return has
}

// holder returns the account of a reservation.
func (h *held) holder(r auth.Reservation) (name auth.Name, has bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name, has = h.all[r]
	return name, has
}

// of returns the reservations of one account that are not being released.
func (h *held) of(name auth.Name) []auth.Reservation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.names[name])
}

// ids returns all reservations.
func (h *held) ids() []int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]int64, 0, len(h.all))
	for r := range h.all {
		ids = append(ids, int64(r))
	}
	return ids
}
