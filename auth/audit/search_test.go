package audit

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"congthu/auth"
)

// wrongFrom returns an audit log of this number of wrong passwords; every nth has
// another source than the rest.
type wrongFrom struct {
	n, every     int
	source, rest netip.AddrPort
}

func (l wrongFrom) Events(_ context.Context, want auth.EventFilter) (page []auth.Event, err error) {
	newest := int64(l.n)
	if want.Before > 0 {
		newest = want.Before - 1
	}
	for seq := newest; seq > 0 && len(page) < want.Limit; seq-- {
		e := auth.Event{Seq: seq, Kind: auth.PasswordWrong, Source: l.rest}
		if seq%int64(l.every) == 0 {
			e.Source = l.source
		}
		page = append(page, e)
	}
	return page, nil
}

func TestALongLogIsSearchedForASourceInParts(t *testing.T) {
	log := wrongFrom{3*EventsScanned + 17, EventsScanned - 5, netip.MustParseAddrPort("203.0.113.7:1"), netip.MustParseAddrPort("192.0.2.1:1")}
	var seqs, nexts []int64
	for want := (auth.EventFilter{Limit: 5}); ; {
		found, next, err := EventsFrom(t.Context(), log, auth.Source(log.source.Addr()), want)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range found {
			seqs = append(seqs, e.Seq)
		}
		nexts = append(nexts, next)
		if want.Before = next; next == 0 {
			break
		}
	}
	if want := []int64{3 * (EventsScanned - 5), 2 * (EventsScanned - 5), EventsScanned - 5}; !slices.Equal(seqs, want) {
		t.Errorf("found %v, want %v", seqs, want)
	}
	if want := []int64{2*EventsScanned + 18, EventsScanned + 18, 18, 0}; !slices.Equal(nexts, want) {
		t.Errorf("went on before %v, want %v", nexts, want)
	}
}
