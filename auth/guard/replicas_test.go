package guard_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// heard passes the event of another replica to the guard, as the store would.
func (b *bench) heard(kind auth.EventKind, actor string, at time.Time) {
	b.guard.OnRemoteEvent(auth.Event{Kind: kind, Account: lan, Actor: actor, At: at})
}

// I5, over replicas.
func TestWhichLocksOnAnotherReplicaEndSessions(t *testing.T) {
	for kind, actors := range map[auth.EventKind]map[string]int{
		auth.AccountLocked:   {"Nguyen Van A": 1, auth.ByGateway: 0},
		auth.NameLocked:      {auth.ByGateway: 0},
		auth.AccountRevoked:  {auth.ByGateway: 1},
		auth.AccountUnlocked: {"Nguyen Van A": 0},
		auth.AccountRestored: {"Nguyen Van A": 0},
	} {
		for actor, ends := range actors {
			t.Run(fmt.Sprint(kind, " by ", actor), func(t *testing.T) {
				inBubble(t, nil, func(b *bench) {
					b.heard(kind, actor, time.Now())
					if len(b.ended) != ends {
						b.t.Errorf("sessions ended: %v", b.ended)
					}
				})
			})
		}
	}
}

// Otherwise a password known here would be accepted for the whole grace period.
func TestALockOnAnotherReplicaEndsTheGraceOfAKnownPassword(t *testing.T) {
	for kind, actor := range map[auth.EventKind]string{
		auth.AccountLocked: auth.ByGateway, auth.NameLocked: auth.ByGateway, auth.AccountRevoked: auth.ByGateway,
	} {
		inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			b.broken.Store(unreachable)
			b.want(b.try("lan", good), auth.Accepted)
			b.heard(kind, actor, time.Now())
			b.want(b.try("lan", good), auth.StoreUnavailable)
			b.broken.Store(nil)
		})
	}
}

func TestAnUnlockOnAnotherReplicaForgivesOnlyPendingFailuresBeforeIt(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // time of the unlock after the failure
		want  int
	}{
		"a failure before the unlock": {time.Second, 0},
		// The event of an unlock made here, or one that comes late.
		"a failure since": {-time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.broken.Store(noWrites)
				began := time.Now()
				b.want(b.try("lan", "wrong"), auth.StoreUnavailable)
				if b.guard.Owed() == 0 {
					b.t.Fatal("no settlement is pending")
				}
				// Not at the instant of the next try to write it: a write in progress
				// may come before the unlock or after it.
				time.Sleep(1500 * time.Millisecond)
				b.heard(auth.AccountUnlocked, "Nguyen Van A", began.Add(c.after))
				b.broken.Store(nil)
				time.Sleep(time.Minute)
				if a := b.account(); a.Failures != c.want || b.guard.Owed() != 0 {
					b.t.Errorf("%d failures, %d pending; want %d and 0", a.Failures, b.guard.Owed(), c.want)
				}
			})
		})
	}
}

func TestAnExpiredSlotCountsAndNeverLocks(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		rules := auth.DefaultRules()
		a := auth.Account{Name: lan, Registered: time.Now()}
		for i := range 8 {
			before := a.Failures
			events, counted := rules.ReservationExpired(&a, time.Now())
			// Report to the store that it was counted, so that it is not counted again.
			if counted != (a.Failures > before) || counted != (len(events) == 1) {
				b.t.Errorf("slot %d: counted %t, failures %d to %d, events %v", i, counted, before, a.Failures, events)
			}
		}
		if a.Failures != 5 || a.Lock.Cause != auth.NotLocked {
			b.t.Errorf("%d failures, lock %+v; want 5 and none", a.Failures, a.Lock)
		}
		if _, err := b.store.Update(context.Background(), lan, 0, func(stored *auth.Account) ([]auth.Event, bool) {
			*stored = a
			return nil, true
		}); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Locked)
	})
}

// hanging is a store that neither answers nor fails while it is cut off.
type hanging struct {
	auth.Store
	off atomic.Bool
}

func (h *hanging) Account(ctx context.Context, name auth.Name) (auth.Account, error) {
	if h.off.Load() {
		<-ctx.Done()
		return auth.Account{}, ctx.Err()
	}
	return h.Store.Account(ctx, name)
}

func TestAStoreThatHangsDelaysAKnownPasswordByOnlySeconds(t *testing.T) {
	var store *hanging
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		store = &hanging{Store: g.Store}
		g.Store, g.StoreGrace = store, time.Hour
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		store.off.Store(true)
		began := time.Now()
		b.want(b.try("lan", good), auth.Accepted)
		if took := time.Since(began); took > 4*time.Second {
			b.t.Errorf("it took %s of the bubble's time", took)
		}
		store.off.Store(false)
	})
}
