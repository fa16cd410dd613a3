package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest/testenv"
	"congthu/gateway/admin"
	"congthu/gateway/config"
)

func TestMain(m *testing.M) {
	os.Setenv("LC_ALL", "C") // not the tester's locale
	code := m.Run()
	pgtest.Stop()
	os.Exit(code)
}

var update = flag.Bool("update", false, "write the golden files")

// fake is a gateway's admin interface with four accounts and a log.
type fake struct {
	*testing.T
	dir, socket string
	accounts    []admin.Account
	events      []admin.Event
	report      admin.ChainReport
	causes      []admin.Cause
	sources     admin.SourceList
	health      int // of /healthz and /readyz
	readiness   admin.Readiness
	asked       []string // requests, without their bodies
	bodies      []string
	transcript  bytes.Buffer
}

func at(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", s, time.FixedZone("+07", 7*60*60))
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func newFake(t *testing.T) *fake {
	t.Helper()
	t.Setenv(socketVariable, "")
	dir := testenv.Dir(t)
	f := &fake{T: t, dir: dir, socket: filepath.Join(dir, "admin.sock")}
	f.events = []admin.Event{
		{Seq: 3, At: at("2026-11-20 10:02:11"), Kind: "account.locked", Account: "an@example.org", Actor: "gateway", Source: "10.1.2.3:50005", Before: "active", After: "locked", Reason: "6 wrong passwords", Hash: strings.Repeat("c3", 32)},
		{Seq: 2, At: at("2026-11-20 10:02:10"), Kind: "password.wrong", Account: "an@example.org", Actor: "user", Source: "10.1.2.3:50004", Hash: strings.Repeat("b2", 32)},
		{Seq: 1, At: at("2026-11-19 08:00:00"), Kind: "login.first", Account: "binh@example.org", Actor: "user", Source: "[2001:db8::1]:40000", Hash: strings.Repeat("a1", 32)},
	}
	f.accounts = []admin.Account{
		{
			Summary: admin.Summary{
				Address: "an@example.org", State: "locked", Registered: at("2026-01-02 08:00:00"), FirstLogin: at("2026-01-02 08:00:00"),
				LastLogin: at("2026-11-19 17:30:00"), Failures: 6, PasswordSince: at("2026-10-01 09:00:00"), PasswordExpires: at("2027-01-02 00:00:00"),
				Locked: &admin.Lock{At: at("2026-11-20 10:02:11"), By: "gateway", Cause: "wrong_passwords", Reason: "6 wrong passwords"}, Sessions: 1,
				Mistakes: []admin.Mistake{{At: at("2026-11-20 10:01:00"), Source: "10.1.2.3:50004"}, {At: at("2026-11-20 10:02:11"), Source: "10.1.2.3:50005"}},
				Stale:    &admin.Mistake{At: at("2026-11-20 09:00:00"), Source: "192.0.2.7:1234"},
			},
			Why: []admin.Why{
				{
					Outcome: "locked", Since: at("2026-11-20 10:02:11"),
					EN: "Locked since 2026-11-20 10:02 after 6 wrong passwords, the latest at 2026-11-20 10:02, from 10.1.2.3.", VI: "Bị khóa từ 10:02 ngày 20/11/2026 sau 6 lần nhập sai mật khẩu.",
					TellEN: "Your mailbox is locked. Correct the password on every device.", TellVI: "Hộp thư bị tạm khóa. Hãy sửa mật khẩu trên mọi thiết bị.",
				},
				{Outcome: "previous_password", EN: "A device still tries the password from before the last change.", VI: "Có thiết bị vẫn dùng mật khẩu cũ.", TellEN: "One of your devices has the old password.", TellVI: "Một thiết bị vẫn lưu mật khẩu cũ."},
			},
			Events: f.events[:2],
		},
		{
			Summary: admin.Summary{Address: "binh@example.org", State: "active", Registered: at("2026-11-19 08:00:00"), LastLogin: at("2026-11-20 07:00:00"), PasswordSince: at("2026-11-19 08:00:00"), PasswordExpires: at("2027-02-20 00:00:00"), Mistakes: []admin.Mistake{}},
			Why:     []admin.Why{{Outcome: "accepted", EN: "Nothing stands in the way: it can log in; the last login was at 2026-11-20 07:00.", VI: "Không có gì cản trở.", TellEN: "Your mailbox is in order.", TellVI: "Hộp thư hoạt động bình thường."}},
			Events:  []admin.Event{},
		},
		{
			Summary: admin.Summary{Address: "cu@example.org", State: "revoked", Registered: at("2024-01-02 08:00:00"), LastLogin: at("2025-10-19 17:30:00"), Revoked: &admin.Revocation{At: at("2026-10-20 02:30:00"), By: "gateway", Reason: "no login for more than 12 months"}, Mistakes: []admin.Mistake{}},
			Why:     []admin.Why{{Outcome: "revoked", EN: "Revoked since 2026-10-20 02:30 by gateway: the last login was at 2025-10-19 17:30.", VI: "Bị thu hồi.", TellEN: "Please ask for it to be restored.", TellVI: "Vui lòng đề nghị khôi phục."}},
			Events:  []admin.Event{},
		},
		{
			Summary: admin.Summary{Address: "het@example.org", State: "expired", Registered: at("2024-01-02 08:00:00"), LastLogin: at("2026-07-19 17:30:00"), PasswordSince: at("2026-07-01 09:00:00"), PasswordExpires: at("2026-10-02 00:00:00"), Mistakes: []admin.Mistake{}},
			Why:     []admin.Why{{Outcome: "expired", EN: "The password expired at 2026-10-02 00:00.", VI: "Mật khẩu đã hết hạn.", TellEN: "Change it.", TellVI: "Hãy đổi mật khẩu."}},
			Events:  []admin.Event{},
		},
	}
	f.causes = []admin.Cause{
		{
			ID: "3f9a1c2b7d", First: at("2026-11-20 10:02:11"), Last: at("2026-11-20 10:09:00"), Suspected: true,
			Sources: []string{"203.0.113.5", "203.0.113.6", "2001:db8::/64"}, Accounts: []string{"an@example.org", "cuc@example.org", "dao@example.org", "giang@example.org"},
			EN: "4 accounts locked from 2026-11-20 10:02 to 2026-11-20 10:09 by wrong passwords from 3 addresses, most from 203.0.113.5. This looks like an attack.",
		},
		{ID: "77aa0c1122", First: at("2026-11-19 08:00:00"), Last: at("2026-11-19 08:00:00"), Sources: []string{"10.1.2.3"}, Accounts: []string{"hai@example.org"}, EN: "1 account locked."},
	}
	f.health = http.StatusOK
	f.readiness = admin.Readiness{Ready: true, Checks: map[string]admin.Condition{"store": {OK: true}, "imap upstream": {OK: true}}}
	f.report = admin.ChainReport{OK: true, Checked: 3, Seq: 3, Hash: strings.Repeat("c3", 32), At: at("2026-11-20 10:02:11")}

	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(f.handler())
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return f
}

func answer(w http.ResponseWriter, status int, body any) {
	kind := "application/json"
	if status != http.StatusOK {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func problem(status int, detail string) map[string]any {
	said := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	if vi, ok := map[string]string{
		"nothing to do: the account has no other name in the store": "không cần xử lý: tài khoản không có tên khác trong kho dữ liệu",
		"no such cause": "không có nguyên nhân này",
		"no such account: No account of this name has ever logged in.": "không có tài khoản này: Chưa có tài khoản nào mang tên này từng đăng nhập.",
		"too many accounts at once would be revoked: 2 of 4":           "quá nhiều tài khoản sẽ bị thu hồi cùng lúc",
	}[detail]; ok {
		said["detail_vi"] = vi
	}
	return said
}

func (f *fake) find(name string) *admin.Account {
	name = strings.ToLower(name)
	if !strings.Contains(name, "@") {
		name += "@example.org"
	}
	for i := range f.accounts {
		if f.accounts[i].Address == name {
			return &f.accounts[i]
		}
	}
	return nil
}

func (f *fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.health, map[string]bool{"ok": true}) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.health, f.readiness) })
	mux.HandleFunc("GET /api/v1/accounts", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, _ := strconv.Atoi(q.Get("limit"))
		list := admin.AccountList{Accounts: []admin.Summary{}}
		for _, a := range f.accounts {
			if a.Address <= q.Get("cursor") || q.Get("state") != "" && a.State != q.Get("state") || !strings.Contains(a.Address, strings.ToLower(q.Get("q"))) {
				continue
			}
			// Two entries per page, whatever the limit: a page may be short.
			if len(list.Accounts) == min(limit, 2) {
				list.Next = list.Accounts[len(list.Accounts)-1].Address
				break
			}
			list.Accounts = append(list.Accounts, a.Summary)
		}
		answer(w, 200, list)
	})
	mux.HandleFunc("GET /api/v1/accounts/{address}", func(w http.ResponseWriter, r *http.Request) {
		if a := f.find(r.PathValue("address")); a != nil {
			answer(w, 200, a)
			return
		}
		answer(w, 422, map[string]any{"title": "Unprocessable Entity", "status": 422, "detail": "validation failed", "errors": []any{map[string]string{"location": "path.address", "message": "is of a domain that is not served here"}}})
	})
	mux.HandleFunc("POST /api/v1/accounts/{address}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		f.bodies = append(f.bodies, r.Header.Get("Content-Type")+" "+body.String())
		a := f.find(r.PathValue("address"))
		switch {
		case a == nil:
			answer(w, 404, problem(404, "no such account: No account of this name has ever logged in."))
		case r.PathValue("verb") == "unlock" && a.State != "locked":
			answer(w, 409, problem(409, "nothing to do: "+a.Why[0].EN))
		default:
			after := f.accounts[1]
			after.Address = a.Address
			answer(w, 200, after)
		}
	})
	mux.HandleFunc("GET /api/v1/unknown-names", func(w http.ResponseWriter, r *http.Request) {
		q, list := r.URL.Query(), admin.UnknownNameList{Names: []admin.UnknownName{}}
		limit, _ := strconv.Atoi(q.Get("limit"))
		for _, n := range []admin.UnknownName{
			{Name: "an@example.orgg", Failures: 6, Locked: &admin.Lock{At: at("2026-11-20 10:02:11"), By: "gateway", Cause: "wrong_passwords"},
				Mistakes: []admin.Mistake{{At: at("2026-11-20 10:02:11"), Source: "203.0.113.5:50005"}}},
			{Name: "matkhau@example.org", Failures: 1, Mistakes: []admin.Mistake{}},
		} {
			switch {
			case !strings.Contains(n.Name, q.Get("q")) || q.Get("locked") == "true" && n.Locked == nil || n.Name <= q.Get("cursor"):
			case len(list.Names) == limit:
				list.Next = list.Names[limit-1].Name
			default:
				list.Names = append(list.Names, n)
			}
		}
		answer(w, 200, list)
	})
	mux.HandleFunc("GET /api/v1/causes", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, admin.CauseList{Causes: f.causes}) })
	mux.HandleFunc("POST /api/v1/causes/{id}/unlock", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			DryRun bool `json:"dry_run"`
			Reason string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Reason == "" {
			answer(w, 422, problem(422, "validation failed"))
			return
		}
		for _, c := range f.causes {
			if c.ID == r.PathValue("id") {
				answer(w, 200, admin.CauseUnlocked{Cause: c, DryRun: body.DryRun, Unlocked: c.Accounts[1:], Freed: c.Unknown, Failed: []admin.Failure{{Address: c.Accounts[0], Why: "it is no longer locked", WhyVI: "không còn bị khóa"}}})
				return
			}
		}
		answer(w, 404, problem(404, "no such cause"))
	})
	f.handleSources(mux)
	mux.HandleFunc("POST /api/v1/sweep", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			DryRun bool `json:"dry_run"`
			Force  bool
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			answer(w, 422, problem(422, "validation failed"))
			return
		}
		report := admin.SweepReport{DryRun: body.DryRun, Dormant: []string{"cu@example.org", "xua@example.org"}}
		switch {
		case body.Force:
			report.Revoked = 2
		case !body.DryRun:
			answer(w, 409, problem(409, "too many accounts at once would be revoked: 2 of 4"))
			return
		}
		answer(w, 200, report)
	})
	mux.HandleFunc("POST /api/v1/merge", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Address string
			All     bool
			DryRun  bool `json:"dry_run"`
			Reason  string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Reason == "" && !body.DryRun || (body.Address == "") == !body.All {
			answer(w, 422, problem(422, "validation failed"))
			return
		}
		merged := func(address, other string) admin.MergedAccount {
			return admin.MergedAccount{Summary: f.find(address).Summary, From: []admin.OtherName{
				{Address: other, Locked: &admin.Lock{At: at("2026-11-20 10:02:11"), By: "Trần Thị B", Cause: "admin"}, Failures: 2},
				{Revoked: &admin.Revocation{At: at("2026-10-20 02:30:00"), By: "gateway"}},
			}}
		}
		report := admin.MergeReport{DryRun: body.DryRun, Merged: []admin.MergedAccount{merged("an@example.org", "an@example.net")}}
		switch {
		case body.All:
			report.Merged = append(report.Merged, merged("binh@example.org", "office@example.org"))
		case body.Address != "an@example.org":
			answer(w, 409, problem(409, "nothing to do: the account has no other name in the store"))
			return
		}
		answer(w, 200, report)
	})
	noon := time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC)
	clock := admin.Clock{Now: noon, Suspect: true, Since: &noon, Why: "the clock was set back by 1h0m0s"}
	mux.HandleFunc("GET /api/v1/clock", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, clock) })
	mux.HandleFunc("POST /api/v1/clock/accept", func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			DryRun bool `json:"dry_run"`
			Reason string
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Reason == "" && !body.DryRun {
			answer(w, 422, problem(422, "validation failed"))
			return
		}
		report := admin.ClockReport{DryRun: body.DryRun, Clock: clock, Redated: []string{"an@example.org"}}
		if !body.DryRun && !clock.Suspect {
			report.Redated = nil
		} else if !body.DryRun {
			clock = admin.Clock{Now: noon}
		}
		answer(w, 200, report)
	})
	mux.HandleFunc("GET /api/v1/events", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		limit, _ := strconv.Atoi(q.Get("limit"))
		before, _ := strconv.ParseInt(q.Get("before"), 10, 64)
		list := admin.EventList{Events: []admin.Event{}}
		for _, e := range f.events {
			if before > 0 && e.Seq >= before || q.Get("account") != "" && e.Account != q.Get("account") ||
				q.Get("kind") != "" && !slices.Contains(strings.Split(q.Get("kind"), ","), e.Kind) {
				continue
			}
			if len(list.Events) == limit {
				list.Next = list.Events[limit-1].Seq
				break
			}
			if source := q.Get("source"); source != "" { // by parts of one event
				if list.Next = e.Seq; e.Seq == 1 {
					list.Next = 0
				}
				if strings.Contains(e.Source, source) {
					list.Events = append(list.Events, e)
				}
				break
			}
			list.Events = append(list.Events, e)
		}
		answer(w, 200, list)
	})
	mux.HandleFunc("GET /api/v1/audit/verify", func(w http.ResponseWriter, r *http.Request) { answer(w, 200, f.report) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked = append(f.asked, r.Method+" "+r.URL.RequestURI())
		mux.ServeHTTP(w, r)
	})
}

