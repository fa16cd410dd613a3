package guard_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
)

// lease is how long a ticket of these tests may stay without an answer: the default.
const lease = 2 * time.Minute

// begin begins an attempt on lan and wants a ticket.
func (b *bench) begin(ctx context.Context, password string) *guard.Ticket {
	b.t.Helper()
	k, v := b.guard.Begin(ctx, auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Source: office})
	if k == nil {
		b.t.Fatalf("no ticket: %v (%v)", v.Outcome, v.Err)
	}
	if v.Outcome != auth.Unavailable || v.Name != lan || k.Name() != lan {
		b.t.Errorf("beside a ticket: %v for %q, want %v for %q", v.Outcome, v.Name, auth.Unavailable, lan)
	}
	return k
}

// judge returns the mail server's answer.
func (b *bench) judge(password string) auth.Answer {
	return b.server.verify(password)(context.Background(), lan)
}

// settle settles a ticket with the mail server's answer.
func (b *bench) settle(k *guard.Ticket, password string) auth.Verdict {
	return k.Settle(context.Background(), b.judge(password))
}

func TestATicketIsAnAttemptInTwoSteps(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.settle(b.begin(context.Background(), good), good), auth.Accepted)
		known := b.begin(context.Background(), good)
		if v := b.settle(known, good); v.Outcome != auth.Accepted || !v.KnownGood || !v.Known || v.Name != lan {
			b.t.Errorf("%+v, want a login of %s by a password that is known to be good", v, lan)
		}
		for i := range 6 {
			k := b.begin(context.Background(), fmt.Sprint("wrong", i))
			time.Sleep(time.Second)
			v := b.settle(k, "wrong")
			b.want(v, auth.WrongPassword)
			if v.Upstream != time.Second+b.server.delay {
				b.t.Errorf("the mail server has taken %v", v.Upstream)
			}
		}
		if k, v := b.guard.Begin(context.Background(), auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Source: office}); k != nil || v.Outcome != auth.Locked {
			b.t.Errorf("ticket %v, %v on a locked account", k != nil, v.Outcome)
		}
		want := map[auth.Outcome]int{auth.Accepted: 2, auth.WrongPassword: 6, auth.Locked: 1}
		if d := cmp.Diff(want, b.told.outcomes); d != "" {
			b.t.Errorf("the recorder got (-want +got)\n%s", d)
		}
	})
}

// I1: tickets are slots.
func TestAHundredBeginningsAtOnceGetAtMostSixTickets(t *testing.T) {
	for _, judged := range []auth.Judgement{auth.JudgedWrong, auth.InDoubt} {
		inBubble(t, nil, func(b *bench) {
			var mu sync.Mutex
			var tickets []*guard.Ticket
			outcomes := make(map[auth.Outcome]int)
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					k, v := b.guard.Begin(context.Background(), auth.Attempt{Login: "lan", Password: auth.NewSecret(fmt.Sprint("guess", i)), Source: office})
					mu.Lock()
					defer mu.Unlock()
					if k != nil {
						tickets = append(tickets, k)
					} else {
						outcomes[v.Outcome]++
					}
				})
			}
			synctest.Wait()
			mu.Lock()
			if len(tickets) != 6 || b.guard.Waiting() != 94 {
				b.t.Errorf("%d have tickets and %d wait, want 6 and 94", len(tickets), b.guard.Waiting())
			}
			first := tickets
			mu.Unlock()
			for _, k := range first {
				k.Settle(context.Background(), auth.Answer{Judgement: judged, Err: errors.New("535")})
			}
			wg.Wait()
			want := auth.Locked
			if judged == auth.InDoubt {
				want = auth.Busy // the slots stay taken
			}
			if len(tickets) != 6 || outcomes[want] != 94 {
				b.t.Errorf("%v: %d tickets, and the others %v; want 6, and 94 %v", judged, len(tickets), outcomes, want)
			}
		})
	}
}

func TestATicketWithoutASettlementBecomesAFailureInDoubt(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 6 { // enough to lock
			b.begin(context.Background(), fmt.Sprint("guess", i))
		}
		time.Sleep(lease - time.Second)
		synctest.Wait()
		if a := b.account(); a.Failures != 0 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending before the lease has ended", a.Failures, b.guard.Owed())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a := b.account(); a.Failures != 5 || a.Lock.Cause != auth.NotLocked {
			b.t.Errorf("%d failures, lock %v; want 5 and none", a.Failures, a.Lock.Cause)
		}
		if n := b.told.count(auth.PasswordInDoubt); n != 5 {
			b.t.Errorf("%d events of passwords in doubt, want 5", n)
		}
	})
}

