package postgres

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"congthu/auth"
)

// normal returns a deep copy of an account as it will be read back: times in
// UTC with microseconds, nothing for empty slices, text that is valid.
func normal(a auth.Account) auth.Account {
	for _, t := range []*time.Time{
		&a.Registered, &a.FirstLogin, &a.LastLogin, &a.Stale.At, &a.Lock.At, &a.Revocation.At,
		&a.Restored, &a.Password.Since, &a.GraceUntil,
	} {
		*t = micro(*t)
	}
	for _, s := range []*string{&a.Lock.By, &a.Lock.Reason, &a.Revocation.By, &a.Revocation.Reason, &a.AlertedOn} {
		*s = valid(*s)
	}
	for _, b := range []*[]byte{&a.Password.Salt, &a.Password.Current, &a.Password.Previous} {
		*b = copied(*b)
	}
	a.Mistakes = copied(a.Mistakes)
	for i := range a.Mistakes {
		a.Mistakes[i].At = micro(a.Mistakes[i].At)
	}
	return a
}

// normalEvent does the same for an event; its hash must be that of what is read
// back.
func normalEvent(e auth.Event) auth.Event {
	e.At = micro(e.At)
	for _, s := range []*string{&e.Actor, &e.Before, &e.After, &e.Reason} {
		*s = valid(*s)
	}
	return e
}

func micro(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// valid replaces invalid UTF-8 and NUL, both of which PostgreSQL refuses.
func valid(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func copied[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// empty reports whether there is nothing to remember of a normal account.
func empty(a auth.Account) bool {
	return reflect.DeepEqual(a, auth.Account{Name: a.Name})
}
