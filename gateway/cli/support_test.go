package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
	"congthu/gateway/config"
	"congthu/gateway/support"
)

// noStore is a store that fails.
type noStore struct{}

func (noStore) Events(context.Context, auth.EventFilter) ([]auth.Event, error) {
	return nil, errors.New("no disk")
}
func (noStore) UnknownNames(context.Context) (int, error) { return 0, errors.New("no disk") }
func (noStore) Health(context.Context) error              { return errors.New("no disk") }

func TestABundleIsWrittenForItsOwnerAndSaysWhatIsInIt(t *testing.T) {
	dir := testenv.Dir(t)
	socket := filepath.Join(dir, "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	garbage := false
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		if garbage {
			w.Write([]byte("{}"))
			return
		}
		source := support.Source{Config: &config.Config{}, Metrics: http.NotFoundHandler(), Store: noStore{}, Names: r.URL.RawQuery == "names=true"}
		bundle, err := source.Bundle(r.Context(), time.Now())
		if err != nil {
			t.Error(err)
		}
		w.Write(bundle)
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)

	run := func(args ...string) (int, string, string) {
		var out, errOut strings.Builder
		code := Run(t.Context(), append([]string{"support-bundle", "--socket", socket}, args...), strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}
	file := filepath.Join(dir, "bundle.tar.gz")
	code, out, errOut := run("--file", file)
	if code != 0 || errOut != "" {
		t.Fatalf("%d %s", code, errOut)
	}
	for _, want := range []string{"manifest.json", "config.json", "without secrets", "metrics.txt  ", "missing", "/metrics answers 404", "pseudonyms", "Not in it:", "journalctl"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// An existing file is not overwritten.
	if code, _, errOut := run("--file", file); code != 1 || !strings.Contains(errOut, "--file") {
		t.Errorf("%d %s", code, errOut)
	}
	t.Chdir(dir)
	if code, out, errOut := run("--with-names"); code != 0 || !strings.Contains(out, "in clear") || asked[len(asked)-1] != "GET /api/v1/debug/bundle?names=true" {
		t.Errorf("%d %s %s %v", code, out, errOut, asked)
	}
	if found, err := filepath.Glob("congthu-support-*.tar.gz"); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	garbage = true
	if code, _, errOut := run("--file", file+"2"); code != 1 || !strings.Contains(errOut, "does not answer like congthu") {
		t.Errorf("%d %s", code, errOut)
	}
	if _, err := os.Stat(file + "2"); err == nil {
		t.Error("what is no bundle was written")
	}
}
