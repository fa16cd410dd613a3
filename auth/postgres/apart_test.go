package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

// TestWhatIsAgreedOrRemovedIsNotCancelledWhileItWaits: a commit that waits for the
// standby becomes visible when its wait is cancelled, though the standby lacks it.
func TestWhatIsAgreedOrRemovedIsNotCancelledWhileItWaits(t *testing.T) {
	t.Parallel()
	primary, second, between, dsn := standby(t)
	o := Options{DSN: dsn, Lease: time.Minute, StatementTimeout: time.Second, LockTimeout: 500 * time.Millisecond}
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
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := act(ctx); err == nil {
			t.Errorf("%s: confirmed without the standby", name)
		}
		cancel()
	}
	// Once the driver has had time to cancel.
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

// TestAnAgreementThatIsCancelledWhileItWaitsIsInDoubt: PostgreSQL shows it as made.
func TestAnAgreementThatIsCancelledWhileItWaitsIsInDoubt(t *testing.T) {
	t.Parallel()
	primary, _, between, dsn := standby(t)
	s := open(t, Options{DSN: dsn, Lease: time.Minute, StatementTimeout: 3 * time.Second, LockTimeout: time.Second})
	between.silent.Store(true)
	done := make(chan error, 1)
	go func() { done <- s.Agree(context.Background(), "pepper", "one") }()
	eventually(t, "the commit waits", func() bool { return waiting(t, primary) > 0 })
	primary.Count(t, `SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	if err := <-done; err == nil {
		t.Error("what the standby lacks was agreed on")
	}
	between.silent.Store(false)
	between.cut()
	eventually(t, "it is agreed on", func() bool { return s.Agree(t.Context(), "pepper", "one") == nil })
}
