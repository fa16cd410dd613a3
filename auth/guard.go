package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Guard decides every login. Its fields must not change once it is in use;
// what may change while it runs, the policy, is set by [Guard.SetPolicy].
// [Guard.Run] must be running beside it.
type Guard struct {
	// Store remembers. Required.
	Store Store
	// Fingerprints recognises passwords; nil: no password change is noticed and
	// no earlier password forgiven.
	Fingerprints Fingerprinter
	// Throttle slows down guessing sources; nil: none is.
	Throttle *Throttle
	// Recorder is told what happened; nil: nobody is.
	Recorder Recorder
	// Panicked is called for each panic of [Attempt].Verify, which has cost one
	// attempt; nil: nobody is told.
	Panicked func(Protocol)
	// EndSessions closes the live sessions of an account; nil: none are kept.
	EndSessions func(Name)
	// Shared is set when other gateways use the same store, and are told of what
	// this one does by [Guard.Heard]. Then an unlock of an account against which
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

	// Patience is how long an attempt waits for a slot. 0: 15 s.
	Patience time.Duration
	// Lease is how long an attempt without a verdict keeps its slot. 0: 2 min.
	Lease time.Duration
	// StoreTimeout bounds each operation of the store. 0: 10 s.
	StoreTimeout time.Duration
	// LoginWindow coalesces last logins: a newer one is written when the stored
	// one is older than this. 0: 1 h; negative: each is written.
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
	digesters  sync.Pool
	gates      gates
	known      shards[Name, knownGood]
	voided     generations                   // of known
	entries    shards[digest, entry]         // of wrong passwords, where not each repeat counts
	alerted    shards[digest, string]        // the day on which an account and program was told that its password runs out
	refusals   shards[Name, refusals]        // unasked
	unanswered shards[Name, Refusal]         // by the mail server
	origins    shards[Name, Origin]          // of last logins
	tried      shards[Name, []triedPassword] // lately, and wrong
	forgiven   shards[Name, time.Time]       // the latest unlock of a name that was applied here
	sharing    sharing
	shares     shards[netip.Prefix, share]
	taking     sync.Mutex   // held while a share is looked at and used
	began      time.Time    // when the guard came into use
	contact    atomic.Int64 // last success of the store, nanoseconds since then
	clockAhead atomic.Int64 // of the monotonic clock, as last seen, in nanoseconds
	suspicion  atomic.Pointer[suspicion]
	// writingClock has room for one: who writes the beginning of a suspicion.
	writingClock chan struct{}

	mu      sync.RWMutex
	debts   []*debt            // settlements that are not made yet
	refused int                // how often in a row the store has taken none of them
	logins  map[Name]time.Time // last logins not written yet
	// allowed are the sources that administrators let go on, and those of which they
	// have ended it lately.
	allowed map[netip.Prefix]AllowedSource

	// toForgive are unlocked names that the throttle is to forgive at every source,
	// for what came up to an instant.
	toForgive map[Name]time.Time

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
	Names *Namer
	Rules Rules
	// KnownNetworks are those of the organisation's own offices, of which none lies in
	// another: sources in them have more room in the [Throttle].
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
	g.Throttle.setKnown(p.KnownNetworks, p.Rules.Lockout.Mode == Enforce)
}

// KnownNetwork returns the known network that an address lies in; invalid for none.
func (g *Guard) KnownNetwork(addr netip.Addr) netip.Prefix {
	if source := Source(addr); g.Throttle != nil && source.IsValid() {
		return g.Throttle.knownNetwork(source)
	}
	return netip.Prefix{}
}

// Rules returns the rules in force.
func (g *Guard) Rules() Rules { return g.inForce(g.policy.Load().Rules) }

// inForce is the rules as the clock lets them be.
func (g *Guard) inForce(r Rules) Rules {
	g.init()
	g.now() // look at the clock
	if g.suspicion.Load() != nil {
		return r.whileClockSuspect()
	}
	return r
}

// TrustedNow returns the present instant, or [ErrClockSuspect].
func (g *Guard) TrustedNow() (time.Time, error) {
	err := g.clockInDoubt()
	return g.now(), err
}

