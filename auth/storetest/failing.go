package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"congthu/auth"
)

func endedContext(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, fail)
	r := reserve(t, s, testName, allow(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, do := range map[string]func() error{
		"account": func() error { _, err := s.Account(ctx, testName); return err },
		"reserve": func() error { _, _, err := s.Reserve(ctx, testName, allow(2)); return err },
		"update":  func() error { _, err := s.Update(ctx, testName, r, fail); return err },
		"release": func() error { _, err := s.Update(ctx, testName, r, nothing); return err },
		"each":    func() error { return s.Each(ctx, func(auth.Account) error { return nil }) },
		"list":    func() error { _, err := s.List(ctx, auth.Filter{}); return err },
		"events":  func() error { _, err := s.Events(ctx, auth.EventFilter{}); return err },
		"verify":  func() error { _, err := s.Verify(ctx, nil); return err },
	} {
		if err := do(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	wantFailures(t, s, testName, 1)
	wantNoSlot(t, s, testName, allow(1))
	update(t, s, testName, r, fail)
	wantFailures(t, s, testName, 2)
	reserve(t, s, testName, allow(1))
}

func contextEndsWithin(t *testing.T, h Harness) {
	s := h.open(t)
	for n := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		_, r, err := s.Reserve(ctx, testName, allow(1))
		if err != nil {
			t.Fatalf("round %d: reserve: %v", n, err)
		}
		var running atomic.Bool
		runs := 0
		_, err = s.Update(ctx, testName, r, func(a *auth.Account) ([]auth.Event, bool) {
			running.Store(true)
			defer running.Store(false)
			// It ends at the first run, or at the second if there is one, which then
			// runs in another goroutine.
			if runs++; runs > n%2 {
				cancel()
			}
			for range 1000 { // enough time for a wrong Update to return too early
				runtime.Gosched()
			}
			return fail(a)
		})
		if running.Load() {
			t.Fatal("update returned while the change still ran")
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("update: %v", err)
		}
		settle(t, s, testName, r, fail)
		wantFailures(t, s, testName, n+1)
		wantEvents(t, s, n+1)

		// A reservation that fails has taken no slot.
		ctx, cancel = context.WithCancel(t.Context())
		_, r, err = s.Reserve(ctx, testName, func(auth.Account) int { cancel(); return 1 })
		if err == nil {
			update(t, s, testName, r, nothing)
		}
		update(t, s, testName, reserve(t, s, testName, allow(1)), nothing)
	}
}

// contextsEndAnytime: while many callers write, contexts end at arbitrary moments. Each
// settlement is retried until it succeeds, and counts once.
func contextsEndAnytime(t *testing.T, h Harness) {
	s := h.open(t)
	const workers, each = 16, 20
	var wg sync.WaitGroup
	for i := range workers {
		name := auth.Name(fmt.Sprintf("n%d@congthu.test", i%4))
		wg.Go(func() {
			for range each {
				_, r, err := s.Reserve(t.Context(), name, allow(workers))
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				var returned atomic.Bool
				runs := 0 // the race detector reports a change that runs too late
				go cancel()
				_, err = s.Update(ctx, name, r, func(a *auth.Account) ([]auth.Event, bool) {
					runs++
					if returned.Load() {
						t.Error("the change runs after Update has returned")
					}
					return fail(a)
				})
				returned.Store(true)
				runs = 0
				if err != nil {
					settle(t, s, name, r, fail)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		wantFailures(t, s, auth.Name(fmt.Sprintf("n%d@congthu.test", i)), workers*each/4)
	}
	wantEvents(t, s, workers*each)
}

func failsBefore(t *testing.T, h Harness) {
	if h.Break == nil {
		return
	}
	s := h.open(t)
	update(t, s, testName, 0, fail)
	r := reserve(t, s, testName, allow(1))
	mend := h.Break(t, s, BeforeCommit)
	if _, err := s.Update(t.Context(), testName, r, fail); err == nil {
		t.Fatal("no error")
	}
	mend()
	wantFailures(t, s, testName, 1)
	wantEvents(t, s, 1)
	wantNoSlot(t, s, testName, allow(1))
	settle(t, s, testName, r, fail)
	wantFailures(t, s, testName, 2)
	wantEvents(t, s, 2)
	reserve(t, s, testName, allow(1))
}

func failsAfter(t *testing.T, h Harness) {
	if h.Break == nil {
		return
	}
	s := h.open(t)
	r := reserve(t, s, testName, allow(1))
	mend := h.Break(t, s, AfterCommit)
	if _, err := s.Update(t.Context(), testName, r, fail); err == nil {
		t.Fatal("no error")
	}
	mend()
	// The guard repeats it, since it does not know the result.
	settle(t, s, testName, r, fail)
	wantFailures(t, s, testName, 1)
	wantEvents(t, s, 1)
	again := reserve(t, s, testName, allow(1))

	// Or it releases the slot, without knowing the result either.
	mend = h.Break(t, s, AfterCommit)
	if _, err := s.Update(t.Context(), testName, again, fail); err == nil {
		t.Fatal("no error")
	}
	mend()
	settle(t, s, testName, again, nothing)
	wantFailures(t, s, testName, 2)
	wantEvents(t, s, 2)
	reserve(t, s, testName, allow(1))
}

func fullOfUnknown(t *testing.T, h Harness) {
	s := h.Open(t, Options{MaxUnknown: 3})
	for _, name := range []auth.Name{"a@congthu.test", "b@congthu.test", "c@congthu.test"} {
		update(t, s, name, reserve(t, s, name, allow(1)), fail)
	}
	s = h.reopened(t, s)
	counted := func(want int) {
		t.Helper()
		if n, err := s.UnknownNames(t.Context()); err != nil || n != want {
			t.Fatalf("%d unknown names, %v; want %d", n, err, want)
		}
	}
	counted(3)
	const newcomer auth.Name = "d@congthu.test"
	refused := func() {
		t.Helper()
		if _, r, err := s.Reserve(t.Context(), newcomer, allow(1)); !errors.Is(err, auth.ErrFull) || r != 0 {
			t.Fatalf("reserve for a newcomer: %d, %v; want ErrFull", r, err)
		}
		if _, err := s.Update(t.Context(), newcomer, 0, fail); !errors.Is(err, auth.ErrFull) {
			t.Fatalf("update of a newcomer: %v, want ErrFull", err)
		}
		wantAccount(t, account(t, s, newcomer), auth.Account{Name: newcomer})
	}
	refused()
	refused() // and the refusal takes no room
	// A name that has failures keeps them and may have more.
	update(t, s, "a@congthu.test", reserve(t, s, "a@congthu.test", allow(1)), fail)
	wantFailures(t, s, "a@congthu.test", 2)
	wantFailures(t, s, "c@congthu.test", 1)
	// The limit does not hold for known accounts.
	update(t, s, "known@congthu.test", 0, login)
	update(t, s, "known@congthu.test", 0, fail)
	refused()
	// A login makes room, and so does a name with nothing left to remember.
	update(t, s, "a@congthu.test", 0, login)
	counted(2)
	update(t, s, newcomer, reserve(t, s, newcomer, allow(1)), fail)
	if _, err := s.Update(t.Context(), "e@congthu.test", 0, fail); !errors.Is(err, auth.ErrFull) {
		t.Fatalf("update of another newcomer: %v, want ErrFull", err)
	}
	update(t, s, newcomer, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Failures, a.Mistakes = 0, nil; return nil, true })
	update(t, s, "e@congthu.test", 0, fail)
	refused()
	wantFailures(t, h.reopened(t, s), "b@congthu.test", 1)

	// An attempt that was admitted can be settled, whatever happens to the account in
	// the meantime.
	s = h.Open(t, Options{MaxUnknown: 1})
	first, second := reserve(t, s, testName, allow(2)), reserve(t, s, testName, allow(2))
	update(t, s, testName, first, fail)
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true })
	refused()
	update(t, s, testName, second, fail)
	refused()
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true })
	update(t, s, newcomer, 0, fail)
}

func parallelNewcomers(t *testing.T, h Harness) {
	const room = 10
	s := h.Open(t, Options{MaxUnknown: room})
	var wg sync.WaitGroup
	var let atomic.Int64
	for i := range 50 {
		name := auth.Name(fmt.Sprintf("n%d@congthu.test", i))
		wg.Go(func() {
			_, r, err := s.Reserve(t.Context(), name, allow(1))
			if errors.Is(err, auth.ErrFull) {
				return
			}
			if err != nil {
				t.Errorf("reserve: %v", err)
				return
			}
			let.Add(1)
			if _, err := s.Update(t.Context(), name, r, fail); err != nil {
				t.Errorf("an attempt that was admitted cannot be settled: %v", err)
			}
		})
	}
	wg.Wait()
	all, err := s.List(t.Context(), auth.Filter{Unknown: true})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	if let.Load() != room || len(all) != room {
		t.Fatalf("%d were admitted and %d are remembered, want %d", let.Load(), len(all), room)
	}
}

// sharedCounters: shared counters behave as accounts, but they take no room and appear
// in no list of accounts.
func sharedCounters(t *testing.T, h Harness) {
	const counter, another auth.Name = "@00ff", "@ff00"
	s := h.Open(t, Options{MaxUnknown: 2})
	update(t, s, "a@congthu.test", reserve(t, s, "a@congthu.test", allow(1)), fail)
	// A slot of a counter that has no row takes no room either.
	held := reserve(t, s, another, allow(1))
	update(t, s, "b@congthu.test", reserve(t, s, "b@congthu.test", allow(1)), fail)
	full := func() {
		t.Helper()
		if n, err := s.UnknownNames(t.Context()); n != 2 || err != nil {
			t.Fatalf("%d unknown names, %v; want 2", n, err)
		}
		if _, _, err := s.Reserve(t.Context(), testName, allow(1)); !errors.Is(err, auth.ErrFull) {
			t.Fatalf("reserve for a newcomer: %v, want ErrFull", err)
		}
		if _, err := s.Update(t.Context(), testName, 0, fail); !errors.Is(err, auth.ErrFull) {
			t.Fatalf("update of a newcomer: %v, want ErrFull", err)
		}
		if err := s.UpdateBatch(t.Context(), []auth.Name{testName}, fail); !errors.Is(err, auth.ErrFull) {
			t.Fatalf("update of all newcomers: %v, want ErrFull", err)
		}
	}
	full()
	quietly := func(a *auth.Account) ([]auth.Event, bool) { _, write := fail(a); return nil, write }
	update(t, s, another, held, quietly)
	var taken []auth.Reservation
	for range 6 {
		taken = append(taken, reserve(t, s, counter, tolerate(6)))
	}
	wantNoSlot(t, s, counter, tolerate(6))
	for _, r := range taken {
		update(t, s, counter, r, quietly)
	}
	wantNoSlot(t, s, counter, tolerate(6))
	wantFailures(t, s, counter, 6)
	full()
	if n, err := counted(t.Context(), s, []auth.Name{another, counter}, quietly); n != 2 || err != nil {
		t.Fatalf("update of all counters: %d, %v", n, err)
	}
	full()
	s = h.reopened(t, s)
	full()
	for _, s := range h.replicas(t, s) {
		wantFailures(t, s, counter, 7)
		wantFailures(t, s, another, 2)
		for _, c := range []struct {
			want  auth.Filter
			names []auth.Name
		}{
			{auth.Filter{}, nil},
			{auth.Filter{Unknown: true}, []auth.Name{"a@congthu.test", "b@congthu.test"}},
			{auth.Filter{Shared: true}, []auth.Name{counter, another}},
			{auth.Filter{Shared: true, After: counter}, []auth.Name{another}},
			{auth.Filter{Shared: true, Unknown: true}, []auth.Name{counter, another, "a@congthu.test", "b@congthu.test"}},
			{auth.Filter{Contains: "@", Locked: true, Unknown: true}, nil},
			{auth.Filter{Contains: "ff", Unknown: true}, nil},
		} {
			listed, err := s.List(t.Context(), c.want)
			if err != nil {
				t.Fatalf("list: %v", err)
			}
			var names []auth.Name
			for _, a := range listed {
				names = append(names, a.Name)
			}
			if !slices.Equal(names, c.names) {
				t.Errorf("list of %+v: %v, want %v", c.want, names, c.names)
			}
		}
	}
	// Emptying a counter makes no room, since the counter took none.
	update(t, s, another, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true })
	wantAccount(t, account(t, s, another), auth.Account{Name: another})
	full()
}
