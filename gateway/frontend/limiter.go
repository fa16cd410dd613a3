package frontend

import (
	"container/list"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"congthu/auth"
)

// Limiter bounds how many connections there are at a time. Front ends that share one
// share the bounds. A nil Limiter has none.
type Limiter struct {
	// Max is for all connections, PerSource for those of one source as
	// [auth.Source] has it: an IPv4 address or an IPv6 /64. 0: no bound.
	Max, PerSource int
	// Early is how many may not be logged in yet. When there are as many, a new one
	// takes the place of another: the oldest of the source that has most of them.
	// So one that floods displaces itself, and many that flood displace each other,
	// before anybody else. 0: no bound.
	Early int
	// EarlyMemory is how many octets those may hold together, in commands that are
	// not complete and in TLS records. Beyond it, of the source that holds most of
	// them, the connection is displaced that has held some for the longest. It needs
	// Early. 0: no bound.
	EarlyMemory int

	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int
	early   crowd                // each place weighs 1
	held    crowd                // each weighs what it holds, in units of memory
	told    map[string]time.Time // when the log heard of each bound
}

// Place is that of a connection among those which a Limiter counts. A nil Place is
// one that is not counted.
type Place struct {
	limiter  *Limiter
	source   netip.Prefix
	displace func()
	log      *slog.Logger
	// early and held are seats in the crowds of the limiter, until the login.
	early, held seat
	// Octets that count as held: of the largest TLS record, and of the command.
	record, command int
}

// tellEvery is how often the log hears of connections that were refused, or
// displaced: one that makes too many makes very many.
const tellEvery = 10 * time.Second

// Enter counts a connection until it leaves. If there are too many it is not counted,
// and now and then log is told. A connection without an address has no source.
//
// displace is called when another takes the place of this one before it is logged
// in; it must not block. Nil: this one is not counted with them.
func (l *Limiter) Enter(addr netip.Addr, log *slog.Logger, displace func()) (place *Place, ok bool) {
	if l == nil {
		return nil, true
	}
	place, out, ok := l.enter(auth.Source(addr), log, displace)
	if out != nil {
		out()
	}
	return place, ok
}

// enter also returns how to end the connection whose place was taken; nil: none.
func (l *Limiter) enter(source netip.Prefix, log *slog.Logger, displace func()) (place *Place, out func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.Max > 0 && l.total >= l.Max:
		if l.due("all") {
			log.Warn("too many connections", "setting", "limits.connections", "limit", l.Max)
		}
		return nil, nil, false
	case l.PerSource > 0 && source.IsValid() && l.sources[source] >= l.PerSource:
		if l.due("source") {
			log.Warn("too many connections", "setting", "limits.connections_per_source", "limit", l.PerSource)
		}
		return nil, nil, false
	}
	place = &Place{limiter: l, source: source, displace: displace, log: log}
	if displace != nil && l.Early > 0 {
		if l.early.weight >= l.Early {
			out = l.take(l.early.oldest())
			if l.due("early") {
				log.Warn("too many connections are not logged in: the oldest of the source with most is closed", "setting", "limits.connections", "limit", l.Early)
			}
		}
		l.early.set(place, &place.early, 1)
	}
	if l.sources == nil {
		l.sources = make(map[netip.Prefix]int)
	}
	l.total++
	l.sources[source]++
	return place, out, true
}

// take takes a place away, and returns how its connection is told.
func (l *Limiter) take(p *Place) (out func()) {
	l.settle(p)
	return p.displace
}

// settle takes a place from those that are early, with what it holds.
func (l *Limiter) settle(p *Place) {
	l.early.set(p, &p.early, 0)
	l.held.set(p, &p.held, 0)
}

// LoggedIn notes that the connection is logged in: its place cannot be taken any
// more.
func (p *Place) LoggedIn() {
	if p == nil {
		return
	}
	p.limiter.mu.Lock()
	defer p.limiter.mu.Unlock()
	p.limiter.settle(p)
}

