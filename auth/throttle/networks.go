package throttle

import (
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// NetworksAbove returns the networks above a source, the smallest first: the /24
// of an IPv4 address; the /48, /40 and /32 of an IPv6 address, which are what a
// site, a large customer and a provider are given (RFC 6177 section 2; regional
// registries allocate a /32 to a provider). Whoever holds one of them holds all
// sources in it, so each has a share of its own of what a source may do.
func NetworksAbove(source netip.Prefix) []netip.Prefix {
	levels, n := Attempt{Source: source}.levels()
	var above []netip.Prefix
	for _, l := range levels[1:n] {
		above = append(above, l.prefix)
	}
	return above
}

// Networks that the throttle knows to be offices of the organisation ("known
// networks") may be no larger than these, or they would be a provider's.
const (
	LargestKnownIPv4 = 16
	LargestKnownIPv6 = 32
)

// KnownNetwork returns the known network that a source or network lies in; invalid
// for none.
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

// KnownNetworkTimes is the room of known networks, in that of others, while no wrong
// password locks: then a guesser spends nothing that his colleagues need.
const KnownNetworkTimes = 10

// knownNetworks are the known networks, and their room in that of others.
type knownNetworks struct {
	networks []netip.Prefix
	times    int
}

// SetKnown replaces the known networks; locking is set while wrong passwords lock.
// What is under way ends where it began.
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
			h.wake() // perhaps there is room now
		})
	}
}

// networkSize is a size of the sources and networks that the throttle counts for.
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

// networkSizes are the sizes, each family's from its source up. Much larger
// networks have little more room: nobody holds them for each of their sources,
// and an IPv6 /32 is as easily had as an IPv4 /24.
var networkSizes = [numSizes]struct {
	bits  int
	times int // the room, in that of a source
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

// level is one of the prefixes that an attempt counts for.
type level struct {
	prefix netip.Prefix
	size   networkSize
}

// maxLevels is how many levels an attempt has at most: the source and three
// networks above it.
const maxLevels = 4

// sourceLevel returns the source of the attempt.
func (a Attempt) sourceLevel() level {
	if a.Source.Addr().Is6() {
		return level{a.Source, ipv6Network64}
	}
	return level{a.Source, ipv4Address}
}

// levels returns the source of the attempt and the networks above it, the
// smallest first, and how many they are: the source alone when an admin lets it
// go on, so that it takes nothing of what its networks may do. Where the source lies
// in a known network that counts in the place of those that are larger: neighbours at
// the same provider take nothing of its room, nor it of theirs.
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

// SeenNear returns the length of the smallest level (the source, or a network above
// it) that one of the logins of the last 30 days came from; 0 for none. known is the
// known network that the source lies in; invalid for none.
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