// run runs a command and adds it to the transcript, as a terminal would show it.
func (f *fake) run(args ...string) (code int, stdout, stderr string) {
	f.Helper()
	var out, errOut bytes.Buffer
	code = Run(context.Background(), args, strings.NewReader(""), &out, &errOut)
	shown := make([]string, len(args))
	for i, a := range args {
		shown[i] = quote(a)
	}
	fmt.Fprintf(&f.transcript, "$ congthu %s\n%s", strings.Join(shown, " "), out.String())
	for line := range strings.Lines(errOut.String()) {
		fmt.Fprintf(&f.transcript, "! %s", line)
	}
	fmt.Fprintf(&f.transcript, "= %d\n\n", code)
	return code, out.String(), errOut.String()
}

// compare compares the transcript with a golden file.
func (f *fake) compare(name string) {
	f.Helper()
	got := strings.ReplaceAll(f.transcript.String(), f.dir, "DIR")
	if spoken() == vietnamese {
		name += ".vi"
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			f.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		f.Fatalf("%v (go test ./gateway/cli -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		f.Errorf("differs from %s (-want +got):\n%s", path, diff)
	}
}

func (f *fake) expect(want int, args ...string) (stdout, stderr string) {
	f.Helper()
	code, stdout, stderr := f.run(args...)
	if code != want {
		f.Errorf("%v: exit code %d, want %d: %s", args, code, want, stderr)
	}
	return stdout, stderr
}

func TestAnAccountIsShownWithTheAnswerFirst(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "account", "show", "an@example.org")
		f.expect(0, "account", "show", "BINH", "cu@example.org")
		f.expect(0, "account", "show", "het@example.org", "--socket", f.socket)
		f.expect(1, "account", "show", "an@elsewhere.org", "binh@example.org")
		f.compare("account-show")
		out, _ := f.expect(0, "account", "show", "an@example.org", "--output", "json")
		var a admin.Account
		if err := json.Unmarshal([]byte(out), &a); err != nil || a.Address != "an@example.org" || len(a.Why) != 2 || len(a.Events) != 2 {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestAccountsAreListedPageAfterPage(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "account", "list")
		f.expect(0, "account", "list", "--limit", "3")
		f.expect(0, "account", "list", "--state", "locked")
		f.expect(0, "account", "list", "--state", "expiring", "--contains", "an")
		f.expect(exitUsage, "account", "list", "--state", "lokced")
		f.expect(exitUsage, "account", "list", "--limit", "-1")
		f.expect(exitUsage, "account", "list", "an@example.org")
		f.expect(0, "account", "list", "--limit", "1", "--output", "json")
		f.compare("account-list")
		out, _ := f.expect(0, "account", "list", "--limit", "0", "-o", "json")
		var list admin.AccountList
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Accounts) != 4 || list.Next != "" {
			t.Errorf("%v: %s", err, out)
		}
		if out, _ = f.expect(0, "account", "list", "--contains", "nobody", "-o", "json"); strings.Join(strings.Fields(out), "") != `{"accounts":[]}` {
			t.Errorf("%s", out)
		}
	})
}

