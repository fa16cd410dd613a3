package admin

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
)

// walk follows the cursors from the first page to the last.
func (f *fixture) walk(t *testing.T, query string) (names []string, pages int) {
	t.Helper()
	for cursor := ""; ; {
		list := decode[AccountList](t, f.request("GET", base+"/accounts?"+query+"&cursor="+url.QueryEscape(cursor), ""), 200)
		for _, a := range list.Accounts {
			names = append(names, a.Address)
		}
		if pages++; pages > 200 {
			t.Fatal("the pages do not end")
		}
		if cursor = list.Next; cursor == "" {
			return names, pages
		}
	}
}

func TestPagesShowEveryAccountOnce(t *testing.T) {
	f := newFixture(t)
	f.store.accounts["khongai@x.vn"] = auth.Account{Name: "khongai@x.vn", Failures: 3} // no account
	for i := range 23 {
		f.add(auth.Account{Name: auth.Name(fmt.Sprintf("u%02d@x.vn", i))})
	}
	want := []string{"an@x.vn", "binh@x.vn"}
	for i := range 23 {
		want = append(want, fmt.Sprintf("u%02d@x.vn", i))
	}
	for _, most := range []int{0, 1, 3} { // however few rows the store returns at once
		f.store.most = most
		for _, c := range []struct{ limit, pages int }{{1, 25}, {5, 5}, {7, 4}, {24, 2}, {25, 1}, {1000, 1}} {
			names, pages := f.walk(t, fmt.Sprintf("limit=%d", c.limit))
			if !slices.Equal(names, want) || pages != c.pages {
				t.Errorf("limit %d: %d pages: %v", c.limit, pages, names)
			}
		}
	}
	if names, _ := f.walk(t, "q=U1"); len(names) != 10 {
		t.Errorf("q: %v", names)
	}
	w := f.request("GET", base+"/accounts?limit=1", "")
	if strings.Contains(w.Body.String(), `"why"`) || strings.Contains(w.Body.String(), `"events"`) {
		t.Errorf("a list with reasons: %s", w.Body)
	}
	if w := f.request("GET", base+"/accounts?q=zzz", ""); strings.TrimSpace(w.Body.String()) != `{"accounts":[]}` {
		t.Errorf("%s", w.Body)
	}
}

// some returns accounts of every state, some of them of several states.
func (f *fixture) some(n int) {
	for i := range n {
		a := auth.Account{Name: auth.Name(fmt.Sprintf("u%04d@x.vn", i))}
		switch i % 9 {
		case 1:
			a.Lock = auth.Lock{Mark: auth.Mark{At: f.now, By: "A"}, Cause: auth.ByAdmin}
		case 2:
			a.LastLogin, a.Revocation = auth.AddMonths(f.now, -24), auth.Mark{At: f.now.AddDate(0, 0, -3)}
		case 3:
			a.LastLogin = auth.AddMonths(f.now, -12).AddDate(0, 0, -2) // for the next sweep
		case 4:
			a.Password.Since = auth.AddMonths(f.now, -3).AddDate(0, 0, -2)
		case 5:
			a.Password.Since = auth.AddMonths(f.now, -3).AddDate(0, 0, 5)
		case 6:
			a.Registered = auth.AddMonths(f.now, -1)
		case 7:
			// Revoked before the months were set higher: marked, and used lately.
			a.Revocation = auth.Mark{At: f.now.AddDate(0, 0, -3)}
		case 8:
			a.Password.Since, a.GraceUntil = auth.AddMonths(f.now, -4), f.now.AddDate(0, 0, 2)
		}
		f.add(a)
	}
}

func TestAStateListsTheAccountsThatTheRulesPutInIt(t *testing.T) {
	f := newFixture(t)
	f.some(450)
	rules := f.guard.Rules()
	for _, state := range auth.States() {
		var want []string
		for _, a := range f.store.accounts {
			if rules.State(a, f.now) == state {
				want = append(want, string(a.Name))
			}
		}
		slices.Sort(want)
		if len(want) == 0 {
			t.Fatalf("no account is %v", state)
		}
		for _, most := range []int{0, 7} {
			f.store.most = most
			for _, limit := range []int{1, 20, 1000} {
				if limit == 1 && most > 0 {
					continue // slow, and no other case
				}
				names, _ := f.walk(t, fmt.Sprintf("state=%v&limit=%d", state, max(limit, len(want)/20)))
				if !slices.Equal(names, want) {
					t.Errorf("%v by %d: %d accounts, want %d", state, limit, len(names), len(want))
				}
			}
		}
	}
}

