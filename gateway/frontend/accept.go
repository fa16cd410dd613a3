package frontend

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Loop calls take for every connection of l until ctx ends, which is not an error, or
// another caller closes l. take must not block. Other errors are temporary, most likely
// a lack of file descriptors: they are logged, and the loop continues after a pause.
func Loop(ctx context.Context, l net.Listener, log *slog.Logger, take func(net.Conn)) error {
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			take(conn)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		log.Error("a connection could not be accepted", "err", err, "retry", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// Shut makes l stop accepting. A listener that accepts connections in advance has a
// method Shut: it still returns those, and is closed later.
func Shut(l net.Listener) error {
	if s, ok := l.(interface{ Shut() error }); ok {
		return s.Shut()
	}
	return l.Close()
}

// Source returns the address and port of the peer; zero for a connection in memory,
// which has none.
func Source(conn net.Conn) netip.AddrPort {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// ID returns a new session id for the logs: 80 random bits, so no two are equal.
func ID() string { return rand.Text()[:16] }

// TLS returns config with ALPN: crypto/tls then refuses clients that offer only other
// protocols (RFC 7301 section 3.2), since they were redirected here from another
// service. Clients that offer none are accepted. GetConfigForClient would bypass this.
func TLS(config *tls.Config, protocols ...string) *tls.Config {
	config = config.Clone()
	config.NextProtos = protocols
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12) // RFC 8997
	return config
}
