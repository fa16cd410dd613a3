package audit

import (
	"context"
	"fmt"
	"net/netip"

	"congthu/auth"
)

// EventsScanned is how many events [EventsFrom] reads at most.
const EventsScanned = 20_000

// EventsFrom returns the events that the filter wants and that are of a source or of
// a network of sources, newest first: what was done from there, and whether it was
// allowed. The log has no index of sources, so it reads page by page, and stops after
// [EventsScanned] events: next is what to continue before when there may be more, and
// zero otherwise. It may find none and have a next one.
func EventsFrom(ctx context.Context, log interface {
	Events(context.Context, auth.EventFilter) ([]auth.Event, error)
}, network netip.Prefix, want auth.EventFilter) (found []auth.Event, next int64, err error) {
	most := want.Limit
	if most == 0 {
		most = 100
	}
	want.Limit = 1000
	for scanned := 0; scanned < EventsScanned; scanned += want.Limit {
		page, err := log.Events(ctx, want)
		if err != nil {
			return nil, 0, fmt.Errorf("read events of a source: %w", err)
		}
		for _, e := range page {
			if !isFrom(e, network) {
				continue
			}
			if len(found) == most {
				return found, found[most-1].Seq, nil
			}
			found = append(found, e)
		}
		if len(page) < want.Limit {
			return found, 0, nil
		}
		want.Before = page[len(page)-1].Seq
	}
	return found, want.Before, nil
}

// isFrom reports whether an event is of a network: it happened from there, or tells of
// a source there.
func isFrom(e auth.Event, network netip.Prefix) bool {
	if network.Contains(e.Source.Addr().Unmap().WithZone("")) {
		return true
	}
	a, ok := e.Allows()
	return ok && network.Overlaps(a.Source)
}
