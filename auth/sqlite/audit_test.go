package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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

func TestAClosedStoreMakesNoBackup(t *testing.T) {
	s := open(t, Options{})
	shut(t, s)
	if err := s.Backup(t.Context(), s.path+".backup"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
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
