package guard_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/throttle"
)

// withGrace makes the guard accept known passwords while the store is down.
func withGrace(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }

// afterCommit calls f once, after the next commit of an update and before the guard
// notes it in its memory.
func (b *bench) afterCommit(f func()) { b.committed.Store(&f) }

// elsewhereDone changes the account as another gateway does: in the store only.
func (b *bench) elsewhereDone(change func(*auth.Account)) {
	b.t.Helper()
	if _, err := b.store.Update(context.Background(), lan, 0, func(a *auth.Account) ([]auth.Event, bool) {
		change(a)
		return nil, true
	}); err != nil {
		b.t.Fatal(err)
	}
}

func adminLock(a *auth.Account) {
	a.Lock = auth.Lock{Mark: auth.Mark{At: time.Now(), By: "Nguyen Van A", Reason: "left"}, Cause: auth.ByAdmin}
}

func revocation(a *auth.Account) {
	a.Revocation = auth.Mark{At: time.Now(), By: auth.ByGateway, Reason: "unused"}
}

// I5: the memory of a login for the time without a store must not be older than a lock
// that came while the login was being settled.
func TestALockThatOvertakesALoginHoldsWithoutTheStore(t *testing.T) {
	for name, lock := range map[string]func(*bench){
		"by an admin": func(b *bench) {
			if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
				b.t.Error(err)
			}
		},
		"by wrong passwords": func(b *bench) {
			for i := range 6 {
				b.want(b.from(elsewhere, "lan", fmt.Sprint("guess", i)), auth.WrongPassword)
			}
		},
		"by an admin at another gateway": func(b *bench) {
			b.elsewhereDone(adminLock)
			b.heard(auth.AccountLocked, "Nguyen Van A", time.Now())
		},
		"by wrong passwords at another gateway": func(b *bench) {
			b.elsewhereDone(func(a *auth.Account) {
				a.Lock = auth.Lock{Mark: auth.Mark{At: time.Now(), By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
			})
			b.heard(auth.AccountLocked, auth.ByGateway, time.Now())
		},
		"a revocation at another gateway": func(b *bench) {
			b.elsewhereDone(revocation)
			b.heard(auth.AccountRevoked, auth.ByGateway, time.Now())
		},
		// Another attempt read the account before the event arrived.
		"seen by another attempt": func(b *bench) {
			b.elsewhereDone(adminLock)
			b.want(b.from(elsewhere, "lan", "guess"), auth.Locked)
		},
	} {
		for when, known := range map[string]bool{"the first login": false, "a later one": true} {
			t.Run(name+", "+when, func(t *testing.T) {
				inBubble(t, withGrace, func(b *bench) {
					if known {
						b.want(b.try("lan", good), auth.Accepted)
						time.Sleep(2 * time.Hour) // the next last login is written
					}
					b.afterCommit(func() { lock(b) })
					b.try("lan", good)
					b.broken.Store(unreachable)
					b.want(b.try("lan", good), auth.StoreUnavailable)
				})
			})
		}
	}
}

// Once an attempt has seen in the store that the account is locked or revoked, the
// memory is void, whether or not the event has arrived.
func TestALockThatAnAttemptHasSeenHoldsWithoutTheStore(t *testing.T) {
	for name, change := range map[string]func(*auth.Account){"a lock": adminLock, "a revocation": revocation} {
		want := auth.Locked
		if name == "a revocation" {
			want = auth.Revoked
		}
		for _, password := range []string{good, "guess"} {
			if want == auth.Revoked && password != good {
				continue // an attempt with a wrong password does not see it
			}
			t.Run(name+" seen by "+password, func(t *testing.T) {
				inBubble(t, withGrace, func(b *bench) {
					b.want(b.try("lan", good), auth.Accepted)
					b.elsewhereDone(change)
					b.want(b.try("lan", password), want)
					b.broken.Store(unreachable)
					b.want(b.try("lan", good), auth.StoreUnavailable)
				})
			})
		}
	}
}

// The store was read and then failed: the account as read counts, not the memory.
func TestALockThatASettlementHasSeenHoldsAfterItsFailure(t *testing.T) {
	for name, change := range map[string]func(*auth.Account){"a lock": adminLock, "a revocation": revocation} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withGrace, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				b.server.during = func() {
					b.server.during = nil
					b.elsewhereDone(change)
					b.broken.Store(noAnswers)
				}
				b.want(b.try("lan", good), auth.StoreUnavailable)
				b.broken.Store(unreachable)
				b.want(b.try("lan", good), auth.StoreUnavailable)
			})
		})
	}
}

// The store is down when a known password is admitted; the event of the lock arrives
// while the mail server judges.
func TestALockThatArrivesDuringALoginWithoutTheStoreRefusesIt(t *testing.T) {
	inBubble(t, withGrace, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(unreachable)
		b.server.during = func() {
			b.server.during = nil
			b.heard(auth.AccountLocked, "Nguyen Van A", time.Now())
		}
		b.want(b.try("lan", good), auth.StoreUnavailable)
	})
}

