package guard_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// The first morning of the gateway in an office of 300 people behind one address.
// No account is proven there yet. The people arrive one after the other, 5 % of them
// with a wrong saved password, and one infected PC guesses at all 320 mailboxes of the
// office, 20 of which belong to people on leave.
type morning struct {
	guesses time.Duration // the interval between guesses of the infected PC,
	since   time.Duration // from this time of the day on,
	cleaned time.Duration // until this one; 0: noon
	come    time.Duration // the people arrive within this time from seven o'clock
	warn    bool          // the lockout is in mode warn
	known   string        // the known network that contains the office; "" for none
	allowed bool          // an administrator allows the office when the PC is cleaned
}

// outcome is the result of such a morning.
type outcome struct {
	refused int // people whose first try with the right password was refused for now
	late    int // people who could not log in within 10 minutes after their arrival
	out     int // people who had not logged in at noon, including the locked ones
	locked  int // mailboxes at noon
}

func (m morning) play(t *testing.T) (o outcome) {
	t.Helper()
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withThrottle(g, r)
		if m.warn {
			r.Lockout.Mode = auth.Warn
		}
	}, func(b *bench) {
		b.server.delay, b.guard.Fingerprints = 0, nil
		if m.known != "" {
			b.knowNetworks(m.known)
		}
		people := b.employ("nguoi", 300)
		all := append(people[:len(people):len(people)], b.employ("vang", 20)...)
		midnight := time.Now()
		// No two steps happen at the same instant, so that each run is the same.
		clock := func(at time.Duration) { time.Sleep(at - time.Since(midnight)) }
		const noon = 12 * time.Hour

		work, stop := context.WithTimeout(context.Background(), noon)
		defer stop()
		var running sync.WaitGroup
		cleaned := noon
		if m.cleaned > 0 {
			cleaned = m.cleaned
		}
		running.Go(func() { // the infected PC
			clock(m.since)
			random := rand.New(rand.NewPCG(1, 2))
			for i := 0; time.Since(midnight) < cleaned; i++ {
				b.from(office, all[random.IntN(len(all))], fmt.Sprint("guess", i))
				time.Sleep(m.guesses)
			}
		})
		if m.allowed {
			running.Go(func() {
				clock(cleaned + time.Minute/2 + time.Nanosecond)
				if _, err := b.guard.AllowSource(work, office.Addr(), 4*time.Hour, act); err != nil {
					t.Error(err)
				}
			})
		}
		var mu sync.Mutex
		for i, login := range people {
			running.Go(func() {
				come := 7*time.Hour + time.Duration(i*7919%300)*m.come/300 + time.Duration(i+1)*time.Microsecond
				clock(come)
				if i%20 == 0 { // a wrong password is saved; its user enters the right one
					b.from(office, login, "da-cu")
					time.Sleep(time.Minute)
					come += time.Minute
				}
				for try, in := 0, false; work.Err() == nil; try++ {
					v := b.from(office, login, good)
					mu.Lock()
					switch {
					case v.Outcome == auth.Accepted && !in:
						in = true
						o.out--
						if time.Since(midnight)-come <= 10*time.Minute {
							o.late--
						}
					case v.Outcome == auth.Throttled && try == 0:
						o.refused++
					}
					mu.Unlock()
					wait := 10 * time.Minute // the checks of mail programs
					switch {
					case in:
						wait = 30 * time.Minute // mostly on an open connection
					case try < 4:
						wait = 3 * time.Minute // the user presses the button
					}
					time.Sleep(wait)
				}
			})
		}
		clock(noon - time.Nanosecond)
		mu.Lock()
		o.out, o.late, o.locked = o.out+300, o.late+300, b.locked()
		result := o
		mu.Unlock()
		stop()
		running.Wait()
		o = result
	})
	return o
}

// knowNetworks configures the networks as known.
func (b *bench) knowNetworks(networks ...string) {
	p := guard.Policy{Names: &auth.Namer{Default: "example.vn"}, Rules: b.guard.Rules()}
	for _, n := range networks {
		p.KnownNetworks = append(p.KnownNetworks, netip.MustParsePrefix(n))
	}
	b.guard.SetPolicy(p)
}

