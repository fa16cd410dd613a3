package imap

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// origin is the client that a forwarder names in an ID command.
type origin struct {
	ip, port string
	twice    bool
}

// note records a field of ID.
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
	// RFC 2971 section 3.3: no field may appear twice. A forwarder that lets users add
	// fields must not pass on an address that the user chose.
	o.twice = o.twice || *to != ""
	*to = value
}

var errNoAddress = errors.New("x-originating-ip is not an address that a client can have, or is there twice")

// address returns the client's address; without a port if the forwarder sends none.
func (o origin) address() (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(o.ip)
	// The error does not contain the text: it may be anything.
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

// believe makes the forwarder's client the source of this login. Other clients could
// claim any address, to escape the throttle or to have another address throttled. A
// forwarder that names no address keeps the one that it named before.
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
