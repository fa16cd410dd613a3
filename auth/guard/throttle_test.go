package guard_test

import (
	"context"
	"errors"
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

// Guessers: from which sources they guess at which accounts, and which users must not be
// affected.

func withThrottle(g *guard.Guard, _ *auth.Rules) { g.Throttle = new(throttle.Throttle) }

// from makes one try from a source.
func (b *bench) from(source netip.AddrPort, login, password string) auth.Verdict {
	return b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret(password), Source: source})
}

// employ makes n mailboxes whose password the mail server knows.
func (b *bench) employ(prefix string, n int) (logins []string) {
	for i := range n {
		login := fmt.Sprint(prefix, i)
		b.server.password[auth.Name(login+"@example.vn")] = good
		logins = append(logins, login)
	}
	return logins
}

// restarted returns the guard of a new process on the same store: its memory and
// throttle are empty.
func (b *bench) restarted() {
	old := b.guard
	b.restart(func(g *guard.Guard) {
		g.Store, g.Fingerprints, g.EndSessions, g.Throttle = old.Store, old.Fingerprints, old.EndSessions, new(throttle.Throttle)
	})
}

// locked counts the accounts and names that wrong passwords have locked.
func (b *bench) locked() int { return b.told.count(auth.AccountLocked) + b.told.count(auth.NameLocked) }

var elsewhere = netip.MustParseAddrPort("203.0.113.7:1")

// One address guesses at 500 accounts, six times at each, all at once or one by one. It
// locks 5 in a day, however often it comes back.
func TestOneSourceGuessingAtFiveHundredAccountsLocksFive(t *testing.T) {
	for _, burst := range []bool{false, true} {
		t.Run(fmt.Sprintf("burst %v", burst), func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				for range 23 { // hours
					var wg sync.WaitGroup
					for i := range 500 {
						for guess := range 6 {
							try := func() { b.from(elsewhere, fmt.Sprint("user", i), fmt.Sprint("guess", guess, time.Now())) }
							if burst {
								wg.Go(try)
							} else {
								try()
							}
						}
					}
					wg.Wait()
					time.Sleep(time.Hour - time.Since(time.Now().Truncate(time.Hour)))
				}
				if n := b.locked(); n != 5 {
					b.t.Errorf("one source has locked %d accounts, want 5", n)
				}
			})
		})
	}
}

// Otherwise the log would have a hash instead of the name that support staff look for.
func TestAThrottledAttemptSaysWhetherItsNameIsAnAccount(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			b.from(elsewhere, fmt.Sprint("nobody", i), "guess")
		}
		for login, known := range map[string]bool{"lan": true, "moi": false} {
			if v := b.from(elsewhere, login, "guess"); v.Outcome != auth.Throttled || v.Known != known {
				t.Errorf("%s: %v, known %v, want throttled, %v", login, v.Outcome, v.Known, known)
			}
		}
	})
}

// The colleagues behind the same address have logged in from there before; the gateway
// was restarted in the night and knows no password any more. Every second one mistypes
// first. None of them is refused.
func TestThreeHundredColleaguesOfAGuesserAreNotHindered(t *testing.T) {
	for _, at := range []string{"others", "themselves"} {
		t.Run("guessing at "+at, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				colleagues := b.employ("colleague", 300)
				for _, c := range colleagues {
					b.want(b.from(office, c, good), auth.Accepted)
				}
				time.Sleep(15 * time.Hour)
				b.restarted()

				guesser, stop := context.WithCancel(context.Background())
				var guessing sync.WaitGroup
				for n := range 50 { // fifty at a time, during the whole morning
					guessing.Go(func() {
						for i := n; guesser.Err() == nil; i += 50 {
							target := fmt.Sprint("victim", i%500)
							if at == "themselves" {
								// One guess at each: a second one would use the colleagues' own free guesses.
								if target = fmt.Sprint("colleague", i); i >= 300 {
									return
								}
							}
							b.from(office, target, fmt.Sprint("guess", i))
							time.Sleep(20 * time.Millisecond)
						}
					})
				}
				time.Sleep(time.Minute)
				var morning sync.WaitGroup
				for i, c := range colleagues {
					morning.Go(func() {
						time.Sleep(time.Duration(i) * 100 * time.Millisecond)
						if i%2 == 1 {
							b.want(b.from(office, c, "Mat-khua-1"), auth.WrongPassword)
							time.Sleep(3 * time.Second)
						}
						b.want(b.from(office, c, good), auth.Accepted)
					})
				}
				morning.Wait()
				stop()
				guessing.Wait()
				if n := b.locked(); n > 5+300/10 {
					b.t.Errorf("%d accounts are locked", n)
				}
			})
		})
	}
}

