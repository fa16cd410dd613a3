package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

func TestMain(m *testing.M) {
	beChild()
	code := m.Run()
	pgtest.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// open opens a database that the test closes, a new one unless it is given.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.DSN == "" {
		o.DSN = pgtest.Database(t)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fail counts one wrong password.
func fail(a *auth.Account) ([]auth.Event, bool) {
	a.Failures++
	return []auth.Event{{At: noon, Kind: auth.PasswordWrong, Account: a.Name, Actor: auth.ByUser}}, true
}

// nothing changes nothing.
func nothing(*auth.Account) ([]auth.Event, bool) { return nil, false }

// allow is a Reserve callback that allows n attempts at once.
func allow(n int) func(auth.Account) int { return func(auth.Account) int { return n } }

// tolerate is one that allows n wrong passwords in all, as the rules do.
func tolerate(n int) func(auth.Account) int {
	return func(a auth.Account) int { return n - a.Failures }
}

var noon = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

var errInjected = errors.New("injected by the test")

func TestPostgreSQLKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, o storetest.Options) storetest.Store {
			return open(t, Options{MaxUnknown: o.MaxUnknown})
		},
		Reopen: func(t *testing.T, s storetest.Store) storetest.Store {
			old := s.(*Store)
			old.Close()
			return open(t, old.o)
		},
		Replica: func(t *testing.T, s storetest.Store) storetest.Store {
			return open(t, s.(*Store).o)
		},
		Break: func(t *testing.T, s storetest.Store, m storetest.Moment) func() {
			settle := s.(*Store).settle
			if m == storetest.BeforeCommit {
				settle.faults.Store(&faults{before: errInjected})
			} else {
				// Unless the database cannot be asked either, the store finds out.
				settle.faults.Store(&faults{after: errInjected, ask: errInjected})
			}
			return func() { settle.faults.Store(nil) }
		},
	})
}
