package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

// TestPgBouncerBySessionsKeepsTheContract: with the default settings of PgBouncer, apart
// from enough connections for all parallel tests and their replicas.
func TestPgBouncerBySessionsKeepsTheContract(t *testing.T) {
	t.Parallel()
	pooler := pgtest.Shared(t).Pool(t, "max_client_conn = 2000", "default_pool_size = 100")
	through := harness
	through.Open = func(t *testing.T, o storetest.Options) storetest.Store {
		through := options(o)
		through.DSN = pooler.Through(database(t))
		return open(t, through)
	}
	t.Run("contract", func(t *testing.T) { storetest.Run(t, through) })
}

// One gateway works with PgBouncer's default settings, also on an empty database.
func TestPgBouncersDefaultSettingsSuffice(t *testing.T) {
	t.Parallel()
	pooler := pgtest.Shared(t).Pool(t)
	dsn := pooler.Through(pgtest.Database(t))
	r, err := Inspect(t.Context(), Options{DSN: dsn}, "pepper")
	if err != nil || !r.Pooler || r.Schema != 0 {
		t.Fatalf("%+v, %v; want a pooler and no schema", r, err)
	}
	s := open(t, Options{DSN: dsn, Poll: time.Hour})
	told := follow(t, s)
	update(t, s, victim, 0, locked(auth.AccountLocked))
	eventually(t, "a lock arrives long before the next poll", func() bool { return told.said() != "" })
	// Only one process does a job at a time; imports and settings work as without a pooler.
	if ran, err := s.Alone(t.Context(), "chore", func(ctx context.Context) error {
		again, err := s.Alone(ctx, "chore", func(context.Context) error { return nil })
		if again {
			t.Error("two do one chore")
		}
		return err
	}); !ran || err != nil {
		t.Errorf("ran %v, %v", ran, err)
	}
	if err := s.UpdateBatch(t.Context(), []auth.Name{"a@congthu.test", "b@congthu.test"}, fail); err != nil {
		t.Error(err)
	}
	wantInForce(t, s)
	wantEvents(t, s, 3)
}

// wantInForce checks the settings of each kind of connection.
func wantInForce(t *testing.T, s *Store) {
	t.Helper()
	single := connected(t, s)
	link, err := s.link(t.Context(), s.session)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(link.Conn)
	for name, want := range map[string]string{
		"application_name": "congthu", "client_encoding": "UTF8", "synchronous_commit": "on",
		"statement_timeout": "6s", "lock_timeout": "4s", "idle_in_transaction_session_timeout": "3s",
	} {
		for kind, conn := range map[string]interface {
			QueryRow(context.Context, string, ...any) pgx.Row
		}{"pool": s.pool, "single": single, "link": link} {
			var is string
			if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&is); err != nil || is != want {
				t.Errorf("%s: %s is %q, %v; want %q", kind, name, is, err, want)
			}
		}
	}
}

// A pooler that is configured to ignore parameters does so silently; then parameters of
// the connection string were not in force either.
func TestSettingsAreInForceWherePgBouncerIgnoresThem(t *testing.T) {
	t.Parallel()
	pooler := pgtest.Shared(t).Pool(t, "ignore_startup_parameters = statement_timeout,lock_timeout,idle_in_transaction_session_timeout,synchronous_commit,extra_float_digits")
	dsn := database(t)
	behind(t, dsn, `ALTER DATABASE `+field(dsn, "dbname")+` SET synchronous_commit = off`)
	wantInForce(t, open(t, Options{DSN: pooler.Through(dsn)}))
	s := open(t, Options{DSN: pooler.Through(dsn) + " statement_timeout=5s lock_timeout=500"})
	var timeouts string
	err := s.pool.QueryRow(t.Context(), `SELECT current_setting('statement_timeout') || ' ' || current_setting('lock_timeout')`).Scan(&timeouts)
	if err != nil || timeouts != "5s 500ms" {
		t.Errorf("%q, %v", timeouts, err)
	}
	// The schema (search_path) is also set there.
	behind(t, dsn, `CREATE SCHEMA apart`)
	s = open(t, Options{DSN: pooler.Through(dsn) + " search_path=apart"})
	update(t, s, victim, 0, fail)
	wantEvents(t, s, 1)
}

