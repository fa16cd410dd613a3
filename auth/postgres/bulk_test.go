package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"congthu/auth"
)

// BenchmarkUpdateAll is an import of many new accounts, while logins go on: how
// long it takes, how long one that has something to write waits at most, and
// how long one that has nothing to write does.
func BenchmarkUpdateAll(b *testing.B) {
	count := 100_000
	if n, err := strconv.Atoi(os.Getenv("CONGTHU_BENCH_ACCOUNTS")); err == nil {
		count = n
	}
	for range b.N {
		b.StopTimer()
		s := open(b, Options{})
		ctx, stop := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		var longest [2]time.Duration
		for i, login := range []func(*auth.Account) ([]auth.Event, bool){fail, func(*auth.Account) ([]auth.Event, bool) { return nil, false }} {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					began := time.Now()
					name := auth.Name(fmt.Sprintf("n%06d@congthu.test", n%count))
					_, r, err := s.Reserve(context.Background(), name, func(auth.Account) int { return 100 })
					if err != nil {
						b.Error(err)
					}
					if _, err := s.Update(context.Background(), name, r, login); err != nil {
						b.Error(err)
					}
					longest[i] = max(longest[i], time.Since(began))
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		names := make([]auth.Name, count)
		for i := range names {
			names[i] = auth.Name(fmt.Sprintf("n%06d@congthu.test", (i*7919)%count))
		}
		b.StartTimer()
		written, err := s.UpdateAll(b.Context(), names, imported)
		b.StopTimer()
		if err != nil || written != count {
			b.Fatalf("%d written, %v", written, err)
		}
		stop()
		wg.Wait()
		b.ReportMetric(longest[0].Seconds()*1000, "ms-longest-write")
		b.ReportMetric(longest[1].Seconds()*1000, "ms-longest-login")
		b.StartTimer()
	}
}

// imported makes an account of a name as an import does.
func imported(a *auth.Account) ([]auth.Event, bool) {
	a.Registered, a.LastLogin, a.Unit = noon, noon, "UBND xã Minh Hưng"
	return []auth.Event{{
		At: noon, Kind: auth.AccountImported, Account: a.Name, Actor: "Nguyễn Văn An", Before: "no account",
		After: "unit UBND xã Minh Hưng, registered 2026-03-31 12:00 +07:00, last login 2026-03-31 12:00 +07:00", Reason: "theo công văn 12/CV",
	}}, true
}
