package guard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
)

// I3.
func TestAFailureThatIsNotDurableIsNotAnsweredAndCountsOnceLater(t *testing.T) {
	for name, fail := range map[string]*failure{"before the commit": noWrites, "after the commit": noAnswers} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.broken.Store(fail)
				b.want(b.try("lan", "wrong1"), auth.StoreUnavailable)
				if b.guard.Owed() != 1 {
					b.t.Fatalf("%d settlements pending, want 1", b.guard.Owed())
				}
				b.broken.Store(nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				if a := b.account(); a.Failures != 1 {
					b.t.Errorf("%d failures after the store came back, want 1", a.Failures)
				}
				if b.guard.Owed() != 0 {
					b.t.Errorf("%d settlements still owed", b.guard.Owed())
				}
			})
		})
	}
}

// A context ends with the process or after a timeout; nothing that the mail server has
// judged may be lost then.
func TestAContextThatEndsAtAnyStepLosesNoFailureAndNoSlot(t *testing.T) {
	for step, password := range map[string]string{
		"before": "wrong", "while the mail server judges a wrong one": "wrong", "while it judges the right one": good,
	} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				for range 6 {
					ctx, cancel := context.WithCancel(context.Background())
					b.server.during = cancel
					if step == "before" {
						cancel()
					}
					v := b.guard.Attempt(ctx, auth.Attempt{
						Login: "lan", Password: auth.NewSecret(password), Source: office, Verify: b.server.verify(password),
					})
					if !v.Outcome.Temporary() {
						b.t.Errorf("outcome %v, but nothing is stored", v.Outcome)
					}
					b.server.during = nil
					cancel()
				}
				time.Sleep(time.Minute)
				want := 0
				if password != good {
					want = b.server.asked
				}
				if a := b.account(); a.Failures != want || (want > 5) != (a.Lock.Cause != auth.NotLocked) {
					b.t.Errorf("%d failures and the lock %+v, want %d", a.Failures, a.Lock, want)
				}
				if want == 0 {
					b.want(b.try("lan", good), auth.Accepted) // all slots are free
				}
			})
		})
	}
}

func TestAStoreThatCannotWriteGivesNoFurtherGuesses(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.broken.Store(noWrites)
		for i := range 30 {
			b.try("lan", fmt.Sprint("guess", i))
		}
		if b.server.asked > 6 {
			b.t.Errorf("the mail server judged %d guesses while none could be written", b.server.asked)
		}
	})
}

// I4.
func TestOnlyWrongPasswordsCount(t *testing.T) {
	for _, c := range []struct {
		answer auth.Answer
		want   auth.Outcome
	}{
		{auth.Answer{Judgement: auth.Unreached, Err: errors.New("connection refused")}, auth.Unavailable},
		{auth.Answer{Judgement: auth.RefusedOtherwise, Code: "LIMIT"}, auth.Refused},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.server.answer = &c.answer
				for range 20 {
					v := b.try("lan", "x")
					b.want(v, c.want)
					if v.Code != c.answer.Code {
						b.t.Errorf("code %q, want %q", v.Code, c.answer.Code)
					}
				}
				time.Sleep(time.Hour)
				if a := b.account(); a.Failures != 0 || a.Lock.Cause != auth.NotLocked {
					b.t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
				}
			})
		})
	}
}

// A mail server that judges and then closes may be asked again, and each of the two may
// be a guess.
func TestASecondTryAfterDoubtTakesASlotOfItsOwn(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt, Again: true}
		var guesses sync.WaitGroup
		for i := range 100 {
			guesses.Go(func() { b.try("lan", fmt.Sprint("wrong", i)) })
		}
		guesses.Wait()
		if b.server.asked != 6 {
			b.t.Errorf("100 guesses at once were judged %d times, want 6", b.server.asked)
		}
	})
	inBubble(t, nil, func(b *bench) {
		first := true
		verify := func(password string) auth.Verify {
			return func(ctx context.Context, name auth.Name) auth.Answer {
				if first {
					first = false
					return auth.Answer{Judgement: auth.InDoubt, Again: true}
				}
				return b.server.verify(password)(ctx, name)
			}
		}
		try := func(password string) auth.Verdict {
			return b.guard.Attempt(context.Background(), auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Source: office, Verify: verify(password)})
		}
		b.want(try(good), auth.Accepted)
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures of a right password", a.Failures)
		}
		first = true
		b.want(try("wrong"), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 {
			b.t.Errorf("%d failures at once, want that of the second try", a.Failures)
		}
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 2 {
			b.t.Errorf("%d failures behind the lease, want that of the first as well", a.Failures)
		}
		if told := b.told.outcomes; told[auth.Accepted] != 1 || told[auth.WrongPassword] != 1 || len(told) != 2 {
			b.t.Errorf("the recorder got %v, want one verdict of each login", told)
		}
	})
}

