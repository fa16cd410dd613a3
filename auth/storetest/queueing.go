package storetest

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"congthu/auth"
)

// Queue gives the cases access to a store whose changes wait for a writer and share its
// commits.
type Queue struct {
	// Batch is the largest number of changes in one commit.
	Batch int
	// Waiting is the number of changes that wait for the writer.
	Waiting func(s Store) int
	// Closing is closed when the store has begun to close.
	Closing func(s Store) <-chan struct{}
	// Injected is the error of a store that [Harness].Break has broken.
	Injected error
	// Closed is the error of a store that was closed.
	Closed error
	// Closings is the number of stores that the test closes while they are in use.
	Closings int
}

// queueing are the cases of a store with a [Queue].
var queueing = []testCase{
	{"changes that queue share a commit", queuedTogether},
	{"a change that writes nothing does not wait for the disk", notQueued},
	{"a change whose caller has given up is not made", givenUp},
	{"a failed commit fails its batch and no other", failedBatch},
	{"a closed store says so", closedStore},
	{"closing at the same time as everything else", closingRaces},
	{"every operation is recorded", recordedOperations},
}

// recorded returns an empty store and its recorder.
func (h Harness) recorded(t *testing.T) (Store, *Recorder) {
	t.Helper()
	r := new(Recorder)
	return h.Open(t, Options{Recorder: r}), r
}

// Wait waits until n changes wait for the writer.
func (q *Queue) Wait(t *testing.T, s Store, n int) {
	t.Helper()
	for began := time.Now(); q.Waiting(s) < n; {
		if time.Since(began) > time.Minute {
			t.Fatalf("%d changes wait for the writer, want %d", q.Waiting(s), n)
		}
		time.Sleep(100 * time.Microsecond) // only the length of the queue shows it
	}
}

// Stall keeps the writer busy with a change until goOn is called, which waits for the
// end of that change. The change may fail if the store is broken.
func (q *Queue) Stall(t *testing.T, s Store) (goOn func()) {
	t.Helper()
	running, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		runs := 0
		_, err := s.Update(context.Background(), "stall@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) {
			if runs++; runs == 2 { // the first run only looks at the account
				close(running)
				<-release
			}
			return fail(a)
		})
		if err != nil && !errors.Is(err, q.Injected) {
			t.Errorf("update: %v", err)
		}
	}()
	<-running
	return func() { close(release); <-done }
}

func queuedTogether(t *testing.T, h Harness) {
	s, told := h.recorded(t)
	goOn := h.Queue.Stall(t, s)
	var wg sync.WaitGroup
	callers := 2*h.Queue.Batch + 22
	for i := range callers {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), number(i), 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	h.Queue.Wait(t, s, callers)
	goOn()
	wg.Wait()
	told.mu.Lock()
	defer told.mu.Unlock()
	if want := []int{1, h.Queue.Batch, h.Queue.Batch, 22}; !slices.Equal(told.batches, want) {
		t.Errorf("batches %v, want %v", told.batches, want)
	}
	if told.deepest != callers {
		t.Errorf("the queue was at most %d deep, want %d", told.deepest, callers)
	}
}

func notQueued(t *testing.T, h Harness) {
	s, told := h.recorded(t)
	r := reserve(t, s, testName, allow(1))
	told.Forget()
	goOn := h.Queue.Stall(t, s)
	defer goOn()
	// These would wait forever if they waited for the writer.
	update(t, s, testName, r, nothing)
	update(t, s, testName, 0, nothing)
	if changes, transactions := told.Commits(); changes+transactions > 0 {
		t.Errorf("%d changes in %d commits, want none", changes, transactions)
	}
}

func givenUp(t *testing.T, h Harness) {
	s := h.open(t)
	goOn := h.Queue.Stall(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	runs := 0
	go func() {
		_, err := s.Update(ctx, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { runs++; return fail(a) })
		done <- err
	}()
	h.Queue.Wait(t, s, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	goOn()
	update(t, s, "other@congthu.test", 0, fail)
	if wantFailures(t, s, testName, 0); runs != 1 {
		t.Fatalf("%d runs, want only the first look", runs)
	}
}

func failedBatch(t *testing.T, h Harness) {
	s := h.open(t)
	health := s.(interface{ Health(context.Context) error }).Health
	goOn := h.Queue.Stall(t, s)
	mend := h.Break(t, s, BeforeCommit)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), number(i%4), 0, fail); !errors.Is(err, h.Queue.Injected) {
				t.Errorf("update: %v, want the injected error", err)
			}
		})
	}
	h.Queue.Wait(t, s, 20)
	goOn()
	wg.Wait()
	if err := health(t.Context()); !errors.Is(err, h.Queue.Injected) {
		t.Errorf("health: %v, want the injected error", err)
	}
	mend()
	if err := health(t.Context()); err != nil {
		t.Errorf("health of a mended store: %v", err)
	}
	update(t, s, number(0), 0, fail)
	wantEvents(t, s, 1)
}

