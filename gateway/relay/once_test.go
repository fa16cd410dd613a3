package relay

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A pair that is kicked in the moment in which its last direction ends has one end: its
// owner gives back there what belongs to it. Both wait for the lock here, so that the
// kick often comes between the end of the direction and that of the pair.
func TestAPairThatIsKickedAtItsEndEndsOnce(t *testing.T) {
	const pairs = 50_000
	var ends atomic.Int32
	for range pairs {
		p := &Pair{active: 1, options: Options{Done: func(Result) { ends.Add(1) }}}
		for i := range p.directions {
			near, far := net.Pipe()
			p.directions[i] = direction{pair: p, number: i, from: near, to: far, state: over}
		}
		p.directions[0].state = carried
		var wg sync.WaitGroup
		p.mu.Lock()
		wg.Go(p.directions[0].done)
		runtime.Gosched()
		wg.Go(p.Kick)
		runtime.Gosched()
		p.mu.Unlock()
		wg.Wait()
	}
	if n := ends.Load(); n != pairs {
		t.Errorf("%d pairs ended %d times", pairs, n)
	}
}
