package auth

import "net/netip"

// Source returns the unit that is throttled: the /32 of an IPv4 address, or the /64 of
// an IPv6 address, which is what one customer gets.
func Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}
