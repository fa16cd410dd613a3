package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
)

// Throttle slows down one source that guesses at many accounts: it must trip
// before a stranger can lock many owners out. A source is an IPv4 address or an
// IPv6 /64. A whole office may stand behind one address, so what counts is not
// how many people mistype there but two other things.
//
// Spraying: how many accounts have failed from there that nobody has logged in
// to from there. An account is proven at a source, or in a network, when it was
// logged in to from it lately ([auth.Account].Seen remembers that over restarts); proven accounts are
// neither counted nor refused, or one stranger in an office would stop all his
// colleagues.
//
// Locking: the third failure of an account and the ones behind it need a grant,
// of which a source has few a day. Where an account is not proven, all failures of
// the account count, whoever made them and through whichever replica: the guard
// asks the account ([auth.Rules.FreeSlots]), which is durable. Where it is proven only
// those from there count, so that strangers elsewhere do not touch its owner. So
// sources can make two guesses at many accounts, which locks none, and lock few,
// together no more than each of them could alone. An attempt that was right or was
// not judged gives its grant back, and so does a login from there afterwards; an
// unlock does not, or each unlock would buy the source that made the lock another.
//
// A network is one more source, with several times the room of one
// ([networksAbove]): whoever holds an IPv4 /24 has 256 sources, and 65536 in an
// IPv6 /48. An attempt needs room, and a grant, at each of them.
//
// In a known network ([Policy].KnownNetworks), an office of the organisation's own,
// all but the last two failures of an account need no grant: twice as many as
// elsewhere. On the first day nobody is proven there, and one infected PC that guesses
// at all its colleagues would else spend what they need for their first login. While
// wrong passwords lock there is no more room for spraying, and there are no more
// grants: with them that PC would have spent more of each account before its owner
// comes. So no network locks more for being known. While none locks there is ten times
// as much of both. A larger network above does not count: neighbours at the same
// provider take none of its room.
//
// Over a limit the answer is temporary, the mail server is not asked and nothing
// is counted on the account. What is under way counts like a failure, or a burst
// would be through before its first verdict; but it makes others wait rather than
// refuses them, since a burst of colleagues looks the same until then.
//
// It is a sliding window in bounded memory, lost at a restart: the lock of the
// account, which is not, is what the regulation asks for.
type Throttle struct {
	// Window is how long a failure is remembered. 0: 10 minutes.
	Window time.Duration
	// Accounts is how many unproven accounts may have failed within the window,
	// plus one for every account that succeeded within a day. 0: 10.
	Accounts int
	// Failures is how many failures there may be on those accounts, plus six
	// for every account that succeeded. 0: 100.
	Failures int
	// Locks is how many accounts a source may bring near their lock within a
	// day, plus one for every ten that succeeded. 0: 5.
	Locks int
	// Sources is how many sources are remembered of IPv4, and as many of IPv6,
	// and a quarter as many networks of each size; the one not heard of for
	// longest is forgotten first. 0: 65536.
	Sources int

	once sync.Once
	// histories are those of sources and networks, each size on its own: however
	// many sources a network has, they push none of the networks out.
	histories [numSizes]shards[netip.Prefix, *sourceHistory]
	allowed   allowances
	known     atomic.Pointer[knownNetworks] // see setKnown
}

// sourceMemory is how long a throttle remembers what is not within its window:
// logins, and accounts near their lock.
const sourceMemory = 24 * time.Hour

// freeRepeats is how often within the window a source may repeat a wrong password of an
// account before each counts like a failure there: more than programs do.
const freeRepeats = 30

// maxWaitingPerSource bounds the attempts of one source that wait.
const maxWaitingPerSource = 2048

// maxPerSource bounds the accounts remembered of one source. Where more people
// than that log in from, as at a webmail host, those who have are forgotten to
// make room, since their accounts remember it; a source that fills it with
// failures is refused.
const maxPerSource = 4096

