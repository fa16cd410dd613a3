package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/incident"
)

// Sized is a store and the number of its accounts.
type Sized struct {
	Store
	Accounts int
	// Octets is the size of its files; 0: unknown.
	Octets int64
}

// Scale measures how the decision of a login depends on the size of a store, alone and
// while the daily sweep and the count of accounts for the metrics run without a pause.
// The mail server answers at once and there are no fingerprints; one client at a time,
// which waits half a millisecond between logins. All stores take turns, round after
// round. It prints the median and the 99th percentile and, in parentheses, their ratios
// to the first store in the same run: absolute times say little on a machine that others
// use.
//
// It fails only if many accounts or the sweep make a login several times slower. A busy
// machine does not do that to one of two things that take turns; a change that makes
// logins wait for a scan of all accounts does.
func Scale(t *testing.T, stores []Sized, rounds int, turn time.Duration) {
	kinds := []string{"known", "first-seen", "wrong"}
	loads := []string{"alone", "sweep and count"}
	type cell struct {
		kind, load string
		store      int
	}
	took := make(map[cell][]time.Duration)
	var all []*scaled
	for _, s := range stores {
		all = append(all, newScaled(t, s))
	}
	// As the heap of the program: a small heap is collected all the time.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for _, s := range all {
		s.turn.Lock()
		defer s.turn.Unlock() // runs first, so that the sweep sees the end
		wg.Go(func() { s.sweep(t, ctx) })
	}
	for round := range rounds {
		for _, load := range loads {
			for i := range all {
				i = (i + round) % len(all) // rotate: the first store pays for the garbage of the last
				s := all[i]
				if load != "alone" {
					s.turn.Unlock()
				}
				for k := range kinds {
					kind := kinds[(k+round/len(all))%len(kinds)]
					c := cell{kind, load, i}
					took[c] = append(took[c], s.logins(t, kind, turn)...)
				}
				if load != "alone" {
					s.turn.Lock()
				}
			}
		}
	}
	if t.Failed() {
		return
	}

	quantile := func(c cell, q float64) time.Duration {
		slices.Sort(took[c])
		return took[c][int(q*float64(len(took[c])-1))]
	}
	ratio := func(a, b time.Duration) float64 { return float64(a) / float64(b) }
	var table strings.Builder
	fmt.Fprint(&table, "\n| password | beside it |")
	for _, s := range stores {
		fmt.Fprintf(&table, " %d accounts: p50, p99 in µs |", s.Accounts)
	}
	fmt.Fprint(&table, "\n|---|---|"+strings.Repeat("---|", len(stores))+"\n")
	for _, kind := range kinds {
		for _, load := range loads {
			fmt.Fprintf(&table, "| %s | %s |", kind, load)
			for i := range stores {
				c, first, alone := cell{kind, load, i}, cell{kind, load, 0}, cell{kind, "alone", i}
				p50, p99 := quantile(c, 0.5), quantile(c, 0.99)
				fmt.Fprintf(&table, " %d (x%.2f), %d (x%.2f) |", p50.Microseconds(), ratio(p50, quantile(first, 0.5)),
					p99.Microseconds(), ratio(p99, quantile(first, 0.99)))
				if r := ratio(p50, quantile(first, 0.5)); r > 3 {
					t.Errorf("%s, %s: the median is %.1f times as long with %d accounts", kind, load, r, stores[i].Accounts)
				}
				if r := ratio(p50, quantile(alone, 0.5)); r > 3 {
					t.Errorf("%s, %d accounts: the median is %.1f times as long while the sweep goes on", kind, stores[i].Accounts, r)
				}
			}
			fmt.Fprintln(&table)
		}
	}
	fmt.Fprint(&table, "| octets of the files for each account | |")
	for _, s := range stores {
		if s.Octets == 0 {
			fmt.Fprint(&table, " not measured |")
		} else {
			fmt.Fprintf(&table, " %d |", s.Octets/int64(s.Accounts))
		}
	}
	fmt.Fprint(&table, "\n| pages of 100 that the sweep has read | |")
	for _, s := range all {
		fmt.Fprintf(&table, " %d |", s.pages)
	}
	t.Log(table.String())
}

// scaled is a store under measurement.
type scaled struct {
	Sized
	seen, unseen *guard.Guard // unseen remembers the password of one account only
	names        []auth.Name
	tries        int
	pages        int        // read by the sweep
	turn         sync.Mutex // the holder may read a page
}

// List implements [auth.Lister] for the sweep.
func (c *scaled) List(ctx context.Context, want auth.Filter) ([]auth.Account, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.pages++
	return c.Store.List(ctx, want)
}

func newScaled(t *testing.T, s Sized) *scaled {
	guard := func(remember int) *guard.Guard {
		g := &guard.Guard{Store: s.Store, KnownGood: remember, Now: func() time.Time { return noon }}
		rules := auth.DefaultRules()
		rules.Lockout.Tolerated, rules.Lockout.DailyFailureCap = 1<<30, 0
		rules.Password.Mode, rules.Dormancy.DoorsComplete = auth.Off, true
		g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: testName.Domain()}, Rules: rules})
		return g
	}
	c := &scaled{Sized: s, seen: guard(0), unseen: guard(1)}
	// Accounts from the whole range of names that populate made and that may log in.
	for k := range min(s.Accounts, 20_000) {
		i := k * 7919 % s.Accounts
		if i%2 != 0 && i%3 != 0 && i%5 != 0 && i%populated < 300 {
			c.names = append(c.names, number(i))
		}
	}
	for _, name := range c.names {
		c.login(t, c.seen, name, "right", auth.Accepted)
	}
	return c
}

func (c *scaled) login(t *testing.T, g *guard.Guard, name auth.Name, password string, want auth.Outcome) time.Duration {
	answer := auth.Answer{Judgement: auth.JudgedRight}
	if want != auth.Accepted {
		answer = auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
	}
	began := time.Now()
	v := g.Attempt(t.Context(), auth.Attempt{
		Login: string(name), Password: auth.NewSecret(password), Source: office,
		Verify: func(context.Context, auth.Name) auth.Answer { return answer },
	})
	took := time.Since(began)
	if v.Outcome != want {
		t.Fatalf("%s with %d accounts: %v, %v; want %v", name, c.Accounts, v.Outcome, v.Err, want)
	}
	return took
}

// logins makes one login after the other for the duration of turn.
func (c *scaled) logins(t *testing.T, kind string, turn time.Duration) (took []time.Duration) {
	for end := time.Now().Add(turn); len(took) == 0 || time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		c.tries++
		name := c.names[c.tries%len(c.names)]
		switch kind {
		case "known":
			took = append(took, c.login(t, c.seen, name, "right", auth.Accepted))
		case "first-seen":
			took = append(took, c.login(t, c.unseen, name, "right", auth.Accepted))
		default:
			took = append(took, c.login(t, c.seen, name, fmt.Sprint("wrong", c.tries), auth.WrongPassword))
		}
	}
	return took
}

// sweep runs the daily sweep and the count for the metrics repeatedly until ctx ends.
func (c *scaled) sweep(t *testing.T, ctx context.Context) {
	all := auth.BackgroundScan{Lister: c}
	for {
		swept, err := c.seen.Dormant(ctx, all)
		if err == nil && len(swept.Dormant) == 0 {
			t.Errorf("the sweep of %d accounts has found none", c.Accounts)
			return
		}
		if err == nil {
			_, err = incident.Find(ctx, all)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// Filled returns a store with n accounts of all kinds.
func (h Harness) Filled(t testing.TB, s Store, n int) Store { return h.filled(t, s, n) }
