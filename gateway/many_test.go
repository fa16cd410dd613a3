package gateway

import (
	"net/netip"
	"testing"

	"congthu/gateway/config"
)

// A known network's addresses, and those of trusted forwarders, stand for many clients,
// as the configuration in force has them.
func TestWhoStandsForMany(t *testing.T) {
	var l live
	c := &config.Config{TrustedForwarders: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}}
	l.current.Store(&inForce{config: c})
	for _, known := range []bool{false, true} {
		for addr, many := range map[string]bool{
			"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.8": false, "2001:db8::1": known, "203.0.113.9": known, "::ffff:203.0.113.9": known, "203.0.112.9": false,
		} {
			if got := l.many(netip.MustParseAddr(addr)); got != many {
				t.Errorf("with known networks %v: %s stands for many: %v", known, addr, got)
			}
		}
		next := *c
		next.Throttle.KnownNetworks = []config.KnownNetwork{config.KnownNetwork(netip.MustParsePrefix("203.0.113.0/24")), config.KnownNetwork(netip.MustParsePrefix("2001:db8::/32"))}
		l.current.Store(&inForce{config: &next})
	}
}
