package sqlite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestMain(m *testing.M) {
	children.Be()
	flag.Set("rapid.checks", "5") // unless the flag asks for more: these tests run in real time
	goleak.VerifyTestMain(m)
}

// open opens a database that the test closes.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "congthu.db")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, s) })
	return s
}

func shut(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// fail counts one wrong password.
func fail(a *auth.Account) ([]auth.Event, bool) {
	a.Failures++
	return []auth.Event{{At: noon, Kind: auth.PasswordWrong, Account: a.Name, Actor: auth.ByUser}}, true
}

var noon = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

var errInjected = errors.New("injected by the test")

func TestSQLiteKeepsTheContract(t *testing.T) {
	storetest.Run(t, harness)
}

// options converts the options of the contract.
func options(of storetest.Options) Options {
	o := Options{MaxUnknown: of.MaxUnknown}
	if of.Recorder != nil {
		o.Recorder = of.Recorder
	}
	return o
}

var harness = storetest.Harness{
	Parallel: true,
	Open: func(t *testing.T, o storetest.Options) storetest.Store {
		return open(t, options(o))
	},
	Reopen: func(t *testing.T, s storetest.Store) storetest.Store {
		old := s.(*Store)
		shut(t, old)
		return open(t, Options{Path: old.path, MaxUnknown: old.slots.max})
	},
	Break: func(t *testing.T, s storetest.Store, m storetest.Moment) func() {
		store := s.(*Store)
		if m == storetest.BeforeCommit {
			store.writer.faults.Store(&faults{before: errInjected})
		} else {
			// As long as the database can be read, the store finds out.
			store.writer.faults.Store(&faults{after: errInjected, connect: errInjected})
		}
		return func() { store.writer.faults.Store(nil) }
	},
	Fill: func(t testing.TB, s storetest.Store, first, n int) storetest.Store {
		old := s.(*Store)
		shut(t, old)
		raw(t, old.path, fmt.Sprintf(`INSERT INTO accounts (%s) WITH RECURSIVE numbers (i) AS (SELECT %d UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < %d)
			SELECT printf('user%%05d@congthu.test', i), %s FROM numbers JOIN accounts ON name = printf('user%%05d@congthu.test', i %% %d)`,
			accountColumns, first, n, strings.TrimPrefix(accountColumns, "name, "), first))
		return open(t, Options{Path: old.path, MaxUnknown: old.slots.max})
	},
	Tamper: func(t *testing.T, s storetest.Store, statements ...string) storetest.Store {
		old := s.(*Store)
		shut(t, old)
		raw(t, old.path, append([]string{allowTampering}, statements...)...)
		return open(t, Options{Path: old.path})
	},
	Queue: &storetest.Queue{
		Batch:    maxBatch,
		Waiting:  func(s storetest.Store) int { return len(s.(*Store).writer.queue) },
		Closing:  func(s storetest.Store) <-chan struct{} { return s.(*Store).writer.quit },
		Injected: errInjected,
		Closed:   ErrClosed,
		Closings: 20,
	},
}
