package sqlite

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

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
		(*octets)(&a.Password.Salt), (*latest)(&a.Password), (*before)(&a.Password),
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

// places returns "(?, ?, ...)" for the columns.
func places(columns string) string {
	return "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
}

// instant is a time as microseconds since 1970, NULL for never.
type instant time.Time

func (i *instant) Value() (driver.Value, error) {
	t := time.Time(*i)
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMicro(), nil
}

func (i *instant) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*i = instant{}
	case int64:
		*i = instant(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("time: unexpected %T", v)
	}
	return nil
}

// source is an address and port as text, empty for none.
type source netip.AddrPort

func (s *source) Value() (driver.Value, error) {
	text, err := netip.AddrPort(*s).MarshalText()
	return string(text), err
}

func (s *source) Scan(v any) error {
	text, err := scanText(v)
	if err != nil {
		return err
	}
	return (*netip.AddrPort)(s).UnmarshalText([]byte(text))
}

// list is JSON, empty for none.
type list[T any] []T

func (l *list[T]) Value() (driver.Value, error) {
	if len(*l) == 0 {
		return "", nil
	}
	text, err := json.Marshal([]T(*l))
	return string(text), err
}

func (l *list[T]) Scan(v any) error {
	*l = nil
	text, err := scanText(v)
	if err != nil || text == "" {
		return err
	}
	return json.Unmarshal([]byte(text), (*[]T)(l))
}

// lockCause is the name of a cause, empty while not locked.
type lockCause auth.LockCause

func (c *lockCause) Value() (driver.Value, error) {
	return auth.LockCause(*c).String(), nil
}

func (c *lockCause) Scan(v any) error {
	text, err := scanText(v)
	if err != nil {
		return err
	}
	*c = lockCause(auth.NotLocked)
	if text == "" {
		return nil
	}
	for _, cause := range auth.LockCauses() {
		if cause.String() == text {
			*c = lockCause(cause)
			return nil
		}
	}
	return fmt.Errorf("unknown lock cause %q", text)
}

// octets are NULL when empty.
type octets []byte

func (o *octets) Value() (driver.Value, error) {
	if len(*o) == 0 {
		return nil, nil
	}
	return []byte(*o), nil
}

func (o *octets) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*o = nil
	case []byte:
		*o = append(octets(nil), v...)
	default:
		return fmt.Errorf("octets: unexpected %T", v)
	}
	return nil
}

// The fingerprints of passwords are in the column passwords (JSON, NULL for none). The
// latest two are also in columns of their own, which are older: see
// [auth.Password.Recall]. They are scanned in the order of accountColumns: latest and
// before leave their values for passwords, which comes last.
type (
	latest    auth.Password
	before    auth.Password
	passwords auth.Password
)

func (l *latest) Value() (driver.Value, error) {
	o, _ := (*auth.Password)(l).Latest()
	return (*octets)(&o).Value()
}

func (l *latest) Scan(v any) error {
	l.Known = []auth.KnownPassword{{}, {}}
	return (*octets)(&l.Known[0].Fingerprint).Scan(v)
}

func (b *before) Value() (driver.Value, error) {
	_, o := (*auth.Password)(b).Latest()
	return (*octets)(&o).Value()
}

func (b *before) Scan(v any) error { return (*octets)(&b.Known[1].Fingerprint).Scan(v) }

func (p *passwords) Value() (driver.Value, error) {
	if len(p.Known) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(p.Known)
	return string(text), err
}

func (p *passwords) Scan(v any) error {
	latest, before := p.Known[0].Fingerprint, p.Known[1].Fingerprint
	if v == nil {
		v = ""
	}
	if err := (*list[auth.KnownPassword])(&p.Known).Scan(v); err != nil {
		return err
	}
	(*auth.Password)(p).Recall(latest, before)
	return nil
}

func scanText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	}
	return "", fmt.Errorf("text: unexpected %T", v)
}