// A whole office comes back after a restart at once, each with five connections.
func TestABurstOfColleaguesIsNotRefused(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		var wg sync.WaitGroup
		for _, c := range b.employ("colleague", 300) {
			for range 5 {
				wg.Go(func() { b.want(b.from(office, c, good), auth.Accepted) })
			}
		}
		wg.Wait()
	})
}

// A guesser in the office has used up its grants. The colleagues come back after a
// restart, each with five connections and no mistype.
func TestABurstOfAColleagueIsNotRefusedBecauseOfAGuesserNearby(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.restarted()
		b.spendGrants(office)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		wg.Wait()
		// Two mistypes at the same time leave no room for a third.
		for guess := range 2 {
			wg.Go(func() { b.want(b.try("lan", fmt.Sprint("guess", guess)), auth.WrongPassword) })
		}
		wg.Wait()
		b.want(b.try("lan", "guess 3"), auth.Throttled)
	})
}

// A guesser in the office has used up its grants, so that the mail server is not asked
// about guesses at a colleague. These are not compared with the password that is known
// to be good either, however often the colleague logs in meanwhile.
func TestAGuesserInTheOfficeComparesNothingAllDay(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		midnight := time.Date(2000, 1, 2, 0, 0, 0, 0, auth.DefaultRules().Location)
		time.Sleep(time.Until(midnight))
		b.spendGrants(office)
		b.want(b.try("lan", good), auth.Accepted)
		for range 90 { // until half past ten in the evening
			for guess := range 6 {
				b.try("lan", fmt.Sprint("guess", guess, time.Now()))
			}
			b.want(b.from(elsewhere, "lan", good), auth.Accepted) // the colleague's phone
			time.Sleep(15 * time.Minute)
		}
		b.want(b.try("lan", good), auth.Throttled)
		if a := b.account(); a.WrongThatDay != 30 {
			b.t.Errorf("%d of the guesses were judged, want two for each login and 30 at most", a.WrongThatDay)
		}
	})
}

// A device that repeats one wrong password learns nothing from it: it takes nothing from
// the owner beside it.
func TestADeviceThatRepeatsAWrongPasswordBesideAGuesserStopsNoOwner(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.spendGrants(office)
		for guess := range 2 {
			b.want(b.from(office, "lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
		b.want(b.try("lan", good), auth.Accepted)
		for guess := range 2 {
			b.want(b.try("lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		for range 10 {
			b.want(b.try("lan", "Mat-khau-0"), auth.Throttled) // the telephone
			b.want(b.try("lan", good), auth.Accepted)
			for guess := range 2 { // forgiven by the login before
				b.want(b.try("lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
			}
		}
	})
}

// Two guesses from the office, whose grants are used up, keep a colleague out there. A
// login from anywhere else ends that, as it ends the failures.
func TestALoginFromAnotherSourceForgivesInTheOffice(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.restarted()
		b.spendGrants(office)
		for guess := range 2 {
			b.want(b.try("lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		b.want(b.try("lan", good), auth.Throttled)
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try(victim(4, office), "guess 4"), auth.WrongPassword) // it has a grant
		b.want(b.try("victim6", "guess 1"), auth.WrongPassword)
		b.want(b.try("victim6", "guess 2"), auth.WrongPassword)
		b.want(b.try("victim6", "guess 3"), auth.Throttled)
	})
}

// A slow answer of the store may be out of date: it does not forgive failures that have
// come meanwhile.
func TestASlowStoreForgivesNoBurst(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.restarted()
		b.spendGrants(office)
		synctest.Wait() // the store is not in use
		b.store.FailAfter = func(op auth.StoreOp) error {
			if op == auth.OpAccount {
				time.Sleep(time.Second)
			}
			return nil
		}
		var wg sync.WaitGroup
		for guess := range 20 {
			wg.Go(func() { b.try("lan", fmt.Sprint("guess", guess)) })
		}
		wg.Wait()
		if a := b.account(); a.Failures != 2 {
			b.t.Errorf("%d guesses were judged, want 2", a.Failures)
		}
	})
}

// Wrong passwords from other sources reduce comparisons as they reduce tries.
func TestGuessesFromOtherSourcesLeaveNoComparisons(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.spendGrants(office)
		for i := range 3 {
			b.want(b.from(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1), "lan", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		for guess := range 3 { // the third is compared, but not shown to the mail server
			b.try("lan", fmt.Sprint("office guess", guess))
		}
		b.want(b.try("lan", good), auth.Throttled)
	})
}

// Only counted failures reduce comparisons: a device at another place that repeats one
// wrong password forever takes nothing from the owner.
func TestARepeatedWrongPasswordTakesNoComparisons(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountRepeats = auth.NeverCountRepeats }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for range 20 {
			b.from(elsewhere, "lan", "mistyped")
		}
		if v := b.try("lan", good); !v.KnownGood {
			b.t.Errorf("%v, and not known to be good", v.Outcome)
		}
	})
}

