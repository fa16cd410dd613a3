package admin

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/gateway/scope"
)

func TestWithoutATokenEverythingIsRefused(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ authorization, challenge string }{
		{"", `Bearer realm="congthu"`},
		{"Bearer wrong", `Bearer realm="congthu", error="invalid_token"`},
		{"Bearer " + master + "x", `Bearer realm="congthu", error="invalid_token"`},
		{"Bearer  " + master, `Bearer realm="congthu", error="invalid_token"`},
		{"Bearer", `Bearer realm="congthu", error="invalid_token"`},
		{"Basic " + master, `Bearer realm="congthu", error="invalid_token"`},
		{master, `Bearer realm="congthu", error="invalid_token"`},
	} {
		for _, target := range []string{"/accounts", "/accounts/an@x.vn", "/accounts/a%20b", "/accounts?limit=x", "/events", "/audit/verify"} {
			w := f.request("GET", base+target, "", "Authorization", c.authorization)
			decode[Problem](t, w, 401)
			if got := w.Header().Get("WWW-Authenticate"); got != c.challenge {
				t.Errorf("%q: %q", c.authorization, got)
			}
		}
		decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/unlock", "{", "Authorization", c.authorization), 401)
	}
	// The scheme is case-insensitive.
	decode[AccountList](t, f.request("GET", base+"/accounts", "", "Authorization", "bearer "+master), 200)

	r := httptest.NewRequest("GET", base+"/accounts", nil)
	r.Header["Authorization"] = []string{"Bearer " + master, "Bearer wrong"}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	decode[Problem](t, w, 401)
}

func TestATokenGrantsItsScopes(t *testing.T) {
	operations := map[scope.Scope][]string{
		scope.Read:    {"GET /accounts", "GET /accounts/an@x.vn", "GET /causes"},
		scope.Unlock:  {"POST /accounts/an@x.vn/unlock", "POST /causes/3f9a/unlock"},
		scope.Lock:    {"POST /accounts/an@x.vn/lock"},
		scope.Restore: {"POST /accounts/an@x.vn/restore"},
		scope.Grace:   {"POST /accounts/an@x.vn/grace"},
		scope.Sweep:   {"POST /sweep", "POST /clock/accept"},
		scope.Audit:   {"GET /events", "GET /audit/verify"},
		scope.Rules:   {"POST /rules/adopt"},
		scope.Import:  {"GET /import", "POST /import", "POST /merge"},
		scope.Debug:   {"GET /debug/pprof/heap", "GET /debug/bundle"},
	}
	if len(operations) != len(scope.All()) {
		t.Fatal("a scope has no operation")
	}
	for _, held := range scope.All() {
		f := newFixture(t)
		f.Tokens = []Token{{Name: "D", SHA256: sha256.Sum256([]byte("d")), Scopes: []scope.Scope{held}}}
		for needed, calls := range operations {
			for _, call := range calls {
				method, target, _ := strings.Cut(call, " ")
				body := ""
				if method == "POST" {
					body = "{}" // a caller without permission does not learn what is wrong with it
				}
				w := f.request(method, base+target, body, "Authorization", "Bearer d")
				if needed == held {
					if w.Code == 401 || w.Code == 403 {
						t.Errorf("%s with scope %s: %d", call, held, w.Code)
					}
					continue
				}
				p := decode[Problem](t, w, 403)
				if !strings.Contains(p.Detail, string(needed)) {
					t.Errorf("%s with scope %s: %+v", call, held, p)
				}
				want := fmt.Sprintf(`Bearer realm="congthu", error="insufficient_scope", scope=%q`, needed)
				if got := w.Header().Get("WWW-Authenticate"); got != want {
					t.Errorf("%q", got)
				}
			}
		}
	}
}