func TestAnAnswerInDoubtKeepsItsSlotUntilTheLeaseEndsAndNeverLocks(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt}
		for range 6 {
			b.want(b.try("lan", "x"), auth.Unavailable)
		}
		b.want(b.try("lan", good), auth.Busy)
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures before the lease ended", a.Failures)
		}
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 5 || a.Lock.Cause != auth.NotLocked {
			b.t.Errorf("%d failures, lock %+v; want 5 and none", a.Failures, a.Lock)
		}
		b.server.answer = nil
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestAPanicInTheProtocolFreesTheSlot(t *testing.T) {
	var log bytes.Buffer
	var counted []auth.Protocol
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		g.Log = slog.New(slog.NewTextHandler(&log, nil))
		g.Panicked = func(p auth.Protocol) { counted = append(counted, p) }
	}, func(b *bench) {
		v := b.guard.Attempt(context.Background(), auth.Attempt{
			Session: "s1", Protocol: auth.SMTP, Login: "lan", Password: auth.NewSecret("canary"), Source: office, Verify: func(context.Context, auth.Name) auth.Answer { panic("with canary at hand") },
		})
		b.want(v, auth.Unavailable)
		if text := fmt.Sprint(v.Err); strings.Contains(text, "canary") || !strings.Contains(text, "panicked") {
			t.Error(text)
		}
		time.Sleep(3 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
	})
	if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, `session=s1 panic="a value of type string" stack=`) {
		t.Errorf("the log: %s", got)
	}
	if !slices.Equal(counted, []auth.Protocol{auth.SMTP}) {
		t.Errorf("counted %v, want one of SMTP", counted)
	}
}

// Recorders cannot read whether a name is an account, so the guard passes it.
func TestRecordersLearnWhetherANameIsAnAccount(t *testing.T) {
	for _, mode := range []auth.Mode{auth.Enforce, auth.Warn} {
		inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.Mode, r.Lockout.UnlockAfter = mode, time.Hour }, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			for _, name := range []string{"lan", "nobody"} {
				for i := range 6 {
					b.try(name, fmt.Sprint("guess ", i))
				}
			}
			if _, err := b.guard.Unlock(context.Background(), "nobody@example.vn", act); err != nil {
				b.t.Error(err)
			}
			time.Sleep(2 * time.Hour)
			b.want(b.try("lan", good), auth.Accepted) // unlocked by time
			kinds := make(map[auth.EventKind]map[bool]int)
			for i, e := range b.told.events {
				known := b.told.known[i]
				if known != (e.Account == lan) {
					b.t.Errorf("%s of %s: known is %v", e.Kind, e.Account, known)
				}
				if kinds[e.Kind] == nil {
					kinds[e.Kind] = make(map[bool]int)
				}
				kinds[e.Kind][known]++
			}
			want := map[auth.EventKind]map[bool]int{
				auth.FirstLogin: {true: 1}, auth.PasswordWrong: {true: 6}, auth.AccountLocked: {true: 1}, auth.NameLocked: {false: 1}, auth.AccountUnlocked: {true: 1, false: 1},
			}
			if mode == auth.Warn {
				want = map[auth.EventKind]map[bool]int{
					auth.FirstLogin: {true: 1}, auth.PasswordWrong: {true: 6}, auth.WouldLock: {true: 1, false: 1}, auth.AccountUnlocked: {false: 1},
				}
			}
			if diff := cmp.Diff(want, kinds); diff != "" {
				b.t.Errorf("events by kind and by whether the name is known (-want +got):\n%s", diff)
			}
		})
	}
}

