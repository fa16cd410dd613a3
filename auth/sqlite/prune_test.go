package sqlite

import (
	"bufio"
	"context"
	"path/filepath"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

// pruneOn removes old events and writes how far it has come.
func pruneOn(path string) {
	s, err := Open(context.Background(), Options{Path: path})
	must(err)
	must(storetest.PruneSlowly(context.Background(), s, func(gone audit.Head) { say("%d", gone.Seq) }))
	must(s.Close())
}

// TestALogOfAnOlderSchemaIsKeptAndCanBePruned: in a database of the version before,
// nothing has been removed.
func TestALogOfAnOlderSchemaIsKeptAndCanBePruned(t *testing.T) {
	path := populated(t)
	raw(t, path, `DROP TRIGGER events_stay`, `DROP TABLE removed`, `DROP TABLE agreed`, `ALTER TABLE accounts DROP COLUMN passwords`, `DELETE FROM goose_db_version WHERE version_id > 2`,
		`CREATE TRIGGER events_stay BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`)
	s := open(t, Options{Path: path})
	head, err := s.Verify(t.Context(), nil)
	if err != nil || head.Seq != 200 {
		t.Fatalf("verify: %+v, %v; want 200 events", head, err)
	}
	if gone, err := s.Removed(t.Context()); err != nil || gone != (audit.Head{}) {
		t.Fatalf("removed up to %+v, %v; want nothing", gone, err)
	}
	if _, err := s.writer.conn.conn.ExecContext(t.Context(), `DELETE FROM events WHERE seq = 1`); err == nil {
		t.Fatal("the log took a change")
	}
	g := &guard.Guard{Store: s, Now: func() time.Time { return auth.AddMonths(noon, 24) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules()})
	if n, err := audit.Prune(t.Context(), g, s, 400*24*time.Hour); err != nil || n != 200 {
		t.Fatalf("%d events were removed, %v; want 200", n, err)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != 201 {
		t.Fatalf("verify: %+v, %v; want 201 events", head, err)
	}
}

func TestARemovalOfOldEventsThatIsKilledLeavesALogThatVerifies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	storetest.KilledPruning(t, func() (storetest.Store, func()) {
		s := open(t, Options{Path: path})
		return s, func() { shut(t, s) }
	}, func() (func(), *bufio.Scanner) {
		cmd, said := child(t, "prune", path)
		return func() { cmd.Process.Kill(); cmd.Wait() }, said
	})
}