func TestTokensAreReplacedByAReload(t *testing.T) {
	f := newFixture(t)
	decode[AccountList](t, f.request("GET", base+"/accounts", ""), 200)
	f.SetTokens([]Token{{Name: "Mới", SHA256: sha256.Sum256([]byte("new")), Scopes: []scope.Scope{scope.Read}}})
	decode[Problem](t, f.request("GET", base+"/accounts", ""), 401)
	decode[AccountList](t, f.request("GET", base+"/accounts", "", "Authorization", "Bearer new"), 200)
	f.SetTokens(nil)
	decode[Problem](t, f.request("GET", base+"/accounts", "", "Authorization", "Bearer new"), 401)
}

func TestInvalidTokensAreRefused(t *testing.T) {
	hash := sha256.Sum256([]byte(master))
	scopes := scope.All()
	bad := []Token{
		{Name: "", SHA256: hash, Scopes: scopes},
		{Name: " A", SHA256: hash, Scopes: scopes},
		{Name: "A\nB", SHA256: hash, Scopes: scopes},
		{Name: "gateway", SHA256: hash, Scopes: scopes},
		{Name: "user", SHA256: hash, Scopes: scopes},
		{Name: "uid:0 (root)", SHA256: hash, Scopes: scopes},
		{Name: "A", Scopes: scopes},
		{Name: "A", SHA256: sha256.Sum256(nil), Scopes: scopes},
		{Name: "A", SHA256: hash},
		{Name: "A", SHA256: hash, Scopes: []scope.Scope{"everything"}},
	}
	for _, token := range bad {
		if token.Validate() == nil {
			t.Errorf("%+v is valid", token)
		}
		f := newFixture(t)
		f.Tokens = []Token{token}
		decode[Problem](t, f.request("GET", base+"/accounts", ""), 401)
		if !strings.Contains(f.log.String(), "is not valid and opens nothing") {
			t.Error("the operator is not told")
		}
	}
	if err := (Token{Name: "Nguyễn Văn A", SHA256: hash, Scopes: scopes}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestPathsThatLeadNowhereAreProblemsToo(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{"/", "/api", "/api/v1", base + "/", base + "/accounts/", base + "//accounts", "/api/v1/../v1/accounts", base + "/accounts/an@x.vn/delete", "/docs", base + "/docs", "/schemas/Account.json", "/debug/pprof/"} {
		w := f.request("GET", target, "")
		decode[Problem](t, w, 404)
		if w.Header().Get("Location") != "" {
			t.Errorf("%s redirects to %q", target, w.Header().Get("Location"))
		}
	}
	for _, c := range []struct{ method, target, allow string }{
		{"POST", base + "/accounts", "GET"}, {"DELETE", base + "/accounts/an@x.vn", "GET"},
		{"GET", base + "/accounts/an@x.vn/unlock", "POST"}, {"PUT", "/metrics", "GET"}, {"OPTIONS", base + "/accounts", "GET"},
	} {
		w := f.request(c.method, c.target, "")
		decode[Problem](t, w, 405)
		if w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow %q", c.method, c.target, w.Header().Get("Allow"))
		}
	}
}

// A password can be typed into any field. It must neither be repeated nor reach the
// log.
func TestWhatIsRefusedIsNeverRepeated(t *testing.T) {
	const canary = "Canary4711"
	long := strings.Repeat(canary, 60)
	f := newFixture(t)
	accounts, lock, grace := base+"/accounts", base+"/accounts/an@x.vn/lock", base+"/accounts/an@x.vn/grace"
	for _, c := range []struct {
		method, target, body string
		header               []string
	}{
		{"GET", "/" + canary, "", nil},
		{"GET", "//" + canary, "", nil},
		{"GET", accounts + "/x/../" + canary, "", nil},
		{"GET", accounts + "/" + canary + "%20x", "", nil},
		{"GET", accounts + "/" + canary + "@elsewhere.vn", "", nil},
		{"GET", accounts + "/" + canary + "*master", "", nil},
		{"GET", accounts + "/" + long, "", nil},
		{"GET", accounts + "/an@x.vn?" + canary + "=1", "", nil},
		{"GET", accounts + "/an@x.vn?" + canary, "", nil},
		{"GET", accounts + "?" + canary + "=" + canary, "", nil},
		{"GET", accounts + "?state=" + canary, "", nil},
		{"GET", accounts + "?limit=" + canary, "", nil},
		{"GET", accounts + "?cursor=" + canary, "", nil},
		{"GET", accounts + "?q=" + long, "", nil},
		{"GET", accounts + "?q=" + canary + "%00", "", nil},
		{"GET", accounts + "?q=%zz" + canary, "", nil},
		{"GET", accounts + "?q=1&q=" + canary, "", nil},
		{"GET", base + "/events?account=" + canary + "%20x", "", nil},
		{"GET", base + "/events?kind=" + canary, "", nil},
		{"GET", base + "/events?before=" + canary, "", nil},
		{"GET", base + "/events?limit=" + canary, "", nil},
		{"POST", accounts + "/" + canary + "%20x/lock", `{"reason":"thử"}`, nil},
		{"POST", accounts + "/an@x.vn/" + canary, `{"reason":"thử"}`, nil},
		{"POST", lock, `{"reason":"` + long + `"}`, nil},
		{"POST", lock, `{"reason":"` + canary + `\n"` + `,"x":1}`, nil},
		{"POST", lock, `{"reason":"a\u0000` + canary + `"}`, nil},
		{"POST", lock, `{"reason":["` + canary + `"]}`, nil},
		{"POST", lock, `{"reason":{"` + canary + `":1}}`, nil},
		{"POST", lock, `{"reason":"thử","` + canary + `":"` + canary + `"}`, nil},
		{"POST", lock, `{"` + canary + `":{"` + canary + `":[1]}}`, nil},
		{"POST", lock, `"` + canary + `"`, nil},
		{"POST", lock, `["` + canary + `"]`, nil},
		{"POST", lock, canary, nil},
		{"POST", lock, `{"reason":"` + canary, nil},
		{"POST", lock, `{"reason":` + canary + `}`, nil},
		{"POST", lock, `{"reason":"thử"}` + canary, nil},
		{"POST", lock, `{"reason":"thử"}`, []string{"Content-Type", "application/" + canary}},
		{"POST", lock, `{"reason":"thử"}`, []string{"Content-Type", canary}},
		{"POST", lock, `reason=` + canary, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"POST", grace, `{"reason":"thử","days":"` + canary + `"}`, nil},
		{"POST", grace, `{"reason":"thử","days":4711e9}`, nil},
		{"POST", grace, `{"reason":"thử","days":47114711471147114711}`, nil},
		{"GET", accounts, "", []string{"Authorization", "Bearer " + canary}},
		{"GET", accounts, "", []string{"Authorization", canary}},
		{"GET", accounts, "", []string{"Authorization", canary + " " + master}},
		{"GET", accounts + "?limit=0", "", []string{"Accept", "application/" + canary}},
		{"GET", accounts + "?limit=0", "", []string{"X-" + canary, canary, "Cookie", canary + "=" + canary, "User-Agent", canary, "Referer", canary}},
		{canary, accounts, "", nil},
	} {
		w := f.request(c.method, c.target, c.body, c.header...)
		if w.Code < 400 {
			t.Errorf("%s %s %s: status %d", c.method, c.target, c.body, w.Code)
		}
		answer := fmt.Sprint(w.Header(), w.Body)
		if strings.Contains(answer, canary) || strings.Contains(answer, "4711") || strings.Contains(answer, strings.ToLower(canary)) {
			t.Errorf("%s %s %s is repeated: %s", c.method, c.target, c.body, answer)
		}
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" {
			t.Errorf("%s %s %s: no problem: %s", c.method, c.target, c.body, w.Body)
		}
	}
	// Accepted input is not logged either: reasons and names go into the audit log.
	f.request("POST", lock, `{"reason":"`+canary+`"}`)
	f.request("GET", accounts+"/"+canary+"@x.vn", "")
	f.request("GET", accounts+"?q="+canary, "")
	for _, secret := range []string{canary, strings.ToLower(canary), master} {
		if strings.Contains(f.log.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

func TestEveryRequestIsLoggedWithItsActorItsRouteAndItsStatus(t *testing.T) {
	f := newFixture(t)
	f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"nghỉ việc"}`)
	f.request("GET", base+"/accounts/an@x.vn", "", "Authorization", "Bearer "+reader)
	f.request("GET", base+"/accounts/an@x.vn", "", "Authorization", "")
	f.request("GET", "/nowhere", "")
	f.request("GET", "/healthz", "")
	type entry struct {
		Level, Msg, Actor, Route, Source string
		Status                           int
	}
	var got []entry
	for line := range strings.Lines(f.log.String()) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	want := []entry{
		{"INFO", "admin request", "Nguyễn Văn A", "POST /api/v1/accounts/{address}/lock", "192.0.2.7:5050", 200},
		{"INFO", "admin request", "Lê Văn C", "GET /api/v1/accounts/{address}", "192.0.2.7:5050", 200},
		{"INFO", "admin request", "", "GET /api/v1/accounts/{address}", "192.0.2.7:5050", 401},
		{"INFO", "admin request", "Nguyễn Văn A", "none", "192.0.2.7:5050", 404},
		{"DEBUG", "admin request", "Nguyễn Văn A", "GET /healthz", "192.0.2.7:5050", 200},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// panicky panics with a value when its rules are read.
type panicky struct {
	Guard
	value any
}

func (p panicky) Rules() auth.Rules { panic(p.value) }

func TestAPanicCostsOneRequestAndRevealsNothing(t *testing.T) {
	var none map[string]int
	runtimeError := func() (v any) {
		defer func() { v = recover() }()
		none["x"] = 1
		return nil
	}()
	for _, value := range []any{errors.New("secret-4711"), "secret-4711", runtimeError} {
		f := newFixture(t)
		n := 0
		f.Panicked = func() { n++ }
		f.Guard = panicky{f.guard, value}
		w := f.request("GET", base+"/accounts/an@x.vn", "")
		p := decode[Problem](t, w, 500)
		if n != 1 || p.Detail != "internal error; the log says more" {
			t.Errorf("%d panics counted: %+v", n, p)
		}
		if log := f.log.String(); strings.Contains(log, "secret") || !strings.Contains(log, "getAccount") {
			t.Errorf("%s", log)
		}
		if _, ok := value.(interface{ RuntimeError() }); ok && !strings.Contains(f.log.String(), "nil map") {
			t.Errorf("%s", f.log)
		}
	}
}

func TestHalfAnAnswerDoesNotLookLikeAWholeOne(t *testing.T) {
	f := newFixture(t)
	f.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		panic("the other half")
	})
	server := httptest.NewUnstartedServer(nil)
	server.Config = f.HTTPServer(f.MetricsHandler())
	server.Start()
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/metrics")
	if err == nil {
		answer.Body.Close()
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestTheServerBoundsWhatAClientMaySend(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config = f.HTTPServer(f.Handler())
	server.Start()
	defer server.Close()
	c := server.Config
	if c.ReadHeaderTimeout == 0 || c.ReadTimeout == 0 || c.WriteTimeout == 0 || c.IdleTimeout == 0 {
		t.Errorf("%+v", c)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+base+"/accounts", nil)
	r.Header.Set("X-Long", strings.Repeat("x", 2*maxHeader))
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestTheDocumentDescribesEveryOperation(t *testing.T) {
	f := newFixture(t)
	f.Version = "1.2.3"
	w := f.request("GET", base+"/openapi.json", "", "Authorization", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	var doc struct {
		OpenAPI string
		Info    struct{ Version string }
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Security    []map[string][]string
			Responses   map[string]any
			Parameters  []struct{ Name, In, Description string }
			RequestBody struct{ Required bool }
		}
		Components struct {
			Schemas         map[string]json.RawMessage
			SecuritySchemes map[string]struct{ Type, Scheme string }
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || doc.Info.Version != "1.2.3" || doc.Components.SecuritySchemes["bearer"].Scheme != "bearer" {
		t.Errorf("%+v", doc)
	}
	scopes := map[string]string{
		"GET /accounts": "read", "GET /accounts/{address}": "read", "POST /accounts/{address}/unlock": "unlock",
		"POST /accounts/{address}/lock": "lock", "POST /accounts/{address}/restore": "restore",
		"POST /accounts/{address}/grace": "grace", "GET /causes": "read", "POST /causes/{id}/unlock": "unlock", "POST /sweep": "sweep", "GET /clock": "read", "POST /clock/accept": "sweep",
		"GET /sources": "read", "POST /sources/{address}/allow": "unlock", "POST /sources/{address}/end": "unlock",
		"GET /rules": "read", "POST /rules/adopt": "rules",
		"GET /events": "audit", "GET /audit/verify": "audit",
		"GET /unknown-names": "unlock",
		"GET /import":        "import", "POST /import": "import", "POST /merge": "import", "GET /debug/pprof/{profile}": "debug", "GET /debug/bundle": "debug",
	}
	found := 0
	for path, item := range doc.Paths {
		for method, op := range item {
			found++
			call := strings.ToUpper(method) + " " + strings.TrimPrefix(path, base)
			scope, ok := scopes[call]
			if !ok || len(op.Security) != 1 || !slices.Equal(op.Security[0]["bearer"], []string{scope}) {
				t.Errorf("%s: %v", call, op.Security)
			}
			if op.OperationID == "" || op.Summary == "" || op.Responses["200"] == nil || op.Responses["401"] == nil || op.Responses["503"] == nil {
				t.Errorf("%s: %+v", call, op)
			}
			if method == "post" && (!op.RequestBody.Required || !strings.HasSuffix(path, "/import") && op.Responses["409"] == nil && op.Responses["404"] == nil) {
				t.Errorf("%s: %+v", call, op)
			}
			for _, p := range op.Parameters {
				if p.Description == "" {
					t.Errorf("%s: %s is not described", call, p.Name)
				}
			}
		}
	}
	if found != len(scopes) {
		t.Errorf("%d operations, want %d", found, len(scopes))
	}
	// Every reference resolves.
	text := w.Body.String()
	for _, part := range strings.Split(text, `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("%s is not in the document", name)
		}
	}
	if !strings.Contains(string(doc.Components.Schemas["Account"]), `"locked":{"anyOf":[{"$ref":"#/components/schemas/Lock"},{"type":"null"}]`) {
		t.Errorf("%s", doc.Components.Schemas["Account"])
	}
}

func TestAddressesSurviveTheWayThroughAPath(t *testing.T) {
	f := newFixture(t)
	for _, name := range []auth.Name{"nguyễn@x.vn", "a?b@x.vn", "a#b@x.vn", "a&b=c@x.vn", "a'b@x.vn", "a`{|}~b@x.vn"} {
		f.add(auth.Account{Name: name})
		a := decode[Account](t, f.request("GET", base+"/accounts/"+url.PathEscape(string(name)), ""), 200)
		if a.Address != string(name) || a.State != "active" {
			t.Errorf("%s: %+v", name, a.Summary)
		}
	} // These are no names, and not another path either.
	for _, name := range []string{"a/b@x.vn", "..@x.vn", "../an@x.vn", "a;b@x.vn", `a\b@x.vn`} {
		if w := f.request("GET", base+"/accounts/"+url.PathEscape(name), ""); w.Code != 422 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}
