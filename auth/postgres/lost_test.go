package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

// A change that the database has lost is counted nevertheless, and a change that it only
// seems to have is not trusted.

func TestALostReservationStillCounts(t *testing.T) {
	t.Parallel()
	var n storetest.Recorder
	s := open(t, Options{Recorder: &n, Lease: time.Hour})
	conn := connected(t, s)
	r := reserve(t, s, victim, allow(1))
	execute(t, conn, `DELETE FROM reservations`)
	// Its attempt may be at the mail server.
	wantNoSlot(t, s, victim, allow(1))
	for range 2 { // also the duplicate, as after a lost answer
		if a := update(t, s, victim, r, fail); a.Failures != 1 {
			t.Fatalf("%d failures", a.Failures)
		}
	}
	wantEvents(t, s, 1)
	released := reserve(t, s, victim, allow(1))
	execute(t, conn, `DELETE FROM reservations`)
	update(t, s, victim, released, nothing)
	wantFailures(t, s, victim, 1)
	reserve(t, s, victim, allow(1))
	if n.Lost() != 1 {
		t.Errorf("%d lost slots were told of, want 1", n.Lost())
	}
}

// TestFailuresAreCountedWhileReservationsAreDeleted: the table is emptied repeatedly
// while the mail server judges.
func TestFailuresAreCountedWhileReservationsAreDeleted(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Lease: time.Hour})
	g, stop := guarded(s)
	defer stop()
	conn := connected(t, s)
	m := &mailServer{told: func() { execute(t, conn, `DELETE FROM reservations`) }}
	told := 0
	for round := range 3 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range 6 {
			wg.Go(func() {
				v := attempt(g, m, fmt.Sprint("wrong", round, i))
				mu.Lock()
				defer mu.Unlock()
				if v.Outcome == auth.WrongPassword {
					told++
				}
			})
		}
		wg.Wait()
	}
	if told != 6 || m.worst != 6 {
		t.Errorf("%d clients read NO, %d were judged; want 6 and 6", told, m.worst)
	}
	wantFailures(t, s, victim, told)
	if ids := s.held.ids(); len(ids) > 0 {
		t.Errorf("%d slots are held", len(ids))
	}
}

// TestASettlementWhoseAnswerWasLostCountsOnce: the receipt shows that it was settled.
func TestASettlementWhoseAnswerWasLostCountsOnce(t *testing.T) {
	t.Parallel()
	var n storetest.Recorder
	s := open(t, Options{Recorder: &n})
	r := reserve(t, s, victim, allow(1))
	s.settle.faults.Store(&faults{after: errInjected, ask: errInjected})
	if _, err := s.Update(t.Context(), victim, r, fail); !errors.Is(err, errInjected) {
		t.Fatalf("update: %v", err)
	}
	s.settle.faults.Store(nil)
	if !s.held.has(r) {
		t.Error("a slot in doubt is not held")
	}
	// It takes no slot either: its failure is in the account.
	other := reserve(t, s, victim, allow(1))
	update(t, s, victim, other, nothing)
	update(t, s, victim, r, fail)
	wantFailures(t, s, victim, 1)
	wantEvents(t, s, 1)
	if len(s.held.ids()) > 0 || n.Lost() > 0 {
		t.Errorf("%v are held, %d lost", s.held.ids(), n.Lost())
	}
}

