package frontend

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
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
	if l.total != 9 {
		t.Errorf("%d connections are counted, want all that have not left: 9", l.total)
	}
	for _, place := range places {
		place.Leave()
	}
	if l.total != 0 || l.early.weight != 0 || len(l.early.sources) != 0 || len(l.early.levels) != 0 {
		t.Errorf("something is left when all have gone: %+v", l)
	}
}

// Beyond the memory for all commands and records together, the source that holds most
// loses its oldest; small commands are not counted.
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
		office[i].HoldRecord(1000)
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
	if !slices.Equal(displaced, []string{"a"}) {
		t.Fatalf("displaced %v, want a", displaced)
	}
	a.HoldCommand(16 << 10) // as it goes
	token.HoldCommand(0)
	token.LoggedIn()
	token.HoldCommand(5000)
	if l.held.weight != 18 {
		t.Errorf("%d KiB are held, want 18", l.held.weight)
	}
	b.HoldCommand(30 << 10)
	b.HoldCommand(60 << 10) // alone too much: it goes itself
	if !slices.Equal(displaced, []string{"a", "b"}) {
		t.Fatalf("displaced %v, want a and b", displaced)
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
		since := make(map[netip.Prefix]int) // when a source got its weight
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
			before := total(e.place.source)
			weight := rnd.IntN(4)
			if e.weight == 0 && weight > 0 {
				e.since = step
			}
			e.weight = weight
			c.set(e.place, &e.place.early, weight)
			if total(e.place.source) != before {
				since[e.place.source] = step
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
				mine, its := total(e.place.source), total(oldest.place.source)
				switch {
				case e.place.source == oldest.place.source && e.since < oldest.since,
					mine > its,
					mine == its && e.place.source != oldest.place.source && since[e.place.source] < since[oldest.place.source]:
					oldest = e
				}
			}
			if c.weight != sum {
				t.Fatalf("weight %d, want %d", c.weight, sum)
			}
			if oldest == nil {
				if len(c.sources) != 0 || len(c.levels) != 0 || c.most != 0 {
					t.Fatalf("an empty crowd has %+v", c)
				}
				continue
			}
			if got := c.oldest(); got != oldest.place {
				t.Fatalf("step %d: the oldest of the source with most is another", step)
			}
		}
	}
}
