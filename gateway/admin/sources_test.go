package admin

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/throttle"
)

// throttled is a fixture with a throttle, in which a source has guessed at many names.
func throttled(t *testing.T, f *fixture, source string) *fixture {
	t.Helper()
	if f.guard.Throttle == nil {
		f.guard.Throttle = new(throttle.Throttle)
	}
	for i := range 12 {
		f.attempt(t, fmt.Sprint("ten", i), source, auth.JudgedWrong)
	}
	return f
}

// attempt is a login for which the mail server gives the stated answer.
func (f *fixture) attempt(t *testing.T, login, source string, judgement auth.Judgement) auth.Outcome {
	t.Helper()
	return f.guard.Attempt(context.Background(), auth.Attempt{
		Login: login, Password: auth.NewSecret("x"), Source: netip.MustParseAddrPort(source),
		Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: judgement} },
	}).Outcome
}

const office = "198.51.100.9:4000"

func TestASourceIsAllowedAndThatIsEnded(t *testing.T) {
	f := throttled(t, newFixture(t), office)
	if o := f.attempt(t, "an", office, auth.JudgedRight); o != auth.Throttled {
		t.Fatalf("the source is not refused: %v", o)
	}
	list := decode[SourceList](t, f.request("GET", base+"/sources", ""), 200)
	if len(list.Allowed) != 0 || len(list.Refused) == 0 {
		t.Fatalf("%+v", list)
	}
	r := list.Refused[0]
	if r.Source != "198.51.100.9" || !r.Guessing || r.Accounts != 10 || r.Suspected || r.Since.IsZero() ||
		!strings.HasPrefix(r.EN, "198.51.100.9 is refused since 2025-06-15 10:00: 10 wrong passwords on 10 accounts lately.") || strings.Contains(r.VI, "tấn công") {
		t.Errorf("%+v", r)
	}

	a := decode[AllowedSource](t, f.request("POST", base+"/sources/198.51.100.9/allow", `{"reason":"Văn phòng huyện, máy quét dùng mật khẩu cũ.","hours":4}`), 200)
	want := "198.51.100.9 is allowed until 2025-06-15 14:00 by Nguyễn Văn A, at every gateway: Văn phòng huyện, máy quét dùng mật khẩu cũ. Locks and limits of accounts stay."
	if a.Source != "198.51.100.9" || a.EN != want || a.By != "Nguyễn Văn A" || !strings.Contains(a.VI, "được Nguyễn Văn A cho phép đến 14:00 ngày 15/06/2025, tại mọi cổng thư; lý do: ") {
		t.Errorf("%+v", a)
	}
	if o := f.attempt(t, "an", office, auth.JudgedRight); o != auth.Accepted {
		t.Errorf("an allowed source: %v", o)
	}
	list = decode[SourceList](t, f.request("GET", base+"/sources", ""), 200)
	if len(list.Allowed) != 1 || list.Allowed[0] != a {
		t.Errorf("%+v", list)
	}
	for _, r := range list.Refused {
		if r.Source == a.Source {
			t.Errorf("allowed and refused: %+v", r)
		}
	}
	e := f.store.events[len(f.store.events)-1]
	for i := len(f.store.events) - 1; e.Kind != auth.SourceAllowed; i-- {
		e = f.store.events[i]
	}
	if e.Actor != "Nguyễn Văn A" || e.Source != netip.MustParseAddrPort("192.0.2.7:5050") || e.After != "198.51.100.9/32 allowed until 2025-06-15T07:00:00Z" {
		t.Errorf("%+v", e)
	}

	a = decode[AllowedSource](t, f.request("POST", base+"/sources/198.51.100.9/end", `{"reason":"đã sửa máy quét"}`), 200)
	if !a.Until.IsZero() || a.EN != "198.51.100.9 is throttled again like any other source." {
		t.Errorf("%+v", a)
	}
	p := decode[Problem](t, f.request("POST", base+"/sources/198.51.100.9/end", `{"reason":"lần nữa"}`), 409)
	if p.Detail != "nothing to do: 198.51.100.9 is not allowed now" {
		t.Errorf("%+v", p)
	}
	f.guard.Throttle = nil
	p = decode[Problem](t, f.request("POST", base+"/sources/198.51.100.9/allow", `{"reason":"văn phòng","hours":1}`), 409)
	if !strings.Contains(p.Detail, "throttle.enabled is false") {
		t.Errorf("%+v", p)
	}
}