// Announce appends an event of the whole gateway to the audit log.
func (g *Guard) Announce(ctx context.Context, e Event) error {
	g.init()
	// It is of no account, and a blank one leaves no trace.
	_, err := g.storeUpdate(ctx, "", 0, func(*Account) ([]Event, bool) { return []Event{e}, true })
	if err != nil {
		return err
	}
	g.happened([]Event{e}, false)
	return nil
}

// Canonical returns the account that a login name means, for admins: also one that
// there may be from before letters beyond ASCII were refused. See [Namer.Existing].
func (g *Guard) Canonical(login string) (Name, error) {
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
		g.known = newShards[Name, knownGood](cmp.Or(g.KnownGood, 100_000))
		g.entries = newShards[digest, entry](maxEntries)
		g.alerted = newShards[digest, string](maxEntries)
		g.refusals, g.unanswered = newShards[Name, refusals](maxRefusals), newShards[Name, Refusal](maxRefusals)
		g.forgiven = newShards[Name, time.Time](maxRefusals)
		g.origins, g.tried = newShards[Name, Origin](maxOrigins), newShards[Name, []triedPassword](maxRefusals)
		g.shares = newShards[netip.Prefix, share](maxShares)
		g.logins = make(map[Name]time.Time)
		g.allowed = make(map[netip.Prefix]AllowedSource)
		g.toForgive, g.forgiveSoon = make(map[Name]time.Time), make(chan struct{}, 1)
		g.observe = make(chan unobserved, 1024)
		g.nudge, g.nudgeLogins = make(chan struct{}, 1), make(chan struct{}, 1)
		g.writingClock = make(chan struct{}, 1)
		if g.Log == nil {
			g.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		}
	})
}

// digester makes digests; one is made when all others are in use.
type digester struct {
	mac  hash.Hash
	text []byte
}

// digest names a password of an account in memory.
func (g *Guard) digest(name Name, password Secret) (d digest) {
	m, ok := g.digesters.Get().(*digester)
	if !ok {
		m = &digester{mac: hmac.New(sha256.New, g.key[:])}
	}
	m.text = strconv.AppendInt(m.text[:0], int64(len(name)), 10)
	m.text = append(append(append(append(m.text, ':'), name...), ':'), password.Reveal()...)
	m.mac.Write(m.text)
	clear(m.text) // no password stays here
	m.text = m.mac.Sum(m.text[:0])
	copy(d[:], m.text)
	m.mac.Reset()
	g.digesters.Put(m)
	return d
}

// Attempt decides one login: admit, verify, settle. Once it is called the
// credentials are complete, so ctx must not end with the client's connection:
// hanging up does not help a guesser.
func (g *Guard) Attempt(ctx context.Context, a Attempt) Verdict {
	g.init()
	v := g.attempt(ctx, a, false)
	g.noteLately(a, v)
	if g.Recorder != nil {
		g.Recorder.Attempted(a, v)
	}
	return v
}

