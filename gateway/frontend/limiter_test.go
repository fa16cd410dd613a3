package frontend

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that is not logged in loses its place when half of all are: the oldest
// of the source that has most.
func TestTheOldestOfTheSourceWithMostIsDisplaced(t *testing.T) {
	l := &Limiter{Early: 5}
	var displaced []string
	places := make(map[string]*Place)
	enter := func(from, name string) {
		t.Helper()
		place, ok := l.Enter(netip.MustParseAddr(from), silent, func() { displaced = append(displaced, name) })
		if !ok {
			t.Fatalf("%s is not let in", name)
		}
		places[name] = place
	}
	want := func(names ...string) {
		t.Helper()
		if !slices.Equal(displaced, names) {
			t.Fatalf("displaced %v, want %v", displaced, names)
		}
		displaced = nil
	}
	enter("192.0.2.1", "owner")
	for _, name := range []string{"a", "b", "c"} {
		enter("192.0.2.66", name)
	}
	enter("192.0.2.2", "colleague")
	want()
	enter("192.0.2.66", "d")
	want("a")
	enter("192.0.2.3", "another")
	want("b")
	// One that is logged in is none of them, and keeps its place.
	places["c"].LoggedIn()
	enter("192.0.2.4", "a fourth")
	want()
	// Each source has one: the one that came first goes.
	enter("192.0.2.5", "a fifth")
	want("owner")
	if l.total != 6 || l.leaving != 3 {
		t.Errorf("%d connections are counted, want 6: all but the 3 that are displaced, which are %d", l.total, l.leaving)
	}
	for _, place := range places {
		place.Leave()
	}
	if l.total != 0 || l.leaving != 0 || len(l.sources) != 0 || l.early.weight != 0 || len(l.early.sources) != 0 || len(l.early.ranking) != 0 {
		t.Errorf("something is left when all have gone: %+v", l)
	}
}

// Beyond the memory for all commands and records together, the source that holds most
// loses the one that holds most; small commands and a usual ClientHello are not counted.
func TestTheSourceThatHoldsMostIsDisplaced(t *testing.T) {
	l := &Limiter{Early: 100, EarlyMemory: 40 << 10}
	var displaced []string
	enter := func(from, name string) *Place {
		place, _ := l.Enter(netip.MustParseAddr(from), silent, func() { displaced = append(displaced, name) })
		return place
	}
	office := make([]*Place, 30) // many connections, and nothing held
	for i := range office {
		office[i] = enter("192.0.2.1", fmt.Sprint("office", i))
		office[i].HoldCommand(900)
		office[i].HoldRecord(2500) // a ClientHello with ML-KEM keys
	}
	token := enter("192.0.2.2", "token")
	token.HoldRecord(4 << 10)
	token.HoldCommand(4 << 10)
	a, b := enter("192.0.2.66", "a"), enter("192.0.2.66", "b")
	a.HoldCommand(16 << 10)
	b.HoldRecord(16 << 10)
	if len(displaced) != 0 {
		t.Fatalf("displaced %v within the bound", displaced)
	}
	b.HoldCommand(1500)
	if !slices.Equal(displaced, []string{"b"}) {
		t.Fatalf("displaced %v, want b", displaced)
	}
	b.HoldCommand(16 << 10) // as it goes
	token.HoldCommand(0)
	token.LoggedIn()
	token.HoldCommand(5000)
	if l.held.weight != 16 {
		t.Errorf("%d KiB are held, want 16", l.held.weight)
	}
	a.HoldCommand(30 << 10)
	a.HoldCommand(60 << 10) // alone too much: it goes itself
	if !slices.Equal(displaced, []string{"b", "a"}) {
		t.Fatalf("displaced %v, want b and a", displaced)
	}
	if l.held.weight != 0 {
		t.Errorf("%d KiB are held by nobody", l.held.weight)
	}
}

