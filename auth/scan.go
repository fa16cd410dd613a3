package auth

import (
	"context"
	"time"
)

// scanPage is the number of accounts on one page. A longer read would keep the database
// from reusing space. A login may have to wait for a processor as long as one page
// takes: half a millisecond.
const scanPage = 100

// Scan calls f for every account that matches the filter, in the order of names, until f
// returns an error, and returns that error. It reads page by page, so f may use the
// store; an account that changes meanwhile is passed as it was when its page was read.
func Scan(ctx context.Context, store Lister, want Filter, f func(Account) error) error {
	for want.Limit = scanPage; ; {
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

// BackgroundScan wraps a [Lister] for jobs that read all accounts while users log in:
// after each page it pauses three times as long as the page took, at most 100 ms, so
// that logins keep three quarters of one processor and of the disk. A login waits for
// at most one page.
type BackgroundScan struct{ Lister }

// longestPause bounds a pause: a page that takes longer than a third of it waits for
// something else, and a longer pause would not help.
const longestPause = 100 * time.Millisecond

// List implements [Lister].
func (u BackgroundScan) List(ctx context.Context, want Filter) ([]Account, error) {
	began := time.Now()
	page, err := u.Lister.List(ctx, want)
	if err != nil || len(page) < want.Limit {
		return page, err
	}
	return page, Pause(ctx, time.Since(began))
}

// Each implements [Scanner].
func (u BackgroundScan) Each(ctx context.Context, f func(Account) error) error {
	return Scan(ctx, u, Filter{}, f)
}

// Pause waits as [BackgroundScan] does after a page that took this long: three times as
// long, at most 100 ms. It returns the error of ctx if ctx ends first.
func Pause(ctx context.Context, took time.Duration) error {
	timer := time.NewTimer(min(3*took, longestPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