// A webmail host that is not configured as a forwarder: all users are one source.
func TestMorePeopleThanAreRememberedLogInFromOneAddress(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		everybody := b.employ("person", throttle.MaxPerSource+1000)
		for range 2 { // the second time after a restart
			for _, p := range everybody {
				b.want(b.from(office, p, good), auth.Accepted)
			}
			if n := accountsOf(b.guard.Throttle); n > throttle.MaxPerSource {
				b.t.Errorf("%d accounts are remembered of one source", n)
			}
			b.restarted()
		}
		for i := range 20 { // one of them guesses
			for guess := range 6 {
				b.from(office, fmt.Sprint("person", i), fmt.Sprint("guess", guess))
			}
		}
		if n := b.locked(); n > 5 {
			b.t.Errorf("%d are locked", n)
		}
	})
}

// A person in the office guesses at all colleagues: this locks a few accounts, not all.
func TestAGuesserInTheOfficeLocksFewColleagues(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		colleagues := b.employ("colleague", 300)
		for _, c := range colleagues {
			b.want(b.from(office, c, good), auth.Accepted)
		}
		b.restarted()
		var wg sync.WaitGroup
		for _, c := range colleagues {
			for guess := range 6 {
				wg.Go(func() { b.from(office, c, fmt.Sprint("guess", guess)) })
			}
		}
		wg.Wait()
		if n := b.locked(); n > 5 {
			b.t.Errorf("%d of 300 colleagues are locked, want 5 at most", n)
		}
	})
}

// A botnet: no address does much, and the account is still safe.
func TestAThousandAddressesWithOneGuessEachGetSixVerdicts(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1)
				b.from(from, "lan", fmt.Sprint("guess", i))
			})
		}
		wg.Wait()
		if b.server.worst != 6 || b.account().Lock.Cause != auth.ByWrongPasswords {
			b.t.Errorf("%d verdicts, lock %+v", b.server.worst, b.account().Lock)
		}
	})
}

