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

// Many sources together: what they can lock, and which users must not be affected. The
// figures of these scenes, at the defaults:
const (
	toLock      = 6 // wrong passwords that lock an account
	freeGuesses = 2 // of an account that need no grant, from any source
	grants      = 5 // of a source in a day
)

// botnet returns the nth of sources that have no network in common.
func botnet(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(64 + n/256), byte(n), 9}), 1)
}

// within returns the nth source of a network.
func within(network string, n int) netip.AddrPort {
	prefix := netip.MustParsePrefix(network)
	if addr := prefix.Addr(); addr.Is4() {
		a := addr.As4()
		a[3] += byte(n)
		return netip.AddrPortFrom(netip.AddrFrom4(a), 1)
	}
	// Spread over the /48s of the network, and then over the /64s of those.
	a := prefix.Addr().As16()
	switch spread := uint16(n); prefix.Bits() {
	case 32:
		a[4], a[5], a[6] = byte(spread), byte(spread>>8), byte(spread)
	case 40:
		a[5], a[6] = byte(spread), byte(spread>>8)
	case 48:
		a[6], a[7] = byte(spread>>8), byte(spread)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(a), 1)
}

// victim returns the nth account that spendGrants brings near its lock.
func victim(n int, source netip.AddrPort) string {
	return fmt.Sprintf("victim%d-of-%x", n, source.Addr().AsSlice())
}

// spendGrants brings as many accounts near their lock from a source as the source may.
func (b *bench) spendGrants(source netip.AddrPort) {
	b.t.Helper()
	for n := range grants {
		for guess := range freeGuesses + 1 {
			b.want(b.from(source, victim(n, source), fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
	}
}

// guessForADay lets sources guess at 150 accounts every other hour of a day. If one
// source is refused the next one continues, until the account is locked. It returns how
// many accounts are locked.
func (b *bench) guessForADay(source func(int) netip.AddrPort, want int) {
	b.t.Helper()
	guesses, next, locked := 0, 0, make(map[int]bool)
	for range 12 {
		for account := range 150 {
			for refused := 0; !locked[account] && refused < 12; guesses++ {
				switch b.from(source(next), fmt.Sprint("user", account), fmt.Sprint("guess", guesses)).Outcome {
				case auth.Locked:
					locked[account] = true
				case auth.Throttled:
					refused++
					next++
				}
			}
		}
		time.Sleep(2*time.Hour - time.Second)
	}
	if len(locked) != want || b.locked() != want {
		b.t.Errorf("%d accounts are locked, want %d", b.locked(), want)
	}
}

// A few sources together guess all day at 150 accounts, each at any that it may. The
// number of locks in a day grows with the number of sources, and no network has more
// than its share.
func TestWhatSourcesLockInADay(t *testing.T) {
	scattered := func(n int) func(int) netip.AddrPort {
		return func(i int) netip.AddrPort { return botnet(i % n) }
	}
	all := func(networks ...string) func(int) netip.AddrPort {
		return func(i int) netip.AddrPort { return within(networks[i%len(networks)], i/len(networks)) }
	}
	for _, c := range []struct {
		name   string
		source func(int) netip.AddrPort
		want   int
	}{
		{"one address", scattered(1), 5},
		{"three addresses", scattered(3), 15},
		{"ten addresses", scattered(10), 50},
		{"an IPv4 /24", all("203.0.113.0/24"), 20},
		{"three IPv4 /24", all("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24"), 60},
		{"an IPv6 /64", func(int) netip.AddrPort { return within("2001:db8::/48", 0) }, 5},
		{"an IPv6 /48", all("2001:db8::/48"), 20},
		{"three IPv6 /48 of one /40", all("2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:3::/48"), 40},
		{"an IPv6 /40", all("2001:db8::/40"), 40},
		{"an IPv6 /32", all("2001:db8::/32"), 80},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.server.delay = 0
				b.guard.Fingerprints = nil
				b.guessForADay(c.source, c.want)
			})
		})
	}
}

