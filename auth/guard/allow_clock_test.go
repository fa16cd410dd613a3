package guard_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// A source that was allowed for 4 hours while the clock was ahead: the allowance ends
// when an administrator ends it, and by itself soon after the clock is right.
func TestASourceAllowedWhileTheClockWasAheadCanBeEnded(t *testing.T) {
	var clock wallClock
	inBubble(t, func(g *guard.Guard, r *auth.Rules) { clock.watched(g, r); withThrottle(g, r) }, func(b *bench) {
		b.learnClock()
		clock.set(months14)
		b.allow("203.0.113.7", 4*time.Hour)
		clock.set(0)
		b.guard.Rules() // compares the clock
		b.accept()
		synctest.Wait()
		time.Sleep(8 * 24 * time.Hour)
		if list := b.guard.AllowedSources(); len(list) != 0 {
			t.Errorf("8 days after the clock was accepted still allowed, for %s more: %+v", list[0].Until.Sub(clock.now()), list)
		}
		if _, err := b.guard.EndAllowedSource(context.Background(), netip.MustParseAddr("203.0.113.7"), act); err != nil {
			t.Log(err)
		}
		if list := b.guard.AllowedSources(); len(list) != 0 {
			t.Errorf("the allowance was ended, but the source is still allowed: %+v", list)
		}
	})
}
