package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrDisagreement: this process differs from the others in what all must have in
// common.
var ErrDisagreement = errors.New("this gateway differs from the others on the database")

// Agree makes sure that all processes on this database have the same value of
// something. The first one's holds; for any other it returns ErrDisagreement.
// The value is stored as it is, so it must be no secret.
func (s *Store) Agree(ctx context.Context, what, value string) error {
	var agreed string
	err := s.read(ctx, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, `INSERT INTO agreed (what, value) VALUES ($1, $2) ON CONFLICT DO NOTHING`, what, value)
		if err != nil {
			return err
		}
		return s.pool.QueryRow(ctx, `SELECT value FROM agreed WHERE what = $1`, what).Scan(&agreed)
	})
	switch {
	case err != nil:
		return fmt.Errorf("agree on the %s: %w", what, err)
	case agreed != value:
		return fmt.Errorf("%w in its %s", ErrDisagreement, what)
	}
	return nil
}

// agreedOn returns what the processes of a database have agreed on; "" for
// nothing yet.
func agreedOn(ctx context.Context, conn *pgx.Conn, what string) (value string, err error) {
	err = conn.QueryRow(ctx, `SELECT value FROM agreed WHERE what = $1`, what).Scan(&value)
	return value, none(err)
}