// The filters that a store applies may match too much, but never too little: no account
// that the rules call expired may be lost.
func TestCandidatesLoseNoAccount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := auth.DefaultRules()
		rules.Dormancy.Months = rapid.IntRange(1, 30).Draw(t, "dormancy")
		rules.Dormancy.DoorsComplete = rapid.Bool().Draw(t, "doors")
		rules.Password.Months = rapid.IntRange(1, 30).Draw(t, "months")
		rules.Password.WarnDays = rapid.IntRange(0, 40).Draw(t, "warn")
		now := instant("2025-01-01 00:00").Add(time.Duration(rapid.IntRange(0, 3*365*24).Draw(t, "now")) * time.Hour)
		ago := func(label string) time.Time {
			hours := rapid.IntRange(-48, 3*365*24).Draw(t, label)
			return now.Add(-time.Duration(hours) * time.Hour)
		}
		a := auth.Account{Name: "a@x.vn", Registered: ago("registered"), Password: auth.Password{Since: ago("since")}}
		if rapid.Bool().Draw(t, "seen") {
			a.FirstLogin, a.LastLogin = a.Registered, ago("login")
		}
		if rapid.Bool().Draw(t, "graced") {
			a.GraceUntil = ago("grace")
		}
		if rapid.Bool().Draw(t, "revoked") {
			a.Revocation = auth.Mark{At: ago("revocation")}
		}
		if rapid.Bool().Draw(t, "restored") {
			a.Restored = ago("restoration")
		}
		if rapid.Bool().Draw(t, "locked") {
			a.Lock = auth.Lock{Mark: auth.Mark{At: ago("lock")}, Cause: auth.ByWrongPasswords}
		}
		store := &memory{accounts: map[auth.Name]auth.Account{a.Name: a}}
		state := rules.State(a, now)
		found, err := merge(t.Context(), store, candidates(state.String(), rules, now), "", 10)
		if err != nil || len(found) != 1 {
			t.Fatalf("an account that is %v is not found (%v): %+v", state, err, a)
		}
	})
}

func TestListsThatRunAtDifferentPaceAreMergedWithoutLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := &memory{accounts: make(map[auth.Name]auth.Account), most: rapid.IntRange(1, 5).Draw(t, "most")}
		var want []auth.Name
		for i, flags := range rapid.SliceOfN(rapid.IntRange(0, 15), 0, 60).Draw(t, "flags") {
			a := auth.Account{Name: auth.Name(fmt.Sprintf("u%02d@x.vn", i)), Registered: instant("2025-01-01 00:00")}
			if flags >= 14 { // few
				a.Lock.Cause = auth.ByAdmin
			}
			if flags%3 == 0 { // many
				a.Revocation.At = a.Registered
			}
			if a.Lock.Cause != auth.NotLocked || !a.Revocation.IsZero() {
				want = append(want, a.Name)
			}
			store.accounts[a.Name] = a
		}
		limit := rapid.IntRange(1, 10).Draw(t, "limit")
		var got []auth.Name
		for after := auth.Name(""); ; {
			accounts, next, err := page(t.Context(), store, []auth.Filter{{Locked: true}, {Revoked: true}}, after, limit,
				func(auth.Account) bool { return true })
			if err != nil || len(accounts) > limit || next != "" && next <= after {
				t.Fatalf("%d accounts, next %q after %q, %v", len(accounts), next, after, err)
			}
			for _, a := range accounts {
				got = append(got, a.Name)
			}
			if after = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

// counting records how often and how much is read from a store.
type counting struct {
	*memory
	rows int
}

func (c *counting) List(ctx context.Context, f auth.Filter) ([]auth.Account, error) {
	some, err := c.memory.List(ctx, f)
	c.rows += len(some)
	return some, err
}

func TestARareStateIsNotSearchedForWithoutEnd(t *testing.T) {
	f := newFixture(t)
	for i := range maxScanned + 1500 {
		f.add(auth.Account{Name: auth.Name(fmt.Sprintf("u%06d@x.vn", i))})
	}
	f.add(auth.Account{Name: "zoe@x.vn", Registered: f.now}) // without any login
	store := &counting{memory: f.store}
	f.Accounts = store
	list := decode[AccountList](t, f.request("GET", base+"/accounts?state=never_seen&limit=1000", ""), 200)
	if len(list.Accounts) != 0 || list.Next == "" || store.rows > maxScanned+1000 {
		t.Errorf("%d accounts of %d rows, next %q", len(list.Accounts), store.rows, list.Next)
	}
	if names, pages := f.walk(t, "state=never_seen&limit=1000"); pages != 2 || !slices.Equal(names, []string{"zoe@x.vn"}) {
		t.Errorf("%d pages: %v", pages, names)
	}
}

func TestBadListParametersAreNamed(t *testing.T) {
	f := newFixture(t)
	for query, location := range map[string]string{
		"limit=0": "query.limit", "limit=1001": "query.limit", "limit=x": "query.limit", "limit=-1": "query.limit",
		"state=dead": "query.state", "cursor=!!": "query.cursor", "cursor=YWJj": "query.cursor", "stat=locked": "query",
		"q=%00": "query.q", "q=" + strings.Repeat("a", 321): "query.q",
	} {
		p := decode[Problem](t, f.request("GET", base+"/accounts?"+query, ""), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p)
		}
	}
	for _, query := range []string{"limit=1&limit=2", "state&limit=5", "limit", "q=%zz", "a;b", "q=a;b"} {
		decode[Problem](t, f.request("GET", base+"/accounts?"+query, ""), 400)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(encodeCursor("an@x.vn"))
	f.Add(encodeCursor("đ@xn--a.vn"))
	f.Add("MTo")   // "1:"
	f.Add("MTphB") // trailing bits
	f.Add("Mjph")  // another version
	f.Add("MTphCg")
	f.Add("!!!")
	f.Fuzz(func(t *testing.T, cursor string) {
		name, err := decodeCursor(cursor)
		if err != nil {
			if name != "" || strings.Contains(err.Error(), cursor) && len(cursor) > 4 {
				t.Fatalf("%q: %q, %v", cursor, name, err)
			}
			return
		}
		// Each name has one cursor, and a cursor contains nothing that a store cannot
		// handle.
		if again := encodeCursor(name); again != cursor {
			t.Fatalf("%q reads as %q, which is written %q", cursor, name, again)
		}
		if len(name) > 320 || strings.ContainsAny(string(name), "\x00\r\n") {
			t.Fatalf("%q", name)
		}
	})
}
