package throttle

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"congthu/auth"
)

func TestNetworksAboveASource(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77":             "[192.0.2.0/24]",
		"::ffff:192.0.2.77":      "[192.0.2.0/24]",
		"2001:db8:1234:5678::9":  "[2001:db8:1234::/48 2001:db8:1200::/40 2001:db8::/32]",
		"2001:db8:12ff:ffff::ff": "[2001:db8:12ff::/48 2001:db8:1200::/40 2001:db8::/32]",
	} {
		if got := fmt.Sprint(NetworksAbove(auth.Source(netip.MustParseAddr(addr)))); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := NetworksAbove(netip.Prefix{}); len(got) != 0 {
		t.Errorf("no source has networks above it: %v", got)
	}
}

func TestAKnownNetworkReplacesThoseAboveIt(t *testing.T) {
	for _, c := range []struct{ addr, known, want string }{
		{"192.0.2.77", "192.0.2.77/32", "192.0.2.77/32"},
		{"192.0.2.77", "192.0.2.64/28", "192.0.2.77/32 192.0.2.64/28"},
		{"192.0.2.77", "192.0.2.0/24", "192.0.2.77/32 192.0.2.0/24"},
		{"192.0.2.77", "192.0.0.0/16", "192.0.2.77/32 192.0.2.0/24"},
		{"2001:db8:1234:5678::9", "2001:db8:1234:5678::/64", "2001:db8:1234:5678::/64"},
		{"2001:db8:1234:5678::9", "2001:db8:1234:5600::/56", "2001:db8:1234:5678::/64 2001:db8:1234:5600::/56"},
		{"2001:db8:1234:5678::9", "2001:db8:1234::/48", "2001:db8:1234:5678::/64 2001:db8:1234::/48"},
		{"2001:db8:1234:5678::9", "2001:db8:1230::/44", "2001:db8:1234:5678::/64 2001:db8:1234::/48 2001:db8:1230::/44"},
		{"2001:db8:1234:5678::9", "2001:db8::/32", "2001:db8:1234:5678::/64 2001:db8:1234::/48 2001:db8:1200::/40 2001:db8::/32"},
	} {
		throttle := new(Throttle)
		throttle.SetKnown([]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix(c.known)}, true)
		source := auth.Source(netip.MustParseAddr(c.addr))
		a := Attempt{Source: source, Known: throttle.KnownNetwork(source)}
		levels, n := a.levels()
		var got []string
		for _, l := range levels[:n] {
			got = append(got, l.prefix.String())
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s in %s: %s, want %s", c.addr, c.known, got, c.want)
		}
		if outside := throttle.KnownNetwork(auth.Source(netip.MustParseAddr("203.0.113.1"))); outside.IsValid() {
			t.Errorf("203.0.113.1 is in %v", outside)
		}
	}
}

// Attempts in progress while the known networks are replaced leave nothing behind.
func TestAnAttemptEndsWhereItBeganIfItsNetworkBecomesKnown(t *testing.T) {
	for _, known := range [][]netip.Prefix{nil, {netip.MustParsePrefix("203.0.113.0/28")}} {
		throttle := new(Throttle)
		throttle.SetKnown(known, true)
		a := strangerFrom(attacked, "lan")
		a.Known = throttle.KnownNetwork(attacked)
		throttle.Begin(a, noon)
		throttle.SetKnown([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/29")}, true)
		throttle.End(a, EndedWell, noon)
		for size := range throttle.histories {
			throttle.histories[size].Each(func(l netip.Prefix, h *sourceHistory) {
				if h.underWay != 0 {
					t.Errorf("%d are under way at %v", h.underWay, l)
				}
			})
		}
	}
}
