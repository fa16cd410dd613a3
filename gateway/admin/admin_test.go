package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/gateway/scope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tokens of the tests: one with all scopes, one with a single scope, and an unknown
// one.
const (
	master = "master-token-0123456789"
	reader = "reader-token-0123456789"
)

// fixture is a server on a guard on a memory, with the clock stopped.
type fixture struct {
	*Server
	store *memory
	guard *guard.Guard
	now   time.Time
	log   *logged
	live  map[auth.Name]int
}

func (f *fixture) Of(name auth.Name) []auth.Origin {
	var all []auth.Origin
	for i := range f.live[name] {
		all = append(all, auth.Origin{At: instant("2025-06-15 08:00").Add(time.Duration(i) * time.Hour), Source: netip.MustParseAddrPort("192.0.2.10:50000"), Program: "Thunderbird"})
	}
	return all
}

func (f *fixture) Len(name auth.Name) int { return f.live[name] }

// logged is the whole log.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		store: &memory{accounts: make(map[auth.Name]auth.Account)},
		now:   instant("2025-06-15 10:00"),
		log:   &logged{},
		live:  make(map[auth.Name]int),
	}
	clock := func() time.Time { return f.now }
	f.guard = &guard.Guard{Store: f.store, Now: clock}
	f.guard.SetPolicy(guard.Policy{
		Names: &auth.Namer{
			Default: "x.vn", Domains: map[string]bool{"y.vn": true},
			Aliases: map[auth.Name]auth.Name{"vanthu@x.vn": "an@x.vn"},
		},
		Rules: auth.DefaultRules(),
	})
	f.Server = &Server{
		Accounts: f.store, Guard: f.guard, Canonical: f.guard.Canonical, Sessions: f, Now: clock,
		Tokens: []Token{
			{Name: "Nguyễn Văn A", SHA256: sha256.Sum256([]byte(master)), Scopes: scope.All()},
			{Name: "Lê Văn C", SHA256: sha256.Sum256([]byte(reader)), Scopes: []scope.Scope{scope.Read}},
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") }),
		Log:     slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, name := range []auth.Name{"an@x.vn", "binh@x.vn"} {
		f.add(auth.Account{Name: name})
	}
	return f
}

// add stores an account that logged in yesterday, unless it says otherwise.
func (f *fixture) add(a auth.Account) {
	if a.Registered.IsZero() {
		a.Registered = auth.AddMonths(f.now, -12)
		a.FirstLogin = a.Registered
	}
	if a.LastLogin.IsZero() && !a.FirstLogin.IsZero() {
		a.LastLogin = f.now.AddDate(0, 0, -1)
	}
	if a.Password.Since.IsZero() && !a.FirstLogin.IsZero() {
		a.Password.Since = auth.AddMonths(f.now, -1)
	}
	f.store.accounts[a.Name] = a
}

// lockedByGuessing returns an account after six wrong passwords.
func (f *fixture) lockedByGuessing(name auth.Name) {
	a := auth.Account{Name: name, Failures: 6}
	for i := range 6 {
		a.Mistakes = append(a.Mistakes, from("203.0.113.5:40000", "2025-06-15 09:00"))
		a.Mistakes[i].At = a.Mistakes[i].At.Add(time.Duration(i) * time.Minute)
	}
	a.Lock = auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway, Reason: "6 wrong passwords"}, Cause: auth.ByWrongPasswords}
	f.add(a)
}

// request makes one request with the master token, unless a header says otherwise.
func (f *fixture) request(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.7:5050"
	r.Header.Set("Authorization", "Bearer "+master)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	return w
}

// decode decodes an answer that must have a given status.
func decode[T any](t *testing.T, w *httptest.ResponseRecorder, status int) (body T) {
	t.Helper()
	if w.Code != status {
		t.Fatalf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if status >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("a problem as %q", w.Header().Get("Content-Type"))
	}
	return body
}

// Problem is RFC 9457 with huma's list of fields.
type Problem struct {
	Title  string
	Status int
	Detail string
	// Ours.
	DetailVI string `json:"detail_vi"`
	Errors   []struct {
		Location, Message, Value string
		MessageVI                string `json:"message_vi"`
	}
}

