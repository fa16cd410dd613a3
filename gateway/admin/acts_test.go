package admin

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/guard"
)

func TestAnUnlockedAccountCanLogInAgain(t *testing.T) {
	f := newFixture(t)
	f.lockedByGuessing("an@x.vn")
	a := decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"  Người dùng gọi điện  "}`), 200)
	if a.State != "active" || a.Locked != nil || a.Failures != 0 || a.Why[0].Outcome != "accepted" {
		t.Errorf("%+v", a)
	}
	if len(a.Events) != 1 || a.Events[0].Kind != "account.unlocked" || a.Events[0].Reason != "Người dùng gọi điện" ||
		a.Events[0].Actor != "Nguyễn Văn A" || a.Events[0].Source != "192.0.2.7:5050" || a.Events[0].Before == "" {
		t.Errorf("%+v", a.Events)
	}
	// The second time there is nothing to do, and the answer shows the state.
	p := decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"lần nữa"}`), 409)
	if !strings.HasPrefix(p.Detail, "nothing to do: Nothing stands in the way: it can log in; the last login was at 2025-06-14") {
		t.Errorf("%+v", p)
	}
}

func TestEveryActGoesThroughTheGuardWithItsReason(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "cu@x.vn", LastLogin: instant("2024-01-01 08:00"), Revocation: auth.Mark{At: instant("2025-02-01 02:30"), By: auth.ByGateway}})
	f.add(auth.Account{Name: "het@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})

	a := decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"nghỉ việc"}`), 200)
	if a.State != "locked" || a.Locked.By != "Nguyễn Văn A" || a.Locked.Reason != "nghỉ việc" || a.Locked.Cause != "admin" {
		t.Errorf("%+v", a)
	}
	p := decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"lần nữa"}`), 409)
	if !strings.HasPrefix(p.Detail, "nothing to do: Locked since 2025-06-15 10:00 by Nguyễn Văn A") {
		t.Errorf("%+v", p)
	}

	a = decode[Account](t, f.request("POST", base+"/accounts/cu@x.vn/restore", `{"reason":"đi học về"}`), 200)
	if a.State != "active" || a.Revoked != nil || a.Restored.IsZero() {
		t.Errorf("%+v", a)
	}
	decode[Problem](t, f.request("POST", base+"/accounts/cu@x.vn/restore", `{"reason":"lần nữa"}`), 409)

	a = decode[Account](t, f.request("POST", base+"/accounts/het@x.vn/grace", `{"reason":"đi công tác","days":3}`), 200)
	if a.State != "expiring" || !a.GraceUntil.Equal(f.now.AddDate(0, 0, 3)) {
		t.Errorf("%+v", a)
	}
	p = decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/grace", `{"reason":"đi công tác","days":3}`), 409)
	if !strings.Contains(p.Detail, "nothing to do") {
		t.Errorf("%+v", p)
	}

	for _, act := range []string{"unlock", "lock", "restore"} {
		p = decode[Problem](t, f.request("POST", base+"/accounts/ai@x.vn/"+act, `{"reason":"thử"}`), 404)
		if !strings.HasPrefix(p.Detail, "no such account: No account of this name has ever logged in") {
			t.Errorf("%s: %+v", act, p)
		}
		if fix := strings.HasSuffix(p.Detail, " To lock a mailbox that has not been logged in to here yet, import it first (congthu import accounts).") &&
			strings.HasSuffix(p.DetailVI, " Để khóa hộp thư chưa từng đăng nhập qua cổng thư, trước hết phải nhập hộp thư đó (congthu import accounts)."); fix != (act == "lock") {
			t.Errorf("%s: %+v", act, p)
		}
	}
	decode[Problem](t, f.request("POST", base+"/accounts/ai@x.vn/grace", `{"reason":"thử","days":1}`), 404)

	var kinds []string
	for _, e := range f.store.events {
		kinds = append(kinds, string(e.Kind))
		if e.Actor != "Nguyễn Văn A" || e.Reason == "" || e.Source != netip.MustParseAddrPort("192.0.2.7:5050") {
			t.Errorf("%+v", e)
		}
	}
	if got := strings.Join(kinds, " "); got != "account.locked account.restored password.grace" {
		t.Errorf("audit log: %s", got)
	}
}

