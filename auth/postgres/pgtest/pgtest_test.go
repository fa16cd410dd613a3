package pgtest_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"congthu/auth/postgres/pgtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	pgtest.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func query(t *testing.T, dsn, statement string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), statement).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestDatabasesAreEmptyAndTheTestsOwn(t *testing.T) {
	a, b := pgtest.Database(t), pgtest.Database(t)
	execute(t, a, `CREATE TABLE x (y text)`)
	if got := query(t, b, `SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'`); got != "0" {
		t.Errorf("another database has %s tables", got)
	}
}

func TestWhatIsCommittedSurvivesACrash(t *testing.T) {
	s := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"work_mem": "1MB"}})
	dsn := s.Database(t)
	if got := query(t, dsn, `SHOW work_mem`); got != "1MB" {
		t.Errorf("work_mem is %s", got)
	}
	for _, how := range []pgtest.Shutdown{pgtest.Immediate, pgtest.Fast} {
		execute(t, dsn, `CREATE TABLE IF NOT EXISTS x (y text)`)
		if _, err := os.Stat(s.Socket()); err != nil {
			t.Error(err)
		}
		s.Restart(t, how)
	}
	if got := query(t, dsn, `SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'`); got != "1" {
		t.Errorf("%s tables, want the one that was made", got)
	}
}
