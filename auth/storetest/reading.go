package storetest

import (
	"net/netip"
	"testing"
	"time"

	"congthu/auth"
)

// Full returns an account in which every field is set, each to a different value: code
// that copies or stores accounts must not forget one.
func Full(name auth.Name) auth.Account { return full(name) }

// full returns an account in which every field is set, each to a different value.
func full(name auth.Name) auth.Account {
	at := func(n int) time.Time { return noon.Add(time.Duration(n)*time.Hour + time.Duration(n)*time.Microsecond) }
	return auth.Account{
		Name:       name,
		Unit:       "UBND xã Minh Hưng",
		Registered: at(1), FirstLogin: at(2), LastLogin: at(3),
		Failures: 9,
		Mistakes: []auth.Mistake{
			{At: at(4), Source: netip.MustParseAddrPort("192.0.2.1:1")},
			{At: at(5), Source: netip.MustParseAddrPort("[2001:db8::1]:65535")},
			{At: at(6), Source: netip.MustParseAddrPort("[::ffff:192.0.2.3]:993")},
			{At: at(7)},
		},
		WrongOn: "2026-03-30", WrongThatDay: 31,
		Seen: []auth.Seen{
			{At: at(14), Source: netip.MustParsePrefix("198.51.100.9/32")},
			{At: at(15), Source: netip.MustParsePrefix("2001:db8:7::/64")},
		},
		Stale:      auth.Mistake{At: at(8), Source: netip.MustParseAddrPort("[2001:db8:0:1::]:143")},
		Lock:       auth.Lock{Mark: auth.Mark{At: at(9), By: "Nguyễn Văn An", Reason: "theo công văn 12/CV"}, Cause: auth.ByAdmin},
		Revocation: auth.Mark{At: at(10), By: auth.ByGateway, Reason: "not logged in to since 2025"},
		Restored:   at(11),
		Password: auth.Password{
			Salt: []byte("salt\x00of sixteen"), Since: at(12),
			Known: []auth.KnownPassword{
				{Fingerprint: []byte{3, 0}, Since: at(10)}, {Fingerprint: []byte{4}, Since: at(16)},
				{Fingerprint: []byte{5}, Since: at(10), Beyond: true}, {Fingerprint: []byte{0, 1, 2, 255}, Since: at(12)},
			},
		},
		GraceUntil: at(13),
		AlertedOn:  "2026-03-31",
	}
}

func put(want auth.Account) auth.Change {
	return func(a *auth.Account) ([]auth.Event, bool) { *a = want.Normalized(); return nil, true }
}

func unseenName(t *testing.T, h Harness) {
	s := h.open(t)
	wantAccount(t, account(t, s, testName), auth.Account{Name: testName})
	a, _, err := s.Reserve(t.Context(), testName, func(a auth.Account) int {
		wantAccount(t, a, auth.Account{Name: testName})
		return 1
	})
	if err != nil {
		t.Fatalf("reserve: %v", err)
	}
	wantAccount(t, a, auth.Account{Name: testName})
	all, err := s.List(t.Context(), auth.Filter{Unknown: true})
	if err != nil || len(all) > 0 {
		t.Fatalf("list after reads only: %v, %v", all, err)
	}
}

func everyField(t *testing.T, h Harness) {
	s := h.open(t)
	want := full(testName)
	wantAccount(t, update(t, s, testName, 0, put(want)), want)
	wantAccount(t, account(t, s, testName), want)
	s = h.reopened(t, s)
	wantAccount(t, account(t, s, testName), want)
	for _, cause := range auth.LockCauses() {
		want.Lock.Cause = cause
		update(t, s, testName, 0, put(want))
		wantAccount(t, account(t, s, testName), want)
	}
	// Each field can be emptied again.
	want = auth.Account{Name: testName, Registered: noon}
	update(t, s, testName, 0, put(want))
	wantAccount(t, account(t, h.reopened(t, s), testName), want)
}

