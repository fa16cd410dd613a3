package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Throttle slows down one source that guesses at many accounts: it must trip
// before a stranger can lock many owners out. A source is an IPv4 address or an
// IPv6 /64. A whole office may stand behind one address, so what counts is not
// how many people mistype there but two other things.
//
// Spraying: how many accounts have failed from there that nobody has logged in
// to from there. An account is proven at a source when it was logged in to from
// it lately ([Account].Seen remembers that over restarts); proven accounts are
// neither counted nor refused, or one stranger in an office would stop all his
// colleagues.
//
// Locking: the third failure of an account and the ones behind it need a grant,
// of which a source has few a day, whoever's the account is. So one source can
// make two guesses at many accounts, which locks none, and lock few. A login
// gives the grant back.
//
// Who is given an IPv6 network has 65536 sources of it in a /48. All of a /48
// together are one more source, with four times the room.
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
	// Sources is how many sources are remembered; the one not heard of for
	// longest is forgotten first. 0: 65536.
	Sources int

	once   sync.Once
	shards shards[netip.Prefix, *sourceHistory]
}

// sourceMemory is how long a throttle remembers what is not within its window:
// logins, and accounts near their lock.
const sourceMemory = 24 * time.Hour

// maxWaitingPerSource bounds the attempts of one source that wait.
const maxWaitingPerSource = 2048

// maxPerSource bounds the accounts remembered of one source. Where more people
// than that log in from, as at a webmail host, those who have are forgotten to
// make room, since their accounts remember it; a source that fills it with
// failures is refused.
const maxPerSource = 4096

// sourceHistory is what one source did, by account.
type sourceHistory struct {
	accounts map[Name]*sourceAccount
	sourceTally
	aged time.Time // when what is too old was last dropped

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
	granted   int // accounts near their lock, or that may come near
	near      int // accounts near their lock for certain
}

// sourceAccount is what one source did to one account.
type sourceAccount struct {
	recent   int // failures within the window, also those in doubt
	wrong    int // wrong passwords within a day, since the last login
	underWay int
	proven   bool // logged in to from here lately
	granted  bool // may go beyond the first failures
	near     bool // has gone beyond them, by the rules as they were then

	failed, right time.Time // the latest; right is set within a day only
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
	if a.near {
		t.near += n
	}
}

// Source is the unit that is throttled: the /32 of an IPv4 address, the /64 of
// an IPv6 address, which is what one customer is given.
func Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
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
	endedWrong
)

// throttled is an attempt as the throttle sees it.
type throttled struct {
	source    netip.Prefix
	name      Name
	tolerated int  // of the rules
	proven    bool // the account remembers a login from here
	looked    bool // or does not: it was asked
	times     int  // the room of a source; 0 is 1
}

// siteRoom is how much room a site has, in that of a source.
const siteRoom = 4

// site is the attempt as one of all sources of a /48; ok is false for IPv4.
func (a throttled) site() (_ throttled, ok bool) {
	if !a.source.Addr().Is6() {
		return a, false
	}
	a.source = netip.PrefixFrom(a.source.Addr(), 48).Masked()
	a.times = siteRoom
	return a, true
}

// free is how many wrong passwords need no grant: two of five.
func (a throttled) free() int { return a.tolerated / 2 }

// begin lets an attempt pass and counts it as under way until end. One that is
// to wait, the account having been looked at, may ask again when ended is closed.
func (t *Throttle) begin(a throttled, now time.Time) (p passage, ended <-chan struct{}) {
	if t == nil {
		return passes, nil
	}
	site, ok := a.site()
	if !ok {
		return t.beginOne(a, now)
	}
	// The site first: once it is refused no source of it need be remembered.
	if p, ended = t.beginOne(site, now); p != passes {
		return p, ended
	}
	if p, ended = t.beginOne(a, now); p != passes {
		t.endOne(site, endedWell, now)
	}
	return p, ended
}

func (t *Throttle) beginOne(a throttled, now time.Time) (p passage, ended <-chan struct{}) {
	t.look(a, now, func(h *sourceHistory) {
		if !h.room(a.name) {
			p = refused
			return
		}
		h.change(a, func(s *sourceAccount) {
			s.proven = s.proven || a.proven
			if p = t.passage(h, s, a); p == passes {
				s.underWay++
			}
		})
		if p != waits || !a.looked {
			return
		}
		if h.ended == nil {
			h.ended, h.waiting = make(chan struct{}), 0
		}
		if h.waiting++; h.waiting > maxWaitingPerSource {
			p = refused
		}
		ended = h.ended
	})
	return p, ended
}

