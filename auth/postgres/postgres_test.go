package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

func TestMain(m *testing.M) {
	children.Be()
	flag.Set("rapid.checks", "4") // unless the flag asks for more: these tests run in real time
	code := m.Run()
	pgtest.Stop()
	if another.server != nil {
		another.server.Remove()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// database returns the connection string of a new database with the present schema.
func database(t testing.TB) (dsn string) {
	t.Helper()
	server := pgtest.Shared(t)
	template.Do(func() {
		server.Exec(t, "CREATE DATABASE "+templateName)
		s, err := Open(context.Background(), Options{DSN: server.DSN(templateName)})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
	return server.Copy(t, templateName)
}

// unstable returns a server that one test alone may stop and restart. Such tests share
// it, one after the other.
func unstable(t *testing.T) *pgtest.Server {
	t.Helper()
	another.Lock()
	t.Cleanup(another.Unlock)
	if another.server == nil {
		server, err := pgtest.New(pgtest.Options{Settings: map[string]string{
			"wal_writer_delay": "10s", // so that a crash loses commits that do not wait for the log
		}})
		if err != nil {
			pgtest.Fail(t, err)
		}
		another.server = server
	}
	return another.server
}

var another struct {
	sync.Mutex
	server *pgtest.Server
}

// Most tests use copies of one database: that is faster than making the schema
// for each.
const templateName = "migrated"

var template sync.Once

// open opens the database of o, or a new one if there is none; the test closes it.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.DSN == "" {
		o.DSN = database(t)
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

// tolerate is a Reserve callback that allows n wrong passwords in all, as the rules do.
func tolerate(n int) func(auth.Account) int {
	return func(a auth.Account) int { return n - a.Failures }
}

var noon = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

var errInjected = errors.New("injected by the test")

func TestPostgreSQLKeepsTheContract(t *testing.T) {
	t.Parallel()
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
			// As long as the database answers, the store finds out.
			settle.faults.Store(&faults{after: errInjected, ask: errInjected})
		}
		return func() { settle.faults.Store(nil) }
	},
	Fill: func(t testing.TB, s storetest.Store, first, n int) storetest.Store {
		conn := connected(t, s.(*Store))
		name := func(i string) string {
			return `'user' || lpad((` + i + `)::text, greatest(5, length((` + i + `)::text)), '0') || '@congthu.test'`
		}
		execute(t, conn, `SET statement_timeout = 0`)
		execute(t, conn, fmt.Sprintf(`INSERT INTO accounts (%s) SELECT %s, %s FROM generate_series(%d, %d) i JOIN accounts ON name = %s`,
			accountColumns, name("i"), strings.TrimPrefix(accountColumns, "name, "), first, n-1, name(fmt.Sprintf("i %% %d", first))))
		execute(t, conn, `UPDATE counts SET unknown = (SELECT count(*) FROM accounts WHERE registered IS NULL)`)
		execute(t, conn, `ANALYZE accounts`)
		return s
	},
	Tamper: func(t *testing.T, s storetest.Store, statements ...string) storetest.Store {
		conn := connected(t, s.(*Store))
		for _, statement := range slices.Concat(allowTampering, statements) {
			execute(t, conn, statement)
		}
		return s
	},
	Queue: &storetest.Queue{
		Batch:    maxBatch,
		Waiting:  func(s storetest.Store) int { return len(s.(*Store).settle.queue) },
		Closing:  func(s storetest.Store) <-chan struct{} { return s.(*Store).life.Done() },
		Injected: errInjected,
		Closed:   ErrClosed,
		Closings: 5,
	},
}

// connected returns a connection of the test's own to the database of a store.
func connected(t testing.TB, s *Store) *pgx.Conn {
	t.Helper()
	conn, err := s.connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

// execute runs a statement without the store.
func execute(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.Background(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// eventually waits for a result of another process or goroutine that sends no signal.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 3000 { // one minute
		if is() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no result before the time-out: %s", what)
}

func reserve(t testing.TB, s *Store, name auth.Name, slots func(auth.Account) int) auth.Reservation {
	t.Helper()
	_, r, err := s.Reserve(context.Background(), name, slots)
	if err != nil {
		t.Fatalf("reserve: %v", err)
	}
	return r
}

func update(t testing.TB, s *Store, name auth.Name, r auth.Reservation, change auth.Change) auth.Account {
	t.Helper()
	a, err := s.Update(context.Background(), name, r, change)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	return a
}

func failures(t testing.TB, s *Store, name auth.Name) int {
	t.Helper()
	a, err := s.Account(context.Background(), name)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return a.Failures
}

func wantFailures(t testing.TB, s *Store, name auth.Name, want int) {
	t.Helper()
	if got := failures(t, s, name); got != want {
		t.Fatalf("%s has %d failures, want %d", name, got, want)
	}
}

func wantNoSlot(t testing.TB, s *Store, name auth.Name, slots func(auth.Account) int) {
	t.Helper()
	if _, _, err := s.Reserve(context.Background(), name, slots); !errors.Is(err, auth.ErrNoSlot) {
		t.Fatalf("reserve: %v, want ErrNoSlot", err)
	}
}

// wantEvents verifies the whole chain and checks that it has n events.
func wantEvents(t testing.TB, s *Store, n int) {
	t.Helper()
	head, err := s.Verify(context.Background(), nil)
	if err != nil || head.Seq != int64(n) {
		t.Fatalf("head %+v, error %v; want %d events", head, err, n)
	}
}
