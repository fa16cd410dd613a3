package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/postgres/pgtest"
)

// The guard over replicas: the mail server counts the passwords that it judges.

// mailServer judges passwords, and counts the wrong ones since the last right one.
type mailServer struct {
	mu    sync.Mutex
	wrong int
	worst int // the largest value of wrong so far
	right int
	delay time.Duration
	told  func() // called for every wrong password
}

func (m *mailServer) verify(password string) auth.Verify {
	return func(ctx context.Context, name auth.Name) auth.Answer {
		time.Sleep(m.delay)
		m.mu.Lock()
		defer m.mu.Unlock()
		if password == rightPassword {
			m.right++
			m.wrong = 0
			return auth.Answer{Judgement: auth.JudgedRight}
		}
		m.wrong++
		m.worst = max(m.worst, m.wrong)
		if m.told != nil {
			m.told()
		}
		return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
	}
}

const rightPassword = "Mat-khau-1"

// guarded returns a guard over a store; the guard runs until stop is called.
func guarded(s *Store) (g *guard.Guard, stop func()) {
	g = &guard.Guard{Store: s, Now: s.Now}
	g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: victim.Domain()}, Rules: auth.DefaultRules()})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	return g, func() { cancel(); wg.Wait() }
}

// replicated returns a guard for each of n replicas.
func replicated(t *testing.T, n int, o Options) (guards []*guard.Guard) {
	t.Helper()
	for range n {
		g, stop := guarded(open(t, o))
		t.Cleanup(stop)
		guards = append(guards, g)
	}
	return guards
}

func attempt(g *guard.Guard, m *mailServer, password string) auth.Verdict {
	return g.Attempt(context.Background(), auth.Attempt{
		Login: string(victim), Password: auth.NewSecret(password), Verify: m.verify(password),
		Source: guesser,
	})
}

var guesser = netip.MustParseAddrPort("203.0.113.7:50312")

func storeOf(g *guard.Guard) *Store { return g.Store.(*Store) }

