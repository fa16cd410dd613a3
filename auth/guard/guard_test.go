package guard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
	"congthu/auth/throttle"
)

const (
	lan  = auth.Name("lan@example.vn")
	good = "Mat-khau-1"
)

var office = netip.MustParseAddrPort("10.1.2.3:40000")

// mailServer judges passwords as a real one does, after a while, and counts.
type mailServer struct {
	mu       sync.Mutex
	password map[auth.Name]string
	wrong    map[auth.Name]int // verdicts "wrong" since the last right one
	right    int
	asked    int
	worst    int           // the most wrong verdicts on one account between two resets
	delay    time.Duration // before each verdict
	during   func()        // called while a verdict is being thought about
	answer   *auth.Answer  // replaces the verdict
}

func newMailServer() *mailServer {
	return &mailServer{password: map[auth.Name]string{lan: good}, wrong: make(map[auth.Name]int), delay: 50 * time.Millisecond}
}

func (m *mailServer) verify(password string) auth.Verify {
	return func(ctx context.Context, name auth.Name) auth.Answer {
		time.Sleep(m.delay)
		if m.during != nil {
			m.during()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.asked++
		if m.answer != nil {
			return *m.answer
		}
		if m.password[name] == password {
			m.right++
			m.wrong[name] = 0
			return auth.Answer{Judgement: auth.JudgedRight}
		}
		m.wrong[name]++
		m.worst = max(m.worst, m.wrong[name])
		return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
	}
}

// plainFingerprints compares passwords without the cost of Argon2.
type plainFingerprints struct{}

func (plainFingerprints) Fingerprint(_ context.Context, salt []byte, p auth.Secret) ([]byte, error) {
	return fmt.Appendf(nil, "%x|%s", salt, p.Reveal()), nil
}

// recorder keeps what the guard tells.
type recorder struct {
	mu       sync.Mutex
	outcomes map[auth.Outcome]int
	kinds    []auth.EventKind
	events   []auth.Event
	known    []bool // whether their accounts are known
}

func (r *recorder) Attempted(_ auth.Attempt, v auth.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[v.Outcome]++
}

func (r *recorder) Happened(e auth.Event, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kinds, r.events, r.known = append(r.kinds, e.Kind), append(r.events, e), append(r.known, known)
}

func (r *recorder) count(kind auth.EventKind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kinds {
		if k == kind {
			n++
		}
	}
	return n
}

// bench is a guard with everything around it, in a synctest bubble.
type bench struct {
	t      testing.TB
	guard  *guard.Guard
	store  *storetest.Model
	broken atomic.Pointer[failure] // how the store fails; nil when it does not
	// committed is called once, after the next commit of an update.
	committed atomic.Pointer[func()]
	server    *mailServer
	told      *recorder
	ended     []auth.Name
}

// failure is how a store fails.
type failure struct {
	only  []auth.StoreOp // nil: every operation
	after bool           // after the commit
}

var errBroken = errors.New("disk full")

// on returns the store's hook before or after its operations.
func (b *bench) on(after bool) func(auth.StoreOp) error {
	return func(op auth.StoreOp) error {
		if after && op == auth.OpUpdate {
			if f := b.committed.Swap(nil); f != nil {
				(*f)()
			}
		}
		if f := b.broken.Load(); f != nil && f.after == after && (f.only == nil || slices.Contains(f.only, op)) {
			return errBroken
		}
		return nil
	}
}

var (
	noWrites    = &failure{only: []auth.StoreOp{auth.OpUpdate}}
	noAnswers   = &failure{only: []auth.StoreOp{auth.OpUpdate}, after: true}
	unreachable = &failure{}
)

// newBench puts a guard's surroundings together.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, store: new(storetest.Model), server: newMailServer(), told: &recorder{outcomes: make(map[auth.Outcome]int)}}
	b.store.Fail, b.store.FailAfter = b.on(false), b.on(true)
	b.guard = &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}, Recorder: b.told}
	b.guard.EndSessions = func(n auth.Name) { b.ended = append(b.ended, n) }
	return b
}

// inBubble runs a test with a guard whose time is the bubble's.
func inBubble(t *testing.T, change func(*guard.Guard, *auth.Rules), test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		rules := auth.DefaultRules()
		if change != nil {
			change(b.guard, &rules)
		}
		b.setRules(rules)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		g := b.guard // which the test may exchange
		running.Go(func() { g.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(b)
	})
}

func (b *bench) setRules(rules auth.Rules) { setRules(b.guard, rules) }

// setRules gives a guard a policy with these rules.
func setRules(g *guard.Guard, rules auth.Rules) {
	g.SetPolicy(guard.Policy{
		Names: &auth.Namer{Default: "example.vn", Aliases: map[auth.Name]auth.Name{"office@example.vn": lan}},
		Rules: rules,
	})
}

func (b *bench) try(login, password string) auth.Verdict {
	return b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret(password)})
}

func (b *bench) attempt(a auth.Attempt) auth.Verdict {
	a.Verify = b.server.verify(a.Password.Reveal())
	if !a.Source.IsValid() {
		a.Source = office
	}
	return b.guard.Attempt(context.Background(), a)
}

