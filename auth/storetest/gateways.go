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

func (h *gateways) guess(t *rapid.T) {
	locked, asked := h.account(t).Lock.Cause != auth.NotLocked, h.server.asked
	outcomes := h.tries(h.source(t), h.wrongOnes(t), h.all...)
	if locked && h.server.asked != asked {
		t.Fatal("I5: the mail server was asked about a locked account")
	}
	if n := sum(outcomes, auth.Accepted); n > 0 {
		t.Fatal("a guess was accepted")
	}
	h.told += sum(outcomes, auth.WrongPassword)
}

func (h *gateways) rightOnes(t *rapid.T) (passwords []string) {
	for range rapid.IntRange(1, 15).Draw(t, "logins") {
		passwords = append(passwords, h.server.current)
	}
	return passwords
}

func (h *gateways) logIn(t *rapid.T) {
	passwords, before, clear := h.rightOnes(t), h.owed(), h.clear(t)
	locked, lockSeq := h.account(t).Lock.Cause != auth.NotLocked, h.lockSeq(t)
	outcomes := h.tries(h.source(t), passwords, h.all...)
	in := sum(outcomes, auth.Accepted)
	for g, of := range outcomes {
		// A gateway without its store that had not received the lock cannot know it.
		if locked && of[auth.Accepted] > 0 && (!h.grace || g.health.Load() == well || g.heard >= lockSeq) {
			t.Fatalf("I5: %v on a locked account (health %d)", outcomes, g.health.Load())
		}
	}
	switch refused := sum(outcomes, auth.Throttled); {
	case clear && !h.throttled && !h.c.Real && in != len(passwords), clear && in+sum(outcomes, auth.Busy)+refused != len(passwords),
		clear && !h.throttled && refused > 0:
		t.Fatalf("I2: %v with the right password", outcomes)
	}
	h.mayHaveReset(t, before, h.stored(outcomes), func(g *gateway) bool { return g.health.Load() == well && outcomes[g][auth.Accepted] > 0 })
}

// stored reports whether a login was certainly accepted by a gateway that could write
// it. A gateway whose store is down may accept a login too, but that resets nothing.
func (h *gateways) stored(outcomes map[*gateway]map[auth.Outcome]int) bool {
	for g, of := range outcomes {
		if g.health.Load() == well && of[auth.Accepted] > 0 {
			return true
		}
	}
	return false
}

