package postgres

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/postgres/pgtest"
)

// TestAgreementsAndRemovalsThatWaitAreNotCancelled: a commit that waits for the standby
// becomes visible when its wait is cancelled, although the standby does not have it.
func TestAgreementsAndRemovalsThatWaitAreNotCancelled(t *testing.T) {
	t.Parallel()
	primary, second, between, dsn := standby(t)
	o := Options{DSN: dsn, Lease: time.Minute, StatementTimeout: 10 * time.Second, LockTimeout: 500 * time.Millisecond}
	s := open(t, o)
	for range 3 {
		update(t, s, victim, 0, fail)
	}
	events, err := s.Events(t.Context(), auth.EventFilter{})
	if err != nil || len(events) != 3 {
		t.Fatal(events, err)
	}
	last := audit.Head{Seq: events[1].Seq, Hash: events[1].Hash}
	update(t, s, victim, 0, func(a *auth.Account) ([]auth.Event, bool) {
		return []auth.Event{{At: noon, Kind: auth.AuditPruned, Account: a.Name, Actor: auth.ByUser, After: last.String()}}, true
	})
	agree := func(agreed string, _ int) (string, []auth.Event, error) { return "{}", nil, nil }
	acts := map[string]func(context.Context) error{
		"agree": func(ctx context.Context) error { return s.Agree(ctx, "pepper", "one") },
		"rules": func(ctx context.Context) error { return s.AgreeOnRules(ctx, "{}", agree) },
		"remove": func(ctx context.Context) error {
			_, err := s.RemoveEvents(ctx, 4, 10)
			return err
		},
	}
	between.silent.Store(true)
	for name, act := range acts {
		before := waiting(t, primary)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- act(ctx) }()
		eventually(t, "the commit of "+name+" waits", func() bool { return waiting(t, primary) > before })
		cancel()
		if err := <-done; err == nil {
			t.Errorf("%s: confirmed without the standby", name)
		}
	}
	// After the driver has had time to cancel.
	if err := s.Agree(t.Context(), "pepper", "one"); err == nil {
		t.Error("confirmed without the standby")
	}
	if n := waiting(t, primary); n < len(acts) {
		t.Errorf("%d commits wait, want %d: some were cancelled", n, len(acts))
	}
	for _, what := range []string{"pepper", rules} {
		if value, known, err := s.Agreed(t.Context(), what); known || err != nil {
			t.Errorf("%s: what the standby lacks is visible: %q, %v", what, value, err)
		}
	}
	if gone, err := s.Removed(t.Context()); err != nil || gone.Seq != 0 {
		t.Errorf("what the standby lacks is visible: %+v, %v", gone, err)
	}
	takeOver(t, primary, second, between)
	for name, act := range acts {
		eventually(t, name+" is done", func() bool { return act(t.Context()) == nil })
	}
	if value, _, err := s.Agreed(t.Context(), "pepper"); value != "one" || err != nil {
		t.Errorf("agreed on %q, %v", value, err)
	}
	if gone, err := s.Removed(t.Context()); err != nil || gone.Seq != 2 {
		t.Errorf("removed %+v, %v", gone, err)
	}
	if err := s.Agree(t.Context(), "pepper", "another"); !errors.Is(err, auth.ErrDisagreement) {
		t.Errorf("another pepper: %v", err)
	}
}

// TestAnAgreementThatIsCancelledWhileItWaitsIsInDoubt: PostgreSQL shows it as committed.
func TestAnAgreementThatIsCancelledWhileItWaitsIsInDoubt(t *testing.T) {
	t.Parallel()
	primary, _, between, dsn := standby(t)
	s := open(t, Options{DSN: dsn, Lease: time.Minute, StatementTimeout: 3 * time.Second, LockTimeout: time.Second})
	between.silent.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.Agree(context.Background(), "pepper", "one") }()
	eventually(t, "the commit waits", func() bool { return waiting(t, primary) > 0 })
	primary.Count(t, cancelWaits)
	// It is repeated, and each try is cancelled as well.
	var err error
	for waits := true; waits; {
		select {
		case err = <-done:
			waits = false
		case <-time.After(20 * time.Millisecond):
			primary.Count(t, cancelWaits)
		}
	}
	if !errors.Is(err, ErrUnconfirmed) || errors.Is(err, ErrUnreachable) {
		t.Errorf("a commit that the standby does not have: %v, want ErrUnconfirmed and nothing else", err)
	}
	if n := s.resets.Load(); n != 0 {
		t.Errorf("the pool was reset %d times for a connection outside it", n)
	}
	between.silent.Store(false)
	between.cut()
	eventually(t, "the settings are agreed on", func() bool { return s.Agree(t.Context(), "pepper", "one") == nil })
}

