package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/throttle"
)

// another returns another gateway on the same store, with the same policy.
func (b *bench) another() *guard.Guard {
	return b.process(func(g *guard.Guard) {
		g.Throttle, g.Shared, g.StoreGrace = new(throttle.Throttle), true, b.guard.StoreGrace
	})
}

// at runs f with attempts at another gateway.
func (b *bench) at(g *guard.Guard, f func()) {
	synctest.Wait() // Run is at the first guard
	old := b.guard
	b.guard = g
	defer func() { b.guard = old }()
	f()
}

// unlock is an unlock by an admin.
func (b *bench) unlock(login string) error {
	b.t.Helper()
	name, err := b.guard.Canonical(login)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.guard.Unlock(context.Background(), name, act)
	return err
}

// latest is the newest event of a kind.
func (b *bench) latest(kind auth.EventKind) auth.Event {
	b.t.Helper()
	events, err := b.store.Events(context.Background(), auth.EventFilter{Kinds: []auth.EventKind{kind}, Limit: 1})
	if err != nil || len(events) == 0 {
		b.t.Fatalf("no event %s: %v", kind, err)
	}
	return events[0]
}

// guessAll makes six guesses at each of the logins.
func (b *bench) guessAll(from netip.AddrPort, logins []string) {
	for _, v := range logins {
		for range 6 {
			b.from(from, v, fmt.Sprint("guess", b.server.asked))
		}
	}
}

