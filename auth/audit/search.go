package audit

import (
	"context"
	"fmt"
	"net/netip"

	"congthu/auth"
)

// EventsScanned is the largest number of events that [EventsFrom] reads.
const EventsScanned = 20_000

// EventsFrom returns the events that match the filter and belong to a source or to a
// network of sources, newest first: acts from there, and allowances of it. The log has
// no index of sources, so it reads page by page, and stops after [EventsScanned] events.
// next is the number before which to continue if there may be more, and zero otherwise.
// It may find no event and still return a next one.
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

// isFrom reports whether an event belongs to a network: it came from there, or concerns
// a source there.
func isFrom(e auth.Event, network netip.Prefix) bool {
	if network.Contains(e.Source.Addr().Unmap().WithZone("")) {
		return true
	}
	a, ok := e.Allows()
	return ok && network.Overlaps(a.Source)
}
