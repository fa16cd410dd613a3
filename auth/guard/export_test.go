package guard

import (
	"context"
	"net/netip"
	"time"

	"congthu/auth"
)

// Remembered is how many sources there are.
func (t *Throttle) Remembered() (n int) {
	for size, shards := range t.histories {
		for i := range shards {
			if networkSize(size).isSource() {
				n += shards[i].len()
			}
		}
	}
	return n
}

// MaxPerSource bounds the accounts remembered of one source.
const MaxPerSource = maxPerSource

// MostOfASource is how many accounts are remembered of the source that has most.
func (t *Throttle) MostOfASource() (most int) {
	for _, shards := range t.histories {
		shards.each(func(_ netip.Prefix, h *sourceHistory) { most = max(most, len(h.accounts)) })
	}
	return most
}

// len returns how many entries there are.
func (l *lru[K, V]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// SpendGrants is as if a source had brought as many accounts near their lock as it
// may.
func (t *Throttle) SpendGrants(source netip.Addr, now time.Time) {
	t.spendGrants(auth.Source(source), now)
}

// ForgiveAccount is what an unlock does.
func (t *Throttle) ForgiveAccount(name auth.Name, now time.Time, sources ...netip.AddrPort) {
	var prefixes []netip.Prefix
	for _, s := range sources {
		prefixes = append(prefixes, auth.Source(s.Addr()))
	}
	t.forgiveAccount(name, now, prefixes...)
}

// Allow lets a source go on.
func (t *Throttle) Allow(source netip.Addr, until time.Time) { t.allow(auth.Source(source), until) }

// SharedCounter returns the counter that a name shares.
func (g *Guard) SharedCounter(ctx context.Context, name auth.Name) (auth.Name, error) {
	g.init()
	return g.sharedCounter(ctx, name)
}

// Guesses is how many guesses at an account that nobody has tried yet the throttle
// lets pass, of 6.
func (t *Throttle) Guesses(source netip.Addr, now time.Time) int {
	return t.guess(strangerFrom(auth.Source(source), "untried"), 6, now)
}
