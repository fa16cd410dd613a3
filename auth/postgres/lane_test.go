package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
)

// noted is a Recorder that remembers.
type noted struct {
	mu      sync.Mutex
	ops     map[auth.StoreOp]int
	errs    map[auth.StoreOp]int
	batches []int
	deepest int
	lost    int
}

func (n *noted) Operated(op auth.StoreOp, took time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ops == nil {
		n.ops, n.errs = make(map[auth.StoreOp]int), make(map[auth.StoreOp]int)
	}
	n.ops[op]++
	if err != nil {
		n.errs[op]++
	}
}

func (n *noted) Committed(batch int, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batches = append(n.batches, batch)
}

func (n *noted) Queued(depth int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deepest = max(n.deepest, depth)
}

func (n *noted) SlotsLost(lost int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost += lost
}

func (n *noted) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ops, n.errs, n.batches, n.deepest = nil, nil, nil, 0
}

// stall keeps the settling lane busy with a change until the function it returns
// is called, which waits for that change's end.
func stall(t *testing.T, s *Store) (goOn func()) {
	t.Helper()
	running, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runs := 0
		_, err := s.Update(context.Background(), "stall@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) {
			if runs++; runs == 2 { // the first run is only a look
				close(running)
				<-release
			}
			return fail(a)
		})
		if err != nil && !errors.Is(err, errInjected) {
			t.Errorf("update: %v", err)
		}
	}()
	<-running
	return func() { close(release); <-done }
}

// queued waits until n changes wait for the settling lane.
func queued(t *testing.T, s *Store, n int) {
	t.Helper()
	eventually(t, "they have queued", func() bool { return len(s.settle.queue) >= n })
}

func TestChangesThatQueueShareACommit(t *testing.T) {
	t.Parallel()
	var n noted
	s := open(t, Options{Recorder: &n})
	goOn := stall(t, s)
	var wg sync.WaitGroup
	const callers = 150
	for i := range callers {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), numbered(i), 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	queued(t, s, callers)
	goOn()
	wg.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if got, want := fmt.Sprint(n.batches), "[1 64 64 22]"; got != want {
		t.Errorf("batches %v, want %v", got, want)
	}
	if n.deepest != callers {
		t.Errorf("the queue was at most %d deep, want %d", n.deepest, callers)
	}
}

func TestAChangeThatWritesNothingDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	var n noted
	s := open(t, Options{Recorder: &n})
	r := reserve(t, s, victim, allow(1))
	n.forget()
	goOn := stall(t, s)
	defer goOn()
	// Would wait for ever, were it to wait.
	update(t, s, victim, r, nothing)
	update(t, s, victim, 0, nothing)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.batches) != 0 {
		t.Errorf("commits %v, want none", n.batches)
	}
}

func TestAChangeThatNobodyWaitsForAnyMoreIsNotMade(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	goOn := stall(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	runs := 0
	go func() {
		_, err := s.Update(ctx, victim, 0, func(a *auth.Account) ([]auth.Event, bool) { runs++; return fail(a) })
		done <- err
	}()
	queued(t, s, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	goOn()
	update(t, s, "other@congthu.test", 0, fail)
	if wantFailures(t, s, victim, 0); runs != 1 {
		t.Fatalf("%d runs, want none after the look", runs)
	}
}

func TestAFailedCommitFailsItsBatchAndNoOther(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	goOn := stall(t, s)
	s.settle.faults.Store(&faults{before: errInjected})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Update(t.Context(), numbered(i%4), 0, fail)
			if !errors.Is(err, errInjected) {
				t.Errorf("update: %v, want the injected error", err)
			}
		})
	}
	queued(t, s, 20)
	goOn()
	wg.Wait()
	if err := s.Health(t.Context()); !errors.Is(err, errInjected) {
		t.Errorf("health: %v, want the injected error", err)
	}
	s.settle.faults.Store(nil)
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("health of a store that is mended: %v", err)
	}
	update(t, s, numbered(0), 0, fail)
	wantEvents(t, s, 1)
}

// TestAChangeThatCannotBeWrittenFailsAlone: the database takes no time before
// its own beginning.
func TestAChangeThatCannotBeWrittenFailsAlone(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	r := reserve(t, s, victim, allow(1))
	goOn := stall(t, s)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), numbered(i), 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Go(func() {
		_, err := s.Update(t.Context(), victim, r, func(a *auth.Account) ([]auth.Event, bool) {
			a.LastLogin = time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC)
			return nil, true
		})
		if err == nil {
			t.Error("written")
		}
	})
	queued(t, s, 11)
	goOn()
	wg.Wait()
	wantEvents(t, s, 11)
	wantNoSlot(t, s, victim, allow(1))
	update(t, s, victim, r, fail)
	reserve(t, s, victim, allow(1))
}

