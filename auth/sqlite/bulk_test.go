package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
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

// manyNames are as many as it takes to be killed between two of them.
func manyNames() []auth.Name {
	names := make([]auth.Name, 1200)
	for i := range names {
		names[i] = auth.Name(fmt.Sprintf("n%04d@congthu.test", i*7919%len(names)))
	}
	return names
}

// importOn changes many accounts, over and over: each time all of them get the
// next number.
func importOn(path string) {
	s, err := Open(context.Background(), Options{Path: path})
	must(err)
	say("open")
	for {
		_, err := s.UpdateAll(context.Background(), manyNames(), func(a *auth.Account) ([]auth.Event, bool) {
			n, _ := strconv.Atoi(a.Unit)
			events, _ := imported(a)
			a.Unit = strconv.Itoa(n + 1)
			return events, true
		})
		must(err)
		say("did")
	}
}

// TestAnImportIsWholeOrNotThereAfterSIGKILL kills a process that changes many
// accounts, over and over, at any moment of it.
func TestAnImportIsWholeOrNotThereAfterSIGKILL(t *testing.T) {
	const rounds = 12
	path := filepath.Join(t.TempDir(), "congthu.db")
	names := manyNames()
	done := 0
	var took time.Duration // one change of all
	halfway := 0
	for round := range rounds {
		cmd, said := child(t, "import", path)
		if got := line(t, said); got != "open" {
			t.Fatal(got)
		}
		acknowledged := done
		began := time.Now()
		if round == 0 {
			if got := line(t, said); got != "did" {
				t.Fatal(got)
			}
			acknowledged++
			took = time.Since(began)
		}
		killed := make(chan error, 1)
		time.AfterFunc(rand.N(2*min(took, 2*time.Second)), func() { killed <- cmd.Process.Kill() })
		for said.Scan() {
			if said.Text() != "did" {
				t.Fatalf("round %d: %s", round, said.Text())
			}
			acknowledged++
		}
		if err := <-killed; err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if _, err := os.Stat(stageOf(path)); err == nil {
			halfway++
		}

		s := open(t, Options{Path: path})
		if _, err := os.Stat(stageOf(path)); err == nil {
			t.Fatalf("round %d: the stage was left, with its fingerprints", round)
		}
		for i, name := range names {
			a, err := s.Account(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := strconv.Atoi(a.Unit)
			if i == 0 {
				done = n
			}
			if n != done {
				t.Fatalf("round %d: %s was changed %d times, %s %d times", round, names[0], done, name, n)
			}
		}
		if done < acknowledged || done > acknowledged+1 {
			t.Fatalf("round %d: changed %d times, %d were acknowledged", round, done, acknowledged)
		}
		if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != int64(done*len(names)) {
			t.Fatalf("round %d: head %+v, error %v; want %d events", round, head, err, done*len(names))
		}
		shut(t, s)
	}
	if halfway == 0 {
		t.Fatal("it was never killed within a change: the test proves nothing")
	}
	t.Logf("killed %d times, %d of them within a change; %d changes of %d accounts", rounds, halfway, done, len(names))
}
