package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// I1.
func TestAHundredParallelGuessesUnderManySpellingsGetSixVerdicts(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		spellings := []string{"lan", "LAN@example.vn", "Lan@EXAMPLE.vn.", "ｌａｎ", "office", "OFFICE@example.vn"}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { b.try(spellings[i%len(spellings)], fmt.Sprint("guess", i)) })
		}
		wg.Wait()
		if b.server.asked != 6 {
			b.t.Errorf("the mail server judged %d guesses, want 6", b.server.asked)
		}
		if w, l := b.told.outcomes[auth.WrongPassword], b.told.outcomes[auth.Locked]; w != 6 || l != 94 {
			b.t.Errorf("%d wrong and %d locked replies, want 6 and 94", w, l)
		}
		if a := b.account(); a.Failures != 6 || a.Lock.Cause != auth.ByWrongPasswords {
			b.t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
		}
		if len(b.ended) > 0 {
			b.t.Error("a lock made by guessing has ended live sessions")
		}
	})
}

// I2.
func TestTwentyParallelLoginsWithTheRightPasswordAllSucceed(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", "wrong1"), auth.WrongPassword) // five slots left
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		wg.Wait()
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures after a login", a.Failures)
		}
	})
}

func TestWaitingAttemptsAreServedInTurnAndAtOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range 5 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword) // one slot is left
		}
		const thinks = 70 * time.Millisecond
		began := time.Now()
		var order []int
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				b.guard.Attempt(context.Background(), auth.Attempt{
					Login: "lan", Password: auth.NewSecret("x"), Source: office,
					Verify: func(context.Context, auth.Name) auth.Answer {
						order = append(order, i)
						if late := time.Since(began) - time.Duration(i)*thinks; late != 0 {
							b.t.Errorf("attempt %d is asked about %v after the slot was free", i, late)
						}
						time.Sleep(thinks)
						return auth.Answer{Judgement: auth.Unreached}
					},
				})
			})
			synctest.Wait() // one after the other
		}
		wg.Wait()
		if len(order) != 10 || !slices.IsSorted(order) {
			b.t.Errorf("served in the order %v", order)
		}
	})
}

func TestTheOwnerGetsInDuringAGuessersAttempts(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { b.try("lan", fmt.Sprint("guess", i)) })
		}
		synctest.Wait()
		for range 20 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		wg.Wait()
	})
}

// A queue is bounded, and a guesser with many addresses can fill it. An attempt that
// needs no slot does not wait in it.
func TestTheOwnerGetsInWhenTheQueueIsFull(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = 10 * time.Second
		var wg sync.WaitGroup
		busy := make(chan auth.Outcome, 1000)
		for i := range 1000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 40000)
			wg.Go(func() {
				busy <- b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(fmt.Sprint("guess", i)), Source: from}).Outcome
			})
		}
		synctest.Wait()
		if outcome := <-busy; outcome != auth.Busy {
			b.t.Fatalf("the queue is not full: %v", outcome)
		}
		b.server.mu.Lock()
		b.server.delay = 0 // otherwise the guesses lock the account first
		b.server.mu.Unlock()
		b.want(b.try("lan", good), auth.Accepted)
		wg.Wait()
	})
}

func TestAWaitThatIsTooLongIsBusyAndCountsNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.delay = time.Hour
		b.server.answer = &auth.Answer{Judgement: auth.Unreached}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() { b.want(b.try("lan", "x"), auth.Unavailable) })
		}
		synctest.Wait()
		began := time.Now()
		b.want(b.try("lan", good), auth.Busy)
		if waited := time.Since(began); waited != 15*time.Second {
			b.t.Errorf("gave up after %v, want the patience of 15 s", waited)
		}
		wg.Wait()
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures", a.Failures)
		}
	})
}