func (b *bench) want(got auth.Verdict, want auth.Outcome) {
	b.t.Helper()
	if got.Outcome != want {
		b.t.Errorf("outcome %v (%v), want %v", got.Outcome, got.Err, want)
	}
}

func (b *bench) account() auth.Account {
	b.t.Helper()
	a, err := b.store.Account(context.Background(), lan)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func (b *bench) lock() {
	b.t.Helper()
	for i := range 6 {
		b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
	}
}

var act = auth.Act{Actor: "Nguyen Van A", Reason: "called, identity checked"}

// I1.
func TestAHundredParallelGuessesUnderManySpellingsGetSixVerdicts(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		spellings := []string{"lan", "LAN@example.vn", "Lan@EXAMPLE.vn.", "ｌａｎ", "office", "OFFICE@example.vn"}
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { b.try(spellings[i%len(spellings)], fmt.Sprint("guess", i)) })
		}
		wg.Wait()
		if b.server.asked != 6 {
			b.t.Errorf("the mail server judged %d guesses, want 6", b.server.asked)
		}
		if w, l := b.told.outcomes[auth.WrongPassword], b.told.outcomes[auth.Locked]; w != 6 || l != 94 {
			b.t.Errorf("%d wrong and %d locked replies, want 6 and 94", w, l)
		}
		if a := b.account(); a.Failures != 6 || a.Lock.Cause != auth.ByWrongPasswords {
			b.t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
		}
		if len(b.ended) > 0 {
			b.t.Error("a lock made by guessing has ended live sessions")
		}
	})
}

// I2.
func TestTwentyParallelLoginsWithTheRightPasswordAllSucceed(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", "wrong1"), auth.WrongPassword) // five slots left
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		wg.Wait()
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures after a login", a.Failures)
		}
	})
}

func TestWhoeverWaitsIsServedInTurnAndAtOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range 5 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword) // one slot is left
		}
		const thinks = 70 * time.Millisecond
		began := time.Now()
		var order []int
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				b.guard.Attempt(context.Background(), auth.Attempt{
					Login: "lan", Password: auth.NewSecret("x"), Source: office,
					Verify: func(context.Context, auth.Name) auth.Answer {
						order = append(order, i)
						if late := time.Since(began) - time.Duration(i)*thinks; late != 0 {
							b.t.Errorf("attempt %d is asked about %v after the slot was free", i, late)
						}
						time.Sleep(thinks)
						return auth.Answer{Judgement: auth.Unreached}
					},
				})
			})
			synctest.Wait() // one behind the other
		}
		wg.Wait()
		if len(order) != 10 || !slices.IsSorted(order) {
			b.t.Errorf("served in the order %v", order)
		}
	})
}

func TestTheOwnerGetsInWhileAStrangerGuesses(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { b.try("lan", fmt.Sprint("guess", i)) })
		}
		synctest.Wait()
		for range 20 {
			wg.Go(func() { b.want(b.try("lan", good), auth.Accepted) })
		}
		wg.Wait()
	})
}

// A queue is bounded, and whoever has many addresses can fill it. Who needs no slot
// does not stand in it.
func TestTheOwnerGetsInThoughTheQueueIsFull(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = 10 * time.Second
		var wg sync.WaitGroup
		busy := make(chan auth.Outcome, 1000)
		for i := range 1000 {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 40000)
			wg.Go(func() {
				busy <- b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(fmt.Sprint("guess", i)), Source: from}).Outcome
			})
		}
		synctest.Wait()
		if outcome := <-busy; outcome != auth.Busy {
			b.t.Fatalf("the queue is not full: %v", outcome)
		}
		b.server.mu.Lock()
		b.server.delay = 0 // or the guesses have locked before
		b.server.mu.Unlock()
		b.want(b.try("lan", good), auth.Accepted)
		wg.Wait()
	})
}

func TestAWaitThatIsTooLongIsBusyAndCountsNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.delay = time.Hour
		b.server.answer = &auth.Answer{Judgement: auth.Unreached}
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() { b.want(b.try("lan", "x"), auth.Unavailable) })
		}
		synctest.Wait()
		began := time.Now()
		b.want(b.try("lan", good), auth.Busy)
		if waited := time.Since(began); waited != 15*time.Second {
			b.t.Errorf("gave up after %v, want the patience of 15 s", waited)
		}
		wg.Wait()
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures", a.Failures)
		}
	})
}

// Whoever needs no slot does not stand in the queue of those who do.
func TestAKnownGoodPasswordPassesTheQueue(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = time.Second
		b.server.answer = &auth.Answer{Judgement: auth.Unreached}
		var wg sync.WaitGroup
		// Those in flight have left the queue, and a few of the others may have found
		// it full before they had.
		for i := 0; i < 600 || i < 700 && b.guard.Waiting() < 512; i++ {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1)
			wg.Go(func() { b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("x"), Source: from}) })
			if i >= 599 {
				synctest.Wait()
			}
		}
		if n := b.guard.Waiting(); n != 512 {
			b.t.Errorf("%d attempts wait, want the queue to be full", n)
		}
		b.want(b.guard.Attempt(context.Background(), auth.Attempt{
			Login: "lan", Password: auth.NewSecret(good), Source: office,
			Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedRight} },
		}), auth.Accepted)
		b.want(b.try("lan", "x"), auth.Busy)
		wg.Wait()
	})
}

