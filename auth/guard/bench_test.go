package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

const (
	lan  = auth.Name("lan@example.vn")
	good = "Mat-khau-1"
)

var office = netip.MustParseAddrPort("10.1.2.3:40000")

// mailServer judges passwords as a real one does, with a delay, and counts.
type mailServer struct {
	mu       sync.Mutex
	password map[auth.Name]string
	wrong    map[auth.Name]int // verdicts "wrong" since the last right one
	right    int
	asked    int
	worst    int           // the most wrong verdicts on one account between two resets
	delay    time.Duration // before each verdict
	during   func()        // called before each verdict
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

// plainFingerprints makes fingerprints without the cost of Argon2.
type plainFingerprints struct{}

func (plainFingerprints) Fingerprint(_ context.Context, salt []byte, p auth.Secret) ([]byte, error) {
	return fmt.Appendf(nil, "%x|%s", salt, p.Reveal()), nil
}

// watchedFingerprints counts the fingerprints, each of which takes a while.
type watchedFingerprints struct {
	plainFingerprints
	made  atomic.Int32
	delay time.Duration
}

func (w *watchedFingerprints) Fingerprint(ctx context.Context, salt []byte, p auth.Secret) ([]byte, error) {
	w.made.Add(1)
	time.Sleep(w.delay)
	return w.plainFingerprints.Fingerprint(ctx, salt, p)
}

// recorder stores what the guard records.
type recorder struct {
	mu       sync.Mutex
	outcomes map[auth.Outcome]int
	kinds    []auth.EventKind
	events   []auth.Event
	known    []bool // whether their accounts are known
}

func (r *recorder) RecordAttempt(_ auth.Attempt, v auth.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[v.Outcome]++
}

func (r *recorder) RecordEvent(e auth.Event, known bool) {
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

// bench is a guard with its surroundings, in a synctest bubble.
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
	rules     auth.Rules // as they were set last
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

// newBench makes a guard and its surroundings.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, store: new(storetest.Model), server: newMailServer(), told: &recorder{outcomes: make(map[auth.Outcome]int)}}
	b.store.Fail, b.store.FailAfter = b.on(false), b.on(true)
	b.guard = &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}, Recorder: b.told}
	b.guard.EndSessions = func(n auth.Name) { b.ended = append(b.ended, n) }
	return b
}

// inBubble runs a test with a guard in a synctest bubble.
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
		g := b.guard // the test may replace b.guard
		running.Go(func() { g.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(b)
	})
}

// process returns the guard of another process on the same store, with the same rules.
func (b *bench) process(change func(*guard.Guard)) *guard.Guard {
	g := &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}, Recorder: b.told}
	if change != nil {
		change(g)
	}
	setRules(g, b.rules) // to ask the guard for its rules would make it compare its clock
	return g
}

func (b *bench) setRules(rules auth.Rules) {
	b.rules = rules
	setRules(b.guard, rules)
}

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