func TestAReasonMustBeReadableOnOneLine(t *testing.T) {
	f := newFixture(t)
	for _, reason := range []string{"", "  ", "ab", "  a  ", `a\nb c`, `thử\u0000`, `thử\u202e`, `thử\u2028x`, `thử\ud800`, strings.Repeat("đ", 501)} {
		p := decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"`+reason+`"}`), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != "body.reason" {
			t.Errorf("%q: %+v", reason, p)
		}
	}
	if len(f.store.events) > 0 {
		t.Errorf("%+v", f.store.events)
	}
	decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"`+strings.Repeat("đ", 500)+`"}`), 200)
	decode[Account](t, f.request("POST", base+"/accounts/binh@x.vn/lock", `{"reason":"thử"}`), 200)
}

func TestGraceIsSomeDaysAtMost(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "het@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})
	for _, days := range []string{"0", "8", "-1", "1.5", `"3"`, "1e9", "null", "99999999999999999999"} {
		p := decode[Problem](t, f.request("POST", base+"/accounts/het@x.vn/grace", `{"reason":"thử","days":`+days+`}`), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != "body.days" || strings.HasPrefix(p.Errors[0].Message, "must be") && p.Errors[0].MessageVI == "" {
			t.Errorf("%s: %+v", days, p)
		}
	}
	// huma looks at one of the two, encoding/json takes the other.
	p := decode[Problem](t, f.request("POST", base+"/accounts/het@x.vn/grace", `{"reason":"thử","days":1,"Days":100}`), 422)
	if len(p.Errors) != 1 || p.Errors[0].Message != "must be 1 to 7, until Sunday 22 June 2025 10:00 at the latest (rules.password.max_grace_days)" {
		t.Errorf("%+v", p)
	}
	// The configuration may allow fewer.
	rules := auth.DefaultRules()
	rules.Password.MaxGrace /= 7
	f.guard.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "x.vn"}, Rules: rules})
	p = decode[Problem](t, f.request("POST", base+"/accounts/het@x.vn/grace", `{"reason":"thử","days":2}`), 422)
	if len(p.Errors) != 1 || p.Errors[0].Message != "must be 1 to 1, until Monday 16 June 2025 10:00 at the latest (rules.password.max_grace_days)" {
		t.Errorf("%+v", p)
	}
}

// An act that has begun is finished: a caller who hangs up must find it done or not
// begun, and one whose answer cannot be completed must not believe that it failed.
func TestAnActIsDoneThoughTheCallerHungUp(t *testing.T) {
	f := newFixture(t)
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	r := httptest.NewRequestWithContext(ctx, "POST", base+"/accounts/an@x.vn/lock", strings.NewReader(`{"reason":"nghỉ việc"}`))
	r.Header.Set("Authorization", "Bearer "+master)
	guard := &contextual{Guard: f.guard}
	f.Guard = guard
	f.Handler().ServeHTTP(httptest.NewRecorder(), r)
	if guard.err != nil || f.store.accounts["an@x.vn"].Lock.Cause != auth.ByAdmin {
		t.Errorf("context: %v, account: %+v", guard.err, f.store.accounts["an@x.vn"])
	}
}

// contextual notes the state of the context that an act is given.
type contextual struct {
	Guard
	err error
}

func (c *contextual) Lock(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
	c.err = ctx.Err()
	return c.Guard.Lock(ctx, name, act)
}

// eventless cannot read events.
type eventless struct{ *memory }

func (eventless) Events(context.Context, auth.EventFilter) ([]auth.Event, error) { return nil, errDisk }

