package auth

import "net/netip"

// source is where the attempts of tests come from.
var source = netip.MustParseAddrPort("10.1.2.3:40000")

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