func TestAnAccountIsShownWithItsReasonsAndItsEvents(t *testing.T) {
	f := newFixture(t)
	f.lockedByGuessing("an@x.vn")
	f.live["an@x.vn"] = 3
	for i := range 25 {
		f.store.events = append(f.store.events, auth.Event{Seq: int64(i + 1), At: f.now, Account: "an@x.vn", Kind: auth.PasswordWrong, Actor: auth.ByUser})
	}
	// Any spelling, the alias and the bare name mean the same account.
	for _, address := range []string{"an@x.vn", "AN@X.VN", "an", "an%40x.vn", "vanthu@x.vn", "%EF%BD%81%EF%BD%8E@x.vn"} {
		w := f.request("GET", base+"/accounts/"+address, "")
		a := decode[Account](t, w, 200)
		if a.Address != "an@x.vn" || a.State != "locked" || a.Sessions != 3 || len(a.Events) != 20 || a.Events[0].Seq != 25 {
			t.Errorf("%s: %s", address, w.Body)
		}
		if len(a.Why) != 1 || a.Why[0].Outcome != "locked" || a.Locked == nil || a.Locked.Cause != "wrong_passwords" || len(a.Mistakes) != 6 {
			t.Errorf("%s: %s", address, w.Body)
		}
	}
}

func TestTheShapeOfAnAccountIsWhatClientsRelyOn(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "moi@x.vn", Registered: f.now})
	w := f.request("GET", base+"/accounts/moi@x.vn", "")
	a := decode[map[string]any](t, w, 200)
	for _, name := range []string{"address", "state", "registered", "failures", "locked", "revoked", "sessions", "mistakes", "stale", "why", "events"} {
		if _, ok := a[name]; !ok {
			t.Errorf("%s is missing: %s", name, w.Body)
		}
	}
	for _, name := range []string{"first_login", "last_login", "restored", "password_since", "password_expires", "grace_until"} {
		if _, ok := a[name]; ok {
			t.Errorf("%s never was, and is shown: %s", name, w.Body)
		}
	}
	if !strings.Contains(w.Body.String(), `"locked":null,"revoked":null`) || !strings.Contains(w.Body.String(), `"mistakes":[],"stale":null`) {
		t.Errorf("%s", w.Body)
	}
	if a["registered"] != "2025-06-15T03:00:00Z" {
		t.Errorf("registered: %v", a["registered"])
	}
	if strings.Contains(w.Body.String(), "$schema") {
		t.Errorf("%s", w.Body)
	}
}

func TestAnAddressWithoutLoginsIsExplained(t *testing.T) {
	f := newFixture(t)
	f.store.accounts["ai@x.vn"] = auth.Account{Name: "ai@x.vn", Failures: 2}
	a := decode[Account](t, f.request("GET", base+"/accounts/ai@x.vn", ""), 200)
	if a.State != "unknown" || !strings.HasPrefix(a.Why[0].EN, "No account of this name has ever logged in") || !strings.Contains(a.Why[0].EN, "2 wrong passwords") {
		t.Errorf("%+v", a)
	}
}

func TestAddressesThatCanBeNoAccountAreRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ address, want string }{
		{"an@elsewhere.vn", "is of a domain that is not served here; did you mean an@x.vn?"},
		{"nobody@elsewhere.vn", "is of a domain that is not served here"},
		{"an*master", "has a character that separates master users"},
		{"a%20b@x.vn", "is no address: want local@domain; did you mean an@x.vn?"},
		{"%0D%0A@x.vn", "is no address: want local@domain"},
		{"%FF@x.vn", "is no address: want local@domain"},
		{strings.Repeat("a", 321), "expected length <= 320"},
	} {
		p := decode[Problem](t, f.request("GET", base+"/accounts/"+c.address, ""), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != "path.address" || p.Errors[0].Message != c.want {
			t.Errorf("%s: %+v", c.address, p)
		}
	}
}

func TestAStoreThatIsDownIsReportedWithoutItsInternals(t *testing.T) {
	f := newFixture(t)
	f.store.fail = errDisk
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/accounts", ""}, {"GET", "/accounts/an@x.vn", ""}, {"GET", "/events", ""}, {"GET", "/audit/verify", ""},
		{"POST", "/accounts/an@x.vn/lock", `{"reason":"thử"}`},
	} {
		w := f.request(c.method, base+c.target, c.body)
		decode[Problem](t, w, 503)
		if w.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", c.method, c.target)
		}
		if strings.Contains(w.Body.String(), "disk") {
			t.Errorf("%s %s: %s", c.method, c.target, w.Body)
		}
	}
	if n := strings.Count(f.log.String(), "secret-path"); n != 5 {
		t.Errorf("the operator is told %d times", n)
	}
}
