package throttle

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
)

// The acts of admins on the throttle, and their lists.

// ForgiveAccounts forgets the failures of accounts, up to an instant for each, at
// every source and network: an admin has unlocked them. Where an account had failed
// it counts as proven for a day. Nothing else that a source has done is forgotten,
// and the grants that it has used stay used.
//
// It reads all sources, which takes about 50 ms when the memory is full: therefore it
// takes many accounts at once.
func (t *Throttle) ForgiveAccounts(upto map[auth.Name]time.Time, now time.Time) {
	if t == nil {
		return
	}
	t.init()
	for size := range t.histories {
		t.histories[size].Each(func(_ netip.Prefix, h *sourceHistory) {
			forgiven := false
			consider := func(name auth.Name, upto time.Time) {
				// A failure in the future is from before the clock was set back.
				if s := h.accounts[name]; s != nil && !s.failed.IsZero() && (!s.failed.After(upto) || s.failed.After(now)) {
					h.forgive(name, now)
					forgiven = true
				}
			}
			if len(upto) <= len(h.accounts) {
				for name, upto := range upto {
					consider(name, upto)
				}
			} else {
				for name := range h.accounts {
					if upto, ok := upto[name]; ok {
						consider(name, upto)
					}
				}
			}
			if forgiven {
				t.mark(h, now)
			}
		})
	}
}

// ForgiveAt does so for one account at some sources, such as those at which its user was
// refused, even if it has not failed there.
func (t *Throttle) ForgiveAt(name auth.Name, now time.Time, sources ...netip.Prefix) {
	if t == nil {
		return
	}
	t.init()
	for _, source := range sources {
		levels, n := Attempt{Source: source, Known: t.KnownNetwork(source)}.levels()
		for _, l := range levels[:n] {
			t.look(l, now, func(h *sourceHistory) {
				if h.room(name) {
					h.forgive(name, now)
				}
			})
		}
	}
}

// forgive forgets the failures of one account.
func (h *sourceHistory) forgive(name auth.Name, now time.Time) {
	h.change(name, func(s *sourceAccount) {
		if s.spent && len(h.spent) < MaxPerSource {
			h.spent = append(h.spent, s.failed)
		}
		s.recent, s.wrong, s.spent, s.failed = 0, 0, false, time.Time{}
		s.proven, s.forgiven = true, now
	})
	h.wake()
}

// allowances are the sources that admins have allowed, and until when. There are few.
type allowances struct {
	some  atomic.Bool // whether there are any; read without the lock
	mu    sync.RWMutex
	until map[netip.Prefix]time.Time
}

// Allow exempts a source from its limits until then, and from those of its networks; a
// time that is not in the future ends that. What the source does meanwhile is counted
// for itself, and counts against it afterwards, but not for its networks: it takes
// nothing of the share of its neighbours. Accounts do not get more slots.
func (t *Throttle) Allow(source netip.Prefix, until time.Time) {
	if t == nil {
		return
	}
	w := &t.allowed
	w.mu.Lock()
	if w.until == nil {
		w.until = make(map[netip.Prefix]time.Time)
	}
	if until.IsZero() {
		delete(w.until, source)
	} else {
		w.until[source] = until
	}
	w.some.Store(len(w.until) > 0)
	w.mu.Unlock()
	t.init()
	levels, n := Attempt{Source: source, Known: t.KnownNetwork(source)}.levels()
	for _, l := range levels[:n] {
		// Waiting attempts of the source may pass now.
		t.histories[l.size].Alter(l.prefix, func(h **sourceHistory) { (*h).wake() })
	}
}

// covers reports whether the source is allowed now.
func (w *allowances) covers(source netip.Prefix, now time.Time) bool {
	if !w.some.Load() {
		return false
	}
	w.mu.RLock()
	until, ok := w.until[source]
	w.mu.RUnlock()
	if !ok || now.Before(until) {
		return ok
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !now.Before(w.until[source]) { // still expired, now under the lock
		delete(w.until, source)
		w.some.Store(len(w.until) > 0)
	}
	return false
}

// RefusedSource is a source, or a network of sources, that is refused for now.
type RefusedSource struct {
	// Source is an IPv4 address (/32) or an IPv6 /64, or a network above one: an
	// IPv4 /24, an IPv6 /48, /40 or /32, or a known network or a part of one.
	Source netip.Prefix
	// Known is the known network ([guard.Policy].KnownNetworks) that contains it; invalid for
	// none.
	Known netip.Prefix
	// Since is when its refusal began.
	Since time.Time
	// Accounts is the number of accounts without a recent login from there that
	// have failed within [Throttle].Window, and Failures the number of their failures.
	Accounts, Failures int
	// NearLock is the number of accounts that the source has brought near their
	// lock within a day, including those that were unlocked since.
	NearLock int
	// LoggedIn is the number of accounts logged in to from there within a day: with
	// some it is probably an office or a provider, and not only a guesser.
	LoggedIn int
	// Guessing is set when too many accounts have failed: then accounts without a recent
	// login from there are refused. Otherwise the source is refused only for accounts
	// with so many wrong passwords that one more needs a grant: see [Throttle].
	Guessing bool
}

// Refused lists the sources and networks that are refused now, the latest first, without
// those that an admin has allowed.
func (t *Throttle) Refused(now time.Time) []RefusedSource {
	if t == nil {
		return nil
	}
	t.init()
	var all []RefusedSource
	for size := range t.histories {
		t.histories[size].Each(func(source netip.Prefix, h *sourceHistory) {
			t.refresh(h, now)
			t.mark(h, now)
			if h.since.IsZero() || t.allowed.covers(source, now) {
				return
			}
			guessing, _ := t.over(h)
			all = append(all, RefusedSource{
				Source: source, Known: t.KnownNetwork(source), Since: h.since, Accounts: h.failing, Failures: h.failures,
				NearLock: h.spending + len(h.spent), LoggedIn: h.succeeded, Guessing: guessing,
			})
		})
	}
	slices.SortFunc(all, func(a, b RefusedSource) int {
		return cmp.Or(b.Since.Compare(a.Since), a.Source.Addr().Compare(b.Source.Addr()), a.Source.Bits()-b.Source.Bits())
	})
	return all
}

// over reports the reasons why a source is refused: guessing at many accounts, or no
// grants left.
func (t *Throttle) over(h *sourceHistory) (guessing, spent bool) {
	most := t.limits(h)
	return h.failing >= most.accounts || h.failures >= most.failures, h.spending+len(h.spent) >= most.locks
}

// mark notes when the refusal of a source began.
func (t *Throttle) mark(h *sourceHistory, now time.Time) {
	switch guessing, spent := t.over(h); {
	case !guessing && !spent:
		h.since = time.Time{}
	case h.since.IsZero():
		h.since = now
	}
}
