package sqlite

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"
)

// SQLite removes some of its files when the store is closed: that is not a loss.
func TestTheFilesOfAStoreThatIsClosedAreNotLost(t *testing.T) {
	for range 20 {
		var log bytes.Buffer
		s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "congthu.db"), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		closed, looked := make(chan struct{}), make(chan error)
		go func() { // as a health check does
			var err error
			for {
				select {
				case <-closed:
					looked <- err
					return
				default:
					err = s.files.check()
				}
			}
		}()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		close(closed)
		if err := <-looked; err != nil {
			t.Error(err)
		}
		if log.Len() > 0 {
			t.Fatalf("the log: %s", &log)
		}
	}
}