func TestAParameterThatPgBouncerRefusesIsNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).Pool(t).Through(database(t))
	wantRefused(t, dsn+" work_mem=1MB", ErrRefused, "take work_mem out of the connection string")
	wantRefused(t, dsn+" options='-c work_mem=1MB'", ErrRefused, "out of the connection string")
}

// TestAStandbyBehindPgBouncerIsRefused: the pooler does not say that the server is a standby.
func TestAStandbyBehindPgBouncerIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pgtest.Shared(t).Exec(t, `ALTER DATABASE `+field(dsn, "dbname")+` SET default_transaction_read_only = on`)
	wantRefused(t, pgtest.Shared(t).Pool(t).Through(dsn), ErrReadOnly, "name the primary")
}

func TestAPoolerThatSharesSessionsIsRefusedByName(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for _, c := range []struct {
		name, advice string
		settings     []string
		busy         int // other clients, each with a transaction that is open or has just ended
	}{
		{"transactions", "it pools by transactions (pool_mode=transaction)", []string{"pool_mode = transaction"}, 0},
		{"transactions, in turn", "it pools by transactions (pool_mode=transaction)", []string{"pool_mode = transaction", "server_round_robin = 1"}, 0},
		{"transactions, busy", "it pools by transactions (pool_mode=transaction)", []string{"pool_mode = transaction"}, 30},
		{"transactions, busy, in turn", "it pools by transactions (pool_mode=transaction)", []string{"pool_mode = transaction", "server_round_robin = 1"}, 30},
		{"transactions, two sessions", "it pools by transactions (pool_mode=transaction)", []string{"pool_mode = transaction", "default_pool_size = 2"}, 0},
		{"not reset", "remove server_reset_query from", []string{"server_reset_query ="}, 0},
		{"statements", "it pools by statements (pool_mode=statement)", []string{"pool_mode = statement"}, 0},
		{"statements, busy", "it pools by statements (pool_mode=statement)", []string{"pool_mode = statement"}, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			dsn := server.Pool(t, c.settings...).Through(database(t))
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range c.busy {
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer closeConn(conn)
				wg.Go(func() {
					for ctx.Err() == nil {
						conn.PgConn().Exec(ctx, `SELECT pg_sleep(0.002)`).Close()
					}
				})
			}
			defer wg.Wait()
			defer cancel()
			wantRefused(t, dsn, ErrPooled, c.advice)
			wantRefused(t, dsn, ErrPooled, "pgbouncer.ini")
			if _, err := Inspect(t.Context(), Options{DSN: dsn}, "pepper"); !errors.Is(err, ErrPooled) || !strings.Contains(err.Error(), c.advice) {
				t.Errorf("inspected: %v", err)
			}
			if _, err := Copy(t.Context(), emptySource{}, Options{DSN: dsn}, nil); !errors.Is(err, ErrPooled) {
				t.Errorf("copied: %v", err)
			}
		})
	}
}

// emptySource has nothing to copy.
type emptySource struct{ Source }

func (emptySource) Contents(context.Context) (string, int64, error) { return "empty", 0, nil }

func (emptySource) Verify(context.Context, func(checked, total int64)) (audit.Head, error) {
	return audit.Head{}, nil
}

// A pooler that keeps sessions is accepted, with any other settings.
func TestAPoolerThatKeepsSessionsIsNotRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	for name, settings := range map[string][]string{
		"in turn": {"server_round_robin = 1"}, "small": {"default_pool_size = 2"}, "by user": {"pool_mode = session"},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := server.Pool(t, settings...).Through(database(t))
			for range 3 {
				r, err := Inspect(t.Context(), Options{DSN: dsn}, "pepper")
				if err != nil || !r.Pooler || r.Deaf {
					t.Errorf("%+v, %v", r, err)
				}
			}
		})
	}
	if r, err := Inspect(t.Context(), Options{DSN: database(t)}, "pepper"); err != nil || r.Pooler {
		t.Errorf("without a pooler: %+v, %v", r, err)
	}
}

