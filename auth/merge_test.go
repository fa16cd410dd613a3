package auth_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
)

func TestAMergeKeepsTheWorseOfBothNames(t *testing.T) {
	at := func(month int) time.Time { return auth.AddMonths(lastYear, month) }
	here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	a := auth.Account{
		Name: lan, Registered: at(3), FirstLogin: at(3), LastLogin: at(5), Failures: 2,
		Mistakes: []auth.Mistake{{At: at(4)}, {At: at(6)}}, WrongOn: "1999-09-01", WrongThatDay: 1,
		Seen: []auth.Seen{{At: at(5), Source: here}}, GraceUntil: at(20), Lock: wrongLock,
		Password: accepted("a", password("a1", at(3))),
	}
	from := auth.Account{
		Name: twin, Unit: "Sở Y tế", Registered: at(1), FirstLogin: at(2), LastLogin: at(6), Failures: 4,
		Mistakes: []auth.Mistake{{At: at(5)}, {At: at(6)}}, WrongOn: "1999-09-01", WrongThatDay: 3,
		Seen: []auth.Seen{{At: at(6), Source: there}, {At: at(2), Source: here}}, Lock: adminsLock, Revocation: sweptAway, Restored: at(1),
		Password: accepted("b", password("b2", at(4))), Stale: auth.Mistake{At: at(5)}, AlertedOn: "1999-09-01",
	}
	want := auth.Account{
		Name: lan, Unit: "Sở Y tế", Registered: at(1), FirstLogin: at(2), LastLogin: at(6), Failures: 4,
		Mistakes: []auth.Mistake{{At: at(4)}, {At: at(5)}, {At: at(6)}}, WrongOn: "1999-09-01", WrongThatDay: 3,
		Seen: []auth.Seen{{At: at(6), Source: there}, {At: at(5), Source: here}}, Lock: adminsLock, Revocation: sweptAway, Restored: at(1),
		// No change was seen: the password may be as old as the first of both.
		Password: accepted("b", password("b2", at(3))), Stale: auth.Mistake{At: at(5)}, AlertedOn: "1999-09-01",
	}
	events := auth.DefaultRules().Merge(&a, from, at(7), clerk)
	if got := a.Normalized(); !reflect.DeepEqual(got, want.Normalized()) {
		t.Errorf("got  %+v\nwant %+v", got, want.Normalized())
	}
	var kinds []auth.EventKind
	for _, e := range events {
		kinds = append(kinds, e.Kind)
		if e.Account != lan || e.Actor != clerk.Actor || e.Reason != clerk.Reason {
			t.Errorf("event %+v", e)
		}
	}
	if want := []auth.EventKind{auth.AccountMerged, auth.AccountLocked, auth.AccountRevoked}; !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	if e := events[0]; e.Before != "locked by 2 wrong passwords" || e.After != "merged with lan@other.vn: locked by An, revoked" {
		t.Errorf("%q -> %q", e.Before, e.After)
	}
}

// accepted returns the memory of passwords that were accepted.
func accepted(salt string, known ...auth.KnownPassword) auth.Password {
	return auth.Password{Salt: []byte(salt), Known: known, Since: known[len(known)-1].Since}
}

func password(fingerprint string, since time.Time) auth.KnownPassword {
	return auth.KnownPassword{Fingerprint: []byte(fingerprint), Since: since}
}

func TestTheAgeOfAMergedPasswordIsThatOfTheLatestChangeThatWasSeen(t *testing.T) {
	at := func(month int) time.Time { return auth.AddMonths(lastYear, month) }
	seen := accepted("s", password("1", at(2)))
	changed := accepted("t", password("1", at(3)), password("2", at(4)))
	for _, c := range []struct {
		a, from auth.Password
		later   bool // the other name has the later login
		want    auth.Password
	}{
		{seen, changed, true, changed},
		{changed, seen, true, accepted("s", password("1", at(4)))},
		{seen, auth.Password{}, true, seen},
		{auth.Password{}, seen, false, seen},
		{auth.Password{Since: at(1)}, seen, true, accepted("s", password("1", at(1)))},
	} {
		a := known(lan, func(a *auth.Account) { a.Password = c.a })
		from := known(twin, func(a *auth.Account) { a.Password = c.from })
		if c.later {
			from.LastLogin = from.LastLogin.Add(time.Hour)
		}
		auth.DefaultRules().Merge(&a, from, at(9), clerk)
		if !reflect.DeepEqual(a.Password, c.want) {
			t.Errorf("%+v with %+v: %+v, want %+v", c.a, c.from, a.Password, c.want)
		}
	}
}

// In any state of the two names, a merge accepts no user who would have been refused
// before, and a second merge changes nothing.
func TestAMergeLoosensNothingAndTwiceIsOnce(t *testing.T) {
	rules := auth.DefaultRules()
	rapid.Check(t, func(t *rapid.T) {
		now := auth.AddMonths(lastYear, 12)
		instant := rapid.Custom(func(t *rapid.T) time.Time {
			if month := rapid.IntRange(0, 11).Draw(t, "month"); month > 0 {
				return auth.AddMonths(lastYear, month)
			}
			return time.Time{}
		})
		account := func(name auth.Name) auth.Account {
			a := auth.Account{
				Name: name, Registered: instant.Draw(t, "registered"), FirstLogin: instant.Draw(t, "first"), LastLogin: instant.Draw(t, "last"),
				Failures: rapid.IntRange(0, 6).Draw(t, "failures"), GraceUntil: instant.Draw(t, "grace"), Restored: instant.Draw(t, "restored"),
				Lock:       rapid.SampledFrom([]auth.Lock{{}, adminsLock, wrongLock}).Draw(t, "lock"),
				Revocation: rapid.SampledFrom([]auth.Mark{{}, sweptAway}).Draw(t, "revocation"),
			}
			a.Password.Since = instant.Draw(t, "since")
			for range a.Failures {
				a.Mistakes = append(a.Mistakes, auth.Mistake{At: auth.AddMonths(lastYear, rapid.IntRange(0, 11).Draw(t, "mistake"))})
			}
			slices.SortFunc(a.Mistakes, func(x, y auth.Mistake) int { return x.At.Compare(y.At) })
			return a
		}
		a, from := account(lan), account(twin)
		merged := a.Clone()
		rules.Merge(&merged, from, now, clerk)
		for _, one := range []auth.Account{a, from} {
			switch {
			case rules.Locked(one, now) && !rules.Locked(merged, now), one.Lock.Cause == auth.ByAdmin && merged.Lock.Cause != auth.ByAdmin,
				!one.Revocation.IsZero() && merged.Revocation.IsZero(), one.Failures > merged.Failures,
				one.Known() && !merged.Known(), one.LastLogin.After(merged.LastLogin),
				!one.Password.Since.IsZero() && (merged.Password.Since.IsZero() || merged.Password.Since.After(one.Password.Since)),
				merged.GraceUntil.After(now):
				t.Fatalf("%+v\nis loosened to %+v", one, merged)
			}
		}
		again := merged.Clone()
		rules.Merge(&again, from, now, clerk)
		if !reflect.DeepEqual(again.Normalized(), merged.Normalized()) {
			t.Fatalf("merged again:\n%+v\n%+v", merged, again)
		}
	})
}
