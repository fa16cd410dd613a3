package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"congthu/gateway/proxyproto"
)

// watchedListener is a listener for mail clients that records when its accept loop left
// Accept.
type watchedListener struct {
	*proxyproto.Listener
	// busy is the time at which the loop stopped waiting for connections; nil while it
	// waits. It holds a monotonic reading: otherwise a clock set ahead would look like
	// a loop that hangs.
	busy atomic.Pointer[time.Time]
}

// Accept implements net.Listener.
func (d *watchedListener) Accept() (net.Conn, error) {
	d.busy.Store(nil)
	conn, err := d.Listener.Accept()
	d.busy.Store(new(time.Now()))
	return conn, err
}

// Sessions returns the number of live sessions.
func (g *Gateway) Sessions() int { return g.sessions.Len("") }

// Alive reports whether the parts of this process respond: the accept loops, the guard,
// the sessions, the store. An error of the store is a response, and the mail servers are
// not asked: a restart would mend neither, and /readyz reports both. Call it while Run
// runs. It does not return when a part without a context hangs, so the caller needs a
// time limit.
func (g *Gateway) Alive(ctx context.Context) error {
	if !g.draining.Load() { // otherwise the loops have ended or are about to end
		for _, d := range g.loops {
			// After an error the loop pauses for at most a second.
			if since := d.busy.Load(); since != nil && time.Since(*since) > 5*time.Second {
				return fmt.Errorf("the door %s has not looked for connections since %s", d.Addr(), since.UTC().Format(time.RFC3339))
			}
		}
	}
	g.guard.Waiting() // takes the guard's locks
	g.Sessions()
	if err := g.Store.Health(ctx); errors.Is(err, context.DeadlineExceeded) {
		g.Log.Warn("the store has not answered the watchdog", "err", err)
	}
	return nil
}