// I3.
func TestAFailureThatIsNotDurableIsNotToldAndCountsOnceLater(t *testing.T) {
	for name, fail := range map[string]*failure{"before the commit": noWrites, "after the commit": noAnswers} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.broken.Store(fail)
				b.want(b.try("lan", "wrong1"), auth.StoreUnavailable)
				if b.guard.Owed() != 1 {
					b.t.Fatalf("%d settlements owed, want 1", b.guard.Owed())
				}
				b.broken.Store(nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				if a := b.account(); a.Failures != 1 {
					b.t.Errorf("%d failures after the store came back, want 1", a.Failures)
				}
				if b.guard.Owed() != 0 {
					b.t.Errorf("%d settlements still owed", b.guard.Owed())
				}
			})
		})
	}
}

// A context ends with the process or with somebody's patience; nothing that the
// mail server has judged may be lost with it.
func TestAContextThatEndsAtAnyStepLosesNoFailureAndNoSlot(t *testing.T) {
	for step, password := range map[string]string{
		"before": "wrong", "while the mail server judges a wrong one": "wrong", "while it judges the right one": good,
	} {
		t.Run(step, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				for range 6 {
					ctx, cancel := context.WithCancel(context.Background())
					b.server.during = cancel
					if step == "before" {
						cancel()
					}
					v := b.guard.Attempt(ctx, auth.Attempt{
						Login: "lan", Password: auth.NewSecret(password), Source: office, Verify: b.server.verify(password),
					})
					if !v.Outcome.Temporary() {
						b.t.Errorf("outcome %v: nothing of it is stored", v.Outcome)
					}
					b.server.during = nil
					cancel()
				}
				time.Sleep(time.Minute)
				want := 0
				if password != good {
					want = b.server.asked
				}
				if a := b.account(); a.Failures != want || (want > 5) != (a.Lock.Cause != auth.NotLocked) {
					b.t.Errorf("%d failures and the lock %+v, want %d", a.Failures, a.Lock, want)
				}
				if want == 0 {
					b.want(b.try("lan", good), auth.Accepted) // all slots are free
				}
			})
		})
	}
}

func TestAStoreThatCannotWriteGivesNoFurtherGuesses(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.broken.Store(noWrites)
		for i := range 30 {
			b.try("lan", fmt.Sprint("guess", i))
		}
		if b.server.asked > 6 {
			b.t.Errorf("the mail server judged %d guesses while none could be written", b.server.asked)
		}
	})
}

// I4.
func TestOnlyWrongPasswordsCount(t *testing.T) {
	for _, c := range []struct {
		answer auth.Answer
		want   auth.Outcome
	}{
		{auth.Answer{Judgement: auth.Unreached, Err: errors.New("connection refused")}, auth.Unavailable},
		{auth.Answer{Judgement: auth.RefusedOtherwise, Code: "LIMIT"}, auth.Refused},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.server.answer = &c.answer
				for range 20 {
					v := b.try("lan", "x")
					b.want(v, c.want)
					if v.Code != c.answer.Code {
						b.t.Errorf("code %q, want %q", v.Code, c.answer.Code)
					}
				}
				time.Sleep(time.Hour)
				if a := b.account(); a.Failures != 0 || a.Lock.Cause != auth.NotLocked {
					b.t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
				}
			})
		})
	}
}

// A mail server that judges and then closes may be asked again, and each of the two
// may be a guess.
func TestASecondTryAfterDoubtTakesASlotOfItsOwn(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt, Again: true}
		var guesses sync.WaitGroup
		for i := range 100 {
			guesses.Go(func() { b.try("lan", fmt.Sprint("wrong", i)) })
		}
		guesses.Wait()
		if b.server.asked != 6 {
			b.t.Errorf("100 guesses at once were judged %d times, want 6", b.server.asked)
		}
	})
	inBubble(t, nil, func(b *bench) {
		first := true
		verify := func(password string) auth.Verify {
			return func(ctx context.Context, name auth.Name) auth.Answer {
				if first {
					first = false
					return auth.Answer{Judgement: auth.InDoubt, Again: true}
				}
				return b.server.verify(password)(ctx, name)
			}
		}
		try := func(password string) auth.Verdict {
			return b.guard.Attempt(context.Background(), auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Source: office, Verify: verify(password)})
		}
		b.want(try(good), auth.Accepted)
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures of a right password", a.Failures)
		}
		first = true
		b.want(try("wrong"), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 {
			b.t.Errorf("%d failures at once, want that of the second try", a.Failures)
		}
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 2 {
			b.t.Errorf("%d failures behind the lease, want that of the first as well", a.Failures)
		}
		if told := b.told.outcomes; told[auth.Accepted] != 1 || told[auth.WrongPassword] != 1 || len(told) != 2 {
			b.t.Errorf("the recorder was told of %v, want one verdict of each login", told)
		}
	})
}

