package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest/testenv"
	"congthu/auth/throttle"
)

// Rounds is how often a test with random timing runs: usual times, or soak times when
// [testenv.SoakVariable] is set in the environment.
func Rounds(usual, soak int) int {
	if os.Getenv(testenv.SoakVariable) != "" {
		return soak
	}
	return usual
}

// Cluster describes the store under test and the gateways on it, for [Gateways].
type Cluster struct {
	// Most is the largest number of gateways at one time.
	Most int
	// Begin makes an empty store. open opens the store for one more gateway; end closes
	// everything.
	Begin func() (open func() Member, end func())
	// PerCrash is how many wrong passwords above the limit may be judged for each
	// gateway that is killed while it holds slots.
	PerCrash int
	// Settle waits for the work that gateways do in the background. It is called often.
	Settle func()
	// Real is set where tests use the machine's time and not a synctest bubble's. An
	// attempt that waits for too long may then end as Busy, and less time passes.
	Real bool
}

// Member is the store of one gateway.
type Member struct {
	Store
	// Now is the clock that the gateway should have; nil: the machine's.
	Now func() time.Time
	// Kill ends the store as the end of its process would. held are the slots that
	// were taken through it; lapse returns when they have expired.
	Kill func(held map[auth.Reservation]auth.Name) (lapse func())
	// TakeForDead makes the other processes treat this one as dead, and its slots
	// expire, although it lives: its link is cut, or it was paused for longer than the
	// lease. lapse returns when the slots have expired. nil where the store has no
	// leases.
	TakeForDead func() (lapse func())
	// LoseSlots removes all slots that are taken, as a fail-over does to a standby that
	// has not received them. nil where slots cannot be lost.
	LoseSlots func()
}

// InDoubt counts an attempt whose gateway has died, by the rules of the regulation.
func InDoubt(a *auth.Account) ([]auth.Event, bool) { return rules.ReservationExpired(a, noon) }

var rules = auth.DefaultRules()

const tolerated = 5

// Gateways drives several gateways on one store through random histories. The steps are
//
//   - parallel guesses and logins from several sources, and password changes;
//   - locks and unlocks, also while the mail server judges, and at a gateway other than
//     the one where the passwords are tried;
//   - events of the audit log that reach the other gateways late;
//   - outages of the store before and after its commits, commits that hang, and links
//     that are cut while a password is judged;
//   - outages of the mail server;
//   - tickets that are abandoned or settled twice;
//   - clocks that are set and accepted;
//   - gateways that are killed and replaced, or treated as dead while they live.
//
// In some histories the gateways have a grace period for an outage of the store; in
// some they have a throttle, and sources that an admin allows. After each step the test
// checks the invariants of package auth against a mail server that counts.
//
// These figures count from one reset (a login, an unlock) to the next:
//
//	judged   wrong passwords at the mail server          at most tolerated + 1,
//	                                                     and PerCrash for each crash
//	told     replies "wrong password" to clients         at most what is stored
//	stored   Account.Failures                            at most judged + doubts +
//	                                                     lost + carried
//	doubts   attempts without an answer of the mail server, or whose answer did not
//	         reach the guard
//	lost     slots of gateways that died or were treated as dead: their attempts
//	         may have been judged, and count as failures in doubt
//	carried  settlements that were pending before the reset and may come after it
//
// A crash is a gateway that died, or was treated as dead, while it held slots; or a
// store that lost all slots.
func Gateways(t *testing.T, c Cluster) {
	rounds := Rounds(1, 30)
	if !c.Real {
		rounds *= 3 // they take no time
	}
	for range rounds {
		rapid.Check(t, c.history)
	}
}

