package frontend

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"congthu/auth"
)

// Limiter bounds how many connections there are at a time. Doors that share one
// share the bounds. A nil Limiter has none.
type Limiter struct {
	// Max is for all connections, PerSource for those of one source as
	// [auth.Source] has it: an IPv4 address or an IPv6 /64. 0: no bound.
	Max, PerSource int

	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int
	told    time.Time // the log, of a refusal
}

// tellEvery is how often the log hears of connections that were refused: whoever
// makes too many makes very many.
const tellEvery = 10 * time.Second

// Enter counts a connection until leave is called, once. If there are too many it
// is not counted, and now and then log is told. A connection without an address
// has no source.
func (l *Limiter) Enter(addr netip.Addr, log *slog.Logger) (leave func(), ok bool) {
	if l == nil {
		return func() {}, true
	}
	source := auth.Source(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.Max > 0 && l.total >= l.Max:
		l.tell(log, "connections", l.Max)
		return nil, false
	case l.PerSource > 0 && source.IsValid() && l.sources[source] >= l.PerSource:
		l.tell(log, "connections_per_source", l.PerSource)
		return nil, false
	}
	if l.sources == nil {
		l.sources = make(map[netip.Prefix]int)
	}
	l.total++
	l.sources[source]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.total--
		if l.sources[source]--; l.sources[source] == 0 {
			delete(l.sources, source) // addresses come and go for years
		}
	}, true
}

func (l *Limiter) tell(log *slog.Logger, setting string, limit int) {
	if now := time.Now(); now.Sub(l.told) >= tellEvery {
		l.told = now
		log.Warn("too many connections", "setting", "limits."+setting, "limit", limit)
	}
}
