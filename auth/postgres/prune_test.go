package postgres

import (
	"bufio"
	"context"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

// pruneOn removes old events and writes how far it has come.
func pruneOn(dsn string) {
	s, err := Open(context.Background(), Options{DSN: dsn, Lease: shortLease})
	must(err)
	must(storetest.PruneSlowly(context.Background(), s, func(gone audit.Head) { say("%d", gone.Seq) }))
	must(s.Close())
}

// TestALogOfAnOlderSchemaIsKeptAndCanBePruned: in a database of the version before,
// nothing has been removed.
func TestALogOfAnOlderSchemaIsKeptAndCanBePruned(t *testing.T) {
	t.Parallel()
	s := populated(t)
	conn := connected(t, s)
	s.Close()
	for _, statement := range []string{
		`DROP TRIGGER events_stay_until_removed ON events`, `DROP TRIGGER events_stay ON events`,
		`DROP FUNCTION events_stay_until_removed`, `DROP TABLE removed`, `DROP TABLE settlements`,
		`ALTER TABLE holders DROP COLUMN rules, DROP COLUMN lease`, `ALTER TABLE accounts DROP COLUMN passwords`,
		`DELETE FROM congthu_schema WHERE version_id > 2`,
		`CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_stay()`,
	} {
		execute(t, conn, statement)
	}
	s = open(t, s.o)
	wantEvents(t, s, 200)
	if gone, err := s.Removed(t.Context()); err != nil || gone != (audit.Head{}) {
		t.Fatalf("removed up to %+v, %v; want nothing", gone, err)
	}
	if _, err := conn.Exec(t.Context(), `DELETE FROM events WHERE seq = 1`); err == nil {
		t.Fatal("the log took a change")
	}
	g := &guard.Guard{Store: s, Now: func() time.Time { return auth.AddMonths(noon, 24) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules()})
	if n, err := audit.Prune(t.Context(), g, s, 400*24*time.Hour); err != nil || n != 200 {
		t.Fatalf("%d events were removed, %v; want 200", n, err)
	}
	wantEvents(t, s, 201)
}

// TestOneReplicaRemovesAtATime: the others leave the work to the one that has begun.
func TestOneReplicaRemovesAtATime(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	other := open(t, s.o)
	ran, err := s.Alone(t.Context(), "prune", func(ctx context.Context) error {
		ran, err := other.Alone(ctx, "prune", func(context.Context) error { t.Error("two at a time"); return nil })
		if ran || err != nil {
			t.Errorf("the second: ran %v, %v", ran, err)
		}
		ran, err = other.Alone(ctx, "another", func(context.Context) error { return nil })
		if !ran || err != nil {
			t.Errorf("another chore: ran %v, %v", ran, err)
		}
		return nil
	})
	if !ran || err != nil {
		t.Fatalf("ran %v, %v", ran, err)
	}
	if ran, err := other.Alone(t.Context(), "prune", func(context.Context) error { return nil }); !ran || err != nil {
		t.Fatalf("afterwards: ran %v, %v", ran, err)
	}
}

// TestACopyBeginsWhereTheSourceDoes: removed events cannot be copied, and the chain of
// the copy begins at the same event.
func TestACopyBeginsWhereTheSourceDoes(t *testing.T) {
	t.Parallel()
	from := populated(t)
	update(t, from, victim, 0, fail)
	g := &guard.Guard{Store: from, Now: func() time.Time { return auth.AddMonths(noon, 24) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules()})
	if n, err := audit.Prune(t.Context(), g, from, 400*24*time.Hour); err != nil || n == 0 {
		t.Fatalf("%d events were removed, %v", n, err)
	}
	gone, err := from.Removed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dsn := database(t)
	copied, err := Copy(t.Context(), contents{from}, Options{DSN: dsn}, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Copy(t.Context(), contents{from}, Options{DSN: dsn}, nil)
	if err != nil || !again.Already || again.Head != copied.Head {
		t.Fatalf("a second time: %+v, %v", again, err)
	}
	s := open(t, Options{DSN: dsn})
	if got, err := s.Removed(t.Context()); err != nil || got != gone {
		t.Fatalf("the copy begins after %+v, %v; want %+v", got, err, gone)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head != copied.Head {
		t.Fatalf("verify: %+v, %v; want %+v", head, err, copied.Head)
	}
}

// contents is a store with the methods that [Source] needs.
type contents struct{ *Store }

func (c contents) Contents(context.Context) (string, int64, error) { return "same", 1, nil }

func TestARemovalOfOldEventsThatIsKilledLeavesALogThatVerifies(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	storetest.KilledPruning(t, func() (storetest.Store, func()) {
		s := open(t, Options{DSN: dsn, Lease: shortLease})
		return s, func() { s.Close() }
	}, func() (func(), *bufio.Scanner) {
		cmd, said := child(t, "prune", dsn)
		return func() { cmd.Process.Kill(); cmd.Wait() }, said
	})
}