// The crowd does what a list of all places would, whatever happens in whatever order.
func TestACrowdIsWhatAListWouldBe(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(1, seed))
	type entry struct {
		place  *Place
		weight int
		since  int // when the place came in
	}
	for range 200 {
		var c crowd
		var all []*entry
		credit := make(map[netip.Prefix]int)
		total := func(source netip.Prefix) (sum int) {
			for _, e := range all {
				if e.place.source == source {
					sum += e.weight
				}
			}
			return sum
		}
		for step := range 200 {
			var e *entry
			if len(all) < 10 || rnd.IntN(3) == 0 {
				source := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(4))}), 32)
				e = &entry{place: &Place{source: source}}
				all = append(all, e)
			} else {
				e = all[rnd.IntN(len(all))]
			}
			if rnd.IntN(5) == 0 {
				credit[e.place.source] = rnd.IntN(6)
				c.credit(e.place.source, credit[e.place.source])
			}
			weight := rnd.IntN(4)
			if e.weight == 0 && weight > 0 {
				e.since = step
			}
			e.weight = weight
			c.set(e.place, &e.place.early, weight, credit[e.place.source])
			front := func(source netip.Prefix) int { // since when its oldest is in
				first := step
				for _, e := range all {
					if e.place.source == source && e.weight > 0 {
						first = min(first, e.since)
					}
				}
				return first
			}
			var oldest *entry
			sum := 0
			for _, e := range all {
				sum += e.weight
				if e.weight == 0 {
					continue
				}
				if oldest == nil {
					oldest = e
					continue
				}
				mine, its := total(e.place.source)-credit[e.place.source], total(oldest.place.source)-credit[oldest.place.source]
				switch {
				case e.place.source == oldest.place.source && e.since < oldest.since,
					mine > its,
					mine == its && e.place.source != oldest.place.source && front(e.place.source) < front(oldest.place.source):
					oldest = e
				}
			}
			if c.weight != sum {
				t.Fatalf("weight %d, want %d", c.weight, sum)
			}
			if oldest == nil {
				if len(c.sources) != 0 || len(c.ranking) != 0 {
					t.Fatalf("an empty crowd has %+v", c)
				}
				continue
			}
			if got := c.first().oldest(); got != oldest.place {
				t.Fatalf("step %d: the oldest of the source with most is another", step)
			}
		}
	}
}

// enterAt enters a connection that sets gone when it is displaced; nil if it is refused.
func enterAt(l *Limiter, from string, gone *bool) *Place {
	place, ok := l.Enter(netip.MustParseAddr(from), silent, func() { *gone = true })
	if !ok {
		return nil
	}
	return place
}

// Idle connections from very many sources displace each other, and not those who log in:
// an office behind one address that logs in, a single owner, or an office in a network
// that stands for many.
func TestAnOfficeLogsInWhileManySourcesAreIdle(t *testing.T) {
	for _, c := range []struct {
		name            string
		attackers, wave int
		many            bool
		before          int // logins before the attack
		most            int // logins that may fail
	}{
		{"an office", 125, 10, false, 10, 0},
		{"an office that has never logged in", 125, 10, false, 0, 30}, // its first waves
		{"an office of a known network", 125, 10, true, 0, 0},
		{"few attackers", 60, 10, false, 0, 0},
		{"one owner", 125, 1, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Limiter{Max: 200, PerSource: 20, Early: 100}
				if c.many {
					l.Many = func(addr netip.Addr) bool { return addr == netip.MustParseAddr("192.0.2.1") }
				}
				const tick = 50 * time.Millisecond
				type attacker struct {
					place *Place
					gone  bool
					again time.Time
				}
				attackers := make([]attacker, c.attackers)
				attack := func() {
					for i := range attackers {
						a := &attackers[i]
						if a.place != nil && a.gone {
							a.place.Leave()
							a.place, a.gone, a.again = nil, false, time.Now().Add(3*time.Second)
						}
						if a.place == nil && !time.Now().Before(a.again) {
							if a.place = enterAt(l, fmt.Sprintf("198.51.100.%d", i), &a.gone); a.place == nil {
								a.again = time.Now().Add(3 * time.Second)
							}
						}
					}
				}
				for range c.before {
					place := enterAt(l, "192.0.2.1", new(bool))
					place.LoggedIn()
					place.Leave()
				}
				for range 40 {
					attack()
					time.Sleep(tick)
				}
				logins, failed := 0, 0
				for wave := range 40 {
					// They come one after the other, and log in for 0.4 s each.
					places, gone := make([]*Place, c.wave), make([]bool, c.wave)
					for i := range places {
						places[i] = enterAt(l, "192.0.2.1", &gone[i])
					}
					for range 8 {
						attack()
						time.Sleep(tick)
					}
					for i, place := range places {
						logins++
						if place == nil || gone[i] {
							failed++
						} else {
							place.LoggedIn()
						}
						if place != nil {
							place.Leave() // or at once, as a program that looks for mail does
						}
					}
					attack()
					time.Sleep(time.Duration(wave%7) * tick)
				}
				t.Logf("%d of %d logins failed", failed, logins)
				if failed > c.most {
					t.Errorf("%d of %d logins failed, want %d at most", failed, logins, c.most)
				}
			})
		})
	}
}