// TestReceiptsAreKeptForADay: the lease manager removes older ones.
func TestReceiptsAreKeptForADay(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	update(t, s, victim, reserve(t, s, victim, allow(1)), fail)
	conn := connected(t, s)
	execute(t, conn, `INSERT INTO settlements SELECT i, now() - interval '25 hours' FROM generate_series(1, 50) i`)
	s.leases.wake()
	eventually(t, "only the new registration is left", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM settlements`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
}

// TestAProcessTreatedAsDeadCountsTheSlotsItHolds: its slot has expired without counting,
// since the account is at the limit; the attempt is still at the mail server.
func TestAProcessTreatedAsDeadCountsTheSlotsItHolds(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a := open(t, Options{DSN: dsn, Lease: time.Hour})
	b := open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	for range 5 {
		update(t, b, victim, 0, fail)
	}
	r := reserve(t, a, victim, tolerate(6))
	for range 3 { // the link goes up and down three times
		kill(t, a)
		b.leases.wake()
		eventually(t, "the slot has expired", func() bool {
			var lapsed bool
			err := b.pool.QueryRow(t.Context(), `SELECT bool_and(lapsed IS NOT NULL) FROM reservations WHERE id = $1`, int64(r)).Scan(&lapsed)
			if err != nil {
				t.Fatal(err)
			}
			b.leases.wake()
			return lapsed
		})
		wantNoSlot(t, a, victim, tolerate(6))
	}
	update(t, a, victim, r, fail)
	wantFailures(t, b, victim, 6)
}

// standby returns a primary and its synchronous standby, which are connected through a
// link that the test controls, and a connection string for both.
func standby(t *testing.T) (primary, second *pgtest.Server, between *way, dsn string) {
	t.Helper()
	primary = pgtest.Start(t, pgtest.Options{})
	between = route(t, primary.Socket())
	// PostgreSQL runs as another user if the tests run as root.
	if err := errors.Join(os.Chmod(between.dir, 0o755), os.Chmod(filepath.Join(between.dir, filepath.Base(primary.Socket())), 0o777)); err != nil {
		t.Fatal(err)
	}
	second = primary.Standby(t, between.dir)
	dsn = primary.With(primary.Database(t), second)
	t.Cleanup(func() { // otherwise the cleanup would wait
		between.silent.Store(false)
		between.cut()
	})
	return primary, second, between, dsn
}

// takeOver ends the primary and promotes the standby; changes that had not reached the
// standby are lost.
func takeOver(t *testing.T, primary, second *pgtest.Server, between *way) {
	t.Helper()
	between.closed.Store(true)
	between.cut() // otherwise a pending connection of the standby keeps the primary running for a minute
	primary.Stop(t, pgtest.Immediate)
	second.Promote(t)
}

// waiting counts the sessions of a server that wait for its standby.
func waiting(t *testing.T, s *pgtest.Server) (n int) {
	t.Helper()
	return s.Count(t, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'congthu'`)
}

// TestSixGuessesWhileTheStandbyStallsAndTakesOver: no failure is lost with the primary,
// and no more passwords are judged.
func TestSixGuessesWhileTheStandbyStallsAndTakesOver(t *testing.T) {
	t.Parallel()
	primary, second, between, dsn := standby(t)
	o := Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt, StatementTimeout: 500 * time.Millisecond, LockTimeout: 400 * time.Millisecond}
	s := open(t, o)
	g, stop := guarded(s)
	defer stop()
	var arrived sync.WaitGroup
	arrived.Add(6)
	judge := make(chan struct{})
	m := &mailServer{}
	verdict := func(password string) auth.Verify {
		return func(ctx context.Context, name auth.Name) auth.Answer {
			arrived.Done()
			<-judge
			return m.verify(password)(ctx, name)
		}
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			v := g.Attempt(context.Background(), auth.Attempt{
				Login: string(victim), Password: auth.NewSecret(fmt.Sprint("wrong", i)), Verify: verdict(fmt.Sprint("wrong", i)), Source: guesser,
			})
			if v.Outcome != auth.StoreUnavailable {
				t.Errorf("%v, want that it is not known to last", v.Outcome)
			}
		})
	}
	arrived.Wait()
	between.silent.Store(true)
	close(judge)
	wg.Wait()
	if waiting(t, primary) == 0 {
		t.Error("no commit waits any more: it was cancelled")
	}
	takeOver(t, primary, second, between)
	eventually(t, "the pending settlements are written", func() bool { return g.Owed() == 0 })
	wantFailures(t, s, victim, 6)
	for i := range 4 {
		if v := attempt(g, m, fmt.Sprint("more", i)); v.Outcome != auth.Locked {
			t.Errorf("%v, want locked", v.Outcome)
		}
	}
	if m.worst != 6 {
		t.Errorf("%d were judged wrong, want 6", m.worst)
	}
	noSlotLeaks(t, second, s)
}

