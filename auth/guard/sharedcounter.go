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

// A name without a login has failures of its own as long as the store has room for such
// names, and its source a share of that room. Names for which there is no room share
// counters: a keyed hash of the name selects one. A counter is an account of the store
// under a name that no address can have, so it is as exact and as durable as an account:
// slots, group commit, replicas and answers in doubt work in the same way. The
// differences are in [auth.Rules]: a full counter refuses like a locked account but is
// not locked, and it is emptied after a day.

// sharedCounters is the number of shared counters.
const sharedCounters = 1 << 16

// sharing holds the key of the hash that distributes names over the shared counters.
type sharing struct {
	mu  sync.Mutex
	key []byte
}

// sharedCounter returns the counter that a name shares with other names. The hash is
// keyed, so that a guesser cannot choose names that share a counter with a given name.
// The key is derived from that of the fingerprints: it is the same in all replicas and
// after a restart, and no client learns it.
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

// reserveShared takes a slot of the counter that the attempt's name shares.
func (t *attempt) reserveShared(ctx context.Context) (auth.Account, auth.Reservation, error) {
	counter, err := t.sharedCounter(ctx, t.name)
	if err != nil {
		return auth.Account{}, 0, err
	}
	t.counter = counter
	if err := t.writeHeard(ctx, counter); err != nil {
		return auth.Account{}, 0, err
	}
	return t.Store.Reserve(ctx, counter, t.slots)
}

// holder is the name to which the attempt's slot belongs and on which its failure is
// counted: the account, or the counter that its name shares.
func (t *attempt) holder() auth.Name {
	if t.counter != "" {
		return t.counter
	}
	return t.name
}

// emptyShared removes the shared counters from the store whose failures the rules have
// forgotten.
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

// SharedFull returns until when a name is refused like a locked one because the counter
// that it shares is full; zero when it is not. A name of which the store remembers
// anything has no shared counter.
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

// ErrSharedFull: the name is refused like a locked one, but there is nothing of its own
// that an unlock could take back.
var ErrSharedFull = errors.New("too many wrong passwords for names that nobody has logged in with yet")

// errUnremembered: the store remembers nothing of the name itself.
var errUnremembered = errors.New("nothing is remembered of the name")

// refuseUnlock says why a name that is refused because of a shared counter is not
// unlocked, and how its owner can log in.
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

// The room for names without a login is divided: each source may add only a limited
// number of names to it in a day, and so may all sources of a network together. Names
// beyond a share use shared counters, like those beyond the room.

// A source may take one in sourcePart of the room in a day. Each network above it may
// take twice as much as the one below, by the steps of [throttle.NetworksAbove].
const sourcePart = 64

// maxShares is the number of sources and networks whose share is remembered. A network
// is used with each of its sources, so it is forgotten last.
const maxShares = 65536

// share is the number of places that a source or a network has taken within a day.
type share struct {
	since time.Time
	taken int
}

// of returns the present share: a new one begins a day after the old one, and also if
// the clock was set back.
func (s share) of(now time.Time) share {
	if age := now.Sub(s.since); age >= auth.SharedFor || age < 0 {
		return share{since: now}
	}
	return s
}

// place is one place in the room for unknown names, held by the attempt that may need it.
type place struct {
	taken bool
	used  atomic.Bool // the store remembers the name, or will
}

// takePlace takes a place for the attempt's name. It reports false if the share of the
// source or of a network above it is used up.
func (t *attempt) takePlace() bool {
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

// leavePlace returns a place that was not used.
func (t *attempt) leavePlace() {
	if !t.place.taken || t.place.used.Load() {
		return
	}
	t.place.taken = false
	for _, network := range append([]netip.Prefix{t.source}, throttle.NetworksAbove(t.source)...) {
		t.shares.Alter(network, func(s *share) { s.taken = max(0, s.taken-1) })
	}
}