func closedStore(t *testing.T, h Harness) {
	s := h.open(t)
	goOn := h.Queue.Stall(t, s)
	var wg sync.WaitGroup
	for range 10 { // these changes are still made
		wg.Go(func() {
			if _, err := s.Update(t.Context(), testName, 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	h.Queue.Wait(t, s, 10)
	closed := make(chan error)
	go func() { closed <- s.(io.Closer).Close() }()
	<-h.Queue.Closing(s)
	goOn()
	wg.Wait()
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	for name, do := range map[string]func(ctx context.Context) error{
		"account": func(ctx context.Context) error { _, err := s.Account(ctx, testName); return err },
		"reserve": func(ctx context.Context) error { _, _, err := s.Reserve(ctx, testName, allow(1)); return err },
		"update":  func(ctx context.Context) error { _, err := s.Update(ctx, testName, 0, fail); return err },
		"each":    func(ctx context.Context) error { return s.Each(ctx, func(auth.Account) error { return nil }) },
		"events":  func(ctx context.Context) error { _, err := s.Events(ctx, auth.EventFilter{}); return err },
		"verify":  func(ctx context.Context) error { _, err := s.Verify(ctx, nil); return err },
		"health":  s.(interface{ Health(context.Context) error }).Health,
	} {
		if err := do(t.Context()); !errors.Is(err, h.Queue.Closed) {
			t.Errorf("%s: %v, want %v", name, err, h.Queue.Closed)
		}
	}
	wantFailures(t, h.Reopen(t, s), testName, 10)
}

// closingRaces: no caller hangs, at whatever moment Close comes.
func closingRaces(t *testing.T, h Harness) {
	for range h.Queue.Closings {
		s := h.open(t)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				name := number(i % 3)
				for {
					_, r, err := s.Reserve(t.Context(), name, allow(100))
					if err == nil {
						_, err = s.Update(t.Context(), name, r, fail)
					}
					if errors.Is(err, h.Queue.Closed) {
						return
					}
					if err != nil {
						t.Errorf("before the end: %v", err)
						return
					}
				}
			})
		}
		h.Queue.Wait(t, s, 1)
		if err := s.(io.Closer).Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		wg.Wait()
	}
}

func recordedOperations(t *testing.T, h Harness) {
	s, told := h.recorded(t)
	ctx := t.Context()
	s.Account(ctx, testName)
	_, r, _ := s.Reserve(ctx, testName, allow(1))
	s.Reserve(ctx, testName, allow(1)) // no slot is not an error
	s.Update(ctx, testName, r, fail)
	s.List(ctx, auth.Filter{})
	s.Events(ctx, auth.EventFilter{})
	s.Verify(ctx, nil)
	changes, transactions := told.Commits()
	s.UpdateBatch(ctx, numbered(100), fail)
	if n, m := told.Commits(); n-changes != 100 || m-transactions != 1 {
		t.Errorf("a batch of 100: %d changes in %d transactions, want one", n-changes, m-transactions)
	}
	h.Break(t, s, BeforeCommit)
	s.Update(ctx, testName, 0, fail)
	want := map[auth.StoreOp]int{
		auth.OpAccount: 1, auth.OpReserve: 2, auth.OpUpdate: 3, auth.OpList: 1, auth.OpEvents: 1, auth.OpVerify: 1,
	}
	told.mu.Lock()
	defer told.mu.Unlock()
	for _, op := range auth.StoreOps() {
		if told.ops[op] != want[op] {
			t.Errorf("%v: recorded %d times, want %d", op, told.ops[op], want[op])
		}
	}
	if want := map[auth.StoreOp]int{auth.OpUpdate: 1}; !maps.Equal(told.errs, want) {
		t.Errorf("errors %v, want %v", told.errs, want)
	}
}
