package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/demo"
)

// memory is a store with nothing in it, that may be out of order.
type memory struct{ err error }

func (m memory) Events(context.Context, auth.EventFilter) ([]auth.Event, error) {
	return []auth.Event{{Seq: 4711, At: time.Unix(1, 0), Account: "nguyen.van.a@example.vn", Actor: "Tran Thi Kiem"}}, m.err
}
func (m memory) UnknownNames(context.Context) (int, error) { return 12, m.err }
func (m memory) Health(context.Context) error              { return m.err }

const (
	password = "hunter2-canary"
	token    = "token-canary-0123456789"
)

// source is a gateway with a secret or a name in every place that takes one.
func source(t *testing.T) Source {
	t.Helper()
	dir := t.TempDir()
	dsn, file := filepath.Join(dir, "dsn"), filepath.Join(dir, "tran-thi-kiem")
	cert, key, err := demo.Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"cert.pem": string(cert), "key.pem": string(key)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{dsn: "postgres://congthu:" + password + "@db.example.vn/congthu", file: token} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse(filepath.Join(dir, "congthu.yaml"), fmt.Appendf(nil, `domain: example.vn
imap: { listen: [ { address: "127.0.0.1:0", tls: implicit } ], upstream: "127.0.0.1:10143" }
smtp: { listen: [], upstream: "127.0.0.1:10587" }
tls: { certificate: cert.pem, key: key.pem }
rules: { password: { change_text: "Ask the helpdesk" } }
store: { driver: postgres, postgres: { dsn_file: %[1]s } }
aliases: { vanthu@example.vn: nguyen.van.a@example.vn }
delegations: { phong@example.vn: [le.van.c@example.vn] }
admin:
  listen: "127.0.0.1:0"
  tokens:
    - { name: Tran Thi Kiem, token_file: %[2]s, scopes: [read] }
    - { name: Le Van Cu, sha256: %[3]s, scopes: [read] }
texts: { helpdesk: "nguyen.van.a@example.vn, 0844" }
`, dsn, file, sum("another-"+token)))
	if err != nil {
		t.Fatal(err)
	}
	return Source{
		Version: "1.2.3", Started: time.Unix(1, 0), Config: c, Store: memory{}, Sessions: 3,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "congthu_up 1\n") }),
		Checks: map[string]func(context.Context) error{
			"store":         func(context.Context) error { return nil },
			"imap upstream": func(context.Context) error { return errors.New("the mail server says: no <nguyen.van.a@example.vn>") },
		},
	}
}

func sum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// unpack returns the files of a bundle in their order.
func unpack(t *testing.T, bundle []byte) (names []string, files map[string]string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	files = make(map[string]string)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(h.Name, "congthu-support/")
		if h.Mode != 0o600 || name == h.Name {
			t.Errorf("%s: mode %o", h.Name, h.Mode)
		}
		names, files[name] = append(names, name), string(content)
	}
}

func make1(t *testing.T, s Source) ([]string, map[string]string) {
	t.Helper()
	bundle, err := s.Bundle(t.Context(), time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, bundle)
}

