package frontend

import (
	"container/heap"
	"container/list"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"congthu/auth"
)

// Limiter limits the number of simultaneous connections. Front ends that share a
// Limiter share its limits. A nil Limiter has no limits.
type Limiter struct {
	// Max limits all connections, PerSource those of one source as [auth.Source]
	// defines it: an IPv4 address or an IPv6 /64. 0: no limit.
	Max, PerSource int
	// Early limits the connections that are not logged in. When it is reached, a new
	// connection displaces the oldest one of the source with the most. So a source that
	// floods displaces its own connections first, and many flooding sources displace
	// each other before any other source. The credit of a source is subtracted from its
	// number: the sessions that it has now, those that ended recently (at most
	// mostRemembered, for up to twice remember), and a quarter of Early if it stands
	// for many clients. Of sources with equal numbers, the one with the oldest
	// connection loses it: waiting connections go before those that log in. 0: no
	// limit.
	//
	// A connection that is displaced while its password is judged stays until that is
	// settled, and is logged in if the password is right. Until then it counts for its
	// source but no longer in Max; there are at most Early of those. When that is
	// reached, a new connection is refused, unless its source has credit left and there
	// are less than twice as many.
	Early int
	// EarlyMemory limits the octets that connections before login hold together, in
	// incomplete commands and in TLS records. When it is exceeded, the source that
	// holds most, less creditUnits for each of its credit, loses the connection that
	// holds most. It needs Early. 0: no limit.
	EarlyMemory int
	// Many reports whether an address stands for many clients, such as that of an
	// office or of a webmail server. Nil: none does.
	Many func(netip.Addr) bool

	mu      sync.Mutex
	total   int // without displaced connections
	leaving int // displaced, but not gone yet
	sources map[netip.Prefix]*source
	early   crowd                // each place weighs 1
	held    crowd                // each weighs what it holds, in units of memory
	told    map[string]time.Time // when each limit was last logged

	// Sessions that ended in the present span of remember, by source, and in the span
	// before.
	ended, endedBefore map[netip.Prefix]int
	spanBegan          time.Time
}

// source is the state of one source.
type source struct {
	places   int // with displaced connections
	sessions int
	many     bool
}

const (
	// remember is the minimum time for which ended sessions give credit.
	remember = 10 * time.Minute
	// mostRemembered limits this credit of a source: the owner of one account can log
	// in as often as they like.
	mostRemembered = 100
	// creditUnits is the memory that one login may hold, in units: one with a token has
	// some 4 KiB.
	creditUnits = 4
)

// Place represents one connection in a Limiter. A nil Place is not counted.
type Place struct {
	limiter  *Limiter
	source   netip.Prefix
	displace func()
	log      *slog.Logger
	// early and held are the seats in the limiter's crowds, until the login.
	early, held seat
	// leaving: displaced. session: logged in.
	leaving, session bool
	// Octets that count as held: those of the largest TLS record and of the command.
	record, command int
}

// tellEvery is the interval between log lines about refused or displaced connections: a
// flood causes very many.
const tellEvery = 10 * time.Second

// Enter counts a connection until it leaves. If a limit is reached the connection is
// not counted, and log gets a line now and then. A connection without an address has no
// source.
//
// displace is called if another connection takes the place of this one before its
// login; it must not block. Nil: this connection does not count as early and cannot be
// displaced.
func (l *Limiter) Enter(addr netip.Addr, log *slog.Logger, displace func()) (place *Place, ok bool) {
	if l == nil {
		return nil, true
	}
	place, out, ok := l.enter(addr, log, displace)
	if out != nil {
		out()
	}
	return place, ok
}

