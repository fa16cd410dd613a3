package admin

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/guard"
)

// front was an account before it became an alias of an, and y.vn a domain of its own
// before the mail server treated it as x.vn.
func newTwins(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.guard.SetPolicy(guard.Policy{
		Names: &auth.Namer{
			Default: "x.vn", Domains: map[string]bool{"y.vn": true}, LocalNames: true,
			Aliases: map[auth.Name]auth.Name{"vanthu@x.vn": "an@x.vn"},
		},
		Rules: auth.DefaultRules(),
	})
	lock := auth.Lock{Mark: auth.Mark{At: instant("2025-06-01 08:00"), By: "Trần Thị B", Reason: "nghỉ việc"}, Cause: auth.ByAdmin}
	f.add(auth.Account{Name: "an@y.vn", Lock: lock, Failures: 2})
	f.add(auth.Account{Name: "binh@y.vn", Revocation: auth.Mark{At: instant("2025-02-01 02:30"), By: auth.ByGateway}})
	return f
}

func TestAnAccountIsShownWithWhatItsOtherNamesHoldAgainstIt(t *testing.T) {
	f := newTwins(t)
	for _, address := range []string{"an@x.vn", "an@y.vn", "vanthu@x.vn"} {
		a := decode[Account](t, f.request("GET", base+"/accounts/"+address, ""), 200)
		if a.Address != "an@x.vn" || len(a.OtherNames) != 1 || a.OtherNames[0].Address != "an@y.vn" || a.OtherNames[0].Locked == nil || a.OtherNames[0].Failures != 2 {
			t.Errorf("%s: %+v", address, a)
		}
		if w := a.Why[0]; w.Outcome != "locked" || !strings.HasPrefix(w.EN, "Under its other name an@y.vn: Locked since 2025-06-01 08:00 by Trần Thị B") ||
			!strings.Contains(w.VI, "tên khác là an@y.vn") || w.TellEN == "" || slices.ContainsFunc(a.Why, func(w Why) bool { return w.Outcome == "accepted" }) {
			t.Errorf("%s: %+v", address, a.Why)
		}
	}
	if a := decode[Account](t, f.request("GET", base+"/accounts/binh@x.vn", ""), 200); a.Why[0].Outcome != "revoked" || !strings.HasPrefix(a.Why[0].EN, "Under its other name binh@y.vn: ") {
		t.Errorf("%+v", a.Why)
	}
	// An act on an account names the other name under which a lock holds.
	p := decode[Problem](t, f.request("POST", base+"/accounts/binh@x.vn/restore", `{"reason":"đi học về"}`), 409)
	if !strings.HasPrefix(p.Detail, "nothing to do: Under its other name binh@y.vn: ") {
		t.Errorf("%+v", p)
	}
	if body := f.request("GET", base+"/accounts/chi@x.vn", "").Body.String(); strings.Contains(body, "other_names") {
		t.Errorf("an account with one name: %s", body)
	}
}

func TestAccountsAreMergedOneOrAll(t *testing.T) {
	f := newTwins(t)
	for body, location := range map[string]string{
		`{"reason":"hợp nhất"}`:                             "body.address",
		`{"address":"an@x.vn","all":true,"reason":"x y z"}`: "body.address",
		`{"address":"an@elsewhere.vn","reason":"hợp nhất"}`: "body.address",
		`{"address":"an@x.vn"}`:                             "body.reason",
		`{"all":true,"reason":"a\nb c"}`:                    "body.reason",
	} {
		p := decode[Problem](t, f.request("POST", base+"/merge", body), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", body, p)
		}
	}
	would := decode[MergeReport](t, f.request("POST", base+"/merge", `{"all":true,"dry_run":true}`), 200)
	if len(would.Merged) != 2 || !would.DryRun || would.Merged[0].Address != "an@x.vn" || would.Merged[0].Locked == nil || would.Merged[1].Revoked == nil ||
		len(would.Merged[0].From) != 1 || len(f.store.events) != 0 {
		t.Errorf("%+v", would)
	}
	one := decode[MergeReport](t, f.request("POST", base+"/merge", `{"address":"an@y.vn","reason":"  hợp nhất tên  "}`), 200)
	if len(one.Merged) != 1 || one.Merged[0].Locked == nil || one.Merged[0].Failures != 2 || one.Merged[0].From[0].Address != "an@y.vn" {
		t.Errorf("%+v", one)
	}
	events := decode[EventList](t, f.request("GET", base+"/events?account=an@x.vn&kind=account.merged", ""), 200).Events
	if len(events) != 1 || events[0].Actor != "Nguyễn Văn A" || events[0].Reason != "hợp nhất tên" || events[0].Source != "192.0.2.7:5050" {
		t.Errorf("%+v", events)
	}
	decode[Problem](t, f.request("POST", base+"/merge", `{"address":"an@x.vn","reason":"lần nữa"}`), 409)
	all := decode[MergeReport](t, f.request("POST", base+"/merge", `{"all":true,"reason":"hợp nhất tên"}`), 200)
	if len(all.Merged) != 1 || all.Merged[0].Address != "binh@x.vn" {
		t.Errorf("%+v", all)
	}
	if all = decode[MergeReport](t, f.request("POST", base+"/merge", `{"all":true,"reason":"hợp nhất tên"}`), 200); len(all.Merged) != 0 {
		t.Errorf("once more: %+v", all)
	}
	f.store.fail = errors.New("disk")
	decode[Problem](t, f.request("POST", base+"/merge", `{"all":true,"reason":"hợp nhất tên"}`), 503)
}
