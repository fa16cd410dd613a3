package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"congthu/auth"
)

// EachName calls f for every name in a database, in the order of the names, until f
// returns an error, which is returned. A gateway may be using the database; nothing is
// changed. If there is no database there are no names.
func EachName(ctx context.Context, path string, f func(auth.KeptName) error) (err error) {
	defer func() { err = explain(path, err) }()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Size() == 0:
		return nil // a first start was cut short
	}
	db, err := openToLook(path)
	if err != nil {
		return err
	}
	defer db.Close()
	var tables int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'accounts'`).Scan(&tables)
	if err != nil || tables == 0 {
		return err
	}
	rows, err := db.QueryContext(ctx, `SELECT name, registered IS NOT NULL, lock_cause <> '', revoked_at IS NOT NULL FROM accounts ORDER BY name`)
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