// events returns the events of the audit log, the oldest first.
func (h *gateways) events(t *rapid.T) []auth.Event {
	events, err := h.all[0].member.Events(context.Background(), auth.EventFilter{Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(events)
	return events
}

// lockSeq is the number of the latest event that locked the account; 0 for none.
func (h *gateways) lockSeq(t *rapid.T) (seq int64) {
	for _, e := range h.events(t) {
		if e.Kind == auth.AccountLocked || e.Kind == auth.NameLocked {
			seq = e.Seq
		}
	}
	return seq
}

// hear passes to a gateway at most this many of the events that it has not received.
func (h *gateways) hear(t *rapid.T, g *gateway, most int) {
	if g.health.Load() == unreachable {
		return
	}
	for _, e := range h.events(t) {
		if e.Seq > g.heard && most > 0 {
			g.OnRemoteEvent(e)
			g.heard = e.Seq
			most--
		}
	}
}

func (h *gateways) hearSome(t *rapid.T) {
	h.hear(t, h.draw(t), rapid.IntRange(1, 10).Draw(t, "events"))
}

// unlockEverywhere unlocks the account and passes the event to all gateways. Then the
// owner can log in at each of them, from any source.
func (h *gateways) unlockEverywhere(t *rapid.T) {
	g := h.draw(t)
	h.unlockOn(t, g)
	for _, other := range h.all {
		h.hear(t, other, 100_000)
	}
	before, clear, source := h.owed(), h.clear(t), h.source(t)
	if !clear || h.account(t).Failures > 0 {
		t.Skip("a login cannot succeed now")
	}
	var outcomes map[*gateway]map[auth.Outcome]int
	for range 100 {
		h.c.Settle() // the throttle may forgive with a short delay
		outcomes = h.tries(source, slices.Repeat([]string{h.server.current}, len(h.all)), h.all...)
		if !h.c.Real || sum(outcomes, auth.Throttled) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := sum(outcomes, auth.Accepted); n != len(h.all) {
		t.Fatalf("%v with the right password after an unlock", outcomes)
	}
	h.mayHaveReset(t, before, true, func(*gateway) bool { return true })
}

// lockThenCut locks at one gateway, perhaps just after a login at another has been
// committed. Then the other gateway, which has received the lock, cannot reach its
// store: the password that it knew must not be accepted any more.
func (h *gateways) lockThenCut(t *rapid.T) {
	g, by, source := h.draw(t), h.draw(t), h.source(t)
	before, health := h.owed(), g.health.Load()
	if health != well || by.health.Load() != well {
		t.Skip("a store is not well")
	}
	var err error
	locked := make(chan struct{})
	lock := func() {
		defer close(locked)
		_, err = by.Lock(context.Background(), testName, anAct)
	}
	amid := rapid.Bool().Draw(t, "when a login was committed")
	if amid {
		// So that the login has something to write.
		h.guesses++
		h.told += sum(h.tries(source, []string{fmt.Sprint("guess", h.guesses)}, g), auth.WrongPassword)
		before = h.owed()
		g.mu.Lock()
		g.committed = lock
		g.mu.Unlock()
	}
	outcomes := h.tries(source, []string{h.server.current}, g)
	g.mu.Lock()
	missed := g.committed != nil
	g.committed = nil
	g.mu.Unlock()
	if !amid || missed { // the login wrote nothing
		lock()
	}
	<-locked // another commit may have called it
	h.mayHaveReset(t, before, h.stored(outcomes), func(o *gateway) bool { return o == g && outcomes[g][auth.Accepted] > 0 })
	if err != nil {
		return // it was locked already
	}
	if by != g {
		h.hear(t, g, 100_000)
	}
	g.health.Store(unreachable)
	outcomes = h.tries(source, slices.Repeat([]string{h.server.current}, 3), g)
	g.health.Store(health)
	if sum(outcomes, auth.Accepted) > 0 {
		t.Fatalf("I5: %v without the store, on an account whose lock the gateway had received", outcomes)
	}
}

// allowSource lets a source go on. It does not lift the limit of any account.
func (h *gateways) allowSource(t *rapid.T) {
	if !h.throttled {
		t.Skip("this history has no throttle")
	}
	_, err := h.draw(t).AllowSource(context.Background(), h.source(t).Addr(), 4*time.Hour, anAct)
	if err != nil && !errors.Is(err, errHealth) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, auth.ErrNothingToDo) {
		t.Fatal(err)
	}
}

// cut makes the store of a gateway unreachable while the mail server judges its
// attempts, and reachable again.
func (h *gateways) cut(t *rapid.T) {
	g := h.draw(t)
	passwords, source := h.wrongOnes(t), h.source(t)
	dead := g.member.TakeForDead != nil && rapid.Bool().Draw(t, "taken for dead")
	health := g.health.Load()
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		g.health.Store(unreachable)
		if dead {
			h.declareDead(g)
		}
	})
	h.told += sum(outcomes, auth.WrongPassword)
	if rapid.Bool().Draw(t, "for long") {
		return // a later step draws the store's health again
	}
	g.health.Store(health)
}

// takeForDead treats a gateway as dead, as if it was paused for longer than the lease.
func (h *gateways) takeForDead(t *rapid.T) {
	g := h.draw(t)
	if g.member.TakeForDead == nil {
		t.Skip("the store has no leases")
	}
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() { h.declareDead(g) })
	h.told += sum(outcomes, auth.WrongPassword)
}

