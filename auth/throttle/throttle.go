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

// Defaults of a [Throttle] whose field is 0.
const (
	DefaultWindow   = 10 * time.Minute
	DefaultAccounts = 10
	DefaultFailures = 100
	DefaultLocks    = 5
)

// Throttle slows down one source that guesses at many accounts: it must refuse the
// source before a guesser can lock many owners out. A source is an IPv4 address or an
// IPv6 /64. A whole office may use one address, so the number of people who mistype
// there does not count. Two other things count.
//
// Spraying: the number of accounts that failed from the source and have no login from
// it. An account is proven at a source, or in a network, if it was lately logged in to
// from there ([auth.Account].Seen remembers that across restarts). Proven accounts are
// neither counted nor refused; otherwise one guesser in an office would stop all
// colleagues.
//
// Locking: a source may cause at most two failures of any account. For the third and
// each later one it needs a grant; it has Locks grants a day for all accounts together.
// If an account is not proven, all its failures count, from any source and through any
// replica: the guard asks the account ([auth.Rules.FreeSlots]), which is durable. If it
// is proven only failures from this source count, so that guessers at other sources do
// not affect its owner. So sources can make two guesses at many accounts, which locks
// none of them, and lock few, together no more than each of them could alone. An attempt
// that was right or was not judged returns its grant, and so does a later login from
// there. An unlock does not; otherwise each unlock would give the source that caused the
// lock another grant.
//
// A network is treated as one more source, with several times the room
// ([NetworksAbove]): the holder of an IPv4 /24 has 256 sources, and the holder of an
// IPv6 /48 has 65536. An attempt needs room, and a grant, at each level.
//
// In a known network ([guard.Policy].KnownNetworks), an office of the organisation
// itself, all but the last two failures of an account need no grant: twice as many as
// at other sources. On the first day no account is proven there, and one infected PC that
// guesses at all its colleagues would otherwise use up what they need for their first
// login. While wrong passwords lock, a known network has no more room for spraying and
// no more grants: with these, that PC could bring more accounts near their lock before
// their owners arrive. So no network locks more accounts because it is known. While
// wrong passwords do not lock, it has ten times as much of both. A larger network above
// it does not count: neighbours at the same provider take none of its room.
//
// Over a limit the answer is temporary, the mail server is not asked and nothing
// is counted on the account. An attempt in progress counts like a failure, or a burst
// would pass before its first verdict; but it makes others wait and does not refuse
// them, since a burst of colleagues looks the same until then.
//
// It is a sliding window in bounded memory, lost at a restart. The lock of the
// account, which the regulation requires, is durable.
type Throttle struct {
	// Window is how long a failure is remembered. 0: [DefaultWindow].
	Window time.Duration
	// Accounts is the number of unproven accounts that may fail within the window,
	// plus one for every account that succeeded within a day.
	// 0: [DefaultAccounts].
	Accounts int
	// Failures is the number of failures that those accounts may have, plus six
	// for every account that succeeded. 0: [DefaultFailures].
	Failures int
	// Locks is the number of accounts that a source may bring near their lock within a
	// day, plus one for every ten that succeeded. 0: [DefaultLocks].
	Locks int
	// Sources is the number of IPv4 sources that are remembered, as many of IPv6,
	// and a quarter as many networks of each size; the one that was not used for
	// longest is forgotten first. 0: 65536.
	Sources int

	once sync.Once
	// histories are those of sources and networks, one map for each size: however
	// many sources a network has, they do not displace networks.
	histories [numSizes]lru.Map[netip.Prefix, *sourceHistory]
	allowed   allowances
	known     atomic.Pointer[knownNetworks] // see SetKnown
}

// sourceMemory is how long a throttle remembers what its window does not cover: logins,
// and accounts near their lock.
const sourceMemory = 24 * time.Hour

// freeRepeats is the number of times within the window that a source may repeat a wrong
// password of an account before each repetition counts like a failure there: more than
// programs do.
const freeRepeats = 30

// maxWaitingPerSource is the largest number of waiting attempts of one source.
const maxWaitingPerSource = 2048

// MaxPerSource is the number of accounts remembered for one source. If more people log
// in from it, as at a webmail host, the oldest logins are forgotten to make room, since
// the accounts remember them. A source that fills this room with failures is refused.
const MaxPerSource = 4096

