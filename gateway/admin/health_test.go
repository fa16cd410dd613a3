package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestHealthAndMetricsNeedNoToken(t *testing.T) {
	f := newFixture(t)
	for name, get := range map[string]func(target string) *httptest.ResponseRecorder{
		"admin": func(target string) *httptest.ResponseRecorder {
			return f.request("GET", target, "", "Authorization", "")
		},
		"metrics": func(target string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			f.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", target, nil))
			return w
		},
	} {
		if w := get("/healthz"); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"ok":true}` {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w := get("/readyz"); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"ready":true,"checks":{}}` {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w := get("/metrics"); w.Code != 200 || w.Body.String() != "up 1\n" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	// The listener for metrics serves nothing else.
	for _, target := range []string{base + "/accounts", base + "/openapi.json", "/"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", target, nil)
		r.Header.Set("Authorization", "Bearer "+master)
		f.MetricsHandler().ServeHTTP(w, r)
		if w.Code != 404 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

func TestReadinessNamesWhatDoesNotWork(t *testing.T) {
	f := newFixture(t)
	panics := 0
	f.Panicked = func() { panics++ }
	var broken atomic.Value
	f.Checks = []Check{
		{Name: "store", Run: func(context.Context) error { return nil }},
		{Name: "imap upstream", Run: func(context.Context) error {
			err, _ := broken.Load().(error)
			return err
		}},
		{Name: "panics", Run: func(context.Context) error {
			if broken.Load() != nil {
				panic("secret")
			}
			return nil
		}},
	}
	ready := decode[Readiness](t, f.request("GET", "/readyz", ""), 200)
	if !ready.Ready || len(ready.Checks) != 3 || !ready.Checks["store"].OK {
		t.Errorf("%+v", ready)
	}
	broken.Store(errors.New("connect: refused\r\n" + strings.Repeat("x", 1000)))
	// The answer is kept for a second, however many requests come.
	decode[Readiness](t, f.request("GET", "/readyz", ""), 200)
	f.now = f.now.Add(time.Second)
	w := f.request("GET", "/readyz", "")
	if w.Code != 503 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &ready); err != nil {
		t.Fatal(err)
	}
	if c := ready.Checks["imap upstream"]; ready.Ready || c.OK || !strings.HasPrefix(c.Error, "connect: refused  xxx") || len(c.Error) > 310 {
		t.Errorf("%+v", ready)
	}
	if c := ready.Checks["panics"]; c.OK || strings.Contains(c.Error, "secret") {
		t.Errorf("%+v", c)
	}
	if log := f.log.String(); panics != 1 || strings.Contains(log, "secret") || !strings.Contains(log, "a readiness check panicked") {
		t.Errorf("%d panics counted, want 1; the log: %s", panics, log)
	}
	if !ready.Checks["store"].OK {
		t.Errorf("%+v", ready)
	}
	f.now = f.now.Add(-time.Hour) // the clock was set back
	broken.Store(errors.New("still"))
	w = f.request("GET", "/readyz", "")
	if !strings.Contains(w.Body.String(), "still") {
		t.Errorf("%s", w.Body)
	}
}

// A warning must not take the gateway out of a load balancer.
func TestAWarningIsShownAndDoesNotDecide(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{{Name: "store", Run: func(context.Context) error { return nil }}}
	f.Warnings = []Check{{Name: "clock", Run: func(context.Context) error { return errors.New("set back") }}, {Name: "fine", Run: func(context.Context) error { return nil }}}
	ready := decode[Readiness](t, f.request("GET", "/readyz", ""), 200)
	want := Readiness{Ready: true, Checks: map[string]Condition{"store": {OK: true}, "clock": {OK: true, Warning: "set back"}, "fine": {OK: true}}}
	if !reflect.DeepEqual(ready, want) {
		t.Errorf("%+v, want %+v", ready, want)
	}
}

// All callers share the answer, so one caller who hangs up must not spoil it.
func TestReadinessDoesNotDependOnTheCaller(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{{Name: "store", Run: func(ctx context.Context) error { return ctx.Err() }}}
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/readyz", nil))
	if w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestACheckThatHangsIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Checks: []Check{{Name: "slow", Run: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}}}
		began := time.Now()
		w := httptest.NewRecorder()
		s.MetricsHandler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != 503 || time.Since(began) != 5*time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(began))
		}
	})
}

// A cached answer must not send clients here for another second, nor must a caller wait
// for a check that hangs.
func TestAGatewayThatShutsDownIsNotReadyAndAlive(t *testing.T) {
	f := newFixture(t)
	asked := 0
	f.Checks = []Check{{Name: "store", Run: func(context.Context) error { asked++; return nil }}}
	decode[Readiness](t, f.request("GET", "/readyz", ""), 200)
	f.Drain()
	for range 2 {
		w := f.request("GET", "/readyz", "")
		var ready Readiness
		if err := json.Unmarshal(w.Body.Bytes(), &ready); err != nil {
			t.Fatal(err)
		}
		if c := ready.Checks["gateway"]; w.Code != 503 || ready.Ready || c.OK || !strings.Contains(c.Error, "shutting down") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		f.now = f.now.Add(time.Minute)
	}
	if asked != 1 {
		t.Errorf("the checks ran %d times", asked)
	}
	if w := f.request("GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("/healthz: %d %s", w.Code, w.Body)
	}
}