func TestNoMoreThanSixWrongPasswordsWhateverHappensToTheDatabase(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	guards := replicated(t, 3, Options{DSN: server.Database(t), Lease: shortLease, ReservationExpired: doubt})
	m := &mailServer{delay: 5 * time.Millisecond}
	for round := range 3 {
		var wg sync.WaitGroup
		var tried atomic.Int64
		for i := range 300 {
			wg.Go(func() {
				// An attempt with a temporary outcome is repeated, as a mail program does.
				for range 4 {
					tried.Add(1)
					if v := attempt(guards[i%3], m, fmt.Sprintf("wrong-%d-%d", round, i)); !v.Outcome.Temporary() {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			})
		}
		if round < 2 {
			eventually(t, "a guess was made", func() bool { return tried.Load() > 0 })
			server.Restart(t, []pgtest.Shutdown{pgtest.Immediate, pgtest.Fast}[round])
		}
		wg.Wait()
		eventually(t, "all attempts are settled", func() bool {
			return guards[0].Owed()+guards[1].Owed()+guards[2].Owed() == 0
		})
		m.mu.Lock()
		wrong, worst := m.wrong, m.worst
		m.mu.Unlock()
		t.Logf("round %d: %d attempts, %d judged wrong", round, tried.Load(), wrong)
		if worst > 6 {
			t.Fatalf("%d wrong passwords were judged", worst)
		}
		// Exactly what was judged is counted.
		wantFailures(t, storeOf(guards[0]), victim, wrong)
		if wrong < 6 {
			// The outage has prevented some guesses.
			for i := wrong; i < 6; i++ {
				attempt(guards[i%3], m, fmt.Sprintf("wrong-%d-more-%d", round, i))
			}
		}
		for i, g := range guards {
			if v := attempt(g, m, rightPassword); v.Outcome != auth.Locked {
				t.Fatalf("round %d, replica %d: %v, want locked", round, i, v.Outcome)
			}
		}
		// An unlock on one replica works on all.
		if _, err := guards[round].Unlock(t.Context(), victim, auth.Act{Actor: "admin", Reason: "test"}); err != nil {
			t.Fatal(err)
		}
		if v := attempt(guards[(round+1)%3], m, rightPassword); v.Outcome != auth.Accepted {
			t.Fatalf("round %d: after the unlock: %v, %v", round, v.Outcome, v.Err)
		}
	}
	if _, err := storeOf(guards[0]).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestSixtyRightPasswordsOverThreeReplicasAreSixtyLogins(t *testing.T) {
	t.Parallel()
	guards := replicated(t, 3, Options{DSN: database(t)})
	m := &mailServer{delay: 5 * time.Millisecond}
	for range 5 { // as many failures as are tolerated: one slot is left
		attempt(guards[0], m, fmt.Sprint("wrong", m.wrong))
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			if v := attempt(guards[i%3], m, rightPassword); v.Outcome != auth.Accepted {
				t.Errorf("%v, %v", v.Outcome, v.Err)
			}
		})
	}
	wg.Wait()
	if m.right != 60 {
		t.Errorf("%d passwords were judged right, want 60", m.right)
	}
	wantFailures(t, storeOf(guards[0]), victim, 0)
}

// TestAKilledReplicaGivesAtMostOneMoreGuess: its attempts in flight become failures in
// doubt, which never lock by themselves. So at the limit one more password may be judged
// than without the crash.
func TestAKilledReplicaGivesAtMostOneMoreGuess(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		dsn := database(t)
		guards := replicated(t, 2, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
		cmd, said := child(t, "attack", dsn)
		if got := line(t, said); got != "open" {
			t.Fatalf("the child said %q", got)
		}
		m := &mailServer{delay: 5 * time.Millisecond}
		var wg sync.WaitGroup
		if round > 0 { // in round 0 it has all slots
			for i := range 40 {
				wg.Go(func() { attempt(guards[i%2], m, fmt.Sprint("wrong", i)) })
			}
		}
		theirs := 0
		for said.Scan() {
			if strings.HasPrefix(said.Text(), "wrong") {
				if theirs++; theirs == 1+round {
					cmd.Process.Kill()
				}
			}
			if said.Text() == "done" {
				break
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		wg.Wait()
		for i := range 40 {
			wg.Go(func() { attempt(guards[i%2], m, fmt.Sprint("wrong again", i)) })
		}
		wg.Wait()
		t.Logf("round %d: %d judged wrong by the killed one, %d by the others", round, theirs, m.wrong)
		if n := theirs + m.wrong; n > 7 {
			t.Errorf("round %d: %d wrong passwords were judged, want at most 7", round, n)
		}
		if v := attempt(guards[0], m, rightPassword); v.Outcome != auth.Locked {
			t.Errorf("round %d: %v, want locked", round, v.Outcome)
		}
	}
}

// attack guesses, and writes a line for each verdict before it can be settled.
func attack(dsn string) {
	s, err := Open(context.Background(), Options{DSN: dsn, Lease: shortLease})
	must(err)
	g, _ := guarded(s)
	m := &mailServer{delay: 5 * time.Millisecond, told: func() { say("wrong") }}
	say("open")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() { attempt(g, m, fmt.Sprint("wrong of the child", i)) })
	}
	wg.Wait()
	say("done")
	select {}
}

// TestReplicasReceiveASuspectClockAndItsAcceptance: over the real connection between two
// gateways.
func TestReplicasReceiveASuspectClockAndItsAcceptance(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	var ahead atomic.Int64
	var guards []*guard.Guard
	for i := range 2 {
		s := open(t, Options{DSN: dsn})
		g := &guard.Guard{Store: s, Now: s.Now, WatchClock: true}
		if i == 0 {
			g.Now = func() time.Time { return s.Now().Add(time.Duration(ahead.Load())) }
		}
		g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: victim.Domain()}, Rules: auth.DefaultRules()})
		if err := g.LearnClock(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { g.Run(ctx) })
		wg.Go(func() { s.Changes(ctx, g.OnRemoteEvent) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		guards = append(guards, g)
	}
	here, there := guards[0], guards[1]
	ahead.Store(int64(400 * 24 * time.Hour))
	if v := attempt(here, &mailServer{}, rightPassword); v.Outcome != auth.Accepted {
		t.Errorf("a login while the clock is suspect: %v", v.Outcome)
	}
	if here.Suspicion().IsZero() {
		t.Fatal("the clock is not suspect")
	}
	eventually(t, "the suspicion has reached the other gateway", func() bool { return there.Suspicion().Why == here.Suspicion().Why })
	ahead.Store(0)
	act := auth.Act{Actor: "admin", Reason: "the clock was set right"}
	if _, err := here.AcceptClock(t.Context(), storeOf(here), act, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the acceptance has reached the other gateway", func() bool { return there.Suspicion().IsZero() })
	if !here.Suspicion().IsZero() {
		t.Errorf("it is suspect where it was accepted: %+v", here.Suspicion())
	}
}
