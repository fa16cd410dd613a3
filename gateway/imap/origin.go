package imap

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"congthu/auth"
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
func (c *client) believe(o origin) {
	if o.ip == "" || c.server.Forwarder == nil || !c.server.Forwarder(c.peer.Addr()) {
		return
	}
	source, err := o.address()
	if err != nil {
		if !c.misled {
			c.misled = true
			c.log.Debug("a forwarder's client is not known", "err", err)
		}
		return
	}
	c.speakFor(source)
}

// speakFor sets whose login this is, for the guard, the mail server and the log.
func (c *client) speakFor(source netip.AddrPort) {
	if c.log != nil && source == c.source {
		return
	}
	c.source = source
	c.log = c.server.log().With("protocol", auth.IMAP, "session", c.id, "source", source)
	if source != c.peer {
		c.log = c.log.With("forwarder", c.peer)
	}
}
