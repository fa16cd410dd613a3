package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest/testenv"
)

// load records what callers did to a few accounts on several replicas while the database
// went down and came back.
type load struct {
	stores []*Store
	stop   chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex
	settled  map[auth.Name]int // with a reservation: each repeated until the store accepted it
	tried    map[auth.Name]int // without a reservation
	did      map[auth.Name]int // those without a reservation that were acknowledged
	reserved int
	errors   int
}

// start starts callers that guess until stop is closed: half of them with a reservation,
// whose failures must count exactly once, half without.
func start(t *testing.T, stores ...*Store) *load {
	l := &load{stores: stores, stop: make(chan struct{}), settled: make(map[auth.Name]int), tried: make(map[auth.Name]int), did: make(map[auth.Name]int)}
	for i := range 12 {
		s, name := stores[i%len(stores)], numbered(i%4)
		l.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				default:
				}
				if n%2 == 0 {
					l.guess(t, s, name)
				} else {
					l.fail(s, name)
				}
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

// end lets the callers finish.
func (l *load) end() {
	l.mu.Lock()
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.mu.Unlock()
	l.wg.Wait()
}

func (l *load) note(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// guess takes a slot and repeats its settlement until the store accepts it, as the guard does.
func (l *load) guess(t *testing.T, s *Store, name auth.Name) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, r, err := s.Reserve(ctx, name, allow(1000))
	if err != nil {
		l.note(func() { l.errors++ })
		time.Sleep(time.Millisecond) // do not try too often during an outage
		return
	}
	l.note(func() { l.reserved++ })
	for range 1000 {
		if err = l.settle(s, name, r); err == nil {
			l.note(func() { l.settled[name]++ })
			return
		}
		l.note(func() { l.errors++ })
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("settle: %v", err)
}

func (l *load) settle(s *Store, name auth.Name, r auth.Reservation) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := s.Update(ctx, name, r, fail)
	return err
}

// fail counts a failure without a reservation; if it is not acknowledged it may have
// been written or not.
func (l *load) fail(s *Store, name auth.Name) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l.note(func() { l.tried[name]++ })
	if _, err := s.Update(ctx, name, 0, fail); err != nil {
		l.note(func() { l.errors++ })
		time.Sleep(time.Millisecond)
		return
	}
	l.note(func() { l.did[name]++ })
}