func TestAnAnswerInDoubtKeepsItsSlotUntilTheLeaseEndsAndLocksNobody(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt}
		for range 6 {
			b.want(b.try("lan", "x"), auth.Unavailable)
		}
		b.want(b.try("lan", good), auth.Busy)
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures before the lease ended", a.Failures)
		}
		time.Sleep(3 * time.Minute)
		if a := b.account(); a.Failures != 5 || a.Lock.Cause != auth.NotLocked {
			b.t.Errorf("%d failures, lock %+v; want 5 and none", a.Failures, a.Lock)
		}
		b.server.answer = nil
		b.want(b.try("lan", good), auth.Accepted)
	})
}

// setBack is a clock that can be.
func setBack(by *atomic.Int64) func() time.Time {
	return func() time.Time { return time.Now().Add(-time.Duration(by.Load())) }
}

// A clock that is corrected, as at the start of a virtual machine, keeps no slot
// from the owner.
func TestALeaseEndsAlthoughTheClockWasSetBack(t *testing.T) {
	var by atomic.Int64
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Now = setBack(&by) }, func(b *bench) {
		b.server.answer = &auth.Answer{Judgement: auth.InDoubt}
		for range 6 {
			b.want(b.try("lan", "x"), auth.Unavailable)
		}
		by.Store(int64(time.Hour))
		b.server.answer = nil
		time.Sleep(3 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
		if n := b.guard.Owed(); n != 0 {
			b.t.Errorf("%d settlements are owed", n)
		}
	})
}

func TestTheGraceWithoutTheStoreEndsAlthoughTheClockWasSetBack(t *testing.T) {
	var by atomic.Int64
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Now, g.StoreGrace = setBack(&by), time.Hour }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(unreachable)
		by.Store(int64(time.Hour))
		time.Sleep(59 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(time.Minute)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		b.broken.Store(nil)
	})
}

func TestAPanicInTheProtocolFreesTheSlot(t *testing.T) {
	var log bytes.Buffer
	var counted []auth.Protocol
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		g.Log = slog.New(slog.NewTextHandler(&log, nil))
		g.Panicked = func(p auth.Protocol) { counted = append(counted, p) }
	}, func(b *bench) {
		v := b.guard.Attempt(context.Background(), auth.Attempt{
			Session: "s1", Protocol: auth.SMTP, Login: "lan", Password: auth.NewSecret("canary"), Source: office, Verify: func(context.Context, auth.Name) auth.Answer { panic("with canary at hand") },
		})
		b.want(v, auth.Unavailable)
		if text := fmt.Sprint(v.Err); strings.Contains(text, "canary") || !strings.Contains(text, "panicked") {
			t.Error(text)
		}
		time.Sleep(3 * time.Minute)
		b.want(b.try("lan", good), auth.Accepted)
	})
	if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, `session=s1 panic="a value of type string" stack=`) {
		t.Errorf("the log: %s", got)
	}
	if !slices.Equal(counted, []auth.Protocol{auth.SMTP}) {
		t.Errorf("counted %v, want one of SMTP", counted)
	}
}

// Recorders cannot look whether a name is an account: they are told.
func TestRecordersAreToldWhetherANameIsAnAccount(t *testing.T) {
	for _, mode := range []auth.Mode{auth.Enforce, auth.Warn} {
		inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.Mode, r.Lockout.UnlockAfter = mode, time.Hour }, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			for _, name := range []string{"lan", "nobody"} {
				for i := range 6 {
					b.try(name, fmt.Sprint("guess ", i))
				}
			}
			if _, err := b.guard.Unlock(context.Background(), "nobody@example.vn", act); err != nil {
				b.t.Error(err)
			}
			time.Sleep(2 * time.Hour)
			b.want(b.try("lan", good), auth.Accepted) // unlocked by the time
			kinds := make(map[auth.EventKind]map[bool]int)
			for i, e := range b.told.events {
				known := b.told.known[i]
				if known != (e.Account == lan) {
					b.t.Errorf("%s of %s: known is %v", e.Kind, e.Account, known)
				}
				if kinds[e.Kind] == nil {
					kinds[e.Kind] = make(map[bool]int)
				}
				kinds[e.Kind][known]++
			}
			want := map[auth.EventKind]map[bool]int{
				auth.FirstLogin: {true: 1}, auth.PasswordWrong: {true: 6}, auth.AccountLocked: {true: 1}, auth.NameLocked: {false: 1}, auth.AccountUnlocked: {true: 1, false: 1},
			}
			if mode == auth.Warn {
				want = map[auth.EventKind]map[bool]int{
					auth.FirstLogin: {true: 1}, auth.PasswordWrong: {true: 6}, auth.WouldLock: {true: 1, false: 1}, auth.AccountUnlocked: {false: 1},
				}
			}
			if diff := cmp.Diff(want, kinds); diff != "" {
				b.t.Errorf("events by kind and by whether the name is known (-want +got):\n%s", diff)
			}
		})
	}
}

// I5.
func TestASuccessThatCompletesAfterTheLockIsRefused(t *testing.T) {
	for _, first := range []string{"with a slot", "known good"} {
		t.Run(first, func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				if first == "with a slot" {
					b.server.password[lan] = "Mat-khau-2"
				}
				b.server.during = func() {
					if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
						b.t.Error(err)
					}
				}
				b.want(b.try("lan", b.server.password[lan]), auth.Locked)
				if len(b.ended) != 1 {
					b.t.Errorf("sessions ended: %v, want those of lan once", b.ended)
				}
			})
		})
	}
}