// enter also returns the function that ends the displaced connection; nil if there is
// none.
func (l *Limiter) enter(addr netip.Addr, log *slog.Logger, displace func()) (place *Place, out func(), ok bool) {
	from := auth.Source(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	early := displace != nil && l.Early > 0
	s := l.sources[from]
	switch {
	case l.Max > 0 && l.total >= l.Max,
		early && l.early.weight >= l.Early && l.leaving >= l.leave(from):
		if l.due("all") {
			log.Warn("too many connections", "setting", "limits.connections", "limit", l.Max)
		}
		return nil, nil, false
	case l.PerSource > 0 && from.IsValid() && s != nil && s.places >= l.PerSource:
		if l.due("source") {
			log.Warn("too many connections", "setting", "limits.connections_per_source", "limit", l.PerSource)
		}
		return nil, nil, false
	}
	if s == nil {
		if l.sources == nil {
			l.sources = make(map[netip.Prefix]*source)
		}
		s = &source{many: addr.IsValid() && l.Many != nil && l.Many(addr)}
		l.sources[from] = s
	}
	l.total++
	s.places++
	place = &Place{limiter: l, source: from, displace: displace, log: log}
	if early {
		if l.early.weight >= l.Early {
			out = l.take(l.early.first().oldest())
			if l.due("early") {
				log.Warn("too many connections are not logged in: the oldest of the source with most is closed", "setting", "limits.connections", "limit", l.Early)
			}
		}
		l.early.set(place, &place.early, 1, l.credit(from))
	}
	return place, out, true
}

// take displaces a connection and returns the function that ends it.
func (l *Limiter) take(p *Place) (out func()) {
	l.settle(p)
	p.leaving = true
	l.total--
	l.leaving++
	return p.displace
}

// settle removes a place from the early connections, with what it holds.
func (l *Limiter) settle(p *Place) {
	l.early.set(p, &p.early, 0, 0)
	l.held.set(p, &p.held, 0, 0)
}

// leave returns how many displaced connections may remain when one of this source
// comes.
func (l *Limiter) leave(from netip.Prefix) int {
	places := 0
	if s := l.sources[from]; s != nil {
		places = s.places - s.sessions
	}
	if places < l.credit(from) {
		return 2 * l.Early
	}
	return l.Early
}

// credit returns how many connections of a source are not counted against it.
func (l *Limiter) credit(from netip.Prefix) int {
	credit := min(l.ended[from]+l.endedBefore[from], mostRemembered)
	if s := l.sources[from]; s != nil {
		credit += s.sessions
		if s.many {
			credit += l.Early / 4
		}
	}
	return credit
}

// credited updates the credit of a source.
func (l *Limiter) credited(from netip.Prefix) {
	credit := l.credit(from)
	l.early.credit(from, credit)
	l.held.credit(from, credit*creditUnits)
}

// forget removes sessions that ended long ago.
func (l *Limiter) forget() {
	now := time.Now()
	if now.Sub(l.spanBegan) < remember {
		return
	}
	old := l.endedBefore
	if l.endedBefore = l.ended; now.Sub(l.spanBegan) >= 2*remember {
		l.endedBefore = nil
	}
	recent := l.ended
	l.ended, l.spanBegan = nil, now
	for from := range old {
		l.credited(from)
	}
	for from := range recent {
		l.credited(from)
	}
}

// LoggedIn records that the connection is logged in: it can no longer be displaced.
func (p *Place) LoggedIn() {
	if p == nil {
		return
	}
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(p)
	if p.leaving {
		p.leaving = false
		l.leaving--
		l.total++
	}
	p.session = true
	l.sources[p.source].sessions++
	l.credited(p.source)
}

const (
	// smallCommand and smallRecord are sizes that are not counted: nearly all commands
	// and records are smaller. A ClientHello with ML-KEM keys has some 2 KiB.
	smallCommand = 1 << 10
	smallRecord  = 3 << 10
	// unit is the unit of memory, in octets.
	unit = 1 << 10
)

// HoldRecord records a TLS record of n octets. crypto/tls keeps a buffer of that size.
func (p *Place) HoldRecord(n int) {
	if p != nil && n > max(smallRecord, p.record) {
		p.record = n
		p.hold()
	}
}

// HoldCommand records that n octets of a command are held.
func (p *Place) HoldCommand(n int) {
	if n <= smallCommand {
		n = 0
	}
	if p != nil && n != p.command {
		p.command = n
		p.hold()
	}
}

// hold updates the memory of the place. If all together exceed the limit, it displaces
// other connections or this one. Only the connection's goroutine calls it, without a
// lock that displace takes.
func (p *Place) hold() {
	l := p.limiter
	var out []func()
	l.mu.Lock()
	if p.early.element != nil {
		l.held.set(p, &p.held, (p.record+p.command+unit-1)/unit, l.credit(p.source)*creditUnits)
	}
	for l.EarlyMemory > 0 && l.held.weight > l.EarlyMemory/unit {
		out = append(out, l.take(l.held.first().heaviest()))
		if l.due("memory") {
			p.log.Warn("commands before login hold too much memory: a connection of the source with most is closed", "limit", l.EarlyMemory)
		}
	}
	l.mu.Unlock()
	for _, displace := range out {
		displace()
	}
}

// Leave returns the place. It must be called exactly once.
func (p *Place) Leave() {
	if p == nil {
		return
	}
	l := p.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(p)
	if p.leaving {
		l.leaving--
	} else {
		l.total--
	}
	s := l.sources[p.source]
	if p.session {
		s.sessions--
		l.forget()
		if l.ended == nil {
			l.ended = make(map[netip.Prefix]int)
		}
		l.ended[p.source]++
		l.credited(p.source)
	}
	if s.places--; s.places == 0 {
		delete(l.sources, p.source) // otherwise the map would grow for years
	}
}

// due reports whether a reached limit should be logged: each limit at intervals.
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

// crowd is a set of places with weights, grouped by source. An operation takes time
// logarithmic in the number of sources.
type crowd struct {
	weight  int
	sources map[netip.Prefix]*queue
	ranking ranking
	seats   int // ever created
}

// queue holds the seats of one source, the oldest first.
type queue struct {
	seats          list.List
	weight, credit int
	rank           int // in the ranking; -1: not in it
}

// seat is the position of a place in a crowd.
type seat struct {
	place   *Place
	element *list.Element // of its queue; nil: not in it
	weight  int
	number  int // older seats have smaller numbers
}

// set sets the weight of a place; with weight 0 it is not in the crowd. credit is the
// credit of its source.
func (c *crowd) set(p *Place, s *seat, weight, credit int) {
	if weight == s.weight {
		return
	}
	if c.sources == nil {
		c.sources = make(map[netip.Prefix]*queue)
	}
	q := c.sources[p.source]
	if q == nil {
		q = &queue{credit: credit, rank: -1}
		c.sources[p.source] = q
	}
	c.weight += weight - s.weight
	q.weight += weight - s.weight
	switch {
	case s.weight == 0:
		c.seats++
		s.place, s.number, s.element = p, c.seats, q.seats.PushBack(s)
	case weight == 0:
		q.seats.Remove(s.element)
		s.element = nil
	}
	s.weight = weight
	switch {
	case q.weight == 0:
		delete(c.sources, p.source)
		heap.Remove(&c.ranking, q.rank)
	case q.rank < 0:
		heap.Push(&c.ranking, q)
	default:
		heap.Fix(&c.ranking, q.rank)
	}
}

// credit sets how much of a source's weight is not counted.
func (c *crowd) credit(from netip.Prefix, credit int) {
	if q := c.sources[from]; q != nil && q.credit != credit {
		q.credit = credit
		heap.Fix(&c.ranking, q.rank)
	}
}

// first returns the source with the most weight above its credit; of several, the one
// with the oldest seat. The crowd must not be empty.
func (c *crowd) first() *queue { return c.ranking[0] }

// oldest returns the oldest place of a source.
func (q *queue) oldest() *Place { return q.front().place }

func (q *queue) front() *seat { return q.seats.Front().Value.(*seat) }

// heaviest returns the place of a source with the most weight, the oldest of several.
func (q *queue) heaviest() *Place {
	most := q.front()
	for e := q.seats.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*seat); s.weight > most.weight {
			most = s
		}
	}
	return most.place
}

// ranking is a [heap.Interface] of sources: the first one is the next to lose a place.
type ranking []*queue

func (r ranking) Len() int { return len(r) }

func (r ranking) Less(i, j int) bool {
	if a, b := r[i].weight-r[i].credit, r[j].weight-r[j].credit; a != b {
		return a > b
	}
	return r[i].front().number < r[j].front().number
}

func (r ranking) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].rank, r[j].rank = i, j
}

func (r *ranking) Push(q any) {
	q.(*queue).rank = len(*r)
	*r = append(*r, q.(*queue))
}

func (r *ranking) Pop() any {
	last := len(*r) - 1
	q := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return q
}