func TestABundleHasNoSecretAndNamesNobody(t *testing.T) {
	s := source(t)
	names, files := make1(t, s)
	var people = []string{"nguyen.van.a", "tran thi kiem", "tran-thi-kiem", "le van cu", "le.van.c", "vanthu@", "phong@"}
	secrets := []string{password, token, sum(token), sum("another-" + token)}
	for name, content := range files {
		for _, word := range slices.Concat(people, secrets) {
			if strings.Contains(strings.ToLower(content), word) {
				t.Errorf("%s has %q:\n%s", name, word, content)
			}
		}
	}
	if len(names) != 9 || names[0] != ManifestName {
		t.Errorf("%v", names)
	}
	// It is of use all the same.
	for name, word := range map[string]string{
		"config.json": `"aliases": "1, not listed"`, "health.json": "the mail server says: no <name-", "metrics.txt": "congthu_up 1",
		"store.json": `"audit_newest_seq": 4711`, "goroutines.txt": "support.Source.goroutines", "system.json": `"/proc/self/limits"`,
		"version.json": `"version": "1.2.3"`,
	} {
		if !strings.Contains(files[name], word) {
			t.Errorf("%s does not have %s:\n%s", name, word, files[name])
		}
	}
	// The one person has one pseudonym in a bundle, and another in the next.
	_, again := make1(t, s)
	var c, c2 struct {
		Admin struct{ Tokens []struct{ Name string } }
	}
	if err := errors.Join(json.Unmarshal([]byte(files["config.json"]), &c), json.Unmarshal([]byte(again["config.json"]), &c2)); err != nil {
		t.Fatal(err)
	}
	if a := c.Admin.Tokens; len(a) != 2 || a[0] == a[1] || a[0] == c2.Admin.Tokens[0] {
		t.Errorf("%v, %v", c, c2)
	}

	s.Names = true
	_, files = make1(t, s)
	for name, content := range files {
		for _, word := range secrets {
			if strings.Contains(content, word) {
				t.Errorf("with names, %s has %q", name, word)
			}
		}
	}
	for _, word := range []string{"Tran Thi Kiem", `"vanthu@example.vn": "nguyen.van.a@example.vn"`, "le.van.c@example.vn"} {
		if !strings.Contains(files["config.json"], word) {
			t.Errorf("with names, %s is not there:\n%s", word, files["config.json"])
		}
	}
}

func TestTheManifestTellsWhatIsInABundle(t *testing.T) {
	names, files := make1(t, source(t))
	var m Manifest
	if err := json.Unmarshal([]byte(files[ManifestName]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Version != "1.2.3" || m.Names != "pseudonyms" || !m.MadeAt.Equal(time.Unix(1_800_000_000, 0)) || len(m.Missing) == 0 || len(m.Files) != len(names)-1 {
		t.Errorf("%+v", m)
	}
	for i, f := range m.Files {
		if f.Name != names[i+1] || f.Octets != len(files[f.Name]) || f.SHA256 != sum(files[f.Name]) || f.What == "" || f.Error != "" {
			t.Errorf("%+v", f)
		}
	}
}

// It is made when something is wrong.
func TestABundleIsMadeOfWhatThereIs(t *testing.T) {
	s := source(t)
	s.Store = memory{errors.New("the disk is full, says nguyen.van.a@example.vn")}
	s.Metrics = http.NotFoundHandler()
	names, files := make1(t, s)
	if slices.Contains(names, "metrics.txt") || !strings.Contains(files[ManifestName], "/metrics answers 404") {
		t.Errorf("%v\n%s", names, files[ManifestName])
	}
	if got := files["store.json"]; !strings.Contains(got, `"health": "the disk is full, says name-`) {
		t.Error(got)
	}
}

// A setting of a kind that the redaction does not know is hidden, and so would be
// useless: this notices when there is one.
func TestEverySettingIsShown(t *testing.T) {
	_, files := make1(t, source(t))
	var shown map[string]any
	if err := json.Unmarshal([]byte(files["config.json"]), &shown); err != nil {
		t.Fatal(err)
	}
	hiddenAt := []string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(path+"."+k, e)
			}
		case []any:
			for _, e := range v {
				walk(path+"[]", e)
			}
		case string:
			if v == hidden {
				hiddenAt = append(hiddenAt, path)
			}
		}
	}
	walk("", shown)
	slices.Sort(hiddenAt)
	want := []string{".admin.tokens[].sha256", ".admin.tokens[].sha256", ".admin.tokens[].token_file", ".store.postgres.dsn"}
	if !reflect.DeepEqual(hiddenAt, want) {
		t.Errorf("hidden: %v, want %v", hiddenAt, want)
	}
	if got := shown["imap"].(map[string]any)["upstream"].(map[string]any); got["address"] != "127.0.0.1:10143" || got["tls"] != "none" || got["timeout"] != "30s" {
		t.Errorf("%v", got)
	}
}