func TestATicketWhoseContextEndsBecomesAFailureInDoubt(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		ctx, cancel := context.WithCancelCause(context.Background())
		k := b.begin(ctx, "guess")
		cancel(errors.New("the policy server stops"))
		synctest.Wait()
		if n := b.told.outcomes[auth.Unavailable]; n != 1 || b.guard.Owed() != 1 {
			b.t.Errorf("the recorder got %d attempts, %d settlements are pending; want 1", n, b.guard.Owed())
		}
		b.late(k)
		time.Sleep(lease - time.Second)
		if a := b.account(); a.Failures != 0 {
			b.t.Error("counted before the lease had ended")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a := b.account(); a.Failures != 1 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want 1 and none", a.Failures, b.guard.Owed())
		}
	})
}

// A context that ends just when the slot is taken abandons the ticket as well.
func TestATicketOfAContextThatHasEndedIsAbandoned(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		b.store.FailAfter = func(op auth.StoreOp) error {
			if op == auth.OpReserve {
				cancel()
			}
			return nil
		}
		k := b.begin(ctx, "guess")
		synctest.Wait()
		b.late(k)
		time.Sleep(lease)
		synctest.Wait()
		if a := b.account(); a.Failures != 1 {
			b.t.Errorf("%d failures, want 1", a.Failures)
		}
	})
}

// late wants a ticket to be abandoned: no answer is accepted or counted.
func (b *bench) late(k *guard.Ticket) {
	b.t.Helper()
	before, told := b.account(), len(b.told.kinds)
	for _, j := range []auth.Judgement{auth.JudgedRight, auth.JudgedWrong, auth.RefusedOtherwise, auth.Unreached, auth.InDoubt} {
		v := k.Settle(context.Background(), auth.Answer{Judgement: j})
		if v.Outcome != auth.Unavailable || !errors.Is(v.Err, guard.ErrAbandoned) || v.Name != lan {
			b.t.Errorf("settled as %v: %v (%v), want %v", j, v.Outcome, v.Err, guard.ErrAbandoned)
		}
	}
	if after := b.account(); !reflect.DeepEqual(before, after) || len(b.told.kinds) != told {
		b.t.Errorf("settled too late, but the account has changed from %+v to %+v", before, after)
	}
}

func TestATicketSettledAfterItsLeaseChangesNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		k := b.begin(context.Background(), "guess")
		time.Sleep(lease + time.Second)
		synctest.Wait()
		b.late(k)
		if a := b.account(); a.Failures != 1 {
			b.t.Errorf("%d failures, want the one in doubt", a.Failures)
		}
		if n := b.told.outcomes[auth.Unavailable]; n != 1 {
			b.t.Errorf("the recorder got %d attempts, want 1", n)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestATicketSettledTwiceCountsOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		k := b.begin(context.Background(), "guess")
		b.want(b.settle(k, "guess"), auth.WrongPassword)
		for _, j := range []auth.Judgement{auth.JudgedRight, auth.JudgedWrong, auth.RefusedOtherwise, auth.Unreached, auth.InDoubt} {
			v := k.Settle(context.Background(), auth.Answer{Judgement: j})
			if v.Outcome != auth.Unavailable || !errors.Is(v.Err, guard.ErrSettled) {
				b.t.Errorf("settled again as %v: %v (%v), want %v", j, v.Outcome, v.Err, guard.ErrSettled)
			}
		}
		time.Sleep(2 * lease) // it is not abandoned after that either
		synctest.Wait()
		if a := b.account(); a.Failures != 1 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want 1 and none", a.Failures, b.guard.Owed())
		}
		if d := cmp.Diff(map[auth.Outcome]int{auth.WrongPassword: 1}, b.told.outcomes); d != "" {
			b.t.Errorf("the recorder got (-want +got)\n%s", d)
		}
	})
}

