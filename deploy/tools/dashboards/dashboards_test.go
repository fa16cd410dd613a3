package dashboards

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// chosen is what Grafana puts in the place of its variables.
var chosen = strings.NewReplacer("$job", ".+", "$instance", ".+", "$__rate_interval", "1m")

// ofPrometheus are labels that the server that scrapes adds.
var ofPrometheus = []string{"job", "instance"}

// others are metrics that are not congthu's own.
var others = []string{"up", "process_resident_memory_bytes"}

// metric is what the registry says of one: its type, and the values of its labels.
type metric struct {
	kind   string
	labels map[string][]string
}

// registry reads the list of all metrics.
func registry(t *testing.T) map[string]metric {
	t.Helper()
	file, err := os.Open("../../../metrics/testdata/names.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all := make(map[string]metric)
	for _, name := range others {
		all[name] = metric{kind: "gauge"}
	}
	var last metric
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, values, isLabel := strings.Cut(strings.TrimPrefix(lines.Text(), "  "), ": "); isLabel {
			last.labels[name] = strings.Fields(values)
			continue
		}
		name, kind, _ := strings.Cut(lines.Text(), " ")
		last = metric{kind, make(map[string][]string)}
		all[name] = last
		if kind == "histogram" {
			last.labels["le"] = []string{"+Inf"}
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				all[name+part] = metric{"counter", last.labels}
			}
		}
	}
	if len(all) < 30 {
		t.Fatalf("%d metrics: is the list another one now?", len(all))
	}
	return all
}

// target is a query of a dashboard.
type target struct{ Dashboard, Panel, Expr string }

func targets(t *testing.T) (all []target) {
	t.Helper()
	files, err := filepath.Glob("../../grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, target{filepath.Base(file), p.Title, q.Expr})
			}
		}
	}
	return all
}

func TestEveryExpressionParsesAndNamesWhatThereIs(t *testing.T) {
	known, queries := registry(t), targets(t)
	for _, q := range queries {
		for _, problem := range problems(q.Expr, known) {
			t.Errorf("%s: %s: %s\n\t%s", q.Dashboard, q.Panel, problem, q.Expr)
		}
	}
	t.Logf("%d expressions", len(queries))
}

// problems are what is wrong with an expression.
func problems(expr string, known map[string]metric) (all []string) {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(chosen.Replace(expr))
	if err != nil {
		return []string{err.Error()}
	}
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			all = append(all, selector(n, known)...)
			kind := known[n.Name].kind
			if _, rate := within(path, "rate", "increase"); rate != (kind == "counter") {
				all = append(all, fmt.Sprintf("%s is a %s: rate and increase are for counters, and a counter is for them", n.Name, kind))
			}
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				for name, ok := range carry(n.Expr, label, known) {
					if !ok {
						all = append(all, fmt.Sprintf("by (%s): %s has no such label", label, name))
					}
				}
			}
		}
		return nil
	})
	return all
}

// within reports whether one of the functions is applied on the way to a node.
func within(path []parser.Node, functions ...string) (name string, ok bool) {
	for _, node := range path {
		if call, is := node.(*parser.Call); is && slices.Contains(functions, call.Func.Name) {
			return call.Func.Name, true
		}
	}
	return "", false
}

// carry tells of each metric below an expression whether it has a label.
func carry(expr parser.Expr, label string, known map[string]metric) map[string]bool {
	found := make(map[string]bool)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			_, own := known[v.Name].labels[label]
			found[v.Name] = own || slices.Contains(ofPrometheus, label)
		}
		return nil
	})
	return found
}

func selector(v *parser.VectorSelector, known map[string]metric) (all []string) {
	m, exists := known[v.Name]
	if !exists {
		return []string{fmt.Sprintf("there is no metric %q", v.Name)}
	}
	for _, match := range v.LabelMatchers {
		if match.Name == model.MetricNameLabel || slices.Contains(ofPrometheus, match.Name) {
			continue
		}
		values, exists := m.labels[match.Name]
		if !exists {
			all = append(all, fmt.Sprintf("%s has no label %q", v.Name, match.Name))
			continue
		}
		// Each alternative of a regular expression has to be a value, not only one.
		wanted := []string{match.Value}
		if match.Type == labels.MatchRegexp || match.Type == labels.MatchNotRegexp {
			wanted = strings.Split(match.Value, "|")
		}
		for _, value := range wanted {
			if !slices.Contains(values, value) {
				all = append(all, fmt.Sprintf("%s: %s is never %q, only %v", v.Name, match.Name, value, values))
			}
		}
	}
	return all
}

// The check itself has to find what is wrong.
func TestMistakesAreFound(t *testing.T) {
	known := registry(t)
	for expr, want := range map[string]string{
		`sum(`:                              "unclosed left parenthesis",
		`sum(congthu_loggins)`:              "there is no metric",
		`congthu_accounts{status="locked"}`: "has no label",
		`congthu_accounts{state="closed"}`:  "is never",
		`sum(rate(congthu_login_attempts_total{outcome=~"accepted|bussy"}[$__rate_interval]))`: `is never "bussy"`,
		`sum(congthu_login_attempts_total)`:                                                    "is a counter",
		`sum(rate(congthu_sessions_live[5m]))`:                                                 "is a gauge",
		`sum by (outcome) (congthu_accounts)`:                                                  "has no such label",
	} {
		found := strings.Join(problems(expr, known), "; ")
		if !strings.Contains(found, want) {
			t.Errorf("%s: found %q, want %q", expr, found, want)
		}
	}
	if found := problems(`sum by (state) (congthu_accounts{state="locked",job=~"$job"})`, known); len(found) > 0 {
		t.Errorf("found what is right: %v", found)
	}
}
