package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
)

// give is the change of an import: it sets the account, and a second run writes nothing.
func give(a *auth.Account) ([]auth.Event, bool) {
	if a.Unit == "Sở Nội vụ" {
		return nil, false
	}
	a.Unit = "Sở Nội vụ"
	if !a.Known() {
		a.Registered = noon
	}
	return []auth.Event{{At: noon, Kind: auth.AccountImported, Account: a.Name, Actor: "admin", After: "unit " + a.Unit}}, true
}

func numbered(n int) []auth.Name {
	names := make([]auth.Name, n)
	for i := range names {
		names[i] = auth.Name(fmt.Sprintf("n%d@congthu.test", i*7919%n)) // not in the order of names
	}
	return names
}

// updateBatch changes accounts in one transaction and checks that want of them were
// written.
func updateBatch(t *testing.T, s Store, names []auth.Name, change auth.Change, want int) {
	t.Helper()
	if n, err := counted(t.Context(), s, names, change); err != nil || n != want {
		t.Fatalf("update a batch: %d written, error %v; want %d", n, err, want)
	}
}

// counted calls UpdateBatch and counts the accounts that the change wrote.
func counted(ctx context.Context, s auth.Importer, names []auth.Name, change auth.Change) (n int, err error) {
	written := make(map[auth.Name]bool) // by the latest run for each name
	err = s.UpdateBatch(ctx, names, func(a *auth.Account) ([]auth.Event, bool) {
		name := a.Name
		events, write := change(a)
		written[name] = write
		return events, write
	})
	for _, w := range written {
		if w {
			n++
		}
	}
	return n, err
}

func manyChanges(t *testing.T, h Harness) {
	s := h.open(t)
	update(t, s, "known@congthu.test", 0, put(full("known@congthu.test")))
	update(t, s, "tried@congthu.test", 0, fail)
	update(t, s, "so@congthu.test", 0, give)
	names := []auth.Name{"unseen@congthu.test", "known@congthu.test", "so@congthu.test", "tried@congthu.test"}
	updateBatch(t, s, names, give, 3)

	s = h.reopened(t, s)
	known := full("known@congthu.test")
	known.Unit = "Sở Nội vụ"
	wantAccount(t, account(t, s, known.Name), known)
	wantAccount(t, account(t, s, "unseen@congthu.test"), auth.Account{Name: "unseen@congthu.test", Unit: "Sở Nội vụ", Registered: noon})
	if a := account(t, s, "tried@congthu.test"); a.Failures != 1 || !a.Known() {
		t.Fatalf("the account that was tried before: %+v", a)
	}
	wantEvents(t, s, 5)
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []auth.Name{"tried@congthu.test", "known@congthu.test", "unseen@congthu.test"} {
		if e := events[i]; e.Account != want || e.Kind != auth.AccountImported || e.After != "unit Sở Nội vụ" {
			t.Errorf("event %d from the end is %+v, want that of %s", i, e, want)
		}
	}
	updateBatch(t, s, names, give, 0)
	updateBatch(t, s, nil, give, 0)
	updateBatch(t, s, []auth.Name{"nobody@congthu.test"}, nothing, 0)
	wantEvents(t, s, 5)
	// A later event is chained to those of the batch.
	update(t, s, testName, 0, fail)
	wantEvents(t, s, 6)
}

// manyTakenAway: a batch can make accounts unknown again, and remove them.
func manyTakenAway(t *testing.T, h Harness) {
	s := h.Open(t, Options{MaxUnknown: 2})
	names := numbered(5)
	updateBatch(t, s, names, give, 5)
	updateBatch(t, s, names, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true }, 5)
	for _, name := range names {
		wantAccount(t, account(t, s, name), auth.Account{Name: name})
	}
	update(t, s, names[0], 0, fail)
	if err := s.UpdateBatch(t.Context(), names, fail); !errors.Is(err, auth.ErrFull) {
		t.Fatalf("five unknown names where there is room for two: %v", err)
	}
	wantFailures(t, s, names[0], 2)
	wantFailures(t, s, names[1], 1)
	wantFailures(t, s, names[2], 0)
	// Known names need no room, and make room when they become known.
	updateBatch(t, s, names, give, 5)
	updateBatch(t, s, []auth.Name{"x@congthu.test", "y@congthu.test"}, fail, 2)
	wantEvents(t, s, 5+1+2+5+2)
}

