package auth

import "net/netip"

// networksAbove returns the networks above a source, the smallest first: the /24
// of an IPv4 address; the /48, /40 and /32 of an IPv6 address, which are what a
// site, a large customer and a provider are given (RFC 6177 section 2; regional
// registries allocate a /32 to a provider). Whoever holds one of them holds all
// sources in it, so each has a share of its own of what a source may do.
func networksAbove(source netip.Prefix) []netip.Prefix {
	levels, n := throttled{source: source}.levels()
	var above []netip.Prefix
	for _, l := range levels[1:n] {
		above = append(above, l.prefix)
	}
	return above
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

// isSource reports whether the size is that of a source: see [Source].
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
func (a throttled) sourceLevel() level {
	if a.source.Addr().Is6() {
		return level{a.source, ipv6Network64}
	}
	return level{a.source, ipv4Address}
}

// levels returns the source of the attempt and the networks above it, the
// smallest first, and how many they are: the source alone when an admin lets it
// go on, so that it takes nothing of what its networks may do.
func (a throttled) levels() (levels [maxLevels]level, n int) {
	levels[0] = a.sourceLevel()
	if a.allowed || !a.source.IsValid() {
		return levels, 1
	}
	last := ipv4Network24
	if levels[0].size == ipv6Network64 {
		last = ipv6Network32
	}
	n = 1
	for size := levels[0].size + 1; size <= last; size++ {
		if bits := networkSizes[size].bits; bits < a.source.Bits() {
			levels[n] = level{netip.PrefixFrom(a.source.Addr(), bits).Masked(), size}
			n++
		}
	}
	return levels, n
}
