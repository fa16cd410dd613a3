package throttle

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/internal/lru"
)

// What holds where a [Throttle] has 0.
const (
	DefaultWindow   = 10 * time.Minute
	DefaultAccounts = 10
	DefaultFailures = 100
	DefaultLocks    = 5
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
// ([NetworksAbove]): whoever holds an IPv4 /24 has 256 sources, and 65536 in an
// IPv6 /48. An attempt needs room, and a grant, at each of them.
//
// In a known network ([guard.Policy].KnownNetworks), an office of the organisation's own,
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
	// Window is how long a failure is remembered. 0: [DefaultWindow].
	Window time.Duration
	// Accounts is how many unproven accounts may have failed within the window,
	// plus one for every account that succeeded within a day.
	// 0: [DefaultAccounts].
	Accounts int
	// Failures is how many failures there may be on those accounts, plus six
	// for every account that succeeded. 0: [DefaultFailures].
	Failures int
	// Locks is how many accounts a source may bring near their lock within a
	// day, plus one for every ten that succeeded. 0: [DefaultLocks].
	Locks int
	// Sources is how many sources are remembered of IPv4, and as many of IPv6,
	// and a quarter as many networks of each size; the one not heard of for
	// longest is forgotten first. 0: 65536.
	Sources int

	once sync.Once
	// histories are those of sources and networks, each size on its own: however
	// many sources a network has, they push none of the networks out.
	histories [numSizes]lru.Map[netip.Prefix, *sourceHistory]
	allowed   allowances
	known     atomic.Pointer[knownNetworks] // see SetKnown
}

// sourceMemory is how long a throttle remembers what is not within its window:
// logins, and accounts near their lock.
const sourceMemory = 24 * time.Hour

// freeRepeats is how often within the window a source may repeat a wrong password of an
// account before each counts like a failure there: more than programs do.
const freeRepeats = 30

// maxWaitingPerSource bounds the attempts of one source that wait.
const maxWaitingPerSource = 2048

// MaxPerSource bounds the accounts remembered of one source. Where more people
// than that log in from, as at a webmail host, those who have are forgotten to
// make room, since their accounts remember it; a source that fills it with
// failures is refused.
const MaxPerSource = 4096

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

// Passage is what the throttle says to an attempt.
type Passage uint8

const (
	Passes  Passage = iota
	Waits           // until something of this source that is under way has ended
	Refused         // too much has failed
)

// Ending is how an attempt that the throttle let pass has ended.
type Ending uint8

const (
	EndedWell Ending = iota // or without anything to hold against the source
	EndedInDoubt
	EndedPrevious // with a password that was right before
	EndedRepeated // with a wrong one that is not counted again
	EndedWrong
)

// Decision is what the throttle says to an attempt.
type Decision struct {
	Passage Passage
	Ended   <-chan struct{} // closed when something of the source has ended; of an attempt that waits
	Allowed bool            // an admin lets the source go on
	// Of the account at the source, as far as this process knows: whether it was
	// logged in to from there within a day, and whether an admin has forgiven it.
	Proven, Forgiven bool
}

// Attempt is an attempt as the throttle sees it.
type Attempt struct {
	Source    netip.Prefix
	Known     netip.Prefix // the known network that the source lies in; invalid for none
	Name      auth.Name
	Tolerated int  // of the rules
	Seen      int  // the length of the smallest level that the account remembers a login from; 0 is none
	Looked    bool // or does not: it was asked
	Allowed   bool // an admin let the source go on when it began
	Granted   bool // it was given a grant
	Near      int  // as seen, of the account that the attempt was admitted to
}

// Free is how many wrong passwords need no grant: two of five; where the source lies
// in a known network four, so that a colleague's PC that guesses at everybody does not
// keep those out who come for the first time. What such a network can lock does not
// change with it, since the last that locks needs a grant in any case.
func (a Attempt) Free() int {
	elsewhere, known := auth.Lockout{Tolerated: a.Tolerated}.WithoutGrant()
	if a.Known.IsValid() {
		return known
	}
	return elsewhere
}