// attempt is Attempt; second is set when it is made because the first was in doubt.
func (g *Guard) attempt(ctx context.Context, a Attempt, second bool) (v Verdict) {
	policy := g.policy.Load()
	began := time.Now()
	if a.Connected.IsZero() {
		a.Connected = began
	}
	t := try{Guard: g, Attempt: a, rules: g.inForce(policy.Rules), strays: policy.strays, source: Source(a.Source.Addr()), network: g.KnownNetwork(a.Source.Addr())}

	name, err := policy.Names.Canonical(a.Login)
	if errors.Is(err, ErrNotASCII) {
		var outcome Outcome
		if name, outcome, err = t.existing(ctx, policy.Names); outcome != Accepted {
			return Verdict{Outcome: outcome, Err: err}
		}
	}
	switch {
	case errors.Is(err, ErrMasterUser):
		return Verdict{Outcome: OtherIdentity, Err: err}
	case errors.Is(err, ErrForeignDomain):
		return Verdict{Outcome: NoSuchDomain, Err: err}
	case err != nil:
		return Verdict{Outcome: Malformed, Err: err}
	case !a.SSO && (a.Password.IsZero() || len(a.Password.Reveal()) > MaxPassword):
		return Verdict{Outcome: Malformed, Name: name, Err: ErrMalformedPassword}
	}
	// Art. 13.8: acting as somebody else is refused, whoever asks. Aliases do not
	// count: the answer would tell whose they are.
	if a.Authorize != "" && a.Authorize != a.Login && !policy.Names.sameAddress(a.Authorize, a.Login) {
		return Verdict{Outcome: OtherIdentity, Name: name}
	}
	t.name, t.digest = name, g.digest(name, a.Password)
	if known, seen := a.Mistakes.has(t.digest); seen {
		return Verdict{Outcome: RepeatedPassword, Name: name, Known: known}
	}

	defer func() {
		if t.charged {
			g.Throttle.end(t.throttled(), t.ending, g.now())
		}
		t.leavePlace()
	}()
	settled := false
	defer func() {
		if !settled && t.reservation != 0 {
			// Something has panicked on the way. Nobody else will free the slot, and the
			// password may have been judged.
			t.owe(&debt{name: t.holder(), reservation: t.reservation, change: t.counted(t.rules.doubt)})
		}
	}()
	v = t.admit(ctx)
	settled = v.Outcome != Accepted
	v.Name, v.Known, v.Admission, v.KnownGood = name, t.account.Known(), time.Since(began), t.good
	v.Shared = t.counter != ""
	if v.Outcome != Accepted {
		return v
	}
	asked := time.Now()
	answer := t.verify(ctx)
	answered := time.Now()
	t.paid()
	if answer.Judgement == InDoubt && answer.Again && !second {
		// I1: the mail server may judge both, so that both need a slot.
		v = g.attempt(ctx, a, true)
		if v.Outcome == Accepted {
			answer.Judgement = Unreached // the password was no wrong one
		}
		t.settle(ctx, answer)
		settled = true
		v.Upstream += answered.Sub(asked)
		return v
	}
	v = t.settle(ctx, answer)
	settled = true
	v.Name, v.Known, v.KnownGood = name, t.account.Known() || v.Outcome == Accepted, t.good
	v.Shared = t.counter != ""
	v.Admission, v.Upstream, v.Settlement = asked.Sub(began), answered.Sub(asked), time.Since(answered)
	return v
}

// try is one attempt on its way through the guard.
type try struct {
	*Guard
	Attempt
	rules  Rules
	strays *strays
	source netip.Prefix
	// network is the known one that the source lies in; invalid for none.
	network netip.Prefix
	name    Name
	digest  digest

	account     Account     // as of the admission; that of counter if there is one
	reservation Reservation // none when good
	counter     Name        // that the name shares with others, for want of room; empty for none
	place       place       // in the room for unknown names
	good        bool        // the same password was accepted before
	seen        int         // the account was logged in to from near this source lately: see throttled
	looked      bool        // so that seen is known
	charged     bool        // the throttle counts it as under way
	passed      passing     // what the throttle said when it began to
	granted     bool        // the throttle has given it one of the source's grants
	aside       bool        // it waits for a grant, or for a slot that needs none
	ending      ending      // and so when it is over
	compared    digest      // the latest known-good digest when this try has missed
	missedGood  bool        // there was one
	offline     bool        // the store is down, and good will do
}

// admit lets the try go on to the mail server, or says why not. Accepted means
// "ask".
func (t *try) admit(ctx context.Context) Verdict {
	if t.good = t.isGood(); t.good {
		// It needs no slot, and so does not stand in the queue, which is bounded.
		if done, v := t.enter(ctx, false); done {
			return v
		}
	}
	if v := t.passThrottle(ctx); v.Outcome != Accepted {
		return v
	}
	w, ok := t.gates.enter(t.name)
	if !ok {
		return t.busy(errors.New("too many attempts wait for this account"))
	}
	defer t.gates.leave(w)
	var patience <-chan time.Time // most need none
	for {
		first := t.gates.first(w)
		t.good = t.isGood()
		done, v := t.enter(ctx, first)
		if done {
			return v
		}
		if t.aside && !t.gates.stepAside(w) {
			return t.busy(errors.New("too many attempts wait for a slot of this account that needs no grant"))
		}
		// Another replica's slot may become free without a word to this process.
		// The head of the queue looks for it; who is not, is told of everything else.
		var poll <-chan time.Time
		if first {
			poll = time.After(100 * time.Millisecond)
		}
		if patience == nil {
			patience = time.After(cmp.Or(t.Patience, 15*time.Second))
		}
		select {
		case <-w.wake:
		case <-poll:
		case <-patience:
			return t.busy(errors.New("no slot became free"))
		case <-ctx.Done():
			return t.busy(context.Cause(ctx))
		}
	}
}

