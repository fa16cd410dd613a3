package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"congthu/gateway/scope"
)

func TestProfilesAreForTheScopeDebug(t *testing.T) {
	f := newFixture(t)
	for _, profile := range []string{"allocs", "goroutine", "heap", "threadcreate", "cpu"} {
		w := f.request("GET", base+"/debug/pprof/"+profile+map[bool]string{true: "?seconds=1"}[profile == "cpu"], "")
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("%s: %d %s %s", profile, w.Code, w.Header(), w.Body)
		}
		z, err := gzip.NewReader(w.Body) // the format of go tool pprof
		if err != nil {
			t.Fatalf("%s: %v", profile, err)
		}
		if raw, err := io.ReadAll(z); err != nil || len(raw) < 100 {
			t.Errorf("%s: %d octets, %v", profile, len(raw), err)
		}
	}
	w := f.request("GET", base+"/debug/pprof/goroutine?text=true", "")
	if w.Code != 200 || !strings.HasPrefix(w.Body.String(), "goroutine profile: total ") || !strings.Contains(w.Body.String(), "admin.(*Server).profile") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, wrong := range []string{"/cmdline", "/symbol", "/trace", "/", "/heap?seconds=0", "/heap?seconds=61", "/heap?debug=2"} {
		if w := f.request("GET", base+"/debug/pprof"+wrong, ""); w.Code != 404 && w.Code != 422 {
			t.Errorf("%s: %d", wrong, w.Code)
		}
	}
}

// go tool pprof and the curious request the usual path. No listener has anything there,
// and the listener for metrics has no profile at the other path either.
func TestProfilesAreRefusedWithoutTheScope(t *testing.T) {
	f := newFixture(t)
	for name, h := range map[string]http.Handler{"admin": f.Handler(), "socket": f.SocketHandler(), "metrics": f.MetricsHandler(), "default": http.DefaultServeMux} {
		for _, target := range []string{"/debug/pprof/", "/debug/pprof/heap", base + "/debug/pprof/heap", base + "/debug/bundle"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
			if w.Code != 404 && w.Code != 401 {
				t.Errorf("%s %s: %d", name, target, w.Code)
			}
			if name == "metrics" && w.Code != 404 {
				t.Errorf("%s at the listener for metrics: %d", target, w.Code)
			}
		}
	}
	decode[Problem](t, f.request("GET", base+"/debug/pprof/heap", "", "Authorization", "Bearer "+reader), 403)
	decode[Problem](t, f.request("GET", base+"/debug/bundle", "", "Authorization", "Bearer "+reader), 403)
}

func TestABundleIsMadeAsItIsAskedFor(t *testing.T) {
	f := newFixture(t)
	decode[Problem](t, f.request("GET", base+"/debug/bundle", ""), 404)
	asked := []bool(nil)
	f.Bundle = func(_ context.Context, names bool) ([]byte, error) {
		if asked = append(asked, names); len(asked) > 2 {
			return nil, errors.New("no room for nguyen.van.a@x.vn")
		}
		return []byte("a bundle"), nil
	}
	for _, target := range []string{"/debug/bundle", "/debug/bundle?names=true"} {
		if w := f.request("GET", base+target, ""); w.Code != 200 || w.Body.String() != "a bundle" || w.Header().Get("Content-Type") != "application/gzip" {
			t.Errorf("%s: %d %s %q", target, w.Code, w.Header(), w.Body)
		}
	}
	if len(asked) != 2 || asked[0] || !asked[1] {
		t.Errorf("names: %v", asked)
	}
	w := f.request("GET", base+"/debug/bundle", "")
	if decode[Problem](t, w, 500); bytes.Contains(w.Body.Bytes(), []byte("nguyen")) {
		t.Error(w.Body)
	}
}

// A person who examines the process, a vendor perhaps, may not read accounts.
func TestNamesInABundleNeedTheScopeRead(t *testing.T) {
	f := newFixture(t)
	asked := 0
	f.Bundle = func(context.Context, bool) ([]byte, error) { asked++; return []byte("a bundle"), nil }
	f.SetTokens([]Token{{Name: "D", SHA256: sha256.Sum256([]byte("d")), Scopes: []scope.Scope{scope.Debug}}})
	decode[Problem](t, f.request("GET", base+"/debug/bundle?names=true", "", "Authorization", "Bearer d"), 403)
	if w := f.request("GET", base+"/debug/bundle", "", "Authorization", "Bearer d"); w.Code != 200 || asked != 1 {
		t.Errorf("%d, asked %d times", w.Code, asked)
	}
}
