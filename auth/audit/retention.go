package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"congthu/auth"
)

// The audit log is kept for a time, and then the oldest events are removed. A
// verification must be able to distinguish this from tampering. So the first step is an
// event that announces up to which event the log will be removed, with the hash of that
// event. Then the events are removed, a few at a time, and with each step the store
// notes the last removed one ([Bounds].Removed): the chain continues from its hash. A
// process that ends in between has announced more than it removed; the next one
// announces it again and continues. Events are numbered without gaps, so the number of
// the last removed event is also the number of all removed events.

// Prunable is a store whose oldest events can be removed.
type Prunable interface {
	auth.Store
	OldestReader
	// Older returns the last of those events at the beginning of the log that are
	// all from before an instant. If there is none it returns the same as Removed.
	Older(ctx context.Context, before time.Time) (Head, error)
	// RemoveEvents removes the oldest events, at most this many, of those whose removal
	// the event with the number announced records, and returns what Removed returns from
	// then on. The store checks that the event records the removal, and that none of the
	// events is missing.
	RemoveEvents(ctx context.Context, announced int64, most int) (Head, error)
	// Alone calls f unless another process that shares the data is running Alone with
	// the same chore, and reports whether it did. It is for jobs that all processes
	// would do at the same time of the day.
	Alone(ctx context.Context, chore string, f func(context.Context) error) (ran bool, err error)
}

// OldestReader is a store that knows where its audit log begins.
type OldestReader interface {
	// Removed returns the last event that was removed because of its age; zero
	// for none.
	Removed(ctx context.Context) (Head, error)
	// Events returns the events that match the filter, newest first.
	Events(ctx context.Context, want auth.EventFilter) ([]auth.Event, error)
}

const (
	// removedAtOnce is the number of events removed in one transaction: a few milliseconds.
	removedAtOnce = 50
	// prunedAtOnce is the part of the log that one call of Prune removes. For a daily
	// call that is more than enough; and a clock that is years ahead for one night does
	// not remove years of the log.
	prunedAtOnce = 31 * 24 * time.Hour
)

// Announcer writes to the audit log, by its own clock: [guard.Guard].
type Announcer interface {
	// TrustedNow returns the present instant, or why the clock cannot be trusted.
	TrustedNow() (time.Time, error)
	// Announce appends an event of the whole gateway.
	Announce(ctx context.Context, e auth.Event) error
	Rules() auth.Rules
}

// Prune removes the events that are older than keep from the audit log, with an event
// that records this ([auth.AuditPruned]), and returns the number of removed events. If
// more than a month is overdue it removes the oldest month. It pauses after each step,
// for the logins. Verify the log first: removed events cannot be verified any more.
// While the clock is suspect nothing is removed.
//
// All gateways that share a store may call it; one of them does the work.
func Prune(ctx context.Context, by Announcer, store Prunable, keep time.Duration) (removed int64, err error) {
	now, err := by.TrustedNow()
	if err != nil {
		return 0, err
	}
	_, err = store.Alone(ctx, "prune", func(ctx context.Context) error {
		removed, err = prune(ctx, by, store, now, keep)
		return err
	})
	return removed, err
}

func prune(ctx context.Context, by Announcer, store Prunable, now time.Time, keep time.Duration) (removed int64, err error) {
	gone, err := store.Removed(ctx)
	if err != nil {
		return 0, err
	}
	oldest, err := OldestEvent(ctx, store)
	if err != nil {
		return 0, err
	}
	before := now.Add(-keep)
	if month := oldest.At.Add(prunedAtOnce); month.Before(before) {
		before = month
	}
	upto, err := store.Older(ctx, before)
	if err != nil || upto.Seq <= gone.Seq {
		return 0, err
	}
	told := auth.Event{
		At: now, Kind: auth.AuditPruned, Actor: auth.ByGateway, Before: gone.String(), After: upto.String(),
		Reason: fmt.Sprintf("%d events are removed, the last of them of %s: the audit log is kept for %d days",
			upto.Seq-gone.Seq, by.Rules().Instant(upto.At), keep/(24*time.Hour)),
	}
	if err := by.Announce(ctx, told); err != nil {
		return 0, fmt.Errorf("announce the removal: %w", err)
	}
	announced, err := store.Events(ctx, auth.EventFilter{Kinds: []auth.EventKind{auth.AuditPruned}, Limit: 1})
	switch {
	case err != nil:
		return 0, fmt.Errorf("read the announcement: %w", err)
	case len(announced) == 0:
		return 0, ErrNotAnnounced
	}
	for at := gone; at.Seq < upto.Seq; {
		began := time.Now()
		if at, err = store.RemoveEvents(ctx, announced[0].Seq, removedAtOnce); err != nil {
			return removed, fmt.Errorf("remove events: %w", err)
		}
		removed = at.Seq - gone.Seq
		if err := auth.Pause(ctx, time.Since(began)); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// OldestEvent returns the first event in the audit log; the zero Event if there is none.
func OldestEvent(ctx context.Context, store OldestReader) (auth.Event, error) {
	gone, err := store.Removed(ctx)
	if err != nil {
		return auth.Event{}, err
	}
	first, err := store.Events(ctx, auth.EventFilter{Before: gone.Seq + 2, Limit: 1})
	if err != nil || len(first) == 0 {
		return auth.Event{}, err
	}
	return first[0], nil
}

// ErrNotAnnounced: no event announces the removal of these events.
var ErrNotAnnounced = errors.New("no event of the audit log tells that events are removed")

// Removes returns the last event that a store may remove by the announcement e, at most
// this many after gone; gone itself if all of them are removed.
func Removes(e auth.Event, gone Head, most int) (last int64, err error) {
	upto, ok := parseHead(e.After)
	if e.Kind != auth.AuditPruned || !ok || upto.Seq >= e.Seq {
		return 0, ErrNotAnnounced
	}
	return max(gone.Seq, min(upto.Seq, gone.Seq+int64(most))), nil
}