// busy is the verdict on a try that has waited long enough. Where a wrong password of
// the account cannot be written, it is the store that it has waited for and not others.
func (t *try) busy(err error) Verdict {
	if t.unwritten(t.name) {
		return Verdict{Outcome: StoreUnavailable, Err: fmt.Errorf("store: %w: %w", errUnwritten, err)}
	}
	return Verdict{Outcome: Busy, Err: err}
}

// passThrottle lets the try's source pass, or waits for what it has under way:
// only verdicts tell colleagues behind one address from a stranger.
func (t *try) passThrottle(ctx context.Context) Verdict {
	var patience <-chan time.Time
	for {
		p := t.Throttle.begin(t.throttled(), t.now())
		switch {
		case p.passage == passes:
			t.charged, t.passed = true, p
			return Verdict{}
		case !t.looked:
			// Not needed before: most sources have nothing against them.
			t.forgiveEverywhere()
			t.lookAt(ctx)
			continue
		case p.passage == refused:
			return Verdict{Outcome: Throttled, Err: errors.New("too much from this source has failed")}
		}
		if patience == nil {
			patience = time.After(cmp.Or(t.Patience, 15*time.Second))
		}
		select {
		case <-p.ended:
		case <-patience:
			return Verdict{Outcome: Throttled, Err: errors.New("too many attempts of this source are under way")}
		case <-ctx.Done():
			return Verdict{Outcome: Throttled, Err: context.Cause(ctx)}
		}
	}
}

// throttled is the try as the throttle sees it.
func (t *try) throttled() throttled {
	return throttled{
		source: t.source, known: t.network, name: t.name, tolerated: t.rules.Lockout.Tolerated, seen: t.seen, looked: t.looked,
		allowed: t.passed.allowed, granted: t.granted, near: seenNear(t.account.Seen, t.source, t.network, t.now()),
	}
}

// lookAt tells the throttle what the account remembers: whether it was logged in
// to from here, and whether a login from anywhere has forgiven what was wrong. On
// a day with too many wrong passwords none forgives here.
func (t *try) lookAt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	before := t.Throttle.remembered(t.throttled(), t.now())
	a, err := t.Store.Account(ctx, t.name)
	t.looked = true
	if err != nil {
		return // not that we know
	}
	now := t.now()
	t.account = a // should it be refused, the verdict tells whether it is one
	t.seen = seenNear(a.Seen, t.source, t.network, now)
	rows, err := t.rows(ctx, t.strays.namesOf(t.name))
	if err != nil {
		return
	}
	for _, row := range rows {
		t.seen = max(t.seen, seenNear(row.Seen, t.source, t.network, now))
	}
	if t.rules.Lockout.Mode != Off && !t.rules.StrangersOut(a, now) {
		t.Throttle.forgiven(t.throttled(), before, t.rules.Lockout.failures(a, now), now)
	}
}