// An unlock of any account gives nothing back to the source of an attack.
func TestAnUnlockGivesAGuesserNoNewGrants(t *testing.T) {
	for name, unlock := range map[string]func(*bench, []string){
		"of an account that was only refused": func(b *bench, victims []string) { b.unlock(victims[59]) },
		"of the accounts that were locked": func(b *bench, victims []string) {
			for _, v := range victims {
				name, _ := b.guard.Canonical(v)
				if a, err := b.store.Account(context.Background(), name); err != nil || a.Lock.Cause == auth.NotLocked {
					continue
				}
				if err := b.unlock(v); err != nil {
					b.t.Error(err)
				}
			}
		},
		"of every account": func(b *bench, victims []string) {
			for _, v := range victims {
				b.unlock(v)
			}
		},
		"at another gateway": func(b *bench, victims []string) {
			other := b.another()
			for _, v := range victims {
				name, _ := b.guard.Canonical(v)
				if _, err := other.Unlock(context.Background(), name, act); err != nil {
					b.t.Error(err)
				}
				b.guard.OnRemoteEvent(b.latest(auth.AccountUnlocked))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				victims := b.employ("victim", 60)
				for _, v := range victims {
					b.want(b.from(office, v, good), auth.Accepted)
				}
				for round := range 4 {
					b.guessAll(elsewhere, victims)
					if n := b.locked(); n != 5 {
						t.Errorf("round %d: one source has locked %d accounts, want 5", round, n)
					}
					unlock(b, victims)
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// throttledAt guesses at many names from a source, so that lan is refused there.
func (b *bench) throttledAt(from netip.AddrPort) {
	b.t.Helper()
	for i := range 12 {
		b.from(from, fmt.Sprint("name", b.server.asked, "-", i), "guess")
	}
	b.want(b.from(from, "lan", good), auth.Throttled)
}

// The user is refused at one gateway, and support staff use another.
func TestAnUnlockReachesTheThrottleOfEveryGateway(t *testing.T) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withThrottle(g, r)
		g.Shared = true
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		other := b.another()
		b.at(other, func() { b.throttledAt(elsewhere) })

		// Nothing is held against the account here: the event is for the others.
		if err := b.unlock("lan"); err != nil {
			t.Fatal(err)
		}
		e := b.latest(auth.AccountUnlocked)
		if e.After != guard.ForgivenEverywhere || e.Account != lan || e.Actor != act.Actor {
			t.Errorf("%+v", e)
		}
		b.at(other, func() {
			b.want(b.from(elsewhere, "lan", good), auth.Throttled) // the event has not arrived yet
			time.Sleep(time.Second)
			other.OnRemoteEvent(e)
			// The source is still refused for other accounts.
			b.want(b.from(elsewhere, "name99", "guess"), auth.Throttled)
			b.want(b.from(elsewhere, "lan", good), auth.Accepted)
			if r := other.LatelyRefused(lan); !r.IsZero() {
				t.Errorf("still refused: %+v", r)
			}
		})
	})
}

// A gateway alone reports that there is nothing to do, and a name that never was an
// account is unknown at every gateway.
func TestAnUnlockWithNothingToDoIsAnEventForOtherGatewaysOnly(t *testing.T) {
	for _, shared := range []bool{false, true} {
		inBubble(t, func(g *guard.Guard, r *auth.Rules) { g.Shared = shared }, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			before := b.account()
			err := b.unlock("lan")
			if shared && err != nil || !shared && !errors.Is(err, auth.ErrNothingToDo) {
				t.Errorf("shared %v: %v", shared, err)
			}
			if after := b.account(); after.LastLogin != before.LastLogin || after.Failures != 0 || after.Lock != before.Lock {
				t.Errorf("%+v, was %+v", after, before)
			}
			if err := b.unlock("nobody"); !errors.Is(err, auth.ErrUnknownAccount) {
				t.Errorf("shared %v: %v", shared, err)
			}
		})
	}
}

// An unlock, here or at another gateway, ends everything that a process holds against a
// name. The event of an unlock made here ends nothing that came after the unlock.
func TestAnUnlockForgivesAllMemoriesOfAGateway(t *testing.T) {
	for name, m := range map[string]struct {
		hold func(*bench)      // makes the guard hold something against the name
		held func(*bench) bool // whether it does
	}{
		"a refusal": {
			hold: func(b *bench) { b.throttledAt(elsewhere) },
			held: func(b *bench) bool { return !b.guard.LatelyRefused(lan).IsZero() },
		},
		"no answer of the mail server": {
			hold: func(b *bench) {
				b.server.answer = &auth.Answer{Judgement: auth.Unreached}
				b.want(b.try("lan", good), auth.Unavailable)
				b.server.answer = nil
			},
			held: func(b *bench) bool { return !b.guard.LatelyUnanswered(lan).IsZero() },
		},
		"a failure that is not written": {
			hold: func(b *bench) {
				b.broken.Store(noWrites)
				b.want(b.try("lan", "not written"), auth.StoreUnavailable)
				b.broken.Store(nil)
			},
			held: func(b *bench) bool {
				time.Sleep(time.Minute)
				return b.account().Failures > 0
			},
		},
		"a password that is not counted again": {
			hold: func(b *bench) { b.want(b.try("lan", "the same"), auth.WrongPassword) },
			held: func(b *bench) bool { return b.try("lan", "the same").Outcome == auth.RepeatedPassword },
		},
		"passwords compared with the good one": {
			hold: func(b *bench) {
				for i := range 6 {
					b.server.answer = &auth.Answer{Judgement: auth.Unreached}
					b.want(b.try("lan", fmt.Sprint("miss", i)), auth.Unavailable)
				}
				b.server.answer = nil
			},
			held: func(b *bench) bool { return !b.try("lan", good).KnownGood },
		},
	} {
		for _, by := range []string{"here", "elsewhere", "here, with a late echo", "elsewhere, late"} {
			t.Run(name+", unlocked "+by, func(t *testing.T) {
				inBubble(t, func(g *guard.Guard, r *auth.Rules) {
					withThrottle(g, r)
					g.Shared = true
					r.Lockout.CountRepeats = auth.NeverCountRepeats
				}, func(b *bench) {
					b.want(b.try("lan", good), auth.Accepted)
					late := by == "here, with a late echo" || by == "elsewhere, late"
					event := auth.Event{Kind: auth.AccountUnlocked, Account: lan, Actor: act.Actor}
					if late {
						// The unlock comes first; the memory came after it.
						if by == "elsewhere, late" {
							event.At = time.Now()
						} else if err := b.unlock("lan"); err != nil {
							t.Fatal(err)
						} else {
							event = b.latest(auth.AccountUnlocked)
						}
						time.Sleep(time.Second)
					}
					m.hold(b)
					time.Sleep(time.Millisecond)
					switch by {
					case "here":
						if err := b.unlock("lan"); err != nil {
							t.Fatal(err)
						}
					case "elsewhere":
						// The store has the unlock at once.
						b.elsewhereDone(func(a *auth.Account) { a.Failures, a.Mistakes = 0, nil })
						event.At = time.Now()
						b.guard.OnRemoteEvent(event)
					default:
						b.guard.OnRemoteEvent(event)
					}
					time.Sleep(time.Second)
					if held := m.held(b); held != late {
						t.Errorf("held: %v, want %v", held, late)
					}
				})
			})
		}
	}
}

// Where the account had failed but was not refused, the throttle forgives as well: what
// came before the unlock, and nothing after it.
func TestAnUnlockAtAnotherGatewayForgivesTheAccountAtEverySource(t *testing.T) {
	for _, since := range []bool{false, true} {
		inBubble(t, withThrottle, func(b *bench) {
			unlocked := time.Now()
			time.Sleep(time.Second)
			for i := range 9 {
				b.want(b.from(elsewhere, fmt.Sprint("name", i), "guess"), auth.WrongPassword)
			}
			b.want(b.from(elsewhere, "lan", "guess"), auth.WrongPassword)
			b.want(b.from(elsewhere, "name99", "guess"), auth.Throttled)
			want := auth.Throttled
			if !since {
				unlocked, want = time.Now(), auth.WrongPassword
			}
			b.heard(auth.AccountUnlocked, act.Actor, unlocked)
			synctest.Wait()
			b.want(b.from(elsewhere, "name99", "guess"), want)
		})
	}
}

// The event of an unlock made here forgives no source that was refused after the unlock.
func TestTheEventOfAnOwnUnlockForgivesNoSource(t *testing.T) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withThrottle(g, r)
		g.Shared = true
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		if err := b.unlock("lan"); err != nil {
			t.Fatal(err)
		}
		echo := b.latest(auth.AccountUnlocked)
		time.Sleep(time.Second)
		b.throttledAt(elsewhere)
		b.guard.OnRemoteEvent(echo)
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
	})
}

