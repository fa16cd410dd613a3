package auth

import "net/netip"

// source is where the attempts of tests come from.
var source = netip.MustParseAddrPort("10.1.2.3:40000")
