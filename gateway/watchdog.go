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

// watchedListener is a listener of mail clients that knows what its loop is doing.
type watchedListener struct {
	*proxyproto.Listener
	// busy is since when the loop does something else than wait for the next
	// connection; nil while it waits. It has the monotonic clock in it, or setting
	// the clock ahead would look like a loop that hangs.
	busy atomic.Pointer[time.Time]
}

// Accept implements net.Listener.
func (d *watchedListener) Accept() (net.Conn, error) {
	d.busy.Store(nil)
	conn, err := d.Listener.Accept()
	d.busy.Store(new(time.Now()))
	return conn, err
}

// Sessions is how many sessions are live.
func (g *Gateway) Sessions() int { return g.sessions.Len("") }

// Alive says whether the parts of this process answer: the doors, the guard, the
// sessions, the store. An error of the store is an answer; so is a mail server
// that is down, which is not asked. What is wrong there is said by /readyz, and a
// restart would not mend it. It is called while Run runs, and does not return
// when a part hangs that knows no context: that, too, is for the caller to notice.
func (g *Gateway) Alive(ctx context.Context) error {
	if !g.draining.Load() { // else the loops have ended, or are about to
		for _, d := range g.loops {
			// The longest that it rests is a second, after an error.
			if since := d.busy.Load(); since != nil && time.Since(*since) > 5*time.Second {
				return fmt.Errorf("the door %s has not looked for connections since %s", d.Addr(), since.UTC().Format(time.RFC3339))
			}
		}
	}
	g.guard.Waiting() // takes its locks
	g.Sessions()
	if err := g.Store.Health(ctx); errors.Is(err, context.DeadlineExceeded) {
		g.Log.Warn("the store has not answered the watchdog", "err", err)
	}
	return nil
}