func TestACommitInDoubtIsFoundOutAbout(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	r := reserve(t, s, victim, allow(1))
	// COMMIT reports an error although it was made: the store asks, and tells the
	// caller the truth.
	s.settle.faults.Store(&faults{after: errInjected})
	if a := update(t, s, victim, r, fail); a.Failures != 1 {
		t.Fatalf("%d failures", a.Failures)
	}
	s.settle.faults.Store(nil)
	s.admit.faults.Store(&faults{after: errInjected})
	r = reserve(t, s, victim, allow(1))
	s.admit.faults.Store(nil)
	wantNoSlot(t, s, victim, allow(1))
	update(t, s, victim, r, fail)
	wantEvents(t, s, 2)
}

// TestASlotOfWhichNobodyLearntIsFreed: Reserve has failed, so that nobody will
// settle what it took.
func TestASlotOfWhichNobodyLearntIsFreed(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Lease: shortLease})
	s.admit.faults.Store(&faults{after: errInjected, ask: errInjected})
	if _, _, err := s.Reserve(t.Context(), victim, allow(1)); !errors.Is(err, errInjected) {
		t.Fatalf("reserve: %v", err)
	}
	s.admit.faults.Store(nil)
	eventually(t, "the slot is free", func() bool {
		_, _, err := s.Reserve(t.Context(), victim, allow(1))
		return err == nil
	})
	wantNoSlot(t, s, victim, allow(1))
}

func TestADeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	testenv.NeedRealClock(t, "under libfaketime no timeout of PostgreSQL ends, so that it looks for no deadlock: see testenv.ClockEnvironment")
	s := open(t, Options{})
	conn := connected(t, s)
	update(t, s, victim, 0, fail)
	// Somebody works on the tables by hand, and takes them in another order.
	execute(t, conn, `SET deadlock_timeout = '10s'`) // the store is the one to notice
	execute(t, conn, `BEGIN`)
	execute(t, conn, `SELECT FROM accounts WHERE name = $1 FOR UPDATE`, string(victim))
	done := make(chan error)
	go func() {
		_, err := s.Update(context.Background(), victim, 0, fail)
		done <- err
	}()
	eventually(t, "the store waits", func() bool {
		var n int
		err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted`).Scan(&n)
		return err == nil && n > 0
	})
	execute(t, conn, `UPDATE head SET seq = seq`)
	execute(t, conn, `COMMIT`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantFailures(t, s, victim, 2)
	wantEvents(t, s, 2)
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	goOn := stall(t, s)
	var wg sync.WaitGroup
	for range 10 { // are still made
		wg.Go(func() {
			if _, err := s.Update(t.Context(), victim, 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	queued(t, s, 10)
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	<-s.life.Done()
	goOn()
	wg.Wait()
	<-closed
	for name, do := range map[string]func() error{
		"account": func() error { _, err := s.Account(t.Context(), victim); return err },
		"reserve": func() error { _, _, err := s.Reserve(t.Context(), victim, allow(1)); return err },
		"update":  func() error { _, err := s.Update(t.Context(), victim, 0, fail); return err },
		"each":    func() error { return s.Each(t.Context(), func(auth.Account) error { return nil }) },
		"events":  func() error { _, err := s.Events(t.Context(), auth.EventFilter{}); return err },
		"verify":  func() error { _, err := s.Verify(t.Context(), nil); return err },
		"health":  func() error { return s.Health(t.Context()) },
	} {
		if err := do(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	wantFailures(t, open(t, s.o), victim, 10)
}

// TestClosingRacesWithEverything: no caller hangs, whatever Close comes between.
func TestClosingRacesWithEverything(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	for range 5 {
		s := open(t, Options{DSN: dsn})
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				name := numbered(i % 3)
				for {
					_, r, err := s.Reserve(t.Context(), name, allow(100))
					if err == nil {
						_, err = s.Update(t.Context(), name, r, fail)
					}
					if errors.Is(err, ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("before the end: %v", err)
						return
					}
				}
			})
		}
		queued(t, s, 1)
		s.Close()
		wg.Wait()
	}
}

func TestTheRecorderIsToldOfEveryOperation(t *testing.T) {
	t.Parallel()
	var n noted
	s := open(t, Options{Recorder: &n})
	ctx := t.Context()
	s.Account(ctx, victim)
	_, r, _ := s.Reserve(ctx, victim, allow(1))
	s.Reserve(ctx, victim, allow(1)) // no slot: no error
	s.Update(ctx, victim, r, fail)
	s.List(ctx, auth.Filter{})
	s.Events(ctx, auth.EventFilter{})
	s.Verify(ctx, nil)
	s.UpdateAll(ctx, nil, fail)
	s.settle.faults.Store(&faults{before: errInjected})
	s.Update(ctx, victim, 0, fail)
	want := map[auth.StoreOp]int{
		auth.OpAccount: 1, auth.OpReserve: 2, auth.OpUpdate: 2, auth.OpUpdateAll: 1, auth.OpList: 1, auth.OpEvents: 1, auth.OpVerify: 1,
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, op := range auth.StoreOps() {
		if n.ops[op] != want[op] {
			t.Errorf("%v: told %d times, want %d", op, n.ops[op], want[op])
		}
	}
	if fmt.Sprint(n.errs) != fmt.Sprint(map[auth.StoreOp]int{auth.OpUpdate: 1}) {
		t.Errorf("errors %v, want one update", n.errs)
	}
}
