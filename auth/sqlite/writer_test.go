package sqlite

import (
	"context"
	"errors"
	"sync"
	"testing"

	"congthu/auth"
)

func TestTheQueueIsBounded(t *testing.T) {
	s := open(t, Options{})
	goOn := harness.Queue.Stall(t, s)
	var wg sync.WaitGroup
	for range maxQueue {
		wg.Go(func() {
			if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	harness.Queue.Wait(t, s, maxQueue)
	ctx, cancel := context.WithCancel(t.Context())
	tried := make(chan struct{})
	wg.Go(func() {
		_, err := s.Update(ctx, "n@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) { close(tried); return fail(a) })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at a full queue: %v, want context.Canceled", err)
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

func TestTheOutcomeOfACommitInDoubtIsFound(t *testing.T) {
	s := open(t, Options{})
	_, r, err := s.Reserve(t.Context(), "n@congthu.test", func(auth.Account) int { return 1 })
	if err != nil {
		t.Fatal(err)
	}
	// COMMIT reports an error although the transaction was committed: the store checks,
	// and the caller gets the true result.
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

// TestASlotInDoubtStaysTaken: as long as it is not known whether the failure was
// written, no other guess may use its slot.
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
		t.Errorf("after the doubt: %d failures, error %v", a.Failures, err)
	}
}
