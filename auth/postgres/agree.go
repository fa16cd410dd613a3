package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
)

// Agree makes sure that all processes on this database have the same value of
// something. The first one's holds; for any other it returns [auth.ErrDisagreement].
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
		return fmt.Errorf("%w: the %s", auth.ErrDisagreement, what)
	}
	return nil
}

// Agreed returns what was agreed on; known is false for nothing yet.
func (s *Store) Agreed(ctx context.Context, what string) (value string, known bool, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, `SELECT value FROM agreed WHERE what = $1`, what).Scan(&value)
		known = err == nil
		return none(err)
	})
	if err != nil {
		return "", false, fmt.Errorf("read what was agreed on: %w", err)
	}
	return value, known, nil
}

// agreedOn returns what the processes of a database have agreed on; "" for
// nothing yet.
func agreedOn(ctx context.Context, conn *pgx.Conn, what string) (value string, err error) {
	err = conn.QueryRow(ctx, `SELECT value FROM agreed WHERE what = $1`, what).Scan(&value)
	return value, none(err)
}