// history runs one random history.
func (c Cluster) history(t *rapid.T) {
	h := &gateways{c: c, server: &judge{current: "Mat-khau-0", delay: time.Millisecond}}
	h.grace, h.throttled = rapid.Bool().Draw(t, "grace"), rapid.Bool().Draw(t, "throttled")
	var end func()
	h.open, end = c.Begin()
	defer end()
	defer func() {
		for _, g := range h.all {
			g.stop()
		}
	}()
	for range rapid.IntRange(1, c.Most).Draw(t, "gateways") {
		h.start()
	}
	t.Repeat(map[string]func(*rapid.T){
		"guess":                    h.guess,
		"log in":                   h.logIn,
		"a phone with the old one": h.oldPassword,
		"the password is changed":  h.change,
		"an admin unlocks":         h.unlock,
		"an admin locks":           h.lock,
		"locked during a login":    h.lockWithin,
		"unlocked during a guess":  h.unlockWithin,
		"a gateway is killed":      h.kill,
		"time passes":              h.wait,
		"the mail server's health": h.serverHealth,
		"the store's health":       h.storeHealth,
		"a clock is set":           h.setClock,
		"the clocks are accepted":  h.acceptClocks,
		"events arrive":            h.hearSome,
		"unlocked, and all know":   h.unlockEverywhere,
		"locked, then a link cut":  h.lockThenCut,
		"a source is allowed":      h.allowSource,
		"tickets":                  h.tickets,
		"a link is cut":            h.cut,
		"taken for dead":           h.takeForDead,
		"slots are lost":           h.loseSlots,
		"":                         h.check,
	})
	h.finish(t)
}

// gateways is the state of one history.
type gateways struct {
	c         Cluster
	open      func() Member
	server    *judge
	all       []*gateway
	guesses   int  // so far; each guess is a new password
	changes   int  // of the password, so far
	grace     bool // the guards have StoreGrace
	throttled bool // the guards slow down sources

	skew atomic.Int64 // of the clock that all share

	// Since the last reset, which is a login or an unlock:
	wrong, doubts int // the server's counters at that time
	told          int // replies that a password was wrong
	crashes       int // of gateways that held slots
	lost          int // slots that those gateways held
	carried       int // settlements from before the reset that may come after it

	pending  []func() // wait for slots of killed gateways to expire
	orphans  int      // the number of those slots
	lastSeen time.Time
}

// gateway is one guard and its store, which fails as health says.
type gateway struct {
	*guard.Guard
	member Member
	stop   func()
	skew   atomic.Int64 // of its machine's clock
	health atomic.Int32
	heard  int64 // number of the last event that it received
	// forgave is set when a commit forgave failures and its caller did not learn of it.
	forgave atomic.Bool

	mu   sync.Mutex
	held map[auth.Reservation]auth.Name
	// committed is called once, after the next commit and before its caller learns of it.
	committed func()
}

// The health of a store.
const (
	well = iota
	failsBeforeCommit
	failsAfterCommit
	hangsBeforeCommit // until the caller's context ends
	hangsAfterCommit
	unreachable // also: its gateway was killed
)

var errHealth = errors.New("the store is not well")

func (g *gateway) Account(ctx context.Context, name auth.Name) (auth.Account, error) {
	if g.health.Load() == unreachable {
		return auth.Account{}, errHealth
	}
	return g.member.Account(ctx, name)
}

func (g *gateway) Reserve(ctx context.Context, name auth.Name, slots func(auth.Account) int) (auth.Account, auth.Reservation, error) {
	if g.health.Load() == unreachable {
		return auth.Account{}, 0, errHealth
	}
	a, r, err := g.member.Reserve(ctx, name, slots)
	if err == nil {
		g.mu.Lock()
		g.held[r] = name
		g.mu.Unlock()
	}
	return a, r, err
}

