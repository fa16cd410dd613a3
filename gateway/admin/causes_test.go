package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/incident"
)

// attacked is a fixture in which n accounts were locked by wrong passwords from
// one address within minutes, and one more by another a day before.
func attacked(t *testing.T, n int) *fixture {
	f := newFixture(t)
	for i := range n {
		name := auth.Name(fmt.Sprintf("nguoi%d@x.vn", i))
		f.lockedByGuessing(name)
		a := f.store.accounts[name]
		a.Lock.At = a.Lock.At.Add(time.Duration(i) * time.Second)
		f.store.accounts[name] = a
	}
	f.add(auth.Account{
		Name: "binh@x.vn", Failures: 6, Mistakes: []auth.Mistake{from("[2001:db8::7]:993", "2025-06-14 08:00")},
		Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-14 08:00"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
	})
	return f
}

func TestLocksOfOneCauseAreListedTogether(t *testing.T) {
	f := attacked(t, 12)
	list := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200)
	if len(list.Causes) != 2 {
		t.Fatalf("%+v", list)
	}
	attack, one := list.Causes[0], list.Causes[1]
	if !attack.Suspected || len(attack.Accounts) != 12 || attack.Accounts[11] != "nguoi11@x.vn" || !slices.Equal(attack.Sources, []string{"203.0.113.5"}) ||
		attack.EN != "12 accounts locked at 2025-06-15 09:05 by wrong passwords from 203.0.113.5. This looks like an attack." {
		t.Errorf("%+v", attack)
	}
	if one.Suspected || !slices.Equal(one.Accounts, []string{"binh@x.vn"}) || !slices.Equal(one.Sources, []string{"2001:db8::/64"}) ||
		!strings.HasPrefix(one.EN, "1 account locked ") {
		t.Errorf("%+v", one)
	}

	a := decode[Account](t, f.request("GET", base+"/accounts/nguoi3@x.vn", ""), 200)
	if a.Locked.CauseID != attack.ID || !strings.Contains(a.Why[0].EN, "So are 11 accounts more, by the same cause "+attack.ID) ||
		!strings.HasSuffix(a.Why[0].EN, "This looks like an attack, not like a user who mistypes.") || !strings.Contains(a.Why[0].VI, "Nghi là tấn công") {
		t.Errorf("%+v\n%+v", a.Locked, a.Why[0])
	}
	a = decode[Account](t, f.request("GET", base+"/accounts/binh@x.vn", ""), 200)
	if a.Locked.CauseID != one.ID || strings.Contains(a.Why[0].EN, "attack") {
		t.Errorf("%+v\n%+v", a.Locked, a.Why[0])
	}
}

func TestOneLockHasAnInstantAndSeveralHaveAPeriod(t *testing.T) {
	first := instant("2025-06-15 21:48")
	for last, want := range map[time.Time][2]string{
		first:                       {"1 account locked at 2025-06-15 21:48 by", "1 tài khoản bị khóa lúc 21:48 ngày 15/06/2025 do"},
		first.Add(59 * time.Second): {"1 account locked at 2025-06-15 21:48 by", "1 tài khoản bị khóa lúc 21:48 ngày 15/06/2025 do"},
		first.Add(7 * time.Minute): {
			"1 account locked between 2025-06-15 21:48 and 2025-06-15 21:55 by",
			"1 tài khoản bị khóa trong khoảng 21:48 ngày 15/06/2025 – 21:55 ngày 15/06/2025 do",
		},
	} {
		c := causeOf(incident.Incident{First: first, Last: last, Accounts: []auth.Name{"an@x.vn"}}, auth.DefaultRules())
		if !strings.HasPrefix(c.EN, want[0]) || !strings.HasPrefix(c.VI, want[1]) {
			t.Errorf("%s\n%s", c.EN, c.VI)
		}
	}
}