// noSlotLeaks waits until no slot is taken.
func noSlotLeaks(t *testing.T, server *pgtest.Server, stores ...*Store) {
	t.Helper()
	conn := connected(t, stores[0])
	eventually(t, "no slot is taken", func() bool {
		n := 0
		for _, s := range stores {
			s.leases.wake()
			n += len(s.held.ids())
		}
		var taken int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM reservations WHERE lapsed IS NULL`).Scan(&taken); err != nil {
			t.Fatal(err)
		}
		return n+taken == 0
	})
}

// TestACommitThatIsCancelledWhileItWaitsIsInDoubt: it returns as a success, and another
// session reads it, but the standby that takes over does not have it.
func TestACommitThatIsCancelledWhileItWaitsIsInDoubt(t *testing.T) {
	t.Parallel()
	primary, second, between, dsn := standby(t)
	primary.Exec(t, `ALTER ROLE congthu SET client_min_messages = error`) // it must work with this setting too
	s := open(t, Options{DSN: dsn, Lease: shortLease, StatementTimeout: 2 * time.Second, LockTimeout: time.Second})
	r := reserve(t, s, victim, allow(1))
	between.silent.Store(true)
	done := make(chan error)
	go func() {
		_, err := s.Update(context.Background(), victim, r, fail)
		done <- err
	}()
	eventually(t, "the commit waits", func() bool { return waiting(t, primary) > 0 })
	primary.Count(t, `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	if err := <-done; err == nil {
		t.Error("a commit that the standby does not have was confirmed")
	}
	// It is visible here, but is not trusted.
	wantFailures(t, s, victim, 1)
	if _, err := s.Update(t.Context(), victim, r, fail); err == nil {
		t.Error("a receipt that the standby does not have was trusted")
	}
	takeOver(t, primary, second, between)
	eventually(t, "the store is written again", func() bool {
		_, err := s.Update(t.Context(), victim, r, fail)
		return err == nil
	})
	wantFailures(t, s, victim, 1)
	noSlotLeaks(t, second, s)
}

// TestAReturningStandbyConfirmsWaitingCommits: no commit was cancelled meanwhile, and
// none counts twice.
func TestAReturningStandbyConfirmsWaitingCommits(t *testing.T) {
	t.Parallel()
	primary, _, between, dsn := standby(t)
	s := open(t, Options{DSN: dsn, Lease: shortLease, StatementTimeout: 300 * time.Millisecond, LockTimeout: 200 * time.Millisecond})
	r := reserve(t, s, victim, allow(1))
	between.silent.Store(true)
	if _, err := s.Update(t.Context(), victim, r, fail); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("update: %v, want ErrUnconfirmed", err)
	}
	// No caller waits forever, on any account.
	for range 3 {
		if _, err := s.Update(t.Context(), "other@congthu.test", 0, fail); err == nil {
			t.Error("written")
		}
		if _, _, err := s.Reserve(t.Context(), victim, allow(2)); err == nil {
			t.Error("a slot was given")
		}
	}
	if waiting(t, primary) == 0 {
		t.Error("no commit waits any more: it was cancelled")
	}
	if failures(t, s, victim) != 0 {
		t.Error("an unconfirmed commit is visible")
	}
	between.silent.Store(false)
	between.cut()
	eventually(t, "the store can be written again", func() bool {
		_, err := s.Update(t.Context(), victim, r, fail)
		return err == nil
	})
	wantFailures(t, s, victim, 1)
	noSlotLeaks(t, primary, s)
}

// TestWhateverTheStandbyDoesNoMoreThanSixAreJudgedAndNoneIsLost makes guesses over three
// gateways while the link to the standby stalls and recovers, waiting commits are
// cancelled, sessions are ended, and the standby takes over, at any moment.
func TestWhateverTheStandbyDoesNoMoreThanSixAreJudgedAndNoneIsLost(t *testing.T) {
	t.Parallel()
	for round := range storetest.Rounds(2, 60) {
		primary, second, between, dsn := standby(t)
		o := Options{
			DSN: dsn, Lease: 2 * time.Hour, ReservationExpired: doubt, MaxConns: 2,
			StatementTimeout: 500 * time.Millisecond, LockTimeout: 400 * time.Millisecond,
		}
		var stores []*Store
		var guards []*guard.Guard
		var stops []func()
		for range 3 {
			s := open(t, o)
			g, stop := guarded(s)
			stores, guards, stops = append(stores, s), append(guards, g), append(stops, stop)
		}
		m := &mailServer{delay: 5 * time.Millisecond}
		var told atomic.Int64
		var wg sync.WaitGroup
		over := make(chan struct{})
		for i := range 12 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					case <-time.After(rand.N(time.Second)):
					}
					if v := attempt(guards[i%3], m, fmt.Sprint("wrong", round, i, n)); v.Outcome == auth.WrongPassword {
						told.Add(1)
					}
				}
			})
		}
		for range rand.N(4) {
			time.Sleep(rand.N(200 * time.Millisecond))
			between.silent.Store(true)
			time.Sleep(rand.N(700 * time.Millisecond))
			switch rand.N(3) {
			case 0:
				primary.Count(t, `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
			case 1:
				primary.Count(t, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
			}
			time.Sleep(rand.N(100 * time.Millisecond))
			between.silent.Store(false)
			between.cut()
		}
		time.Sleep(rand.N(300 * time.Millisecond))
		between.silent.Store(true)
		time.Sleep(rand.N(300 * time.Millisecond))
		takeOver(t, primary, second, between)
		close(over)
		wg.Wait()
		eventually(t, "the pending settlements are written", func() bool {
			return guards[0].Owed()+guards[1].Owed()+guards[2].Owed() == 0
		})
		noSlotLeaks(t, second, stores...)
		for i := 0; m.wrong < 6; i++ { // the stalls have prevented some guesses
			attempt(guards[i%3], m, fmt.Sprint("more", round, i))
		}
		if v := attempt(guards[round%3], m, rightPassword); v.Outcome != auth.Locked {
			t.Errorf("round %d: %v, want locked", round, v.Outcome)
		}
		t.Logf("round %d: %d judged wrong, %d told so", round, m.worst, told.Load())
		if m.worst != 6 {
			t.Fatalf("round %d: %d wrong passwords were judged, want 6", round, m.worst)
		}
		wantFailures(t, stores[0], victim, m.worst)
		if _, err := stores[0].Verify(t.Context(), nil); err != nil {
			t.Error(err)
		}
		for i := range stores {
			stops[i]()
			stores[i].Close()
		}
	}
}

// TestAConnectionThatBreaksCancelsNoCommitThatWaits: the driver would cancel it over
// another connection.
func TestAConnectionThatBreaksCancelsNoCommitThatWaits(t *testing.T) {
	t.Parallel()
	primary, _, between, _ := standby(t)
	link := route(t, primary.Socket())
	dsn := primary.Database(t)
	s := open(t, Options{DSN: link.through(dsn), Lease: shortLease, StatementTimeout: 5 * time.Second, LockTimeout: 200 * time.Millisecond})
	direct := open(t, Options{DSN: dsn, Lease: shortLease})
	r := reserve(t, s, victim, allow(1))
	between.silent.Store(true)
	done := make(chan error)
	go func() {
		_, err := s.Update(context.Background(), victim, r, fail)
		done <- err
	}()
	eventually(t, "the commit waits", func() bool { return waiting(t, primary) > 0 })
	link.cut()
	if err := <-done; err == nil {
		t.Error("an unconfirmed commit was reported as confirmed")
	}
	if waiting(t, primary) == 0 || failures(t, direct, victim) != 0 {
		t.Error("the commit was cancelled and is visible")
	}
	between.silent.Store(false)
	between.cut()
	eventually(t, "the store can be written", func() bool {
		_, err := s.Update(t.Context(), victim, r, fail)
		return err == nil
	})
	wantFailures(t, direct, victim, 1)
}
