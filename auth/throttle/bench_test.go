package throttle

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
)

// BenchmarkThrottle is the cost of the throttle for an attempt: begin, end and the note
// of the login. It must not depend on the number of accounts known of a source; sources
// have different locks.
func BenchmarkThrottle(b *testing.B) {
	for _, sources := range []int{1, 10_000} {
		for _, accounts := range []int{10, 4000} {
			for _, callers := range []int{1, 256} {
				b.Run(fmt.Sprintf("sources=%d/accounts=%d/callers=%d", sources, accounts, callers), func(b *testing.B) {
					throttle := new(Throttle)
					clock := time.Now()
					at := func(i int) Attempt {
						s := i % sources
						return Attempt{
							Source: auth.Source(netip.AddrFrom4([4]byte{198, 51, byte(s >> 8), byte(s)})),
							Name:   auth.Name(fmt.Sprint("user", i%accounts)), Tolerated: 5, Looked: true, Seen: 32,
						}
					}
					attempts := make([]Attempt, 100_000)
					for i := range attempts {
						attempts[i] = at(i)
						throttle.Succeeded(attempts[i], clock)
					}
					var next atomic.Int64
					var wg sync.WaitGroup
					b.ReportAllocs()
					b.ResetTimer()
					for range callers {
						wg.Go(func() {
							for {
								i := int(next.Add(1)) - 1
								if i >= b.N {
									return
								}
								a := attempts[i%len(attempts)]
								// One millisecond for each attempt, so that entries age as in production.
								now := clock.Add(time.Duration(i) * time.Millisecond)
								pass(b, throttle, a, now)
								throttle.Succeeded(a, now)
								throttle.End(a, EndedWell, now)
							}
						})
					}
					wg.Wait()
				})
			}
		}
	}
}

// BenchmarkThrottleOfAKnownLogin is the cost of the throttle for a login with a password
// that the process has seen accepted from there: it needs no slot and no passage, but
// the login is noted.
func BenchmarkThrottleOfAKnownLogin(b *testing.B) {
	for _, from := range []string{"198.51.100.7", "2001:db8:1:2::7"} {
		b.Run(from, func(b *testing.B) {
			throttle, clock := new(Throttle), time.Now()
			attempts := make([]Attempt, 4000)
			for i := range attempts {
				attempts[i] = Attempt{Source: auth.Source(netip.MustParseAddr(from)), Name: auth.Name(fmt.Sprint("user", i)), Tolerated: 5}
				throttle.Succeeded(attempts[i], clock)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				throttle.Succeeded(attempts[i%len(attempts)], clock.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
}

// BenchmarkThrottledBurst is a burst of unproven accounts behind one address, most of
// which have to wait for others: each one that ends wakes all that wait.
func BenchmarkThrottledBurst(b *testing.B) {
	for _, burst := range []int{64, 256, 1024} {
		b.Run(fmt.Sprintf("attempts=%d", burst), func(b *testing.B) {
			for range b.N {
				throttle := new(Throttle)
				var wg sync.WaitGroup
				for i := range burst {
					wg.Go(func() {
						a := Attempt{Source: auth.Source(netip.AddrFrom4([4]byte{198, 51, 100, 7})), Name: auth.Name(fmt.Sprint("user", i)), Tolerated: 5, Looked: true}
						pass(b, throttle, a, time.Now())
						throttle.Succeeded(a, time.Now())
						throttle.End(a, EndedWell, time.Now())
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*burst), "ns/attempt")
		})
	}
}

// pass waits until the throttle lets an attempt pass.
func pass(b *testing.B, throttle *Throttle, a Attempt, now time.Time) {
	for {
		p := throttle.Begin(a, now)
		switch p.Passage {
		case Passes:
			return
		case Refused:
			b.Error("refused")
			return
		}
		<-p.Ended
	}
}
