package guard

import (
	"cmp"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/internal/lru"
	"congthu/auth/throttle"
)

// Defaults of a [Guard] whose field is 0.
const (
	DefaultPatience    = 15 * time.Second
	DefaultLoginWindow = time.Hour
)

// Guard decides every login. Its fields must not change once it is in use;
// [Guard.SetPolicy] sets the policy, which may change at any time.
// [Guard.Run] must run as long as the guard is in use.
type Guard struct {
	// Store remembers accounts and events. Required.
	Store auth.Store
	// Fingerprints recognises passwords; nil: no password change is noticed, and
	// earlier passwords count as wrong.
	Fingerprints auth.Fingerprinter
	// Throttle slows down guessing sources; nil: no source is slowed down.
	Throttle *throttle.Throttle
	// Recorder records attempts and events; nil: nothing is recorded.
	Recorder auth.Recorder
	// Panicked is called for each panic of [auth.Attempt].Verify, which costs one
	// attempt; nil: not called.
	Panicked func(auth.Protocol)
	// EndSessions closes the live sessions of an account; nil: there are none.
	EndSessions func(auth.Name)
	// Shared is set when other gateways use the same store and receive the events of
	// this one by [Guard.OnRemoteEvent]. Then an unlock is an event even if nothing is
	// held against the account here: another gateway may hold something against it.
	Shared bool
	// Log is for the operator; nil: discarded.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// WatchClock compares the clock with other sources of time. While they disagree,
	// everything that rests on the time alone stops: see [Guard.Suspicion].
	WatchClock bool
	// MachineNow is this machine's clock, with which Now is compared where Now is the
	// clock of the database; nil: time.Now.
	MachineNow func() time.Time

	// Patience is how long an attempt waits for a slot. 0: [DefaultPatience].
	Patience time.Duration
	// Lease is how long an attempt without a verdict keeps its slot. 0: 2 min.
	Lease time.Duration
	// StoreTimeout bounds each operation of the store. 0: 10 s.
	StoreTimeout time.Duration
	// LoginWindow saves writes: a last login is written when the stored one is older
	// than this. 0: [DefaultLoginWindow]; negative: each is written.
	LoginWindow time.Duration
	// StoreGrace is for how long after the last contact with the store this process
	// accepts passwords that it has seen accepted. 0: not at all.
	StoreGrace time.Duration
	// KnownGood is the number of accounts whose last accepted passwords are
	// remembered (as keyed digests, at most 4 for each account). 0: 100,000.
	KnownGood int
	// MaxUnknown is the room of the store, in names, for names without a login. One
	// source takes at most 1/64 of it in a day, and each network above it twice as much
	// as the network below. 0: sources are not limited.
	MaxUnknown int

	policy atomic.Pointer[Policy]
	once   sync.Once
	key    [32]byte // of digests; lives and dies with the process
	// digesters are the digesters of that key that are not in use.
	digesters  sync.Pool
	waitQueues waitQueues
	memory
	sharing    sharing
	shares     lru.Map[netip.Prefix, share]
	taking     sync.Mutex   // held while a share is checked and used
	began      time.Time    // when the guard was first used
	contact    atomic.Int64 // last success of the store, nanoseconds since then
	clockAhead atomic.Int64 // of the monotonic clock, as last measured, in nanoseconds
	suspicion  atomic.Pointer[suspicion]
	// writingClock is a lock for writing the beginning of a suspicion; it ends with a context.
	writingClock chan struct{}

	mu      sync.RWMutex
	pending []*pendingSettlement    // settlements that are not written yet
	refused int                     // passes in a row in which the store accepted none of them
	logins  map[auth.Name]time.Time // last logins not written yet
	// allowed are the sources that administrators have allowed, and those whose
	// allowance was ended lately.
	allowed map[netip.Prefix]auth.AllowedSource

	// toForgive are unlocked names that the throttle must still forgive at every source,
	// each for what happened up to an instant.
	toForgive map[auth.Name]time.Time

	// unforgiven is set while toForgive has names, or while they are being forgiven
	// under the lock forgiving.
	unforgiven atomic.Bool
	forgiving  sync.Mutex

	forgiveSoon     chan struct{} // wakes Run: there are some
	observe         chan unobserved
	wakeSettlements chan struct{} // wakes Run: there are new ones
	wakeLogins      chan struct{} // wakes Run: new last logins, or a suspicion
}

// Policy is the part of the configuration that a reload replaces as a whole.
type Policy struct {
	Names *auth.Namer
	Rules auth.Rules
	// KnownNetworks are the networks of the organisation's own offices. None contains
	// another. Sources in them have more room in the throttle.Throttle.
	KnownNetworks []netip.Prefix

	strays *strays // of Names; nil where there can be none
}