// Three sources guess twice each at every account, repeatedly: this once locked ten of
// ten accounts in ten minutes, every ten minutes of the day.
func TestThreeSourcesThatGuessTwiceEachLockFew(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		for round := range 23 * 6 {
			for account := range 10 {
				for source := range 3 {
					for guess := range freeGuesses {
						b.from(botnet(source), fmt.Sprintf("user%d-%d", round, account), fmt.Sprint("guess", source, guess))
					}
				}
			}
			time.Sleep(10 * time.Minute)
		}
		if n := b.locked(); n > 3*grants {
			b.t.Errorf("three sources have locked %d accounts in a day, want %d at most", n, 3*grants)
		}
	})
}

// However many sources without a grant guess at the same time, at one gateway or
// several, the account counts no more failures than need no grant. This holds for names
// without a login as well.
func TestABurstOfManySourcesWithoutAGrantPassesTwice(t *testing.T) {
	for _, name := range []string{"lan", "nobody"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				gateways := []*guard.Guard{b.guard}
				for range 2 {
					b.restarted() // another gateway on the same store
					gateways = append(gateways, b.guard)
				}
				const sources = 20
				for _, g := range gateways {
					b.guard = g
					for n := range sources {
						spendAll(b.guard.Throttle, botnet(n).Addr())
					}
				}
				outcomes := make(map[auth.Outcome]int)
				var mu sync.Mutex
				var wg sync.WaitGroup
				for i, g := range gateways {
					for n := range sources {
						for guess := range freeGuesses {
							wg.Go(func() {
								password := fmt.Sprint("guess", i, n, guess)
								v := g.Attempt(context.Background(), auth.Attempt{
									Login: name, Password: auth.NewSecret(password), Source: botnet(n), Verify: b.server.verify(password),
								})
								mu.Lock()
								defer mu.Unlock()
								outcomes[v.Outcome]++
							})
						}
					}
				}
				wg.Wait()
				if n := len(gateways) * sources * freeGuesses; outcomes[auth.WrongPassword] != freeGuesses || outcomes[auth.Throttled] != n-freeGuesses {
					b.t.Errorf("the outcomes are %v, want %d judged and the other %d refused", outcomes, freeGuesses, n-freeGuesses)
				}
			})
		})
	}
}

// Each replica counts grants separately. Guesses without a grant are counted once for all.
func TestReplicasMultiplyGrantsButNotFreeGuesses(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		gateways := []*guard.Guard{b.guard}
		b.restarted() // a second gateway on the same store
		gateways = append(gateways, b.guard)
		for account := range 100 {
			for n, g := range gateways {
				b.guard = g
				for guess := range toLock {
					b.from(elsewhere, fmt.Sprint("user", account), fmt.Sprint("guess", n, guess))
				}
			}
			time.Sleep(5 * time.Minute)
		}
		if n := b.locked(); n != 2*grants {
			b.t.Errorf("one source has locked %d accounts through two gateways, want %d", n, 2*grants)
		}
	})
}

// The owner in a hotel mistypes twice, or guessers have guessed twice before.
func TestAnOwnerInANewPlaceGetsIn(t *testing.T) {
	for _, who := range []string{"the owner", "strangers"} {
		t.Run(who, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				hotel := elsewhere
				for i := range freeGuesses {
					from := hotel
					if who == "strangers" {
						from = botnet(i)
					}
					b.want(b.from(from, "lan", fmt.Sprint("mistyped", i)), auth.WrongPassword)
				}
				b.want(b.from(hotel, "lan", good), auth.Accepted)
			})
		})
	}
}

// Guessers have made two guesses at each of 300 accounts, from everywhere. Their owners
// come to a place where they have never been, all at the same time: none of them is
// refused, although the place has few grants, since right passwords return theirs.
func TestOwnersAtANewPlaceGetInAfterGuessesAtAll(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		colleagues := b.employ("colleague", 300)
		for i, c := range colleagues {
			b.want(b.from(office, c, good), auth.Accepted)
			for guess := range freeGuesses {
				b.want(b.from(botnet(i), c, fmt.Sprint("guess", guess)), auth.WrongPassword)
			}
		}
		var wg sync.WaitGroup
		for _, c := range colleagues {
			wg.Go(func() { b.want(b.from(elsewhere, c, good), auth.Accepted) })
		}
		wg.Wait()
		// People who mistype do not keep their colleagues out.
		for i, c := range colleagues {
			for guess := range freeGuesses {
				b.want(b.from(botnet(300+i), c, fmt.Sprint("guess", guess)), auth.WrongPassword)
			}
		}
		another := within("198.51.100.0/24", 7)
		for _, c := range colleagues[:50] {
			b.want(b.from(another, c, "Mat-khua-1"), auth.WrongPassword)
			b.want(b.from(another, c, good), auth.Accepted)
		}
	})
}

