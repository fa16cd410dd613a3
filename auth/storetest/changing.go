package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
)

func changeAndEvents(t *testing.T, h Harness) {
	s := h.open(t)
	a := update(t, s, testName, 0, fail)
	if a.Name != testName || a.Failures != 1 {
		t.Fatalf("update returned %+v", a)
	}
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
		e1, _ := fail(a)
		e2, _ := fail(a)
		return append(e1, e2...), true
	})
	wantEvents(t, s, 3)
	wantFailures(t, s, testName, 3)
	s = h.reopened(t, s)
	wantEvents(t, s, 3)
	wantFailures(t, s, testName, 3)
	update(t, s, testName, 0, fail)
	wantEvents(t, s, 4)
}

func nothingToWrite(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, fail)
	r := reserve(t, s, testName, allow(1))
	a := update(t, s, testName, r, func(a *auth.Account) ([]auth.Event, bool) {
		events, _ := fail(a)
		return events, false
	})
	if a.Failures != 1 {
		t.Fatalf("update returned %d failures, want what is stored: 1", a.Failures)
	}
	wantFailures(t, s, testName, 1)
	wantEvents(t, s, 1)
	reserve(t, s, testName, allow(1)) // the slot is free again
}

func otherName(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
		a.Name = "other@congthu.test"
		a.Failures = 5
		return nil, true
	})
	wantFailures(t, s, testName, 5)
	wantFailures(t, s, "other@congthu.test", 0)
}

