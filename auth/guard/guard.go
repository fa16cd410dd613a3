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

// What holds where a [Guard] has 0.
const (
	DefaultPatience    = 15 * time.Second
	DefaultLoginWindow = time.Hour
)

// Guard decides every login. Its fields must not change once it is in use;
// what may change while it runs, the policy, is set by [Guard.SetPolicy].
// [Guard.Run] must be running beside it.
type Guard struct {
	// Store remembers. Required.
	Store auth.Store
	// Fingerprints recognises passwords; nil: no password change is noticed and
	// no earlier password forgiven.
	Fingerprints auth.Fingerprinter
	// Throttle slows down guessing sources; nil: none is.
	Throttle *throttle.Throttle
	// Recorder is told what happened; nil: nobody is.
	Recorder auth.Recorder
	// Panicked is called for each panic of [auth.Attempt].Verify, which has cost one
	// attempt; nil: nobody is told.
	Panicked func(auth.Protocol)
	// EndSessions closes the live sessions of an account; nil: none are kept.
	EndSessions func(auth.Name)
	// Shared is set when other gateways use the same store, and are told of what
	// this one does by [Guard.OnRemoteEvent]. Then an unlock of an account against which
	// nothing is held here is an event all the same: they may hold something.
	Shared bool
	// Log is for the operator; nil: discarded.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// WatchClock compares the clock with what else there is, and stops what rests
	// on the time alone while they disagree: see [Guard.Suspicion].
	WatchClock bool
	// MachineNow is this machine's clock, with which Now is compared where that is
	// another's; nil: time.Now.
	MachineNow func() time.Time

	// Patience is how long an attempt waits for a slot. 0: [DefaultPatience].
	Patience time.Duration
	// Lease is how long an attempt without a verdict keeps its slot. 0: 2 min.
	Lease time.Duration
	// StoreTimeout bounds each operation of the store. 0: 10 s.
	StoreTimeout time.Duration
	// LoginWindow coalesces last logins: a newer one is written when the stored
	// one is older than this. 0: [DefaultLoginWindow]; negative: each is written.
	LoginWindow time.Duration
	// StoreGrace is how long after the last contact with the store a password
	// that this process has seen accepted goes on being accepted. 0: not at all.
	StoreGrace time.Duration
	// KnownGood is how many accounts have the passwords that were accepted last
	// remembered (as keyed digests, at most 4 each). 0: 100,000.
	KnownGood int
	// MaxUnknown is the room that the store has for names that nobody ever logged
	// in with: one source takes a share of it a day at most, one in 64, and the
	// networks above it twice that at each step. 0: all of it.
	MaxUnknown int

	policy atomic.Pointer[Policy]
	once   sync.Once
	key    [32]byte // of digests; lives and dies with the process
	// digesters are digesters of that key that nobody uses.
	digesters sync.Pool
	gates     gates
	memory
	sharing    sharing
	shares     lru.Map[netip.Prefix, share]
	taking     sync.Mutex   // held while a share is looked at and used
	began      time.Time    // when the guard came into use
	contact    atomic.Int64 // last success of the store, nanoseconds since then
	clockAhead atomic.Int64 // of the monotonic clock, as last seen, in nanoseconds
	suspicion  atomic.Pointer[suspicion]
	// writingClock has room for one: who writes the beginning of a suspicion.
	writingClock chan struct{}

	mu      sync.RWMutex
	debts   []*debt                 // settlements that are not made yet
	refused int                     // how often in a row the store has taken none of them
	logins  map[auth.Name]time.Time // last logins not written yet
	// allowed are the sources that administrators let go on, and those of which they
	// have ended it lately.
	allowed map[netip.Prefix]auth.AllowedSource

	// toForgive are unlocked names that the throttle is to forgive at every source,
	// for what came up to an instant.
	toForgive map[auth.Name]time.Time

	// unforgiven is set while there are some, or they are being forgiven, under
	// forgiving.
	unforgiven atomic.Bool
	forgiving  sync.Mutex

	forgiveSoon chan struct{} // tells Run of some
	observe     chan unobserved
	nudge       chan struct{} // tells Run of new debts
	nudgeLogins chan struct{} // tells it of new last logins, and of a suspicion
}