// sourceHistory is what one source did, by account.
type sourceHistory struct {
	accounts map[auth.Name]*sourceAccount
	sourceTally
	times int // its room, in that of a source
	// spent are the grants of accounts that have been forgiven since, by when they
	// were last used, the oldest first.
	spent []time.Time
	known bool      // it lies in a known network
	since time.Time // when it came to be refused; zero while it is not
	aged  time.Time // when what is too old was last dropped

	waiting int           // attempts that wait for something to end
	ended   chan struct{} // closed when something has; nil while nobody waits
}

// sourceTally sums up the accounts of a source, so that no attempt has to.
type sourceTally struct {
	succeeded int // accounts logged in to
	failing   int // unproven accounts that have failed within the window
	failures  int // on those
	trying    int // unproven accounts that may yet turn out to fail
	underWay  int // attempts on unproven accounts
	granted   int // accounts that hold a grant, spent or not yet
	spending  int // accounts whose grant is spent
}

// sourceAccount is what one source did to one account.
type sourceAccount struct {
	recent   int // failures within the window, also those in doubt
	wrong    int // wrong passwords within a day, since the last login
	underWay int
	proven   bool // logged in to from here lately, or forgiven
	granted  bool // may go beyond the first failures
	spent    bool // and has
	near     bool // the account remembers a login from here: only this knows how many are wrong from here

	failed, right time.Time // the latest; right is set within a day only
	forgiven      time.Time // the latest, within a day

	repeated int       // how often a wrong password was repeated within the window
	since    time.Time // when that began
}

// add counts an account in, or out with -1.
func (t *sourceTally) add(a *sourceAccount, n int) {
	if !a.right.IsZero() {
		t.succeeded += n
	}
	if !a.proven {
		switch {
		case a.recent > 0:
			t.failing += n
			t.failures += n * a.recent
		case a.underWay > 0:
			t.trying += n
		}
		t.underWay += n * a.underWay
	}
	if a.granted {
		t.granted += n
	}
	if a.spent {
		t.spending += n
	}
}

// passage is what the throttle says to an attempt.
type passage uint8

const (
	passes  passage = iota
	waits           // until something of this source that is under way has ended
	refused         // too much has failed
)

// ending is how an attempt that the throttle let pass has ended.
type ending uint8

const (
	endedWell ending = iota // or without anything to hold against the source
	endedInDoubt
	endedPrevious // with a password that was right before
	endedRepeated // with a wrong one that is not counted again
	endedWrong
)

// passing is what the throttle says to an attempt.
type passing struct {
	passage passage
	ended   <-chan struct{} // closed when something of the source has ended; of an attempt that waits
	allowed bool            // an admin lets the source go on
	// Of the account at the source, as far as this process knows: whether it was
	// logged in to from there within a day, and whether an admin has forgiven it.
	proven, forgiven bool
}

// throttled is an attempt as the throttle sees it.
type throttled struct {
	source    netip.Prefix
	known     netip.Prefix // the known network that the source lies in; invalid for none
	name      auth.Name
	tolerated int  // of the rules
	seen      int  // the length of the smallest level that the account remembers a login from; 0 is none
	looked    bool // or does not: it was asked
	allowed   bool // an admin let the source go on when it began
	granted   bool // it was given a grant
	near      int  // as seen, of the account that the attempt was admitted to
}

// free is how many wrong passwords need no grant: two of five; where the source lies
// in a known network four, so that a colleague's PC that guesses at everybody does not
// keep those out who come for the first time. What such a network can lock does not
// change with it, since the last that locks needs a grant in any case.
func (a throttled) free() int {
	elsewhere, known := auth.Lockout{Tolerated: a.tolerated}.WithoutGrant()
	if a.known.IsValid() {
		return known
	}
	return elsewhere
}