// declareDead lets the slots of a live gateway expire. It costs what a crash costs, but
// only once until the gateway has written its verdicts: until then it does not ask the
// mail server again.
func (h *gateways) declareDead(g *gateway) {
	g.mu.Lock()
	held := len(g.held)
	g.mu.Unlock()
	if held > 0 {
		h.crashes++
		h.lost += held
		h.orphans += held
	}
	h.pending = append(h.pending, g.member.TakeForDead())
}

// loseSlots is a fail-over while the mail server judges.
func (h *gateways) loseSlots(t *rapid.T) {
	g := h.draw(t)
	if g.member.LoseSlots == nil {
		t.Skip("the store cannot lose slots")
	}
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		for _, o := range h.all {
			o.mu.Lock()
			h.crashes += len(o.held) // each slot may be used once more
			h.lost += len(o.held)
			o.mu.Unlock()
		}
		g.member.LoseSlots()
	})
	h.told += sum(outcomes, auth.WrongPassword)
}

// acceptClocks sets all clocks right and accepts them at each gateway.
func (h *gateways) acceptClocks(t *rapid.T) {
	h.skew.Store(0)
	for _, g := range h.all {
		g.skew.Store(0)
	}
	h.lastSeen = time.Time{} // the last login may be in the future
	for _, g := range h.all {
		_, err := g.AcceptClock(context.Background(), g.dated(), anAct, false)
		if err == nil && !g.Suspicion().IsZero() {
			t.Fatalf("the clock was accepted but is still suspect: %v", g.Suspicion())
		}
	}
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

// mayHaveReset resets if a login or an unlock took effect, also when its caller did not
// learn of it.
func (h *gateways) mayHaveReset(t *rapid.T, before map[*gateway]int, sure bool, learnt func(*gateway) bool) {
	for _, g := range h.all {
		sure = g.forgave.Swap(false) || sure // a lock, or failures, may have come after it
	}
	if a := h.account(t); sure || a.Failures == 0 && a.Lock.Cause == auth.NotLocked {
		h.reset(before, learnt)
	}
}

func (h *gateways) oldPassword(t *rapid.T) {
	if len(h.server.earlier) == 0 {
		t.Skip("there is no earlier password")
	}
	var passwords []string
	for range rapid.IntRange(1, 15).Draw(t, "tries") {
		passwords = append(passwords, rapid.SampledFrom(h.server.earlier).Draw(t, "which"))
	}
	outcomes := h.tries(h.source(t), passwords, h.all...)
	if sum(outcomes, auth.WrongPassword)+sum(outcomes, auth.Accepted) > 0 {
		t.Fatalf("I4: %v with earlier passwords", outcomes)
	}
}

// change changes the password at the mail server, if the store knows the present one.
func (h *gateways) change(t *rapid.T) {
	p := h.account(t).Password
	known, _ := plain{}.Fingerprint(context.Background(), p.Salt, auth.NewSecret(h.server.current))
	if latest, _ := p.Latest(); len(latest) == 0 || string(latest) != string(known) {
		t.Skip("the password has not been used yet")
	}
	if len(p.Known) == auth.MaxPasswords {
		t.Skip("no room to remember the next password")
	}
	h.changes++
	h.server.earlier, h.server.current = append(h.server.earlier, h.server.current), fmt.Sprint("Mat-khau-", h.changes)
}

var anAct = auth.Act{Actor: "Nguyễn Văn An", Reason: "called, identity checked"}

func (h *gateways) unlock(t *rapid.T) { h.unlockOn(t, h.draw(t)) }

func (h *gateways) unlockOn(t *rapid.T, g *gateway) {
	before := h.owed()
	_, err := g.Unlock(context.Background(), testName, anAct)
	h.mayHaveReset(t, before, err == nil, func(o *gateway) bool { return err == nil && o == g })
}

func (h *gateways) lock(t *rapid.T) {
	g := h.draw(t)
	_, err := g.Lock(context.Background(), testName, anAct)
	if a := h.account(t); err == nil && a.Lock.Cause == auth.NotLocked {
		t.Fatalf("I5: after a lock the account has %+v", a.Lock)
	}
}

func (h *gateways) lockWithin(t *rapid.T) {
	passwords, on, before := h.rightOnes(t), h.draw(t), h.owed()
	var outcomes map[*gateway]map[auth.Outcome]int
	locked := false
	source := h.source(t)
	h.server.within(func() { outcomes = h.tries(source, passwords, on) }, func() {
		_, err := h.draw(t).Lock(context.Background(), testName, anAct)
		locked = err == nil
	})
	in := sum(outcomes, auth.Accepted)
	if locked && in > 0 && on.health.Load() == well {
		t.Fatalf("I5: %d logins were accepted after the lock", in)
	}
	h.mayHaveReset(t, before, h.stored(outcomes), func(g *gateway) bool { return outcomes[g][auth.Accepted] > 0 })
}

func (h *gateways) unlockWithin(t *rapid.T) {
	passwords, on, by := h.wrongOnes(t), h.draw(t), h.draw(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	source := h.source(t)
	h.server.within(func() { outcomes = h.tries(source, passwords, on) }, func() { h.unlockOn(t, by) })
	h.told += sum(outcomes, auth.WrongPassword)
}

// kill ends a gateway at work, and starts another.
func (h *gateways) kill(t *rapid.T) {
	i := rapid.IntRange(0, len(h.all)-1).Draw(t, "gateway")
	g := h.all[i]
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		h.c.Settle() // by now the other attempts wait
		g.health.Store(unreachable)
	})
	g.health.Store(unreachable)
	h.told += sum(outcomes, auth.WrongPassword) // attempts that ended before the kill
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) > 0 {
		h.crashes++
	}
	h.all = append(h.all[:i], h.all[i+1:]...)
	h.orphans += len(g.held)
	h.lost += len(g.held) // the mail server may have judged them
	h.pending = append(h.pending, g.member.Kill(g.held))
	h.start()
	if rapid.Bool().Draw(t, "noticed at once") {
		h.lapse()
	}
}