// manyButOne: a change that fails is an error, and the others of its batch are written;
// the same batch again does the rest.
func manyButOne(t *testing.T, h Harness) {
	s := h.open(t)
	names := numbered(200)
	update(t, s, names[7], 0, fail)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.UpdateBatch(ended, names, give); !errors.Is(err, context.Canceled) {
		t.Fatalf("with a context that has ended: %v", err)
	}
	wantNoneGiven(t, s, names, 1)
	bad := names[100]
	err := s.UpdateBatch(t.Context(), names, func(a *auth.Account) ([]auth.Event, bool) {
		if a.Name == bad {
			panic("spilt milk")
		}
		return give(a)
	})
	if err == nil {
		t.Fatal("a change that panics is no error")
	}
	wantNoneGiven(t, s, []auth.Name{bad}, len(names))
	updateBatch(t, s, names, give, 1)
	wantEvents(t, s, 1+len(names))
	if a := account(t, s, bad); !a.Known() {
		t.Fatalf("the one that was left out: %+v", a)
	}
}

func wantNoneGiven(t *testing.T, s Store, names []auth.Name, events int) {
	t.Helper()
	for _, name := range names {
		if a := account(t, s, name); a.Unit != "" || a.Known() {
			t.Fatalf("%s was changed: %+v", name, a)
		}
	}
	wantEvents(t, s, events)
}

func manyBroken(t *testing.T, h Harness) {
	if h.Break == nil {
		testenv.NotApplicable(t, "the store cannot be broken")
	}
	s := h.open(t)
	names := numbered(200)
	mend := h.Break(t, s, BeforeCommit)
	if err := s.UpdateBatch(t.Context(), names, give); err == nil {
		t.Fatal("a broken store reports no error")
	}
	mend()
	wantNoneGiven(t, s, names, 0)
	update(t, s, testName, 0, fail) // the store works again
	mend = h.Break(t, s, AfterCommit)
	err := s.UpdateBatch(t.Context(), names, give)
	mend()
	t.Log("of a commit in doubt:", err) // a store may repeat the changes by itself and learn the result
	updateBatch(t, s, names, give, 0)
	wantEvents(t, s, 1+len(names))
	update(t, s, testName, 0, fail)
	wantEvents(t, s, 1+len(names)+1)
}

// manyBesideOthers: logins go on while many accounts are changed, and neither undoes the
// other.
func manyBesideOthers(t *testing.T, h Harness) {
	s := h.open(t)
	stores := h.replicas(t, s)
	names := numbered(2000)
	const each = 60
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		store := stores[i%len(stores)]
		wg.Go(func() {
			<-begin
			for n := range each {
				name := names[(n*131+i)%40] // some of them repeatedly
				r := auth.Reservation(0)
				if n%2 == 0 {
					var err error
					if _, r, err = store.Reserve(t.Context(), name, allow(1000)); err != nil {
						t.Errorf("reserve: %v", err)
					}
				}
				if _, err := store.Update(t.Context(), name, r, fail); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	for i := range 2 {
		wg.Go(func() {
			<-begin
			for batch := range slices.Chunk(names, 100) {
				if err := stores[i%len(stores)].UpdateBatch(t.Context(), batch, give); err != nil {
					t.Errorf("update a batch: %v", err)
				}
			}
		})
	}
	close(begin)
	wg.Wait()
	failures := 0
	for _, name := range names {
		a := account(t, s, name)
		failures += a.Failures
		if a.Unit != "Sở Nội vụ" || !a.Known() {
			t.Fatalf("%s was left out: %+v", name, a)
		}
		reserve(t, s, name, tolerate(a.Failures+1)) // no slot is still taken
	}
	if failures != 8*each {
		t.Errorf("%d failures, want %d", failures, 8*each)
	}
	wantEvents(t, s, 8*each+len(names))
}

// manyInFlight: an attempt in progress while its name becomes an account is settled like
// any other.
func manyInFlight(t *testing.T, h Harness) {
	s := h.Open(t, Options{MaxUnknown: 1})
	r := reserve(t, s, testName, allow(1))
	updateBatch(t, s, []auth.Name{testName}, give, 1)
	wantNoSlot(t, s, testName, allow(1))
	update(t, s, testName, r, fail)
	wantFailures(t, s, testName, 1)
	reserve(t, s, testName, tolerate(2))
	// Its place among the unknown names is free again.
	update(t, s, "other@congthu.test", 0, fail)
}
