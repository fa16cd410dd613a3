// Package heap says when the garbage of the gateway is collected, and when memory
// goes back to the system.
//
// What Go does by itself fits neither of the two lives that a gateway leads. At
// eight in the morning everybody logs in: each login leaves some 100 KiB of garbage
// (the TLS handshake, most of all) behind a heap of a few MiB, and since Go collects
// whenever the heap has doubled it does so many times a second, for nothing. For the
// rest of the day thousands of sessions do nothing, no garbage arises that would
// make Go look, and what the burst took is held for minutes.
//
// So there are two states. A busy process is not collected before its heap has
// reached [Policy.Room]; a larger heap may double, as usual: many sessions do not
// take more memory for it. A quiet one has no room, and what it has taken since the
// last time is collected and given back.
//
// The environment stands above this: with GOGC set nothing is done at all, and
// GOMEMLIMIT is obeyed by Go itself, whatever the room.
package heap

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Policy is how memory is used. [Default] is what was measured.
type Policy struct {
	// Room is how large the heap of a busy process may become, in octets, before it
	// is collected.
	Room uint64
	// Every is how often the process is looked at.
	Every time.Duration
	// Busy is a process that has allocated as many octets since it was last looked at.
	Busy uint64
	// Worth is how many octets must have been allocated since memory was last given
	// back, to do it again.
	Worth uint64
}

// Default is the policy of the program. From 16 MiB of room on, a login costs the
// same, with the sessions of a small office; the rest is for larger ones. What is
// busy allocates as much as some four logins a second do.
var Default = Policy{Room: 32 << 20, Every: 10 * time.Second, Busy: 4 << 20, Worth: 1 << 20}

const (
	// usual is Go's own GOGC.
	usual = 100
	// least is what a heap may become at GOGC=100 however little lives
	// (runtime/mgcpacer.go, heapMinimum). It grows with GOGC.
	least = 4 << 20
)

// Run applies the policy until ctx ends, and leaves Go's own behind. With GOGC in
// the environment it returns at once.
func (p Policy) Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	k := keeper{Policy: p, percent: usual, collect: func(percent int) { debug.SetGCPercent(percent) }, giveBack: giveBack}
	defer debug.SetGCPercent(usual)
	// How much lives is known after each collection only, and a room that was
	// measured by the one before may be too large by far.
	collected := make(chan struct{}, 1)
	watch(ctx, collected)
	tick := time.NewTicker(p.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-collected:
			k.collected(read())
		case <-tick.C:
			k.look(read())
		}
	}
}

// keeper is a policy at work. One goroutine uses it.
type keeper struct {
	Policy
	collect  func(percent int)
	giveBack func()

	busy     bool
	percent  int    // in force
	seen     uint64 // allocated when the process was last looked at
	returned uint64 // allocated when memory was last given back
}

// usage is what the runtime tells of its memory.
type usage struct {
	allocated uint64 // since the start
	live      uint64 // after the last collection
	roots     uint64 // stacks and globals, which Go adds to what lives
}

// look is called every now and then: the process is busy or quiet.
func (k *keeper) look(u usage) {
	k.busy = u.allocated-k.seen >= k.Busy
	k.collected(u)
	k.seen = u.allocated
	if !k.busy && u.allocated-k.returned >= k.Worth {
		k.returned = u.allocated
		k.giveBack()
	}
}

// collected is called after each collection. A burst is noticed here first.
func (k *keeper) collected(u usage) {
	k.busy = k.busy || u.allocated-k.seen >= k.Busy
	percent := usual
	if k.busy {
		percent = k.percentFor(u)
	}
	// Each change stops the world for a moment; small ones are not worth it.
	if d := percent - k.percent; percent == usual && d != 0 || max(d, -d) > k.percent/8 {
		k.percent = percent
		k.collect(percent)
	}
}

// percentFor is the GOGC at which the heap is collected when it fills the room, or
// has doubled. The runtime collects at live + (live+roots) * GOGC/100, and not
// before least * GOGC/100.
func (k *keeper) percentFor(u usage) int {
	if u.live >= k.Room {
		return usual
	}
	most := int(k.Room / (least / 100))
	return max(usual, min(most, int((k.Room-u.live)*100/max(1, u.live+u.roots))))
}

// giveBack collects what is garbage and returns it to the system. What lies in a
// sync.Pool is garbage in the second round only.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// watch tells of every collection, until ctx ends.
func watch(ctx context.Context, collected chan<- struct{}) {
	// Larger than what the runtime puts together with other small objects.
	sentinel := new([64]byte)
	runtime.AddCleanup(sentinel, func(ctx context.Context) {
		if ctx.Err() != nil {
			return
		}
		select {
		case collected <- struct{}{}:
		default:
		}
		watch(ctx, collected)
	}, ctx)
}

func read() usage {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(samples)
	return usage{
		allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64(),
		roots: samples[2].Value.Uint64() + samples[3].Value.Uint64(),
	}
}
