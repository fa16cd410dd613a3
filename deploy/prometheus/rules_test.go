// Package prometheus tests the rules for Prometheus that stand beside it.
package prometheus

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
	"congthu/metrics"
)

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// rules reads a file of rules.
func rules(t *testing.T, path string) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	read(t, path, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", path)
	}
	return all
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

const (
	recordings = "congthu.recording.yml"
	alerts     = "congthu.alerts.yml"
)

var tests = []string{"congthu.test.yml", "congthu.long.test.yml"}

// promtool runs Prometheus's own checker.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		testenv.Missing(t, "promtool is missing: apt-get install -y --no-install-recommends prometheus")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesTheRulesAndTheExample(t *testing.T) {
	promtool(t, "check", "rules", recordings, alerts)
	promtool(t, "check", "config", "prometheus.yml")
}

func TestAlertsFireAboveTheirThresholdsAndNotBelow(t *testing.T) {
	for _, file := range tests {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
	}
}

// exposed is every series that a gateway exposes: by name and label, the values.
// A value of "*" is any.
func exposed(t *testing.T) map[string]map[string][]string {
	t.Helper()
	reg := prometheus.NewRegistry()
	m := metrics.New(reg, metrics.Build{})
	// These are absent until they are known.
	for _, p := range auth.Protocols() {
		m.UpstreamUp(p, true)
	}
	m.StoreUp(true)
	m.CertificateExpires(metrics.CertificateClients, time.Now())
	m.CertificateExpires(metrics.CertificateAdmin, time.Now())
	m.ChainVerified(time.Now(), nil)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]map[string][]string)
	add := func(name, label, value string) {
		if all[name] == nil {
			// What Prometheus adds to each.
			all[name] = map[string][]string{"job": {"*"}, "instance": {"*"}}
		}
		if label != "" && !slices.Contains(all[name][label], value) {
			all[name][label] = append(all[name][label], value)
		}
	}
	add("up", "", "")
	for _, f := range families {
		names := []string{f.GetName()}
		if f.GetType().String() == "HISTOGRAM" {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_count", f.GetName() + "_sum"}
			add(names[0], "le", "*")
		}
		for _, name := range names {
			add(name, "", "")
			for _, series := range f.Metric {
				for _, l := range series.Label {
					add(name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	return all
}

var (
	// selector is the name of a series, and what its labels must be.
	selector = regexp.MustCompile(`\b(up|(?:congthu|process|go)_\w+|\w+:congthu_\w+:\w+|congthu:\w+:\w+)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
)

// A rule about a series that nobody exposes never fires, and nobody notices.
func TestRulesAskForWhatGatewaysExpose(t *testing.T) {
	all := exposed(t)
	recorded := make(map[string]bool)
	for _, r := range rules(t, recordings) {
		recorded[r.Record] = true
	}
	used := make(map[string]bool)
	for _, r := range append(rules(t, recordings), rules(t, alerts)...) {
		selectors := selector.FindAllStringSubmatch(r.Expr, -1)
		if len(selectors) == 0 && r.Record != "congthu:office_hours:bool" {
			t.Errorf("%s%s: no series in %q", r.Record, r.Alert, r.Expr)
		}
		for _, s := range selectors {
			used[s[1]] = true
			if recorded[s[1]] {
				continue
			}
			labels, ok := all[s[1]]
			if !ok {
				t.Errorf("%s%s: nobody exposes %s", r.Record, r.Alert, s[1])
				continue
			}
			for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
				for value := range strings.SplitSeq(m[3], "|") {
					if !slices.Contains(labels[m[1]], value) && !slices.Contains(labels[m[1]], "*") {
						t.Errorf("%s%s: %s never has %s=%q", r.Record, r.Alert, s[1], m[1], value)
					}
				}
			}
		}
	}
	for name := range recorded {
		if !used[name] {
			t.Errorf("no alert uses %s", name)
		}
	}
}

// The tests of promtool make their own series, which must be those that gateways
// expose, or a mistake in a rule is made in its test again.
func TestTestsOfAlertsFeedWhatGatewaysExpose(t *testing.T) {
	all := exposed(t)
	for _, file := range tests {
		for _, test := range promtests(t, file) {
			for _, series := range test.Input {
				s := selector.FindStringSubmatch(series.Series)
				if s == nil || all[s[1]] == nil {
					t.Errorf("%s: %s: nobody exposes it", test.Name, series.Series)
					continue
				}
				for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
					if !slices.Contains(all[s[1]][m[1]], m[3]) && !slices.Contains(all[s[1]][m[1]], "*") {
						t.Errorf("%s: %s never has %s=%q", test.Name, s[1], m[1], m[3])
					}
				}
			}
		}
	}
}

type promtest struct {
	Name  string
	Input []struct{ Series string } `yaml:"input_series"`
	Exprs []struct {
		Expr    string
		Samples []struct{ Labels string } `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

func promtests(t *testing.T, path string) []promtest {
	t.Helper()
	var file struct{ Tests []promtest }
	read(t, path, &file)
	return file.Tests
}

// fired is the labels of every alert in a promtool test, at each time it fires.
func fired(t *testing.T) map[string][]map[string]string {
	t.Helper()
	all := make(map[string][]map[string]string)
	for _, file := range tests {
		for _, test := range promtests(t, file) {
			for _, e := range test.Exprs {
				for _, s := range e.Samples {
					labels := make(map[string]string)
					for _, m := range matcher.FindAllStringSubmatch(s.Labels, -1) {
						labels[m[1]] = m[3]
					}
					all[labels["alertname"]] = append(all[labels["alertname"]], labels)
				}
			}
		}
	}
	return all
}

func TestEveryAlertFiresInATest(t *testing.T) {
	all := fired(t)
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range rules(t, alerts) {
		if len(all[r.Alert]) == 0 {
			t.Errorf("%s fires in no test", r.Alert)
		}
		for _, labels := range all[r.Alert] {
			for key, text := range r.Annotations {
				for _, m := range label.FindAllStringSubmatch(text, -1) {
					if labels[m[1]] == "" {
						t.Errorf("%s: %s speaks of the label %s, which an alert %v does not have", r.Alert, key, m[1], labels)
					}
				}
			}
		}
	}
}

const guide = "../guide/"

// sections are the alerts that a runbook has a section of, with what it says.
func sections(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(guide, name))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		if all[title] != "" {
			t.Errorf("%s has two sections %s: a link leads to the first", name, title)
		}
		all[title] = body
	}
	return all
}

var vietnamese = regexp.MustCompile(`[ăâđêôơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]`)

func TestEveryAlertSaysWhatToDoInBothLanguages(t *testing.T) {
	runbooks := map[string]map[string]string{"runbook_url": sections(t, "runbook.md"), "runbook_url_vi": sections(t, "runbook.vi.md")}
	files := map[string]string{"runbook_url": "runbook.md", "runbook_url_vi": "runbook.vi.md"}
	known := make(map[string]bool)
	for _, r := range rules(t, alerts) {
		if known[r.Alert] {
			t.Errorf("there are two alerts %s", r.Alert)
		}
		known[r.Alert] = true
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity %q is neither page nor ticket", r.Alert, s)
		}
		for _, key := range []string{"summary", "description"} {
			if r.Annotations[key] == "" || vietnamese.MatchString(r.Annotations[key]) {
				t.Errorf("%s: %s is no English: %q", r.Alert, key, r.Annotations[key])
			}
			if !vietnamese.MatchString(r.Annotations[key+"_vi"]) {
				t.Errorf("%s: %s_vi is no Vietnamese with its diacritics: %q", r.Alert, key, r.Annotations[key+"_vi"])
			}
		}
		for key, file := range files {
			if want := "file:///usr/share/doc/congthu/guide/" + file + "#" + strings.ToLower(r.Alert); r.Annotations[key] != want {
				t.Errorf("%s: %s is %q, want %q", r.Alert, key, r.Annotations[key], want)
			}
			body := runbooks[key][r.Alert]
			if body == "" {
				t.Errorf("%s has no section %q", file, "## "+r.Alert)
			}
			parts := []string{"\n**People.** ", "\n**Look.** ", "\n**Do.** ", "\n**It can wait"}
			if key == "runbook_url_vi" {
				parts = []string{"\n**Người dùng.** ", "\n**Kiểm tra.** ", "\n**Xử lý.** ", "\n**Có thể chờ"}
			}
			for _, part := range parts {
				if !strings.Contains(body, part) {
					t.Errorf("%s: section %s does not say %s", file, r.Alert, strings.TrimSpace(part))
				}
			}
		}
	}
	for file, all := range map[string]map[string]string{"runbook.md": runbooks["runbook_url"], "runbook.vi.md": runbooks["runbook_url_vi"]} {
		for _, title := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(title, "Congthu") && !known[title] {
				t.Errorf("%s has a section of %s, which is no alert", file, title)
			}
		}
	}
}

// Whoever reads one runbook is told to do what the other says.
func TestBothRunbooksHaveTheSameCommands(t *testing.T) {
	english, vietnamese := sections(t, "runbook.md"), sections(t, "runbook.vi.md")
	block := regexp.MustCompile("(?s)```\n(.*?)```")
	for title, body := range english {
		if !strings.HasPrefix(title, "Congthu") {
			continue
		}
		commands := func(body string) (all []string) {
			for _, m := range block.FindAllStringSubmatch(body, -1) {
				all = append(all, m[1])
			}
			return all
		}
		if a, b := commands(body), commands(vietnamese[title]); !slices.Equal(a, b) {
			t.Errorf("%s: the English runbook has\n%q\nthe Vietnamese\n%q", title, a, b)
		}
	}
}

// The metrics that a runbook tells to look at exist.
func TestRunbooksSpeakOfMetricsThatExist(t *testing.T) {
	all := exposed(t)
	name := regexp.MustCompile(`\bcongthu_[a-z_]+\b`)
	for _, file := range []string{"runbook.md", "runbook.vi.md"} {
		text, err := os.ReadFile(guide + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllString(string(text), -1) {
			if all[n] == nil && all[n+"_bucket"] == nil {
				t.Errorf("%s: nobody exposes %s", file, n)
			}
		}
	}
}
