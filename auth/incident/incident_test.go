package incident_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/incident"
)

func TestLocksAreGroupedByTheirCause(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	locked := func(name string, after time.Duration, sources ...string) auth.Account {
		a := auth.Account{Name: auth.Name(name), Lock: auth.Lock{Mark: auth.Mark{At: noon.Add(after)}, Cause: auth.ByWrongPasswords}}
		for _, s := range sources {
			a.Mistakes = append(a.Mistakes, auth.Mistake{At: noon, Source: netip.AddrPortFrom(netip.MustParseAddr(s), 4711)})
		}
		return a
	}
	many := func(n int, apart time.Duration, source func(i int) string) (all []auth.Account) {
		for i := range n {
			all = append(all, locked(fmt.Sprintf("u%02d", i), time.Duration(i)*apart, source(i)))
		}
		return all
	}
	ownSource := func(i int) string { return fmt.Sprintf("203.0.113.%d", i) }
	oneSource := func(int) string { return "203.0.113.1" }
	byAdmin := locked("x", 0, "203.0.113.1")
	byAdmin.Lock.Cause = auth.ByAdmin

	for _, c := range []struct {
		name     string
		accounts []auth.Account
		want     string // accounts of each incident, with ! when an attack is suspected
	}{
		{"none", nil, ""},
		{"an admin's lock has no incident", []auth.Account{byAdmin}, ""},
		{"strangers to each other", []auth.Account{locked("a", 0, "192.0.2.1"), locked("b", time.Minute, "192.0.2.2")}, "[b] [a]"},
		{"one source", []auth.Account{locked("a", 0, "192.0.2.1"), locked("b", time.Hour, "192.0.2.2", "192.0.2.1")}, "[a b]"},
		{"one customer's IPv6 network", []auth.Account{locked("a", 0, "2001:db8::1"), locked("b", 0, "2001:db8::2:3"), locked("c", -time.Minute, "2001:db8:0:1::1")}, "[a b] [c]"},
		{"one source, days apart", []auth.Account{locked("a", 0, "192.0.2.1"), locked("b", 25*time.Hour, "192.0.2.1")}, "[b] [a]"},
		{"one source again and again", []auth.Account{
			locked("a", 0, "192.0.2.1"), locked("b", 20*time.Hour, "192.0.2.1"), locked("c", 40*time.Hour, "192.0.2.1"),
		}, "[a b c]"},
		{"linked by a third", []auth.Account{
			locked("a", 0, "192.0.2.1"), locked("b", 0, "192.0.2.2"), locked("c", 0, "192.0.2.1", "192.0.2.2"),
		}, "[a b c]"},
		{"four in an hour from an office", many(4, 20*time.Minute, oneSource), "[u00 u01 u02 u03]"},
		{"five in an hour from one source", many(5, 15*time.Minute, oneSource), "![u00 u01 u02 u03 u04]"},
		{"five in more than an hour", many(5, 15*time.Minute+time.Second, oneSource), "[u00 u01 u02 u03 u04]"},
		{"nine at once from everywhere", many(9, time.Second, ownSource), "[u08] [u07] [u06] [u05] [u04] [u03] [u02] [u01] [u00]"},
		{"ten within ten minutes from everywhere", many(10, time.Minute, ownSource), "![u00 u01 u02 u03 u04 u05 u06 u07 u08 u09]"},
		{"ten in more than ten minutes from everywhere", many(10, 67*time.Second, ownSource),
			"[u09] [u08] [u07] [u06] [u05] [u04] [u03] [u02] [u01] [u00]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			slices.Reverse(c.accounts) // their order must not matter
			got := ""
			ids := make(map[string]bool)
			for i, incident := range incident.Group(c.accounts) {
				if i > 0 {
					got += " "
				}
				if incident.Suspected {
					got += "!"
				}
				got += fmt.Sprint(incident.Accounts)
				ids[incident.ID] = true
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if len(ids) != len(incident.Group(c.accounts)) {
				t.Error("two incidents have one ID")
			}
		})
	}
}

