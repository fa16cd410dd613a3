package guard_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

var hanoi = time.FixedZone("+07", 7*60*60)

func day(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, hanoi)
}

var clerk = auth.Act{Actor: "Nguyễn Văn An", Reason: "công văn 12/CV"}

func importer(t *testing.T) (*guard.Guard, *storetest.Model, *recorder) {
	t.Helper()
	store, told := &storetest.Model{}, &recorder{outcomes: make(map[auth.Outcome]int)}
	g := &guard.Guard{Store: store, Recorder: told, Now: func() time.Time { return day(2026, 11, 24) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{
		Default: "example.vn", FoldSubaddress: true, Unicode: true, Aliases: map[auth.Name]auth.Name{"vanthu@example.vn": lan},
	}})
	return g, store, told
}

func TestAnImportSaysWhatItDidAndASecondOneDoesNothing(t *testing.T) {
	g, store, told := importer(t)
	if _, err := store.Update(t.Context(), "known@example.vn", 0, func(a *auth.Account) ([]auth.Event, bool) {
		*a = auth.Account{Name: a.Name, Registered: day(2026, 1, 1), FirstLogin: day(2026, 1, 1), LastLogin: day(2026, 11, 1)}
		a.Password = auth.Password{Salt: []byte("s"), Known: []auth.KnownPassword{{Fingerprint: []byte("f"), Since: day(2026, 1, 1)}}, Since: day(2026, 1, 1)}
		return nil, true
	}); err != nil {
		t.Fatal(err)
	}
	list := []auth.Imported{
		{Name: "new@example.vn", PasswordChanged: day(2026, 1, 1)},
		{Name: "known@example.vn", Unit: "Sở Y tế", PasswordChanged: day(2026, 11, 1)},
		{Name: "other@example.vn"},
	}
	looked := 0
	options := guard.ImportOptions{Dry: true, Progress: func(n int) { looked = n }}
	would, err := g.Import(t.Context(), store, list, auth.Act{}, options)
	if err != nil || looked != 3 {
		t.Fatalf("%d looked at, %v", looked, err)
	}
	if head, err := store.Verify(t.Context(), nil); err != nil || head.Seq != 0 || len(told.kinds) != 0 {
		t.Fatalf("a dry run has written events up to %d, told %v; %v", head.Seq, told.kinds, err)
	}
	if a, _ := store.Account(t.Context(), "new@example.vn"); a.Known() {
		t.Fatal("a dry run has made an account")
	}
	options.Dry = false
	if _, err := g.Import(t.Context(), store, list, auth.Act{Actor: "A", Reason: " "}, options); !errors.Is(err, auth.ErrReasonMissing) {
		t.Fatalf("without a reason: %v", err)
	}
	did, err := g.Import(t.Context(), store, list, clerk, options)
	if err != nil || did.New != 2 || did.Changed != 1 || did.Unchanged != 0 || did.SeenHere != 1 {
		t.Fatalf("%+v, %v", did, err)
	}
	if want := map[auth.State]int{auth.StateExpired: 2, auth.StateNeverSeen: 1}; !reflect.DeepEqual(did.States, want) {
		t.Errorf("states %v, want %v", did.States, want)
	}
	for i := range would.Events {
		would.Events[i].Actor, would.Events[i].Reason = clerk.Actor, clerk.Reason
	}
	would.Events = append([]auth.Event(nil), would.Events...)
	if !reflect.DeepEqual(would, did) {
		t.Errorf("the dry run said %+v\nthe import did  %+v", would, did)
	}
	events, err := store.Events(t.Context(), auth.EventFilter{Kinds: []auth.EventKind{auth.AccountImported}})
	if err != nil || len(events) != 3 || events[0].Account != "other@example.vn" || told.count(auth.AccountImported) != 3 {
		t.Errorf("events %+v, told %v, %v", events, told.kinds, err)
	}
	again, err := g.Import(t.Context(), store, list, clerk, options)
	if err != nil || again.New+again.Changed != 0 || again.Unchanged != 3 || len(again.Events) != 0 {
		t.Errorf("once more: %+v, %v", again, err)
	}
}

func TestAnImportThatFailsSaysSo(t *testing.T) {
	g, store, told := importer(t)
	store.Fail = func(op auth.StoreOp) error {
		if op == auth.OpUpdate {
			return errors.New("disk")
		}
		return nil
	}
	if _, err := g.Import(t.Context(), store, []auth.Imported{{Name: lan}}, clerk, guard.ImportOptions{}); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("error %v", err)
	}
	if _, err := g.Import(t.Context(), store, []auth.Imported{{Name: lan}, {Name: lan}}, clerk, guard.ImportOptions{}); !errors.Is(err, auth.ErrOutOfRange) {
		t.Errorf("an account that is twice in the list: %v", err)
	}
	if len(told.kinds) > 0 {
		t.Errorf("recorded %v, which did not happen", told.kinds)
	}
}

