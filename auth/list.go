package auth

import (
	"context"
	"time"
)

// Filter chooses accounts to list, in the order of their names. Zero fields are
// no condition.
type Filter struct {
	// After continues a list behind that name.
	After Name
	// Limit is how many at most; 0 means 100.
	Limit int
	// Contains is a part of the name, canonical or not, compared without case.
	Contains string
	// Locked and Revoked want accounts with a Lock, with a Revocation.
	Locked, Revoked bool
	// Unknown includes names that nobody ever logged in with.
	Unknown bool
	// Shared wants the counters that such names share, which are no names, and
	// nothing else; together with Unknown it wants everything that is stored.
	Shared bool
	// IdleBefore wants accounts whose last login (or registration, when there
	// was none) is earlier.
	IdleBefore time.Time
	// PasswordBefore wants accounts whose password dates from earlier.
	PasswordBefore time.Time
}

// EventFilter chooses events of the audit log, newest first.
type EventFilter struct {
	Account Name
	Kinds   []EventKind
	// Before wants events with a smaller Seq; 0 begins with the newest.
	Before int64
	// Limit is how many at most; 0 means 100.
	Limit int
}

// Lister is a store that can show its accounts page by page, also those that
// nobody ever logged in with.
type Lister interface {
	List(ctx context.Context, want Filter) ([]Account, error)
}

// walkPage is how many accounts are read at once. A long read would keep a
// database from using room again; and a login may have to wait for a processor as
// long as one page takes, half a millisecond.
const walkPage = 100

// Walk calls f for every account that the filter wants, in the order of names,
// until it returns an error, which is returned. It reads page by page, so f may use
// the store; an account that it or somebody else changes meanwhile is seen as it is
// when its page is read.
func Walk(ctx context.Context, store Lister, want Filter, f func(Account) error) error {
	for want.Limit = walkPage; ; {
		page, err := store.List(ctx, want)
		if err != nil {
			return err
		}
		for _, a := range page {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(a); err != nil {
				return err
			}
			want.After = a.Name
		}
		if len(page) < want.Limit {
			return nil
		}
	}
}

// Unhurried is a store all of whose accounts somebody reads who has time, beside
// logins that have none. It rests after each page three times as long as reading it
// took, so that a processor and the disk are free for three quarters of the time: a
// login comes upon at most one page.
type Unhurried struct{ Lister }

// longestRest bounds a rest: what takes longer than a third of it waits for
// something else, and more rest would not help.
const longestRest = 100 * time.Millisecond

// List implements [Lister].
func (u Unhurried) List(ctx context.Context, want Filter) ([]Account, error) {
	began := time.Now()
	page, err := u.Lister.List(ctx, want)
	if err != nil || len(page) < want.Limit {
		return page, err
	}
	return page, Rest(ctx, time.Since(began))
}

// Each implements [Census].
func (u Unhurried) Each(ctx context.Context, f func(Account) error) error {
	return Walk(ctx, u, Filter{}, f)
}

// Rest waits as [Unhurried] does after work that took so long.
func Rest(ctx context.Context, took time.Duration) error {
	timer := time.NewTimer(min(3*took, longestRest))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