// A guesser guesses slowly: five times between two logins of the owner's mail program,
// which forgive them. It gets 30 verdicts a day, from any number of addresses. The owner
// is not affected at a source that the account remembers; at a new one the owner is
// refused until midnight.
func TestGuessingSlowlyBetweenTheOwnersLoginsIsStopped(t *testing.T) {
	for _, throttled := range []bool{false, true} {
		t.Run(fmt.Sprintf("throttle %v", throttled), func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
				if throttled {
					g.Throttle = new(throttle.Throttle)
				}
			}, func(b *bench) {
				midnight := time.Date(2000, 1, 2, 0, 0, 0, 0, auth.DefaultRules().Location)
				b.want(b.try("lan", good), auth.Accepted)
				time.Sleep(time.Until(midnight))
				judged, n := 0, 0
				for time.Since(midnight) < 23*time.Hour {
					b.want(b.try("lan", good), auth.Accepted)
					for range 5 {
						n++
						from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}), 1)
						switch v := b.from(from, "lan", fmt.Sprint("guess", n)); v.Outcome {
						case auth.WrongPassword:
							judged++
						case auth.Throttled:
						default:
							b.t.Fatalf("guess %d: %v", n, v.Outcome)
						}
					}
					time.Sleep(15 * time.Minute)
				}
				if judged != 30 {
					b.t.Errorf("%d of %d guesses were judged, want 30", judged, n)
				}
				b.want(b.from(elsewhere, "lan", good), auth.Throttled) // a new place: not today
				time.Sleep(2 * time.Hour)                              // the next day
				b.want(b.from(elsewhere, "lan", good), auth.Accepted)
				if n := b.locked(); n != 0 {
					b.t.Error("the owner is locked out")
				}
			})
		})
	}
}

// Names without a login: a guesser fills the room for them and guesses again, to make
// the store forget the first failures.
func TestFillingTheRoomForUnknownNamesForgetsNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.store.MaxUnknown = 50
		for i := range 5 {
			b.want(b.try("new-colleague", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		shared := 0
		for i := range 100 {
			v := b.try(fmt.Sprint("nobody", i), "x")
			b.want(v, auth.WrongPassword)
			if v.Shared {
				shared++
			}
		}
		if shared != 51 {
			b.t.Errorf("%d new names share a counter, want 51", shared)
		}
		b.want(b.try("new-colleague", "guess 6"), auth.WrongPassword)
		b.want(b.try("new-colleague", "guess 7"), auth.Locked)

		// The room empties by itself, except for locks.
		time.Sleep(29 * 24 * time.Hour)
		forget := func() int {
			n, err := b.guard.ForgetUnknown(context.Background(), b.store)
			if err != nil {
				b.t.Fatal(err)
			}
			return n
		}
		if n := forget(); n != 0 {
			b.t.Errorf("%d names were forgotten after 29 days", n)
		}
		time.Sleep(24 * time.Hour)
		if n := forget(); n != 49 {
			b.t.Errorf("%d names were forgotten after 30 days, want 49", n)
		}
		b.want(b.try("new-colleague", "guess 8"), auth.Locked)
		b.want(b.try("somebody-else", "x"), auth.WrongPassword)
	})
}

// When the room is full new names are answered like all others, and a source that tries
// many of them is refused equally soon.
func TestAFullRoomDoesNotShow(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.store.MaxUnknown = 1
		b.want(b.from(office, "nobody", "x"), auth.WrongPassword)
		for i := range 500 {
			v := b.from(elsewhere, fmt.Sprint("phantom", i), "x")
			if i < 10 {
				b.want(v, auth.WrongPassword)
			} else {
				b.want(v, auth.Throttled)
			}
		}
	})
}

func TestAKnownAccountIsNeverForgotten(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		time.Sleep(365 * 24 * time.Hour)
		if n, err := b.guard.ForgetUnknown(context.Background(), b.store); n != 0 || err != nil || b.account().Failures != 1 {
			b.t.Errorf("%d forgotten, %v, %d failures", n, err, b.account().Failures)
		}
	})
}

// An unlock is for the next try of the user, who sits at the source of the wrong
// passwords.
func TestAnUnlockedUserIsNotThrottledForForgivenFailures(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		for n := range 5 {
			for i := range 6 {
				b.want(b.try(fmt.Sprint("colleague", n), fmt.Sprint("guess", i)), auth.WrongPassword)
			}
		}
		b.want(b.try("lan", "one"), auth.WrongPassword)
		b.want(b.try("lan", "two"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Throttled)
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

// While the mail server hangs, all attempts are in doubt. When it is back no user with
// an earlier login is refused because of that.
func TestAnOutageOfTheMailServerThrottlesNoColleague(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		colleagues := b.employ("colleague", 50)
		for _, c := range colleagues {
			b.want(b.from(office, c, good), auth.Accepted)
		}
		b.restarted()
		running, stop := context.WithCancel(context.Background())
		var run sync.WaitGroup
		run.Go(func() { b.guard.Run(running) })
		defer run.Wait()
		defer stop()
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt}
		for range 3 {
			for _, c := range colleagues {
				b.want(b.from(office, c, good), auth.Unavailable)
			}
		}
		b.server.answer = nil
		for _, c := range colleagues {
			b.want(b.from(office, c, good), auth.Accepted)
		}
	})
}