// SetPolicy replaces the policy; attempts in progress keep the old one. If the names
// have changed, the caller should then call [Guard.LearnNames].
func (g *Guard) SetPolicy(p Policy) {
	p.strays = straysOf(p.Names)
	if old := g.policy.Load(); old != nil && sameNames(old.Names, p.Names) {
		p.strays = old.strays
	}
	g.policy.Store(&p)
	g.Throttle.SetKnown(p.KnownNetworks, p.Rules.Lockout.Mode == auth.Enforce)
}

// KnownNetwork returns the known network that contains an address; invalid for none.
func (g *Guard) KnownNetwork(addr netip.Addr) netip.Prefix {
	if source := auth.Source(addr); g.Throttle != nil && source.IsValid() {
		return g.Throttle.KnownNetwork(source)
	}
	return netip.Prefix{}
}

// Rules returns the rules in force.
func (g *Guard) Rules() auth.Rules { return g.inForce(g.policy.Load().Rules) }

// inForce returns the rules, without those that the state of the clock forbids.
func (g *Guard) inForce(r auth.Rules) auth.Rules {
	g.init()
	g.now() // look at the clock
	if g.suspicion.Load() != nil {
		return r.WhileClockSuspect()
	}
	return r
}

// TrustedNow returns the present instant, or [ErrClockSuspect].
func (g *Guard) TrustedNow() (time.Time, error) {
	err := g.clockInDoubt()
	return g.now(), err
}

// Announce appends an event that concerns the whole gateway to the audit log.
func (g *Guard) Announce(ctx context.Context, e auth.Event) error {
	g.init()
	// The event belongs to no account, and an account without a name and content leaves
	// no row.
	_, err := g.storeUpdate(ctx, "", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true })
	if err != nil {
		return err
	}
	g.recordEvents([]auth.Event{e}, false)
	return nil
}

// Canonical returns the account that a login name means, for admins. It also finds
// accounts from the time before letters beyond ASCII were refused. See
// [auth.Namer.Existing].
func (g *Guard) Canonical(login string) (auth.Name, error) {
	return g.policy.Load().Names.Existing(login)
}

// Domains returns the domains served here, first the one for names without a domain.
func (g *Guard) Domains() []string {
	names := g.policy.Load().Names
	others := slices.Sorted(maps.Keys(names.Domains))
	if names.Default == "" {
		return others
	}
	others = slices.DeleteFunc(others, func(d string) bool { return d == names.Default })
	return append([]string{names.Default}, others...)
}

// Waiting is the number of attempts that wait for a slot.
func (g *Guard) Waiting() int { return g.waitQueues.waiting() }

// init sets the fields that the zero Guard lacks.
func (g *Guard) init() {
	g.once.Do(func() {
		rand.Read(g.key[:]) // never fails (crypto/rand)
		g.began = time.Now()
		if g.WatchClock && g.Now != nil {
			g.clockAhead.Store(int64(g.Now().Sub(g.began.Round(0))))
		}
		g.memory.make(g.KnownGood)
		g.shares = lru.New[netip.Prefix, share](maxShares)
		g.logins = make(map[auth.Name]time.Time)
		g.allowed = make(map[netip.Prefix]auth.AllowedSource)
		g.toForgive, g.forgiveSoon = make(map[auth.Name]time.Time), make(chan struct{}, 1)
		g.observe = make(chan unobserved, 1024)
		g.wakeSettlements, g.wakeLogins = make(chan struct{}, 1), make(chan struct{}, 1)
		g.writingClock = make(chan struct{}, 1)
		if g.Log == nil {
			g.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
	})
}

// storeUpdate calls Store.Update within StoreTimeout.
func (g *Guard) storeUpdate(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	a, err := g.Store.Update(ctx, name, r, change)
	if err == nil {
		g.noteContact()
	}
	return a, err
}

// noteContact notes that the store has answered just now.
func (g *Guard) noteContact() { g.contact.Store(int64(time.Since(g.began))) }

func (g *Guard) storeTimeout() time.Duration { return cmp.Or(g.StoreTimeout, 10*time.Second) }

func (g *Guard) endSessions(name auth.Name) {
	g.void(name)
	if g.EndSessions != nil {
		g.EndSessions(name)
	}
}

// recordEvents records the events of one account; known is whether the name is an account.
func (g *Guard) recordEvents(events []auth.Event, known bool) {
	if g.Recorder == nil {
		return
	}
	for _, e := range events {
		g.Recorder.RecordEvent(e, known)
	}
}

// Own returns the account with exactly this address; see [auth.Namer.Own].
func (g *Guard) Own(address string) (auth.Name, error) {
	return g.policy.Load().Names.Own(address)
}
