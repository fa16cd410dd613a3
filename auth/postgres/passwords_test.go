package postgres

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

// A gateway of an earlier version beside this one knows two passwords, and does not know
// the column that contains all of them.
func TestPasswordsStayInStepWithGatewaysOfEarlierVersions(t *testing.T) {
	t.Parallel()
	s := open(t, Options{DSN: database(t)})
	conn := connected(t, s)
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	password := func(fingerprint string, n int) auth.KnownPassword {
		return auth.KnownPassword{Fingerprint: []byte(fingerprint), Since: day(n)}
	}
	remember := func(a *auth.Account, known ...auth.KnownPassword) {
		a.Registered = day(0)
		a.Password = auth.Password{Salt: []byte("salt"), Known: known, Since: known[len(known)-1].Since}
	}
	want := func(name auth.Name, known ...auth.KnownPassword) {
		t.Helper()
		wanted := auth.Account{Name: name}
		remember(&wanted, known...)
		a, err := s.Account(t.Context(), name)
		if err != nil || !reflect.DeepEqual(a.Password, wanted.Normalized().Password) {
			t.Errorf("%s: %+v, %v, want %+v", name, a.Password, err, wanted.Password)
		}
	}
	put := func(name auth.Name, known ...auth.KnownPassword) {
		t.Helper()
		update(t, s, name, 0, func(a *auth.Account) ([]auth.Event, bool) { remember(a, known...); return nil, true })
		want(name, known...)
	}
	// What the earlier version reads.
	put("a@x.vn", password("A", 0), password("B", 1), password("C", 2))
	var latest, before string
	var since time.Time
	err := conn.QueryRow(t.Context(), `SELECT encode(password, 'escape'), encode(password_before, 'escape'), password_since FROM accounts WHERE name = 'a@x.vn'`).
		Scan(&latest, &before, &since)
	if err != nil || latest != "C" || before != "B" || !since.Equal(day(2)) {
		t.Errorf("it reads %q, %q since %s, %v; want C, B since %s", latest, before, since, err, day(2))
	}
	// What the earlier version writes.
	write := func(name auth.Name, password, before string, n int) {
		t.Helper()
		execute(t, conn, `UPDATE accounts SET password = $2::text::bytea, password_before = $3::text::bytea, password_since = $4 WHERE name = $1`,
			string(name), password, before, day(n))
	}
	write("a@x.vn", "D", "C", 30) // a new password
	want("a@x.vn", password("A", 0), password("B", 1), password("C", 2), password("D", 30))
	write("a@x.vn", "A", "D", 40) // an earlier password keeps its age; only the earlier version saw D
	want("a@x.vn", password("A", 0), password("B", 1), password("C", 2), password("D", 40))
	write("a@x.vn", "C", "D", 1) // the clock was set right
	want("a@x.vn", password("A", 0), password("B", 1), password("C", 1), password("D", 1))
	update(t, s, "a@x.vn", 0, func(a *auth.Account) ([]auth.Event, bool) { a.Failures++; return nil, true })
	want("a@x.vn", password("A", 0), password("B", 1), password("C", 1), password("D", 1))
	execute(t, conn, `UPDATE accounts SET password = NULL, password_before = NULL, password_since = NULL WHERE name = 'a@x.vn'`)
	want("a@x.vn", password("A", 0), password("B", 1), password("C", 1), password("D", 1))

	// Rows that the earlier version makes, one by one and in an import.
	old := strings.TrimSuffix(accountColumns, ", passwords")
	put("b@x.vn", password("A", 0), password("B", 1))
	execute(t, conn, `CREATE TEMPORARY TABLE stage (LIKE accounts)`)
	execute(t, conn, `INSERT INTO stage (`+old+`) SELECT `+old+` FROM accounts WHERE name = 'b@x.vn'`)
	execute(t, conn, `UPDATE stage SET name = 'c@x.vn'`)
	execute(t, conn, `INSERT INTO accounts (`+old+`) SELECT `+old+` FROM stage`)
	want("c@x.vn", password("A", 1), password("B", 1))
	// A row with a date only, whose password was never seen.
	execute(t, conn, `UPDATE accounts SET password = NULL, password_before = NULL, password_since = $1 WHERE name = 'c@x.vn'`, day(5))
	a, err := s.Account(t.Context(), "c@x.vn")
	if err != nil || len(a.Password.Known) > 0 || !a.Password.Since.Equal(day(5)) {
		t.Errorf("%+v, %v; want none known, since %s", a.Password, err, day(5))
	}
}