// lapse waits until the slots of killed gateways have expired.
func (h *gateways) lapse() {
	for _, lapse := range h.pending {
		lapse()
	}
	h.pending, h.orphans = nil, 0
}

func (h *gateways) wait(t *rapid.T) {
	s := rapid.IntRange(1, 300).Draw(t, "s")
	if h.c.Real {
		time.Sleep(time.Duration(s) * 2 * time.Millisecond)
	} else {
		time.Sleep(time.Duration(s) * time.Second)
	}
	h.lapse()
}

func (h *gateways) serverHealth(t *rapid.T) {
	h.server.answer = rapid.SampledFrom([]*auth.Answer{
		nil, nil, {Judgement: auth.InDoubt}, {Judgement: auth.Unreached}, {Judgement: auth.RefusedOtherwise},
	}).Draw(t, "answers")
}

func (h *gateways) storeHealth(t *rapid.T) {
	of := rapid.SampledFrom([]int32{well, well, well, failsBeforeCommit, failsAfterCommit, hangsBeforeCommit, hangsAfterCommit, unreachable})
	for _, g := range h.all {
		g.health.Store(of.Draw(t, "health"))
	}
}

func (h *gateways) setClock(t *rapid.T) {
	minutes := rapid.SampledFrom([]int{-600_000, -90, -4, 0, 4, 90, 600_000}).Draw(t, "minutes")
	skew := int64(time.Duration(minutes) * time.Minute)
	if rapid.Bool().Draw(t, "of one machine") {
		h.draw(t).skew.Store(skew)
		return
	}
	h.skew.Store(skew)
	for _, g := range h.all {
		g.skew.Store(skew)
	}
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