// Where an account was logged in to lately, guesses from other places, and grants that a
// guesser nearby has used, do not affect its owner.
func TestAnOwnerInAKnownPlaceNeedsNoGrant(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.restarted()
		b.spendGrants(office)
		for i := range toLock - 1 {
			b.want(b.from(botnet(i), "lan", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try("lan", good), auth.Accepted)
		for i := range toLock - 2 {
			b.want(b.from(botnet(10+i), "lan", fmt.Sprint("guess", 10+i)), auth.WrongPassword)
		}
		b.want(b.try("lan", "mistyped"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Accepted)
	})
}

// The mail server takes ten seconds for two guesses. Guessers without a grant wait for
// them; the owner, who came later, does not wait for guessers.
func TestWaitingGuessersKeepNoOwnerWaiting(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.restarted()
		for n := range 10 {
			spendAll(b.guard.Throttle, botnet(n).Addr())
		}
		b.server.delay = 10 * time.Second
		var judged sync.WaitGroup
		done := make(chan string, 11)
		for n := range 10 {
			judged.Go(func() {
				b.from(botnet(n), "lan", fmt.Sprint("guess", n))
				done <- "a stranger"
			})
		}
		time.Sleep(time.Second)
		synctest.Wait() // two are at the mail server
		b.server.delay = time.Second
		b.want(b.try("lan", good), auth.Accepted)
		done <- "the owner"
		if first := <-done; first != "the owner" {
			b.t.Errorf("%s was answered before the owner", first)
		}
		judged.Wait()
	})
}

// An attempt that was right returns its grant, and so does one that the mail server did
// not answer: it locks no account, and after an outage the grants are there for users
// who come back.
func TestAGrantIsSpentByAWrongPasswordOnly(t *testing.T) {
	answers := map[string]auth.Answer{
		"right":     {Judgement: auth.JudgedRight},
		"in doubt":  {Judgement: auth.InDoubt},
		"unreached": {Judgement: auth.Unreached},
		"refused":   {Judgement: auth.RefusedOtherwise},
		"wrong":     {Judgement: auth.JudgedWrong},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				for n := range grants + 1 {
					for guess := range freeGuesses {
						b.want(b.from(botnet(guess), fmt.Sprint("user", n), fmt.Sprint("guess", guess)), auth.WrongPassword)
					}
				}
				b.server.answer = &answer
				for n := range grants {
					b.from(elsewhere, fmt.Sprint("user", n), "one more")
				}
				b.server.answer = nil
				want := auth.WrongPassword
				if name == "wrong" {
					want = auth.Throttled
				}
				b.want(b.from(elsewhere, fmt.Sprint("user", grants), "one more"), want)
			})
		})
	}
}

// A rule that locks nothing needs no grants.
func TestWhereNothingLocksAnAccountNeedsNoGrant(t *testing.T) {
	for _, mode := range []auth.Mode{auth.Warn, auth.Off} {
		t.Run(mode.String(), func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, r *auth.Rules) {
				withThrottle(g, r)
				r.Lockout.Mode = mode
			}, func(b *bench) {
				for n := range 20 {
					spendAll(b.guard.Throttle, botnet(n).Addr())
					b.want(b.from(botnet(n), "lan", fmt.Sprint("guess", n)), auth.WrongPassword)
				}
			})
		})
	}
}

// A lock that ends by itself also ends the failures before it.
func TestALockThatEndsByItselfLeavesTheFreeGuesses(t *testing.T) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withThrottle(g, r)
		r.Lockout.UnlockAfter = 15 * time.Minute
	}, func(b *bench) {
		spendAll(b.guard.Throttle, elsewhere.Addr())
		for guess := range toLock {
			b.want(b.from(botnet(0), "lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Locked)
		time.Sleep(15 * time.Minute)
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
	})
}

// An admin unlocked the account: where it had failed, or its user was refused, only the
// wrong password that locks it again needs a grant.
func TestAForgivenAccountIsLockedAgainOnlyWithAGrant(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		sources := []netip.AddrPort{botnet(0), botnet(1), botnet(2), botnet(3)}
		for _, s := range sources {
			spendAll(b.guard.Throttle, s.Addr())
		}
		unlockAt(b.guard.Throttle, lan, sources...)
		judged := 0
		for i := range 4 * freeGuesses {
			if b.from(sources[i%4], "lan", fmt.Sprint("guess", i)).Outcome == auth.WrongPassword {
				judged++
			}
		}
		if judged != toLock-1 || b.locked() != 0 {
			b.t.Errorf("%d guesses were judged and %d accounts are locked, want %d and none", judged, b.locked(), toLock-1)
		}
	})
}

