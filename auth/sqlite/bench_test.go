package sqlite

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

// BenchmarkUpdate shows the group commit: the cost of a durable change when 1 to 64
// callers make changes at once, and the number of changes in a commit.
func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 2, 4, 8, 16, 32, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var n storetest.Recorder
			s := open(b, Options{Recorder: &n})
			storetest.Callers(b, callers, func(_, i int) error {
				_, err := s.Update(b.Context(), auth.Name(fmt.Sprintf("n%d@congthu.test", i%1000)), 0, fail)
				return err
			})
			_, commits := n.Commits()
			b.ReportMetric(float64(b.N)/float64(commits), "changes/commit")
		})
	}
}

// BenchmarkAttempt is a complete login without the mail server.
func BenchmarkAttempt(b *testing.B) {
	var n storetest.Recorder
	storetest.Attempts(b, open(b, Options{Recorder: &n}), nil, n.Commits)
}

// BenchmarkReserve is the cost of admission: one slot taken and released.
func BenchmarkReserve(b *testing.B) {
	s := open(b, Options{})
	nothing := func(*auth.Account) ([]auth.Event, bool) { return nil, false }
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, r, err := s.Reserve(b.Context(), "n@congthu.test", func(auth.Account) int { return 1000 })
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := s.Update(b.Context(), "n@congthu.test", r, nothing); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkAccount is the read that the usual login makes.
func BenchmarkAccount(b *testing.B) {
	s := open(b, Options{})
	if _, err := s.Update(b.Context(), "n@congthu.test", 0, fail); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Account(b.Context(), "n@congthu.test"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkOpen is a start with 100,000 accounts, including the check for damage.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "congthu.db")
	s := open(b, Options{Path: path})
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := w; i < 100_000; i += 64 {
				_, err := s.Update(b.Context(), auth.Name(fmt.Sprintf("n%d@congthu.test", i)), 0, func(a *auth.Account) ([]auth.Event, bool) {
					a.Registered, a.FirstLogin, a.LastLogin = noon, noon, noon
					a.Password = auth.Password{Salt: make([]byte, 16), Known: []auth.KnownPassword{{Fingerprint: make([]byte, 32), Since: noon}, {Fingerprint: bytes.Repeat([]byte{1}, 32), Since: noon}}, Since: noon}
					return fail(a)
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	shut(b, s)
	b.ResetTimer()
	for range b.N {
		s, err := Open(context.Background(), Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		shut(b, s)
	}
}

// BenchmarkSizes shows the cost of more accounts.
func BenchmarkSizes(b *testing.B) {
	storetest.Sizes(b, func(t testing.TB) storetest.Store { return open(t, Options{}) }, harness.Fill)
}
