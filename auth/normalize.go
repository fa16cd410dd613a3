package auth

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// Normalized returns a copy of the account that shares no memory with a, in the
// form in which every store returns it: times in UTC with microseconds, nil for empty
// slices, and text that every database accepts.
func (a Account) Normalized() Account {
	a = a.Clone()
	for _, t := range []*time.Time{
		&a.Registered, &a.FirstLogin, &a.LastLogin, &a.Stale.At, &a.Lock.At, &a.Revocation.At,
		&a.Restored, &a.Password.Since, &a.GraceUntil,
	} {
		*t = NormalizeTime(*t)
	}
	for _, s := range []*string{&a.Unit, &a.WrongOn, &a.Lock.By, &a.Lock.Reason, &a.Revocation.By, &a.Revocation.Reason, &a.AlertedOn} {
		*s = normalizeText(*s)
	}
	for i := range a.Mistakes {
		a.Mistakes[i].At = NormalizeTime(a.Mistakes[i].At)
	}
	for i := range a.Seen {
		a.Seen[i].At = NormalizeTime(a.Seen[i].At)
	}
	for i := range a.Password.Known {
		a.Password.Known[i].Since = NormalizeTime(a.Password.Known[i].Since)
	}
	return a
}

// Clone returns a copy of the account that shares no memory with a.
func (a Account) Clone() Account {
	a.Mistakes, a.Seen = ownSlice(a.Mistakes), ownSlice(a.Seen)
	a.Password = a.Password.clone()
	return a
}

// Blank reports whether a normalized account has nothing to store: it equals the
// account of a name never seen.
func (a Account) Blank() bool { return reflect.DeepEqual(a, Account{Name: a.Name}) }

// Normalized returns the event in the form in which every store returns it: its hash must
// be the hash of the event that is read later.
func (e Event) Normalized() Event {
	e.At = NormalizeTime(e.At)
	for _, s := range []*string{&e.Actor, &e.Before, &e.After, &e.Reason} {
		*s = normalizeText(*s)
	}
	return e
}

// NormalizeTime returns t in UTC with microseconds, as every store keeps it.
func NormalizeTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// normalizeText replaces invalid UTF-8, which JSON (and so the hash of an event)
// would not give back, and NUL, which PostgreSQL refuses.
func normalizeText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func ownSlice[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}
