package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"congthu/auth"
	"congthu/auth/audit"
)

const allowTampering = `DROP TRIGGER events_stay; DROP TRIGGER events_stay_as_they_are`

func TestTheAuditLogTakesNoChange(t *testing.T) {
	path := populated(t)
	s := open(t, Options{Path: path})
	for _, statement := range []string{`DELETE FROM events WHERE seq = 3`, `UPDATE events SET reason = 'nothing' WHERE seq = 3`} {
		_, err := s.writer.conn.conn.ExecContext(t.Context(), statement)
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestTamperingIsFound(t *testing.T) {
	forged := func(seq int) string {
		return fmt.Sprintf(`INSERT INTO events VALUES (%d, 0, 'password.wrong', '', '', '', '', '', '', 'f00d')`, seq)
	}
	for name, c := range map[string]struct {
		tamper []string
		at     int64
	}{
		"another reason":  {[]string{`UPDATE events SET reason = 'another' WHERE seq = 77`}, 77},
		"another time":    {[]string{`UPDATE events SET at = at + 1 WHERE seq = 1`}, 1},
		"another account": {[]string{`UPDATE events SET account = 'x@congthu.test' WHERE seq = 200`}, 200},
		"another hash":    {[]string{`UPDATE events SET hash = 'f00d' WHERE seq = 120`}, 120},
		"one removed":     {[]string{`DELETE FROM events WHERE seq = 100`}, 100},
		"the first":       {[]string{`DELETE FROM events WHERE seq <= 5`}, 1},
		"the last":        {[]string{`DELETE FROM events WHERE seq > 190`}, 191},
		"all":             {[]string{`DELETE FROM events`}, 1},
		"one put between": {[]string{`UPDATE events SET seq = seq + 1000 WHERE seq > 50`, forged(51), `UPDATE events SET seq = seq - 999 WHERE seq > 1000`}, 51},
		"one added":       {[]string{forged(201)}, 201},
		"head set back":   {[]string{`UPDATE head SET seq = 150`}, 151},
		"another head":    {[]string{`UPDATE head SET hash = 'f00d'`}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			path := populated(t)
			raw(t, path, append([]string{allowTampering}, c.tamper...)...)
			s := open(t, Options{Path: path})
			_, err := s.Verify(t.Context(), nil)
			broken, ok := errors.AsType[*audit.BrokenChain](err)
			if !ok || broken.Seq != c.at {
				t.Fatalf("verify: %v, want a break at %d", err, c.at)
			}
			t.Log(err)
			// Mail goes on all the same.
			if _, err := s.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestARewrittenLogDoesNotFitItsHead: all events recomputed, as only somebody
// with the program at hand can.
func TestARewrittenLogDoesNotFitItsHead(t *testing.T) {
	path := populated(t)
	s := open(t, Options{Path: path})
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	statements := []string{allowTampering}
	prev := ""
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		e.Reason = "rewritten"
		e.Hash = audit.Chain(prev, e)
		prev = e.Hash
		statements = append(statements, fmt.Sprintf(`UPDATE events SET reason = 'rewritten', hash = '%s' WHERE seq = %d`, e.Hash, e.Seq))
	}
	raw(t, path, statements...)
	s = open(t, Options{Path: path})
	_, err = s.Verify(t.Context(), nil)
	if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != 200 {
		t.Fatalf("verify: %v, want a break at 200", err)
	}
}

func TestABackupIsAWholeDatabase(t *testing.T) {
	s := open(t, Options{Path: populated(t)})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 { // while the store is in use
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Update(context.WithoutCancel(ctx), "busy@congthu.test", 0, fail); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "backup of 100%.db")
	if err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	stop()
	wg.Wait()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("the backup left %v", left)
	}

	restored := open(t, Options{Path: path})
	head, err := restored.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := restored.Account(t.Context(), "busy@congthu.test")
	if err != nil || head.Seq != int64(200+a.Failures) {
		t.Fatalf("%d failures and %d events, error %v: not of one moment", a.Failures, head.Seq, err)
	}
	if _, err := restored.Update(t.Context(), "n@congthu.test", 0, fail); err != nil {
		t.Fatal(err)
	}

	if err := s.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a backup over another: %v, want fs.ErrExist", err)
	}
	err = s.Backup(t.Context(), filepath.Join(t.TempDir(), "nowhere", "b.db"))
	if err == nil || !strings.Contains(err.Error(), "install -d") {
		t.Errorf("a backup into nowhere: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := s.Backup(cancelled, filepath.Join(dir, "b.db")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled backup: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("the cancelled backup left %v", left)
	}
}