// A lock that ends by itself proves nothing about any source.
func TestALockThatEndsByItselfForgivesNoSource(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.throttledAt(elsewhere)
		b.heard(auth.AccountUnlocked, auth.ByGateway, time.Now().Add(time.Second))
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
	})
}

// Failures that are only in memory yet can be forgiven as well.
func TestAnUnlockForgivesPendingFailures(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(noWrites)
		b.want(b.try("lan", "not written"), auth.StoreUnavailable)
		b.broken.Store(nil)
		if err := b.unlock("lan"); err != nil {
			t.Error(err)
		}
		if e := b.latest(auth.AccountUnlocked); e.Before != "not locked, 0 wrong passwords, 1 more not written yet" {
			t.Errorf("%+v", e)
		}
		time.Sleep(time.Minute)
		if a := b.account(); a.Failures != 0 || b.guard.Owed() != 0 {
			t.Errorf("%d failures, %d pending", a.Failures, b.guard.Owed())
		}
		if err := b.unlock("lan"); !errors.Is(err, auth.ErrNothingToDo) {
			t.Error(err)
		}
	})
}

// The unlock comes while the mail server judges a guess: that guess counts after it,
// once, and no more passwords are judged than the rule allows.
func TestAnUnlockDuringAGuessCountsTheGuessAfterIt(t *testing.T) {
	for _, heard := range []bool{false, true} {
		inBubble(t, func(g *guard.Guard, r *auth.Rules) {
			withThrottle(g, r)
			g.Shared = true
		}, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			for i := range 3 {
				b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
			}
			b.server.during = func() {
				b.server.during = nil
				if heard {
					b.elsewhereDone(func(a *auth.Account) { a.Failures, a.Mistakes = 0, nil })
					b.heard(auth.AccountUnlocked, act.Actor, time.Now())
				} else if err := b.unlock("lan"); err != nil {
					t.Error(err)
				}
				b.server.mu.Lock()
				b.server.wrong[lan] = 0
				b.server.mu.Unlock()
			}
			b.want(b.try("lan", "in flight"), auth.WrongPassword)
			if a := b.account(); a.Failures != 1 {
				t.Errorf("%d failures after the unlock, want 1", a.Failures)
			}
			for i := range 20 {
				b.try("lan", fmt.Sprint("more", i))
			}
			if a := b.account(); a.Lock.Cause != auth.ByWrongPasswords || b.server.worst != 6 {
				t.Errorf("lock %v, %d wrong passwords judged; want 6", a.Lock.Cause, b.server.worst)
			}
		})
	}
}

// An attacker who continues while support staff talk to the user must not displace the
// user's own address from those that the unlock forgives.
func TestAnUnlockLetsTheUserInFromWhereItWasRefused(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		hotel := netip.MustParseAddrPort("192.0.2.77:993")
		b.throttledAt(hotel)
		b.throttledAt(elsewhere) // the latest refusal is of another source
		if err := b.unlock("lan"); err != nil {
			t.Fatal(err)
		}
		b.want(b.from(hotel, "lan", good), auth.Accepted)
	})
}