func TestAnActThatIsDoneIsAnsweredAsDone(t *testing.T) {
	f := newFixture(t)
	f.Accounts = eventless{f.store}
	w := f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"nghỉ việc"}`)
	if a := decode[Account](t, w, 200); a.State != "locked" || !strings.Contains(w.Body.String(), `"events":[]`) {
		t.Errorf("%s", w.Body)
	}
}

func TestUnknownFieldsAndOtherShapesAreRefused(t *testing.T) {
	f := newFixture(t)
	target := base + "/accounts/an@x.vn/lock"
	for body, want := range map[string]string{
		`{"reason":"thử","days":3}`:   "422 body has something that is not known here; known: reason",
		`{}`:                          "422 body expected required property reason to be present",
		`[]`:                          "422 body expected object",
		`"thử"`:                       "422 body expected object",
		`{"reason":3}`:                "422 body.reason expected string",
		`{"reason":null}`:             "422 body.reason expected string",
		`{"reason":"thử"`:             "400 body is not the JSON that is expected: an object of reason",
		`{"reason":"thử"} trailing`:   "400 body is not the JSON that is expected: an object of reason",
		"{\"reason\":\"th\x01\"}":     "400 body is not the JSON that is expected: an object of reason",
		`{"reason":"` + "\xff" + `"}`: "422 body.reason ",
	} {
		w := f.request("POST", target, body)
		p := decode[Problem](t, w, w.Code)
		got := ""
		for _, e := range p.Errors {
			if strings.HasPrefix(want, fmt.Sprintf("%d %s", w.Code, e.Location)) {
				got = fmt.Sprintf("%d %s %s", w.Code, e.Location, e.Message)
			}
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if w := f.request("POST", target, ""); w.Code != 400 {
		t.Errorf("no body: %d %s", w.Code, w.Body)
	}
	if w := f.request("POST", target, `reason=thu`, "Content-Type", "application/x-www-form-urlencoded"); w.Code != 400 {
		t.Errorf("a form: %d %s", w.Code, w.Body)
	}
	if w := f.request("POST", target, `{"reason":"thử"}`, "Content-Type", "text/plain"); w.Code != 415 {
		t.Errorf("a text: %d %s", w.Code, w.Body)
	}
	if w := f.request("POST", target, `{"reason":"`+strings.Repeat(" ", maxBody)+`"}`); w.Code != 413 {
		t.Errorf("a giant: %d %s", w.Code, w.Body)
	}
	if len(f.store.events) > 0 {
		t.Errorf("%+v", f.store.events)
	}
}

func TestABodyIsTakenAsCurlSendsIt(t *testing.T) {
	f := newFixture(t)
	f.lockedByGuessing("an@x.vn")
	for _, contentType := range []string{"", "application/json; charset=utf-8", "application/x-www-form-urlencoded"} {
		w := f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"nghỉ việc"}`, "Content-Type", contentType)
		decode[Account](t, w, 200)
		decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"trở lại"}`, "Content-Type", contentType), 200)
	}
}

// A new user who is refused because of the guesses of others has nothing that could be
// unlocked: support staff learn the reason, the end, and what helps.
func TestANewcomerRefusedByASharedCounterIsExplained(t *testing.T) {
	f := newFixture(t)
	for i := range 1 << 16 { // one of them is the new user's
		a := auth.Account{Name: auth.Name(fmt.Sprintf("@%04x", i)), Failures: 6}
		for range 6 {
			a.Mistakes = append(a.Mistakes, from("203.0.113.5:40000", "2025-06-15 09:00"))
		}
		f.store.accounts[a.Name] = a
	}
	a := decode[Account](t, f.request("GET", base+"/accounts/moi@x.vn", ""), 200)
	why := a.Why[0]
	if why.Outcome != "locked" || !strings.HasPrefix(why.EN, "Refused like a locked account until 2025-06-16 09:00, though nothing is locked") ||
		!strings.Contains(why.EN, "congthu import accounts") || !strings.Contains(why.VI, "đến 09:00 ngày 16/06/2025") {
		t.Errorf("%+v", a.Why)
	}
	if len(a.Why) != 2 || !strings.HasPrefix(a.Why[1].EN, "No account of this name has ever logged in") {
		t.Errorf("%+v", a.Why)
	}
	p := decode[Problem](t, f.request("POST", base+"/accounts/moi@x.vn/unlock", `{"reason":"người dùng gọi"}`), 409)
	if p.Detail != "nothing to do: "+why.EN || p.DetailVI != "không cần xử lý: "+why.VI {
		t.Errorf("%+v", p)
	}
	if len(f.store.events) > 0 {
		t.Errorf("audit log: %+v", f.store.events)
	}
	// Neither an account nor a counter is one.
	if a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200); a.Why[0].Outcome != "accepted" {
		t.Errorf("%+v", a.Why)
	}
	decode[Problem](t, f.request("GET", base+"/accounts/%4000ff", ""), 422)
}