func (g *gateway) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	health := g.health.Load()
	switch health {
	case hangsBeforeCommit:
		<-ctx.Done()
		return auth.Account{}, ctx.Err()
	case failsBeforeCommit, unreachable:
		return auth.Account{}, errHealth
	}
	forgave := false
	a, err := g.member.Update(ctx, name, r, func(a *auth.Account) ([]auth.Event, bool) {
		failures := a.Failures
		events, write := change(a)
		forgave = write && failures > 0 && a.Failures == 0
		return events, write
	})
	if err != nil {
		return a, err
	}
	if forgave && health != well {
		g.forgave.Store(true)
	}
	g.mu.Lock()
	delete(g.held, r)
	committed := g.committed
	g.committed = nil
	g.mu.Unlock()
	if committed != nil {
		committed()
	}
	switch health {
	case hangsAfterCommit:
		<-ctx.Done()
		return auth.Account{}, ctx.Err()
	case failsAfterCommit:
		return auth.Account{}, errHealth
	}
	return a, nil
}

// judge is the mail server. It judges passwords and counts.
type judge struct {
	mu            sync.Mutex
	delay         time.Duration
	current       string
	earlier       []string     // passwords that were right before
	answer        *auth.Answer // given to every password when it is set
	asked         int
	wrong, doubts int // wrong: verdicts on passwords that were never right; doubts: attempts without an answer

	hold    chan struct{} // when set, verdicts wait until it is closed
	arrived chan struct{} // receives one value for each waiting verdict
}

func (j *judge) verify(password string) auth.Verify {
	return func(ctx context.Context, name auth.Name) auth.Answer {
		j.mu.Lock()
		j.asked++
		hold, arrived := j.hold, j.arrived
		j.mu.Unlock()
		if hold != nil {
			arrived <- struct{}{}
			<-hold
		}
		time.Sleep(j.delay)
		j.mu.Lock()
		defer j.mu.Unlock()
		switch {
		case j.answer != nil:
			if j.answer.Judgement == auth.InDoubt {
				j.doubts++
			}
			return *j.answer
		case password == j.current:
			return auth.Answer{Judgement: auth.JudgedRight}
		case !slices.Contains(j.earlier, password):
			j.wrong++
		}
		return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
	}
}

// within calls during while the mail server judges at least one of the attempts.
func (j *judge) within(attempts, during func()) {
	hold := make(chan struct{})
	j.mu.Lock()
	j.hold, j.arrived = hold, make(chan struct{}, 1000)
	j.mu.Unlock()
	done := make(chan struct{})
	go func() { defer close(done); attempts() }()
	select {
	case <-j.arrived:
		during()
	case <-done: // no attempt reached the mail server
	}
	j.mu.Lock()
	j.hold = nil
	j.mu.Unlock()
	close(hold)
	<-done
}

// plain computes fingerprints without their cost.
type plain struct{}

func (plain) Fingerprint(_ context.Context, salt []byte, p auth.Secret) ([]byte, error) {
	return fmt.Appendf(nil, "%x|%s", salt, p.Reveal()), nil
}

