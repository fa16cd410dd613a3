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

// Limiter bounds how many connections there are at a time. Front ends that share one
// share the bounds. A nil Limiter has none.
type Limiter struct {
	// Max is for all connections, PerSource for those of one source as
	// [auth.Source] has it: an IPv4 address or an IPv6 /64. 0: no bound.
	Max, PerSource int
	// Early is how many may not be logged in yet. When there are as many, a new one
	// takes the place of another: the oldest of the source that has most of them. So
	// one that floods displaces itself, and many that flood displace each other,
	// before anybody else. Of what a source has, its credit is taken off: as many as
	// are logged in from it now, those that ended lately (at most mostRemembered, for
	// up to twice remember), and a quarter of Early if it stands for many. Of sources
	// that have as many, the one goes whose oldest connection is oldest: who waits
	// goes before who logs in. 0: no bound.
	//
	// One that is displaced while its password is judged stays until that is settled,
	// and is logged in if it is right. Until then it counts for its source, but no
	// more in Max; there are as many of those as Early at most. When there are, a new
	// connection is refused, unless its source has credit left and they are not twice
	// as many.
	Early int
	// EarlyMemory is how many octets those may hold together, in commands that are
	// not complete and in TLS records. Beyond it, of the source that holds most of
	// them, less creditUnits for each of its credit, the connection is displaced that
	// holds most. It needs Early. 0: no bound.
	EarlyMemory int
	// Many reports whether an address stands for many clients, such as that of an
	// office, or of a web mail. Nil: none does.
	Many func(netip.Addr) bool

	mu      sync.Mutex
	total   int // without those that are displaced
	leaving int // displaced, and not gone
	sources map[netip.Prefix]*source
	early   crowd                // each place weighs 1
	held    crowd                // each weighs what it holds, in units of memory
	told    map[string]time.Time // when the log heard of each bound

	// Sessions that ended in this span of remember, by source, and in the one before.
	ended, endedBefore map[netip.Prefix]int
	spanBegan          time.Time
}

// source is what there is of one source.
type source struct {
	places   int // with those that are displaced
	sessions int
	many     bool
}

const (
	// remember is how long sessions that ended give credit, at least.
	remember = 10 * time.Minute
	// mostRemembered bounds the credit of a source for those: who has one account
	// can log in as often as he likes.
	mostRemembered = 100
	// creditUnits is what one login may hold, in units of memory: one with a token
	// has some 4 KiB.
	creditUnits = 4
)

// Place is that of a connection among those which a Limiter counts. A nil Place is
// one that is not counted.
type Place struct {
	limiter  *Limiter
	source   netip.Prefix
	displace func()
	log      *slog.Logger
	// early and held are seats in the crowds of the limiter, until the login.
	early, held seat
	// leaving: it is displaced. session: it is logged in.
	leaving, session bool
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
	place, out, ok := l.enter(addr, log, displace)
	if out != nil {
		out()
	}
	return place, ok
}

// enter also returns how to end the connection whose place was taken; nil: none.
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

// take takes a place away, and returns how its connection is told.
func (l *Limiter) take(p *Place) (out func()) {
	l.settle(p)
	p.leaving = true
	l.total--
	l.leaving++
	return p.displace
}

// settle takes a place from those that are early, with what it holds.
func (l *Limiter) settle(p *Place) {
	l.early.set(p, &p.early, 0, 0)
	l.held.set(p, &p.held, 0, 0)
}

// leave is how many may be displaced and not gone when one of this source comes.
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

// credit is how many connections of a source are not held against it.
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

// credited puts the credit of a source into force.
func (l *Limiter) credited(from netip.Prefix) {
	credit := l.credit(from)
	l.early.credit(from, credit)
	l.held.credit(from, credit*creditUnits)
}

// forget forgets sessions that ended long ago.
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

// LoggedIn notes that the connection is logged in: its place cannot be taken any
// more.
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
	// smallCommand and smallRecord are what a connection may hold that is not
	// counted: nearly all commands are smaller, and nearly all records. A ClientHello
	// with ML-KEM keys has some 2 KiB.
	smallCommand = 1 << 10
	smallRecord  = 3 << 10
	// unit is what memory is weighed in, in octets.
	unit = 1 << 10
)

// HoldRecord notes a TLS record of n octets. crypto/tls keeps its buffer.
func (p *Place) HoldRecord(n int) {
	if p != nil && n > max(smallRecord, p.record) {
		p.record = n
		p.hold()
	}
}

// HoldCommand notes that n octets of a command are held.
func (p *Place) HoldCommand(n int) {
	if n <= smallCommand {
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

// Leave gives the place back. It must be called exactly once.
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

// crowd are places that weigh something, by source. An operation takes the logarithm
// of the number of sources.
type crowd struct {
	weight  int
	sources map[netip.Prefix]*queue
	ranking ranking
	seats   int // that there ever were
}

// queue are the seats of one source, the oldest first.
type queue struct {
	seats          list.List
	weight, credit int
	rank           int // in the ranking; -1: it is not in
}

// seat is where a place is in a crowd.
type seat struct {
	place   *Place
	element *list.Element // of its queue; nil: it is not in
	weight  int
	number  int // older seats have smaller ones
}

// set gives a place its weight; one of 0 is not in the crowd. credit is that of its
// source.
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

// credit sets how much weight of a source is not held against it.
func (c *crowd) credit(from netip.Prefix, credit int) {
	if q := c.sources[from]; q != nil && q.credit != credit {
		q.credit = credit
		heap.Fix(&c.ranking, q.rank)
	}
}

// first is the source that weighs most, less its credit; of several the one whose
// oldest seat is oldest. The crowd is not empty.
func (c *crowd) first() *queue { return c.ranking[0] }

// oldest is the oldest place of a source.
func (q *queue) oldest() *Place { return q.front().place }

func (q *queue) front() *seat { return q.seats.Front().Value.(*seat) }

// heaviest is the place of a source that weighs most, the oldest of several.
func (q *queue) heaviest() *Place {
	most := q.front()
	for e := q.seats.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*seat); s.weight > most.weight {
			most = s
		}
	}
	return most.place
}

// ranking is a [heap.Interface] of sources, the one first whose place is taken first.
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
