package auth

import (
	"net/netip"
	"sync"
	"time"
)

// Throttle slows down one source that guesses at many accounts: it must trip
// before a stranger can lock many owners out. A source is an IPv4 address or an
// IPv6 /64. A whole office may stand behind one address, so what counts is not
// how many people mistype but how many accounts have failed from there without
// having succeeded from there; sources with recent successes get more room.
//
// It is a sliding window in bounded memory, lost at a restart: the lock of the
// account, which is not, is what the regulation asks for.
type Throttle struct {
	// Window is how long a failure and a success are remembered. 0: 10 minutes.
	Window time.Duration
	// Accounts is how many accounts may have failed within the window, plus one
	// for every account that succeeded. 0: 10.
	Accounts int
	// Failures is how many failures there may be on those accounts, plus six
	// for every account that succeeded. 0: 100.
	Failures int
	// Sources is how many sources are remembered. 0: 65536.
	Sources int

	once    sync.Once
	sources lru[netip.Prefix, *sourceHistory]
}

// sourceHistory is what one source did, by account, bounded by maxPerSource.
type sourceHistory struct {
	accounts map[Name]*sourceAccount
}

type sourceAccount struct {
	failures      int
	underWay      int
	failed, right time.Time
}

// maxPerSource bounds the accounts remembered of one source. It is above any
// office's size; a source that fills it is refused.
const maxPerSource = 4096

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

func (t *Throttle) window() time.Duration { return orDefault(t.Window, 10*time.Minute) }

// passage is what the throttle says to an attempt.
type passage uint8

const (
	passes  passage = iota
	waits           // until something of this source that is under way has ended
	refused         // too much has failed
)

// begin lets an attempt pass and counts it as under way until end. What is under
// way counts like a failure, or a burst would be through before its first
// verdict; but it makes others wait rather than refuses them, since a burst of
// colleagues looks the same until then.
func (t *Throttle) begin(source netip.AddrPort, name Name, now time.Time) (p passage) {
	if t == nil {
		return passes
	}
	t.look(source, now, func(h *sourceHistory) {
		failing, failures, succeeded, pending, underWay := 0, 0, 0, 0, 0
		for _, a := range h.accounts {
			switch {
			case !a.right.IsZero():
				succeeded++
				continue
			case a.failures > 0:
				failing++
				failures += a.failures
			case a.underWay > 0:
				pending++
			}
			underWay += a.underWay
		}
		mostAccounts := orDefault(t.Accounts, 10) + succeeded
		mostFailures := orDefault(t.Failures, 100) + 6*succeeded
		a := h.accounts[name]
		fresh := a == nil || a.right.IsZero() && a.failures == 0 && a.underWay == 0
		switch {
		case failing >= mostAccounts || failures >= mostFailures || a == nil && len(h.accounts) >= maxPerSource:
			p = refused
			return
		case fresh && failing+pending >= mostAccounts || failures+underWay >= mostFailures:
			p = waits
			return
		}
		if a == nil {
			a = new(sourceAccount)
			h.accounts[name] = a
		}
		a.underWay++
	})
	return p
}

// end takes back a begin that passed.
func (t *Throttle) end(source netip.AddrPort, name Name, failed bool, now time.Time) {
	t.note(source, name, now, func(a *sourceAccount) {
		a.underWay = max(0, a.underWay-1)
		if failed {
			a.failures++
			a.failed = now
		}
	})
}

// failed notes a wrong password.
func (t *Throttle) failed(source netip.AddrPort, name Name, now time.Time) {
	t.note(source, name, now, func(a *sourceAccount) { a.failures++; a.failed = now })
}

// succeeded notes an accepted login, which also forgives the mistypes before it.
func (t *Throttle) succeeded(source netip.AddrPort, name Name, now time.Time) {
	t.note(source, name, now, func(a *sourceAccount) { a.failures = 0; a.right = now })
}

func (t *Throttle) note(source netip.AddrPort, name Name, now time.Time, f func(*sourceAccount)) {
	if t == nil {
		return
	}
	t.look(source, now, func(h *sourceHistory) {
		a := h.accounts[name]
		if a == nil {
			if len(h.accounts) >= maxPerSource {
				return
			}
			a = new(sourceAccount)
			h.accounts[name] = a
		}
		f(a)
	})
}

// look shows f the history of a source without what is older than the window.
func (t *Throttle) look(source netip.AddrPort, now time.Time, f func(*sourceHistory)) {
	t.once.Do(func() { t.sources.max = orDefault(t.Sources, 65536) })
	t.sources.update(Source(source.Addr()), func(h *sourceHistory) *sourceHistory {
		if h == nil {
			h = &sourceHistory{accounts: make(map[Name]*sourceAccount)}
		}
		old := now.Add(-t.window())
		for name, a := range h.accounts {
			if a.right.Before(old) {
				a.right = time.Time{}
			}
			if a.failed.Before(old) {
				a.failures = 0
			}
			if a.right.IsZero() && a.failures == 0 && a.underWay == 0 {
				delete(h.accounts, name)
			}
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
