package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"

	"congthu/auth"
	"congthu/auth/audit"
)

// List returns the accounts that match the filter, in the order of names.
func (s *Store) List(ctx context.Context, want auth.Filter) (_ []auth.Account, err error) {
	defer s.operated(auth.OpList, s.now(), &err)
	where, args := []string{"name > ?"}, []any{string(want.After)}
	switch {
	case want.Shared && want.Unknown:
	case want.Shared:
		where = append(where, isShared)
	case want.Unknown:
		where = append(where, "NOT "+isShared)
	default:
		where = append(where, "registered IS NOT NULL")
	}
	if part := norm.NFC.String(strings.ToLower(want.Contains)); part != "" {
		where, args = append(where, "instr(name, ?) > 0"), append(args, part)
	}
	if want.Locked {
		where = append(where, "lock_cause <> ''")
	}
	if want.Revoked {
		where = append(where, "revoked_at IS NOT NULL")
	}
	if !want.IdleBefore.IsZero() {
		where, args = append(where, "coalesce(last_login, registered) < ?"), append(args, want.IdleBefore.UnixMicro())
	}
	if !want.PasswordBefore.IsZero() {
		where, args = append(where, "password_since < ?"), append(args, want.PasswordBefore.UnixMicro())
	}
	query := `SELECT ` + accountColumns + ` FROM accounts WHERE ` + strings.Join(where, " AND ") + ` ORDER BY name LIMIT ?`
	accounts, err := collect(ctx, s, accountFields, query, append(args, cmp.Or(want.Limit, auth.DefaultLimit))...)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

// UnknownNames is the number of names in the store that have never had a login: see
// [Options].MaxUnknown.
func (s *Store) UnknownNames(context.Context) (int, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	s.slots.mu.Lock()
	defer s.slots.mu.Unlock()
	return s.slots.unknown, nil
}

// Each implements [auth.Scanner]; see [auth.Scan].
func (s *Store) Each(ctx context.Context, f func(auth.Account) error) error {
	return auth.Scan(ctx, s, auth.Filter{}, f)
}

// Events returns the events that match the filter, newest first.
func (s *Store) Events(ctx context.Context, want auth.EventFilter) (_ []auth.Event, err error) {
	defer s.operated(auth.OpEvents, s.now(), &err)
	var where []string
	var args []any
	if want.Account != "" || auth.OfNoAccount(want.Kinds) {
		where, args = append(where, "account = ?"), append(args, string(want.Account))
	}
	if want.Before > 0 {
		where, args = append(where, "seq < ?"), append(args, want.Before)
	}
	if len(want.Kinds) > 0 {
		where = append(where, "kind IN (?"+strings.Repeat(", ?", len(want.Kinds)-1)+")")
		for _, k := range want.Kinds {
			args = append(args, string(k))
		}
	}
	query := `SELECT ` + eventColumns + ` FROM events`
	if len(where) > 0 {
		query += ` WHERE ` + strings.Join(where, " AND ")
	}
	query += ` ORDER BY seq DESC LIMIT ?`
	events, err := collect(ctx, s, eventFields, query, append(args, cmp.Or(want.Limit, auth.DefaultLimit))...)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return events, nil
}

// selectBounds reads all values in one statement, so at one moment.
const selectBounds = `SELECT h.seq, h.hash, r.seq, r.hash, r.at,
	(SELECT coalesce(min(seq), 0) FROM events), (SELECT coalesce(max(seq), 0) FROM events) FROM head h, removed r`

// Verify reads the audit log from the first event and checks that no event is missing
// and that each has the right hash; progress may be nil. Events that are appended
// meanwhile are not checked. An [*audit.BrokenChain] says at which event the log was
// tampered with.
func (s *Store) Verify(ctx context.Context, progress func(checked, total int64)) (at audit.Head, err error) {
	defer s.operated(auth.OpVerify, s.now(), &err)
	if err := s.usable(); err != nil {
		return at, err
	}
	at, err = audit.Verify(audit.Reader{
		Bounds: func() (b audit.Bounds, err error) {
			err = s.readers.QueryRowContext(ctx, selectBounds).Scan(&b.Head.Seq, &b.Head.Hash,
				&b.Removed.Seq, &b.Removed.Hash, (*instant)(&b.Removed.At), &b.Oldest, &b.Newest)
			return b, s.explain(err)
		},
		Read: func(after, n int64) ([]auth.Event, error) {
			return collect(ctx, s, eventFields, `SELECT `+eventColumns+` FROM events WHERE seq > ? ORDER BY seq LIMIT ?`, after, n)
		},
		Progress: progress,
	})
	if err != nil {
		return at, fmt.Errorf("verify: %w", err)
	}
	return at, nil
}

// collect returns the rows of a query.
func collect[T any](ctx context.Context, s *Store, fields func(*T) []any, query string, args ...any) (found []T, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	defer func() { err = s.explain(err) }()
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var row T
		if err := rows.Scan(fields(&row)...); err != nil {
			return nil, err
		}
		found = append(found, row)
	}
	return found, rows.Err()
}
