package auth_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

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
			a := c.is.Normalized()
			events, write := auth.DefaultRules().Import(&a, c.from, now, clerk)
			if got := a.Normalized(); !reflect.DeepEqual(got, c.want.Normalized()) {
				t.Errorf("account %+v\nwant %+v", got, c.want.Normalized())
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

func TestAnImportIsUnfinishedUntilItsListOrALargerOneIsFinished(t *testing.T) {
	event := func(kind auth.EventKind, accounts int, digest string) auth.Event {
		return auth.Event{Kind: kind, Before: auth.ListMark{Accounts: accounts, Digest: digest}.String()}
	}
	begun := func(n int, digest string) auth.Event { return event(auth.ImportBegun, n, digest) }
	finished := func(n int, digest string) auth.Event { return event(auth.ImportFinished, n, digest) }
	for name, c := range map[string]struct {
		oldestFirst []auth.Event
		want        string
	}{
		"none":                        {nil, ""},
		"finished":                    {[]auth.Event{begun(5, "aa"), finished(5, "aa")}, ""},
		"interrupted":                 {[]auth.Event{begun(5, "aa")}, "aa"},
		"twice":                       {[]auth.Event{begun(5, "aa"), begun(5, "aa")}, "aa"},
		"run again":                   {[]auth.Event{begun(5, "aa"), begun(5, "aa"), finished(5, "aa")}, ""},
		"and begun once more":         {[]auth.Event{begun(5, "aa"), finished(5, "aa"), begun(5, "aa")}, "aa"},
		"a smaller one since":         {[]auth.Event{begun(5, "aa"), begun(4, "bb"), finished(4, "bb")}, "aa"},
		"one as large since":          {[]auth.Event{begun(5, "aa"), begun(5, "bb"), finished(5, "bb")}, ""},
		"a larger one under way":      {[]auth.Event{begun(5, "aa"), begun(6, "bb")}, "aa bb"},
		"two at once":                 {[]auth.Event{begun(5, "aa"), begun(4, "bb"), finished(5, "aa")}, ""},
		"a beginning that is removed": {[]auth.Event{finished(3, "aa"), begun(5, "bb")}, "bb"},
		"other events":                {[]auth.Event{begun(5, "aa"), {Kind: auth.AccountImported, Before: "5 accounts, list sha256:aa"}}, "aa"},
		"what cannot be read":         {[]auth.Event{{Kind: auth.ImportBegun, Before: "a newer gateway's words"}}, ""},
	} {
		newestFirst := slices.Clone(c.oldestFirst)
		slices.Reverse(newestFirst)
		var got []string
		for _, e := range auth.UnfinishedImports(newestFirst) {
			list, ok := e.List()
			if !ok || e.Kind != auth.ImportBegun {
				t.Errorf("%s: %+v", name, e)
			}
			got = append(got, list.Digest)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: unfinished %v, want %s", name, got, c.want)
		}
	}
}
