package guard_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
	"congthu/auth/throttle"
)

// wallClock is a machine's clock that can be set; the bubble's clock is the monotonic one.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *wallClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// watched gives the guard a clock that it watches.
func (c *wallClock) watched(g *guard.Guard, r *auth.Rules) {
	g.WatchClock, g.Now, g.MachineNow = true, c.now, c.now
}

const months14 = 14 * 30 * 24 * time.Hour

func (b *bench) learnClock() {
	b.t.Helper()
	if err := b.guard.LearnClock(context.Background(), b.store); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) accept() guard.ClockAcceptance {
	b.t.Helper()
	done, err := b.guard.AcceptClock(context.Background(), b.store, act, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return done
}

func TestAClockThatWasAheadForAnHourDoesNoLastingHarm(t *testing.T) {
	var clock wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		first := b.account()
		synctest.Wait() // the fingerprint is stored

		clock.set(months14)
		// Neither dormant nor expired, and the login has no instant.
		b.want(b.try("lan", good), auth.Accepted)
		if s := b.guard.Suspicion(); !strings.Contains(s.Why, "set ahead by 10080h") {
			t.Errorf("suspicion %+v", s)
		}
		if _, err := b.guard.Sweep(context.Background(), auth.BackgroundScan{Lister: b.store}); !errors.Is(err, guard.ErrClockSuspect) {
			t.Errorf("the sweep went on: %v", err)
		}
		if a := b.account(); !a.LastLogin.Equal(first.LastLogin) || !a.Revocation.IsZero() || !slices.Equal(a.Seen, first.Seen) {
			t.Errorf("the account was rewritten: %+v, was %+v", a, first)
		}
		// A new account must be remembered nevertheless.
		b.server.password["moi@example.vn"] = good
		b.want(b.try("moi", good), auth.Accepted)

		clock.set(0)
		synctest.Wait()
		now := clock.now().UTC().Truncate(time.Microsecond)
		if a, _ := b.store.Account(context.Background(), "moi@example.vn"); !a.LastLogin.After(now) {
			t.Fatalf("nothing is in the future: %v", a.LastLogin)
		}
		b.want(b.try("lan", good), auth.Accepted)
		if b.guard.Suspicion().IsZero() {
			t.Fatal("the suspicion ended without an acceptance")
		}

		done := b.accept()
		if want := []auth.Name{"moi@example.vn"}; !slices.Equal(done.Redated, want) {
			t.Errorf("redated %v, want %v", done.Redated, want)
		}
		time.Sleep(2 * time.Second) // the last logins are written now
		synctest.Wait()
		for _, name := range []auth.Name{lan, "moi@example.vn"} {
			a, err := b.store.Account(context.Background(), name)
			if err != nil {
				t.Fatal(err)
			}
			if a.LastLogin.Before(now) || a.LastLogin.After(clock.now()) {
				t.Errorf("%s: last login %v, want now (%v)", name, a.LastLogin, now)
			}
			for _, at := range []time.Time{a.Registered, a.FirstLogin, a.Password.Since} {
				if at.After(clock.now()) {
					t.Errorf("%s: still in the future: %+v", name, a)
				}
			}
		}
		if !b.guard.Suspicion().IsZero() {
			t.Error("the clock is suspect although it was accepted")
		}
		for _, kind := range []auth.EventKind{auth.ClockSuspected, auth.ClockAccepted, auth.AccountRedated} {
			if n := b.told.count(kind); n != 1 {
				t.Errorf("%d events %s, want 1", n, kind)
			}
		}
	})
}

func TestAClockThatIsBehindTheAuditLogIsSuspectAfterARestart(t *testing.T) {
	var clock wallClock
	clock.set(months14) // before the first event: nothing shows it
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		if s := b.guard.Suspicion(); !s.IsZero() {
			t.Fatalf("suspicion %+v", s)
		}
		synctest.Wait() // otherwise this process would notice as well

		clock.set(0)
		next := restarted(b, &clock)
		if why := next.Suspicion().Why; !strings.Contains(why, "newest event") {
			t.Fatalf("suspicion %q", why)
		}
		ctx, end := context.WithCancel(context.Background())
		go next.Run(ctx)
		synctest.Wait()
		// Now the newest event is not in the future any more.
		end()
		synctest.Wait()
		third := restarted(b, &clock)
		if third.Suspicion().IsZero() {
			t.Fatal("a restart has ended the suspicion")
		}
		done, err := third.AcceptClock(context.Background(), b.store, act, false)
		if err != nil || !slices.Equal(done.Redated, []auth.Name{lan}) {
			t.Fatalf("redated %v, %v", done.Redated, err)
		}
		if s := restarted(b, &clock).Suspicion(); !s.IsZero() {
			t.Errorf("suspect again: %+v", s)
		}
	})
}

