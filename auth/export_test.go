package auth

import "net/netip"

// source is where the attempts of tests come from.
var source = netip.MustParseAddrPort("10.1.2.3:40000")

// Remembered is how many sources there are.
func (t *Throttle) Remembered() (n int) {
	for i := range t.shards {
		n += t.shards[i].len()
	}
	return n
}
