package postgres

import (
	"sync"
	"time"
)

// setBack is the most by which the database's clock can be set back and this one
// goes on: more than that makes it suspect (see [guard.Guard.WatchClock]), and it
// could not be accepted before both agree.
const setBack = 5 * time.Minute

// clock follows the database's. The zero clock is this machine's.
type clock struct {
	mu sync.Mutex
	// here and there are the same instant, as this machine's monotonic clock
	// and as the shared one.
	here, there time.Time
	last        time.Time // what now returned
}

// now never returns less than it did before, unless the database's clock was set
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

// at is what the clock shows at an instant of this machine.
func (c *clock) at(here time.Time) time.Time {
	if c.here.IsZero() {
		return here.UTC()
	}
	return c.there.Add(here.Sub(c.here)).UTC()
}

// heard tells the clock that the database's showed a time between two instants
// of this machine.
func (c *clock) heard(shown, asked, answered time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	here := asked.Add(answered.Sub(asked) / 2)
	if !c.here.IsZero() {
		passed := here.Sub(c.here)
		switch slowest := c.there.Add(passed / 2); {
		case c.there.Add(passed).Sub(shown) > setBack:
			// It was wrong, and catching up would take as long as it was ahead, twice. The
			// guard takes the clock for suspect.
			c.last = shown
		case shown.Before(slowest):
			// Go at half the pace rather than stop.
			shown = slowest
		}
	}
	c.here, c.there = here, shown
}
