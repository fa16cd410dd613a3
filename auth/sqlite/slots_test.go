package sqlite

import (
	"context"
	"errors"
	"testing"

	"congthu/auth"
)

func newSlots(max int) *slots {
	return &slots{max: max, taken: make(map[auth.Reservation]*slot), names: make(map[auth.Name]*entry)}
}

func one(auth.Account) int { return 1 }

// TestASlotFreedMeanwhileIsTaken: an attempt that settles during a reservation
// of another is counted by it although it has ended; this must not refuse the other.
func TestASlotFreedMeanwhileIsTaken(t *testing.T) {
	s := newSlots(10)
	const name auth.Name = "n@congthu.test"
	exists := func(context.Context, auth.Name) (auth.Account, bool, error) {
		return auth.Account{Name: name}, true, nil
	}
	_, first, err := s.reserve(t.Context(), name, one, exists)
	if err != nil {
		t.Fatal(err)
	}
	looks := 0
	_, second, err := s.reserve(t.Context(), name, one, func(ctx context.Context, name auth.Name) (auth.Account, bool, error) {
		if looks++; looks == 1 {
			s.release(first)
		}
		return exists(ctx, name)
	})
	if err != nil || looks != 2 {
		t.Fatalf("error %v after %d looks; want a slot after the second", err, looks)
	}
	if _, _, err := s.reserve(t.Context(), name, one, exists); !errors.Is(err, auth.ErrNoSlot) {
		t.Fatalf("error %v, want ErrNoSlot", err)
	}
	s.release(second)
}

// TestAFailureSettledDuringTheReadIsNotMissed: such a failure is neither
// in the account that was read, nor in flight any more after that.
func TestAFailureSettledDuringTheReadIsNotMissed(t *testing.T) {
	s := newSlots(1)
	const name auth.Name = "n@congthu.test"
	failures := 0
	limit := func(a auth.Account) int { return 1 - a.Failures }
	read := func(context.Context, auth.Name) (auth.Account, bool, error) {
		return auth.Account{Name: name, Failures: failures}, true, nil
	}
	_, first, err := s.reserve(t.Context(), name, limit, read)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.reserve(t.Context(), name, limit, func(ctx context.Context, name auth.Name) (auth.Account, bool, error) {
		a, exists, err := read(ctx, name)
		failures = 1 // committed after the read
		s.release(first)
		return a, exists, err
	})
	if !errors.Is(err, auth.ErrNoSlot) {
		t.Fatalf("error %v, want ErrNoSlot: one wrong password was allowed, and it was judged", err)
	}
}

// TestNothingIsLeftOfAttemptsThatEnded: the number of names over time has no limit.
func TestNothingIsLeftOfAttemptsThatEnded(t *testing.T) {
	s := newSlots(2)
	unseen := func(_ context.Context, name auth.Name) (auth.Account, bool, error) {
		return auth.Account{Name: name}, false, nil
	}
	down := func(context.Context, auth.Name) (auth.Account, bool, error) {
		return auth.Account{}, false, errInjected
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		_, a, err1 := s.reserve(t.Context(), "a@congthu.test", one, unseen)
		_, b, err2 := s.reserve(t.Context(), "b@congthu.test", one, unseen)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.reserve(t.Context(), "c@congthu.test", one, unseen); !errors.Is(err, auth.ErrFull) {
			t.Errorf("error %v, want ErrFull", err)
		}
		if _, _, err := s.reserve(t.Context(), "a@congthu.test", one, unseen); !errors.Is(err, auth.ErrNoSlot) {
			t.Errorf("error %v, want ErrNoSlot", err)
		}
		if _, _, err := s.reserve(t.Context(), "a@congthu.test", one, down); !errors.Is(err, errInjected) {
			t.Errorf("error %v, want the error of the read", err)
		}
		holder := s.enter("a@congthu.test")
		holder.turn <- struct{}{}
		if _, _, err := s.reserve(cancelled, "a@congthu.test", one, unseen); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		<-holder.turn
		s.leave(holder)
		s.release(a)
		s.release(a)
		s.release(b)
	}
	if len(s.names) != 0 || len(s.taken) != 0 || s.newcomers != 0 || s.unknown != 0 {
		t.Errorf("left: %d names, %d slots, %d newcomers, %d unknown", len(s.names), len(s.taken), s.newcomers, s.unknown)
	}
}
