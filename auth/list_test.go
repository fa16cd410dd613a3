package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// slowly lists accounts, and takes its time for each page.
type slowly struct {
	accounts int
	takes    time.Duration
}

func (s slowly) List(_ context.Context, want Filter) (page []Account, err error) {
	time.Sleep(s.takes)
	for i := range s.accounts {
		if name := Name(fmt.Sprintf("n%05d@congthu.test", i)); name > want.After && len(page) < want.Limit {
			page = append(page, Account{Name: name})
		}
	}
	return page, nil
}

func TestWhoHasTimeRestsThreeQuartersOfItBetweenPages(t *testing.T) {
	for _, c := range []struct {
		accounts    int
		takes, want time.Duration
	}{
		{1, 10 * time.Millisecond, 10 * time.Millisecond}, // nothing comes after it
		{2*walkPage + 40, 10 * time.Millisecond, (10 + 30 + 10 + 30 + 10) * time.Millisecond},
		{walkPage + 20, 10 * time.Second, 20*time.Second + longestRest},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, n := time.Now(), 0
			err := Unhurried{slowly{c.accounts, c.takes}}.Each(t.Context(), func(Account) error { n++; return nil })
			if took := time.Since(began); err != nil || n != c.accounts || took != c.want {
				t.Errorf("%d of %d accounts in %v, %v; want %v", n, c.accounts, took, err, c.want)
			}
		})
	}
}

func TestARestEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond) // within the first rest
		defer cancel()
		began := time.Now()
		err := Unhurried{slowly{1200, 10 * time.Millisecond}}.Each(ctx, func(Account) error { return nil })
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 15*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// wrongFrom is an audit log of as many wrong passwords; every nth is from another
// source than the rest.
type wrongFrom struct {
	n, every     int
	source, rest netip.AddrPort
}

func (l wrongFrom) Events(_ context.Context, want EventFilter) (page []Event, err error) {
	newest := int64(l.n)
	if want.Before > 0 {
		newest = want.Before - 1
	}
	for seq := newest; seq > 0 && len(page) < want.Limit; seq-- {
		e := Event{Seq: seq, Kind: PasswordWrong, Source: l.rest}
		if seq%int64(l.every) == 0 {
			e.Source = l.source
		}
		page = append(page, e)
	}
	return page, nil
}

func TestALongLogIsSearchedForASourceByParts(t *testing.T) {
	log := wrongFrom{3*EventsScanned + 17, EventsScanned - 5, netip.MustParseAddrPort("203.0.113.7:1"), netip.MustParseAddrPort("192.0.2.1:1")}
	var seqs, nexts []int64
	for want := (EventFilter{Limit: 5}); ; {
		found, next, err := EventsFrom(t.Context(), log, Source(log.source.Addr()), want)
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
