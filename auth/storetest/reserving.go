package storetest

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"congthu/auth"
)

func slotsAreCounted(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, login)
	stores := h.replicas(t, s)
	var taken []auth.Reservation
	for i := range 3 {
		taken = append(taken, reserve(t, stores[i%len(stores)], testName, allow(3)))
	}
	if taken[0] == taken[1] || taken[1] == taken[2] {
		t.Fatalf("reservations %v are not distinct", taken)
	}
	wantNoSlot(t, s, testName, allow(3))
	reserve(t, s, "other@congthu.test", allow(1)) // slots belong to one account
	reserve(t, s, testName, allow(4))
	update(t, s, testName, taken[1], fail)
	wantNoSlot(t, s, testName, allow(3))
	update(t, s, testName, taken[0], nothing)
	reserve(t, s, testName, allow(3))
	wantNoSlot(t, s, testName, allow(3))
}

func noSlots(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, fail)
	for _, n := range []int{0, -1, -1 << 40} {
		wantNoSlot(t, s, testName, allow(n))
	}
	reserve(t, s, testName, allow(1)) // no slot was taken
	wantNoSlot(t, s, testName, allow(1))
}

func freeSlot(t *testing.T, h Harness) {
	s := h.open(t)
	for range 50 {
		r := reserve(t, s, testName, allow(1))
		wantNoSlot(t, s, testName, allow(1))
		update(t, s, testName, r, nothing)
	}
	// Attempts of others that are refused do not take a free slot.
	var wg sync.WaitGroup
	stop := make(chan struct{})
	defer wg.Wait()
	defer close(stop)
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, _, err := s.Reserve(t.Context(), testName, allow(0)); !errors.Is(err, auth.ErrNoSlot) {
					t.Errorf("reserve: %v", err)
					return
				}
			}
		})
	}
	for range 50 {
		update(t, s, testName, reserve(t, s, testName, allow(1)), nothing)
	}
}

// parallelReservations: with the right password all callers get through, never more than
// three at the same time.
func parallelReservations(t *testing.T, h Harness) {
	s := h.open(t)
	stores := h.replicas(t, s)
	var wg sync.WaitGroup
	var inFlight, most, through atomic.Int64
	for i := range 24 {
		s := stores[i%len(stores)]
		wg.Go(func() {
			for {
				_, r, err := s.Reserve(t.Context(), testName, allow(3))
				if errors.Is(err, auth.ErrNoSlot) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				n := inFlight.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				through.Add(1)
				inFlight.Add(-1)
				if _, err := s.Update(t.Context(), testName, r, nothing); err != nil {
					t.Errorf("update: %v", err)
				}
				return
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || through.Load() != 24 {
		t.Fatalf("%d at once, want at most 3; %d in all, want 24", most.Load(), through.Load())
	}
}

// neverTooMany is the exactness of the lock: for any number of guessers and any timing,
// exactly as many wrong passwords are judged as allowed.
func neverTooMany(t *testing.T, h Harness) {
	const limit, guessers, rounds = 6, 40, 10
	s := h.open(t)
	stores := h.replicas(t, s)
	for round := range rounds {
		var wg sync.WaitGroup
		var judged atomic.Int64
		start := make(chan struct{})
		for i := range guessers {
			s := stores[i%len(stores)]
			wg.Go(func() {
				<-start
				for {
					a, r, err := s.Reserve(t.Context(), testName, tolerate(limit))
					switch {
					case errors.Is(err, auth.ErrNoSlot) && a.Failures >= limit:
						return // locked
					case errors.Is(err, auth.ErrNoSlot):
						runtime.Gosched()
						continue // wait for a slot
					case err != nil:
						t.Errorf("reserve: %v", err)
						return
					}
					judged.Add(1)
					if _, err := s.Update(t.Context(), testName, r, fail); err != nil {
						t.Errorf("update: %v", err)
						return
					}
				}
			})
		}
		close(start)
		wg.Wait()
		if judged.Load() != limit {
			t.Fatalf("round %d: %d wrong passwords were judged, want %d", round, judged.Load(), limit)
		}
		wantFailures(t, s, testName, limit)
		// An unlock, after which the same number is allowed again.
		update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Failures, a.Mistakes = 0, nil
			return nil, true
		})
	}
	wantEvents(t, s, limit*rounds)
}

// slotAfterChange: the caller that gets the only slot sees the changes of all callers
// that had it before.
func slotAfterChange(t *testing.T, h Harness) {
	s := h.open(t)
	stores := h.replicas(t, s)
	var wg sync.WaitGroup
	var settled atomic.Int64
	for i := range 4 {
		s := stores[i%len(stores)]
		wg.Go(func() {
			for done := 0; done < 25; {
				a, r, err := s.Reserve(t.Context(), testName, allow(1))
				if errors.Is(err, auth.ErrNoSlot) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				if n := settled.Load(); int64(a.Failures) != n {
					t.Errorf("reserve returned %d failures, %d were settled", a.Failures, n)
				}
				settled.Add(1) // before the slot is free, so that the next one sees it
				if _, err := s.Update(t.Context(), testName, r, fail); err != nil {
					t.Errorf("update: %v", err)
					return
				}
				done++
			}
		})
	}
	wg.Wait()
	wantFailures(t, s, testName, 100)
}

func duplicateSettlement(t *testing.T, h Harness) {
	s := h.open(t)
	stores := h.replicas(t, s)
	r := reserve(t, s, testName, allow(1))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := stores[i%len(stores)].Update(t.Context(), testName, r, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Wait()
	a := update(t, s, testName, r, fail)
	if a.Failures != 1 {
		t.Fatalf("the late duplicate returned %d failures, want the stored 1", a.Failures)
	}
	wantFailures(t, s, testName, 1)
	wantEvents(t, s, 1)

	// A duplicate release does not free the slot of another caller.
	r = reserve(t, s, testName, allow(1))
	update(t, s, testName, r, nothing)
	again := reserve(t, s, testName, allow(1))
	update(t, s, testName, r, nothing)
	wantNoSlot(t, s, testName, allow(1))
	update(t, s, testName, again, nothing)

	// A release and a failure at the same time: one of the two takes effect, for one
	// slot.
	for range 20 {
		before := account(t, s, testName).Failures
		r := reserve(t, s, testName, allow(1))
		for _, change := range []auth.Change{fail, nothing, fail} {
			wg.Go(func() {
				if _, err := s.Update(t.Context(), testName, r, change); err != nil {
					t.Errorf("update: %v", err)
				}
			})
		}
		wg.Wait()
		if n := account(t, s, testName).Failures - before; n > 1 {
			t.Fatalf("one reservation counted %d times", n)
		}
	}
}

func foreignReservation(t *testing.T, h Harness) {
	s := h.open(t)
	r := reserve(t, s, testName, allow(1))
	if _, err := s.Update(t.Context(), "other@congthu.test", r, fail); err == nil {
		t.Fatal("one account's reservation settled another's")
	}
	wantFailures(t, s, "other@congthu.test", 0)
	wantNoSlot(t, s, testName, allow(1))
	// A reservation that was never given counts as one that was settled before.
	update(t, s, testName, r+1_000_000, fail)
	wantFailures(t, s, testName, 0)
	update(t, s, testName, r, fail)
	wantFailures(t, s, testName, 1)
}