// sourceHistory is what one source or network did, by account.
type sourceHistory struct {
	accounts map[auth.Name]*sourceAccount
	sourceTally
	times int // its room, as a multiple of a source's
	// spent are the used grants of accounts that were forgiven since, by the time when
	// they were last used, the oldest first.
	spent []time.Time
	known bool      // it lies in a known network
	since time.Time // when its refusal began; zero while it is not refused
	aged  time.Time // when old entries were last removed

	waiting int           // attempts that wait for others to end
	ended   chan struct{} // closed when an attempt has ended; nil while no attempt waits
}

// sourceTally has the sums over the accounts of a source, so that attempts need not compute them.
type sourceTally struct {
	succeeded int // accounts logged in to
	failing   int // unproven accounts that have failed within the window
	failures  int // failures of those accounts
	trying    int // unproven accounts whose attempts may still fail
	underWay  int // attempts in progress on unproven accounts
	granted   int // accounts that hold a grant, used or not
	spending  int // accounts whose grant is used
}

// sourceAccount is what one source or network did to one account.
type sourceAccount struct {
	recent   int // failures within the window, including those in doubt
	wrong    int // wrong passwords within a day, since the last login
	underWay int
	proven   bool // logged in to from this source lately, or forgiven
	granted  bool // has a grant
	spent    bool // has used the grant
	near     bool // the account remembers a login from here: then only this entry counts its failures from here

	failed, right time.Time // time of the latest failure and login; right only within a day
	forgiven      time.Time // time of the latest unlock, within a day

	repeated int       // repetitions of a wrong password within the window
	since    time.Time // time of the first of them
}

// add adds an account to the sums (n is 1) or removes it (n is -1).
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

// Passage says whether an attempt passes.
type Passage uint8

const (
	Passes  Passage = iota
	Waits           // until an attempt of this source has ended
	Refused         // too many failures
)

// Ending is the end of an attempt that has passed.
type Ending uint8

const (
	EndedWell Ending = iota // accepted, or nothing to hold against the source
	EndedInDoubt
	EndedPrevious // with a password that was right before
	EndedRepeated // with a wrong password that is not counted again
	EndedWrong
)

// Decision is the throttle's answer to an attempt.
type Decision struct {
	Passage Passage
	Ended   <-chan struct{} // if the attempt waits: closed when an attempt of the source has ended
	Allowed bool            // an admin has allowed the source
	// Proven and Forgiven concern the account at the source, as far as this process
	// knows: it was logged in to from there within a day; an admin has forgiven it.
	Proven, Forgiven bool
}

// Attempt is what the throttle needs to know of an attempt.
type Attempt struct {
	Source    netip.Prefix
	Known     netip.Prefix // the known network that contains the source; invalid for none
	Name      auth.Name
	Tolerated int  // auth.Lockout.Tolerated
	Seen      int  // prefix length of the smallest level from which the account remembers a login; 0: none
	Looked    bool // the account was read, so that Seen is known
	Allowed   bool // the source was allowed when the attempt began
	Granted   bool // the attempt has a grant
	Near      int  // like Seen, of the account with which the attempt was admitted
}

// Free is the number of wrong passwords that need no grant: two of five; in a known
// network four, so that a colleague's PC that guesses at every account does not keep out
// users who come for the first time. This does not change what such a network can lock,
// since the last failure, which locks, always needs a grant.
func (a Attempt) Free() int {
	elsewhere, known := auth.Lockout{Tolerated: a.Tolerated}.WithoutGrant()
	if a.Known.IsValid() {
		return known
	}
	return elsewhere
}

// Begin lets an attempt pass, and counts it as in progress until End. An attempt that
// must wait, and whose account was read, may call Begin again when Ended is closed.
func (t *Throttle) Begin(a Attempt, now time.Time) Decision {
	if t == nil {
		return Decision{}
	}
	a.Allowed = t.allowed.covers(a.Source, now)
	levels, n := a.levels()
	// The largest network first: if it refuses, no smaller level needs to remember the
	// attempt.
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
	return Decision{} // never reached: the last level is the source
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

// limits is the room of a source or network.
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

// passage decides about one more attempt on the account s, which is not in the tally at
// this moment.
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
		return Waits // for attempts in progress, which may be right
	}
	return p
}

