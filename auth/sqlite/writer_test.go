package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"congthu/auth"
)

// noted is a Recorder that remembers.
type noted struct {
	mu      sync.Mutex
	ops     map[auth.StoreOp]int
	errs    map[auth.StoreOp]int
	batches []int
	deepest int
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

// stall keeps the writer busy with a change until the function it returns is
// called, which waits for that change's end.
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

// queued waits until n changes wait for the writer.
func queued(s *Store, n int) {
	for len(s.writer.queue) < n {
		time.Sleep(100 * time.Microsecond) // only the length of the channel tells
	}
}

func TestChangesThatQueueShareACommit(t *testing.T) {
	var n noted
	s := open(t, Options{Recorder: &n})
	goOn := stall(t, s)
	var wg sync.WaitGroup
	const callers = 150
	for i := range callers {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), auth.Name(fmt.Sprintf("n%d@congthu.test", i)), 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	queued(s, callers)
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
	var n noted
	s := open(t, Options{Recorder: &n})
	goOn := stall(t, s)
	defer goOn()
	_, r, err := s.Reserve(t.Context(), "n@congthu.test", func(auth.Account) int { return 1 })
	if err != nil {
		t.Fatal(err)
	}
	// Would wait for ever, were it to wait.
	if _, err := s.Update(t.Context(), "n@congthu.test", r, func(*auth.Account) ([]auth.Event, bool) { return nil, false }); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.batches) != 0 {
		t.Errorf("commits %v, want none", n.batches)
	}
}