// Without the setting the infected PC makes the gateway refuse the first login of about
// 100 people, many of them for more than ten minutes. With it mainly those wait whose
// account it has locked, at most as many as one address may lock. If it guesses once a
// second and passwords lock, only finding it helps.
func TestTheFirstMorningOfAnOfficeWithAnInfectedPC(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name           string
		scene          morning
		unknown, known outcome
	}{
		{
			"all at eight, no PC guesses",
			morning{guesses: 24 * hour, since: 13 * hour, come: time.Minute},
			outcome{}, outcome{},
		},
		{
			"a guess each 10 s from seven on, people come within 4 hours",
			morning{guesses: 10 * time.Second, since: 7 * hour, come: 4 * hour},
			outcome{refused: 94, late: 33, out: 5, locked: 10}, outcome{refused: 21, late: 13, out: 13, locked: 24},
		},
		{
			"a guess each 10 s from midnight on, people come within 2 hours",
			morning{guesses: 10 * time.Second, come: 2 * hour},
			outcome{refused: 146, late: 82, out: 2, locked: 14}, outcome{refused: 38, late: 28, out: 16, locked: 28},
		},
		{
			"a guess each 30 s from midnight on, people come within 4 hours",
			morning{guesses: 30 * time.Second, come: 4 * hour},
			outcome{refused: 104, late: 55, out: 3, locked: 3}, outcome{refused: 19, late: 17, out: 10, locked: 10},
		},
		{
			"nothing locks: a guess each 30 s from midnight on, people come within 4 hours",
			morning{warn: true, guesses: 30 * time.Second, come: 4 * hour},
			outcome{refused: 33, late: 21}, outcome{},
		},
		{
			"nothing locks: a guess each second from seven on, people come within 2 hours",
			morning{warn: true, guesses: time.Second, since: 7 * hour, come: 2 * hour},
			outcome{refused: 194, late: 112}, outcome{refused: 52, late: 1},
		},
		{
			"a guess each second, but the PC is found at half past nine and the office allowed to go on",
			morning{guesses: time.Second, since: 7 * hour, come: 2 * hour, cleaned: 9*hour + 30*time.Minute, allowed: true},
			outcome{refused: 263, late: 245, out: 14, locked: 18}, outcome{refused: 235, late: 209, out: 13, locked: 20},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.scene.play(t); got != c.unknown {
				t.Errorf("not known: %+v, want %+v", got, c.unknown)
			}
			c.scene.known = "10.1.2.0/24"
			got := c.scene.play(t)
			if got != c.known {
				t.Errorf("known: %+v, want %+v", got, c.known)
			}
			// The number that one address may lock.
			if most := grants + (300-got.out)/10; got.locked > most {
				t.Errorf("%d are locked, want %d at most", got.locked, most)
			}
		})
	}
}

// Sources in known networks guess all day at 150 accounts. They lock as many as in any
// other network.
func TestWhatKnownNetworksLockInADay(t *testing.T) {
	const locks = grants
	for _, c := range []struct {
		name    string
		known   []string
		sources func(i int) netip.AddrPort
		want    int
	}{
		{"one address", []string{"203.0.113.0/32"}, func(int) netip.AddrPort { return within("203.0.113.0/24", 0) }, locks},
		{"one of a /24", []string{"203.0.113.0/24"}, func(int) netip.AddrPort { return within("203.0.113.0/24", 0) }, locks},
		{"16 addresses", []string{"203.0.113.0/28"}, func(i int) netip.AddrPort { return within("203.0.113.0/24", i%16) }, 4 * locks},
		{"an IPv4 /24", []string{"203.0.113.0/24"}, func(i int) netip.AddrPort { return within("203.0.113.0/24", i) }, 4 * locks},
		{"two /24 of an IPv4 /16", []string{"203.0.0.0/16"}, func(i int) netip.AddrPort {
			return within([]string{"203.0.113.0/24", "203.0.114.0/24"}[i%2], i/2)
		}, 8 * locks},
		{"two networks", []string{"203.0.113.0/24", "198.51.100.0/24"}, func(i int) netip.AddrPort {
			return within([]string{"203.0.113.0/24", "198.51.100.0/24"}[i%2], i/2)
		}, 8 * locks},
		{"an IPv6 /48", []string{"2001:db8::/48"}, func(i int) netip.AddrPort { return within("2001:db8::/48", i) }, 4 * locks},
		{"an IPv6 /40", []string{"2001:db8::/40"}, func(i int) netip.AddrPort { return within("2001:db8::/40", i) }, 8 * locks},
		{"an IPv6 /32", []string{"2001:db8::/32"}, func(i int) netip.AddrPort { return within("2001:db8::/32", i) }, 16 * locks},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, withThrottle, func(b *bench) {
				b.server.delay, b.guard.Fingerprints = 0, nil
				b.knowNetworks(c.known...)
				b.guessForADay(c.sources, c.want)
				if b.server.worst > toLock {
					t.Errorf("%d wrong passwords of one account were judged", b.server.worst)
				}
			})
		})
	}
}

