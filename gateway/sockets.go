package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"congthu/gateway/config"
	"congthu/gateway/upstream"
)

// Socket is a listening socket that somebody else has opened, such as systemd,
// and keeps open when the gateway ends: connections then wait in it for the next
// one. It serves the setting that its name says (imap, imaps, submission,
// submissions, admin, metrics), or, with any other name, the setting with its
// address.
type Socket struct {
	Name string
	net.Listener
}

// SocketError says that the sockets that were passed and the configuration do not
// go together.
type SocketError struct {
	// Message says what is missing where, Fix what to write.
	Message, Fix string
}

// Error implements error.
func (e *SocketError) Error() string { return e.Message + ": " + e.Fix }

// The names of sockets that say what they are for; those of the services are in
// their table.
const (
	socketAdmin   = "admin"
	socketMetrics = "metrics"
)

// settings are of the names; the mail ones are lists.
var settings = func() map[string]string {
	m := map[string]string{socketAdmin: "admin.listen", socketMetrics: "metrics.listen"}
	for _, s := range services {
		m[s.sockets.starttls], m[s.sockets.implicit] = s.listen(), s.listen()
	}
	return m
}()

// passed are the sockets that have no use yet.
type passed []Socket

// take removes and returns the sockets for an address, which may be several: one
// for IPv4, one for IPv6. alone is set when the configuration has nothing else
// that sockets of the name could be for, so that the name suffices.
func (p *passed) take(name, address string, alone bool) (taken []net.Listener) {
	var left passed
	for _, s := range *p {
		_, named := settings[s.Name]
		if named && s.Name != name || !serves(s.Addr(), address) && !(named && alone) {
			left = append(left, s)
			continue
		}
		taken = append(taken, s.Listener)
	}
	*p = left
	return taken
}

// serves reports whether a socket is what an address of the configuration asks
// for. One without a host is all addresses of the machine.
func serves(socket net.Addr, address string) bool {
	if socket.Network() == "unix" {
		return socket.String() == address
	}
	have, err := netip.ParseAddrPort(socket.String())
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != fmt.Sprint(have.Port()) {
		return false
	}
	addr := have.Addr().Unmap()
	switch host {
	case "":
		return addr.IsUnspecified()
	case "localhost":
		return addr.IsLoopback()
	}
	want, err := netip.ParseAddr(host)
	return err == nil && want.Unmap() == addr
}

// mailListeners takes the sockets for the addresses of a service; an error for each
// that has none.
func (p *passed) mailListeners(s service, wanted []config.Listener) (ls []mailListener, missing []error) {
	names := make([]string, len(wanted))
	entries := make(map[string]int)
	for i, w := range wanted {
		names[i] = s.sockets.starttls
		if w.TLS == upstream.Implicit {
			names[i] = s.sockets.implicit
		}
		entries[names[i]]++
	}
	for i, w := range wanted {
		found := p.take(names[i], w.Address, entries[names[i]] == 1)
		for _, l := range found {
			ls = append(ls, mailListener{noKeepAlive{l}, s.Protocol, w.TLS == upstream.Implicit})
		}
		if len(found) == 0 {
			missing = append(missing, &SocketError{
				fmt.Sprintf("systemd passes no socket for %s[%d] (%s)", s.listen(), i, w.Address),
				fmt.Sprintf("add ListenStream=%s to congthu.socket (systemctl edit congthu.socket), or take the entry out of %s", stream(w.Address), s.listen()),
			})
		}
	}
	return ls, missing
}

// unused is an error for each socket that nothing was found for.
func (p passed) unused() (errs []error) {
	for _, s := range p {
		address := configured(s.Addr())
		setting, named := settings[s.Name]
		write := fmt.Sprintf("write its address %q into %s, admin.listen or metrics.listen", address, strings.Join(listens(), ", "))
		if s.Addr().Network() == "unix" {
			write = fmt.Sprintf("write admin: { socket: %s }", address)
		} else if named {
			write = fmt.Sprintf("write its address %q into %s", address, setting)
			for _, mail := range services {
				switch s.Name {
				case mail.sockets.implicit:
					write += ", with tls: implicit"
				case mail.sockets.starttls:
					write += ", with tls: starttls"
				}
			}
		}
		errs = append(errs, &SocketError{
			fmt.Sprintf("systemd passes a socket %s, named %s, that the configuration does not have", address, cmp.Or(s.Name, "nothing")),
			write + fmt.Sprintf(", or take ListenStream=%s out of its unit", stream(address)),
		})
	}
	return errs
}

// listens are the settings with the addresses of the services.
func listens() (settings []string) {
	for _, s := range services {
		settings = append(settings, s.listen())
	}
	return settings
}

// hasUnix reports whether there is a Unix socket left: the name admin may mean it.
func (p passed) hasUnix() bool {
	return slices.ContainsFunc(p, func(s Socket) bool { return s.Addr().Network() == "unix" })
}

func (p passed) close() {
	for _, s := range p {
		s.Close()
	}
}

// configured is an address as the configuration has it.
func configured(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil && ap.Addr().IsUnspecified() {
		return fmt.Sprintf(":%d", ap.Port())
	}
	return a.String()
}

// stream is an address of the configuration as ListenStream= has it.
func stream(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return port
	}
	return address
}

// noKeepAlive is a listener whose connections have no keep-alive. It is on where the
// socket was not opened by this process, every 15 seconds; before login every
// client has a deadline, and the relay looks for dead peers in its own way.
type noKeepAlive struct{ net.Listener }

// Accept implements net.Listener.
func (u noKeepAlive) Accept() (net.Conn, error) {
	conn, err := u.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		if err := tcp.SetKeepAlive(false); err != nil && !errors.Is(err, net.ErrClosed) {
			conn.Close()
			return nil, fmt.Errorf("switch keep-alive off: %w", err)
		}
	}
	return conn, err
}
