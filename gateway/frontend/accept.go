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

// Loop gives take every connection of l, until ctx ends, which is no error, or l
// is closed by somebody else. take must not block. Other errors pass, out of file
// descriptors most likely: they are logged, and the loop goes on after a pause.
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

// Shut makes l accept nobody any more. A listener that takes connections in before
// it is asked for them (its method Shut) hands those out still; it is closed later.
func Shut(l net.Listener) error {
	if s, ok := l.(interface{ Shut() error }); ok {
		return s.Shut()
	}
	return l.Close()
}

// Source is the address and port at the other end; zero for a connection that
// has none, in memory.
func Source(conn net.Conn) netip.AddrPort {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// ID is a new name of a session, for the logs: 80 bits, so no two are the same.
func ID() string { return rand.Text()[:16] }

// TLS is config with which crypto/tls refuses clients that offer only other
// protocols than these (RFC 7301 section 3.2): they were led here from another
// service. Clients that offer none are let in. GetConfigForClient would undo it.
func TLS(config *tls.Config, protocols ...string) *tls.Config {
	config = config.Clone()
	config.NextProtos = protocols
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12) // RFC 8997
	return config
}