// begin lets an attempt pass and counts it as under way until end. One that is
// to wait, the account having been looked at, may ask again when ended is closed.
func (t *Throttle) begin(a throttled, now time.Time) passing {
	if t == nil {
		return passing{}
	}
	a.allowed = t.allowed.covers(a.source, now)
	levels, n := a.levels()
	// The largest network first: once it is refused nothing below it need be
	// remembered.
	for i := n - 1; i >= 0; i-- {
		p := t.beginAt(levels[i], a, now)
		switch {
		case p.passage != passes:
			for i++; i < n; i++ {
				t.endAt(levels[i], a, endedWell, now)
			}
			return p
		case i == 0:
			p.allowed = a.allowed
			return p
		}
	}
	return passing{} // not reached: the last level is the source
}

func (t *Throttle) beginAt(l level, a throttled, now time.Time) (p passing) {
	t.look(l, now, func(h *sourceHistory) {
		if !h.room(a.name) {
			if !a.allowed {
				p.passage = refused
			}
			return
		}
		h.change(a.name, func(s *sourceAccount) {
			s.proven = s.proven || a.seen >= l.prefix.Bits()
			if p.passage = t.passage(h, s, a); p.passage == passes {
				s.underWay++
			}
			p.proven, p.forgiven = !s.right.IsZero(), !s.forgiven.IsZero()
		})
		if p.passage != waits || !a.looked {
			return
		}
		if h.ended == nil {
			h.ended, h.waiting = make(chan struct{}), 0
		}
		if h.waiting++; h.waiting > maxWaitingPerSource {
			p.passage = refused
		}
		p.ended = h.ended
	})
	return p
}

// limits are the room of a source or network.
type limits struct{ accounts, failures, locks int }

func (t *Throttle) limits(h *sourceHistory) limits {
	times := h.times
	if known := t.known.Load(); h.known && known != nil {
		times *= known.times
	}
	return limits{
		accounts: times*cmp.Or(t.Accounts, 10) + h.succeeded,
		failures: times*cmp.Or(t.Failures, 100) + 6*h.succeeded,
		locks:    times*cmp.Or(t.Locks, 5) + h.succeeded/10,
	}
}

// passage decides for one more attempt on the account s, which the tally leaves
// out.
func (t *Throttle) passage(h *sourceHistory, s *sourceAccount, a throttled) passage {
	if a.allowed {
		s.granted = s.granted || s.wrong+s.underWay >= a.free()
		return passes
	}
	most := t.limits(h)
	if !s.proven {
		switch {
		case h.failing >= most.accounts || h.failures+s.recent >= most.failures:
			return refused
		case s.recent == 0 && s.underWay == 0 && h.failing+h.trying >= most.accounts:
			return waits
		case h.failures+s.recent+h.underWay+s.underWay >= most.failures:
			return waits
		}
	}
	if s.wrong+s.underWay < a.free() {
		return passes
	}
	p := h.grant(s, most)
	if p == refused && s.wrong < a.free() {
		return waits // for those under way, which may be right
	}
	return p
}

// grant gives the account s one of the grants that are left, unless it has one.
func (h *sourceHistory) grant(s *sourceAccount, most limits) passage {
	switch {
	case s.granted:
		return passes
	case h.spending+len(h.spent) >= most.locks:
		return refused
	case h.granted+len(h.spent) >= most.locks:
		return waits // those under way may give theirs back
	}
	s.granted = true
	return passes
}

// grant gives an attempt that has begun a grant of its source and of all networks
// above it, unless the account holds one there: others have made the failures that
// need none. The source is asked first, so that one that has none left takes none
// of its network's for a while. It is given back when nothing of the account is
// under way there, unless the attempt turned out wrong.
func (t *Throttle) grant(a throttled, now time.Time) (p passage) {
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if !h.room(a.name) {
				p = refused
				return
			}
			h.change(a.name, func(s *sourceAccount) {
				if a.allowed {
					s.granted = true
					return
				}
				p = h.grant(s, t.limits(h))
			})
		})
		if p != passes {
			return p
		}
	}
	return passes
}

// end takes back a begin that passed.
func (t *Throttle) end(a throttled, e ending, now time.Time) {
	if t == nil {
		return
	}
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.endAt(l, a, e, now)
	}
}