// Begin lets an attempt pass and counts it as under way until End. One that is
// to wait, the account having been looked at, may ask again when Ended is closed.
func (t *Throttle) Begin(a Attempt, now time.Time) Decision {
	if t == nil {
		return Decision{}
	}
	a.Allowed = t.allowed.covers(a.Source, now)
	levels, n := a.levels()
	// The largest network first: once it is refused nothing below it need be
	// remembered.
	for i := n - 1; i >= 0; i-- {
		p := t.beginAt(levels[i], a, now)
		switch {
		case p.Passage != Passes:
			for i++; i < n; i++ {
				t.endAt(levels[i], a, EndedWell, now)
			}
			return p
		case i == 0:
			p.Allowed = a.Allowed
			return p
		}
	}
	return Decision{} // not reached: the last level is the source
}

func (t *Throttle) beginAt(l level, a Attempt, now time.Time) (p Decision) {
	t.look(l, now, func(h *sourceHistory) {
		if !h.room(a.Name) {
			if !a.Allowed {
				p.Passage = Refused
			}
			return
		}
		h.change(a.Name, func(s *sourceAccount) {
			s.proven = s.proven || a.Seen >= l.prefix.Bits()
			if p.Passage = t.passage(h, s, a); p.Passage == Passes {
				s.underWay++
			}
			p.Proven, p.Forgiven = !s.right.IsZero(), !s.forgiven.IsZero()
		})
		if p.Passage != Waits || !a.Looked {
			return
		}
		if h.ended == nil {
			h.ended, h.waiting = make(chan struct{}), 0
		}
		if h.waiting++; h.waiting > maxWaitingPerSource {
			p.Passage = Refused
		}
		p.Ended = h.ended
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
		accounts: times*cmp.Or(t.Accounts, DefaultAccounts) + h.succeeded,
		failures: times*cmp.Or(t.Failures, DefaultFailures) + 6*h.succeeded,
		locks:    times*cmp.Or(t.Locks, DefaultLocks) + h.succeeded/10,
	}
}

// passage decides for one more attempt on the account s, which the tally leaves
// out.
func (t *Throttle) passage(h *sourceHistory, s *sourceAccount, a Attempt) Passage {
	if a.Allowed {
		s.granted = s.granted || s.wrong+s.underWay >= a.Free()
		return Passes
	}
	most := t.limits(h)
	if !s.proven {
		switch {
		case h.failing >= most.accounts || h.failures+s.recent >= most.failures:
			return Refused
		case s.recent == 0 && s.underWay == 0 && h.failing+h.trying >= most.accounts:
			return Waits
		case h.failures+s.recent+h.underWay+s.underWay >= most.failures:
			return Waits
		}
	}
	if s.wrong+s.underWay < a.Free() {
		return Passes
	}
	p := h.grant(s, most)
	if p == Refused && s.wrong < a.Free() {
		return Waits // for those under way, which may be right
	}
	return p
}

// grant gives the account s one of the grants that are left, unless it has one.
func (h *sourceHistory) grant(s *sourceAccount, most limits) Passage {
	switch {
	case s.granted:
		return Passes
	case h.spending+len(h.spent) >= most.locks:
		return Refused
	case h.granted+len(h.spent) >= most.locks:
		return Waits // those under way may give theirs back
	}
	s.granted = true
	return Passes
}

// Grant gives an attempt that has begun a grant of its source and of all networks
// above it, unless the account holds one there: others have made the failures that
// need none. The source is asked first, so that one that has none left takes none
// of its network's for a while. It is given back when nothing of the account is
// under way there, unless the attempt turned out wrong.
func (t *Throttle) Grant(a Attempt, now time.Time) (p Passage) {
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if !h.room(a.Name) {
				p = Refused
				return
			}
			h.change(a.Name, func(s *sourceAccount) {
				if a.Allowed {
					s.granted = true
					return
				}
				p = h.grant(s, t.limits(h))
			})
		})
		if p != Passes {
			return p
		}
	}
	return Passes
}

// End takes back a begin that passed.
func (t *Throttle) End(a Attempt, e Ending, now time.Time) {
	if t == nil {
		return
	}
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.endAt(l, a, e, now)
	}
}

func (t *Throttle) endAt(l level, a Attempt, e Ending, now time.Time) {
	t.look(l, now, func(h *sourceHistory) {
		if h.room(a.Name) {
			h.change(a.Name, func(s *sourceAccount) {
				s.underWay = max(0, s.underWay-1)
				s.noteEnding(a, e, now)
				s.near = s.near || a.Near >= l.prefix.Bits()
			})
		}
		h.wake()
	})
}