func TestTheAccountsOfOneCauseAreUnlockedTogether(t *testing.T) {
	f := attacked(t, 12)
	id := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200).Causes[0].ID

	dry := decode[CauseUnlocked](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"tấn công đã chặn","dry_run":true}`), 200)
	if !dry.DryRun || len(dry.Unlocked) != 12 || len(f.store.events) != 0 || f.store.accounts["nguoi0@x.vn"].Lock.Cause == auth.NotLocked {
		t.Fatalf("a dry run did something: %+v", dry)
	}
	done := decode[CauseUnlocked](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"tấn công đã chặn"}`), 200)
	if len(done.Unlocked) != 12 || len(done.Failed) != 0 {
		t.Errorf("%+v", done)
	}
	for name, a := range f.store.accounts {
		if locked := a.Lock.Cause != auth.NotLocked; locked != (name == "binh@x.vn") {
			t.Errorf("%s: locked %v", name, locked)
		}
	}
	if n := len(f.store.events); n != 12 || f.store.events[0].Actor != "Nguyễn Văn A" || !strings.Contains(f.store.events[0].Reason, "tấn công đã chặn (cause "+id) {
		t.Errorf("%d events, %+v", n, f.store.events)
	}
	decode[Problem](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"lần nữa"}`), 404)
}

func TestUnlockingACauseNeedsAReasonAndTheScope(t *testing.T) {
	f := attacked(t, 12)
	id := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200).Causes[0].ID
	decode[Problem](t, f.request("POST", base+"/causes/"+id+"/unlock", `{}`), 422)
	decode[Problem](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"\n\n\n\n"}`), 422)
	decode[Problem](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"đúng"}`, "Authorization", "Bearer "+reader), 403)
	decode[CauseList](t, f.request("GET", base+"/causes", "", "Authorization", "Bearer "+reader), 200)
	f.store.fail = errDisk
	decode[Problem](t, f.request("GET", base+"/causes", ""), 503)
	decode[Problem](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"đúng"}`), 503)
}