// isGood reports whether the password is one of those accepted last. The comparison
// is a judgement, and nobody may have it for nothing: it is made only for
// sources that the password was accepted from, and no more passwords may miss
// than are tolerated, nor on one day without the mail server being asked; beyond
// that it is asked like for any other.
func (t *try) isGood() (good bool) {
	if _, wrong := t.entries.get(t.digest); wrong {
		return false // when it was counted; repeated, it takes no comparison
	}
	most := t.rules.Lockout.Tolerated
	t.known.alter(t.name, func(k *knownGood) {
		if len(k.unpaid) > 0 && k.day != t.rules.day(t.now()) {
			k.unpaid = nil
		}
		switch {
		case !k.comparable(t.source), k.misses > most, len(k.unpaid) > most, k.accepted[0].digest == t.compared:
		case k.isGood(t.digest, t.source):
			good = true
		case slices.Contains(k.unpaid, t.digest): // the same again
		default:
			t.compared, t.missedGood = k.accepted[0].digest, true
			k.misses++
			k.missed = t.now()
			k.day, k.unpaid = t.rules.day(k.missed), append(slices.Clone(k.unpaid), t.digest)
		}
	})
	return good
}

// paid notes that the mail server was asked about a password that was compared.
func (t *try) paid() {
	if !t.missedGood {
		return
	}
	t.known.alter(t.name, func(k *knownGood) {
		k.unpaid = slices.DeleteFunc(slices.Clone(k.unpaid), func(d digest) bool { return d == t.digest })
	})
}

// missed notes a wrong password that was counted without having been compared: it
// is one less to compare.
func (t *try) missed() {
	if t.missedGood {
		return
	}
	t.known.alter(t.name, func(k *knownGood) { k.misses, k.missed = k.misses+1, t.now() })
}

