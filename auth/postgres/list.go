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

// page is how many events are read at once where all are wanted.
const page = 500

// query is a statement with its arguments, as it is put together.
type query struct {
	where []string
	args  []any
}

// want adds a condition in which ? is the next argument.
func (q *query) want(condition string, args ...any) {
	for _, a := range args {
		q.args = append(q.args, a)
		condition = strings.Replace(condition, "?", fmt.Sprintf("$%d", len(q.args)), 1)
	}
	q.where = append(q.where, condition)
}

// limited ends a query that begins with text.
func (q *query) limited(text, order string, limit int) string {
	if len(q.where) > 0 {
		text += ` WHERE ` + strings.Join(q.where, " AND ")
	}
	q.args = append(q.args, limit)
	return text + fmt.Sprintf(` ORDER BY %s LIMIT $%d`, order, len(q.args))
}

// List returns the accounts that the filter wants, in the order of names.
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

// UnknownNames is how many names are remembered that nobody ever logged in with:
// see [Options.MaxUnknown].
func (s *Store) UnknownNames(ctx context.Context) (n int, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT unknown FROM counts`).Scan(&n)
	})
	return n, err
}

const (
	// countWrong tells by how much the count of unknown names is wrong, at one
	// moment: whoever adds or takes one alters the count in the same transaction.
	countWrong  = `SELECT unknown - (SELECT count(*) FROM accounts WHERE registered IS NULL AND NOT ` + isShared + `) FROM counts`
	mendUnknown = `UPDATE counts SET unknown = unknown - $1`
)

// mendCount sets the count of unknown names right. A gateway of a version that does
// not know shared counters takes them for such names, when a slot of one lapses or
// it forgets one. It takes no lock that a login waits for but that of the count,
// and only when that is wrong.
func (s *Store) mendCount(ctx context.Context, conn *pgx.Conn) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// One after the other: two would take the same away twice.
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

// Events returns the events that the filter wants, newest first.
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

// selectBounds takes all at one moment.
const selectBounds = `SELECT h.seq, h.hash, r.seq, r.hash, r.at,
	(SELECT coalesce(min(seq), 0) FROM events), (SELECT coalesce(max(seq), 0) FROM events) FROM head h, removed r`

// Verify walks the audit log from the first event and checks that none is
// missing and each has the hash that it must; progress may be nil. Events that
// are appended meanwhile are left for the next time. An [*audit.BrokenChain]
// says where somebody tampered with the log.
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
