package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

func TestADatabaseOfTheFirstVersionLosesNothing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	// Without parameters one call may have many statements.
	if _, err := conn.PgConn().Exec(t.Context(), string(storetest.InstalledFile(t, "postgres.sql"))).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Upgraded(t, s)
}