func TestAnActNeedsAReasonAndShowsTheNewState(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "account", "unlock", "an@example.org", "--reason", "Người dùng gọi điện")
		f.expect(0, "account", "grace", "het@example.org", "--days", "3", "--reason", "đi công tác")
		f.expect(0, "account", "restore", "cu@example.org", "an@example.org", "--reason", "request 123/CV")
		f.expect(1, "account", "unlock", "binh@example.org", "--reason", "again")
		f.expect(1, "account", "lock", "a/b%c@example.org", "--reason", "left")
		f.compare("account-acts")
		if diff := cmp.Diff([]string{
			`application/json {"reason":"Người dùng gọi điện"}`, `application/json {"days":3,"reason":"đi công tác"}`, `application/json {"reason":"request 123/CV"}`,
			`application/json {"reason":"request 123/CV"}`, `application/json {"reason":"again"}`, `application/json {"reason":"left"}`,
		}, f.bodies); diff != "" {
			t.Error(diff)
		}
		// The refusal is followed by the question which mailboxes are similar.
		want := []string{"POST /api/v1/accounts/a%2Fb%25c@example.org/lock", "GET /api/v1/accounts/a%2Fb%25c@example.org"}
		if last := f.asked[len(f.asked)-2:]; !slices.Equal(last, want) {
			t.Error(last)
		}
	})
}

