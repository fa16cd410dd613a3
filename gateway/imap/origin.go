package imap

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// origin is what an ID command says of the client that a forwarder speaks for.
type origin struct {
	ip, port string
	twice    bool
}

// note takes a field of ID.
func (o *origin) note(name, value string) {
	var to *string
	switch strings.ToLower(name) {
	case "x-originating-ip":
		to = &o.ip
	case "x-originating-port":
		to = &o.port
	default:
		return
	}
	// RFC 2971 section 3.3: no field comes twice. Whoever lets a user add fields
	// to its own must not pass on the user's choice of an address.
	o.twice = o.twice || *to != ""
	*to = value
}

var errNoAddress = errors.New("x-originating-ip is not an address that a client can have, or is there twice")

// address is the client's; without a port where the forwarder knows none.
func (o origin) address() (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(o.ip)
	// What was said is not in the error: it may be anything.
	if err != nil || o.twice || addr.Zone() != "" {
		return netip.AddrPort{}, errNoAddress
	}
	if addr = addr.Unmap(); addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, errNoAddress
	}
	port, err := strconv.ParseUint(o.port, 10, 16)
	if err != nil {
		port = 0
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// believe makes a forwarder's client the one whose login this is. Anybody else
// could claim any address, to get away from the throttle or to have somebody
// else throttled. A forwarder that says nothing new speaks for whom it did.
func (d *dialogue) believe(o origin) {
	if o.ip == "" || d.server.Forwarder == nil || !d.server.Forwarder(d.Peer.Addr()) {
		return
	}
	source, err := o.address()
	if err != nil {
		if !d.misled {
			d.misled = true
			d.Log.Debug("a forwarder's client is not known", "err", err)
		}
		return
	}
	d.SpeakFor(source)
}