func TestALockedAccountIsRefusedUnaskedUntilItIsUnlocked(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.lock()
		asked := b.server.asked
		b.want(b.try("lan", good), auth.Locked)
		b.want(b.try("office", "whatever"), auth.Locked)
		if b.server.asked != asked {
			b.t.Error("the mail server was asked about a locked account")
		}
		if _, err := b.guard.Unlock(context.Background(), lan, auth.Act{Actor: "A", Reason: " "}); !errors.Is(err, auth.ErrReasonMissing) {
			b.t.Errorf("an unlock without a reason gives %v", err)
		}
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
		if _, err := b.guard.Unlock(context.Background(), lan, act); !errors.Is(err, auth.ErrNothingToDo) {
			b.t.Errorf("unlocking twice gives %v", err)
		}
	})
}

// I5, also while the store is down: what is known in memory is from before the lock.
func TestALockedAccountIsNotLetInBecauseTheStoreIsDown(t *testing.T) {
	for name, lock := range map[string]func(*bench){
		"by guessing": func(b *bench) { // from elsewhere: nobody else's is compared with the known one
			for i := range 6 {
				b.want(b.from(elsewhere, "lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
			}
		},
		"by an admin": func(b *bench) {
			if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
				b.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				lock(b)
				b.broken.Store(unreachable)
				b.want(b.try("lan", good), auth.StoreUnavailable)
				b.broken.Store(nil)
			})
		})
	}
}

func TestNamesThatNobodyEverLoggedInWithLockAlike(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i := range 6 {
			b.want(b.try("nobody", fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try("nobody", "again"), auth.Locked)
		if accounts, err := b.store.List(context.Background(), auth.Filter{}); err != nil || len(accounts) > 0 {
			b.t.Errorf("a name that nobody ever logged in with is listed: %v, %v", accounts, err)
		}
	})
}

func TestTheSameWrongPasswordOnOneConnectionIsAskedOnceAndCountedOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		connection := new(auth.Mistaken)
		again := func(password string) auth.Verdict {
			return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Mistakes: connection})
		}
		b.want(again("wrong"), auth.WrongPassword)
		b.want(again("wrong"), auth.RepeatedPassword)
		b.want(again("other"), auth.WrongPassword)
		b.want(b.try("lan", "wrong"), auth.WrongPassword) // another connection
		if a := b.account(); a.Failures != 3 || b.server.asked != 3 {
			b.t.Errorf("%d failures, %d asked; want 3 and 3", a.Failures, b.server.asked)
		}
	})
}

func TestRepeatsWithinADayCountOnceWhereTheRulesSaySo(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountRepeats = auth.NeverCountRepeats }, func(b *bench) {
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		for range 10 {
			b.want(b.try("lan", "wrong"), auth.RepeatedPassword)
		}
		time.Sleep(24 * time.Hour)
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		if a := b.account(); a.Failures != 2 {
			b.t.Errorf("%d failures, want 2", a.Failures)
		}
	})
}

func TestAPhoneWithThePreviousPasswordLocksNobody(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				synctest.Wait() // the fingerprint is made
				b.server.password[lan] = "Mat-khau-2"
				if restarted {
					// Another process on the same store: nothing known in memory.
					other := &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}, Recorder: b.told}
					other.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "example.vn"}, Rules: auth.DefaultRules()})
					b.guard = other
				}
				for range 20 {
					b.want(b.try("lan", good), auth.PreviousPassword)
				}
				b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
				if !restarted {
					synctest.Wait()
					b.want(b.try("lan", good), auth.PreviousPassword)
				}
				if a := b.account(); a.Failures != 0 || a.Stale.At.IsZero() {
					b.t.Errorf("%d failures, stale device %+v; want none and its trace", a.Failures, a.Stale)
				}
			})
		})
	}
}

func TestTheStrictestReadingCountsThePreviousPassword(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountPrevious = true }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		b.server.password[lan] = "Mat-khau-2"
		for range 6 {
			b.want(b.try("lan", good), auth.WrongPassword)
		}
		b.want(b.try("lan", "Mat-khau-2"), auth.Locked)
	})
}

func TestAnExpiredPasswordIsRefusedUntilItIsChanged(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		time.Sleep(100 * 24 * time.Hour)
		lastLogin := b.account().LastLogin
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Expired)
		if a := b.account(); a.Failures != 1 || !a.LastLogin.Equal(lastLogin) {
			b.t.Errorf("%d failures, last login %v: an expired verdict is no login and resets nothing", a.Failures, a.LastLogin)
		}

		if _, err := b.guard.Grace(context.Background(), lan, 8, act); !errors.Is(err, auth.ErrOutOfRange) {
			b.t.Errorf("eight days of grace give %v", err)
		}
		if _, err := b.guard.Grace(context.Background(), lan, 7, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(7 * 24 * time.Hour)
		b.want(b.try("lan", good), auth.Expired)

		b.server.password[lan] = "Mat-khau-2"
		b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
		if b.told.count(auth.PasswordChanged) != 1 {
			b.t.Errorf("events %v, want one change", b.told.kinds)
		}
		time.Sleep(80 * 24 * time.Hour)
		b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
	})
}

