package guard

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// A name that nobody ever logged in with has failures of its own as long as the
// store has room for such names, and the source its share of that room. Beyond the
// room names share counters: a keyed hash of the name picks one of them. A counter
// is an account of the store under a name that no address can have, so it is as
// exact and as durable as an account: slots, group commit, replicas and what
// becomes of an answer in doubt are the same. What differs is in [auth.Rules]: a full
// counter refuses like a lock and is none, and it is emptied after a day.

// sharedCounters is how many shared counters there are.
const sharedCounters = 1 << 16

// sharing is the key of the hash that spreads names over the shared counters.
type sharing struct {
	mu  sync.Mutex
	key []byte
}

// sharedCounter returns the name of the counter that a name shares with others. The
// hash is keyed, so that nobody can choose names that share one with somebody
// else's. The key follows from that of the fingerprints: it is the same in all
// replicas and after a restart, and no client learns it.
func (g *Guard) sharedCounter(ctx context.Context, name auth.Name) (auth.Name, error) {
	key := g.key[:]
	if g.Fingerprints != nil {
		g.sharing.mu.Lock()
		defer g.sharing.mu.Unlock()
		if g.sharing.key == nil {
			made, err := g.Fingerprints.Fingerprint(ctx, []byte("congthu: shared counters"), auth.NewSecret("congthu"))
			if err != nil {
				return "", fmt.Errorf("make the key of the shared counters: %w", err)
			}
			g.sharing.key = made
		}
		key = g.sharing.key
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(name))
	return auth.Name(fmt.Sprintf("@%04x", binary.BigEndian.Uint64(mac.Sum(nil))%sharedCounters)), nil
}

// reserveShared takes a slot of the counter that the try's name shares.
func (t *try) reserveShared(ctx context.Context) (auth.Account, auth.Reservation, error) {
	counter, err := t.sharedCounter(ctx, t.name)
	if err != nil {
		return auth.Account{}, 0, err
	}
	t.counter = counter
	if err := t.payHeard(ctx, counter); err != nil {
		return auth.Account{}, 0, err
	}
	return t.Store.Reserve(ctx, counter, t.slots)
}

// holder is what the try's slot is of, and its failure is counted on: the account,
// or the counter that its name shares.
func (t *try) holder() auth.Name {
	if t.counter != "" {
		return t.counter
	}
	return t.name
}

// emptyShared takes the shared counters out of the store whose failures the rules
// have forgotten.
func (g *Guard) emptyShared(ctx context.Context, store auth.Lister) error {
	rules := g.Rules()
	return auth.Scan(ctx, store, auth.Filter{Shared: true}, func(a auth.Account) error {
		if !rules.Lockout.Emptied(a, g.now()) {
			return nil
		}
		_, err := g.storeUpdate(ctx, a.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			if !rules.Lockout.Emptied(*a, g.now()) {
				return nil, false
			}
			*a = auth.Account{Name: a.Name}
			return nil, true
		})
		if err != nil {
			return fmt.Errorf("empty a shared counter: %w", err)
		}
		return nil
	})
}

// SharedFull reports until when a name is refused like a locked one because the
// counter that it shares is full; the zero time when it is not. A name about which
// the store remembers something shares none.
func (g *Guard) SharedFull(ctx context.Context, name auth.Name) (until time.Time, err error) {
	g.init()
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	a, err := g.Store.Account(ctx, name)
	if err != nil || !a.Blank() {
		return time.Time{}, err
	}
	counter, err := g.sharedCounter(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	rules := g.Rules()
	if a, err = g.Store.Account(ctx, counter); err != nil || !rules.Full(a, g.now()) {
		return time.Time{}, err
	}
	until = a.Mistakes[0].At.Add(auth.SharedFor)
	if after := rules.Lockout.UnlockAfter; after > 0 {
		if sooner := a.Mistakes[len(a.Mistakes)-1].At.Add(after); sooner.Before(until) {
			until = sooner
		}
	}
	return until, nil
}

// ErrSharedFull: the name is refused like a locked one, but nothing is held against
// it that could be taken back.
var ErrSharedFull = errors.New("too many wrong passwords for names that nobody has logged in with yet")

// errUnremembered: nothing is remembered of the name itself.
var errUnremembered = errors.New("nothing is remembered of the name")

// refuseUnlock says why a name that is refused because of a shared counter is not
// unlocked, and what lets its owner in.
func (g *Guard) refuseUnlock(ctx context.Context, name auth.Name) error {
	until, err := g.SharedFull(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("store: %w", err)
	case until.IsZero():
		return nil
	}
	return fmt.Errorf("%w: %w: nobody has logged in as %s yet, and wrong passwords for such names are counted for many of them together; "+
		"import the account (congthu import accounts) and its owner can log in at once, or wait until %s",
		auth.ErrNothingToDo, ErrSharedFull, name, g.Rules().Instant(until))
}

// The room for names that nobody ever logged in with is shared out: what one source
// adds to it in a day is bounded, and so is what all sources of a network add
// together. Names beyond a share share counters, as those beyond the room do.

// A source may take one in sourcePart of the room a day. A network above it may
// take twice as much as what is in it, by the steps of [throttle.NetworksAbove].
const sourcePart = 64

// maxShares is how many sources and networks have their share remembered. Networks
// are used with each of their sources, and so are the last to be forgotten.
const maxShares = 65536

// share is what a source or a network has taken of the room within a day.
type share struct {
	since time.Time
	taken int
}

// of returns the share as it is now: a new one begins a day after the old one, and
// when the clock was set back.
func (s share) of(now time.Time) share {
	if age := now.Sub(s.since); age >= auth.SharedFor || age < 0 {
		return share{since: now}
	}
	return s
}

// place is one place in the room for unknown names, for as long as the try that
// took it may need it.
type place struct {
	taken bool
	used  atomic.Bool // its name has become one that the store remembers
}

// takePlace takes a place for the try's name, and reports false when a share that
// it would be of is used up.
func (t *try) takePlace() bool {
	if t.place.taken || t.MaxUnknown <= 0 || !t.source.IsValid() {
		return true
	}
	t.taking.Lock()
	defer t.taking.Unlock()
	now := t.now()
	networks := append([]netip.Prefix{t.source}, throttle.NetworksAbove(t.source)...)
	for i, network := range networks {
		s, _ := t.shares.Get(network)
		if s.of(now).taken >= max(1, t.MaxUnknown*(1<<i)/sourcePart) {
			return false
		}
	}
	for _, network := range networks {
		t.shares.Update(network, func(s share) share { s = s.of(now); s.taken++; return s })
	}
	t.place.taken = true
	return true
}

// leavePlace gives back a place that was not needed.
func (t *try) leavePlace() {
	if !t.place.taken || t.place.used.Load() {
		return
	}
	t.place.taken = false
	for _, network := range append([]netip.Prefix{t.source}, throttle.NetworksAbove(t.source)...) {
		t.shares.Alter(network, func(s *share) { s.taken = max(0, s.taken-1) })
	}
}
