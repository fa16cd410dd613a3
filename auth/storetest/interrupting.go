package storetest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
)

// fromList is one account of the list.
func fromList(address string) auth.Imported {
	return auth.Imported{Name: auth.Name(address), Unit: "UBND xã Minh Hưng", Registered: noon.AddDate(0, 0, -365), LastLogin: noon}
}

// List returns enough accounts for a process to be killed between two batches.
func List() []auth.Imported {
	list := make([]auth.Imported, 1200)
	for i := range list {
		list[i] = fromList(fmt.Sprintf("n%04d@congthu.test", i*7919%len(list)))
	}
	return list
}

// Import imports a list as a gateway does; progress may be nil.
func Import(ctx context.Context, s Store, list []auth.Imported, progress func(done int)) (guard.Importation, error) {
	g := &guard.Guard{Store: s, Now: func() time.Time { return noon.Add(time.Hour) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{Default: "congthu.test"}})
	return g.Import(ctx, s, list, auth.Act{Actor: "Nguyễn Văn An", Reason: "theo công văn 12/CV"},
		guard.ImportOptions{Digest: fmt.Sprintf("%064x", len(list)), Progress: progress})
}

// InterruptedImport kills processes in the middle of an import of [List], and then
// completes the import with one that is not killed. child starts a process, which writes
// "done N" after each batch and "finished" at the end. open opens the store that the
// children import into, or an empty one. close is called before the next child starts.
func InterruptedImport(t *testing.T, child func() (*exec.Cmd, *bufio.Scanner), open func(empty bool) (s Store, close func())) {
	list := List()
	kills := Rounds(2, 20)
	for n := range kills {
		process, said := child()
		// The n-th process is killed at a batch that those before it have not reached.
		want := fmt.Sprintf("done %d", (1+n%4)*200)
		for said.Scan() && said.Text() != want {
			if said.Text() == "finished" {
				t.Fatal("the import finished before the process was killed")
			}
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		process.Wait()
		s, shut := open(false)
		begun, err := guard.UnfinishedImports(t.Context(), s)
		if err != nil || len(begun) != 1 {
			t.Fatalf("after SIGKILL %d imports are listed as unfinished, %v; want 1", len(begun), err)
		}
		if mark, _ := begun[0].List(); mark.Accounts != len(list) || begun[0].Reason != "theo công văn 12/CV" {
			t.Fatalf("the unfinished import is listed as %+v", begun[0])
		}
		if imported := importedOnce(t, s); imported < 200 || imported == len(list) {
			t.Fatalf("%d accounts are imported: the process was not killed in the middle", imported)
		}
		shut()
	}
	s, _ := open(false)
	whole, _ := open(true)
	done, err := Import(t.Context(), s, list, nil)
	if err != nil || !done.Resumed || done.New+done.Unchanged != len(list) || done.Unchanged < 200 || done.Changed != 0 {
		t.Fatalf("resumed %v, %d new, %d changed, %d as before, %v", done.Resumed, done.New, done.Changed, done.Unchanged, err)
	}
	if _, err := Import(t.Context(), whole, list, nil); err != nil {
		t.Fatal(err)
	}
	if begun, err := guard.UnfinishedImports(t.Context(), s); err != nil || len(begun) != 0 {
		t.Fatalf("unfinished imports: %+v, %v", begun, err)
	}
	if n := importedOnce(t, s); n != len(list) {
		t.Fatalf("%d accounts have an event, want %d", n, len(list))
	}
	if diff := cmp.Diff(everything(t, whole), everything(t, s), addresses); diff != "" {
		t.Errorf("(-in one go +interrupted):\n%s", diff)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != int64(len(list)+kills+2) {
		t.Errorf("head %+v, %v", head, err)
	}
}

// importedOnce counts the accounts that have an event of an import, and fails if an
// account has two.
func importedOnce(t *testing.T, s Store) int {
	t.Helper()
	events, err := s.Events(t.Context(), auth.EventFilter{Kinds: []auth.EventKind{auth.AccountImported}, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[auth.Name]bool)
	for _, e := range events {
		if seen[e.Account] {
			t.Fatalf("%s has two events", e.Account)
		}
		seen[e.Account] = true
	}
	accounts := everything(t, s)
	for name := range accounts {
		if !seen[name] {
			t.Fatalf("%s is an account without an event", name)
		}
	}
	if len(accounts) != len(seen) {
		t.Fatalf("%d accounts and %d events", len(accounts), len(seen))
	}
	return len(seen)
}

func everything(t *testing.T, s Store) map[auth.Name]auth.Account {
	t.Helper()
	all := make(map[auth.Name]auth.Account)
	if err := s.Each(t.Context(), func(a auth.Account) error { all[a.Name] = a; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// Imported makes an account of a name as an import does.
func Imported(a *auth.Account) ([]auth.Event, bool) {
	return auth.DefaultRules().Import(a, fromList(string(a.Name)), noon, auth.Act{Actor: "Nguyễn Văn An", Reason: "theo công văn 12/CV"})
}
