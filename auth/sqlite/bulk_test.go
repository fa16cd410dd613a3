package sqlite

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
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
func importOn(path string) {
	s, err := Open(context.Background(), Options{Path: path})
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
	rounds := storetest.Rounds(4, 100)
	path := filepath.Join(t.TempDir(), "congthu.db")
	names := storetest.ManyNames()
	done := 0
	var took time.Duration // one change of all
	halfway := 0
	round := 0
	for ; round < rounds || halfway == 0 && round < 20*rounds; round++ {
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
	t.Logf("killed %d times, %d of them within a change; %d changes of %d accounts", round, halfway, done, len(names))
}
