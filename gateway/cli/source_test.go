package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"congthu/gateway/admin"
)

// handleSources answers requests about sources as the gateway does.
func (f *fake) handleSources(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/sources", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, f.sources) })
	mux.HandleFunc("POST /api/v1/sources/{address}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Reason string `json:"reason"`
			Hours  int    `json:"hours"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Reason == "" {
			answer(w, 422, problem(422, "validation failed"))
			return
		}
		a := admin.AllowedSource{Source: r.PathValue("address"), Since: at("2026-11-20 10:00:00"), By: "uid:0 (root)", Reason: body.Reason}
		switch {
		case r.PathValue("verb") == "end" && a.Source != "203.0.113.7":
			answer(w, 409, problem(409, "nothing to do: "+a.Source+" is not allowed now"))
			return
		case r.PathValue("verb") == "end":
			a.EN, a.VI = a.Source+" is throttled again like any other source.", a.Source+" lại bị giới hạn như mọi nguồn khác."
		default:
			a.Until = at("2026-11-20 14:00:00")
			a.EN, a.VI = a.Source+" is allowed until 2026-11-20 14:00.", a.Source+" được phép đến 14:00 ngày 20/11/2026."
		}
		answer(w, 200, a)
	})
}

func TestSourcesAreListedAndAllowed(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "source", "list")
		f.sources = admin.SourceList{
			Allowed: []admin.AllowedSource{{Source: "198.51.100.4", Until: at("2026-11-21 08:00:00"), By: "Nguyễn Văn A", Reason: "UBND huyện, máy quét dùng mật khẩu cũ"}},
			Refused: []admin.RefusedSource{
				{Source: "192.0.2.0/24", Known: "192.0.2.0/24", Since: at("2026-11-20 10:05:00"), Accounts: 40, Failures: 52, Guessing: true},
				{Source: "203.0.113.5", Since: at("2026-11-20 10:02:00"), Accounts: 10, Failures: 14, NearLock: 5, LoggedIn: 1, Guessing: true, Suspected: true},
				{Source: "203.0.113.9", Since: at("2026-11-20 09:30:00"), Accounts: 6, Failures: 9},
				{Source: "2001:db8::/64", Since: at("2026-11-20 09:00:00"), Accounts: 2, Failures: 6, NearLock: 5, LoggedIn: 34},
			},
		}
		f.expect(0, "source", "list")
		f.expect(0, "source", "allow", "203.0.113.7", "--hours", "4", "--reason", "UBND huyện")
		f.expect(0, "source", "allow", "2001:db8::/64", "--hours", "168", "--reason", "a branch office", "--output", "json")
		f.expect(0, "source", "allow", "203.0.113.7", "--end", "--reason", "scanner corrected")
		f.expect(1, "source", "allow", "203.0.113.8", "--end", "--reason", "scanner corrected")
		f.compare("source")

		out, _ := f.expect(0, "source", "list", "--output", "json")
		var list admin.SourceList
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Refused) != 4 || len(list.Allowed) != 1 {
			t.Errorf("%v: %s", err, out)
		}
		out, _ = f.expect(0, "__complete", "source", "allow", "")
		for _, line := range []string{"198.51.100.4\t" + trf("allowed until %s", when(at("2026-11-21 08:00:00"), hanoi)+"\n"), "2001:db8::/64\t" + trf("refused since %s", "")} {
			if !strings.Contains(out, line) {
				t.Errorf("%q has no %q", out, line)
			}
		}
		// Completion offers neither a network nor an attacker.
		if strings.Contains(out, "192.0.2.0") || strings.Contains(out, "203.0.113.5") {
			t.Errorf("%q", out)
		}
	})
}

func TestAMalformedSourceIsRefusedWithAHint(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		for _, args := range [][]string{
			{"source", "allow"},
			{"source", "allow", "203.0.113.7:993", "--hours", "4", "--reason", "an office"},
			{"source", "allow", "10.0.0.0/8", "--hours", "4", "--reason", "an office"},
			{"source", "allow", "203.0.113.7", "203.0.113.8", "--hours", "4", "--reason", "two offices"},
			{"source", "allow", "203.0.113.7", "--reason", "an office"},
			{"source", "allow", "203.0.113.7", "--hours", "169", "--reason", "an office"},
			{"source", "allow", "203.0.113.7", "--hours", "4"},
			{"source", "allow", "203.0.113.7", "--end"},
			{"source", "allow", "203.0.113.7", "--end", "--hours", "4", "--reason", "both"},
			{"source", "alow", "203.0.113.7"},
		} {
			f.expect(exitUsage, args...)
		}
		if len(f.asked) > 0 {
			t.Errorf("the gateway was asked: %v", f.asked)
		}
		f.compare("source-usage")
	})
}

// An unlock ends a temporary refusal. So does allowing the source, if it is an office and
// not an attacker.
func TestAThrottledAccountIsShownWithBothWays(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.accounts[1].Why = []admin.Why{{
			Outcome: "throttled", Since: at("2026-11-20 10:02:11"), EN: "An attempt from 203.0.113.7 at 2026-11-20 10:02 was refused for now.", VI: "Tạm thời bị từ chối.",
			TellEN: "Try again.", TellVI: "Hãy thử lại.", AllowSource: "203.0.113.7",
		}}
		f.expect(0, "account", "show", "binh")
		f.accounts[1].Why[0].AllowSource = ""
		f.expect(0, "account", "show", "binh")
		f.accounts[1].NoteEN = "It was not locked, and nothing was held against it here."
		f.accounts[0].State = "locked"
		f.expect(0, "account", "unlock", "an", "--reason", "refused at the other gateway")
		f.compare("account-throttled")
	})
}