func TestTheAccountsOfACauseAreUnlockedTogether(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "account", "causes")
		f.expect(1, "account", "unlock", "--cause", "3f9a1c2b7d", "--dry-run")
		f.expect(1, "account", "unlock", "--cause", "3f9a1c2b7d", "--reason", "attack blocked")
		f.expect(1, "account", "unlock", "--cause", "nosuch", "--reason", "attack blocked")
		f.expect(exitUsage, "account", "unlock", "--cause", "3f9a1c2b7d")
		f.expect(exitUsage, "account", "unlock", "--cause", "3f9a1c2b7d", "an@example.org", "--reason", "x")
		f.expect(exitUsage, "account", "unlock", "an@example.org", "--dry-run", "--reason", "attack blocked")
		f.causes = f.causes[:1]
		f.causes[0].Ended = true
		f.causes[0].Accounts, f.causes[0].Unknown = f.causes[0].Accounts[:2], []string{"matkhau@example.org", "an@example.orgg"}
		f.expect(0, "account", "causes")
		f.expect(1, "account", "unlock", "--cause", "3f9a1c2b7d", "--dry-run")
		f.expect(1, "account", "unlock", "--cause", "3f9a1c2b7d", "--reason", "attack blocked")
		f.causes = nil
		f.expect(0, "account", "causes")
		f.compare("account-causes")
	})
}