func TestASweepStopsBeforeManyAndIsForcedForAReason(t *testing.T) {
	f := newFixture(t)
	for i := range 25 {
		f.add(auth.Account{Name: auth.Name(fmt.Sprintf("cu%02d@x.vn", i)), LastLogin: instant("2024-01-01 08:00")})
	}
	sweep := func(body string, header ...string) (*SweepReport, *Problem) {
		w := f.request("POST", base+"/sweep", body, header...)
		if w.Code == 200 {
			r := decode[SweepReport](t, w, 200)
			return &r, nil
		}
		p := decode[Problem](t, w, w.Code)
		return nil, &p
	}
	if _, p := sweep(`{}`); p == nil || p.Status != 409 || !strings.Contains(p.Detail, "25 of 27; is it 2025-06-15 10:00 +07:00?") {
		t.Errorf("%+v", p)
	}
	if r, _ := sweep(`{"dry_run":true}`); r == nil || len(r.Dormant) != 25 || r.Revoked != 0 || len(f.store.events) != 0 {
		t.Errorf("%+v", r)
	}
	if _, p := sweep(`{"force":true}`); p == nil || p.Status != 422 {
		t.Errorf("forced without a reason: %+v", p)
	}
	if _, p := sweep(`{"force":true,"reason":"đã đối chiếu"}`, "Authorization", "Bearer "+reader); p == nil || p.Status != 403 {
		t.Errorf("forced by whoever may only read: %+v", p)
	}
	if r, _ := sweep(`{"force":true,"reason":"đã đối chiếu"}`); r == nil || r.Revoked != 25 {
		t.Errorf("%+v", r)
	}
	if e := f.store.events; len(e) != 25 || e[0].Actor != "Nguyễn Văn A" || !strings.HasSuffix(e[0].Reason, ": đã đối chiếu") {
		t.Errorf("%+v", e)
	}
	if r, _ := sweep(`{}`); r == nil || len(r.Dormant) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestNamesWithoutLoginsAreUnlockedWithTheirCause(t *testing.T) {
	f := attacked(t, 12)
	var names []string
	for i := range 3 {
		name := auth.Name(fmt.Sprintf("matkhau%d@x.vn", i))
		f.lockedByGuessing(name)
		a := f.store.accounts[name]
		a.Registered, a.FirstLogin, a.LastLogin = time.Time{}, time.Time{}, time.Time{}
		f.store.accounts[name] = a
		names = append(names, string(name))
	}
	f.store.accounts["@00ff"] = auth.Account{Name: "@00ff", Failures: 6}
	f.store.accounts["mot@x.vn"] = auth.Account{Name: "mot@x.vn", Failures: 1, Mistakes: []auth.Mistake{from("203.0.113.5:40000", "2025-06-15 09:00")}}

	seen := f.request("GET", base+"/causes", "", "Authorization", "Bearer "+reader).Body.String()
	if strings.Contains(seen, "matkhau") || strings.Contains(seen, "unknown") {
		t.Errorf("who may only read sees names: %s", seen)
	}
	if list := f.request("GET", base+"/accounts?limit=1000", "").Body.String(); strings.Contains(list, "matkhau") {
		t.Errorf("a name is listed as an account: %s", list)
	}
	attack := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200).Causes[0]
	if !slices.Equal(attack.Unknown, names) || len(attack.Accounts) != 12 ||
		!strings.HasPrefix(attack.EN, "12 accounts and 3 names that nobody ever logged in with locked at ") || !strings.HasPrefix(attack.VI, "12 tài khoản và 3 tên chưa từng đăng nhập bị khóa lúc ") {
		t.Errorf("%+v", attack)
	}

	list := decode[UnknownNameList](t, f.request("GET", base+"/unknown-names", ""), 200)
	if len(list.Names) != 4 || list.Names[0].Name != "matkhau0@x.vn" || list.Names[0].Locked == nil || list.Names[0].Failures != 6 || len(list.Names[0].Mistakes) != 6 ||
		list.Names[3].Name != "mot@x.vn" || list.Names[3].Locked != nil || list.Next != "" {
		t.Errorf("%+v", list)
	}
	if list = decode[UnknownNameList](t, f.request("GET", base+"/unknown-names?locked=true&limit=2", ""), 200); len(list.Names) != 2 || list.Next == "" {
		t.Errorf("%+v", list)
	}
	if list = decode[UnknownNameList](t, f.request("GET", base+"/unknown-names?locked=true&cursor="+list.Next, ""), 200); len(list.Names) != 1 || list.Next != "" {
		t.Errorf("%+v", list)
	}
	if list = decode[UnknownNameList](t, f.request("GET", base+"/unknown-names?q=MOT", ""), 200); len(list.Names) != 1 || list.Names[0].Name != "mot@x.vn" {
		t.Errorf("%+v", list)
	}
	decode[Problem](t, f.request("GET", base+"/unknown-names", "", "Authorization", "Bearer "+reader), 403)
	decode[Problem](t, f.request("GET", base+"/unknown-names?cursor=%21", ""), 422)
	decode[Problem](t, f.request("GET", base+"/unknown-names?q=%07", ""), 422)

	dry := decode[CauseUnlocked](t, f.request("POST", base+"/causes/"+attack.ID+"/unlock", `{"reason":"tấn công đã chặn","dry_run":true}`), 200)
	if !slices.Equal(dry.Freed, names) || len(dry.Unlocked) != 12 || len(f.store.events) != 0 {
		t.Errorf("%+v", dry)
	}
	done := decode[CauseUnlocked](t, f.request("POST", base+"/causes/"+attack.ID+"/unlock", `{"reason":"tấn công đã chặn"}`), 200)
	if !slices.Equal(done.Freed, names) || len(done.Unlocked) != 12 || len(done.Failed) != 0 {
		t.Errorf("%+v", done)
	}
	if a := f.store.accounts["matkhau0@x.vn"]; a.Lock.Cause != auth.NotLocked || a.Failures != 0 {
		t.Errorf("%+v", a)
	}
	if reason := f.store.events[14].Reason; reason != "tấn công đã chặn (cause "+attack.ID+", 12 accounts, 3 unknown names)" {
		t.Error(reason)
	}
}

func TestACauseEndsWhenItIsQuietAndStaysToBeFound(t *testing.T) {
	f := attacked(t, 12)
	for _, c := range []struct {
		after time.Duration
		ended bool
	}{{24 * time.Hour, false}, {24*time.Hour + time.Second, true}} {
		f.now = instant("2025-06-15 09:05").Add(11*time.Second + c.after)
		list := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200)
		if len(list.Causes) != 2 || list.Causes[0].Ended != c.ended || !list.Causes[0].Suspected || !list.Causes[1].Ended {
			t.Errorf("after %v: %+v", c.after, list)
		}
	}
	id := decode[CauseList](t, f.request("GET", base+"/causes", ""), 200).Causes[0].ID
	dry := decode[CauseUnlocked](t, f.request("POST", base+"/causes/"+id+"/unlock", `{"reason":"đã chặn","dry_run":true}`), 200)
	if len(dry.Unlocked) != 12 || !dry.Cause.Ended {
		t.Errorf("%+v", dry)
	}
}
