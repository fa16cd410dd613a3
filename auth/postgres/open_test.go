package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
)

// wantRefused checks that Open refuses a database with this reason and advice.
func wantRefused(t *testing.T, dsn string, reason error, advice string) {
	t.Helper()
	s, err := Open(t.Context(), Options{DSN: dsn})
	if err == nil {
		s.Close()
		t.Fatalf("opened; want %v", reason)
	}
	t.Log(err)
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), advice) {
		t.Errorf("error %v, want %q with %q", err, reason, advice)
	}
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	execute(t, connected(t, s), `INSERT INTO congthu_schema (version_id, is_applied) VALUES (999, true)`)
	newest, err := newestVersion()
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, s.o.DSN, ErrNewerSchema, fmt.Sprintf("its schema is version 999, this program knows up to %d: install the newer version again", newest))
	// Gateways that already run continue.
	update(t, s, victim, 0, fail)
}

func TestAnotherProgramsDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	behind(t, dsn, `CREATE TABLE accounts (iban text)`)
	wantRefused(t, dsn, ErrForeign, "a schema (search_path), of its own")
	// The error states the truth.
	behind(t, dsn, `CREATE SCHEMA congthu`)
	s := open(t, Options{DSN: dsn + " search_path=congthu"})
	update(t, s, victim, 0, fail)
	wantFailures(t, s, victim, 1)
}

func TestAnUnsuitableDatabaseIsRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	server.Exec(t, `CREATE ROLE clerk LOGIN`)
	server.Exec(t, `CREATE ROLE crowd LOGIN CONNECTION LIMIT 0`)
	server.Exec(t, `CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
	standby, mine := server.Database(t), server.Database(t)
	server.Exec(t, `ALTER DATABASE `+field(standby, "dbname")+` SET default_transaction_read_only = on`)
	as := func(user string) string { return strings.Replace(mine, "user=congthu", "user="+user, 1) }

	wantRefused(t, server.DSN("latin"), ErrEncoding, "LATIN1: make a new one (createdb --encoding=UTF8")
	wantRefused(t, standby, ErrReadOnly, "name the primary")
	wantRefused(t, as("stranger"), ErrRefused, "pg_hba.conf")
	wantRefused(t, as("clerk"), ErrRefused, "must own the tables")
	wantRefused(t, as("crowd"), ErrRefused, "max_connections")
	wantRefused(t, server.DSN("nowhere"), ErrRefused, "create it (createdb")
	wantRefused(t, "host="+t.TempDir()+" dbname=x user=y", ErrUnreachable, "no such file")
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("opened without a connection string")
	}
}

// TestNoErrorContainsThePassword: connection strings contain one.
func TestNoErrorContainsThePassword(t *testing.T) {
	t.Parallel()
	const canary = "kanari/@:vogel"
	dir := t.TempDir()
	for _, dsn := range []string{
		"host=" + dir + " user=u password='" + canary + "' dbname=d",
		"host=" + dir + " user=u password='" + canary + "' dbname=d sslmode=perhaps",
		"host=" + dir + " user=u password='" + canary + "' dbname=d port=many",
		"host=" + dir + " user=u password='" + canary,
		"postgres://u:" + canary + "@" + dir + "/d",
		"postgres://u:" + canary + "@[::1/d",
		"postgres://u:" + canary + "@localhost:port/d",
		"postgres://u:%zz" + canary + "@localhost/d",
		"postgres://localhost:1/d?user=u&password=" + canary + "&sslmode=perhaps",
		"postgresql//u:" + canary + "@localhost/d",
		"password=" + canary,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var log bytes.Buffer
		s, err := Open(ctx, Options{DSN: dsn, Log: slog.New(slog.NewTextHandler(&log, nil))})
		cancel()
		if err == nil {
			s.Close()
			t.Errorf("opened %s", dsn)
			continue
		}
		for _, part := range []string{"kanari", "vogel"} {
			if strings.Contains(err.Error(), part) || strings.Contains(log.String(), part) {
				t.Errorf("%s: %v\n%s", dsn, err, &log)
			}
		}
	}
}

func TestReplicasThatStartAtOnceMakeOneSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			s, err := Open(t.Context(), Options{DSN: dsn})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
	s := open(t, Options{DSN: dsn})
	update(t, s, victim, 0, fail)
	wantEvents(t, s, 1)
}

// TestEveryConnectionHasItsSettings: durability and the time-outs depend on these
// settings of PostgreSQL.
func TestEveryConnectionHasItsSettings(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"application_name": "congthu", "client_encoding": "UTF8", "synchronous_commit": "on",
		"statement_timeout": "7s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "1500ms",
	}
	dsn := pgtest.Database(t)
	behind(t, dsn, `ALTER DATABASE `+field(dsn, "dbname")+` SET synchronous_commit = off`)
	s := open(t, Options{
		DSN: dsn, StatementTimeout: 7 * time.Second, LockTimeout: 5 * time.Second, IdleInTransactionTimeout: 1500 * time.Millisecond,
	})
	for name, value := range want {
		var pooled, single string
		err1 := s.pool.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&pooled)
		err2 := connected(t, s).QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&single)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if pooled != value || single != value {
			t.Errorf("%s is %s and %s, want %s", name, pooled, single, value)
		}
	}
	// The connection string takes precedence.
	s = open(t, Options{DSN: dsn + " application_name=replica-2 statement_timeout=100"})
	var name, timeout string
	err := s.pool.QueryRow(t.Context(), `SELECT current_setting('application_name'), current_setting('statement_timeout')`).Scan(&name, &timeout)
	if err != nil || name != "replica-2" || timeout != "100ms" {
		t.Errorf("%s, %s, %v", name, timeout, err)
	}
}

// TestTheUsualQueriesUseAnIndex: a login makes one query, with an index.
func TestTheUsualQueriesUseAnIndex(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	conn := connected(t, s)
	// With so few rows PostgreSQL would prefer to scan all of them.
	execute(t, conn, `SET enable_seqscan = off`)
	execute(t, conn, `SET plan_cache_mode = force_generic_plan`)
	for i, c := range []struct{ query, types, want string }{
		{selectAccount, "text", "accounts_pkey"},
		{readAccounts, "text[]", "accounts_pkey"},
		{readSlots, "text[]", "reservations_account"},
		{`SELECT account FROM reservations WHERE id = $1`, "bigint", "reservations_pkey"},
		{`SELECT name FROM accounts WHERE name > $1 AND lock_cause <> '' ORDER BY name LIMIT $2`, "text, bigint", "accounts_locked"},
		{`SELECT name FROM accounts WHERE name > $1 AND registered IS NOT NULL ORDER BY name LIMIT $2`, "text, bigint", "accounts_pkey"},
		{`SELECT seq FROM events WHERE account = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`, "text, bigint, bigint", "events_account"},
		{`SELECT seq FROM events WHERE seq > $1 ORDER BY seq LIMIT $2`, "bigint, bigint", "events_pkey"},
	} {
		execute(t, conn, fmt.Sprintf(`PREPARE q%d (%s) AS %s`, i, c.types, c.query))
		args := strings.Repeat(", NULL", strings.Count(c.types, ","))
		rows, err := conn.Query(t.Context(), fmt.Sprintf(`EXPLAIN EXECUTE q%d (NULL%s)`, i, args))
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if got := strings.Join(plan, "\n"); !strings.Contains(got, c.want) || strings.Contains(got, "Sort") {
			t.Errorf("%s\nis planned as\n%s\nwant %s", c.query, got, c.want)
		}
	}
}

// TestALostReleaseIsRepeated shows why a release need not reach the disk: if a crash
// takes the slot again, the lease manager frees it.
func TestALostReleaseIsRepeated(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	s := open(t, Options{DSN: server.Database(t), Lease: shortLease})
	for range 3 {
		update(t, s, victim, reserve(t, s, victim, allow(3)), nothing)
	}
	server.Restart(t, pgtest.Immediate)
	eventually(t, "all slots are free", func() bool {
		var taken []auth.Reservation
		for range 3 {
			if _, r, err := s.Reserve(t.Context(), victim, allow(3)); err == nil {
				taken = append(taken, r)
			}
		}
		for _, r := range taken {
			update(t, s, victim, r, nothing)
		}
		return len(taken) == 3
	})
}

// behind runs a statement in a database that no store has opened.
func behind(t *testing.T, dsn, statement string) {
	t.Helper()
	s := &Store{o: Options{DSN: dsn}.withDefaults()}
	c, err := s.configure()
	if err != nil {
		t.Fatal(err)
	}
	s.config = c.ConnConfig
	execute(t, connected(t, s), statement)
}

// field returns the value of a setting of a connection string.
func field(dsn, name string) string {
	for _, f := range strings.Fields(dsn) {
		if value, ok := strings.CutPrefix(f, name+"="); ok {
			return value
		}
	}
	panic(fmt.Sprintf("no %s in %s", name, filepath.Base(dsn)))
}

// A gateway of an older version takes shared counters for names without a login, and
// counts them.
func TestAWrongCountOfUnknownNamesIsCorrected(t *testing.T) {
	t.Parallel()
	s := open(t, Options{MaxUnknown: 3})
	for _, name := range []auth.Name{"@00ff", "@0100", "a@congthu.test", "b@congthu.test"} {
		update(t, s, name, 0, fail)
	}
	for _, wrong := range []string{"unknown + 2", "unknown - 7", "unknown"} {
		execute(t, connected(t, s), `UPDATE counts SET unknown = `+wrong)
		replicas := make([]*Store, 4) // started at the same time
		var wg sync.WaitGroup
		for i := range replicas {
			wg.Go(func() {
				var err error
				if replicas[i], err = Open(context.Background(), s.o); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, r := range replicas {
			if r != nil {
				r.Close()
			}
		}
		if n, err := s.UnknownNames(t.Context()); n != 2 || err != nil {
			t.Errorf("with %s: %d unknown names, %v; want 2", wrong, n, err)
		}
	}
}