func TestASingleSignOnIsExemptFromTheAgeButNotFromTheLock(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(100 * 24 * time.Hour)
		sso := func(token string) auth.Verdict {
			return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(token), SSO: true})
		}
		b.want(sso(good), auth.Accepted)
		for range 10 {
			b.want(sso("bad token"), auth.WrongPassword)
		}
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("a bad token counted as a wrong password: %d failures", a.Failures)
		}
		if _, err := b.guard.Lock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(sso(good), auth.Locked)
	})
}

func TestADormantAccountIsRefusedAtItsLoginAndMarkedByTheSweep(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Password.Mode = auth.Off }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(367 * 24 * time.Hour)
		b.want(b.try("lan", "wrong"), auth.WrongPassword) // nobody learns it without the password
		b.want(b.try("lan", good), auth.Revoked)
		if a := b.account(); !a.Revocation.IsZero() || len(b.ended) != 0 {
			b.t.Errorf("the login has left a mark, %+v, and ended %v: a clock that is wrong for an hour would revoke everybody", a.Revocation, b.ended)
		}
		swept, err := b.guard.Sweep(context.Background(), b.store)
		if err != nil || swept.Revoked != 1 || swept.States[auth.StateRevoked] != 1 || len(b.ended) != 1 {
			b.t.Fatalf("swept %+v, %v, ended %v", swept, err, b.ended)
		}
		b.want(b.try("lan", good), auth.Revoked)
		if a := b.account(); a.Revocation.IsZero() || b.told.count(auth.AccountRevoked) != 1 {
			b.t.Errorf("revocation %+v, events %v", a.Revocation, b.told.kinds)
		}
		if _, err := b.guard.Restore(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestASweepThatWouldRevokeManyAtOnceRevokesNobodyUntilSomebodySaysSo(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		ctx := context.Background()
		register := func(n int, lastLogin time.Time) {
			for i := range n {
				name := auth.Name(fmt.Sprintf("user%d-%d@example.vn", lastLogin.Unix(), i))
				_, err := b.store.Update(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
					a.Registered, a.FirstLogin, a.LastLogin = lastLogin, lastLogin, lastLogin
					return nil, true
				})
				if err != nil {
					b.t.Fatal(err)
				}
			}
		}
		sweep := func(f func() (guard.Swept, error), wantErr error, wantDormant, wantRevoked int) {
			b.t.Helper()
			swept, err := f()
			if !errors.Is(err, wantErr) || len(swept.Dormant) != wantDormant || swept.Revoked != wantRevoked {
				b.t.Errorf("%d dormant, %d revoked, %v; want %d, %d, %v", len(swept.Dormant), swept.Revoked, err, wantDormant, wantRevoked, wantErr)
			}
		}
		usual := func() (guard.Swept, error) { return b.guard.Sweep(ctx, b.store) }
		now := time.Now()
		register(20, auth.AddMonths(now, -24))
		sweep(usual, nil, 20, 20) // few: all of them
		register(230, now)
		register(25, auth.AddMonths(now, -36))
		sweep(usual, nil, 25, 25) // 25 of 275
		register(31, auth.AddMonths(now, -48))
		sweep(usual, guard.ErrManyDormant, 31, 0) // 31 of 306
		time.Sleep(400 * 24 * time.Hour)          // or the clock says so
		sweep(usual, guard.ErrManyDormant, 261, 0)
		sweep(func() (guard.Swept, error) { return b.guard.Dormant(ctx, b.store) }, nil, 261, 0)
		sweep(func() (guard.Swept, error) { return b.guard.ForceSweep(ctx, b.store, auth.Act{Actor: "An"}) }, auth.ErrReasonMissing, 0, 0)
		sweep(func() (guard.Swept, error) { return b.guard.ForceSweep(ctx, b.store, act) }, nil, 261, 261)
		events, err := b.store.Events(ctx, auth.EventFilter{Limit: 1})
		if err != nil || events[0].Kind != auth.AccountRevoked || events[0].Actor != act.Actor || !strings.Contains(events[0].Reason, act.Reason) {
			b.t.Errorf("event %+v, %v: who has forced it, and why?", events, err)
		}
	})
}

func TestTheSweepLeavesImportedAccountsUntilAllDoorsAreClosed(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		_, err := b.store.Update(context.Background(), lan, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered = time.Now()
			return nil, true
		})
		if err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(400 * 24 * time.Hour)
		if swept, err := b.guard.Sweep(context.Background(), b.store); err != nil || swept.Revoked != 0 {
			b.t.Errorf("swept %+v, %v", swept, err)
		}
		rules := auth.DefaultRules()
		rules.Dormancy.DoorsComplete = true
		b.setRules(rules)
		if swept, err := b.guard.Sweep(context.Background(), b.store); err != nil || swept.Revoked != 1 {
			b.t.Errorf("with all doors closed: swept %+v, %v", swept, err)
		}
	})
}