// Those that are displaced while their passwords are judged take no room from others,
// until there are as many as may be early; one of them that is right is a session.
func TestTheDisplacedTakeNoRoom(t *testing.T) {
	l := &Limiter{Max: 6, Early: 3}
	var places []*Place
	gone := make([]bool, 10)
	for i := range 6 {
		place := enterAt(l, fmt.Sprintf("198.51.100.%d", i), &gone[i])
		if place == nil {
			t.Fatalf("connection %d is refused", i)
		}
		places = append(places, place)
	}
	if l.total != 3 || l.leaving != 3 || !gone[2] || gone[3] {
		t.Fatalf("%d are counted, %d displaced: %v", l.total, l.leaving, gone)
	}
	if enterAt(l, "192.0.2.1", new(bool)) != nil {
		t.Error("the displaced have no bound")
	}
	l.ended = map[netip.Prefix]int{netip.MustParsePrefix("192.0.2.50/32"): 1} // was logged in
	known := enterAt(l, "192.0.2.50", new(bool))
	if known == nil || !gone[3] {
		t.Error("one who was logged in lately is refused")
	} else if enterAt(l, "192.0.2.50", new(bool)) != nil {
		t.Error("another of his is let in")
	}
	places[1].Leave()
	places[0].LoggedIn()
	if l.total != 4 || l.leaving != 2 {
		t.Errorf("%d are counted, %d displaced, want 4 and 2", l.total, l.leaving)
	}
	last := enterAt(l, "192.0.2.1", new(bool))
	if last == nil || !gone[4] {
		t.Error("no room where one was settled")
	}
	for _, place := range append(places[2:], places[0], known, last) {
		place.Leave()
	}
	if l.total != 0 || l.leaving != 0 || len(l.sources) != 0 {
		t.Errorf("something is left when all have gone: %+v", l)
	}
}

// Many that hold the longest command displace each other, and not an office whose
// programs say hello with ML-KEM keys or log in with tokens.
func TestAnOfficeLogsInWhileManySourcesHoldMemory(t *testing.T) {
	l := &Limiter{Max: 10_000, PerSource: 1_000, Early: 5_000, EarlyMemory: 32 << 20}
	office := make([]bool, 25)
	for range office {
		place := enterAt(l, "192.0.2.1", new(bool))
		place.LoggedIn()
		place.Leave()
	}
	for i := range office {
		place := enterAt(l, "192.0.2.1", &office[i])
		place.HoldRecord(2 << 10)
		place.HoldCommand(4 << 10)
	}
	displaced := 0
	for i := range 2300 {
		gone := false
		enterAt(l, fmt.Sprintf("198.51.%d.%d", i/250, i%250), &gone).HoldCommand(16_300)
		if gone {
			displaced++
		}
	}
	if slices.Contains(office, true) {
		t.Errorf("the office lost connections: %v", office)
	}
	if l.held.weight > 32<<10 {
		t.Errorf("%d KiB are held", l.held.weight)
	}
}

// Credit for sessions that ended is forgotten.
func TestCreditEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{Early: 10}
		office := netip.MustParsePrefix("192.0.2.1/32")
		for range 200 {
			place := enterAt(l, "192.0.2.1", new(bool))
			place.LoggedIn()
			place.Leave()
		}
		open := enterAt(l, "192.0.2.1", new(bool))
		open.LoggedIn()
		early := enterAt(l, "192.0.2.1", new(bool))
		want := func(credit int) {
			t.Helper()
			enterAt(l, "198.51.100.1", new(bool)).Leave() // time passes when something happens
			if got := l.credit(office); got != credit || l.early.sources[office].credit != credit {
				t.Errorf("the credit is %d, in force %d, want %d", got, l.early.sources[office].credit, credit)
			}
		}
		want(mostRemembered + 1)
		time.Sleep(remember)
		want(mostRemembered + 1)
		time.Sleep(remember)
		want(1)
		open.Leave()
		want(1)
		time.Sleep(2 * remember)
		want(0)
		early.Leave()
		if len(l.sources) != 0 || len(l.ended) != 0 || len(l.endedBefore) != 0 {
			t.Errorf("something is left: %+v", l)
		}
	})
}
