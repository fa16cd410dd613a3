package auth

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestNetworksAboveASource(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77":             "[192.0.2.0/24]",
		"::ffff:192.0.2.77":      "[192.0.2.0/24]",
		"2001:db8:1234:5678::9":  "[2001:db8:1234::/48 2001:db8:1200::/40 2001:db8::/32]",
		"2001:db8:12ff:ffff::ff": "[2001:db8:12ff::/48 2001:db8:1200::/40 2001:db8::/32]",
	} {
		if got := fmt.Sprint(networksAbove(Source(netip.MustParseAddr(addr)))); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := networksAbove(netip.Prefix{}); len(got) != 0 {
		t.Errorf("no source has networks above it: %v", got)
	}
}