// From a known network, as from any other, the mail server judges six wrong passwords of
// an account, also in a burst.
func TestAKnownNetworkLoosensNoLock(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.knowNetworks("10.1.2.0/24")
		var burst sync.WaitGroup
		for i := range 100 {
			burst.Go(func() { b.from(office, "lan", fmt.Sprint("guess", i)) })
		}
		burst.Wait()
		if b.server.worst != toLock || b.locked() != 1 {
			t.Errorf("%d wrong passwords were judged and %d accounts locked, want %d and 1", b.server.worst, b.locked(), toLock)
		}
		b.want(b.from(office, "lan", good), auth.Locked)
	})
}

// A guesser nearby, at the same provider, takes nothing from a known network, nor the
// other way round.
func TestNeighboursOfAKnownNetworkTakeNoneOfItsRoom(t *testing.T) {
	for _, c := range []struct{ guesses, other int }{{100, 1}, {1, 100}} { // in 203.0.113.0/28, and beyond
		inBubble(t, withThrottle, func(b *bench) {
			b.server.delay = 0
			b.knowNetworks("203.0.113.0/28")
			b.server.password["lan@example.vn"] = good
			for n := range 4 { // the limit of their network
				for i := range 30 {
					b.from(within("203.0.113.0/24", c.guesses+n), fmt.Sprint("victim", n, "-", i), "guess")
				}
			}
			b.want(b.from(within("203.0.113.0/24", c.guesses+8), "lan", good), auth.Throttled)
			b.want(b.from(within("203.0.113.0/24", c.other), "lan", good), auth.Accepted)
		})
	}
}

// A reload makes a network known, and unknown again.
func TestAReloadReplacesTheKnownNetworks(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		spend := func() { // uses up the guesses without a grant, and the grants
			for n := range grants {
				for i := range toLock {
					b.from(office, fmt.Sprint("victim", n), fmt.Sprint("guess", i))
				}
			}
		}
		spend()
		for i := range freeGuesses {
			b.want(b.from(office, "lan", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.from(office, "lan", good), auth.Throttled)
		b.knowNetworks("198.51.100.0/24", "10.1.2.0/24")
		if got := b.guard.KnownNetwork(office.Addr()); got.String() != "10.1.2.0/24" {
			t.Errorf("%v", got)
		}
		refused := b.guard.RefusedSources()
		if len(refused) != 1 || refused[0].Known.String() != "10.1.2.0/24" {
			t.Errorf("refused sources: %+v", refused)
		}
		b.want(b.from(office, "lan", good), auth.Accepted)
		b.knowNetworks()
		if got := b.guard.KnownNetwork(office.Addr()); got.IsValid() {
			t.Errorf("%v", got)
		}
		for i := range freeGuesses {
			b.want(b.from(office, "hoa", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.from(office, "hoa", good), auth.Throttled)
	})
}

// What a source has done before its network becomes known counts against the room that
// it has then: here ten times as much, since passwords do not lock.
func TestARefusedOfficeIsAcceptedWhenItBecomesKnown(t *testing.T) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		withThrottle(g, r)
		r.Lockout.Mode = auth.Warn
	}, func(b *bench) {
		b.server.delay = 0
		b.employ("nguoi", 2)
		for i := range 12 {
			b.from(office, fmt.Sprint("victim", i), "guess")
		}
		b.want(b.from(office, "nguoi0", good), auth.Throttled)
		b.knowNetworks("10.1.0.0/16")
		b.want(b.from(office, "nguoi0", good), auth.Accepted)
		b.knowNetworks()
		for i := range 12 {
			b.from(office, fmt.Sprint("another", i), "guess")
		}
		b.want(b.from(office, "nguoi1", good), auth.Throttled)
		// There is no more room once passwords lock.
		b.knowNetworks("10.1.0.0/16")
		b.want(b.from(office, "moi", "guess"), auth.WrongPassword)
		enforced := b.guard.Rules()
		enforced.Lockout.Mode = auth.Enforce
		b.guard.SetPolicy(guard.Policy{
			Names: &auth.Namer{Default: "example.vn"}, Rules: enforced, KnownNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		})
		b.want(b.from(office, "nguoi1", good), auth.Throttled)
	})
}