func TestTheUserIsAlertedOncePerDayBeforeThePasswordRunsOut(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted) // 1 January 2000, 07:00 in Vietnam
		time.Sleep(85 * 24 * time.Hour)
		alerts := 0
		for range 5 {
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if v.Alert {
				alerts++
				if v.ExpiresIn != 6 {
					b.t.Errorf("runs out in %d days, want 6", v.ExpiresIn)
				}
			}
		}
		if alerts != 1 {
			b.t.Errorf("%d alerts on one day, want 1", alerts)
		}
		time.Sleep(24 * time.Hour)
		if v := b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Protocol: auth.SMTP}); v.Alert {
			b.t.Error("an alert that SMTP cannot show was used up")
		}
		if v := b.try("lan", good); !v.Alert {
			b.t.Error("no alert on the next day")
		}
	})
}

// Some mail programs show nothing of it: each is told, by its name or else at its
// address, and again after a restart at most.
func TestEachMailProgramIsAlertedOncePerDay(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(85 * 24 * time.Hour)
		for day := range 2 {
			alerts := make(map[string]int)
			key := func(program string, source netip.AddrPort) string {
				if program == "" {
					return source.Addr().String()
				}
				return program
			}
			for range 5 {
				for _, c := range []struct {
					program string
					source  netip.AddrPort
				}{{"Geary", office}, {"Thunderbird", office}, {"Thunderbird", elsewhere}, {"", office}, {"", elsewhere}} {
					v := b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Program: c.program, Source: c.source})
					b.want(v, auth.Accepted)
					if v.Alert {
						alerts[key(c.program, c.source)]++
					}
				}
			}
			want := map[string]int{"Geary": 1, "Thunderbird": 1, office.Addr().String(): 1, elsewhere.Addr().String(): 1}
			if !maps.Equal(alerts, want) {
				t.Errorf("day %d: alerts %v, want %v", day, alerts, want)
			}
			time.Sleep(24 * time.Hour)
		}
		// Five connections of one program at once: one of them.
		var alerts atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Program: "Geary"}).Alert {
					alerts.Add(1)
				}
			})
		}
		wg.Wait()
		if n := alerts.Load(); n != 1 {
			t.Errorf("%d alerts at once, want 1", n)
		}
	})
}

// A name that is no account may be a mistyped password, and is not logged.
func TestARepeatOnOneConnectionKnowsItsAccount(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for login, known := range map[string]bool{"lan": true, "nobody": false} {
			var connection auth.Mistaken
			for _, want := range []auth.Outcome{auth.WrongPassword, auth.RepeatedPassword} {
				v := b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret("wrong"), Mistakes: &connection})
				b.want(v, want)
				if v.Known != known {
					t.Errorf("%s, %v: known %v, want %v", login, want, v.Known, known)
				}
			}
		}
	})
}

func TestWarnLetsPassAndSaysWhatWouldHaveBeen(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) {
		r.Lockout.Mode, r.Dormancy.Mode, r.Password.Mode = auth.Warn, auth.Warn, auth.Warn
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
		}
		if n := b.told.count(auth.WouldLock); n != 1 {
			b.t.Errorf("%d would_lock events, want 1", n)
		}
		for _, c := range []struct {
			after time.Duration
			want  auth.Outcome
		}{{0, auth.Locked}, {100 * 24 * time.Hour, auth.Expired}, {380 * 24 * time.Hour, auth.Revoked}} {
			time.Sleep(c.after)
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if v.Would != c.want {
				b.t.Errorf("would have been %v, want %v", v.Would, c.want)
			}
		}
	})
}

func TestARuleThatIsOffDoesNotLook(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) {
		r.Lockout.Mode, r.Dormancy.Mode, r.Password.Mode = auth.Off, auth.Off, auth.Off
	}, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.try("lan", fmt.Sprint("wrong", i)), auth.WrongPassword)
		}
		time.Sleep(500 * 24 * time.Hour)
		if v := b.try("lan", good); v.Outcome != auth.Accepted || v.Would != auth.Accepted || v.Alert {
			b.t.Errorf("verdict %+v", v)
		}
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures", a.Failures)
		}
	})
}