func TestTheIDOfAnIncidentStaysWhileItsFirstAccountIsLocked(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	var all []auth.Account
	for i, n := range []auth.Name{"a", "b", "c"} {
		all = append(all, auth.Account{
			Name: n, Lock: auth.Lock{Mark: auth.Mark{At: noon.Add(time.Duration(i) * time.Minute)}, Cause: auth.ByWrongPasswords},
			Mistakes: []auth.Mistake{{Source: netip.MustParseAddrPort("192.0.2.1:1")}},
		})
	}
	id := func(accounts ...auth.Account) string { return incident.Group(accounts)[0].ID }
	if id(all...) != id(all[0], all[2]) || id(all...) != id(all[0]) {
		t.Error("the ID changed with another account")
	}
	if id(all...) == id(all[1], all[2]) {
		t.Error("the ID stayed though the first account is unlocked")
	}
}

// accountsOf is a store that can only list accounts.
type accountsOf []auth.Account

func (l accountsOf) List(_ context.Context, want auth.Filter) (page []auth.Account, err error) {
	for _, a := range l {
		if a.Name > want.After && (a.Known() || want.Unknown) && (a.Lock.Cause != auth.NotLocked || !want.Locked) && len(page) < want.Limit {
			page = append(page, a)
		}
	}
	return page, nil
}

func TestAnIncidentHasTheNamesWithoutALogin(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	var all accountsOf
	locked := func(name string, known bool, after time.Duration, sources ...string) {
		a := auth.Account{Name: auth.Name(name), Lock: auth.Lock{Mark: auth.Mark{At: noon.Add(after)}, Cause: auth.ByWrongPasswords}}
		for _, s := range sources {
			a.Mistakes = append(a.Mistakes, auth.Mistake{At: noon, Source: netip.AddrPortFrom(netip.MustParseAddr(s), 4711)})
		}
		if known {
			a.Registered = noon.Add(-24 * time.Hour)
		}
		all = append(all, a)
	}
	for i := range 6 {
		locked(fmt.Sprintf("an%d", i), true, time.Duration(i)*time.Minute, "203.0.113.1")
	}
	locked("binh", true, 0, "192.0.2.9")
	accounts := incident.Group(all)
	locked("s1", false, -20*time.Hour, "203.0.113.1", "203.0.113.2") // a source in common, within a day
	locked("s2", false, 20*time.Hour, "203.0.113.1")
	locked("s3", false, 8*time.Minute, "198.51.100.1")                                                          // during the attack
	locked("t1", false, 40*time.Hour, "203.0.113.1")                                                            // days later
	locked("t2", false, 41*time.Hour, "203.0.113.1")                                                            // together with the one before
	locked("u", false, 0, "192.0.2.9")                                                                          // belongs to the incident that is not an attack
	all = append(all, auth.Account{Name: "v", Failures: 2})                                                     // not locked
	all = append(all, auth.Account{Name: "w", Lock: auth.Lock{Mark: auth.Mark{At: noon}, Cause: auth.ByAdmin}}) // by an admin
	slices.SortFunc(all, func(a, b auth.Account) int { return strings.Compare(string(a.Name), string(b.Name)) })

	incidents, err := incident.FindWithNames(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range incidents {
		got = append(got, fmt.Sprint(c.Suspected, c.Accounts, c.Unknown, c.Sources))
	}
	want := []string{
		"false [] [t1 t2] [203.0.113.1/32]",
		"true [an0 an1 an2 an3 an4 an5] [s1 s3 s2] [203.0.113.1/32 203.0.113.2/32 198.51.100.1/32]",
		"false [binh] [u] [192.0.2.9/32]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Users who may not see the names see the same incidents of accounts.
	seen, err := incident.Find(t.Context(), all)
	if err != nil || len(seen) != 2 || len(accounts) != 2 {
		t.Fatal(seen, err)
	}
	for i, c := range seen {
		if with := incidents[i+1]; c.ID != with.ID || c.ID != accounts[i].ID || c.Suspected != with.Suspected || c.Unknown != nil ||
			!c.First.Equal(with.First) || !c.Last.Equal(with.Last) {
			t.Errorf("%+v\n%+v", c, with)
		}
	}
}

func TestAnAttackThatIsQuietForADayHasEnded(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	incidents := []incident.Incident{{ID: "a", First: noon.Add(-time.Hour), Last: noon, Suspected: true}, {ID: "b", First: noon, Last: noon}}
	for after, n := range map[time.Duration]int{-time.Hour: 1, 0: 1, 24 * time.Hour: 1, 24*time.Hour + time.Second: 0} {
		if got := incident.Attacks(incidents, noon.Add(after)); len(got) != n || n == 1 && got[0].ID != "a" {
			t.Errorf("%v after the last lock: %+v", after, got)
		}
	}
}