// grant gives the account s one of the remaining grants, unless it has one.
func (h *sourceHistory) grant(s *sourceAccount, most limits) Passage {
	switch {
	case s.granted:
		return Passes
	case h.spending+len(h.spent) >= most.locks:
		return Refused
	case h.granted+len(h.spent) >= most.locks:
		return Waits // attempts in progress may return theirs
	}
	s.granted = true
	return Passes
}

// Grant gives an attempt that has begun a grant of its source and of all networks above
// it, unless the account already has one there: other attempts have made the failures
// that need none. The source is asked first, so that a source without grants does not
// hold one of its network's for a while. The grant is returned when no attempt on the
// account is in progress there, unless an attempt was wrong.
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

// End ends an attempt that has passed Begin.
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

// Failed notes a failure of an attempt that did not call Begin.
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

// noteEnding notes how an attempt has ended. An attempt in doubt uses no grant: it never
// locks, and an outage must not use up the grants of the day. An attempt with an earlier
// password does not either, since the account does not count it.
func (s *sourceAccount) noteEnding(a Attempt, e Ending, now time.Time) {
	switch {
	case e == EndedWell:
		return
	case e == EndedRepeated:
		// Programs repeat passwords, which does not count against their source up to a limit.
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

// Succeeded notes an accepted login, which also forgives the failures before it.
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
		return // the networks have noted a login within the last hour
	}
	a.Allowed = false // a login takes no room
	levels, n := a.levels()
	for _, l := range levels[1:n] {
		t.note(l, a.Name, now, func(s *sourceAccount) { login(s) })
	}
}

// wake wakes the waiting attempts.
func (h *sourceHistory) wake() {
	if h.ended != nil {
		close(h.ended)
		h.ended = nil
	}
}

// Memory is what the throttle knows of an account at a source and at the networks above.
type Memory [maxLevels]sourceAccount

// Remembered returns what the throttle knows of an account at the source of an attempt.
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

// Forgiven removes wrong passwords that the account itself does not count any more:
// failures is the account's count, read after before was taken. If anything has happened
// since, or is in progress, the account may not have counted it yet, and nothing is
// removed. A used grant stays used.
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

// room makes room for one more account if necessary, and reports whether there is room.
func (h *sourceHistory) room(name auth.Name) bool {
	if len(h.accounts) < MaxPerSource || h.accounts[name] != nil {
		return true
	}
	looks := 16 // look at 16 of many; if most have failed, there is rightly no room
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

// change changes one account of the source. While f runs, the tally contains only the
// other accounts.
func (h *sourceHistory) change(name auth.Name, f func(*sourceAccount)) {
	s := h.accounts[name]
	if s == nil {
		s = new(sourceAccount)
		h.accounts[name] = s
	} else {
		h.add(s, -1)
	}
	f(s)
	s.granted = s.spent || s.granted && s.underWay > 0 // otherwise the grant was not needed
	s.near = s.near && s.wrong > 0
	if *s == (sourceAccount{}) {
		delete(h.accounts, name)
		return
	}
	h.add(s, 1)
}

// age removes old entries and computes the sums again.
func (h *sourceHistory) age(now time.Time, window time.Duration) {
	h.sourceTally, h.aged = sourceTally{}, now
	h.since = auth.NotAfter(h.since, now)
	// A time in the future is from a clock that was ahead: use now.
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
			// In other cases the account itself remembers it.
			s.proven = !s.right.IsZero() || !s.forgiven.IsZero()
		}
		s.near = s.near && s.wrong > 0
		// If an account has nothing to do with the source, the account itself remembers
		// its failures; names that were tried once must not be remembered for a day.
		if s.recent == 0 && !s.near && s.repeated == 0 && s.underWay == 0 && !s.spent && !s.proven {
			delete(h.accounts, name)
			continue
		}
		h.add(s, 1)
	}
}

// look calls f with the history of a source or network, after entries much older than
// the window have been removed.
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

// Size returns the number of sources that are remembered, and the number of accounts at
// the source or network that has most.
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

// refresh removes entries that are much older than the window.
func (t *Throttle) refresh(h *sourceHistory, now time.Time) {
	window := cmp.Or(t.Window, DefaultWindow)
	if since := now.Sub(h.aged); since >= window/20 || since < 0 {
		h.age(now, window)
	}
}
