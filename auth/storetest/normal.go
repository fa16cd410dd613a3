package storetest

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"congthu/auth"
)

// Normal returns a deep copy of an account as a store gives it back: times in
// UTC with microseconds, nothing for empty slices, and text that any database
// takes.
func Normal(a auth.Account) auth.Account {
	for _, t := range []*time.Time{
		&a.Registered, &a.FirstLogin, &a.LastLogin, &a.Stale.At, &a.Lock.At, &a.Revocation.At,
		&a.Restored, &a.Password.Since, &a.GraceUntil,
	} {
		*t = instant(*t)
	}
	for _, s := range []*string{&a.Lock.By, &a.Lock.Reason, &a.Revocation.By, &a.Revocation.Reason, &a.AlertedOn} {
		*s = text(*s)
	}
	for _, b := range []*[]byte{&a.Password.Salt, &a.Password.Current, &a.Password.Previous} {
		*b = copied(*b)
	}
	a.Mistakes = copied(a.Mistakes)
	for i := range a.Mistakes {
		a.Mistakes[i].At = instant(a.Mistakes[i].At)
	}
	return a
}

// NormalEvent does the same for an event.
func NormalEvent(e auth.Event) auth.Event {
	e.At = instant(e.At)
	for _, s := range []*string{&e.Actor, &e.Before, &e.After, &e.Reason} {
		*s = text(*s)
	}
	return e
}

// Fold puts a part of a name into the form in which names are compared.
func Fold(part string) string { return norm.NFC.String(strings.ToLower(part)) }

func instant(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

// text replaces what PostgreSQL refuses and JSON would not give back: NUL and
// invalid UTF-8.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func copied[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return slices.Clone(s)
}

// empty reports whether there is nothing to remember: the account reads like
// that of a name never seen, and takes no room.
func empty(a auth.Account) bool {
	return reflect.DeepEqual(a, auth.Account{Name: a.Name})
}