func TestNamesThatNeverLoggedInAreListedSeparately(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "account", "list", "--unknown")
		f.expect(0, "account", "list", "--unknown", "--limit", "1")
		f.expect(0, "account", "list", "--unknown", "--state", "locked", "-o", "json")
		f.expect(0, "account", "list", "--unknown", "--contains", "nobody")
		f.expect(0, "account", "list", "--unknown", "--contains", "nobody", "-o", "json")
		f.expect(exitUsage, "account", "list", "--unknown", "--state", "revoked")
		f.compare("account-unknown")
	})
}

func TestOtherNamesOfAnAccountAreShownAndMerged(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		locked := admin.OtherName{Address: "binh@example.net", Locked: &admin.Lock{At: at("2026-11-20 10:02:11"), By: "Trần Thị B", Cause: "admin", Reason: "left"}}
		f.accounts[1].OtherNames = []admin.OtherName{locked}
		f.accounts[1].Why = []admin.Why{{Outcome: "locked", EN: "Under its other name binh@example.net: Locked.", VI: "Bị khóa.", TellEN: "Call us.", TellVI: "Hãy gọi."}}
		f.expect(0, "account", "show", "binh@example.org")
		f.expect(0, "account", "merge", "--all", "--dry-run")
		f.expect(exitUsage, "account", "merge", "--all")
		f.expect(exitUsage, "account", "merge", "--all", "an@example.org", "--reason", "one mailbox")
		f.expect(exitUsage, "account", "merge", "--reason", "one mailbox")
		f.expect(1, "account", "merge", "an@example.org", "binh@example.org", "--reason", "one mailbox")
		f.expect(0, "account", "merge", "--all", "--reason", "one mailbox")
		f.compare("account-merge")
		out, _ := f.expect(0, "account", "merge", "--all", "--dry-run", "-o", "json")
		var report admin.MergeReport
		if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Merged) != 2 || !report.DryRun {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestASweepIsShownAndForced(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(1, "sweep")
		f.expect(0, "sweep", "--dry-run")
		f.expect(exitUsage, "sweep", "--force")
		f.expect(0, "sweep", "--force", "--reason", "list checked")
		f.expect(exitUsage, "sweep", "--force", "--dry-run")
		f.compare("sweep")
	})
}

func TestAClockIsShownAndAccepted(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "clock", "show")
		f.expect(0, "clock", "accept", "--dry-run")
		f.expect(exitUsage, "clock", "accept")
		f.expect(0, "clock", "accept", "--reason", "time server mended")
		f.expect(0, "clock", "show")
		f.expect(0, "clock", "show", "--output", "json")
		f.expect(0, "clock", "accept", "--reason", "again")
		f.compare("clock")
	})
}

