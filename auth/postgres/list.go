package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"congthu/auth"
	"congthu/auth/audit"
)

// page is the number of events in one query of a scan of all events.
const page = 500

// query is a statement that is being built, with its arguments.
type query struct {
	where []string
	args  []any
}

// want adds a condition; each ? in it stands for the next argument.
func (q *query) want(condition string, args ...any) {
	for _, a := range args {
		q.args = append(q.args, a)
		condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(q.args)), 1)
	}
	q.where = append(q.where, condition)
}

// limited returns the query that begins with text, with its order and limit.
func (q *query) limited(text, order string, limit int) string {
	if len(q.where) > 0 {
		text += ` WHERE ` + strings.Join(q.where, " AND ")
	}
	q.args = append(q.args, limit)
	return text + fmt.Sprintf(` ORDER BY %s LIMIT $%d`, order, len(q.args))
}

// List returns the accounts that match the filter, in the order of names.
func (s *Store) List(ctx context.Context, want auth.Filter) (_ []auth.Account, err error) {
	defer s.operated(auth.OpList, time.Now(), &err)
	var q query
	q.want("name > ?", string(want.After))
	switch {
	case want.Shared && want.Unknown:
	case want.Shared:
		q.want(isShared)
	case want.Unknown:
		q.want("NOT " + isShared)
	default:
		q.want("registered IS NOT NULL")
	}
	if part := norm.NFC.String(strings.ToLower(want.Contains)); part != "" {
		q.want("strpos(name, ?) > 0", part)
	}
	if want.Locked {
		q.want("lock_cause <> ''")
	}
	if want.Revoked {
		q.want("revoked_at IS NOT NULL")
	}
	if !want.IdleBefore.IsZero() {
		q.want("coalesce(last_login, registered) < ?", instant(want.IdleBefore))
	}
	if !want.PasswordBefore.IsZero() {
		q.want("password_since < ?", instant(want.PasswordBefore))
	}
	text := q.limited(`SELECT `+accountColumns+` FROM accounts`, "name", cmp.Or(want.Limit, auth.DefaultLimit))
	accounts, err := collect(ctx, s, func(row pgx.CollectableRow) (auth.Account, error) {
		var a auth.Account
		err := row.Scan(accountFields(&a)...)
		return a.Normalized(), err
	}, text, q.args...)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

// UnknownNames is the number of names in the store that have never had a login: see
// [Options].MaxUnknown.
func (s *Store) UnknownNames(ctx context.Context) (n int, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT unknown FROM counts`).Scan(&n)
	})
	return n, err
}

const (
	// countWrong is the error of the count of unknown names, at one moment: a
	// transaction that adds or removes such a name changes the count as well.
	countWrong  = `SELECT unknown - (SELECT count(*) FROM accounts WHERE registered IS NULL AND NOT ` + isShared + `) FROM counts`
	mendUnknown = `UPDATE counts SET unknown = unknown - $1`
)

// mendCount corrects the count of unknown names. A gateway of a version that does not
// know shared counters counts them as such names when a slot of one expires or it
// forgets one. mendCount takes no lock for which a login waits except that of the count,
// and that only if the count is wrong.
func (s *Store) mendCount(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// One after the other: two at once would both correct the same error.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("recount")); err != nil {
			return err
		}
		var wrong int64
		if err := tx.QueryRow(ctx, countWrong).Scan(&wrong); err != nil || wrong == 0 {
			return err
		}
		_, err := tx.Exec(ctx, mendUnknown, wrong)
		return err
	})
}

// Each implements [auth.Scanner]; see [auth.Scan].
func (s *Store) Each(ctx context.Context, f func(auth.Account) error) error {
	return auth.Scan(ctx, s, auth.Filter{}, f)
}

// Events returns the events that match the filter, newest first.
func (s *Store) Events(ctx context.Context, want auth.EventFilter) (_ []auth.Event, err error) {
	defer s.operated(auth.OpEvents, time.Now(), &err)
	var q query
	if want.Account != "" || auth.OfNoAccount(want.Kinds) {
		q.want("account = ?", string(want.Account))
	}
	if want.Before > 0 {
		q.want("seq < ?", want.Before)
	}
	if len(want.Kinds) > 0 {
		kinds := make([]string, len(want.Kinds))
		for i, k := range want.Kinds {
			kinds[i] = string(k)
		}
		q.want("kind = ANY(?)", kinds)
	}
	text := q.limited(`SELECT `+eventColumns+` FROM events`, "seq DESC", cmp.Or(want.Limit, auth.DefaultLimit))
	events, err := collect(ctx, s, scanEvent, text, q.args...)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return events, nil
}

func scanEvent(row pgx.CollectableRow) (e auth.Event, err error) {
	err = row.Scan(eventFields(&e)...)
	return e, err
}

// selectBounds reads all values in one statement, so at one moment.
const selectBounds = `SELECT h.seq, h.hash, r.seq, r.hash, r.at,
	(SELECT coalesce(min(seq), 0) FROM events), (SELECT coalesce(max(seq), 0) FROM events) FROM head h, removed r`

// Verify reads the audit log from the first event and checks that no event is missing
// and that each has the right hash; progress may be nil. Events that are appended
// meanwhile are not checked. An [*audit.BrokenChain] says at which event the log was
// tampered with.
func (s *Store) Verify(ctx context.Context, progress func(checked, total int64)) (at audit.Head, err error) {
	defer s.operated(auth.OpVerify, time.Now(), &err)
	at, err = audit.Verify(audit.Reader{
		Bounds: func() (b audit.Bounds, err error) {
			err = s.read(ctx, func(ctx context.Context) error {
				return s.pool.QueryRow(ctx, selectBounds).Scan(&b.Head.Seq, &b.Head.Hash,
					&b.Removed.Seq, &b.Removed.Hash, (*instant)(&b.Removed.At), &b.Oldest, &b.Newest)
			})
			return b, err
		},
		Read: func(after, n int64) ([]auth.Event, error) {
			return collect(ctx, s, scanEvent, `SELECT `+eventColumns+` FROM events WHERE seq > $1 ORDER BY seq LIMIT $2`, after, n)
		},
		Progress: progress,
	})
	if err != nil {
		return at, fmt.Errorf("verify: %w", err)
	}
	return at, nil
}

// collect returns the rows of a query.
func collect[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], text string, args ...any) (found []T, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, text, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scan)
		return err
	})
	if len(found) == 0 {
		found = nil
	}
	return found, err
}