func TestAListNamesAccountsByTheirOwnAddress(t *testing.T) {
	g, _, _ := importer(t)
	for address, want := range map[string]struct {
		name auth.Name
		err  error
	}{
		"lan@example.vn":        {lan, nil},
		"LAN@Example.VN.":       {lan, nil},
		"vanthu@example.vn":     {lan, auth.ErrAlias},
		"VanThu@example.vn":     {lan, auth.ErrAlias},
		"lan":                   {"", auth.ErrMalformedName},
		"lan+to@example.vn":     {"", auth.ErrMalformedName},
		"lan@elsewhere.vn":      {"", auth.ErrForeignDomain},
		"lan*admin@example.vn":  {"", auth.ErrMasterUser},
		"an nguyen@example.vn":  {"", auth.ErrMalformedName},
		"":                      {"", auth.ErrMalformedName},
		"nguyễn.văn@example.vn": {"nguyễn.văn@example.vn", nil},
	} {
		if name, err := g.Own(address); name != want.name || !errors.Is(err, want.err) {
			t.Errorf("%q: %q, %v; want %q, %v", address, name, err, want.name, want.err)
		}
	}
}

func TestTwoImportsAtOnceChangeEachAccountOnce(t *testing.T) {
	g, store, _ := importer(t)
	var list []auth.Imported
	for i := range 1000 {
		list = append(list, auth.Imported{Name: auth.Name(fmt.Sprintf("n%d@example.vn", i)), Unit: "Sở Y tế"})
	}
	other := &guard.Guard{Store: store, Now: g.Now}
	other.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{Default: "example.vn"}})
	var wg sync.WaitGroup
	var did [2]guard.Importation
	for i, g := range []*guard.Guard{g, other} {
		wg.Go(func() {
			var err error
			if did[i], err = g.Import(t.Context(), store, list, clerk, guard.ImportOptions{Digest: "aa"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := did[0].New + did[1].New; n != len(list) || did[0].Looked != len(list) || did[1].Looked != len(list) {
		t.Errorf("%d new and %d new of %d accounts", did[0].New, did[1].New, len(list))
	}
	events, err := store.Events(t.Context(), auth.EventFilter{Kinds: []auth.EventKind{auth.AccountImported}, Limit: 10_000})
	if err != nil || len(events) != len(list) {
		t.Errorf("%d events, %v; want %d", len(events), err, len(list))
	}
	if open, err := guard.UnfinishedImports(t.Context(), store); err != nil || len(open) > 0 {
		t.Errorf("unfinished %+v, %v", open, err)
	}
}

// A gateway that is stopped between two batches, or whose store fails, leaves the
// batches before; the audit log shows it.
func TestAnImportThatStopsSaysHowFarItCame(t *testing.T) {
	for what, stop := range map[string]func(store *storetest.Model, cancel func()){
		"the context ends": func(_ *storetest.Model, cancel func()) { cancel() },
		"the store fails": func(store *storetest.Model, _ func()) {
			store.Fail = func(op auth.StoreOp) error {
				if op == auth.OpUpdate {
					return errors.New("disk")
				}
				return nil
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			g, store, told := importer(t)
			var list []auth.Imported
			for i := range 450 {
				list = append(list, auth.Imported{Name: auth.Name(fmt.Sprintf("n%d@example.vn", i))})
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			options := guard.ImportOptions{Digest: "aa", Progress: func(done int) {
				if done == 200 {
					stop(store, cancel)
				}
			}}
			did, err := g.Import(ctx, store, list, clerk, options)
			if err == nil || did.Looked != 200 || did.New != 200 || told.count(auth.AccountImported) != 200 || told.count(auth.ImportFinished) != 0 {
				t.Fatalf("%d looked at, %d new, told %v, %v", did.Looked, did.New, told.kinds, err)
			}
			store.Fail = nil
			if open, err := guard.UnfinishedImports(t.Context(), store); err != nil || len(open) != 1 || open[0].Reason != clerk.Reason {
				t.Fatalf("unfinished %+v, %v", open, err)
			}
			did, err = g.Import(t.Context(), store, list, clerk, guard.ImportOptions{Digest: "aa"})
			if err != nil || !did.Resumed || did.New != 250 || did.Unchanged != 200 {
				t.Errorf("again: resumed %v, %d new, %d as before, %v", did.Resumed, did.New, did.Unchanged, err)
			}
			if open, err := guard.UnfinishedImports(t.Context(), store); err != nil || len(open) > 0 {
				t.Errorf("unfinished %+v, %v", open, err)
			}
		})
	}
}