func TestAUsageErrorShowsAnExample(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		for _, args := range [][]string{
			{"account", "unlock", "an@example.org"},
			{"account", "lock", "an@example.org", "--reason", "  "},
			{"account", "restore"},
			{"account", "grace", "an@example.org", "--reason", "on a mission"},
			{"account", "grace", "an@example.org", "--days", "3"},
			{"account", "show", ""},
			{"account", "shwo", "an@example.org"},
			{"acount"},
			{"account", "show", "an", "--otput", "json"},
			{"account", "show", "an", "--output", "xml"},
			{"account", "show", "an", "--socket", "x", "-c", "y"},
			{"audit", "list", "--limit", "0"},
			{"audit", "verify", "--noted", "12"},
			{"version", "now"},
		} {
			f.expect(exitUsage, args...)
		}
		if len(f.asked) > 0 {
			t.Errorf("the gateway was asked: %v", f.asked)
		}
		f.compare("usage")
		if _, stderr := f.expect(exitUsage, "audit", "list", "--kind", "account.lock"); !strings.Contains(stderr, trf("there is no kind %q: write some of %s", "account.lock", "login.first, ")) {
			t.Error(stderr)
		}
	})
}

func TestTheAuditLogIsListed(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "audit", "list")
		f.expect(0, "audit", "list", "--account", "an@example.org", "--kind", "account.locked,account.unlocked")
		f.expect(0, "audit", "list", "--limit", "1")
		f.expect(0, "audit", "list", "--before", "1")
		f.expect(0, "audit", "list", "--limit", "1", "-o", "json")
		f.expect(0, "audit", "list", "--source", "10.1.2.3")
		f.expect(0, "audit", "list", "--source", "10.1.2.3", "--limit", "1")
		f.expect(0, "audit", "list", "--source", "2001:db8::1", "-o", "json")
		f.expect(0, "audit", "list", "--source", "192.0.2.1", "-o", "json")
		f.expect(exitUsage, "audit", "list", "--source", "10.1.2.3:993")
		f.expect(exitUsage, "audit", "list", "--source", "10.1.2.3/24")
		f.compare("audit-list")
	})
}

func TestTheAuditLogIsVerified(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "audit", "verify")
		f.expect(0, "audit", "verify", "--noted", "2:"+strings.Repeat("B2", 32))
		f.expect(1, "audit", "verify", "--noted", "2:"+strings.Repeat("ff", 32))
		f.expect(1, "audit", "verify", "--noted", "4:"+strings.Repeat("ff", 32))
		f.expect(0, "audit", "verify", "--output", "json")
		whole := f.report
		f.report.Checked, f.report.Removed = 2, &admin.Removed{Seq: 1, Hash: strings.Repeat("aa", 32), At: at("2025-10-01 09:00:00")}
		f.expect(0, "audit", "verify")
		f.expect(0, "audit", "verify", "--noted", "1:"+strings.Repeat("AA", 32))
		f.expect(1, "audit", "verify", "--noted", "1:"+strings.Repeat("ff", 32))
		f.report.Removed.Seq = 2
		f.expect(1, "audit", "verify", "--noted", "1:"+strings.Repeat("a1", 32))
		f.report = whole
		f.report = admin.ChainReport{Checked: 2, Broken: 2, Why: "its hash is not that of its content"}
		f.expect(1, "audit", "verify")
		f.events, f.report = nil, admin.ChainReport{OK: true}
		f.expect(0, "audit", "verify")
		f.compare("audit-verify")
	})
}