// Policy is the part of the configuration that a reload replaces, at once.
type Policy struct {
	Names *auth.Namer
	Rules auth.Rules
	// KnownNetworks are those of the organisation's own offices, of which none lies in
	// another: sources in them have more room in the throttle.Throttle.
	KnownNetworks []netip.Prefix

	strays *strays // of Names; nil where there can be none
}

// SetPolicy replaces the policy; attempts under way go on with the old one. When
// the names have changed [Guard.LearnNames] should follow.
func (g *Guard) SetPolicy(p Policy) {
	p.strays = straysOf(p.Names)
	if old := g.policy.Load(); old != nil && sameNames(old.Names, p.Names) {
		p.strays = old.strays
	}
	g.policy.Store(&p)
	g.Throttle.SetKnown(p.KnownNetworks, p.Rules.Lockout.Mode == auth.Enforce)
}

// KnownNetwork returns the known network that an address lies in; invalid for none.
func (g *Guard) KnownNetwork(addr netip.Addr) netip.Prefix {
	if source := auth.Source(addr); g.Throttle != nil && source.IsValid() {
		return g.Throttle.KnownNetwork(source)
	}
	return netip.Prefix{}
}

// Rules returns the rules in force.
func (g *Guard) Rules() auth.Rules { return g.inForce(g.policy.Load().Rules) }

// inForce is the rules as the clock lets them be.
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

// Announce appends an event of the whole gateway to the audit log.
func (g *Guard) Announce(ctx context.Context, e auth.Event) error {
	g.init()
	// It is of no account, and a blank one leaves no trace.
	_, err := g.storeUpdate(ctx, "", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true })
	if err != nil {
		return err
	}
	g.happened([]auth.Event{e}, false)
	return nil
}

// Canonical returns the account that a login name means, for admins: also one that
// there may be from before letters beyond ASCII were refused. See [auth.Namer.Existing].
func (g *Guard) Canonical(login string) (auth.Name, error) {
	return g.policy.Load().Names.Existing(login)
}

// Domains are those served here, the one of names without a domain first.
func (g *Guard) Domains() []string {
	names := g.policy.Load().Names
	others := slices.Sorted(maps.Keys(names.Domains))
	if names.Default == "" {
		return others
	}
	others = slices.DeleteFunc(others, func(d string) bool { return d == names.Default })
	return append([]string{names.Default}, others...)
}

// Waiting is how many attempts wait for a slot.
func (g *Guard) Waiting() int { return g.gates.waiting() }

// init sets what the zero Guard lacks.
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
		g.nudge, g.nudgeLogins = make(chan struct{}, 1), make(chan struct{}, 1)
		g.writingClock = make(chan struct{}, 1)
		if g.Log == nil {
			g.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
	})
}

// storeUpdate is Store.Update within the store's time.
func (g *Guard) storeUpdate(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	a, err := g.Store.Update(ctx, name, r, change)
	if err == nil {
		g.reached()
	}
	return a, err
}

// reached notes that the store has answered.
func (g *Guard) reached() { g.contact.Store(int64(time.Since(g.began))) }

func (g *Guard) storeTimeout() time.Duration { return cmp.Or(g.StoreTimeout, 10*time.Second) }

func (g *Guard) endSessions(name auth.Name) {
	g.void(name)
	if g.EndSessions != nil {
		g.EndSessions(name)
	}
}

// happened tells of the events of one account; known is whether it is one.
func (g *Guard) happened(events []auth.Event, known bool) {
	if g.Recorder == nil {
		return
	}
	for _, e := range events {
		g.Recorder.RecordEvent(e, known)
	}
}

// Own returns the account that has this very address; see [auth.Namer.Own].
func (g *Guard) Own(address string) (auth.Name, error) {
	return g.policy.Load().Names.Own(address)
}
