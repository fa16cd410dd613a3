package auth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// slowly lists accounts, with a delay for each page.
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

func TestABackgroundScanPausesThreeQuartersOfItsTime(t *testing.T) {
	for _, c := range []struct {
		accounts    int
		takes, want time.Duration
	}{
		{1, 10 * time.Millisecond, 10 * time.Millisecond}, // no pause after the last page
		{2*scanPage + 40, 10 * time.Millisecond, (10 + 30 + 10 + 30 + 10) * time.Millisecond},
		{scanPage + 20, 10 * time.Second, 20*time.Second + longestPause},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, n := time.Now(), 0
			err := BackgroundScan{slowly{c.accounts, c.takes}}.Each(t.Context(), func(Account) error { n++; return nil })
			if took := time.Since(began); err != nil || n != c.accounts || took != c.want {
				t.Errorf("%d of %d accounts in %v, %v; want %v", n, c.accounts, took, err, c.want)
			}
		})
	}
}

func TestAPauseEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond) // during the first pause
		defer cancel()
		began := time.Now()
		err := BackgroundScan{slowly{1200, 10 * time.Millisecond}}.Each(ctx, func(Account) error { return nil })
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 15*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
	})
}
