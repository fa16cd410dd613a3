package postgres

import (
	"context"

	"congthu/auth"
)

// EachName calls f for every name in a database, in the order of the names, until f
// returns an error, which is returned. Nothing is changed. If there are no tables yet
// there are no names.
func EachName(ctx context.Context, o Options, f func(auth.KeptName) error) (err error) {
	s := &Store{o: o.withDefaults()}
	defer func() { err = explain(ctx, err) }()
	config, err := s.configure()
	if err != nil {
		return err
	}
	s.config = config.ConnConfig
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	version, err := schemaVersion(ctx, conn)
	if err != nil || version == 0 {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT name, registered IS NOT NULL, lock_cause <> '', revoked_at IS NOT NULL FROM accounts ORDER BY name`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var row auth.KeptName
		if err := rows.Scan(&row.Name, &row.Known, &row.Locked, &row.Revoked); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}