func TestATimedUnlockForgetsTheFailures(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.UnlockAfter = time.Hour }, func(b *bench) {
		b.lock()
		b.want(b.try("lan", good), auth.Locked)
		time.Sleep(time.Hour)
		b.want(b.try("lan", "wrong again"), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 || a.Lock.Cause != auth.NotLocked || b.told.count(auth.AccountUnlocked) != 1 {
			b.t.Errorf("%d failures, lock %+v, events %v", a.Failures, a.Lock, b.told.kinds)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestNobodyActsAsSomebodyElse(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for authorize, want := range map[string]auth.Outcome{
			"": auth.Accepted, "lan": auth.Accepted, "LAN@example.vn": auth.Accepted,
			"office": auth.OtherIdentity, // an alias of lan: the answer must not tell
			"hung":   auth.OtherIdentity, "hung@elsewhere.vn": auth.OtherIdentity, "\x01": auth.OtherIdentity,
		} {
			asked := b.server.asked
			b.want(b.attempt(auth.Attempt{Login: "lan", Authorize: authorize, Password: auth.NewSecret(good)}), want)
			if want == auth.OtherIdentity && b.server.asked != asked {
				b.t.Errorf("authzid %q reached the mail server", authorize)
			}
		}
		b.want(b.try("lan*admin", good), auth.OtherIdentity)
		b.want(b.try("lan@elsewhere.vn", good), auth.NoSuchDomain)
		b.want(b.try("lan\r\n", good), auth.Malformed)
		if b.server.asked != 3 {
			b.t.Errorf("the mail server was asked %d times, want 3", b.server.asked)
		}
	})
}

func TestAKnownGoodPasswordGoesOnForAWhileWithoutTheStore(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		first := b.account().LastLogin
		time.Sleep(2 * time.Hour)
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(unreachable)
		time.Sleep(30 * time.Minute)
		v := b.try("lan", good)
		login := time.Now()
		b.want(v, auth.Accepted)
		b.want(b.try("lan", "wrong"), auth.StoreUnavailable)
		b.want(b.try("hung", "any"), auth.StoreUnavailable)
		time.Sleep(31 * time.Minute)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		b.broken.Store(nil)
		time.Sleep(10 * time.Second)
		if a := b.account(); !a.LastLogin.After(first) || login.Sub(a.LastLogin) > time.Second {
			b.t.Errorf("last login %v, want %v: written when the store came back", a.LastLogin, login)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestTheUsualLoginWritesNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		before := b.account()
		for range 10 {
			time.Sleep(time.Minute)
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if !v.KnownGood {
				b.t.Error("the password is not known good")
			}
		}
		if a := b.account(); !a.LastLogin.Equal(before.LastLogin) {
			b.t.Errorf("last login was written after %v", a.LastLogin.Sub(before.LastLogin))
		}
		time.Sleep(time.Hour)
		b.want(b.try("lan", good), auth.Accepted)
		if a := b.account(); !a.LastLogin.After(before.LastLogin) {
			b.t.Error("last login was not written after an hour")
		}
	})
}

func TestAuditEventsAreChainedAndTellTheWholeStory(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.lock()
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		events, err := b.store.Events(context.Background(), auth.EventFilter{Account: lan})
		if err != nil {
			b.t.Fatal(err)
		}
		unlock, lock := events[0], events[1]
		if unlock.Kind != auth.AccountUnlocked || unlock.Actor != act.Actor || unlock.Reason != act.Reason || !strings.Contains(unlock.Before, "6 wrong") {
			b.t.Errorf("unlock %+v", unlock)
		}
		if lock.Kind != auth.AccountLocked || lock.Actor != auth.ByGateway || lock.Source != office || !strings.Contains(lock.Reason, "10.1.2.3") {
			b.t.Errorf("lock %+v", lock)
		}
		if len(events) != 9 || events[8].Kind != auth.FirstLogin {
			b.t.Errorf("%d events, want the first login, six wrong passwords, lock, unlock", len(events))
		}
		if _, err := b.store.Verify(context.Background(), nil); err != nil {
			b.t.Error(err)
		}
	})
}

// The known-good password is no oracle: whoever compares pays.
func TestAStrangerLearnsNothingFromTheKnownGoodPassword(t *testing.T) {
	stranger := netip.MustParseAddrPort("203.0.113.7:1")
	for name, from := range map[string]netip.AddrPort{"from elsewhere": stranger, "from the owner's address": office} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Throttle = new(throttle.Throttle) }, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				guess := func(login, password string) auth.Outcome {
					return b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret(password), Source: from}).Outcome
				}
				for i := range 12 {
					for range 6 {
						guess(fmt.Sprint("nobody", i), "x") // trips the throttle
					}
				}
				judged := 0
				for i := range 50 {
					if guess("lan", fmt.Sprint("guess", i)) == auth.WrongPassword {
						judged++
					}
				}
				if a := b.account(); a.Failures != judged || judged > 2 { // two need no grant
					b.t.Errorf("%d guesses judged, %d counted", judged, a.Failures)
				}
				if got := guess("lan", good); got == auth.Accepted {
					b.t.Error("50 guesses, next to none counted, and the right one was accepted")
				}
			})
		})
	}
}

func TestWaitingGuessesAreNotComparedForNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.server.delay = time.Second
		var wg sync.WaitGroup
		var mu sync.Mutex
		accepted := 0
		for i := range 300 {
			password := fmt.Sprint("guess", i)
			if i == 250 {
				password = good
			}
			wg.Go(func() {
				if b.try("lan", password).Outcome == auth.Accepted {
					mu.Lock()
					accepted++
					mu.Unlock()
				}
			})
			synctest.Wait() // one behind the other
		}
		wg.Wait()
		if accepted > 0 || b.server.asked != 7 {
			b.t.Errorf("%d of 300 guesses accepted, %d asked with the owner's login", accepted, b.server.asked)
		}
	})
}

func TestAPasswordThatIsNoneIsNotShownToTheMailServer(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", ""), auth.Malformed)
		b.want(b.try("lan", strings.Repeat("x", auth.MaxPassword+1)), auth.Malformed)
		b.want(b.try("lan", strings.Repeat("x", auth.MaxPassword)), auth.WrongPassword)
		if a := b.account(); b.server.asked != 1 || a.Failures != 1 {
			b.t.Errorf("%d asked, %d failures; want 1 and 1", b.server.asked, a.Failures)
		}
	})
}
