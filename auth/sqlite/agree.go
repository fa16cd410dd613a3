package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"congthu/auth"
)

const selectAgreed = `SELECT value FROM agreed WHERE what = ?`

// Agree makes sure that all processes that ever use the database have the same value for
// what. The value of the first one is stored; for any other value the error is
// [auth.ErrDisagreement]. The value is stored as it is, so it must not be a secret.
func (s *Store) Agree(ctx context.Context, what, value string) error {
	if agreed, _, err := s.Agreed(ctx, what); err == nil && agreed == value && value != "" {
		return nil
	}
	q := &request{agree: &agreeing{what, value}}
	if _, err := s.writer.update(ctx, q); err != nil {
		return fmt.Errorf("agree on the %s: %w", what, err)
	}
	return nil
}

// Agreed returns the value that was agreed on. If known is set and the value is empty,
// there is a value, but an older version of the program did not store it.
func (s *Store) Agreed(ctx context.Context, what string) (value string, known bool, err error) {
	if err := s.usable(); err != nil {
		return "", false, err
	}
	err = s.readers.QueryRowContext(ctx, selectAgreed, what).Scan(&value)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read what was agreed on: %w", s.explain(err))
	}
	return value, true, nil
}

// agreeing is one call of Agree.
type agreeing struct{ what, value string }

func (t *transaction) agree(q *request) error {
	ctx, a := context.Background(), q.agree
	var agreed string
	err := t.conn.conn.QueryRowContext(ctx, selectAgreed, a.what).Scan(&agreed)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case err == nil && agreed == a.value:
		return nil
	case err == nil && agreed != "":
		q.err = auth.ErrDisagreement
		return nil
	}
	t.writes = true
	t.changes++
	_, err = t.conn.conn.ExecContext(ctx, `REPLACE INTO agreed VALUES (?, ?)`, a.what, a.value)
	return err
}