// I5.
func TestASuccessThatCompletesAfterTheLockIsRefused(t *testing.T) {
	for _, first := range []string{"with a slot", "known good"} {
		t.Run(first, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				if first == "with a slot" {
					b.server.password[lan] = "Mat-khau-2"
				}
				b.server.during = func() {
					if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
						b.t.Error(err)
					}
				}
				b.want(b.try("lan", b.server.password[lan]), auth.Locked)
				if len(b.ended) != 1 {
					b.t.Errorf("sessions ended: %v, want those of lan once", b.ended)
				}
			})
		})
	}
}

func TestASingleSignOnIsExemptFromTheAgeButNotFromTheLock(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(100 * 24 * time.Hour)
		sso := func(token string) auth.Verdict {
			return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(token), SSO: true})
		}
		b.want(sso(good), auth.Accepted)
		for range 10 {
			b.want(sso("bad token"), auth.WrongPassword)
		}
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("a bad token counted as a wrong password: %d failures", a.Failures)
		}
		if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(sso(good), auth.Locked)
	})
}

func TestWarnAcceptsAndReturnsTheWouldBeOutcome(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) {
		r.Lockout.Mode, r.Dormancy.Mode, r.Password.Mode = auth.Warn, auth.Warn, auth.Warn
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
		}
		if n := b.told.count(auth.WouldLock); n != 1 {
			b.t.Errorf("%d would_lock events, want 1", n)
		}
		for _, c := range []struct {
			after time.Duration
			want  auth.Outcome
		}{{0, auth.Locked}, {100 * 24 * time.Hour, auth.Expired}, {380 * 24 * time.Hour, auth.Revoked}} {
			time.Sleep(c.after)
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if v.Would != c.want {
				b.t.Errorf("would have been %v, want %v", v.Would, c.want)
			}
		}
	})
}

func TestARuleThatIsOffChecksNothing(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) {
		r.Lockout.Mode, r.Dormancy.Mode, r.Password.Mode = auth.Off, auth.Off, auth.Off
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
		}
		time.Sleep(500 * 24 * time.Hour)
		if v := b.try("lan", good); v.Outcome != auth.Accepted || v.Would != auth.Accepted || v.Alert {
			b.t.Errorf("verdict %+v", v)
		}
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures", a.Failures)
		}
	})
}

func TestATimedUnlockForgetsTheFailures(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.UnlockAfter = time.Hour }, func(b *bench) {
		b.lock()
		b.want(b.try("lan", good), auth.Locked)
		time.Sleep(time.Hour)
		b.want(b.try("lan", "wrong again"), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 || a.Lock.Cause != auth.NotLocked || b.told.count(auth.AccountUnlocked) != 1 {
			b.t.Errorf("%d failures, lock %+v, events %v", a.Failures, a.Lock, b.told.kinds)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestAuditEventsAreChainedAndComplete(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.lock()
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		events, err := b.store.Events(context.Background(), auth.EventFilter{Account: lan})
		if err != nil {
			b.t.Fatal(err)
		}
		unlock, lock := events[0], events[1]
		if unlock.Kind != auth.AccountUnlocked || unlock.Actor != act.Actor || unlock.Reason != act.Reason || !strings.Contains(unlock.Before, "6 wrong") {
			b.t.Errorf("unlock %+v", unlock)
		}
		if lock.Kind != auth.AccountLocked || lock.Actor != auth.ByGateway || lock.Source != office || !strings.Contains(lock.Reason, "10.1.2.3") {
			b.t.Errorf("lock %+v", lock)
		}
		if len(events) != 9 || events[8].Kind != auth.FirstLogin {
			b.t.Errorf("%d events, want the first login, six wrong passwords, lock, unlock", len(events))
		}
		if _, err := b.store.Verify(context.Background(), nil); err != nil {
			b.t.Error(err)
		}
	})
}
