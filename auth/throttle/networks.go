package throttle

import (
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// NetworksAbove returns the networks above a source, the smallest first: the /24 of an
// IPv4 address; the /48, /40 and /32 of an IPv6 address, which are what a site, a large
// customer and a provider get (RFC 6177 section 2; regional registries allocate a /32 to
// a provider). The holder of such a network holds all sources in it, so each network has
// a limit of its own.
func NetworksAbove(source netip.Prefix) []netip.Prefix {
	levels, n := Attempt{Source: source}.levels()
	var above []netip.Prefix
	for _, l := range levels[1:n] {
		above = append(above, l.prefix)
	}
	return above
}

// The largest sizes of known networks (offices of the organisation): larger ones would
// be those of a provider.
const (
	LargestKnownIPv4 = 16
	LargestKnownIPv6 = 32
)

// KnownNetwork returns the known network that contains a source or network; invalid for
// none.
func (t *Throttle) KnownNetwork(source netip.Prefix) netip.Prefix {
	if known := t.known.Load(); known != nil {
		for _, network := range known.networks {
			if network.Bits() <= source.Bits() && network.Contains(source.Addr()) {
				return network
			}
		}
	}
	return netip.Prefix{}
}

// KnownNetworkTimes is the room of known networks, as a multiple of others', while wrong
// passwords do not lock: then a guesser uses up nothing that colleagues need.
const KnownNetworkTimes = 10

// knownNetworks are the known networks, and their room as a multiple of others'.
type knownNetworks struct {
	networks []netip.Prefix
	times    int
}

// SetKnown replaces the known networks; locking is set while wrong passwords lock.
// Attempts in progress end at the levels where they began.
func (t *Throttle) SetKnown(networks []netip.Prefix, locking bool) {
	if t == nil {
		return
	}
	t.init()
	known := &knownNetworks{networks, KnownNetworkTimes}
	if locking {
		known.times = 1
	}
	before := t.known.Swap(known)
	if before == nil {
		before = new(knownNetworks)
	}
	if slices.Equal(before.networks, networks) && (before.times == known.times || len(networks) == 0) {
		return
	}
	for size := range t.histories {
		t.histories[size].Each(func(source netip.Prefix, h *sourceHistory) {
			h.known = t.KnownNetwork(source).IsValid()
			h.wake() // there may be room now
		})
	}
}

// networkSize is a size of the sources and networks for which the throttle counts.
type networkSize uint8

const (
	ipv4Address networkSize = iota
	ipv4Network24
	ipv6Network64
	ipv6Network48
	ipv6Network40
	ipv6Network32

	numSizes
)

// networkSizes are the sizes, those of each family from its source upwards. Much larger
// networks have little more room: they are not held for the sake of each source, and an
// IPv6 /32 is as easy to get as an IPv4 /24.
var networkSizes = [numSizes]struct {
	bits  int
	times int // the room, as a multiple of a source's
}{
	ipv4Address:   {32, 1},
	ipv4Network24: {24, 4},
	ipv6Network64: {64, 1},
	ipv6Network48: {48, 4},
	ipv6Network40: {40, 8},
	ipv6Network32: {32, 16},
}

// isSource reports whether the size is that of a source: see [auth.Source].
func (s networkSize) isSource() bool { return s == ipv4Address || s == ipv6Network64 }

// level is one of the prefixes for which an attempt counts.
type level struct {
	prefix netip.Prefix
	size   networkSize
}

// maxLevels is the largest number of levels of an attempt: the source and three networks
// above it.
const maxLevels = 4

// sourceLevel returns the source of the attempt.
func (a Attempt) sourceLevel() level {
	if a.Source.Addr().Is6() {
		return level{a.Source, ipv6Network64}
	}
	return level{a.Source, ipv4Address}
}

// levels returns the source of the attempt and the networks above it, the smallest
// first, and their number. If an admin has allowed the source, it is the only level, so
// that it uses nothing of its networks' room. A known network that contains the source
// counts in place of larger ones: neighbours at the same provider use nothing of its
// room, nor it of theirs.
func (a Attempt) levels() (levels [maxLevels]level, n int) {
	levels[0] = a.sourceLevel()
	if a.Allowed || !a.Source.IsValid() {
		return levels, 1
	}
	last := ipv4Network24
	if levels[0].size == ipv6Network64 {
		last = ipv6Network32
	}
	n = 1
	for size := levels[0].size + 1; size <= last; size++ {
		bits := networkSizes[size].bits
		if a.Known.IsValid() {
			if a.Known.Bits() >= levels[n-1].prefix.Bits() {
				break
			}
			bits = max(bits, a.Known.Bits())
		}
		if bits < a.Source.Bits() {
			levels[n] = level{netip.PrefixFrom(a.Source.Addr(), bits).Masked(), size}
			n++
		}
	}
	return levels, n
}

// SeenNear returns the prefix length of the smallest level (the source, or a network
// above it) from which one of the logins of the last 30 days came; 0 for none. known is
// the known network that contains the source; invalid for none.
func SeenNear(seen []auth.Seen, source, known netip.Prefix, now time.Time) (bits int) {
	levels, n := Attempt{Source: source, Known: known}.levels()
	for _, l := range levels[:n] {
		for _, s := range seen {
			if now.Sub(s.At) < auth.SeenFor && l.prefix.Contains(s.Source.Addr()) {
				return l.prefix.Bits()
			}
		}
	}
	return 0
}
