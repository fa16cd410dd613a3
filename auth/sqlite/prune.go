package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

var _ audit.Prunable = (*Store)(nil)

const selectRemoved = `SELECT seq, hash, at FROM removed`

// Removed implements [audit.OldestReader].
func (s *Store) Removed(ctx context.Context) (at audit.Head, err error) {
	if err := s.usable(); err != nil {
		return at, err
	}
	if err := scanHead(s.readers.QueryRowContext(ctx, selectRemoved), &at); err != nil {
		return at, fmt.Errorf("read what was removed of the audit log: %w", s.explain(err))
	}
	return at, nil
}

func scanHead(row *sql.Row, h *audit.Head) error {
	return row.Scan(&h.Seq, &h.Hash, (*instant)(&h.At))
}

// selectOlder reads only the old events and one more.
const selectOlder = `SELECT seq, hash, at FROM events
	WHERE seq > ?1 AND seq < coalesce((SELECT seq FROM events WHERE seq > ?1 AND at >= ?2 ORDER BY seq LIMIT 1), 9223372036854775807)
	ORDER BY seq DESC LIMIT 1`

// Older implements [audit.Prunable].
func (s *Store) Older(ctx context.Context, before time.Time) (at audit.Head, err error) {
	defer s.operated(auth.OpPrune, s.now(), &err)
	gone, err := s.Removed(ctx)
	if err != nil {
		return gone, err
	}
	err = scanHead(s.readers.QueryRowContext(ctx, selectOlder, gone.Seq, before.UnixMicro()), &at)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return gone, nil
	case err != nil:
		return at, fmt.Errorf("look for old events: %w", s.explain(err))
	}
	return at, nil
}

// RemoveEvents implements [audit.Prunable]. It is a transaction of its own, like a batch
// of accounts: changes of other callers do not fail with it.
func (s *Store) RemoveEvents(ctx context.Context, announced int64, most int) (at audit.Head, err error) {
	defer s.operated(auth.OpPrune, s.now(), &err)
	p := &pruning{announced: announced, most: most}
	if _, err := s.writer.update(ctx, &request{prune: p}); err != nil {
		return audit.Head{}, err
	}
	return p.gone, nil
}

// pruning is one step of a removal of events.
type pruning struct {
	announced int64
	most      int
	gone      audit.Head // the last event removed, afterwards
}

// prune removes events. An error that is found before anything is written is the
// request's own error.
func (t *transaction) prune(q *request) error {
	ctx, conn, p := context.Background(), t.conn.conn, q.prune
	if err := scanHead(conn.QueryRowContext(ctx, selectRemoved), &p.gone); err != nil {
		return err
	}
	var told auth.Event
	err := conn.QueryRowContext(ctx, `SELECT `+eventColumns+` FROM events WHERE seq = ?`, p.announced).Scan(eventFields(&told)...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var last int64
	if last, q.err = audit.Removes(told, p.gone, p.most); q.err != nil || last <= p.gone.Seq {
		return nil
	}
	next := audit.Head{}
	err = scanHead(conn.QueryRowContext(ctx, `SELECT seq, hash, at FROM events WHERE seq = ?`, last), &next)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		q.err = &audit.BrokenChain{Seq: last, Why: "the event is missing"}
		return nil
	case err != nil:
		return err
	}
	t.writes = true
	t.changes++
	if _, err := conn.ExecContext(ctx, `UPDATE removed SET seq = ?, hash = ?, at = ?`, next.Seq, next.Hash, (*instant)(&next.At)); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, `DELETE FROM events WHERE seq <= ?`, next.Seq); err != nil {
		return err
	}
	p.gone = next
	return nil
}

// Alone implements [audit.Prunable]: this process owns the file.
func (s *Store) Alone(ctx context.Context, _ string, f func(context.Context) error) (bool, error) {
	return true, f(ctx)
}