// start adds a gateway.
func (h *gateways) start() {
	g := &gateway{member: h.open(), held: make(map[auth.Reservation]auth.Name)}
	now := g.member.Now
	if now == nil {
		now = time.Now
	}
	// Gateways on a store share its clock.
	shared := func() time.Time { return now().Add(time.Duration(h.skew.Load())) }
	machine := func() time.Time { return now().Add(time.Duration(g.skew.Load())) }
	g.Guard = &guard.Guard{
		Store: g, Fingerprints: plain{}, Patience: 2 * time.Second, StoreTimeout: 4 * time.Second,
		Now: shared, MachineNow: machine, WatchClock: true, Shared: h.c.Most > 1,
	}
	if h.c.Real {
		g.Patience, g.Lease, g.StoreTimeout = 300*time.Millisecond, 300*time.Millisecond, 2*time.Second
	}
	if h.grace {
		g.StoreGrace = time.Hour
	}
	if h.throttled {
		g.Throttle = &throttle.Throttle{Failures: 3} // so that it refuses before the lock
	}
	rules := auth.DefaultRules()
	rules.Dormancy.Mode, rules.Password.Mode = auth.Off, auth.Off
	rules.Lockout.DailyFailureCap = 0
	names := &auth.Namer{Default: testName.Domain(), Unicode: true, Aliases: map[auth.Name]auth.Name{"văn.phòng@congthu.test": testName}}
	g.SetPolicy(guard.Policy{Names: names, Rules: rules})
	if err := g.LearnClock(context.Background(), g.member); err != nil {
		panic(err)
	}
	if err := g.RecallAllowed(context.Background(), g.member); err != nil {
		panic(err)
	}
	if newest, err := g.member.Events(context.Background(), auth.EventFilter{Limit: 1}); err != nil {
		panic(err)
	} else if len(newest) > 0 {
		g.heard = newest[0].Seq
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	g.stop = func() { cancel(); running.Wait() }
	h.all = append(h.all, g)
}

// account returns the stored account.
func (h *gateways) account(t *rapid.T) auth.Account {
	a, err := h.all[0].member.Account(context.Background(), testName)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (h *gateways) draw(t *rapid.T) *gateway {
	return h.all[rapid.IntRange(0, len(h.all)-1).Draw(t, "gateway")]
}

// spellings are spellings of one account; the last two belong to an alias.
var spellings = []string{string(testName), "somebody", "SomeBody@CONGTHU.test.", "ｓｏｍｅｂｏｄｙ", "văn.phòng", "VA\u0306N.PHO\u0300NG@congthu.test"}

// sources are the sources of attempts. The last two are in one network.
var sources = []netip.AddrPort{
	netip.MustParseAddrPort("203.0.113.7:50312"), netip.MustParseAddrPort("198.51.100.9:40001"),
	netip.MustParseAddrPort("[2001:db8:1:2::3]:40002"), netip.MustParseAddrPort("[2001:db8:1:3::4]:40003"),
}

// tries makes attempts at the same time from one source, on the gateways in turn, and
// counts the outcomes at each gateway.
func (h *gateways) tries(source netip.AddrPort, passwords []string, on ...*gateway) map[*gateway]map[auth.Outcome]int {
	outcomes := make(map[*gateway]map[auth.Outcome]int)
	for _, g := range on {
		outcomes[g] = make(map[auth.Outcome]int)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, p := range passwords {
		g := on[i%len(on)]
		wg.Go(func() {
			v := g.Attempt(context.Background(), auth.Attempt{
				Login: spellings[i%len(spellings)], Password: auth.NewSecret(p), Source: source, Verify: h.server.verify(p),
			})
			mu.Lock()
			defer mu.Unlock()
			outcomes[g][v.Outcome]++
		})
	}
	wg.Wait()
	return outcomes
}

func sum(outcomes map[*gateway]map[auth.Outcome]int, o auth.Outcome) (n int) {
	for _, of := range outcomes {
		n += of[o]
	}
	return n
}

func (h *gateways) source(t *rapid.T) netip.AddrPort {
	if !h.throttled {
		return sources[0]
	}
	return rapid.SampledFrom(sources).Draw(t, "source")
}

// wrongOnes draws between 1 and 15 new wrong passwords.
func (h *gateways) wrongOnes(t *rapid.T) (passwords []string) {
	for range rapid.IntRange(1, 15).Draw(t, "guesses") {
		h.guesses++
		passwords = append(passwords, fmt.Sprint("guess", h.guesses))
	}
	return passwords
}

// owed is the number of pending settlements at each gateway.
func (h *gateways) owed() map[*gateway]int {
	owed := make(map[*gateway]int)
	for _, g := range h.all {
		owed[g] = g.Owed()
	}
	return owed
}

// reset begins a new count after a login or an unlock. A gateway that learnt of the
// reset forgives its pending settlements, except those that it is writing at that
// moment, which may be all of them. At the other gateways all pending settlements may
// count after it.
func (h *gateways) reset(before map[*gateway]int, learnt func(*gateway) bool) {
	h.server.mu.Lock()
	h.wrong, h.doubts = h.server.wrong, h.server.doubts
	h.server.mu.Unlock()
	h.told, h.crashes, h.lost, h.carried = 0, 0, 0, h.orphans
	for _, g := range h.all {
		if learnt(g) {
			h.carried += before[g]
		} else {
			h.carried += max(before[g], g.Owed())
		}
	}
}

// clear reports whether a login can succeed: all is well and the account is not locked.
func (h *gateways) clear(t *rapid.T) bool {
	for _, g := range h.all {
		if g.health.Load() != well || g.Owed() > 0 {
			return false
		}
	}
	return h.server.answer == nil && h.orphans == 0 && h.account(t).Lock.Cause == auth.NotLocked
}

// dated returns the store of a gateway, which fails as its health says.
func (g *gateway) dated() auth.DatedStore { return datedStore{g} }

type datedStore struct{ g *gateway }

func (d datedStore) List(ctx context.Context, want auth.Filter) ([]auth.Account, error) {
	if d.g.health.Load() == unreachable {
		return nil, errHealth
	}
	return d.g.member.List(ctx, want)
}

func (d datedStore) Events(ctx context.Context, want auth.EventFilter) ([]auth.Event, error) {
	if d.g.health.Load() == unreachable {
		return nil, errHealth
	}
	return d.g.member.Events(ctx, want)
}

// check checks what must hold after every step.
func (h *gateways) check(t *rapid.T) {
	h.c.Settle()
	a := h.account(t)
	h.server.mu.Lock()
	judged, doubts := h.server.wrong-h.wrong, h.server.doubts-h.doubts
	h.server.mu.Unlock()
	if most := tolerated + 1 + h.crashes*h.c.PerCrash; judged > most {
		t.Fatalf("I1: %d wrong passwords were judged, want at most %d", judged, most)
	}
	if a.Failures < min(h.told, tolerated+1) {
		t.Fatalf("I3: %d failures are stored, %d replies said wrong password", a.Failures, h.told)
	}
	if h.crashes == 0 && h.orphans == 0 && judged > tolerated && h.settled() && a.Lock.Cause == auth.NotLocked {
		t.Fatalf("I3: %d wrong passwords were judged, but the account is not locked", judged)
	}
	if a.Failures > judged+doubts+h.lost+h.carried {
		t.Fatalf("I4: %d failures are stored, %d were judged wrong, %d in doubt, %d lost, %d from before",
			a.Failures, judged, doubts, h.lost, h.carried)
	}
	if a.Lock.Cause == auth.ByWrongPasswords && (judged+h.carried == 0 || a.Failures <= tolerated) {
		t.Fatalf("I4: locked by %d wrong passwords", judged)
	}
	if a.LastLogin.Before(h.lastSeen) {
		t.Fatalf("the last login went back from %v to %v", h.lastSeen, a.LastLogin)
	}
	h.lastSeen = a.LastLogin
}

// settled reports whether no settlement is pending.
func (h *gateways) settled() bool {
	for _, n := range h.owed() {
		if n > 0 {
			return false
		}
	}
	return true
}

// finish checks what must hold when everything is well again.
func (h *gateways) finish(t *rapid.T) {
	if _, err := h.all[0].member.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if h.c.Real {
		return
	}
	h.server.answer = nil
	for _, g := range h.all {
		g.health.Store(well)
		g.skew.Store(0)
	}
	h.skew.Store(0)
	h.lapse()
	time.Sleep(5 * time.Minute) // longer than a lease
	h.check(t)
	if !h.settled() {
		t.Fatalf("all is well, but %v settlements are pending", h.owed())
	}
	for _, g := range h.all {
		h.hear(t, g, 100_000)
	}
	h.acceptClocks(t)
	h.unlockEverywhere(t)
	h.logIn(t)
	if a := h.account(t); a.Failures > 0 || a.Lock.Cause != auth.NotLocked {
		t.Fatalf("after an unlock and a login: %+v", a)
	}
}