func (t *Throttle) endAt(l level, a throttled, e ending, now time.Time) {
	t.look(l, now, func(h *sourceHistory) {
		if h.room(a.name) {
			h.change(a.name, func(s *sourceAccount) {
				s.underWay = max(0, s.underWay-1)
				s.noteEnding(a, e, now)
				s.near = s.near || a.near >= l.prefix.Bits()
			})
		}
		h.wake()
	})
}

// failed notes a failure of an attempt that did not begin here.
func (t *Throttle) failed(a throttled, e ending, now time.Time) {
	if t == nil {
		return
	}
	a.allowed = t.allowed.covers(a.source, now)
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.note(l, a.name, now, func(s *sourceAccount) {
			s.noteEnding(a, e, now)
			s.near = s.near || a.near >= l.prefix.Bits()
		})
	}
}

// noteEnding notes how an attempt has ended. One in doubt spends no grant: it
// never locks, and an outage must not leave strangers without grants for the day.
// Nor does one with an earlier password, which the account does not count.
func (s *sourceAccount) noteEnding(a throttled, e ending, now time.Time) {
	switch {
	case e == endedWell:
		return
	case e == endedRepeated:
		// Programs do, and are not held against their source; but each is judged.
		if s.repeated++; s.repeated == 1 {
			s.since = now
		}
		if s.repeated <= freeRepeats {
			return
		}
	}
	s.recent++
	s.failed = now
	if e == endedWrong {
		s.wrong++
		if a.granted || s.granted && s.wrong > a.free() {
			s.granted, s.spent = true, true
		}
	}
}

// succeeded notes an accepted login, which also forgives the mistypes before it.
func (t *Throttle) succeeded(a throttled, now time.Time) {
	if t == nil {
		return
	}
	login := func(s *sourceAccount) (news bool) {
		news = s.recent > 0 || s.wrong > 0 || s.granted || now.Sub(s.right) >= time.Hour || now.Before(s.right)
		s.recent, s.wrong, s.spent, s.proven, s.right = 0, 0, false, true, now
		return news
	}
	var news bool
	source := a.sourceLevel()
	t.note(source, a.name, now, func(s *sourceAccount) { news = login(s) })
	if !news {
		return // the networks have been told within the hour
	}
	a.allowed = false // a login takes no room
	levels, n := a.levels()
	for _, l := range levels[1:n] {
		t.note(l, a.name, now, func(s *sourceAccount) { login(s) })
	}
}

// wake lets those who wait ask again.
func (h *sourceHistory) wake() {
	if h.ended != nil {
		close(h.ended)
		h.ended = nil
	}
}

// memory is what is known of an account at a source and at the networks above.
type memory [maxLevels]sourceAccount

// remembered returns what is known of an account where an attempt comes from.
func (t *Throttle) remembered(a throttled, now time.Time) (m memory) {
	levels, n := a.levels()
	for i, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if known := h.accounts[a.name]; known != nil {
				m[i] = *known
			}
		})
	}
	return m
}

// forgiven takes back wrong passwords that the account itself does not count any
// more: failures is what it counted after before was remembered. Whatever has
// happened since, or is under way, it may not have counted yet. A grant that was
// spent stays so.
func (t *Throttle) forgiven(a throttled, before memory, failures int, now time.Time) {
	levels, n := a.levels()
	for i, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if s := h.accounts[a.name]; s != nil && *s == before[i] && s.underWay == 0 && s.wrong > failures {
				h.change(a.name, func(s *sourceAccount) { s.wrong = failures })
			}
		})
	}
}

func (t *Throttle) note(l level, name auth.Name, now time.Time, f func(*sourceAccount)) {
	t.look(l, now, func(h *sourceHistory) {
		if h.room(name) {
			h.change(name, f)
		}
	})
}

