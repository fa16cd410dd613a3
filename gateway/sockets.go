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

// Socket is a listening socket that another process, such as systemd, has opened and
// keeps open when the gateway ends: connections then wait in it for the next gateway.
// It serves the setting that its name says (imap, imaps, submission, submissions, pop3,
// pop3s, admin, metrics) or, with any other name, the setting with its address.
type Socket struct {
	Name string
	net.Listener
}

// SocketError reports that the passed sockets do not match the configuration.
type SocketError struct {
	// Message says what is missing and where; Fix says what to write.
	Message, Fix string
}

// Error implements error.
func (e *SocketError) Error() string { return e.Message + ": " + e.Fix }

// Names of sockets that determine the use; those of the services are in their table.
const (
	socketAdmin   = "admin"
	socketMetrics = "metrics"
)

// settings maps these names to settings; the mail settings are lists.
var settings = func() map[string]string {
	m := map[string]string{socketAdmin: "admin.listen", socketMetrics: "metrics.listen"}
	for _, s := range services {
		m[s.sockets.starttls], m[s.sockets.implicit] = s.listen(), s.listen()
	}
	return m
}()

// passed are the sockets without a use so far.
type passed []Socket

// take removes and returns the sockets for an address, of which there may be several:
// one for IPv4, one for IPv6. alone is set if the configuration has only one setting
// for sockets of this name, so that the name suffices.
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

// serves reports whether a socket matches an address of the configuration. An address
// without a host means all addresses of the machine.
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

// mailListeners takes the sockets for the addresses of a service; missing has an error
// for each address without one.
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

// unused returns an error for each socket without a use.
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

// listens returns the settings with the addresses of the services.
func listens() (settings []string) {
	for _, s := range services {
		settings = append(settings, s.listen())
	}
	return settings
}

// hasUnix reports whether a Unix socket is left, which the name admin may mean.
func (p passed) hasUnix() bool {
	return slices.ContainsFunc(p, func(s Socket) bool { return s.Addr().Network() == "unix" })
}

func (p passed) close() {
	for _, s := range p {
		s.Close()
	}
}

// configured formats an address as in the configuration.
func configured(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil && ap.Addr().IsUnspecified() {
		return fmt.Sprintf(":%d", ap.Port())
	}
	return a.String()
}

// stream formats an address of the configuration for ListenStream=.
func stream(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return port
	}
	return address
}

// noKeepAlive turns off the keep-alive of accepted connections. It is on, every 15
// seconds, for a socket that another process opened. Before login every client has a
// deadline, and the relay detects dead peers itself.
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
