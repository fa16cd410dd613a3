package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
)

// TestAChangeThatCannotBeWrittenFailsAlone: PostgreSQL refuses times before its first
// date.
func TestAChangeThatCannotBeWrittenFailsAlone(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	r := reserve(t, s, victim, allow(1))
	goOn := harness.Queue.Stall(t, s)
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
	harness.Queue.Wait(t, s, 11)
	goOn()
	wg.Wait()
	wantEvents(t, s, 11)
	wantNoSlot(t, s, victim, allow(1))
	update(t, s, victim, r, fail)
	reserve(t, s, victim, allow(1))
}

func TestTheOutcomeOfACommitInDoubtIsFound(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	r := reserve(t, s, victim, allow(1))
	// COMMIT reports an error although the transaction was committed: the store asks,
	// and the caller gets the true result.
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

// TestASlotWithoutACallerIsFreed: Reserve has failed, so no caller will settle the slot
// that it took.
func TestASlotWithoutACallerIsFreed(t *testing.T) {
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

func TestADeadlockIsRetried(t *testing.T) {
	t.Parallel()
	testenv.NeedRealClock(t, "under libfaketime no timeout of PostgreSQL ends, so that it looks for no deadlock: see testenv.ClockEnvironment")
	s := open(t, Options{})
	conn := connected(t, s)
	update(t, s, victim, 0, fail)
	// A person works on the tables by hand, and locks them in another order.
	execute(t, conn, `SET deadlock_timeout = '10s'`) // the store notices the deadlock, not this connection
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
