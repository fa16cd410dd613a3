package admin

import (
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

func TestASuspectClockIsShownAndAccepted(t *testing.T) {
	f := newFixture(t)
	ahead := auth.AddMonths(f.now, 14)
	f.store.accounts["an@x.vn"] = auth.Account{Name: "an@x.vn", Registered: ahead, FirstLogin: ahead, LastLogin: ahead}
	f.guard.WatchClock, f.guard.MachineNow = true, func() time.Time { return f.now }
	if clock := decode[Clock](t, f.request("GET", base+"/clock", ""), 200); clock.Suspect || !clock.Now.Equal(f.now) {
		t.Errorf("%+v", clock)
	}
	f.guard.Rules()
	f.now = f.now.Add(-time.Hour)
	f.guard.Rules() // looks at it
	clock := decode[Clock](t, f.request("GET", base+"/clock", ""), 200)
	if !clock.Suspect || clock.Since == nil || !strings.Contains(clock.Why, "set back by 1h") {
		t.Errorf("%+v", clock)
	}
	if p := decode[Problem](t, f.request("POST", base+"/sweep", `{}`), 409); !strings.Contains(p.Detail, "congthu clock accept") {
		t.Errorf("%+v", p)
	}
	decode[Problem](t, f.request("POST", base+"/clock/accept", `{}`), 422)

	dry := decode[ClockReport](t, f.request("POST", base+"/clock/accept", `{"dry_run": true}`), 200)
	if !dry.DryRun || len(dry.Redated) != 1 || f.guard.Suspicion().IsZero() {
		t.Errorf("%+v", dry)
	}
	report := decode[ClockReport](t, f.request("POST", base+"/clock/accept", `{"reason": "time server mended"}`), 200)
	if !report.Clock.Suspect || len(report.Redated) != 1 || report.Redated[0] != "an@x.vn" {
		t.Errorf("%+v", report)
	}
	if a := f.store.accounts["an@x.vn"]; !a.LastLogin.Equal(f.now) || !a.Registered.Equal(f.now) || !a.FirstLogin.Equal(f.now) {
		t.Errorf("%+v", a)
	}
	if clock := decode[Clock](t, f.request("GET", base+"/clock", ""), 200); clock.Suspect {
		t.Errorf("%+v", clock)
	}

	f.guard.MachineNow = func() time.Time { return f.now.Add(time.Hour) }
	if p := decode[Problem](t, f.request("POST", base+"/clock/accept", `{"reason": "all is well"}`), 409); !strings.Contains(p.Detail, "this machine's") {
		t.Errorf("%+v", p)
	}
}
