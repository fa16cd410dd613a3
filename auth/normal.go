package auth

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// Normal returns a copy of the account that shares no memory with a, in the
// form in which every store gives it back: times in UTC with microseconds,
// nothing for empty slices, and text that any database takes.
func (a Account) Normal() Account {
	a = a.Clone()
	for _, t := range []*time.Time{
		&a.Registered, &a.FirstLogin, &a.LastLogin, &a.Stale.At, &a.Lock.At, &a.Revocation.At,
		&a.Restored, &a.Password.Since, &a.GraceUntil,
	} {
		*t = NormalTime(*t)
	}
	for _, s := range []*string{&a.Unit, &a.WrongOn, &a.Lock.By, &a.Lock.Reason, &a.Revocation.By, &a.Revocation.Reason, &a.AlertedOn} {
		*s = normalText(*s)
	}
	for i := range a.Mistakes {
		a.Mistakes[i].At = NormalTime(a.Mistakes[i].At)
	}
	for i := range a.Seen {
		a.Seen[i].At = NormalTime(a.Seen[i].At)
	}
	for i := range a.Password.Known {
		a.Password.Known[i].Since = NormalTime(a.Password.Known[i].Since)
	}
	return a
}

// Clone returns a copy of the account that shares no memory with a.
func (a Account) Clone() Account {
	a.Mistakes, a.Seen = ownSlice(a.Mistakes), ownSlice(a.Seen)
	a.Password = a.Password.clone()
	return a
}

// Blank reports whether there is nothing to remember of a normal account: it
// reads like that of a name never seen, and takes no room.
func (a Account) Blank() bool { return reflect.DeepEqual(a, Account{Name: a.Name}) }

// Normal returns the event in the form in which every store gives it back; its
// hash must be that of what is read.
func (e Event) Normal() Event {
	e.At = NormalTime(e.At)
	for _, s := range []*string{&e.Actor, &e.Before, &e.After, &e.Reason} {
		*s = normalText(*s)
	}
	return e
}

// NormalTime returns a time in the form in which every store gives it back: in UTC and
// whole microseconds; the zero time stays itself.
func NormalTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// normalText replaces invalid UTF-8, which JSON (and so the hash of an event)
// would not give back, and NUL, which PostgreSQL refuses.
func normalText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func ownSlice[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}