const (
	// small is what a connection may hold that is not counted: nearly all commands
	// and records are smaller.
	small = 1 << 10
	// unit is what memory is weighed in, in octets.
	unit = 1 << 10
)

// HoldRecord notes a TLS record of n octets. crypto/tls keeps its buffer.
func (p *Place) HoldRecord(n int) {
	if p != nil && n > max(small, p.record) {
		p.record = n
		p.hold()
	}
}

// HoldCommand notes that n octets of a command are held.
func (p *Place) HoldCommand(n int) {
	if n <= small {
		n = 0
	}
	if p != nil && n != p.command {
		p.command = n
		p.hold()
	}
}

// hold weighs what the place holds, and displaces others, or this one, if it is too
// much together. Only the connection's goroutine calls it, without a lock that
// displace takes.
func (p *Place) hold() {
	l := p.limiter
	var out []func()
	l.mu.Lock()
	if p.early.element != nil {
		l.held.set(p, &p.held, (p.record+p.command+unit-1)/unit)
	}
	for l.EarlyMemory > 0 && l.held.weight > l.EarlyMemory/unit {
		out = append(out, l.take(l.held.oldest()))
		if l.due("memory") {
			p.log.Warn("commands before login hold too much memory: a connection of the source with most is closed", "limit", l.EarlyMemory)
		}
	}
	l.mu.Unlock()
	for _, displace := range out {
		displace()
	}
}

// Leave gives the place back. It must be called exactly once.
func (p *Place) Leave() {
	if p == nil {
		return
	}
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(p)
	l.total--
	if l.sources[p.source]--; l.sources[p.source] == 0 {
		delete(l.sources, p.source) // addresses come and go for years
	}
}

// due reports whether the log is to hear that a bound is reached: each of the bounds
// now and then.
func (l *Limiter) due(bound string) bool {
	now := time.Now()
	if now.Sub(l.told[bound]) < tellEvery {
		return false
	}
	if l.told == nil {
		l.told = make(map[string]time.Time)
	}
	l.told[bound] = now
	return true
}

// crowd are places that weigh something, by source. An operation takes the same time
// however many there are; to make a source lighter takes as long as it took to make
// it as heavy.
type crowd struct {
	weight  int
	sources map[netip.Prefix]*queue
	// levels are the sources of each weight, the one that has had it for the longest
	// first. most is the highest level that has a source.
	levels map[int]*list.List
	most   int
}

// queue are the places of one source, the oldest first.
type queue struct {
	places list.List
	weight int
	rank   *list.Element // in its level
}

// seat is where a place is in a crowd.
type seat struct {
	element *list.Element // of its queue; nil: it is not in
	weight  int
}

// set gives a place its weight; one of 0 is not in the crowd.
func (c *crowd) set(p *Place, s *seat, weight int) {
	if weight == s.weight {
		return
	}
	if c.sources == nil {
		c.sources, c.levels = make(map[netip.Prefix]*queue), make(map[int]*list.List)
	}
	q := c.sources[p.source]
	if q == nil {
		q = new(queue)
		c.sources[p.source] = q
	}
	switch {
	case s.weight == 0:
		s.element = q.places.PushBack(p)
	case weight == 0:
		q.places.Remove(s.element)
		s.element = nil
	}
	if old := c.levels[q.weight]; q.rank != nil {
		if old.Remove(q.rank); old.Len() == 0 {
			delete(c.levels, q.weight)
		}
	}
	c.weight += weight - s.weight
	q.weight += weight - s.weight
	s.weight, q.rank = weight, nil
	if q.weight == 0 {
		delete(c.sources, p.source)
	} else {
		if c.levels[q.weight] == nil {
			c.levels[q.weight] = list.New()
		}
		q.rank = c.levels[q.weight].PushBack(q)
	}
	for c.most = max(c.most, q.weight); c.most > 0 && c.levels[c.most] == nil; {
		c.most--
	}
}

// oldest is the oldest place of the source that weighs most. The crowd is not empty.
func (c *crowd) oldest() *Place {
	return c.levels[c.most].Front().Value.(*queue).places.Front().Value.(*Place)
}
