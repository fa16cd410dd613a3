package auth_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest"
)

var hanoi = time.FixedZone("+07", 7*60*60)

func day(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, hanoi)
}

var clerk = auth.Act{Actor: "Nguyễn Văn An", Reason: "công văn 12/CV"}

func TestAnImportCorrectsInOneDirectionOnly(t *testing.T) {
	now := day(2026, 11, 24)
	seen := auth.Password{Salt: []byte("s"), Known: []auth.KnownPassword{{Fingerprint: []byte("f"), Since: day(2026, 9, 1)}}, Since: day(2026, 9, 1)}
	lock := auth.Lock{Mark: auth.Mark{At: now, By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
	for _, c := range []struct {
		name          string
		is            auth.Account
		from          auth.Imported
		want          auth.Account
		before, after string // "" for both: nothing changes
	}{
		{
			name: "a name becomes an account",
			from: auth.Imported{Unit: "Sở Y tế", Registered: day(2024, 1, 15), LastLogin: day(2026, 11, 1), PasswordChanged: day(2026, 10, 2)},
			want: auth.Account{
				Unit: "Sở Y tế", Registered: day(2024, 1, 15), LastLogin: day(2026, 11, 1), Password: auth.Password{Since: day(2026, 10, 2)},
			},
			before: "no account",
			after:  "unit Sở Y tế, registered 2024-01-15 00:00 +07:00, last login 2026-11-01 00:00 +07:00, password since 2026-10-02 00:00 +07:00",
		},
		{
			name:   "without a date it is registered now",
			want:   auth.Account{Registered: now},
			before: "no account", after: "registered 2026-11-24 00:00 +07:00",
		},
		{
			name:   "with a login only it is registered by then",
			from:   auth.Imported{LastLogin: day(2026, 1, 2)},
			want:   auth.Account{Registered: day(2026, 1, 2), LastLogin: day(2026, 1, 2)},
			before: "no account", after: "registered 2026-01-02 00:00 +07:00, last login 2026-01-02 00:00 +07:00",
		},
		{
			name:   "failures and the lock of a name that was guessed at stay",
			is:     auth.Account{Failures: 6, Lock: lock},
			from:   auth.Imported{Registered: day(2024, 1, 1)},
			want:   auth.Account{Failures: 6, Lock: lock, Registered: day(2024, 1, 1)},
			before: "no account", after: "registered 2024-01-01 00:00 +07:00",
		},
		{
			name: "a revocation stays, though the login is recent",
			is:   auth.Account{Registered: day(2020, 1, 1), Revocation: auth.Mark{At: now, By: auth.ByGateway}},
			from: auth.Imported{LastLogin: day(2026, 11, 1)},
			want: auth.Account{
				Registered: day(2020, 1, 1), LastLogin: day(2026, 11, 1), Revocation: auth.Mark{At: now, By: auth.ByGateway},
			},
			before: "", after: "last login 2026-11-01 00:00 +07:00",
		},
		{
			name: "the earliest registration and the latest login win",
			is:   auth.Account{Registered: day(2024, 5, 1), FirstLogin: day(2024, 5, 1), LastLogin: day(2026, 5, 1)},
			from: auth.Imported{Registered: day(2024, 1, 1), LastLogin: day(2026, 6, 1)},
			want: auth.Account{Registered: day(2024, 1, 1), FirstLogin: day(2024, 5, 1), LastLogin: day(2026, 6, 1)},

			before: "registered 2024-05-01 00:00 +07:00, last login 2026-05-01 00:00 +07:00",
			after:  "registered 2024-01-01 00:00 +07:00, last login 2026-06-01 00:00 +07:00",
		},
		{
			name: "an old list takes nothing back",
			is:   auth.Account{Registered: day(2024, 1, 1), LastLogin: day(2026, 6, 1), Password: auth.Password{Since: day(2026, 6, 1)}, Unit: "Sở Y tế"},
			from: auth.Imported{Registered: day(2024, 5, 1), LastLogin: day(2026, 5, 1), PasswordChanged: day(2026, 5, 1), Unit: "Sở Y tế"},
			want: auth.Account{Registered: day(2024, 1, 1), LastLogin: day(2026, 6, 1), Password: auth.Password{Since: day(2026, 6, 1)}, Unit: "Sở Y tế"},
		},
		{
			name:   "a later list knows of a later password",
			is:     auth.Account{Registered: day(2024, 1, 1), Password: auth.Password{Since: day(2026, 6, 1)}},
			from:   auth.Imported{PasswordChanged: day(2026, 9, 1)},
			want:   auth.Account{Registered: day(2024, 1, 1), Password: auth.Password{Since: day(2026, 9, 1)}},
			before: "password since 2026-06-01 00:00 +07:00", after: "password since 2026-09-01 00:00 +07:00",
		},
		{
			name: "what the gateway has seen of a password is better evidence",
			is:   auth.Account{Registered: day(2024, 1, 1), Password: seen},
			from: auth.Imported{PasswordChanged: day(2026, 10, 1)},
			want: auth.Account{Registered: day(2024, 1, 1), Password: seen},
		},
		{
			name: "nothing said is nothing changed",
			is:   auth.Account{Registered: day(2024, 1, 1), Unit: "Sở Y tế"},
			want: auth.Account{Registered: day(2024, 1, 1), Unit: "Sở Y tế"},
		},
		{
			name:   "the unit is replaced",
			is:     auth.Account{Registered: day(2024, 1, 1), Unit: "Sở Y tế"},
			from:   auth.Imported{Unit: "Sở Nội vụ"},
			want:   auth.Account{Registered: day(2024, 1, 1), Unit: "Sở Nội vụ"},
			before: "unit Sở Y tế", after: "unit Sở Nội vụ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.is.Name, c.want.Name, c.from.Name = lan, lan, lan
			a := c.is.Normal()
			events, write := auth.DefaultRules().Import(&a, c.from, now, clerk)
			if got := a.Normal(); !reflect.DeepEqual(got, c.want.Normal()) {
				t.Errorf("account %+v\nwant %+v", got, c.want.Normal())
			}
			if changes := c.after != ""; write != changes || len(events) != 0 != changes {
				t.Fatalf("write %v, events %+v", write, events)
			}
			if !write {
				return
			}
			want := auth.Event{
				Kind: auth.AccountImported, Account: lan, At: now, Actor: clerk.Actor, Reason: clerk.Reason, Before: c.before, After: c.after,
			}
			if events[0] != want {
				t.Errorf("event %+v\nwant  %+v", events[0], want)
			}
			if again, write := auth.DefaultRules().Import(&a, c.from, now.Add(time.Hour), clerk); write || len(again) > 0 {
				t.Errorf("the same once more changes something: %+v", again)
			}
		})
	}
}

func importer(t *testing.T) (*auth.Guard, *storetest.Model, *recorder) {
	t.Helper()
	store, told := &storetest.Model{}, &recorder{outcomes: make(map[auth.Outcome]int)}
	g := &auth.Guard{Store: store, Recorder: told, Now: func() time.Time { return day(2026, 11, 24) }}
	g.SetPolicy(auth.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{
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
	options := auth.ImportOptions{Dry: true, Progress: func(n int) { looked = n }}
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
		if op == auth.OpUpdateAll {
			return errors.New("disk")
		}
		return nil
	}
	if _, err := g.Import(t.Context(), store, []auth.Imported{{Name: lan}}, clerk, auth.ImportOptions{}); err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("error %v", err)
	}
	if _, err := g.Import(t.Context(), store, []auth.Imported{{Name: lan}, {Name: lan}}, clerk, auth.ImportOptions{}); !errors.Is(err, auth.ErrOutOfRange) {
		t.Errorf("an account that is twice in the list: %v", err)
	}
	if len(told.kinds) > 0 {
		t.Errorf("told of %v, which did not happen", told.kinds)
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
