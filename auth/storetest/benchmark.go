package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// Attempts measures the cost of a login over a store: the guard's admission and
// settlement, with a mail server that answers at once. It has no fingerprints and no
// throttle, which have benchmarks of their own. commits returns the number of changes
// that the store has written so far, and of their transactions; it may be nil.
func Attempts(b *testing.B, s Store, now func() time.Time, commits func() (changes, transactions int)) {
	const accounts = 1000
	names := make([]string, accounts)
	for i := range names {
		names[i] = fmt.Sprintf("user%04d@congthu.test", i)
	}
	for _, password := range []string{"known", "right", "wrong"} {
		for _, callers := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("password=%s/callers=%d", password, callers), func(b *testing.B) {
				g := &guard.Guard{Store: s, Now: now}
				if password == "right" {
					g.KnownGood = 1 // passwords seen by another process only
				}
				rules := auth.DefaultRules()
				rules.Lockout.Tolerated = 1 << 30 // otherwise all accounts would soon be locked
				rules.Lockout.DailyFailureCap = 0
				rules.Lockout.CountRepeats = auth.AlwaysCountRepeats // the benchmark repeats one password
				g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "congthu.test"}, Rules: rules})
				ctx, cancel := context.WithCancel(context.Background())
				var running sync.WaitGroup
				running.Go(func() { g.Run(ctx) })
				defer running.Wait()
				defer cancel()
				source := netip.MustParseAddrPort("203.0.113.7:50312")
				right := func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedRight} }
				wrong := func(context.Context, auth.Name) auth.Answer {
					return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
				}
				try := func(i int, password string, verify auth.Verify, want auth.Outcome) {
					v := g.Attempt(ctx, auth.Attempt{Login: names[i%accounts], Password: auth.NewSecret(password), Source: source, Verify: verify})
					if v.Outcome != want {
						b.Errorf("%v, %v; want %v", v.Outcome, v.Err, want)
					}
				}
				inParallel(64, accounts, func(i int) { try(i, "right", right, auth.Accepted) })
				var changes, transactions int
				if commits != nil {
					changes, transactions = commits()
				}
				b.ReportAllocs()
				b.ResetTimer()
				defer spending(b)()
				inParallel(callers, b.N, func(i int) {
					if password == "wrong" {
						try(i, "wrong", wrong, auth.WrongPassword)
					} else {
						try(i, "right", right, auth.Accepted)
					}
				})
				b.StopTimer()
				if commits != nil {
					c, t := commits()
					if t > transactions {
						b.ReportMetric(float64(c-changes)/float64(t-transactions), "changes/commit")
					}
				}
			})
		}
	}
}

// spending reports the processor time between its call and the call of the function that
// it returns. On a machine that others use too, this is the figure that can be compared.
// It does not include a database server, which is another process.
func spending(b *testing.B) func() {
	began := cpu()
	return func() { b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op") }
}

// cpu is the processor time that this process has used, in user mode and in the kernel.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inParallel runs do for 0 to n-1, from this number of callers.
func inParallel(callers, n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

// Callers runs do b.N times, from this number of callers.
func Callers(b *testing.B, callers int, do func(caller, i int) error) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				if err := do(caller, i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// Sizes measures how lists, the sweep and a login depend on the size of a store, at
// 1,000, 100,000 and, with [testenv.SoakVariable], 1,000,000 accounts.
func Sizes(b *testing.B, open func(testing.TB) Store, fill func(t testing.TB, s Store, first, n int) Store) {
	sizes := []int{1_000, 100_000}
	if Rounds(0, 1) > 0 {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		b.Run(fmt.Sprintf("accounts=%d", n), func(b *testing.B) {
			s := Harness{Fill: fill}.filled(b, open(b), n)
			g := &guard.Guard{Store: s, Now: func() time.Time { return noon }}
			rules := auth.DefaultRules()
			rules.Lockout.Tolerated, rules.Lockout.DailyFailureCap, rules.Dormancy.DoorsComplete = 1<<30, 0, true
			g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: testName.Domain()}, Rules: rules})
			list := func(want auth.Filter, least int) func(*testing.B) {
				return func(b *testing.B) {
					b.ReportAllocs()
					defer spending(b)()
					for i := range b.N {
						want.After = number(i * 7919 % (n / 2))
						found, err := s.List(b.Context(), want)
						if err != nil || len(found) < least {
							b.Fatalf("%d found, %v", len(found), err)
						}
					}
				}
			}
			b.Run("do=list", list(auth.Filter{}, 100))
			b.Run("do=list-locked", list(auth.Filter{Locked: true}, 100))
			b.Run("do=search", list(auth.Filter{Contains: "999@"}, 0))
			b.Run("do=sweep", func(b *testing.B) {
				defer spending(b)()
				for range b.N {
					if swept, err := g.Dormant(b.Context(), s); err != nil || len(swept.Dormant) == 0 {
						b.Fatalf("%d dormant, %v", len(swept.Dormant), err)
					}
				}
			})
			// An account that is not locked: those with odd numbers are not.
			b.Run("do=login-wrong", func(b *testing.B) {
				b.ReportAllocs()
				defer spending(b)()
				for i := range b.N {
					v := g.Attempt(b.Context(), auth.Attempt{
						Login: string(number((i*2*7919 + 1) % n)), Password: auth.NewSecret("wrong"), Source: office,
						Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedWrong} },
					})
					if v.Outcome != auth.WrongPassword {
						b.Fatalf("%v, %v", v.Outcome, v.Err)
					}
				}
			})
		})
	}
}

// Imports measures an import of many new accounts while logins go on: how long the
// import takes, and how long a login waits that has something to write, and one that has
// nothing to write (99th percentile and maximum). The environment variable
// CONGTHU_BENCH_ACCOUNTS is the number of accounts; default 100,000. open makes an empty
// store.
func Imports(b *testing.B, open func() Store) {
	count := 100_000
	if n, err := strconv.Atoi(os.Getenv("CONGTHU_BENCH_ACCOUNTS")); err == nil {
		count = n
	}
	for range b.N {
		b.StopTimer()
		s := open()
		ctx, stop := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		var took [2][]time.Duration
		for i, login := range []auth.Change{fail, nothing} {
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
					took[i] = append(took[i], time.Since(began))
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		list := make([]auth.Imported, count)
		for i := range list {
			list[i] = fromList(fmt.Sprintf("n%06d@congthu.test", (i*7919)%count))
		}
		b.StartTimer()
		_, err := Import(b.Context(), s, list, nil)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		stop()
		wg.Wait()
		for i, what := range []string{"write", "login"} {
			slices.Sort(took[i])
			b.ReportMetric(took[i][len(took[i])*99/100].Seconds()*1000, "ms-p99-"+what)
			b.ReportMetric(took[i][len(took[i])-1].Seconds()*1000, "ms-longest-"+what)
		}
		b.StartTimer()
	}
}