// Failed notes a failure of an attempt that did not begin here.
func (t *Throttle) Failed(a Attempt, e Ending, now time.Time) {
	if t == nil {
		return
	}
	a.Allowed = t.allowed.covers(a.Source, now)
	levels, n := a.levels()
	for _, l := range levels[:n] {
		t.note(l, a.Name, now, func(s *sourceAccount) {
			s.noteEnding(a, e, now)
			s.near = s.near || a.Near >= l.prefix.Bits()
		})
	}
}

// noteEnding notes how an attempt has ended. One in doubt spends no grant: it
// never locks, and an outage must not leave strangers without grants for the day.
// Nor does one with an earlier password, which the account does not count.
func (s *sourceAccount) noteEnding(a Attempt, e Ending, now time.Time) {
	switch {
	case e == EndedWell:
		return
	case e == EndedRepeated:
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
	if e == EndedWrong {
		s.wrong++
		if a.Granted || s.granted && s.wrong > a.Free() {
			s.granted, s.spent = true, true
		}
	}
}

// Succeeded notes an accepted login, which also forgives the mistypes before it.
func (t *Throttle) Succeeded(a Attempt, now time.Time) {
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
	t.note(source, a.Name, now, func(s *sourceAccount) { news = login(s) })
	if !news {
		return // the networks have been told within the hour
	}
	a.Allowed = false // a login takes no room
	levels, n := a.levels()
	for _, l := range levels[1:n] {
		t.note(l, a.Name, now, func(s *sourceAccount) { login(s) })
	}
}

// wake lets those who wait ask again.
func (h *sourceHistory) wake() {
	if h.ended != nil {
		close(h.ended)
		h.ended = nil
	}
}

// Memory is what is known of an account at a source and at the networks above.
type Memory [maxLevels]sourceAccount

// Remembered returns what is known of an account where an attempt comes from.
func (t *Throttle) Remembered(a Attempt, now time.Time) (m Memory) {
	levels, n := a.levels()
	for i, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if known := h.accounts[a.Name]; known != nil {
				m[i] = *known
			}
		})
	}
	return m
}

// Forgiven takes back wrong passwords that the account itself does not count any
// more: failures is what it counted after before was remembered. Whatever has
// happened since, or is under way, it may not have counted yet. A grant that was
// spent stays so.
func (t *Throttle) Forgiven(a Attempt, before Memory, failures int, now time.Time) {
	levels, n := a.levels()
	for i, l := range levels[:n] {
		t.look(l, now, func(h *sourceHistory) {
			if s := h.accounts[a.Name]; s != nil && *s == before[i] && s.underWay == 0 && s.wrong > failures {
				h.change(a.Name, func(s *sourceAccount) { s.wrong = failures })
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
	if len(h.accounts) < MaxPerSource || h.accounts[name] != nil {
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
	t.histories[l.size].Update(l.prefix, func(h *sourceHistory) *sourceHistory {
		if h == nil {
			h = &sourceHistory{
				accounts: make(map[auth.Name]*sourceAccount), times: networkSizes[l.size].times, aged: now,
				known: t.KnownNetwork(l.prefix).IsValid(),
			}
		}
		t.refresh(h, now)
		f(h)
		t.mark(h, now)
		return h
	})
}

// Size returns how much is remembered: of how many sources, and of how many accounts
// at the source or network that has most.
func (t *Throttle) Size() (sources, accounts int) {
	t.init()
	for size := range t.histories {
		t.histories[size].Each(func(_ netip.Prefix, h *sourceHistory) {
			if networkSize(size).isSource() {
				sources++
			}
			accounts = max(accounts, len(h.accounts))
		})
	}
	return sources, accounts
}

func (t *Throttle) init() {
	t.once.Do(func() {
		n := cmp.Or(t.Sources, 65536)
		for size := range numSizes {
			if size.isSource() {
				t.histories[size] = lru.New[netip.Prefix, *sourceHistory](n)
			} else {
				t.histories[size] = lru.New[netip.Prefix, *sourceHistory](n / 4)
			}
		}
	})
}

// refresh drops what is much older than the window.
func (t *Throttle) refresh(h *sourceHistory, now time.Time) {
	window := cmp.Or(t.Window, DefaultWindow)
	if since := now.Sub(h.aged); since >= window/20 || since < 0 {
		h.age(now, window)
	}
}
