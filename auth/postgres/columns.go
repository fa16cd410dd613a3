package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"congthu/auth"
)

// Columns and fields are listed together, here: a row is scanned into the same list of
// pointers that a statement gets as its arguments.

const accountColumns = `name, registered, first_login, last_login, failures, mistakes,
	stale_at, stale_source, lock_cause, locked_at, locked_by, lock_reason,
	revoked_at, revoked_by, revoked_reason, restored,
	password_salt, password, password_before, password_since, grace_until, alerted_on,
	unit, wrong_on, wrong_that_day, seen, passwords`

func accountFields(a *auth.Account) []any {
	return []any{
		&a.Name, (*instant)(&a.Registered), (*instant)(&a.FirstLogin), (*instant)(&a.LastLogin),
		&a.Failures, (*list[auth.Mistake])(&a.Mistakes),
		(*instant)(&a.Stale.At), (*source)(&a.Stale.Source),
		(*lockCause)(&a.Lock.Cause), (*instant)(&a.Lock.At), &a.Lock.By, &a.Lock.Reason,
		(*instant)(&a.Revocation.At), &a.Revocation.By, &a.Revocation.Reason, (*instant)(&a.Restored),
		&a.Password.Salt, (*latest)(&a.Password), (*before)(&a.Password),
		(*instant)(&a.Password.Since), (*instant)(&a.GraceUntil), &a.AlertedOn,
		&a.Unit, &a.WrongOn, &a.WrongThatDay, (*list[auth.Seen])(&a.Seen), (*passwords)(&a.Password),
	}
}

const eventColumns = `seq, at, kind, account, actor, source, was, became, reason, hash`

func eventFields(e *auth.Event) []any {
	return []any{
		&e.Seq, (*instant)(&e.At), &e.Kind, &e.Account, &e.Actor, (*source)(&e.Source),
		&e.Before, &e.After, &e.Reason, &e.Hash,
	}
}

// places returns "($1, $2, ...)" for the columns.
func places(columns string) string {
	var b strings.Builder
	for i := range strings.Count(columns, ",") + 1 {
		fmt.Fprintf(&b, ", $%d", i+1)
	}
	return "(" + b.String()[2:] + ")"
}

// instant is a time with microseconds, NULL for never.
type instant time.Time

// TimestamptzValue implements pgtype.TimestamptzValuer.
func (i instant) TimestamptzValue() (pgtype.Timestamptz, error) {
	t := time.Time(i)
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}, nil
}

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (i *instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	*i = instant{}
	if v.InfinityModifier != pgtype.Finite {
		return fmt.Errorf("time: unexpected %v", v.InfinityModifier)
	}
	if v.Valid {
		*i = instant(v.Time.UTC())
	}
	return nil
}

// source is an address and port as text, empty for none.
type source netip.AddrPort

// TextValue implements pgtype.TextValuer.
func (s source) TextValue() (pgtype.Text, error) {
	text, err := netip.AddrPort(s).MarshalText()
	return pgtype.Text{String: string(text), Valid: true}, err
}

// ScanText implements pgtype.TextScanner.
func (s *source) ScanText(v pgtype.Text) error {
	return (*netip.AddrPort)(s).UnmarshalText([]byte(v.String))
}

// list is JSON, empty for none.
type list[T any] []T

// TextValue implements pgtype.TextValuer.
func (l list[T]) TextValue() (pgtype.Text, error) {
	if len(l) == 0 {
		return pgtype.Text{Valid: true}, nil
	}
	text, err := json.Marshal([]T(l))
	return pgtype.Text{String: string(text), Valid: true}, err
}

// ScanText implements pgtype.TextScanner.
func (l *list[T]) ScanText(v pgtype.Text) error {
	*l = nil
	if v.String == "" {
		return nil
	}
	return json.Unmarshal([]byte(v.String), (*[]T)(l))
}

// lockCause is the name of a cause, empty while not locked.
type lockCause auth.LockCause

// TextValue implements pgtype.TextValuer.
func (c lockCause) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: auth.LockCause(c).String(), Valid: true}, nil
}

// ScanText implements pgtype.TextScanner.
func (c *lockCause) ScanText(v pgtype.Text) error {
	*c = lockCause(auth.NotLocked)
	if v.String == "" {
		return nil
	}
	for _, cause := range auth.LockCauses() {
		if cause.String() == v.String {
			*c = lockCause(cause)
			return nil
		}
	}
	return fmt.Errorf("unknown lock cause %q", v.String)
}

// The fingerprints of passwords are in the column passwords (JSON, NULL for none). The
// latest two are also in columns of their own, which gateways of earlier versions use:
// see [auth.Password.Recall]. They are scanned in the order of accountColumns: latest
// and before leave their values for passwords, which comes last.
type (
	latest    auth.Password
	before    auth.Password
	passwords auth.Password
)

// BytesValue implements pgtype.BytesValuer.
func (l *latest) BytesValue() ([]byte, error) {
	o, _ := (*auth.Password)(l).Latest()
	return o, nil
}

// ScanBytes implements pgtype.BytesScanner.
func (l *latest) ScanBytes(v []byte) error {
	l.Known = []auth.KnownPassword{{Fingerprint: bytes.Clone(v)}, {}}
	return nil
}

// BytesValue implements pgtype.BytesValuer.
func (b *before) BytesValue() ([]byte, error) {
	_, o := (*auth.Password)(b).Latest()
	return o, nil
}

// ScanBytes implements pgtype.BytesScanner.
func (b *before) ScanBytes(v []byte) error {
	b.Known[1].Fingerprint = bytes.Clone(v)
	return nil
}

// TextValue implements pgtype.TextValuer.
func (p *passwords) TextValue() (pgtype.Text, error) {
	if len(p.Known) == 0 {
		return pgtype.Text{}, nil
	}
	return list[auth.KnownPassword](p.Known).TextValue()
}

// ScanText implements pgtype.TextScanner.
func (p *passwords) ScanText(v pgtype.Text) error {
	latest, before := p.Known[0].Fingerprint, p.Known[1].Fingerprint
	if err := (*list[auth.KnownPassword])(&p.Known).ScanText(v); err != nil {
		return err
	}
	(*auth.Password)(p).Recall(latest, before)
	return nil
}
