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

// Each listener for administrators takes so many connections, and so many of one
// source: a client that opens more must not use up the descriptors that mail needs.
// When all are taken a new one is still answered: the oldest of the source that has
// most is closed, so that idle connections keep nobody from /readyz.
const (
	adminConns          = 1024
	adminConnsPerSource = 256
)

// boundConns is a [http.Server].ConnState that closes connections beyond the limits.
func boundConns(l *frontend.Limiter) func(net.Conn, http.ConnState) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil)) // the limits are no settings
	var places sync.Map                                   // by connection
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			from, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // a Unix socket has none
			// In a goroutine of its own: TLS takes its leave before it closes.
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
