package postgres

import (
	"sync"
	"time"
)

// setBack is the largest step by which the database's clock can be set back while this
// clock continues. A larger step makes the clock suspect (see [guard.Guard].WatchClock),
// and it could not be accepted before the two agree.
const setBack = 5 * time.Minute

// clock follows the database's clock. The zero clock is this machine's.
type clock struct {
	mu sync.Mutex
	// here and there are the same instant, by this machine's monotonic clock
	// and by the shared clock.
	here, there time.Time
	last        time.Time // the last result of now
}

// now never returns an earlier time than before, unless the database's clock was set
// back by more than setBack.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.at(time.Now())
	if now.Before(c.last) {
		return c.last
	}
	c.last = now
	return now
}

// at returns the time of the clock at an instant of this machine.
func (c *clock) at(here time.Time) time.Time {
	if c.here.IsZero() {
		return here.UTC()
	}
	return c.there.Add(here.Sub(c.here)).UTC()
}

// heard sets the clock: the database's clock showed a time between two instants of this
// machine.
func (c *clock) heard(shown, asked, answered time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	here := asked.Add(answered.Sub(asked) / 2)
	if !c.here.IsZero() {
		passed := here.Sub(c.here)
		switch slowest := c.there.Add(passed / 2); {
		case c.there.Add(passed).Sub(shown) > setBack:
			// The clock was wrong, and catching up would take twice as long as it was
			// ahead. The guard treats the clock as suspect.
			c.last = shown
		case shown.Before(slowest):
			// Run at half speed instead of stopping.
			shown = slowest
		}
	}
	c.here, c.there = here, shown
}