// restarted returns the guard of a new process on the same store.
func restarted(b *bench, clock *wallClock) *guard.Guard {
	b.t.Helper()
	g := b.process(func(g *guard.Guard) { clock.watched(g, nil) })
	if err := g.LearnClock(context.Background(), b.store); err != nil {
		b.t.Fatal(err)
	}
	return g
}

func TestAFirstLoginUnderAClockThatWasBehindCountsFromItsAcceptance(t *testing.T) {
	var clock wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		time.Sleep(time.Hour)
		clock.set(-months14)
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		clock.set(0)
		b.guard = restarted(b, &clock) // the memory is lost
		done := b.accept()
		if !slices.Equal(done.Redated, []auth.Name{lan}) {
			t.Errorf("redated %v", done.Redated)
		}
		rules := b.guard.Rules()
		if a := b.account(); rules.Dormant(a, clock.now()) || rules.Expired(a, clock.now()) {
			t.Errorf("dormant or expired at once: %+v", a)
		}
		accepted := b.account()
		time.Sleep(30 * 24 * time.Hour)
		if again := b.accept(); len(again.Redated) != 0 || !b.account().LastLogin.Equal(accepted.LastLogin) {
			t.Errorf("a month later it was redated again: %v, last login %v, was %v", again.Redated, b.account().LastLogin, accepted.LastLogin)
		}
	})
}

// slowLister calls a function before it returns a page.
type slowLister struct {
	auth.DatedStore
	before func()
}

func (l slowLister) List(ctx context.Context, want auth.Filter) ([]auth.Account, error) {
	if want.Unknown {
		l.before()
	}
	return l.DatedStore.List(ctx, want)
}

func TestALoginDuringAnAcceptanceIsNotInTheFuture(t *testing.T) {
	var clock wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		clock.set(months14)
		b.want(b.try("lan", good), auth.Accepted)
		clock.set(0)
		var last time.Time
		done, err := b.guard.AcceptClock(context.Background(), slowLister{b.store, func() {
			time.Sleep(2 * time.Hour) // of many accounts
			b.want(b.try("lan", good), auth.Accepted)
			last = b.account().LastLogin
		}}, act, false)
		if err != nil || len(done.Redated) != 0 {
			t.Errorf("redated %v, %v", done.Redated, err)
		}
		if a := b.account(); !a.LastLogin.Equal(last) || last.IsZero() {
			t.Errorf("last login %v, want %v", a.LastLogin, last)
		}
	})
}

func TestASuspicionIsWrittenBeforeItsEnd(t *testing.T) {
	var clock wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		b.broken.Store(&failure{only: []auth.StoreOp{auth.OpUpdate}})
		clock.set(months14)
		b.guard.Rules()
		time.Sleep(1500 * time.Millisecond) // it could not be written, and will be retried soon
		clock.set(0)
		b.broken.Store(nil)
		b.accept()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := b.guard.Suspicion(); !s.IsZero() {
			t.Errorf("suspect although it was accepted: %+v", s)
		}
		if s := restarted(b, &clock).Suspicion(); !s.IsZero() {
			t.Errorf("suspect after a restart: %+v", s)
		}
		if n, m := b.told.count(auth.ClockSuspected), b.told.count(auth.ClockAccepted); n != 1 || m != 1 {
			t.Errorf("%d suspicions and %d ends in the audit log, want one of each", n, m)
		}
	})
}

func TestNothingExpiresWhileTheClockIsSuspect(t *testing.T) {
	var clock wallClock
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		clock.watched(g, r)
		r.Lockout.UnlockAfter, r.Lockout.ForgetAfter = time.Hour, time.Hour
	}, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		b.want(b.try("lan", "guess"), auth.WrongPassword)
		clock.set(months14)
		b.want(b.try("lan", "guess 2"), auth.WrongPassword)
		if n := b.account().Failures; n != 2 {
			t.Errorf("%d failures: one was forgotten", n)
		}
		for _, p := range []string{"3", "4", "5", "6"} {
			b.want(b.try("lan", p), auth.WrongPassword)
		}
		clock.set(2 * months14)
		b.want(b.try("lan", good), auth.Locked)
		if _, err := b.guard.Grace(context.Background(), lan, 3, act); !errors.Is(err, guard.ErrClockSuspect) {
			t.Errorf("grace was granted: %v", err)
		}
		if n, err := b.guard.ForgetUnknown(context.Background(), b.store); n != 0 || err != nil {
			t.Errorf("forgot %d names, %v", n, err)
		}
	})
}

func TestSmallStepsCauseNoSuspicion(t *testing.T) {
	var clock wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			clock.set(time.Duration(i) * 4 * time.Minute) // a clock that drifts and is set in small steps
			b.want(b.try("lan", good), auth.Accepted)
			time.Sleep(5 * 24 * time.Hour)
		}
		if s := b.guard.Suspicion(); !s.IsZero() {
			t.Errorf("suspicion %+v", s)
		}
	})
}