func TestTheSocketIsFoundByFlagThenVariableThenConfiguration(t *testing.T) {
	f := newFake(t)
	file := filepath.Join(f.dir, "congthu.yaml")
	// The configuration is invalid on purpose: support staff may be unable to read all
	// of it.
	if err := os.WriteFile(file, []byte("data_dir: .\nrules: { time_zone: UTC }\ntls: { key: /nonexistent }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := f.expect(0, "account", "show", "an@example.org", "-c", file)
	if !strings.Contains(out, "2026-11-20 03:02 +00") || !strings.Contains(out, "unlock an@example.org -c "+file) {
		t.Errorf("%s", out)
	}
	t.Setenv(socketVariable, "/nonexistent")
	f.expect(0, "account", "show", "an@example.org", "--socket", f.socket)
	f.expect(1, "account", "show", "an@example.org")
	f.expect(0, "account", "show", "an@example.org", "-c", file)
	f.expect(exitConfig, "account", "show", "an@example.org", "-c", filepath.Join(f.dir, "missing.yaml"))
	if err := os.WriteFile(file, []byte("data_dir: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr := f.expect(exitConfig, "account", "show", "an@example.org", "-c", file)
	if !strings.Contains(stderr, file+":1:11: this is not YAML") {
		t.Errorf("%s", stderr)
	}
}

func TestWithoutAFlagTheExistingSocketIsUsed(t *testing.T) {
	dir := t.TempDir()
	run, data := filepath.Join(dir, "run.sock"), filepath.Join(dir, "data.sock")
	if got := usualSocket([]string{run, data}); got != run {
		t.Errorf("neither is there: %s", got)
	}
	if err := os.WriteFile(data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := usualSocket([]string{run, data}); got != data {
		t.Errorf("only the second is there: %s", got)
	}
	if err := os.WriteFile(run, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := usualSocket([]string{run, data}); got != run {
		t.Errorf("both are there: %s", got)
	}
}

func TestAGatewayThatIsNotThereIsExplained(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		f.expect(1, "account", "show", "an", "--socket", filepath.Join(f.dir, "none.sock"))
		// A socket left behind by a dead process.
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(f.dir, "left.sock"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
		f.expect(1, "account", "show", "an", "--socket", filepath.Join(f.dir, "left.sock"))
		f.compare("unreached")
		c := &client{socket: f.socket}
		err = c.unreached(&net.OpError{Op: "dial", Err: os.ErrPermission})
		if text := err.Error(); !strings.Contains(text, trf("you may not use %s: %s", f.socket, "")) || !strings.Contains(text, "usermod -aG ") && !strings.Contains(text, "admin.socket_group") || strings.Contains(text, "-aG root") {
			t.Errorf("%v", err)
		}
		c.socket = "/nonexistent/x"
		if err := c.unreached(os.ErrPermission); !strings.Contains(err.Error(), "admin.socket_group") {
			t.Errorf("%v", err)
		}
	})
}

func TestAServerThatIsNotCongthuIsReported(t *testing.T) {
	for body, want := range map[string]string{"<html>": "does not answer like congthu", "": "does not answer like congthu"} {
		dir := testenv.Dir(t)
		listener, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
		server.Listener.Close()
		server.Listener = listener
		server.Start()
		var out, errOut bytes.Buffer
		if code := Run(t.Context(), []string{"account", "show", "an", "--socket", filepath.Join(dir, "s")}, nil, &out, &errOut); code != 1 || !strings.Contains(errOut.String(), want) {
			t.Errorf("%q: %d %s", body, code, errOut.String())
		}
		server.Close()
	}
	if err := refused(502, []byte("<html>")); err.Error() != "the gateway answers 502 Bad Gateway" {
		t.Error(err)
	}
}

func TestTextFromOutsideCannotControlTheTerminal(t *testing.T) {
	f := newFake(t)
	t.Setenv(socketVariable, f.socket)
	f.accounts[0].Why[0].EN = "Locked \x1b[2J\x07since\tyesterday\n"
	f.accounts[0].Locked.Reason = "\x1b]0;title\x07"
	f.events[0].Reason = "\u202eevil\x9b"
	out, _ := f.expect(0, "account", "show", "an@example.org")
	if regexp.MustCompile("[\x00-\x09\x0b-\x1f\x7f\u0080-\u009f\u202e]").MatchString(out) {
		t.Errorf("%q", out)
	}
}

func TestAccountNamesAreCompleted(t *testing.T) {
	f := newFake(t)
	out, _ := f.expect(0, "__complete", "account", "unlock", "--socket", f.socket, "A")
	if !strings.HasPrefix(out, "an@example.org\tlocked\n:4\n") {
		t.Errorf("%q", out)
	}
	out, _ = f.expect(0, "__complete", "account", "unlock", "--socket", "/nonexistent", "a")
	if !strings.HasPrefix(out, ":4\n") {
		t.Errorf("%q", out)
	}
	for _, c := range []struct{ flag, want string }{{"--output", "json"}, {"--state", "never_seen"}} {
		if out, _ := f.expect(0, "__complete", "account", "list", c.flag, ""); !strings.Contains(out, c.want+"\n") {
			t.Errorf("%s: %q", c.flag, out)
		}
	}
	if out, _ := f.expect(0, "completion", "bash"); !strings.Contains(out, "__start_congthu") {
		t.Error("no completion for bash")
	}
}

func TestEveryCommandHasHelpInTheLanguageOfTheUser(t *testing.T) {
	f := newFake(t)
	var walk func(path []string)
	walk = func(path []string) {
		cmd, _, err := New().Find(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range cmd.Commands() {
			full := append(slices.Clone(path), sub.Name())
			t.Setenv("LC_ALL", "vi_VN.UTF-8")
			if out, _ := f.expect(0, append(full, "--help")...); !strings.Contains(out, "Cách dùng:") || strings.Contains(out, "Usage:") || strings.Contains(out, "(default") ||
				strings.Contains(out, sub.Short) || sub.Long == "" && !strings.Contains(out, tr(sub.Short)) {
				t.Errorf("%v: not the help in Vietnamese: %s", full, out)
			}
			t.Setenv("LC_ALL", "C")
			if out, _ := f.expect(0, append(full, "--help")...); sub.Short == "" || !strings.Contains(out, "Usage:") || strings.ContainsFunc(out, func(r rune) bool { return r > 0x7f }) {
				t.Errorf("%v: not the help in English: %s", full, out)
			}
			walk(full)
		}
	}
	walk(nil)
	out, _ := f.expect(0)
	if !strings.Contains(out, "congthu account show an@example.org") {
		t.Errorf("%s", out)
	}
}

// A terminal shows progress, and nothing of it remains at the end.
func TestProgressIsShownOnATerminalAndWipedAway(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	progress(screen, "verifying 3 events")()
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	// The terminal returns the output in pieces, and EIO when no process has it open.
	written, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	if got := string(written); !strings.Contains(got, "verifying 3 events [======") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
	for i := range 100 {
		if b := bar(i); len(b) != 24 || strings.Count(b, "=") != 6 {
			t.Fatalf("%d: %q", i, b)
		}
	}
}

func TestTheVersionIsPrinted(t *testing.T) {
	f := newFake(t)
	if out, _ := f.expect(0, "version"); !regexp.MustCompile(`^congthu \S+, revision \S+, go\S+ \S+/\S+\n$`).MatchString(out) {
		t.Errorf("%q", out)
	}
	out, _ := f.expect(0, "version", "--output", "json")
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); err != nil || v["version"] == "" || v["revision"] == "" {
		t.Errorf("%v: %s", err, out)
	}
}

// The type name "string" does not say what to write.
func TestEveryFlagNamesWhatItWants(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			name, _ := pflag.UnquoteUsage(f)
			if f.Value.Type() != "bool" && name != strings.ToUpper(name) {
				t.Errorf("%s --%s %s", cmd.CommandPath(), f.Name, name)
			}
		})
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(New())
	f := newFake(t)
	for command, want := range map[string]string{
		"account unlock": "for the audit log; required\n",
		"sweep":          "for the audit log; required with --force\n",
	} {
		if out, _ := f.expect(0, append(strings.Fields(command), "--help")...); !strings.Contains(out, "--reason TEXT ") || !strings.Contains(out, want) {
			t.Errorf("%s: %s", command, out)
		}
	}
}

// With one mistake per reload, an administrator would have to reload once for each
// mistake.
func TestARefusedReloadLogsEveryMistake(t *testing.T) {
	_, err := config.Parse("congthu.yaml", []byte("domian: example.vn\nimap: { upstrem: \"127.0.0.1:10143\" }\nrules: { lockout: { tolerated: 0 } }\n"))
	var mistakes *config.Error
	if !errors.As(err, &mistakes) || len(mistakes.Problems) < 4 {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tellMistakes(slog.New(slog.NewTextHandler(&out, nil)), fmt.Errorf("reload: %w", err))
	log := out.String()
	for _, p := range mistakes.Problems {
		if !strings.Contains(log, fmt.Sprintf("place=%s path=%s err=", p.Place(), p.Path)) {
			t.Errorf("no word of %s", p.Path)
		}
	}
	unknown, missing := strings.Index(log, "did you mean `domain`"), strings.Index(log, "`domain` is missing")
	if unknown < 0 || missing < unknown {
		t.Errorf("what is missing is reported before what is mistyped:\n%s", log)
	}
}

// A reload that arrives while the database is being opened, which may take long, must
// not end the process and must not call a gateway that does not exist yet.
func TestAReloadDuringTheStartComesAfterIt(t *testing.T) {
	dir := testenv.Dir(t)
	if err := demoCertificate(dir); err != nil {
		t.Fatal(err)
	}
	const some, nobody = "127.0.0.1:0", "127.0.0.1:1"
	file, c, err := demoConfig(dir, demoSetup{
		Dir: dir, Domain: "example.vn", IMAP: some, IMAPS: some, Submission: some, Submissions: some, POP3: some, POP3S: some, Admin: some,
		UpstreamIMAP: nobody, UpstreamSMTP: nobody, UpstreamPOP3: nobody, TokenHash: strings.Repeat("1", 64),
	})
	if err != nil {
		t.Fatal(err)
	}
	ready, reloaded := make(chan struct{}), make(chan bool, 1)
	gate := &server{
		log: slog.New(slog.DiscardHandler),
		prepare: func(context.Context, auth.Store, auth.Fingerprinter) error {
			return syscall.Kill(os.Getpid(), syscall.SIGHUP)
		},
		ready: func() { close(ready) },
		load: func() (*config.Config, error) {
			select {
			case <-ready:
				reloaded <- true
			default:
				reloaded <- false
			}
			return config.Load(file)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- gate.run(ctx, c) }()
	select {
	case afterwards := <-reloaded:
		if !afterwards {
			t.Error("the configuration was read again before the gateway was ready")
		}
	case err := <-done:
		t.Fatalf("the gateway has ended: %v", err)
	case <-time.After(time.Minute):
		t.Error("the signal was lost")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
