package gateway

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"congthu/gateway/frontend"
)

// Each listener for administrators has a limit of connections, in all and for each
// source, so that a client cannot use up the file descriptors that mail needs. When the
// limit is reached, a new connection is still accepted: the oldest connection of the
// source with the most is closed, so that idle connections cannot block /readyz.
const (
	adminConns          = 1024
	adminConnsPerSource = 256
)

// boundConns is a [http.Server].ConnState that closes connections beyond the limits.
func boundConns(l *frontend.Limiter) func(net.Conn, http.ConnState) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) // the limits are not settings
	var places sync.Map                                   // by connection
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			from, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // a Unix socket has none
			// In a goroutine of its own: closing TLS first sends close_notify.
			place, ok := l.Enter(from.Addr(), log, func() { go c.Close() })
			if !ok {
				c.Close()
				return
			}
			places.Store(c, place)
		case http.StateClosed, http.StateHijacked:
			if place, ok := places.LoadAndDelete(c); ok {
				place.(*frontend.Place).Leave()
			}
		}
	}
}
