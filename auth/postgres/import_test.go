package postgres

import (
	"bufio"
	"context"
	"os/exec"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

func BenchmarkImport(b *testing.B) {
	storetest.Imports(b, func() storetest.Store { return open(b, Options{}) })
}

// importOn imports a list, and writes how far it is.
func importOn(dsn string) {
	s, err := Open(context.Background(), Options{DSN: dsn})
	must(err)
	_, err = storetest.Import(context.Background(), s, storetest.List(), func(done int) { say("done %d", done) })
	must(err)
	say("finished")
}

func TestAnImportThatSIGKILLInterruptsIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	storetest.InterruptedImport(t,
		func() (*exec.Cmd, *bufio.Scanner) { return child(t, "import", dsn) },
		func(empty bool) (storetest.Store, func()) {
			if empty {
				return open(t, Options{}), func() {}
			}
			s := open(t, Options{DSN: dsn})
			// PostgreSQL notices the end of a process when it next writes to it: until
			// then other transactions wait for the locks of the names in its lane.
			if err := s.UpdateBatch(t.Context(), names(storetest.List()), nothing); err != nil {
				t.Fatal(err)
			}
			return s, func() { s.Close() }
		})
}

func names(list []auth.Imported) (names []auth.Name) {
	for _, from := range list {
		names = append(names, from.Name)
	}
	return names
}

// A gateway of the release before takes the lock that changes share exclusively while it
// writes an import.
func TestChangesWaitForAnImportOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	old, look := connected(t, s), connected(t, s)
	for what, change := range map[string]func() error{
		"update":  func() error { _, err := s.Update(t.Context(), victim, 0, fail); return err },
		"a batch": func() error { return s.UpdateBatch(t.Context(), []auth.Name{victim}, fail) },
	} {
		execute(t, old, `BEGIN`)
		execute(t, old, `SELECT pg_advisory_xact_lock($1)`, lockKey("changes"))
		done := make(chan error, 1)
		go func() { done <- change() }()
		for waits := false; !waits; {
			select {
			case err := <-done:
				t.Fatalf("%s: it did not wait: %v", what, err)
			default:
			}
			if err := look.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits); err != nil {
				t.Fatal(err)
			}
		}
		execute(t, old, `COMMIT`)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
