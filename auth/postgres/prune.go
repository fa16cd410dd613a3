package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
	"congthu/auth/audit"
)

var _ audit.Prunable = (*Store)(nil)

const (
	selectRemoved = `SELECT seq, hash, at FROM removed`
	selectLink    = `SELECT seq, hash, at FROM events WHERE seq = $1`
	// selectOlder reads only the old events and one more.
	selectOlder = `SELECT seq, hash, at FROM events
		WHERE seq > $1 AND seq < coalesce((SELECT seq FROM events WHERE seq > $1 AND at >= $2 ORDER BY seq LIMIT 1), 9223372036854775807)
		ORDER BY seq DESC LIMIT 1`
	moveRemoved  = `UPDATE removed SET seq = $1, hash = $2, at = $3`
	removeEvents = `DELETE FROM events WHERE seq <= $1`
)

func scanLink(row pgx.Row, h *audit.Head) error {
	return row.Scan(&h.Seq, &h.Hash, (*instant)(&h.At))
}

// Removed implements [audit.OldestReader].
func (s *Store) Removed(ctx context.Context) (at audit.Head, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		return scanLink(s.pool.QueryRow(ctx, selectRemoved), &at)
	})
	if err != nil {
		return at, fmt.Errorf("read what was removed of the audit log: %w", err)
	}
	return at, nil
}

// Older implements [audit.Prunable].
func (s *Store) Older(ctx context.Context, before time.Time) (at audit.Head, err error) {
	defer s.operated(auth.OpPrune, time.Now(), &err)
	gone, err := s.Removed(ctx)
	if err != nil {
		return gone, err
	}
	err = s.read(ctx, func(ctx context.Context) error {
		at = gone
		return none(scanLink(s.pool.QueryRow(ctx, selectOlder, gone.Seq, instant(before)), &at))
	})
	if err != nil {
		return at, fmt.Errorf("look for old events: %w", err)
	}
	return at, nil
}

// RemoveEvents implements [audit.Prunable]. It takes no lock that a login needs. If it
// is made twice, because the first answer was lost, the second continues after the
// first.
func (s *Store) RemoveEvents(ctx context.Context, announced int64, most int) (gone audit.Head, err error) {
	defer s.operated(auth.OpPrune, time.Now(), &err)
	var own error
	err = s.apart(ctx, func(ctx context.Context, tx pgx.Tx) error {
		own = nil
		if err := scanLink(tx.QueryRow(ctx, selectRemoved+` FOR UPDATE`), &gone); err != nil {
			return err
		}
		var told auth.Event
		err := tx.QueryRow(ctx, `SELECT `+eventColumns+` FROM events WHERE seq = $1`, announced).Scan(eventFields(&told)...)
		if none(err) != nil {
			return err
		}
		var last int64
		if last, own = audit.Removes(told, gone, most); own != nil || last <= gone.Seq {
			return nil
		}
		var next audit.Head
		err = scanLink(tx.QueryRow(ctx, selectLink, last), &next)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			own = &audit.BrokenChain{Seq: last, Why: "the event is missing"}
			return nil
		case err != nil:
			return err
		}
		if _, err := tx.Exec(ctx, moveRemoved, next.Seq, next.Hash, instant(next.At)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, removeEvents, next.Seq); err != nil {
			return err
		}
		gone = next
		return nil
	})
	if err == nil {
		err = own
	}
	if err != nil {
		return audit.Head{}, err
	}
	return gone, nil
}

// Alone implements [audit.Prunable], by a lock of a session of its own, which ends with
// the process. If the connection is lost meanwhile, another process may begin the same
// work, which costs time but does no harm.
func (s *Store) Alone(ctx context.Context, chore string, f func(context.Context) error) (ran bool, err error) {
	if s.isClosed() {
		return false, ErrClosed
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return false, explain(ctx, err)
	}
	defer closeConn(conn)
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockKey("chore:"+chore)).Scan(&ran); err != nil || !ran {
		return false, explain(ctx, err)
	}
	defer func() {
		// Unlock explicitly: PostgreSQL may notice the end of the connection later.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}()
	return true, f(ctx)
}