// Support sees that a source, or the one that the wrong passwords of an account come
// from, lies in an office of the organisation.
func TestSourcesInKnownNetworksAreCalledOffices(t *testing.T) {
	f := newFixture(t)
	f.guard.Throttle = new(throttle.Throttle)
	f.guard.SetPolicy(guard.Policy{
		Names: &auth.Namer{Default: "example.org"}, Rules: f.guard.Rules(),
		KnownNetworks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
	})
	const stranger = "203.0.113.9:4000"
	throttled(t, throttled(t, f, office), stranger)
	en, vi := "is in an office of yours (known network 198.51.100.0/24).", "là địa chỉ của cơ quan quý vị (mạng đã khai báo 198.51.100.0/24)."
	list := decode[SourceList](t, f.request("GET", base+"/sources", ""), 200)
	var known []string
	for _, r := range list.Refused {
		if r.Known != "" {
			known = append(known, r.Source)
		}
		if says := strings.Contains(r.EN, en) && strings.Contains(r.VI, vi); says != (r.Known == "198.51.100.0/24") {
			t.Errorf("%+v", r)
		}
	}
	if fmt.Sprint(known) != "[198.51.100.9]" || len(list.Refused) != 2 {
		t.Errorf("in known networks: %v, of %+v", known, list.Refused)
	}
	a := decode[AllowedSource](t, f.request("POST", base+"/sources/198.51.100.9/allow", `{"reason":"văn phòng","hours":4}`), 200)
	if a.Known != "198.51.100.0/24" || !strings.Contains(a.EN, en) || !strings.Contains(a.VI, vi) {
		t.Errorf("%+v", a)
	}
	a = decode[AllowedSource](t, f.request("POST", base+"/sources/203.0.113.9/allow", `{"reason":"khách","hours":4}`), 200)
	if a.Known != "" || strings.Contains(a.EN, "office") {
		t.Errorf("%+v", a)
	}
	decode[AllowedSource](t, f.request("POST", base+"/sources/198.51.100.9/end", `{"reason":"hết"}`), 200)

	// An account that was refused at such a source, and one with wrong passwords from
	// there.
	f.attempt(t, "an", office, auth.JudgedRight)
	for range 2 {
		f.attempt(t, "binh", "198.51.100.77:4000", auth.JudgedWrong)
		f.attempt(t, "binh", "192.0.2.77:4000", auth.JudgedWrong)
	}
	for name, source := range map[string]string{"an": "198.51.100.9", "binh": "198.51.100.77"} {
		shown := decode[Account](t, f.request("GET", base+"/accounts/"+name+"@example.org", ""), 200)
		if !strings.Contains(shown.Why[0].EN, source+" "+en) || !strings.Contains(shown.Why[0].VI, source+" "+vi) || strings.Count(shown.Why[0].EN, "office of yours (") != 1 {
			t.Errorf("%s: %+v", name, shown.Why)
		}
	}
}