// room makes some for one more account, if there must be.
func (h *sourceHistory) room(name auth.Name) bool {
	if len(h.accounts) < maxPerSource || h.accounts[name] != nil {
		return true
	}
	looks := 16 // of many; where most have failed there is none for good reason
	for other, s := range h.accounts {
		if s.recent == 0 && (s.wrong == 0 || !s.proven && !s.near) && s.underWay == 0 && !s.spent {
			h.add(s, -1)
			delete(h.accounts, other)
			return true
		}
		if looks--; looks == 0 {
			break
		}
	}
	return false
}

// change makes a change to one account of the source; the tally has the others
// only while it is made.
func (h *sourceHistory) change(name auth.Name, f func(*sourceAccount)) {
	s := h.accounts[name]
	if s == nil {
		s = new(sourceAccount)
		h.accounts[name] = s
	} else {
		h.add(s, -1)
	}
	f(s)
	s.granted = s.spent || s.granted && s.underWay > 0 // not needed after all
	s.near = s.near && s.wrong > 0
	if *s == (sourceAccount{}) {
		delete(h.accounts, name)
		return
	}
	h.add(s, 1)
}

// age drops what is too old and counts anew.
func (h *sourceHistory) age(now time.Time, window time.Duration) {
	h.sourceTally, h.aged = sourceTally{}, now
	h.since = auth.NotAfter(h.since, now)
	// A clock that was ahead has been set right: from now on, then.
	for i := range h.spent {
		h.spent[i] = auth.NotAfter(h.spent[i], now)
	}
	h.spent = slices.DeleteFunc(h.spent, func(at time.Time) bool { return now.Sub(at) >= sourceMemory })
	for name, s := range h.accounts {
		s.failed, s.right, s.forgiven = auth.NotAfter(s.failed, now), auth.NotAfter(s.right, now), auth.NotAfter(s.forgiven, now)
		if now.Sub(s.failed) >= window {
			s.recent = 0
		}
		if now.Sub(s.failed) >= sourceMemory {
			s.wrong, s.spent, s.failed = 0, false, time.Time{}
		}
		if now.Sub(s.right) >= sourceMemory {
			s.right = time.Time{}
		}
		if now.Sub(s.forgiven) >= sourceMemory {
			s.forgiven = time.Time{}
		}
		if since := now.Sub(s.since); since >= window || since < 0 {
			s.repeated, s.since = 0, time.Time{}
		}
		if s.underWay == 0 {
			s.granted = s.spent
			// Otherwise the account itself remembers.
			s.proven = !s.right.IsZero() || !s.forgiven.IsZero()
		}
		s.near = s.near && s.wrong > 0
		// What was wrong of an account that has nothing to do with the source it remembers
		// itself; names that were tried once must not be remembered for a day.
		if s.recent == 0 && !s.near && s.repeated == 0 && s.underWay == 0 && !s.spent && !s.proven {
			delete(h.accounts, name)
			continue
		}
		h.add(s, 1)
	}
}

// look shows f the history of a source or network without what is much older
// than the window.
func (t *Throttle) look(l level, now time.Time, f func(*sourceHistory)) {
	t.init()
	t.histories[l.size].update(l.prefix, func(h *sourceHistory) *sourceHistory {
		if h == nil {
			h = &sourceHistory{
				accounts: make(map[auth.Name]*sourceAccount), times: networkSizes[l.size].times, aged: now,
				known: t.knownNetwork(l.prefix).IsValid(),
			}
		}
		t.refresh(h, now)
		f(h)
		t.mark(h, now)
		return h
	})
}

func (t *Throttle) init() {
	t.once.Do(func() {
		n := cmp.Or(t.Sources, 65536)
		for size := range numSizes {
			if size.isSource() {
				t.histories[size] = newShards[netip.Prefix, *sourceHistory](n)
			} else {
				t.histories[size] = newShards[netip.Prefix, *sourceHistory](n / 4)
			}
		}
	})
}

// refresh drops what is much older than the window.
func (t *Throttle) refresh(h *sourceHistory, now time.Time) {
	window := cmp.Or(t.Window, 10*time.Minute)
	if since := now.Sub(h.aged); since >= window/20 || since < 0 {
		h.age(now, window)
	}
}