// An allowed source needs no grant. The account's own lock stays.
func TestAnAllowedSourceNeedsNoGrant(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		spendAll(b.guard.Throttle, elsewhere.Addr())
		for guess := range freeGuesses {
			b.want(b.from(botnet(guess), "lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
		allow(b.guard.Throttle, elsewhere.Addr(), time.Now().Add(time.Hour))
		for guess := freeGuesses; guess < toLock; guess++ {
			b.want(b.from(elsewhere, "lan", fmt.Sprint("guess", guess)), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Locked)
	})
}

// A guesser with many sources makes the throttle forget other sources, but not the
// networks that contain them, nor anything of the other address family.
func TestManySourcesDisplaceNoNetwork(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Throttle = &throttle.Throttle{Sources: 64} }, func(b *bench) {
		b.spendGrants(elsewhere)
		for n := range 400 { // 400 sources of one IPv6 /32, in 200 /40s
			b.from(within("2001:db8::/32", n), "somebody", fmt.Sprint("guess", n))
		}
		if n := guess(b.guard.Throttle, elsewhere.Addr(), "untried", 6); n != freeGuesses {
			b.t.Errorf("%d guesses pass at a source that has spent its grants, want %d", n, freeGuesses)
		}
		// A /24 with four times as many addresses as are remembered uses up its share.
		network := "198.51.100.0/24"
		for n := range 4 {
			b.spendGrants(within(network, n))
		}
		for n := range 256 {
			b.from(within(network, n), "somebody", fmt.Sprint("guess", n))
		}
		if n := guess(b.guard.Throttle, within(network, 0).Addr(), "untried", 6); n != freeGuesses {
			b.t.Errorf("%d guesses pass in a network that has spent its grants, want %d", n, freeGuesses)
		}
	})
}

// A carrier's customers get a new address of one network each time. A guesser there
// guesses at so many accounts that the network is refused. Users who have logged in from
// there lately are not affected, also after a restart of the gateway.
func TestKnownUsersOfARefusedNetworkGetIn(t *testing.T) {
	for _, network := range []string{"203.0.113.0/24", "2001:db8::/48", "2001:db8::/40", "2001:db8::/32"} {
		t.Run(network, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.server.delay = 0
				b.employ("minh", 1)
				b.want(b.from(within(network, 250), "lan", good), auth.Accepted)
				b.want(b.from(office, "minh0", good), auth.Accepted)
				b.restarted()
				for n := range 200 {
					b.from(within(network, n), fmt.Sprint("victim", n), "guess")
				}
				b.want(b.from(within(network, 251), "lan", good), auth.Accepted)
				b.from(within(network, 0), "victim200", "guess") // a login makes room for one
				b.want(b.from(within(network, 252), "minh0", good), auth.Throttled)
			})
		})
	}
}

// Names beyond the room for unknown ones share counters: to fill one needs a grant, as
// locking an account does; otherwise a source could keep any newcomer out.
func TestASourceFillsFewSharedCounters(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		b.store.MaxUnknown = 1
		b.want(b.from(office, "nobody", "x"), auth.WrongPassword)
		filled := 0
		for n := range 100 {
			for guess := range toLock {
				b.from(botnet(n%3), fmt.Sprint("newcomer", n), fmt.Sprint("guess", guess))
			}
			if v := b.from(office, fmt.Sprint("newcomer", n), "x"); v.Outcome == auth.Locked {
				filled++
			}
			time.Sleep(10 * time.Minute)
		}
		if filled != 3*grants {
			b.t.Errorf("three sources have filled %d counters in a day, want %d", filled, 3*grants)
		}
	})
}