// The commit that locked was not answered: the failure is settled again, which finds it
// done, and the lock holds.
func TestALockWhoseCommitWasNotAnsweredHoldsWithoutTheStore(t *testing.T) {
	inBubble(t, withGrace, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.elsewhereDone(func(a *auth.Account) { a.Failures = 5 })
		b.broken.Store(noAnswers)
		b.want(b.from(elsewhere, "lan", "the sixth"), auth.StoreUnavailable)
		b.broken.Store(nil)
		time.Sleep(time.Minute)
		if n := b.guard.Owed(); n != 0 {
			t.Fatalf("%d settlements are pending", n)
		}
		b.broken.Store(unreachable)
		b.want(b.try("lan", good), auth.StoreUnavailable)
	})
}

// An admin whose lock was not answered repeats the command: the account is already
// locked, and its sessions must end.
func TestARepeatedLockEndsSessions(t *testing.T) {
	inBubble(t, withGrace, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(noAnswers)
		if _, err := b.guard.Lock(context.Background(), lan, act); err == nil {
			t.Fatal("the lock was answered")
		}
		b.broken.Store(nil)
		b.guard.Lock(context.Background(), lan, act)
		if len(b.ended) == 0 {
			t.Error("the sessions of a locked account are still open")
		}
		b.broken.Store(unreachable)
		b.want(b.try("lan", good), auth.StoreUnavailable)
	})
}

// A fingerprint that is compared late is not a login: it must not bring back what a lock
// has removed.
func TestALateFingerprintBringsNothingBack(t *testing.T) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withGrace(g, r)
		g.Fingerprints = &watchedFingerprints{delay: time.Second}
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.during = func() {
			b.server.during = nil
			time.Sleep(time.Second / 2)
			b.heard(auth.AccountLocked, auth.ByGateway, time.Now())
			time.Sleep(time.Second)
			b.broken.Store(unreachable)
		}
		b.want(b.try("lan", good), auth.StoreUnavailable)
	})
}

func TestAKnownGoodPasswordWorksForAWhileWithoutTheStore(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		first := b.account().LastLogin
		time.Sleep(2 * time.Hour)
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(unreachable)
		time.Sleep(30 * time.Minute)
		v := b.try("lan", good)
		login := time.Now()
		b.want(v, auth.Accepted)
		b.want(b.try("lan", "wrong"), auth.StoreUnavailable)
		b.want(b.try("hung", "any"), auth.StoreUnavailable)
		time.Sleep(31 * time.Minute)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		b.broken.Store(nil)
		time.Sleep(10 * time.Second)
		if a := b.account(); !a.LastLogin.After(first) || login.Sub(a.LastLogin) > time.Second {
			b.t.Errorf("last login %v, want %v: written when the store came back", a.LastLogin, login)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestTheUsualLoginWritesNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		before := b.account()
		for range 10 {
			time.Sleep(time.Minute)
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if !v.KnownGood {
				b.t.Error("the password is not known good")
			}
		}
		if a := b.account(); !a.LastLogin.Equal(before.LastLogin) {
			b.t.Errorf("last login was written after %v", a.LastLogin.Sub(before.LastLogin))
		}
		time.Sleep(time.Hour)
		b.want(b.try("lan", good), auth.Accepted)
		if a := b.account(); !a.LastLogin.After(before.LastLogin) {
			b.t.Error("last login was not written after an hour")
		}
	})
}

// The known-good password is no oracle: comparisons are limited.
func TestAGuesserLearnsNothingFromTheKnownGoodPassword(t *testing.T) {
	stranger := netip.MustParseAddrPort("203.0.113.7:1")
	for name, from := range map[string]netip.AddrPort{"from elsewhere": stranger, "from the owner's address": office} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Throttle = new(throttle.Throttle) }, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				guess := func(login, password string) auth.Outcome {
					return b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret(password), Source: from}).Outcome
				}
				for i := range 12 {
					for range 6 {
						guess(fmt.Sprint("nobody", i), "x") // trips the throttle
					}
				}
				judged := 0
				for i := range 50 {
					if guess("lan", fmt.Sprint("guess", i)) == auth.WrongPassword {
						judged++
					}
				}
				if a := b.account(); a.Failures != judged || judged > 2 { // two guesses need no grant
					b.t.Errorf("%d guesses judged, %d counted", judged, a.Failures)
				}
				if got := guess("lan", good); got == auth.Accepted {
					b.t.Error("50 guesses, almost none counted, and the right one was accepted")
				}
			})
		})
	}
}

func TestWaitingGuessesAreNotComparedForNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = time.Second
		var wg sync.WaitGroup
		var mu sync.Mutex
		accepted := 0
		for i := range 300 {
			password := fmt.Sprint("guess", i)
			if i == 250 {
				password = good
			}
			wg.Go(func() {
				if b.try("lan", password).Outcome == auth.Accepted {
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			})
			synctest.Wait() // one after the other
		}
		wg.Wait()
		if accepted > 0 || b.server.asked != 7 {
			b.t.Errorf("%d of 300 guesses accepted, %d asked with the owner's login", accepted, b.server.asked)
		}
	})
}