func times(t *testing.T, h Harness) {
	s := h.open(t)
	given := full(testName)
	hanoi := time.FixedZone("+07", 7*3600)
	given.LastLogin = time.Date(2026, 1, 1, 0, 30, 0, 123456789, hanoi)
	given.Mistakes[0].At = given.LastLogin
	given.Restored = time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)
	given.Registered = time.Unix(0, 0) // an instant like any other, not "never"

	got := update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = given; return nil, true })
	want := given.Normalized()
	if want.LastLogin != time.Date(2025, 12, 31, 17, 30, 0, 123456000, time.UTC) {
		t.Fatalf("Normal made %v of %v", want.LastLogin, given.LastLogin)
	}
	wantAccount(t, got, want)
	got = account(t, s, testName)
	wantAccount(t, got, want)
	if got.LastLogin.Location() != time.UTC || !got.Known() {
		t.Fatalf("last login %v, known %v", got.LastLogin, got.Known())
	}
}

func names(t *testing.T, h Harness) {
	s := h.open(t)
	all := []auth.Name{
		"a@congthu.test", "a@congthu.tes", "a.b@congthu.test", "a_b@congthu.test", "a%b@congthu.test", `a\b@congthu.test`,
		"o'brien@congthu.test", "a@xn--cng-tnh-6za46h.test", "nguyễn.văn.đức@congthu.test", "nguyen.van.duc@congthu.test",
		"ß@congthu.test", "ss@congthu.test", "日本@congthu.test", "😀@congthu.test", "-@congthu.test",
	}
	for i, name := range all {
		for range i + 1 {
			update(t, s, name, 0, fail)
		}
	}
	s = h.reopened(t, s)
	for i, name := range all {
		wantFailures(t, s, name, i+1)
	}
}

func ownership(t *testing.T, h Harness) {
	s := h.open(t)
	want := full(testName)
	spoil := func(a auth.Account) {
		a.Mistakes[0].At, a.Seen[0].At = time.Time{}, time.Time{}
		a.Password.Salt[0], a.Password.Known[0].Fingerprint[0], a.Password.Known[1] = 'x', 'x', auth.KnownPassword{}
	}
	given := full(testName)
	spoil(update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { *a = given; return nil, true }))
	spoil(given)
	spoil(account(t, s, testName))
	a, r, err := s.Reserve(t.Context(), testName, func(a auth.Account) int { spoil(a); return 1 })
	if err != nil {
		t.Fatalf("reserve: %v", err)
	}
	wantAccount(t, a, want)
	spoil(a)
	spoil(update(t, s, testName, r, func(a *auth.Account) ([]auth.Event, bool) { spoil(*a); return nil, false }))
	wantAccount(t, account(t, s, testName), want)
}

func oddText(t *testing.T, h Harness) {
	s := h.open(t)
	const odd = "a\x00b\xffc\r\n\u2028\u202e<script>'\"--"
	a := update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
		a.Lock = auth.Lock{Mark: auth.Mark{At: noon, By: odd, Reason: odd}, Cause: auth.ByAdmin}
		return []auth.Event{{
			At: noon, Kind: auth.AccountLocked, Account: a.Name, Actor: odd, Before: odd, After: odd, Reason: odd,
		}}, true
	})
	const want = "a\uFFFDb\uFFFDc\r\n\u2028\u202e<script>'\"--"
	if a.Lock.By != want || a.Lock.Reason != want {
		t.Fatalf("lock by %q for %q, want %q", a.Lock.By, a.Lock.Reason, want)
	}
	wantAccount(t, account(t, s, testName), a)
	s = h.reopened(t, s)
	wantEvents(t, s, 1)
	events, err := s.Events(t.Context(), auth.EventFilter{})
	if err != nil || len(events) != 1 {
		t.Fatalf("events: %v, %v", events, err)
	}
	if e := events[0]; e.Actor != want || e.Before != want || e.After != want || e.Reason != want {
		t.Fatalf("event %+v, want %q in it", e, want)
	}
}
