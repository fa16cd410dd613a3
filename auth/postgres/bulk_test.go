package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest"
)

func BenchmarkUpdateAll(b *testing.B) {
	storetest.Imports(b, func() storetest.Store { return open(b, Options{}) })
}

// importOn changes many accounts, over and over: each time all of them get the
// next number.
func importOn(dsn string) {
	s, err := Open(context.Background(), Options{DSN: dsn})
	must(err)
	say("open")
	for {
		_, err := s.UpdateAll(context.Background(), storetest.ManyNames(), func(a *auth.Account) ([]auth.Event, bool) {
			n, _ := strconv.Atoi(a.Unit)
			events, _ := storetest.Imported(a)
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
	rounds := storetest.Rounds(5, 100)
	dsn := database(t)
	s := open(t, Options{DSN: dsn}) // another replica
	names := storetest.ManyNames()
	done := 0
	var took time.Duration // one change of all
	round := 0
	for ; round < rounds || done < 2 && round < 20*rounds; round++ {
		cmd, said := child(t, "import", dsn)
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
		// PostgreSQL notices that the process is gone when it next speaks to it: an
		// empty change of all waits until then.
		if _, err := s.UpdateAll(t.Context(), names[:1], func(a *auth.Account) ([]auth.Event, bool) { return nil, true }); err != nil {
			t.Fatal(err)
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
	}
	if done < 2 {
		t.Fatalf("%d changes: the test kills too early", done)
	}
	t.Logf("killed %d times; %d changes of %d accounts", round, done, len(names))
}

func TestAnImportThatOthersWouldWaitForInVainIsGivenUp(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	hurried := open(t, Options{DSN: dsn, LockTimeout: time.Millisecond})
	if n, err := hurried.UpdateAll(t.Context(), storetest.ManyNames(), storetest.Imported); !errors.Is(err, auth.ErrTooMany) || n != 0 {
		t.Fatalf("%d written, error %v; want ErrTooMany", n, err)
	}
	s := open(t, Options{DSN: dsn})
	wantEvents(t, s, 0)
	if n, err := s.UpdateAll(t.Context(), storetest.ManyNames(), storetest.Imported); err != nil || n != len(storetest.ManyNames()) {
		t.Fatalf("%d written, error %v", n, err)
	}
}
