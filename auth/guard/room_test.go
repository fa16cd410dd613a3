package guard_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// Names that have failed once are kept for a day, although they count for ten minutes
// only: in a day more of them can come than a source or network has room for. A guesser
// with so many names does not displace an account that remembers a login nearby, neither
// in a provider's network nor in the guesser's own office.
func TestNamesThatFailedOnceDisplaceNoOwner(t *testing.T) {
	for _, c := range []struct {
		place    string
		attacker func(i int) netip.AddrPort
		owner    netip.AddrPort // the source of the owner's logins, before and after
		later    netip.AddrPort
		people   int
	}{
		{
			"a /48 in a provider's /32", func(i int) netip.AddrPort { return within("2001:db8:aa00::/48", i%256) },
			netip.MustParseAddrPort("[2001:db8:1:1::1]:1"), netip.MustParseAddrPort("[2001:db8:1:2::1]:1"), 3,
		},
		{"an office of 100", func(int) netip.AddrPort { return office }, office, office, 100},
	} {
		t.Run(c.place, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.server.delay = 0
				owners := b.employ("owner", c.people)
				for _, o := range owners {
					b.want(b.from(c.owner, o, good), auth.Accepted)
				}
				time.Sleep(25 * time.Hour)
				for _, o := range owners[1:] { // one of them is on leave
					b.want(b.from(c.owner, o, good), auth.Accepted)
				}
				guesses := 0
				for began := time.Now(); time.Since(began) < 22*time.Hour; time.Sleep(10*time.Minute + 31*time.Second) {
					for i := range 150 {
						v := b.from(c.attacker(i), fmt.Sprint("made-up-", guesses, "-", i), "x")
						if v.Outcome != auth.WrongPassword {
							break
						}
						guesses++
					}
				}
				if guesses < throttle.MaxPerSource {
					t.Errorf("only %d guesses pass", guesses)
				}
				// The owner is back, with a new password.
				b.server.password["owner0@example.vn"] = "Mat-khau-moi-1"
				b.want(b.from(c.later, "owner0", "Mat-khau-moi-1"), auth.Accepted)
			})
		})
	}
}

// Few names are remembered at a time, however many are tried.
func TestASourceIsRememberedWithFewNames(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		for n := 0; n < 2000; time.Sleep(10*time.Minute + 31*time.Second) {
			for b.from(elsewhere, fmt.Sprint("made-up-", n), "x").Outcome == auth.WrongPassword {
				n++
			}
		}
		if n := accountsOf(b.guard.Throttle); n > 100 {
			t.Errorf("%d names are remembered", n)
		}
	})
}

// A colleague has all day: guesses at accounts that were logged in to from the same
// address long ago are remembered there, with any pauses between them.
func TestASlowGuesserBehindTheOwnersAddressLocksFive(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		owners := b.employ("owner", 9)
		for _, o := range owners {
			b.want(b.from(office, o, good), auth.Accepted)
		}
		time.Sleep(25 * time.Hour)
		b.restarted()
		for round := range 40 {
			for _, o := range owners {
				b.from(office, o, fmt.Sprint("guess", round))
			}
			time.Sleep(10*time.Minute + 31*time.Second)
		}
		if n := b.locked(); n != 5 {
			t.Errorf("%d accounts are locked, want 5", n)
		}
	})
}
