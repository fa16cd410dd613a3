package guard_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

// Verdicts that a gateway has received are written before it asks about the account
// again.

// flap cuts the gateway off from the store while the mail server judges, and makes the
// others treat it as dead.
func (b *bench) flap() {
	b.broken.Store(unreachable)
	for r := range b.store.Taken() {
		if err := b.store.Lapse(r, storetest.InDoubt); err != nil {
			b.t.Error(err)
		}
	}
}

// I1. Its slots expire while it lives, repeatedly, and at the limit none of them counts.
func TestAGatewayWhoseLinkFlapsGetsNoFurtherVerdicts(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range 5 {
			b.want(b.try("lan", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.server.during = b.flap
		for i := range 8 {
			// It fails, or has ended before the link is cut: then the account is locked.
			if v := b.try("lan", fmt.Sprint("flap", i)); !v.Outcome.Temporary() && v.Outcome != auth.Locked {
				b.t.Errorf("flap %d: %v", i, v.Outcome)
			}
			b.broken.Store(nil)
		}
		if b.server.worst > 6 {
			b.t.Errorf("%d wrong passwords were judged, want at most 6", b.server.worst)
		}
		b.server.during = nil
		b.want(b.try("lan", good), auth.Locked)
		if a := b.account(); a.Failures != 6 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want 6 and 0", a.Failures, b.guard.Owed())
		}
	})
}

func TestAGatewayAsksNoMoreUntilItsVerdictIsWritten(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.broken.Store(noWrites)
		b.want(b.try("lan", "wrong"), auth.StoreUnavailable)
		for i := range 10 {
			b.want(b.try("lan", fmt.Sprint("guess", i)), auth.StoreUnavailable)
		}
		if b.server.asked != 1 {
			b.t.Errorf("the mail server was asked %d times, want 1", b.server.asked)
		}
		b.want(b.try("other@example.vn", good), auth.StoreUnavailable) // refused because of the store, not the queue
		// The next attempt writes it, without waiting for the next try of Run.
		b.broken.Store(nil)
		began := time.Now()
		b.want(b.try("lan", good), auth.Accepted)
		if took := time.Since(began); took > 500*time.Millisecond {
			b.t.Errorf("it took %s of the bubble's time", took)
		}
		if got := b.told.count(auth.FirstLogin); got != 1 {
			b.t.Errorf("%d first logins", got)
		}
	})
}

// I2. Attempts that wait for another one's verdict go on when it is written.
func TestAttemptsThatWaitForAVerdictGoOnWhenItIsWritten(t *testing.T) {
	var slow *slowWrites
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		slow = &slowWrites{Store: g.Store}
		g.Store = slow
	}, func(b *bench) {
		b.broken.Store(noWrites)
		b.want(b.try("lan", "wrong"), auth.StoreUnavailable)
		b.broken.Store(nil)
		slow.delay.Store(int64(3 * time.Second))
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		time.Sleep(2 * time.Second)
		slow.delay.Store(0)
		wg.Wait()
		if b.guard.Owed() != 0 || b.guard.Waiting() != 0 {
			b.t.Errorf("%d owed, %d wait", b.guard.Owed(), b.guard.Waiting())
		}
	})
}

// slowWrites delays changes.
type slowWrites struct {
	auth.Store
	delay   atomic.Int64
	hangs   atomic.Bool // while set, settlements get no answer
	poison  atomic.Value
	updates atomic.Int64 // number of settlements
	logins  atomic.Int64 // number of changes without a slot
}

func (s *slowWrites) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	if r == 0 {
		s.logins.Add(1)
	} else {
		s.updates.Add(1)
		if s.hangs.Load() {
			<-ctx.Done()
			return auth.Account{}, ctx.Err()
		}
	}
	if name == s.poison.Load() {
		return auth.Account{}, errBroken
	}
	time.Sleep(time.Duration(s.delay.Load()))
	return s.Store.Update(ctx, name, r, change)
}

// owing gives the guard one pending failure for each of n accounts.
func (b *bench) owing(n int) {
	b.broken.Store(noWrites)
	for i := range n {
		b.want(b.try(fmt.Sprintf("n%d@example.vn", i), "wrong"), auth.StoreUnavailable)
	}
	if b.guard.Owed() != n {
		b.t.Fatalf("%d settlements pending, want %d", b.guard.Owed(), n)
	}
}

func withSlowWrites(slow **slowWrites) func(*guard.Guard, *auth.Rules) {
	return func(g *guard.Guard, _ *auth.Rules) {
		*slow = &slowWrites{Store: g.Store}
		g.Store, g.StoreGrace = *slow, time.Hour
	}
}

func TestAStoreThatIsDownIsAskedOnceForAllPendingSettlements(t *testing.T) {
	var slow *slowWrites
	inBubble(t, withSlowWrites(&slow), func(b *bench) {
		b.owing(100)
		slow.updates.Store(0)
		time.Sleep(10 * time.Minute)
		if n := slow.updates.Load(); n < 10 || n > 40 {
			b.t.Errorf("%d tries in 10 minutes, want one every 30 s at most", n)
		}
		b.broken.Store(nil)
		time.Sleep(31 * time.Second)
		if n := b.guard.Owed(); n != 0 {
			b.t.Errorf("%d settlements are pending half a minute after the store came back", n)
		}
	})
}