func TestADatabaseWhoseClockIsOffIsNotAcceptedUntilTheyAgree(t *testing.T) {
	var database, machine wallClock
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		g.WatchClock, g.Now, g.MachineNow = true, database.now, machine.now
	}, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		machine.set(-6 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
		if why := b.guard.Suspicion().Why; !strings.Contains(why, "the database's clock shows") {
			t.Fatalf("suspicion %q", why)
		}
		if _, err := b.guard.AcceptClock(context.Background(), b.store, act, false); !errors.Is(err, guard.ErrClocksDiffer) {
			t.Errorf("accepted while they differ: %v", err)
		}
		machine.set(-4 * time.Minute)
		b.guard.Rules() // compares the clock
		if s := b.guard.Suspicion(); !s.IsZero() {
			t.Errorf("the clocks agree, but the clock is suspect: %+v", s)
		}
		synctest.Wait()
		// A machine with a wrong clock must not stop the sweep of the others.
		if n := b.told.count(auth.ClockSuspected); n != 0 {
			t.Errorf("%d events: the other gateways were told", n)
		}
	})
}

func TestEveryGatewayOnAStoreKnowsThatTheClockIsSuspect(t *testing.T) {
	var clock, elsewhere wallClock
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		other := restarted(b, &elsewhere)
		b.want(b.try("lan", good), auth.Accepted)
		clock.set(months14)
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		hear(b, other)
		if other.Suspicion().Why != b.guard.Suspicion().Why {
			t.Errorf("suspicion %+v, want %+v", other.Suspicion(), b.guard.Suspicion())
		}
		clock.set(0)
		b.guard.Rules()
		b.accept()
		hear(b, other)
		if s := other.Suspicion(); !s.IsZero() {
			t.Errorf("suspicion %+v after it was accepted elsewhere", s)
		}
	})
}

// hear passes all events to a guard.
func hear(b *bench, g *guard.Guard) {
	b.t.Helper()
	events, err := b.store.Events(context.Background(), auth.EventFilter{Limit: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range slices.Backward(events) {
		g.OnRemoteEvent(e)
	}
}

func TestAnInterruptedAcceptanceIsFinishedByAnother(t *testing.T) {
	var clock wallClock
	clock.set(months14)
	inBubble(t, clock.watched, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		clock.set(0)
		if dry, err := b.guard.AcceptClock(context.Background(), b.store, auth.Act{}, true); err != nil || len(dry.Redated) != 1 || dry.Was.IsZero() {
			t.Errorf("a dry run: %+v, %v", dry, err)
		}
		if _, err := b.guard.AcceptClock(context.Background(), b.store, auth.Act{Actor: "A"}, false); !errors.Is(err, auth.ErrReasonMissing) {
			t.Errorf("without a reason: %v", err)
		}
		if b.guard.Suspicion().IsZero() {
			t.Fatal("a dry run has ended the suspicion")
		}
		b.broken.Store(&failure{only: []auth.StoreOp{auth.OpList}})
		if _, err := b.guard.AcceptClock(context.Background(), b.store, act, false); err == nil {
			t.Fatal("the store failed")
		}
		b.broken.Store(nil)
		done := b.accept()
		if len(done.Redated) != 1 || b.account().LastLogin.After(clock.now()) {
			t.Errorf("redated %v; last login %v", done.Redated, b.account().LastLogin)
		}
		if again := b.accept(); len(again.Redated) != 0 {
			t.Errorf("redated again: %v", again.Redated)
		}
	})
}

var _ auth.EventReader = (*storetest.Model)(nil)

// Stores find them in a long log by that.
func TestEventsOfNoAccountHaveNone(t *testing.T) {
	var clock wallClock
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		clock.watched(g, r)
		g.Throttle = new(throttle.Throttle)
	}, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		if _, err := b.guard.AllowSource(context.Background(), elsewhere.Addr(), time.Hour, act); err != nil {
			t.Fatal(err)
		}
		clock.set(months14)
		b.guard.Rules()
		synctest.Wait()
		b.accept()
		for _, kind := range []auth.EventKind{auth.SourceAllowed, auth.ClockSuspected, auth.ClockAccepted} {
			kinds := []auth.EventKind{kind}
			events, err := b.store.Events(context.Background(), auth.EventFilter{Kinds: kinds})
			if err != nil || len(events) != 1 || events[0].Account != "" || !auth.OfNoAccount(kinds) {
				t.Errorf("%s: %+v, %v", kind, events, err)
			}
		}
		if auth.OfNoAccount(nil) || auth.OfNoAccount([]auth.EventKind{auth.ClockAccepted, auth.FirstLogin}) {
			t.Error("all kinds, or those of accounts, are of no account")
		}
	})
}