func TestAChangeThatNobodyWaitsForAnyMoreIsNotMade(t *testing.T) {
	s := open(t, Options{})
	goOn := stall(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	runs := 0
	go func() {
		_, err := s.Update(ctx, "n@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) { runs++; return fail(a) })
		done <- err
	}()
	queued(s, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	goOn()
	if _, err := s.Update(t.Context(), "other@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Account(t.Context(), "n@congthu.test"); err != nil || a.Failures != 0 || runs != 1 {
		t.Fatalf("%d failures after %d runs, error %v; want none after the look", a.Failures, runs, err)
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	s := open(t, Options{})
	goOn := stall(t, s)
	var wg sync.WaitGroup
	for range maxQueue {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	queued(s, maxQueue)
	ctx, cancel := context.WithCancel(t.Context())
	tried := make(chan struct{})
	wg.Go(func() {
		_, err := s.Update(ctx, "n@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) { close(tried); return fail(a) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("before a full queue: %v, want context.Canceled", err)
		}
	})
	<-tried
	cancel()
	goOn()
	wg.Wait()
	if a, err := s.Account(t.Context(), "n@congthu.test"); err != nil || a.Failures != maxQueue {
		t.Fatalf("%d failures, error %v; want %d", a.Failures, err, maxQueue)
	}
}

func TestAFailedCommitFailsItsBatchAndNoOther(t *testing.T) {
	s := open(t, Options{})
	goOn := stall(t, s)
	s.writer.faults.Store(&faults{before: errInjected})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := s.Update(t.Context(), auth.Name(fmt.Sprintf("n%d@congthu.test", i%4)), 0, fail)
			if !errors.Is(err, errInjected) {
				t.Errorf("update: %v, want the injected error", err)
			}
		})
	}
	queued(s, 20)
	goOn()
	wg.Wait()
	if err := s.Health(t.Context()); !errors.Is(err, errInjected) {
		t.Errorf("health: %v, want the injected error", err)
	}
	s.writer.faults.Store(nil)
	if err := s.Health(t.Context()); err != nil {
		t.Errorf("health of a store that is mended: %v", err)
	}
	if _, err := s.Update(t.Context(), "n0@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	head, err := s.Verify(t.Context(), nil)
	if err != nil || head.Seq != 1 {
		t.Fatalf("head %+v, error %v; want one event", head, err)
	}
}

func TestACommitInDoubtIsFoundOutAbout(t *testing.T) {
	s := open(t, Options{})
	_, r, err := s.Reserve(t.Context(), "n@congthu.test", func(auth.Account) int { return 1 })
	if err != nil {
		t.Fatal(err)
	}
	// COMMIT reports an error although it was made: the store looks, and tells
	// the caller the truth.
	s.writer.faults.Store(&faults{after: errInjected})
	a, err := s.Update(t.Context(), "n@congthu.test", r, fail)
	if err != nil || a.Failures != 1 {
		t.Fatalf("%d failures, error %v", a.Failures, err)
	}
	s.writer.faults.Store(nil)
	if _, _, err := s.Reserve(t.Context(), "n@congthu.test", func(auth.Account) int { return 1 }); err != nil {
		t.Fatalf("the slot is not free: %v", err)
	}
	if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != 2 {
		t.Fatalf("head %+v, error %v; want two events", head, err)
	}
}

// TestASlotInDoubtStaysTaken: as long as nobody knows whether the failure was
// written, nobody may guess in its place.
func TestASlotInDoubtStaysTaken(t *testing.T) {
	s := open(t, Options{})
	one := func(auth.Account) int { return 1 }
	_, r, err := s.Reserve(t.Context(), "n@congthu.test", one)
	if err != nil {
		t.Fatal(err)
	}
	s.writer.faults.Store(&faults{after: errInjected, connect: errInjected})
	if _, err := s.Update(t.Context(), "n@congthu.test", r, fail); !errors.Is(err, errInjected) {
		t.Fatalf("update: %v", err)
	}
	if _, err := s.Update(t.Context(), "n@congthu.test", r, func(*auth.Account) ([]auth.Event, bool) { return nil, false }); err == nil {
		t.Error("a release overtook the settlement in doubt")
	}
	if _, _, err := s.Reserve(t.Context(), "n@congthu.test", one); !errors.Is(err, auth.ErrNoSlot) {
		t.Errorf("reserve: %v, want ErrNoSlot", err)
	}
	s.writer.faults.Store(nil)
	if err := s.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, _, err := s.Reserve(t.Context(), "n@congthu.test", one); err != nil || a.Failures != 1 {
		t.Errorf("with the doubt gone: %d failures, error %v", a.Failures, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, Options{})
	goOn := stall(t, s)
	var wg sync.WaitGroup
	for range 10 { // are still made
		wg.Go(func() {
			if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	queued(s, 10)
	closed := make(chan struct{})
	go func() { shut(t, s); close(closed) }()
	<-s.writer.quit
	goOn()
	wg.Wait()
	<-closed
	for name, do := range map[string]func() error{
		"account": func() error { _, err := s.Account(t.Context(), "n@congthu.test"); return err },
		"reserve": func() error {
			_, _, err := s.Reserve(t.Context(), "n@congthu.test", func(auth.Account) int { return 1 })
			return err
		},
		"update": func() error { _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); return err },
		"each":   func() error { return s.Each(t.Context(), func(auth.Account) error { return nil }) },
		"events": func() error { _, err := s.Events(t.Context(), auth.EventFilter{}); return err },
		"verify": func() error { _, err := s.Verify(t.Context(), nil); return err },
		"health": func() error { return s.Health(t.Context()) },
		"backup": func() error { return s.Backup(t.Context(), s.path+".backup") },
	} {
		if err := do(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	s = open(t, Options{Path: s.path})
	if a, err := s.Account(t.Context(), "n@congthu.test"); err != nil || a.Failures != 10 {
		t.Errorf("%d failures, error %v; want 10", a.Failures, err)
	}
}

// TestClosingRacesWithEverything: no caller hangs, whatever Close comes between.
func TestClosingRacesWithEverything(t *testing.T) {
	for range 20 {
		s := open(t, Options{})
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				name := auth.Name(fmt.Sprintf("n%d@congthu.test", i%3))
				for {
					_, r, err := s.Reserve(t.Context(), name, func(auth.Account) int { return 100 })
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
		queued(s, 1)
		shut(t, s)
		wg.Wait()
	}
}

func TestTheRecorderIsToldOfEveryOperation(t *testing.T) {
	var n noted
	s := open(t, Options{Recorder: &n})
	ctx := t.Context()
	s.Account(ctx, "n@congthu.test")
	_, r, _ := s.Reserve(ctx, "n@congthu.test", func(auth.Account) int { return 1 })
	s.Reserve(ctx, "n@congthu.test", func(auth.Account) int { return 1 }) // no slot: no error
	s.Update(ctx, "n@congthu.test", r, fail)
	s.List(ctx, auth.Filter{})
	s.Events(ctx, auth.EventFilter{})
	s.Verify(ctx, nil)
	s.UpdateAll(ctx, nil, fail)
	s.writer.faults.Store(&faults{before: errInjected})
	s.Update(ctx, "n@congthu.test", 0, fail)
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