// An attempt that needs no slot does not wait in the queue.
func TestAKnownGoodPasswordPassesTheQueue(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = time.Second
		b.server.answer = &auth.Answer{Judgement: auth.Unreached}
		var wg sync.WaitGroup
		// Those in flight have left the queue, and a few of the others may have found it
		// full before that.
		for i := 0; i < 600 || i < 700 && b.guard.Waiting() < 512; i++ {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1)
			wg.Go(func() { b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("x"), Source: from}) })
			if i >= 599 {
				synctest.Wait()
			}
		}
		if n := b.guard.Waiting(); n != 512 {
			b.t.Errorf("%d attempts wait, want the queue to be full", n)
		}
		b.want(b.guard.Attempt(context.Background(), auth.Attempt{
			Login: "lan", Password: auth.NewSecret(good), Source: office,
			Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedRight} },
		}), auth.Accepted)
		b.want(b.try("lan", "x"), auth.Busy)
		wg.Wait()
	})
}

func TestALockedAccountIsRefusedWithoutTheMailServerUntilItIsUnlocked(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.lock()
		asked := b.server.asked
		b.want(b.try("lan", good), auth.Locked)
		b.want(b.try("office", "whatever"), auth.Locked)
		if b.server.asked != asked {
			b.t.Error("the mail server was asked about a locked account")
		}
		if _, err := b.guard.Unlock(context.Background(), lan, auth.Act{Actor: "A", Reason: " "}); !errors.Is(err, auth.ErrReasonMissing) {
			b.t.Errorf("an unlock without a reason gives %v", err)
		}
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
		if _, err := b.guard.Unlock(context.Background(), lan, act); !errors.Is(err, auth.ErrNothingToDo) {
			b.t.Errorf("unlocking twice gives %v", err)
		}
	})
}

// I5, also while the store is down: the memory is from before the lock.
func TestALockedAccountIsNotLetInBecauseTheStoreIsDown(t *testing.T) {
	for name, lock := range map[string]func(*bench){
		"by guessing": func(b *bench) { // from another source: its passwords are not compared with the known one
			for i := range 6 {
				b.want(b.from(elsewhere, "lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
			}
		},
		"by an admin": func(b *bench) {
			if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
				b.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				lock(b)
				b.broken.Store(unreachable)
				b.want(b.try("lan", good), auth.StoreUnavailable)
				b.broken.Store(nil)
			})
		})
	}
}

func TestNamesWithoutALoginLockLikeAccounts(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range 6 {
			b.want(b.try("nobody", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try("nobody", "again"), auth.Locked)
		if accounts, err := b.store.List(context.Background(), auth.Filter{}); err != nil || len(accounts) > 0 {
			b.t.Errorf("a name without a login is listed: %v, %v", accounts, err)
		}
	})
}

func TestNoUserActsAsAnother(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for authorize, want := range map[string]auth.Outcome{
			"": auth.Accepted, "lan": auth.Accepted, "LAN@example.vn": auth.Accepted,
			"office": auth.OtherIdentity, // an alias of lan: the answer must not reveal that
			"hung":   auth.OtherIdentity, "hung@elsewhere.vn": auth.OtherIdentity, "\x01": auth.OtherIdentity,
		} {
			asked := b.server.asked
			b.want(b.attempt(auth.Attempt{Login: "lan", Authorize: authorize, Password: auth.NewSecret(good)}), want)
			if want == auth.OtherIdentity && b.server.asked != asked {
				b.t.Errorf("authzid %q reached the mail server", authorize)
			}
		}
		b.want(b.try("lan*admin", good), auth.OtherIdentity)
		b.want(b.try("lan@elsewhere.vn", good), auth.NoSuchDomain)
		b.want(b.try("lan\r\n", good), auth.Malformed)
		if b.server.asked != 3 {
			b.t.Errorf("the mail server was asked %d times, want 3", b.server.asked)
		}
	})
}

func TestAnImpossiblePasswordIsNotSentToTheMailServer(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", ""), auth.Malformed)
		b.want(b.try("lan", strings.Repeat("x", auth.MaxPassword+1)), auth.Malformed)
		b.want(b.try("lan", strings.Repeat("x", auth.MaxPassword)), auth.WrongPassword)
		if a := b.account(); b.server.asked != 1 || a.Failures != 1 {
			b.t.Errorf("%d asked, %d failures; want 1 and 1", b.server.asked, a.Failures)
		}
	})
}