func parallelChanges(t *testing.T, h Harness) {
	s := h.open(t)
	stores := h.replicas(t, s)
	const workers, each = 32, 10
	var wg sync.WaitGroup
	for i := range workers {
		s := stores[i%len(stores)]
		wg.Go(func() {
			for range each {
				if _, err := s.Update(t.Context(), testName, 0, fail); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	wantFailures(t, s, testName, workers*each)
	wantEvents(t, s, workers*each)
}

func panickingChange(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, fail)
	r := reserve(t, s, testName, allow(1))
	var wg sync.WaitGroup
	for range 8 { // other updates, which must not be affected
		wg.Go(func() {
			if _, err := s.Update(t.Context(), "other@congthu.test", 0, fail); err != nil {
				t.Errorf("update beside a panic: %v", err)
			}
		})
	}
	for range 8 {
		wg.Go(func() {
			_, err := s.Update(t.Context(), testName, r, func(a *auth.Account) ([]auth.Event, bool) {
				a.Failures = 100
				panic("spilt milk")
			})
			if err == nil || !strings.Contains(err.Error(), "change panicked") || strings.Contains(err.Error(), "spilt milk") {
				t.Errorf("error %v, want one that names the panic but not its value", err)
			}
		})
	}
	wg.Wait()
	wantFailures(t, s, testName, 1)
	wantFailures(t, s, "other@congthu.test", 8)
	wantNoSlot(t, s, testName, allow(1)) // r is still taken
	update(t, s, testName, r, fail)
	wantFailures(t, s, testName, 2)
	wantEvents(t, s, 10)

	// A change that panics only at its second run, on the fresh account.
	runs := 0
	if _, err := s.Update(t.Context(), testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
		if runs++; runs > 1 {
			panic("spilt milk")
		}
		return fail(a)
	}); (err != nil) != (runs > 1) {
		t.Fatalf("error %v after %d runs", err, runs)
	}
	update(t, s, testName, 0, fail)
}

func lateChange(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, login)
	stores := h.replicas(t, s)
	early := reserve(t, s, testName, allow(2))
	late := reserve(t, stores[len(stores)-1], testName, allow(2))
	lock := auth.Lock{Mark: auth.Mark{At: noon, By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
	update(t, s, testName, early, func(a *auth.Account) ([]auth.Event, bool) { a.Lock = lock; return nil, true })
	update(t, stores[len(stores)-1], testName, late, func(a *auth.Account) ([]auth.Event, bool) {
		if a.Lock != lock {
			t.Errorf("a success that completes after the lock got %+v", a.Lock)
		}
		return nil, false
	})
	// The other way round: unlocked while an attempt is in progress.
	r := reserve(t, s, testName, allow(1))
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Lock = auth.Lock{}; return nil, true })
	a := update(t, s, testName, r, fail)
	if a.Lock.Cause != auth.NotLocked || a.Failures != 1 {
		t.Fatalf("after the unlock and one failure: %+v", a)
	}
}

// lastLogin: last logins are written by a change that keeps the later one.
func lastLogin(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, testName, 0, login)
	stores := h.replicas(t, s)
	var wg sync.WaitGroup
	for i := range 30 {
		at := noon.Add(time.Duration(i*7%30) * time.Minute)
		wg.Go(func() {
			_, err := stores[i%len(stores)].Update(t.Context(), testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
				if !at.After(a.LastLogin) {
					return nil, false
				}
				a.LastLogin = at
				return nil, true
			})
			if err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	wg.Wait()
	if got, want := account(t, h.reopened(t, s), testName).LastLogin, noon.Add(29*time.Minute); got != want {
		t.Fatalf("last login %v, want the latest: %v", got, want)
	}
}

// madeIsRead: every read that begins after a change was committed, or after another
// caller has read the change, shows the change. A store may keep accounts in memory to
// save queries, but this must not become visible: logins are accepted by what is read.
func madeIsRead(t *testing.T, h Harness) {
	const changes, readers = 60, 4
	s := h.open(t)
	update(t, s, testName, 0, login)
	stores := h.replicas(t, s)
	var least atomic.Int64 // failures that are certainly committed
	known := func(n int) {
		for m := least.Load(); int64(n) > m && !least.CompareAndSwap(m, int64(n)); m = least.Load() {
		}
	}
	seen := func(by string, read func() (int, error)) bool {
		want := int(least.Load())
		n, err := read()
		if err != nil || n < want {
			t.Errorf("%s returned %d failures, %v; %d had been committed before", by, n, err, want)
			return false
		}
		known(n)
		return true
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range readers {
		s := stores[i%len(stores)]
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !seen("reading", func() (int, error) {
					a, err := s.Account(t.Context(), testName)
					return a.Failures, err
				}) || !seen("a change that writes nothing", func() (shown int, err error) {
					_, err = s.Update(t.Context(), testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
						shown = a.Failures
						return nil, false
					})
					return shown, err
				}) || !seen("reserving", func() (int, error) {
					a, _, err := s.Reserve(t.Context(), testName, allow(0))
					if errors.Is(err, auth.ErrNoSlot) {
						err = nil
					}
					return a.Failures, err
				}) {
					return
				}
			}
		})
	}
	for n := range changes {
		s, other := stores[n%len(stores)], auth.Name(fmt.Sprintf("n%d@congthu.test", n))
		switch n % 3 {
		case 0: // one of a batch
			if err := s.UpdateBatch(t.Context(), []auth.Name{other, testName}, fail); err != nil {
				t.Errorf("update a batch: %v", err)
			}
		case 1: // beside other changes
			wg.Go(func() {
				if _, err := s.Update(t.Context(), other, 0, login); err != nil {
					t.Errorf("update: %v", err)
				}
			})
			fallthrough
		default:
			if _, err := s.Update(t.Context(), testName, 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		}
		known(n + 1)
	}
	close(stop)
	wg.Wait()
	wantFailures(t, s, testName, changes)
	// A change that empties the account is read as well.
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true })
	wantAccount(t, account(t, s, testName), auth.Account{Name: testName})
}

// doubtIsRead: a failed commit was either written or not, whatever error its caller got,
// and every later read shows the same.
func doubtIsRead(t *testing.T, h Harness) {
	if h.Break == nil {
		return
	}
	lock := auth.Lock{Mark: auth.Mark{At: noon, By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
	change := func(a *auth.Account) ([]auth.Event, bool) { a.Lock = lock; return nil, true }
	for _, m := range []Moment{BeforeCommit, AfterCommit} {
		for _, many := range []bool{false, true} {
			s := h.open(t)
			update(t, s, testName, 0, login)
			account(t, s, testName)
			mend := h.Break(t, s, m)
			var err error
			if many {
				err = s.UpdateBatch(t.Context(), []auth.Name{testName, "else@congthu.test"}, change)
			} else {
				_, err = s.Update(t.Context(), testName, 0, change)
			}
			if err == nil {
				t.Fatal("no error")
			}
			look := func(when string) {
				t.Helper()
				if a := account(t, s, testName); (a.Lock == lock) != (m == AfterCommit) {
					t.Fatalf("moment %d, in a batch %v, %s: the lock is %+v", m, many, when, a.Lock)
				}
			}
			look("at once")
			mend()
			look("when the store was mended")
			update(t, s, "other@congthu.test", 0, login)
			look("when it has written again")
		}
	}
}