func TestASourceIsWrittenAsOneAddress(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.7": "203.0.113.7", "::ffff:203.0.113.7": "203.0.113.7", "2001:db8::7": "2001:db8::7",
		// The forms in which sources are listed.
		"203.0.113.7/32": "203.0.113.7", "2001:db8:0:1::/64": "2001:db8:0:1::",
		"203.0.113.0/24":   "is a network: write one address; an IPv6 address stands for its /64",
		"2001:db8::/48":    "is a network: write one address; an IPv6 address stands for its /64",
		"2001:db8::7/64":   "is a network: write one address; an IPv6 address stands for its /64",
		"203.0.113.7:993":  "is no address: did you mean 203.0.113.7?",
		"[2001:db8::7]":    "is no address: did you mean 2001:db8::7?",
		"[2001:db8::7]:25": "is no address: did you mean 2001:db8::7?",
		"203.0.113.007":    "is no address: did you mean 203.0.113.7?",
		"203,0,113,7":      "is no address: did you mean 203.0.113.7?",
		" 203.0.113.7.":    "is no address: did you mean 203.0.113.7?",
		"fe80::1%eth0":     "is no address: did you mean fe80::1?",
		"203.0.113":        "is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7",
		"mail.example.vn":  "is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7",
		"":                 "is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7",
		"0.0.0.0":          "is the address of no client",
		"::":               "is the address of no client",
		"224.0.0.1":        "is the address of no client",
	} {
		got := ""
		if addr, err := ParseSource(text); err != nil {
			got = err.Error()
		} else {
			got = addr.String()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	f := throttled(t, newFixture(t), office)
	for _, body := range []string{`{"reason":"văn phòng","hours":0}`, `{"reason":"văn phòng","hours":169}`, `{"reason":"x","hours":1}`, `{"reason":"văn phòng"}`} {
		if w := f.request("POST", base+"/sources/203.0.113.7/allow", body); w.Code != 422 {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	p := decode[Problem](t, f.request("POST", base+"/sources/"+url.PathEscape("10.0.0.0/8")+"/allow", `{"reason":"văn phòng","hours":1}`), 422)
	if len(p.Errors) != 1 || p.Errors[0].Location != "path.address" || !strings.HasPrefix(p.Errors[0].Message, "is a network") {
		t.Errorf("%+v", p)
	}
	decode[AllowedSource](t, f.request("POST", base+"/sources/"+url.PathEscape("2001:db8::/64")+"/allow", `{"reason":"văn phòng","hours":1}`), 200)
	if w := f.request("POST", base+"/sources/203.0.113.7/allow", `{"reason":"văn phòng","hours":1}`, "Authorization", "Bearer "+reader); w.Code != 403 {
		t.Errorf("a reader: %d", w.Code)
	}
}

// The source of an attack is never suggested for an exemption.
func TestTheSourceOfAnAttackIsNotToBeAllowed(t *testing.T) {
	const attacker = "203.0.113.5:40000"
	f := throttled(t, attacked(t, 12), attacker)
	throttled(t, f, office)
	f.attempt(t, "an", attacker, auth.JudgedRight)
	f.attempt(t, "binh2", office, auth.JudgedRight)
	f.add(auth.Account{Name: "binh2@x.vn"})

	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	w := a.Why[0]
	if w.Outcome != "throttled" || w.AllowSource != "" || !strings.Contains(w.EN, "do not allow that address") || !strings.Contains(w.VI, "không cho phép địa chỉ này") {
		t.Errorf("%+v", w)
	}
	a = decode[Account](t, f.request("GET", base+"/accounts/binh2@x.vn", ""), 200)
	if w := a.Why[0]; w.Outcome != "throttled" || w.AllowSource != "198.51.100.9" || strings.Contains(w.EN, "attack") {
		t.Errorf("%+v", w)
	}
	list := decode[SourceList](t, f.request("GET", base+"/sources", ""), 200)
	found := 0
	for _, r := range list.Refused {
		if r.Source == "203.0.113.5" || r.Source == "198.51.100.9" {
			found++
			if attack := r.Source == "203.0.113.5"; r.Suspected != attack || strings.Contains(r.EN, "block it, do not allow it") != attack {
				t.Errorf("%+v", r)
			}
		}
	}
	if found != 2 {
		t.Errorf("%+v", list.Refused)
	}
	allowed := decode[AllowedSource](t, f.request("POST", base+"/sources/203.0.113.5/allow", `{"reason":"nghe nói là cơ quan","hours":1}`), 200)
	if !strings.Contains(allowed.EN, "look like an attack") || !strings.Contains(allowed.VI, "nghi do tấn công") {
		t.Errorf("%+v", allowed)
	}
}

// The account's daily limit is not blamed on the source.
func TestTheLimitOfADayIsNotBlamedOnTheSource(t *testing.T) {
	rules, now := auth.DefaultRules(), instant("2025-06-16 09:00")
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-06-15 10:00"), FirstLogin: instant("2024-06-15 10:00"), LastLogin: instant("2025-06-15 08:00"),
		WrongOn: "2025-06-15", WrongThatDay: 30,
	}
	lately := guard.Refusal{At: instant("2025-06-15 22:00"), Source: netip.MustParseAddrPort(office), Outcome: auth.Throttled, Unfamiliar: true}
	for _, w := range Explain(a, rules, Lately{Refused: lately}, now, "") {
		if w.Outcome == "throttled" || w.AllowSource != "" {
			t.Errorf("on the day after: %+v", w)
		}
	}
	w := Explain(a, rules, Lately{Refused: lately}, instant("2025-06-15 23:00"), "")[0]
	if w.Outcome != "throttled" || w.AllowSource != "" || !strings.HasPrefix(w.EN, "Somebody guesses") {
		t.Errorf("on that day: %+v", w)
	}
}

// Where several gateways share a store an unlock reaches the others, and says so.
func TestAnUnlockThatFindsNothingHereReachesTheOtherGateways(t *testing.T) {
	f := newFixture(t)
	f.guard.Shared = true
	a := decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"bị từ chối ở máy kia"}`), 200)
	if !strings.Contains(a.NoteEN, "other gateways forget") || !strings.Contains(a.NoteVI, "Các cổng thư khác") || len(a.Events) != 1 || a.Events[0].After != guard.ForgivenEverywhere {
		t.Errorf("%+v", a)
	}
	f.lockedByGuessing("binh@x.vn")
	a = decode[Account](t, f.request("POST", base+"/accounts/binh@x.vn/unlock", `{"reason":"gọi điện"}`), 200)
	if a.NoteEN != "" || a.State != "active" {
		t.Errorf("%+v", a)
	}
}