// As with a database behind a link that loses everything: it returns no error.
func TestAStoreThatHangsDelaysNeitherLastLoginsNorShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var slow *slowWrites
		withSlowWrites(&slow)(b.guard, nil)
		b.setRules(auth.DefaultRules())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.guard.Run(ctx) }()
		b.want(b.try("lan", good), auth.Accepted)
		b.owing(100)
		b.broken.Store(unreachable)
		time.Sleep(time.Second)
		b.want(b.try("lan", good), auth.Accepted) // its last login is written later
		slow.hangs.Store(true)
		b.broken.Store(nil)
		slow.logins.Store(0)
		time.Sleep(3 * time.Second)
		if slow.logins.Load() == 0 {
			t.Error("the last login waits for the settlements")
		}
		cancel()
		began := time.Now()
		<-ended
		if took := time.Since(began); took > 21*time.Second {
			t.Errorf("the shutdown took %s of the bubble's time", took)
		}
	})
}

func TestASettlementThatCannotBeWrittenDelaysNoOther(t *testing.T) {
	var slow *slowWrites
	inBubble(t, withSlowWrites(&slow), func(b *bench) {
		slow.poison.Store(auth.Name("n0@example.vn"))
		b.owing(3)
		time.Sleep(time.Hour) // until all are retried at the longest interval
		b.broken.Store(nil)
		time.Sleep(2 * time.Minute)
		if n := b.guard.Owed(); n != 1 {
			b.t.Errorf("%d settlements are pending, want the one that cannot be written", n)
		}
		slow.poison.Store(auth.Name(""))
	})
}

// A login that comes while the write of a failure is in progress, which then fails, has
// forgiven the failure.
func TestAFailureForgivenDuringARetryDoesNotCount(t *testing.T) {
	var slow *slowWrites
	inBubble(t, withSlowWrites(&slow), func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try("lan", "wrong0"), auth.WrongPassword)
		b.broken.Store(noWrites)
		b.want(b.try("lan", "wrong1"), auth.StoreUnavailable)
		slow.hangs.Store(true)
		b.broken.Store(nil)
		time.Sleep(5 * time.Second) // a write is in progress
		b.want(b.try("lan", good), auth.Accepted)
		slow.hangs.Store(false)
		time.Sleep(5 * time.Minute)
		if a := b.account(); a.Failures != 0 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want none", a.Failures, b.guard.Owed())
		}
	})
}

// panicking panics when it makes a fingerprint of one account.
type panicking struct{ auth.Fingerprinter }

func (p panicking) Fingerprint(ctx context.Context, salt []byte, password auth.Secret) ([]byte, error) {
	if password.Reveal() != good {
		panic("spilt milk")
	}
	return p.Fingerprinter.Fingerprint(ctx, salt, password)
}

func TestAPanicCostsNoSlot(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Fingerprints = panicking{g.Fingerprints} }, func(b *bench) {
		for range 8 {
			func() {
				defer func() {
					if recover() == nil {
						b.t.Error("it did not panic")
					}
				}()
				b.try("lan", "wrong")
			}()
			synctest.Wait()
		}
		if n := len(b.store.Taken()); n != 0 || b.guard.Owed() != 0 {
			b.t.Errorf("%d slots are taken, %d settlements pending", n, b.guard.Owed())
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

// A lock that ends by itself has ended when the slot is given, and has not when the
// account is read: the clock was set back in between.
func TestALockThatReturnsKeepsNoSlot(t *testing.T) {
	var by atomic.Int64
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		g.Now, r.Lockout.UnlockAfter = setBack(&by), time.Hour
	}, func(b *bench) {
		for i := range 6 {
			b.want(b.try("lan", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		time.Sleep(61 * time.Minute)
		b.store.FailAfter = func(op auth.StoreOp) error {
			if op == auth.OpReserve {
				by.Store(int64(time.Hour))
			}
			return nil
		}
		b.want(b.try("lan", good), auth.Locked)
		b.store.FailAfter = nil
		synctest.Wait()
		if n := len(b.store.Taken()); n != 0 {
			b.t.Errorf("%d slots are taken", n)
		}
	})
}

// setBack is a clock that can be set back.
func setBack(by *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(-time.Duration(by.Load())) }
}

// A clock that is corrected, as at the start of a virtual machine, keeps no slot from
// the owner.
func TestALeaseEndsAlthoughTheClockWasSetBack(t *testing.T) {
	var by atomic.Int64
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Now = setBack(&by) }, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt}
		for range 6 {
			b.want(b.try("lan", "x"), auth.Unavailable)
		}
		by.Store(int64(time.Hour))
		b.server.answer = nil
		time.Sleep(3 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
		if n := b.guard.Owed(); n != 0 {
			b.t.Errorf("%d settlements are pending", n)
		}
	})
}

func TestStoreGraceEndsAlthoughTheClockWasSetBack(t *testing.T) {
	var by atomic.Int64
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Now, g.StoreGrace = setBack(&by), time.Hour }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(unreachable)
		by.Store(int64(time.Hour))
		time.Sleep(59 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(time.Minute)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		b.broken.Store(nil)
	})
}
