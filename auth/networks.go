package auth

import "net/netip"

// networksAbove returns the networks above a source, the smallest first: the /24
// of an IPv4 address; the /48, /40 and /32 of an IPv6 address, which are what a
// site, a large customer and a provider are given (RFC 6177 section 2; regional
// registries allocate a /32 to a provider). Whoever holds one of them holds all
// sources in it, so each has a share of its own of what a source may do.
func networksAbove(source netip.Prefix) []netip.Prefix {
	bits := []int{24}
	if source.Addr().Is6() {
		bits = []int{48, 40, 32}
	}
	var above []netip.Prefix
	for _, n := range bits {
		if n < source.Bits() {
			above = append(above, netip.PrefixFrom(source.Addr(), n).Masked())
		}
	}
	return above
}