// check compares what was acknowledged with what is stored.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.end()
	s, total := l.stores[0], 0
	for i := range 4 {
		name := numbered(i)
		n := failures(t, s, name)
		total += n
		if least, most := l.settled[name]+l.did[name], l.settled[name]+l.tried[name]; n < least || n > most {
			t.Errorf("%s has %d failures; %d were acknowledged, %d tried", name, n, least, most)
		}
	}
	wantEvents(t, s, total)
	t.Logf("%d reservations, %d failures, %d errors", l.reserved, total, l.errors)
	if l.reserved == 0 {
		t.Error("the load did nothing")
	}
	// No slot is left behind: the lease managers free them.
	conn := connected(t, s)
	for _, s := range l.stores {
		s.leases.wake()
	}
	eventually(t, "no slot is taken", func() bool {
		var taken int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM reservations`).Scan(&taken); err != nil {
			t.Fatal(err)
		}
		return taken == 0
	})
}

// progress waits until the load has settled something more.
func (l *load) progress(t *testing.T) {
	t.Helper()
	var before, now int
	l.note(func() { before = l.reserved })
	eventually(t, "the load makes progress", func() bool {
		l.note(func() { now = l.reserved })
		return now > before+30
	})
}

func TestARestartOfTheDatabaseLosesNothingAndCountsNothingTwice(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	dsn := server.Database(t)
	var stores []*Store
	for range 3 {
		stores = append(stores, open(t, Options{DSN: dsn, Lease: shortLease}))
	}
	l := start(t, stores...)
	for _, how := range []pgtest.Shutdown{pgtest.Immediate, pgtest.Fast, pgtest.Immediate} {
		l.progress(t)
		server.Restart(t, how)
	}
	l.progress(t)
	l.check(t)
	for _, s := range stores {
		if err := s.Health(t.Context()); err != nil {
			t.Errorf("health: %v", err)
		}
	}
}

// TestConnectionsThatBreakLoseNothingAndCountNothingTwice breaks connections at any
// moment: also after the database has committed and before its answer arrives.
func TestConnectionsThatBreakLoseNothingAndCountNothingTwice(t *testing.T) {
	t.Parallel()
	way := route(t, pgtest.Shared(t).Socket())
	// Few connections, since PostgreSQL needs time to make them.
	o := Options{DSN: way.through(database(t)), Lease: shortLease, MaxConns: 2}
	l := start(t, open(t, o), open(t, o))
	for range 20 {
		time.Sleep(rand.N(300 * time.Millisecond)) // a random moment
		way.cut()
	}
	l.progress(t)
	l.check(t)
}

func TestAnOutageIsAnErrorAndHealsByItself(t *testing.T) {
	server := unstable(t)
	s := open(t, Options{DSN: server.Database(t), Lease: shortLease})
	r := reserve(t, s, victim, allow(6))
	following, stop := context.WithCancel(t.Context())
	var followed sync.WaitGroup
	followed.Go(func() { s.Changes(following, func(auth.Event) {}) })
	server.Stop(t, pgtest.Fast)

	try := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for name, do := range map[string]func() error{
			"account": func() error { _, err := s.Account(ctx, victim); return err },
			"reserve": func() error { _, _, err := s.Reserve(ctx, victim, allow(6)); return err },
			"update":  func() error { _, err := s.Update(ctx, victim, r, fail); return err },
			"release": func() error { _, err := s.Update(ctx, victim, r, nothing); return err },
			"list":    func() error { _, err := s.List(ctx, auth.Filter{}); return err },
			"events":  func() error { _, err := s.Events(ctx, auth.EventFilter{}); return err },
			"verify":  func() error { _, err := s.Verify(ctx, nil); return err },
			"health":  func() error { return s.Health(ctx) },
		} {
			// Not the context's error: the store itself gives up much earlier.
			if err := do(); !errors.Is(err, ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v, want ErrUnreachable", name, err)
			}
		}
	}
	try()
	before := runtime.NumGoroutine()
	for range 10 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { s.Reserve(t.Context(), victim, allow(6)) })
			wg.Go(func() { s.Account(t.Context(), victim) })
		}
		wg.Wait()
	}
	try()
	if now := runtime.NumGoroutine(); now > before+5 {
		t.Errorf("%d goroutines, %d before: they grow in an outage", now, before)
	}

	server.Start(t)
	update(t, s, victim, r, fail)
	wantFailures(t, s, victim, 1)
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	wantEvents(t, s, 1)
	stop()
	followed.Wait()
}

// TestASilentDatabaseHoldsNoCallerForever: connections are accepted, and nothing
// answers.
func TestASilentDatabaseHoldsNoCallerForever(t *testing.T) {
	t.Parallel()
	way := route(t, pgtest.Shared(t).Socket())
	s := open(t, Options{
		DSN: way.through(database(t)), ConnectTimeout: 300 * time.Millisecond, StatementTimeout: 300 * time.Millisecond,
	})
	r := reserve(t, s, victim, allow(6))
	way.silent.Store(true)
	for name, do := range map[string]func() error{
		"account": func() error { _, err := s.Account(t.Context(), victim); return err },
		"reserve": func() error { _, _, err := s.Reserve(t.Context(), victim, allow(6)); return err },
		"update":  func() error { _, err := s.Update(t.Context(), victim, r, fail); return err },
	} {
		if err := do(); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v, want ErrUnreachable", name, err)
		}
	}
	// Callers with a shorter timeout than the store's are not held.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Account(ctx, victim); !errors.Is(err, context.Canceled) {
		t.Errorf("account: %v, want context.Canceled", err)
	}
	way.silent.Store(false)
	way.cut()
	update(t, s, victim, r, fail)
	wantFailures(t, s, victim, 1)
	reserve(t, s, victim, allow(1))
}

// way is the network between a store and the database; it can fail.
type way struct {
	dir    string
	socket net.Listener
	silent atomic.Bool // everything that is sent gets lost
	closed atomic.Bool // no connection gets through

	made atomic.Int64 // number of connections so far

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// route makes a way to PostgreSQL's socket.
func route(t *testing.T, to string) *way {
	t.Helper()
	w := &way{dir: testenv.Dir(t), conns: make(map[net.Conn]bool)}
	var err error
	if w.socket, err = net.Listen("unix", filepath.Join(w.dir, ".s.PGSQL.5432")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := w.socket.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if w.closed.Load() || err != nil {
				if err == nil {
					server.Close()
				}
				client.Close()
				continue
			}
			w.made.Add(1)
			w.mu.Lock()
			w.conns[client], w.conns[server] = true, true
			w.mu.Unlock()
			wg.Go(func() { w.carry(client, server) })
			wg.Go(func() { w.carry(server, client) })
		}
	})
	t.Cleanup(func() {
		w.socket.Close()
		w.cut()
		wg.Wait()
	})
	return w
}

// carry copies octets from one end to the other.
func (w *way) carry(from, to net.Conn) {
	defer w.end(from)
	defer w.end(to)
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if !w.silent.Load() && n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *way) end(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c)
	c.Close()
}

// cut ends all connections.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}

// through returns a connection string that uses this way.
func (w *way) through(dsn string) string {
	fields := strings.Fields(dsn)
	for i, f := range fields {
		if strings.HasPrefix(f, "host=") {
			fields[i] = "host=" + w.dir
		}
	}
	return strings.Join(fields, " ")
}