func TestASourceIsRememberedInBoundedMemory(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Throttle = &throttle.Throttle{Sources: 64} }, func(b *bench) {
		for i := range 5000 {
			b.from(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1), "lan", "x")
		}
		if n := sourcesOf(b.guard.Throttle); n > 64 {
			b.t.Errorf("%d sources are remembered, want 64 at most", n)
		}
	})
}

func TestAnIPv6CustomerIsOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ a, b string }{
			{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9"}, {"192.0.2.1", "::ffff:192.0.2.1"}, {"fe80::1%eth0", "fe80::1%eth1"},
		} {
			if a, b := auth.Source(netip.MustParseAddr(c.a)), auth.Source(netip.MustParseAddr(c.b)); a != b {
				t.Errorf("%v and %v are two sources", a, b)
			}
		}
		if auth.Source(netip.MustParseAddr("2001:db8:1:2::1")) == auth.Source(netip.MustParseAddr("2001:db8:1:3::1")) {
			t.Error("two networks are one source")
		}
	})
}

// A user who is refused for now calls support staff like a locked one.
func TestSupportSeesAndEndsARefusalForNow(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		unlock := func() error {
			_, err := b.guard.Unlock(context.Background(), lan, act)
			return err
		}
		b.want(b.from(office, "lan", good), auth.Accepted)
		if r := b.guard.LatelyRefused(lan); !r.IsZero() {
			b.t.Errorf("%+v", r)
		}
		// Refused because of others at the same place, where the account is not known.
		for i := range 10 {
			b.want(b.from(elsewhere, fmt.Sprint("colleague", i), "guess"), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
		if r := b.guard.LatelyRefused(lan); r.Source != elsewhere || r.Outcome != auth.Throttled {
			b.t.Errorf("%+v", r)
		}
		if err := unlock(); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
		if err := unlock(); !errors.Is(err, auth.ErrNothingToDo) {
			b.t.Errorf("%v after a login", err)
		}
		// Refused because of guesses at the account.
		for n := range 30 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 1)
			b.want(b.from(from, "lan", fmt.Sprint("guess", n)), auth.WrongPassword)
			if n%5 == 4 {
				b.want(b.from(office, "lan", good), auth.Accepted)
			}
		}
		new := netip.MustParseAddrPort("192.0.2.77:993")
		b.want(b.from(new, "lan", good), auth.Throttled)
		if err := unlock(); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.from(new, "lan", good), auth.Accepted)
	})
}

// A customer with an IPv6 network has many addresses.
func TestManySourcesOfOneIPv6SiteLockFew(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		var wg sync.WaitGroup
		for i := range 200 {
			for guess := range 6 {
				wg.Go(func() {
					addr := netip.MustParseAddr(fmt.Sprintf("2001:db8:7:%x::1", (i*6+guess)%40))
					b.from(netip.AddrPortFrom(addr, 1), fmt.Sprint("user", i), fmt.Sprint("guess", guess))
				})
			}
		}
		wg.Wait()
		if n := b.locked(); n > 20 {
			b.t.Errorf("one site has locked %d accounts of 200, want 20 at most", n)
		}
	})
}

// Refusals without the mail server do not count against their source: a device in the
// office with a wrong domain must not cause refusals of its colleagues.
func TestInvalidNamesDoNotCountAgainstTheirSource(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		for range 500 {
			b.want(b.from(office, "lan@elsewhere.vn", "x"), auth.NoSuchDomain)
			b.want(b.from(office, "lan", ""), auth.Malformed)
		}
		b.want(b.from(office, "lan", good), auth.Accepted)
	})
}
