package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
	"congthu/auth/audit"
)

const selectAgreed = `SELECT value FROM agreed WHERE what = $1`

// Agree makes sure that all processes on this database have the same value for what. The
// value of the first one is stored; for any other value the error is
// [auth.ErrDisagreement]. The value is stored as it is, so it must not be a secret.
func (s *Store) Agree(ctx context.Context, what, value string) error {
	var agreed string
	err := s.apart(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// It also writes an existing value: the value that was read may be missing on
		// the standby, and is there when this commit is confirmed.
		return tx.QueryRow(ctx, `INSERT INTO agreed (what, value) VALUES ($1, $2)
			ON CONFLICT (what) DO UPDATE SET value = agreed.value RETURNING value`, what, value).Scan(&agreed)
	})
	switch {
	case err != nil:
		return fmt.Errorf("agree on the %s: %w", what, err)
	case agreed != value:
		return fmt.Errorf("%w: the %s", auth.ErrDisagreement, what)
	}
	return nil
}

// Agreed returns the value that was agreed on; known is false if there is none yet.
func (s *Store) Agreed(ctx context.Context, what string) (value string, known bool, err error) {
	err = s.read(ctx, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, selectAgreed, what).Scan(&value)
		known = err == nil
		return none(err)
	})
	if err != nil {
		return "", false, fmt.Errorf("read what was agreed on: %w", err)
	}
	return value, known, nil
}

// agreedOn returns the value on which the processes of a database have agreed; "" if
// there is none yet.
func agreedOn(ctx context.Context, conn *pgx.Conn, what string) (value string, err error) {
	err = conn.QueryRow(ctx, selectAgreed, what).Scan(&value)
	return value, none(err)
}

// rules is the key of the agreement on the settings that all gateways share.
const rules = "rules"

// Rules returns the settings on which the gateways on this database have agreed; "" if
// there are none yet.
func (s *Store) Rules(ctx context.Context) (string, error) {
	text, _, err := s.Agreed(ctx, rules)
	return text, err
}

// AgreeOnRules lets decide choose the settings that are agreed on from now on. decide
// gets the present ones, and the number of other processes that have registered
// settings. The result is stored with its events in one transaction, which also stores
// that this process works by its settings; no other process decides meanwhile. decide
// may run more than once. If it returns an error, that error is returned and nothing is
// changed.
//
// A process that was killed counts as running for one lease. If decide refuses, and none
// of the others shows a heartbeat, AgreeOnRules asks again until they are treated as
// dead, for at most twice the longest lease.
func (s *Store) AgreeOnRules(ctx context.Context, settings string, decide func(agreed string, others int) (next string, events []auth.Event, err error)) error {
	seen := make(map[int64]heartbeat)
	for began := time.Now(); ; {
		var own error
		var others map[int64]heartbeat
		err := s.apart(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			others, own, err = s.decide(ctx, tx, settings, decide)
			return err
		})
		if err != nil {
			return fmt.Errorf("agree on the rules: %w", err)
		}
		if own == nil {
			name := nameOf(settings)
			s.rules.Store(&name) // for a new registration of this process
			return nil
		}
		if !errors.Is(own, auth.ErrDisagreement) || living(seen, others) || time.Since(began) > 2*longest(s.o.Lease, others) {
			return own
		}
		wait(ctx, max(10*time.Millisecond, s.o.Lease/20))
		if ctx.Err() != nil {
			return own
		}
	}
}

// living stores the counters of processes, and reports whether a counter has changed.
func living(seen, now map[int64]heartbeat) (yes bool) {
	for id, p := range now {
		before, known := seen[id]
		yes = yes || known && before.beats != p.beats
		seen[id] = p
	}
	return yes
}

// longest returns the longest of these leases.
func longest(lease time.Duration, others map[int64]heartbeat) time.Duration {
	for _, p := range others {
		lease = max(lease, p.lease)
	}
	return lease
}

// decide makes one decision; own is the error of f.
func (s *Store) decide(ctx context.Context, tx pgx.Tx, settings string, f func(string, int) (string, []auth.Event, error)) (others map[int64]heartbeat, own, err error) {
	// This lock comes first. Its holder then takes the head of the audit log, as every
	// transaction that appends an event; none takes the two in the other order.
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockKey("agree:"+rules)); err != nil {
		return nil, nil, err
	}
	var agreed string
	if err := none(tx.QueryRow(ctx, selectAgreed, rules).Scan(&agreed)); err != nil {
		return nil, nil, err
	}
	rows, err := tx.Query(ctx, `SELECT id, beats, coalesce(lease, 0) FROM holders WHERE id <> $1 AND gone IS NULL AND rules IS NOT NULL`, s.identity.Load().holder)
	if err != nil {
		return nil, nil, err
	}
	others = make(map[int64]heartbeat)
	var id, beats, lease int64
	_, err = pgx.ForEachRow(rows, []any{&id, &beats, &lease}, func() error {
		others[id] = heartbeat{beats, time.Duration(lease) * time.Microsecond}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	next, events, own := f(agreed, len(others))
	if own != nil {
		return others, own, nil
	}
	_, err = tx.Exec(ctx, `UPDATE holders SET rules = $2 WHERE id = $1`, s.identity.Load().holder, nameOf(settings))
	if err != nil || next == agreed && len(events) == 0 {
		return others, nil, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO agreed (what, value) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET value = excluded.value`, rules, next)
	if err != nil || len(events) == 0 {
		return others, nil, err
	}
	return others, nil, appendEvents(ctx, tx, events)
}

// appendEvents appends events that belong to no account to the audit log.
func appendEvents(ctx context.Context, tx pgx.Tx, events []auth.Event) error {
	// As in every change of accounts.
	if _, err := tx.Exec(ctx, shareChanges, lockKey("changes")); err != nil {
		return err
	}
	var head audit.Head
	if err := tx.QueryRow(ctx, lockHead).Scan(&head.Seq, &head.Hash); err != nil {
		return err
	}
	next, err := head.Append(events)
	if err != nil {
		return err
	}
	for i := range events {
		if _, err := tx.Exec(ctx, writeEvent, eventFields(&events[i])...); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, advanceHead, next.Seq, next.Hash); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, notifyOfTheEvent, channel, strconv.FormatInt(next.Seq, 10))
	return err
}

// nameOf returns a short digest that identifies settings.
func nameOf(settings string) string {
	sum := sha256.Sum256([]byte(settings))
	return hex.EncodeToString(sum[:8])
}