func TestAPoolerWithoutRoomIsNamed(t *testing.T) {
	t.Parallel()
	for _, settings := range [][]string{{"default_pool_size = 1"}, {"max_client_conn = 1"}} {
		dsn := pgtest.Shared(t).Pool(t, settings...).Through(database(t))
		_, err := Open(t.Context(), Options{DSN: dsn, ConnectTimeout: 3 * time.Second})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "default_pool_size") {
			t.Errorf("%v: %v", settings, err)
		}
	}
}

// TestAnOutageBetweenTwoConnectionsIsNotBlamedOnThePooler: the error names the database.
func TestAnOutageBetweenTwoConnectionsIsNotBlamedOnThePooler(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]error{
		"unreachable":   &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED},
		"shutting down": &pgconn.PgError{Severity: "FATAL", Code: "57P03", Message: "the database system is shutting down"},
		"as PgBouncer says it": &pgconn.PgError{Severity: "FATAL", Code: "08P01",
			Message: "server login has been failing, try again later (server_login_retry)"},
	} {
		s := open(t, Options{DSN: pgtest.Shared(t).Pool(t).Through(database(t))})
		first := connected(t, s)
		behind := &Store{o: s.o, config: s.config.Copy(), session: s.session} // a copy, since the store uses its config
		behind.config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, broken }
		_, err := behind.findPooler(t.Context(), first)
		if err = explain(t.Context(), err); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrUnreachable", name, err)
		}
	}
}

// TestTheStoreOutlivesItsPooler: confirmed changes stay, and the store recovers by itself.
func TestTheStoreOutlivesItsPooler(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	pooler := server.Pool(t)
	s := open(t, Options{DSN: pooler.Through(server.Database(t))})
	update(t, s, victim, 0, fail)
	r := reserve(t, s, victim, allow(6))
	pooler.Stop()
	if _, err := s.Account(t.Context(), victim); !errors.Is(err, ErrUnreachable) {
		t.Errorf("read without a pooler: %v", err)
	}
	if _, err := s.Update(t.Context(), victim, 0, fail); !errors.Is(err, ErrUnreachable) {
		t.Errorf("written without a pooler: %v", err)
	}
	pooler.Start(t)
	update(t, s, victim, r, fail)
	wantFailures(t, s, victim, 2)
	// The server behind the pooler crashes too: the pooler still has its old connections.
	server.Restart(t, pgtest.Immediate)
	eventually(t, "the store can be written again", func() bool {
		_, err := s.Update(t.Context(), victim, 0, fail)
		return err == nil
	})
	wantInForce(t, s)
}

// TestACancelComesThroughPgBouncer: a read whose caller has given up ends at the server.
func TestACancelComesThroughPgBouncer(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).Pool(t).Through(database(t))
	s := open(t, Options{DSN: dsn})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := s.pool.Exec(ctx, `SELECT pg_sleep(1000)`)
		done <- err
	}()
	sleeping := func() bool {
		return pgtest.Shared(t).Count(t, `SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1000)' AND state = 'active' AND datname = '`+field(dsn, "dbname")+`'`) > 0
	}
	eventually(t, "the process is stopped", sleeping)
	cancel()
	if err := <-done; err == nil {
		t.Error("it slept for long")
	}
	eventually(t, "the process runs again", func() bool { return !sleeping() })
}

// TestSettingsNotInForceAreFound: for any reason.
func TestSettingsNotInForceAreFound(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	conn := connected(t, s)
	if names, err := s.session.ignored(t.Context(), conn); len(names) > 0 || err != nil {
		t.Errorf("ignored: %v, %v", names, err)
	}
	execute(t, conn, `SET lock_timeout = 0`)
	execute(t, conn, `SET synchronous_commit = off`)
	names, err := s.session.ignored(t.Context(), conn)
	if got := strings.Join(names, " "); got != "lock_timeout synchronous_commit" || err != nil {
		t.Errorf("ignored: %q, %v", got, err)
	}
	// The check has changed nothing.
	if names, err := s.session.ignored(t.Context(), conn); len(names) != 2 || err != nil {
		t.Errorf("then: %v, %v", names, err)
	}
}
