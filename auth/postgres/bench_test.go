package postgres

import (
	"fmt"
	"testing"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest"
)

// inParallel runs b.N operations from a number of callers, on the stores in turn.
func inParallel(b *testing.B, callers int, stores []*Store, do func(s *Store, i int) error) {
	storetest.Callers(b, callers, func(caller, i int) error { return do(stores[caller%len(stores)], i) })
}

// replicas opens stores on one database whose commits reach the disk.
func replicas(b *testing.B, n int, o Options) (stores []*Store) {
	o.DSN = pgtest.Start(b, pgtest.Options{Sync: true}).Database(b)
	for range n {
		s := open(b, o)
		stores = append(stores, s)
		for i := range 3 { // make connections and prepare statements
			name := auth.Name(fmt.Sprintf("warm%d@congthu.test", i))
			if _, r, err := s.Reserve(b.Context(), name, allow(1)); err != nil {
				b.Fatal(err)
			} else if _, err := s.Update(b.Context(), name, r, fail); err != nil {
				b.Fatal(err)
			}
		}
	}
	return stores
}

func numbered(i int) auth.Name { return auth.Name(fmt.Sprintf("n%d@congthu.test", i%1000)) }

// BenchmarkUpdate shows the group commit: the cost of a durable change when 1 to 64
// callers make changes at once on 1 or 3 replicas, and the number of changes in a
// commit.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1, 3} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("replicas=%d/callers=%d", n, callers), func(b *testing.B) {
				var told storetest.Recorder
				stores := replicas(b, n, Options{Recorder: &told})
				told.Forget()
				inParallel(b, callers, stores, func(s *Store, i int) error {
					_, err := s.Update(b.Context(), numbered(i), 0, fail)
					return err
				})
				_, commits := told.Commits()
				b.ReportMetric(float64(b.N)/float64(commits), "changes/commit")
			})
		}
	}
}

// BenchmarkAttempt is a complete login without the mail server.
func BenchmarkAttempt(b *testing.B) {
	var n storetest.Recorder
	s := replicas(b, 1, Options{Recorder: &n})[0]
	storetest.Attempts(b, s, s.Now, n.Commits)
}

// BenchmarkReserve is the cost of admission: one slot taken and released.
func BenchmarkReserve(b *testing.B) {
	for _, n := range []int{1, 3} {
		for _, callers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("replicas=%d/callers=%d", n, callers), func(b *testing.B) {
				stores := replicas(b, n, Options{})
				inParallel(b, callers, stores, func(s *Store, i int) error {
					_, r, err := s.Reserve(b.Context(), numbered(i), allow(1000))
					if err == nil {
						_, err = s.Update(b.Context(), numbered(i), r, nothing)
					}
					return err
				})
			})
		}
	}
}

// BenchmarkFailure is the store's work for a wrong password: a slot, and its settlement
// with an event.
func BenchmarkFailure(b *testing.B) {
	for _, n := range []int{1, 3} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("replicas=%d/callers=%d", n, callers), func(b *testing.B) {
				stores := replicas(b, n, Options{})
				inParallel(b, callers, stores, func(s *Store, i int) error {
					_, r, err := s.Reserve(b.Context(), numbered(i), allow(1000))
					if err == nil {
						_, err = s.Update(b.Context(), numbered(i), r, fail)
					}
					return err
				})
			})
		}
	}
}

// BenchmarkAccount is the read that the usual login makes.
func BenchmarkAccount(b *testing.B) {
	stores := replicas(b, 1, Options{})
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := stores[0].Account(b.Context(), "warm1@congthu.test"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkSizes shows the cost of more accounts.
func BenchmarkSizes(b *testing.B) {
	storetest.Sizes(b, func(testing.TB) storetest.Store { return replicas(b, 1, Options{})[0] }, harness.Fill)
}