// passage decides for one more attempt on the account s, which the tally leaves
// out.
func (t *Throttle) passage(h *sourceHistory, s *sourceAccount, a throttled) passage {
	times := max(1, a.times)
	if !s.proven {
		accounts := times*orDefault(t.Accounts, 10) + h.succeeded
		failures := times*orDefault(t.Failures, 100) + 6*h.succeeded
		switch {
		case h.failing >= accounts || h.failures+s.recent >= failures:
			return refused
		case s.recent == 0 && s.underWay == 0 && h.failing+h.trying >= accounts:
			return waits
		case h.failures+s.recent+h.underWay+s.underWay >= failures:
			return waits
		}
	}
	if s.granted || s.wrong+s.underWay < a.free() {
		return passes
	}
	locks := times*orDefault(t.Locks, 5) + h.succeeded/10
	switch {
	case h.near >= locks && s.wrong >= a.free():
		return refused
	case h.granted >= locks, h.near >= locks:
		return waits // for those under way, which may be right
	}
	s.granted = true
	return passes
}

// end takes back a begin that passed.
func (t *Throttle) end(a throttled, e ending, now time.Time) {
	if t == nil {
		return
	}
	t.endOne(a, e, now)
	if site, ok := a.site(); ok {
		t.endOne(site, e, now)
	}
}

func (t *Throttle) endOne(a throttled, e ending, now time.Time) {
	t.look(a, now, func(h *sourceHistory) {
		h.change(a, func(s *sourceAccount) {
			s.underWay = max(0, s.underWay-1)
			s.noteEnding(e, now)
		})
		h.wake()
	})
}

// failed notes a failure of an attempt that did not begin here.
func (t *Throttle) failed(a throttled, e ending, now time.Time) {
	t.note(a, now, func(s *sourceAccount) { s.noteEnding(e, now) })
}

func (s *sourceAccount) noteEnding(e ending, now time.Time) {
	if e == endedWell {
		return
	}
	s.recent++
	s.failed = now
	if e == endedWrong {
		s.wrong++
	}
}

// succeeded notes an accepted login, which also forgives the mistypes before it.
func (t *Throttle) succeeded(a throttled, now time.Time) {
	t.note(a, now, func(s *sourceAccount) {
		s.recent, s.wrong, s.proven, s.right = 0, 0, true, now
	})
}

// forgive forgets the failures of an account: an admin has.
func (t *Throttle) forgive(a throttled, now time.Time) {
	t.note(a, now, func(s *sourceAccount) { s.recent, s.wrong = 0, 0 })
}

// forget forgets everything that a source has done, but for what is under way.
func (t *Throttle) forget(source netip.Prefix, now time.Time) {
	if t == nil {
		return
	}
	a := throttled{source: source}
	t.forgetOne(a, now)
	if site, ok := a.site(); ok {
		t.forgetOne(site, now)
	}
}

func (t *Throttle) forgetOne(a throttled, now time.Time) {
	t.look(a, now, func(h *sourceHistory) {
		h.sourceTally = sourceTally{}
		for name, s := range h.accounts {
			s.recent, s.wrong, s.granted, s.near, s.failed = 0, 0, false, false, time.Time{}
			if s.underWay == 0 && !s.proven {
				delete(h.accounts, name)
				continue
			}
			h.add(s, 1)
		}
		h.wake()
	})
}

// wake lets those who wait ask again.
func (h *sourceHistory) wake() {
	if h.ended != nil {
		close(h.ended)
		h.ended = nil
	}
}

// memory is what is known of an account at a source, and at its site.
type memory [2]sourceAccount

// remembered returns what is known of an account where an attempt comes from.
func (t *Throttle) remembered(a throttled, now time.Time) (m memory) {
	read := func(a throttled, s *sourceAccount) {
		t.look(a, now, func(h *sourceHistory) {
			if known := h.accounts[a.name]; known != nil {
				*s = *known
			}
		})
	}
	read(a, &m[0])
	if site, ok := a.site(); ok {
		read(site, &m[1])
	}
	return m
}

