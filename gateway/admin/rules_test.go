package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"congthu/auth"
)

func TestRulesAreShownAndAdopted(t *testing.T) {
	f := newFixture(t)
	decode[Problem](t, f.request("GET", base+"/rules", "", "Authorization", "Bearer "+master), 409)
	decode[Problem](t, f.request("POST", base+"/rules/adopt", `{"reason":"Decision 12"}`, "Authorization", "Bearer "+master), 409)

	f = newFixture(t)
	var acts []auth.Act
	var fail error
	f.ShowRules = func(context.Context) (Rules, error) {
		return Rules{Shared: true, Settings: SettingsOf(auth.Agreement{"b": "2", "a": "1"})}, fail
	}
	f.AdoptRules = func(_ context.Context, act auth.Act) (Rules, error) {
		acts = append(acts, act)
		return Rules{Shared: true}, fail
	}
	shown := decode[Rules](t, f.request("GET", base+"/rules", "", "Authorization", "Bearer "+master), 200)
	if fmt.Sprint(shown.Settings) != "[{a 1} {b 2}]" {
		t.Errorf("shown: %+v", shown)
	}
	decode[Problem](t, f.request("POST", base+"/rules/adopt", `{"reason":"  "}`, "Authorization", "Bearer "+master), 422)
	decode[Problem](t, f.request("POST", base+"/rules/adopt", `{}`, "Authorization", "Bearer "+master), 422)
	if len(acts) > 0 {
		t.Errorf("adopted without a reason: %+v", acts)
	}
	decode[Rules](t, f.request("POST", base+"/rules/adopt", `{"reason":"Decision 12"}`, "Authorization", "Bearer "+master), 200)
	if len(acts) != 1 || acts[0].Reason != "Decision 12" || acts[0].Actor == "" {
		t.Errorf("acts %+v", acts)
	}
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{fmt.Errorf("%w: the same", auth.ErrNothingToDo), 409, "the same"},
		{errors.Join(ErrConfiguration, errors.New("line 3")), 409, "line 3"},
		{errors.New("connection refused"), 503, "try again"},
	} {
		fail = c.err
		p := decode[Problem](t, f.request("POST", base+"/rules/adopt", `{"reason":"Decision 12"}`, "Authorization", "Bearer "+master), c.status)
		if !strings.Contains(p.Detail, c.says) {
			t.Errorf("%v: %+v", c.err, p)
		}
	}
}