const cancelWaits = `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`

// TestARemovalAndAWaitForAgreementTakeOneConnection: no new connection is made for each
// transaction.
func TestARemovalAndAWaitForAgreementTakeOneConnection(t *testing.T) {
	t.Parallel()
	w := route(t, pgtest.Shared(t).Socket())
	s := open(t, Options{DSN: w.through(database(t)), Lease: shortLease})
	announceRemoval(t, s)
	before := w.made.Load()
	for i := range 20 {
		gone, err := s.RemoveEvents(t.Context(), 22, 1)
		if err != nil || gone.Seq != int64(i+1) {
			t.Fatalf("removed up to %d, %v; want %d", gone.Seq, err, i+1)
		}
	}
	refusals := 0
	err := s.AgreeOnRules(t.Context(), "{}", func(string, int) (string, []auth.Event, error) {
		if refusals++; refusals <= 5 {
			return "", nil, auth.ErrDisagreement
		}
		return "{}", nil, nil
	})
	if err != nil {
		t.Error(err)
	}
	if n := w.made.Load() - before; n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

// announceRemoval makes 21 events, and a 22nd one that announces the removal of the
// first 20.
func announceRemoval(t *testing.T, s *Store) {
	t.Helper()
	for range 21 {
		update(t, s, victim, 0, fail)
	}
	events, err := s.Events(t.Context(), auth.EventFilter{})
	if err != nil || len(events) != 21 {
		t.Fatal(len(events), err)
	}
	i := slices.IndexFunc(events, func(e auth.Event) bool { return e.Seq == 20 })
	last := audit.Head{Seq: 20, Hash: events[i].Hash}
	update(t, s, victim, 0, func(a *auth.Account) ([]auth.Event, bool) {
		return []auth.Event{{At: noon, Kind: auth.AuditPruned, Account: a.Name, Actor: auth.ByUser, After: last.String()}}, true
	})
}

// TestCloseWaitsForCallsInProgress: otherwise the commits that they pass on would be left behind.
func TestCloseWaitsForCallsInProgress(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(s *Store, busy func()) error{
		"rules": func(s *Store, busy func()) error {
			return s.AgreeOnRules(context.Background(), "{}", func(string, int) (string, []auth.Event, error) {
				busy()
				return "{}", nil, nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			begun, done := make(chan bool), make(chan error, 1)
			var left atomic.Bool
			go func() {
				done <- call(s, func() {
					close(begun)
					<-s.life.Done()
					time.Sleep(50 * time.Millisecond) // so that a Close that does not wait is found
					left.Store(true)
				})
			}()
			<-begun
			s.Close()
			if !left.Load() {
				t.Error("Close has not waited")
			}
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("%v, want ErrClosed", err)
			}
		})
	}
}

// TestCloseGivesUpACommitThatWaits: however long the commit would wait.
func TestCloseGivesUpACommitThatWaits(t *testing.T) {
	t.Parallel()
	primary, _, between, dsn := standby(t)
	s := open(t, Options{DSN: dsn, StatementTimeout: time.Hour})
	between.silent.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.Agree(context.Background(), "pepper", "one") }()
	eventually(t, "the commit waits", func() bool { return waiting(t, primary) > 0 })
	s.Close()
	if waiting(t, primary) == 0 {
		t.Error("the commit was cancelled")
	}
	select {
	case err := <-done:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it still waits")
		between.silent.Store(false)
		between.cut()
		<-done
	}
}

// TestALostSpareConnectionCausesNoError: the server, or a pooler, may end an idle
// connection.
func TestALostSpareConnectionCausesNoError(t *testing.T) {
	t.Parallel()
	w := route(t, pgtest.Shared(t).Socket())
	s := open(t, Options{DSN: w.through(database(t))})
	agree := func(connections int64) {
		t.Helper()
		before := w.made.Load()
		if err := s.Agree(t.Context(), "pepper", "one"); err != nil {
			t.Error(err)
		}
		if n := w.made.Load() - before; n != connections {
			t.Errorf("%d connections were made, want %d", n, connections)
		}
	}
	agree(1)
	agree(0)
	s.spare.PgConn().Conn().Close()
	agree(1)
	s.spareSince = s.spareSince.Add(-2 * spareIdle) // older than spareIdle: the peer may not answer any more
	old := s.spare
	agree(1)
	if !old.IsClosed() {
		t.Error("the old one is open")
	}
	if n := s.resets.Load(); n != 0 {
		t.Errorf("the pool was reset %d times for a connection outside it", n)
	}
	last := s.spare
	s.Close()
	if !last.IsClosed() {
		t.Error("Close has left the connection open")
	}
	if err := s.Agree(t.Context(), "pepper", "one"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}