// Of many settlements at the same time one counts.
func TestATicketSettledByManyAtOnceCountsOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		k := b.begin(context.Background(), "guess")
		var mu sync.Mutex
		outcomes := make(map[auth.Outcome]int)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				v := k.Settle(context.Background(), auth.Answer{Judgement: auth.JudgedWrong})
				mu.Lock()
				defer mu.Unlock()
				outcomes[v.Outcome]++
			})
		}
		wg.Wait()
		if d := cmp.Diff(map[auth.Outcome]int{auth.WrongPassword: 1, auth.Unavailable: 49}, outcomes); d != "" {
			b.t.Errorf("(-want +got)\n%s", d)
		}
		if a := b.account(); a.Failures != 1 {
			b.t.Errorf("%d failures, want 1", a.Failures)
		}
	})
}

// An unlock forgives what came before it: a password judged after it counts, and one
// that was in doubt before it does not.
func TestATicketSettledAfterAnUnlock(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		unlock := func() {
			b.t.Helper()
			if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
				b.t.Fatal(err)
			}
		}
		b.lockAllBut(1)
		k := b.begin(context.Background(), "guess")
		unlock()
		b.want(b.settle(k, "guess"), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 || a.Lock.Cause != auth.NotLocked {
			b.t.Errorf("%d failures, lock %v; want 1 and none", a.Failures, a.Lock.Cause)
		}

		ctx, cancel := context.WithCancel(context.Background())
		b.begin(ctx, "another")
		cancel()
		synctest.Wait()
		unlock()
		time.Sleep(2 * lease)
		synctest.Wait()
		if a := b.account(); a.Failures != 0 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending after the unlock", a.Failures, b.guard.Owed())
		}
	})
}

// lockAllBut enters wrong passwords until n are left before the lock.
func (b *bench) lockAllBut(n int) {
	b.t.Helper()
	for i := range 6 - n {
		b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
	}
}

// I5.
func TestATicketSettledAfterALockIsRefused(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		known := b.begin(context.Background(), good)
		if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.settle(known, good), auth.Locked)
	})
}

// I3: a failure that is not durable is not answered, and is counted later.
func TestATicketSettledWhileTheStoreFails(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		k := b.begin(context.Background(), "guess")
		b.broken.Store(noWrites)
		b.want(b.settle(k, "guess"), auth.StoreUnavailable)
		b.broken.Store(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if a := b.account(); a.Failures != 1 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want 1 and none", a.Failures, b.guard.Owed())
		}
		b.want(k.Settle(context.Background(), auth.Answer{Judgement: auth.JudgedRight}), auth.Unavailable)
	})
}

// A ticket without a slot costs nothing when it is abandoned.
func TestAnAbandonedTicketOfAKnownPasswordIsNoFailure(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.begin(context.Background(), good)
		time.Sleep(2 * lease)
		synctest.Wait()
		if a := b.account(); a.Failures != 0 || b.guard.Owed() != 0 {
			b.t.Errorf("%d failures, %d pending; want none", a.Failures, b.guard.Owed())
		}
	})
}

// A ticket that has ended does not count as in progress for its source any more.
func TestEndedTicketsKeepNoSourceWaiting(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		for i := range 100 {
			name := fmt.Sprint("user", i)
			k, v := b.guard.Begin(context.Background(), auth.Attempt{Login: name, Password: auth.NewSecret(good), Source: office})
			if k == nil {
				t.Fatalf("after %d tickets that have ended: %v (%v)", i, v.Outcome, v.Err)
			}
			k.Settle(context.Background(), auth.Answer{Judgement: auth.Unreached})
		}
	})
}

// The password may have been judged: a slot that could not be settled counts, and is not
// kept forever.
func TestATicketWhoseSettlementPanicsBecomesAFailureInDoubt(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Fingerprints = panicking{g.Fingerprints} }, func(b *bench) {
		k := b.begin(context.Background(), "guess")
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			b.settle(k, "guess")
		}()
		synctest.Wait()
		if a := b.account(); a.Failures != 1 || b.guard.Owed() != 0 {
			t.Errorf("%d failures, %d pending; want 1 and none", a.Failures, b.guard.Owed())
		}
		if v := k.Settle(context.Background(), auth.Answer{Judgement: auth.JudgedRight}); v.Outcome != auth.Unavailable || !errors.Is(v.Err, guard.ErrSettled) {
			t.Errorf("settled again: %v (%v)", v.Outcome, v.Err)
		}
	})
}