// forgiven takes back wrong passwords that the account itself does not count any
// more: failures is what it counted after before was remembered. Whatever has
// happened since, or is under way, it may not have counted yet.
func (t *Throttle) forgiven(a throttled, before memory, failures int, now time.Time) {
	t.forgivenOne(a, before[0], failures, now)
	if site, ok := a.site(); ok {
		t.forgivenOne(site, before[1], failures, now)
	}
}

func (t *Throttle) forgivenOne(a throttled, before sourceAccount, failures int, now time.Time) {
	t.look(a, now, func(h *sourceHistory) {
		if s := h.accounts[a.name]; s != nil && *s == before && s.underWay == 0 && s.wrong > failures {
			h.change(a, func(s *sourceAccount) { s.wrong = failures })
		}
	})
}

func (t *Throttle) note(a throttled, now time.Time, f func(*sourceAccount)) {
	if t == nil {
		return
	}
	t.noteOne(a, now, f)
	if site, ok := a.site(); ok {
		t.noteOne(site, now, f)
	}
}

func (t *Throttle) noteOne(a throttled, now time.Time, f func(*sourceAccount)) {
	t.look(a, now, func(h *sourceHistory) {
		if h.room(a.name) {
			h.change(a, f)
		}
	})
}

// room makes some for one more account, if there must be.
func (h *sourceHistory) room(name Name) bool {
	if len(h.accounts) < maxPerSource || h.accounts[name] != nil {
		return true
	}
	looks := 16 // of many; where most have failed there is none for good reason
	for other, s := range h.accounts {
		if s.recent == 0 && s.wrong == 0 && s.underWay == 0 {
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
func (h *sourceHistory) change(a throttled, f func(*sourceAccount)) {
	s := h.accounts[a.name]
	if s == nil {
		s = new(sourceAccount)
		h.accounts[a.name] = s
	} else {
		h.add(s, -1)
	}
	f(s)
	if s.granted && s.underWay == 0 && s.wrong <= a.free() {
		s.granted = false // it has not come near after all
	}
	s.near = s.granted && s.wrong > a.free()
	if *s == (sourceAccount{}) {
		delete(h.accounts, a.name)
		return
	}
	h.add(s, 1)
}

// age drops what is too old and counts anew.
func (h *sourceHistory) age(a throttled, now time.Time, window time.Duration) {
	h.sourceTally, h.aged = sourceTally{}, now
	for name, s := range h.accounts {
		// A clock that was ahead has been set right: from now on, then.
		s.failed, s.right = notAfter(s.failed, now), notAfter(s.right, now)
		if now.Sub(s.failed) >= window {
			s.recent = 0
		}
		if now.Sub(s.failed) >= sourceMemory {
			s.wrong, s.failed = 0, time.Time{}
		}
		if now.Sub(s.right) >= sourceMemory {
			s.right = time.Time{}
		}
		if s.underWay == 0 {
			s.granted = s.granted && s.wrong > a.free()
			// Otherwise the account itself remembers.
			s.proven = !s.right.IsZero()
		}
		s.near = s.granted && s.wrong > a.free()
		if s.recent == 0 && s.wrong == 0 && s.underWay == 0 && !s.proven {
			delete(h.accounts, name)
			continue
		}
		h.add(s, 1)
	}
}

// notAfter returns t, or now if that is earlier.
func notAfter(t, now time.Time) time.Time {
	if now.Before(t) {
		return now
	}
	return t
}

// look shows f the history of a source without what is much older than the
// window.
func (t *Throttle) look(a throttled, now time.Time, f func(*sourceHistory)) {
	t.once.Do(func() { t.shards = newShards[netip.Prefix, *sourceHistory](orDefault(t.Sources, 65536)) })
	t.shards.update(a.source, func(h *sourceHistory) *sourceHistory {
		if h == nil {
			h = &sourceHistory{accounts: make(map[Name]*sourceAccount), aged: now}
		}
		window := orDefault(t.Window, 10*time.Minute)
		if since := now.Sub(h.aged); since >= window/20 || since < 0 {
			h.age(a, now, window)
		}
		f(h)
		return h
	})
}

func orDefault[T int | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}