// enter looks once whether the try may go on; first is set at the head of the
// queue, where a slot may be taken.
func (t *try) enter(ctx context.Context, first bool) (done bool, v Verdict) {
	var err error
	elsewhere := Accepted
	if t.good || first {
		elsewhere, err = t.elsewhere(ctx)
	}
	switch {
	case err != nil || elsewhere == Locked:
	case t.good:
		t.account, err = t.goodAccount(ctx)
	case first:
		t.account, t.reservation, err = t.reserve(ctx)
	default:
		return false, v
	}
	if errors.Is(err, errUnwritten) {
		return false, v // woken when it is written
	}
	switch {
	case err == nil || errors.Is(err, ErrNoSlot):
		t.reached()
	case t.good && t.offlineGrace():
		t.offline = true
		return true, v
	default:
		return true, Verdict{Outcome: StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	if elsewhere == Locked || t.rules.Locked(t.account, t.now()) {
		// Perhaps by another gateway, whose event has not been heard yet.
		t.forgetKnown(t.name)
		t.release(ctx) // a clock that was set back may have given it a slot before
		return true, Verdict{Outcome: Locked}
	}
	if err == nil {
		return true, v
	}
	if t.rules.Stranger(t.account, t.source, t.now()) {
		return true, Verdict{Outcome: Throttled, Err: ErrUnfamiliar}
	}
	free, limited := t.free(t.account, t.now())
	if !limited {
		return false, v
	}
	switch p := t.Throttle.grant(t.throttled(), t.now()); {
	case p == passes:
		t.granted = true
		return t.enter(ctx, first)
	case p == refused && t.rules.FreeSlots(t.account, free, t.now()) == 0:
		return true, Verdict{Outcome: Throttled, Err: errors.New("the account has wrong passwords, and this source or its network has brought as many accounts near their lock today as it may")}
	}
	t.aside = true
	return false, v
}

// free is how many wrong passwords of the account the try's source may come after
// without a grant; limited is false where it needs none: see [Throttle]. Where an
// admin has forgiven the account that is all but the one that locks it.
func (t *try) free(a Account, now time.Time) (n int, limited bool) {
	switch {
	case t.Throttle == nil, t.granted, t.passed.proven, a.SeenFrom(t.source, now):
		return 0, false
	case t.passed.forgiven:
		return t.rules.Lockout.Tolerated, true
	}
	return t.throttled().free(), true
}

func (t *try) reserve(ctx context.Context) (Account, Reservation, error) {
	if err := t.payHeard(ctx, t.name); err != nil {
		return Account{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	t.counter = ""
	beyond := false // the share of the source
	a, r, err := t.Store.Reserve(ctx, t.name, func(a Account) int {
		if beyond = a.Blank() && !t.takePlace(); beyond {
			return 0
		}
		return t.slots(a)
	})
	if errors.Is(err, ErrFull) || errors.Is(err, ErrNoSlot) && beyond {
		t.leavePlace()
		return t.reserveShared(ctx)
	}
	return a, r, err
}

// slots is how many attempts on the account may be with the mail server.
func (t *try) slots(a Account) int {
	now := t.now()
	switch {
	case t.rules.Locked(a, now):
		return 0
	case t.rules.Lockout.Mode != Enforce:
		return math.MaxInt
	case t.rules.Stranger(a, t.source, now):
		return 0
	}
	if free, limited := t.free(a, now); limited {
		return t.rules.FreeSlots(a, free, now)
	}
	return t.rules.Slots(a, now)
}

// offlineGrace decides for a known-good password while the store is down, by
// what this process last knew of the account.
func (t *try) offlineGrace() bool {
	k, ok := t.known.get(t.name)
	now := t.now()
	if !ok || t.StoreGrace <= 0 || time.Since(t.began)-time.Duration(t.contact.Load()) >= t.StoreGrace {
		return false
	}
	t.account = k.account
	if t.rules.Locked(k.account, now) || t.rules.Revoked(k.account, now) {
		return false
	}
	o := t.fingerprinted(t.name, t.digest, k.account.Password.Salt)
	if len(o.fingerprint) == 0 && t.rules.Password.Mode == Enforce && t.rules.anyNearItsEnd(k.account, now, false) {
		return false // it may be the one that has run out
	}
	return !t.rules.expired(k.account, k.account.Password.since(o.fingerprint), now)
}

// verify asks the mail server. A panic there costs this attempt, not the slot
// for ever.
func (t *try) verify(ctx context.Context) (answer Answer) {
	defer func() {
		if p := recover(); p != nil {
			t.Log.Error("asking the mail server panicked", "session", t.Session, "panic", PanicText(p), "stack", string(debug.Stack()))
			if t.Panicked != nil {
				t.Panicked(t.Protocol)
			}
			answer = Answer{Judgement: InDoubt, Err: fmt.Errorf("verify panicked: %s", PanicText(p))}
		}
	}()
	return t.Verify(ctx, t.name)
}

// settle makes the account tell of the answer, frees the slot, and gives the
// verdict.
func (t *try) settle(ctx context.Context, answer Answer) Verdict {
	switch answer.Judgement {
	case JudgedRight:
		return t.settleRight(ctx)
	case JudgedWrong:
		return t.settleWrong(ctx, answer)
	case RefusedOtherwise:
		t.release(ctx)
		return Verdict{Outcome: Refused, Code: answer.Code, Err: answer.Err}
	case InDoubt:
		t.ending = endedInDoubt
		if t.reservation != 0 {
			t.place.used.Store(true) // it will be
			t.owe(&debt{
				name: t.holder(), reservation: t.reservation, due: time.Now().Add(cmp.Or(t.Lease, 2*time.Minute)),
				change: t.counted(t.rules.doubt),
			})
		}
		return Verdict{Outcome: Unavailable, Err: answer.Err}
	}
	t.release(ctx)
	return Verdict{Outcome: Unavailable, Err: answer.Err}
}

// counted makes a store change of a rule that counts this try.
func (t *try) counted(rule func(*Account, time.Time, netip.AddrPort) []Event) func(*[]Event) Change {
	judged := t.now()
	return func(happened *[]Event) Change {
		return func(a *Account) ([]Event, bool) {
			if a.Blank() {
				t.place.used.Store(true)
			}
			*happened = rule(a, judged, t.Source)
			return *happened, true
		}
	}
}

// settleWrong counts a wrong password, unless the regulation does not mean it.
func (t *try) settleWrong(ctx context.Context, answer Answer) Verdict {
	now := t.now()
	if t.SSO {
		// A token that does not verify is no wrong password.
		t.release(ctx)
		return Verdict{Outcome: WrongPassword, Err: answer.Err}
	}
	t.Mistakes.add(t.digest, t.account.Known())
	if t.good {
		// It was right a moment ago: it has been changed at the mail server. Others
		// that work beside it may not have been.
		t.known.alter(t.name, func(k *knownGood) { k.drop(t.digest) })
	}
	previous := t.isPrevious(ctx)
	if previous && !t.rules.Lockout.CountPrevious {
		if !t.good && !t.passed.proven && !t.account.SeenFrom(t.source, now) {
			t.ending = endedPrevious // it proves nobody
		}
		t.noteStale(ctx, now)
		return Verdict{Outcome: PreviousPassword, Err: answer.Err}
	}
	written, same := t.enterWrong(now)
	if same {
		if !t.good && !t.passed.proven && !t.account.SeenFrom(t.source, now) {
			t.ending = endedRepeated
		}
		if err := t.settleSame(ctx, written); err != nil {
			return Verdict{Outcome: StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
		}
		return Verdict{Outcome: RepeatedPassword, Err: answer.Err}
	}
	counted := false
	defer func() { t.entered(written, counted) }()
	t.ending = endedWrong
	t.missed()
	if !t.charged {
		t.Throttle.failed(t.throttled(), t.ending, now)
	}
	err := t.update(ctx, &debt{name: t.holder(), reservation: t.reservation, change: t.counted(t.rules.reject), heard: true})
	counted = err == nil || t.reservation != 0 // owed
	if err != nil {
		if t.reservation != 0 {
			t.place.used.Store(true) // it will be
		}
		// The client must not read "wrong" for a failure that is not durable.
		return Verdict{Outcome: StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	return Verdict{Outcome: WrongPassword, Err: answer.Err}
}

// isPrevious reports whether a rejected password is one that was right before. It
// costs the same for every name, known or not.
func (t *try) isPrevious(ctx context.Context) bool {
	if t.Fingerprints == nil {
		return t.good
	}
	salt := t.account.Password.Salt
	if len(salt) == 0 {
		salt = make([]byte, saltSize)
	}
	fingerprint, err := t.Fingerprints.Fingerprint(ctx, salt, t.Password)
	if err != nil {
		t.Log.Warn("a rejected password could not be compared with the previous one", "session", t.Session, "err", err)
		return t.good
	}
	p := t.account.Password
	return t.good || len(p.Salt) > 0 && p.place(fingerprint) >= 0
}

// noteStale refunds the slot and notes, at most once an hour, that a device
// still tries an earlier password: support staff look for it first.
func (t *try) noteStale(ctx context.Context, now time.Time) {
	if now.Sub(t.account.Stale.At) < time.Hour {
		t.release(ctx)
		return
	}
	t.update(ctx, &debt{name: t.holder(), reservation: t.reservation, change: func(*[]Event) Change {
		return func(a *Account) ([]Event, bool) {
			a.Stale = Mistake{At: now, Source: t.Source}
			return nil, true
		}
	}})
}

// settleRight re-checks the account as it is now and makes it a login.
func (t *try) settleRight(ctx context.Context) Verdict {
	now := t.now()
	s := acceptance{
		now: now, source: t.Source, window: t.loginWindow(), sso: t.SSO,
		canAlert: t.Protocol == IMAP,
	}
	if t.offline {
		// A lock may have been heard of while the mail server was asked.
		if !t.offlineGrace() {
			return Verdict{Outcome: StoreUnavailable, Err: errors.New("store: unavailable, and the account has changed")}
		}
		return t.settleOffline(now)
	}
	if !t.SSO {
		s.observed = t.fingerprinted(t.name, t.digest, t.account.Password.Salt)
	}
	alert := s.canAlert && t.alertedOn() != t.rules.day(now)
	if !t.SSO && t.Fingerprints != nil && t.rules.Password.Mode != Off && len(s.observed.fingerprint) == 0 &&
		t.rules.anyNearItsEnd(t.account, now, alert) {
		// Only now does the login have to wait for the fingerprint: it matters
		// which password this is, or whether it is a new one.
		o, err := t.fingerprint(ctx, t.account, t.Password)
		if err != nil {
			t.release(ctx)
			return Verdict{Outcome: Unavailable, Err: fmt.Errorf("fingerprint: %w", err)}
		}
		s.observed = o
	}

	// Nothing is accepted that was not settled.
	v := accepted{outcome: StoreUnavailable}
	own := t.reservation
	if t.counter != "" {
		own = 0 // the slot is the counter's
	}
	generation := t.voided.of(t.name).Load()
	account := t.account
	elsewhere, err := t.elsewhere(ctx)
	switch {
	case err != nil:
	case elsewhere != Accepted:
		v.outcome = elsewhere
	default:
		account, err = t.storeUpdate(ctx, t.name, own, func(a *Account) ([]Event, bool) {
			v = t.rules.accept(a, s)
			return v.events, v.write
		})
	}
	if v.outcome == Locked || v.outcome == Revoked {
		// What the store has said of the account counts, whether or not it failed
		// after that.
		t.forgetKnown(t.name)
	}
	if err != nil {
		if t.good && t.offlineGrace() {
			return t.settleOffline(now)
		}
		t.release(ctx)
		return Verdict{Outcome: StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	if t.counter != "" || elsewhere != Accepted {
		// The slot was not settled. A login forgives nothing of a shared counter:
		// others have guessed as well.
		t.release(ctx)
	}
	t.happened(v.events, account.Known())
	verdict := Verdict{Outcome: v.outcome, Would: v.would}
	if v.alert && t.tellToday(now) {
		verdict.Alert, verdict.ExpiresIn = true, v.expiresIn
	}
	if elsewhere != Accepted {
		return verdict
	}
	if v.outcome != Accepted {
		t.gates.wake(t.name)
		return verdict
	}
	t.accepted(account, generation, s.observed)
	return verdict
}

// tellToday reports whether the user is to be told now that the password runs out: once
// a day through each mail program, since some show nothing of it, and others open
// several connections.
func (t *try) tellToday(now time.Time) (tell bool) {
	t.alerted.update(t.listener(), func(last string) string {
		day := t.rules.day(now)
		tell = day != last
		return day
	})
	return tell
}

// alertedOn is the day on which the user was told last through this mail program.
func (t *try) alertedOn() string {
	day, _ := t.alerted.get(t.listener())
	return day
}

// listener names the account and the mail program, or where there is no name of one
// the source, in memory.
func (t *try) listener() digest {
	program := t.Program
	if program == "" {
		program = t.source.String()
	}
	return t.Guard.digest(t.name, NewSecret(program))
}

// settleOffline accepts a known-good password while the store is down; its last
// login is written later.
func (t *try) settleOffline(now time.Time) Verdict {
	t.noteLogin(now)
	wake(t.nudgeLogins)
	return Verdict{Outcome: Accepted}
}

// noteLogin leaves a last login for later. While the clock is suspect it has no
// instant: it is dated when the clock is accepted.
func (t *try) noteLogin(now time.Time) {
	if t.suspicion.Load() != nil {
		now = time.Time{}
	}
	t.mu.Lock()
	t.logins[t.name] = now
	t.mu.Unlock()
}

// accepted remembers the password as known good, unless what is known was made void
// since generation, and lets everybody who waits with the same one pass.
func (t *try) accepted(account Account, generation uint64, o observation) {
	if t.SSO {
		t.gates.wake(t.name)
		return
	}
	unchanged := func() bool { return t.voided.of(t.name).Load() == generation }
	k, remembered := t.known.updateIf(t.name, unchanged, func(k knownGood) knownGood {
		k.accept(t.digest, t.source, o, account)
		return k
	})
	t.entries.remove(t.digest)
	t.forgiveDebts(t.name)
	if t.rules.ClockSuspect {
		t.noteLogin(t.now())
	}
	t.gates.wakeAll(t.name)
	t.Throttle.succeeded(t.throttled(), t.now())
	if remembered && len(k.accepted[0].observed.fingerprint) == 0 && t.Fingerprints != nil {
		select {
		case t.Guard.observe <- unobserved{t.name, t.digest, t.Password, t.Source, t.now()}:
		default: // busy; the next login offers it again
		}
	}
}

// release frees the slot and changes nothing.
func (t *try) release(ctx context.Context) {
	if t.reservation == 0 {
		return
	}
	t.update(ctx, &debt{name: t.holder(), reservation: t.reservation, change: noChange})
}
