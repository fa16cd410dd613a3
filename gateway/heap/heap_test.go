package heap

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

const mib = 1 << 20

func TestTheRoomIsForABusyProcessWithASmallHeap(t *testing.T) {
	p := Policy{Room: 32 * mib, Busy: 4 * mib, Worth: mib}
	for _, c := range []struct {
		what        string
		busy        bool
		live, roots uint64
		least, most uint64 // at which it may be collected
	}{
		{"nothing lives", true, 0, 0, 30 * mib, 33 * mib},
		{"little lives", true, 2 * mib, mib / 2, 30 * mib, 33 * mib},
		{"a good deal lives", true, 12 * mib, mib, 30 * mib, 33 * mib},
		{"half the room lives", true, 18 * mib, mib, 37 * mib, 37 * mib},
		{"more than the room lives", true, 100 * mib, 20 * mib, 220 * mib, 220 * mib},
		{"quiet", false, 2 * mib, mib / 2, 4 * mib, 5 * mib},
		{"quiet and large", false, 100 * mib, 20 * mib, 220 * mib, 220 * mib},
	} {
		got := uint64(usual)
		k := keeper{Policy: p, percent: usual, collect: func(percent int) { got = uint64(percent) }, giveBack: func() {}}
		u := usage{live: c.live, roots: c.roots}
		if c.busy {
			u.allocated = p.Busy
		}
		k.look(u)
		// As the runtime reckons.
		target := max(least*got/100, c.live+(c.live+c.roots)*got/100)
		if target < c.least || target > c.most {
			t.Errorf("%s: GOGC=%d, collected at %d KiB; want %d to %d", c.what, got, target>>10, c.least>>10, c.most>>10)
		}
	}
}

func TestMemoryIsGivenBackWhenABusyProcessBecomesQuiet(t *testing.T) {
	returned, percent := 0, usual
	k := keeper{Policy: Policy{Room: 32 * mib, Busy: 4 * mib, Worth: mib}, percent: usual,
		collect: func(p int) { percent = p }, giveBack: func() { returned++ }}
	var u usage
	u.live = 3 * mib
	for i, c := range []struct {
		allocates uint64
		busy      bool
		returned  int
	}{
		{100, false, 0},
		{50 * mib, true, 0},
		{50 * mib, true, 0},
		{100, false, 1},
		{100, false, 1}, // there is nothing more
		{mib / 2, false, 1},
		{mib / 2, false, 2}, // little by little it is worth it as well
		{0, false, 2},
		{4 * mib, true, 2},
	} {
		u.allocated += c.allocates
		k.look(u)
		if k.busy != c.busy || (percent > usual) != c.busy || returned != c.returned {
			t.Errorf("step %d: busy %v, GOGC=%d, given back %d times; want busy %v, %d times", i, k.busy, percent, returned, c.busy, c.returned)
		}
	}
}

// A heap that has grown since the last look is not measured by what lived then.
func TestTheRoomIsMeasuredAgainAfterEachCollection(t *testing.T) {
	percent := usual
	k := keeper{Policy: Policy{Room: 32 * mib, Busy: 4 * mib}, percent: usual, collect: func(p int) { percent = p }, giveBack: func() {}}
	k.look(usage{allocated: 10 * mib, live: mib})
	if percent < 500 {
		t.Fatalf("GOGC=%d while little lives", percent)
	}
	k.collected(usage{allocated: 80 * mib, live: 60 * mib})
	if percent != usual {
		t.Fatalf("GOGC=%d with 60 MiB", percent)
	}
}

var kept [][]byte

func TestABurstGetsRoomBeforeTheNextLook(t *testing.T) {
	percent := usual
	k := keeper{Policy: Policy{Room: 32 * mib, Busy: 4 * mib}, percent: usual, collect: func(p int) { percent = p }, giveBack: func() {}}
	k.look(usage{allocated: mib, live: mib})
	k.collected(usage{allocated: 4 * mib, live: mib})
	if percent != usual {
		t.Fatalf("GOGC=%d before it is busy", percent)
	}
	k.collected(usage{allocated: 5 * mib, live: mib})
	if percent < 500 {
		t.Fatalf("GOGC=%d", percent)
	}
}

// With the runtime itself: a process that makes garbage is collected seldom, and
// what it has left is gone when it has become quiet.
func TestTheRuntimeObeys(t *testing.T) {
	t.Setenv("GOGC", "")
	p := Policy{Room: 64 * mib, Every: 20 * time.Millisecond, Busy: 64 << 10, Worth: 64 << 10}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	read := func(name string) uint64 {
		s := []metrics.Sample{{Name: name}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	await := func(what string, reached func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !reached(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: GOGC=%d, %d octets free", what, read("/gc/gogc:percent"), read("/memory/classes/heap/free:bytes"))
			}
		}
	}
	await("room while it is busy", func() bool {
		for range 64 {
			kept = append(kept, make([]byte, 1<<10))
		}
		if len(kept) > 1<<12 {
			kept = nil
		}
		return read("/gc/gogc:percent") > 300
	})
	kept = make([][]byte, 0, 40)
	for range 40 { // more than half of the room lives
		kept = append(kept, make([]byte, mib))
	}
	debug.FreeOSMemory()
	await("no room for a large heap", func() bool {
		_ = make([]byte, 64<<10)
		return read("/gc/gogc:percent") < 110
	})
	kept = nil
	await("memory given back", func() bool {
		return read("/gc/gogc:percent") == 100 && read("/memory/classes/heap/objects:bytes") < 16*mib && read("/memory/classes/heap/free:bytes") < 4*mib
	})
	cancel()
	<-done
}

func TestGOGCOfTheOperatorStands(t *testing.T) {
	t.Setenv("GOGC", "50")
	before := debug.SetGCPercent(50)
	defer debug.SetGCPercent(before)
	Policy{Room: 64 * mib, Every: time.Millisecond}.Run(t.Context()) // returns
	if got := debug.SetGCPercent(50); got != 50 {
		t.Fatalf("GOGC=%d", got)
	}
}
