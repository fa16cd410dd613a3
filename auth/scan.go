package auth

import (
	"context"
	"time"
)

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
