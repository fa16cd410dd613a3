package grafana

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
)

var update = flag.Bool("update", false, "rewrite the files in deploy/grafana")

const directory = "../../deploy/grafana"

func TestTheFilesAreWhatIsGenerated(t *testing.T) {
	for name, d := range Dashboards() {
		generated, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(directory, name)
		if *update {
			if err := os.WriteFile(file, generated, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		onDisk, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(onDisk), string(generated)); diff != "" {
			t.Errorf("%s is not what is generated (go generate ./metrics/grafana):\n%s", name, diff)
		}
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.json"))
	if err != nil || len(files) != len(Dashboards()) {
		t.Errorf("%d files for %d dashboards (%v)", len(files), len(Dashboards()), err)
	}
}

// A reader of only one of the languages must find everything.
func TestEveryPanelSpeaksBothLanguagesAndSaysWhatItIsFor(t *testing.T) {
	for name, d := range Dashboards() {
		for _, p := range d.Panels {
			if vi, en, both := strings.Cut(p.Title, " / "); !both || vi == "" || en == "" {
				t.Errorf("%s: the title %q is not in both languages", name, p.Title)
			}
			if p.Type == "row" {
				continue
			}
			vi, en, both := strings.Cut(p.Description, "\n\n")
			if !both || len(vi) < 20 || len(en) < 20 || !strings.HasSuffix(vi, ".") || !strings.HasSuffix(en, ".") {
				t.Errorf("%s: %s: the description is not a sentence in both languages: %q", name, p.Title, p.Description)
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: %s asks nothing", name, p.Title)
			}
			for _, target := range p.Targets {
				if !strings.Contains(target.Expr, `job=~"$job",instance=~"$instance"`) {
					t.Errorf("%s: %s ignores what is chosen above: %s", name, p.Title, target.Expr)
				}
			}
		}
	}
}

func TestPanelsDoNotOverlapAndFillTheirRows(t *testing.T) {
	for name, d := range Dashboards() {
		taken := map[[2]int]string{}
		lines := map[int]int{}
		ids := map[int]bool{}
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s: two panels with the id %d", name, p.ID)
			}
			ids[p.ID] = true
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
					if other, twice := taken[[2]int{x, y}]; twice {
						t.Fatalf("%s: %s lies on %s", name, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
					lines[y]++
				}
			}
		}
		for y, n := range lines {
			if n != 24 {
				t.Errorf("%s: line %d is %d wide, want 24", name, y, n)
			}
		}
	}
}

// What an alert is about can be looked at. Of sweeps the time of the last one is
// shown, and throttled sources are a list (congthu source list).
func TestWhatPagesIsOnADashboard(t *testing.T) {
	alerts, err := os.ReadFile("../../deploy/prometheus/congthu.alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	for _, d := range Dashboards() {
		generated, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(generated)
	}
	names := regexp.MustCompile(`\bcongthu_[a-z0-9_]+\b[^:a-z0-9_]`).FindAllString(string(alerts), -1) // what is recorded has a colon
	names = append(names, "congthu_store_lost_slots_total", "congthu_login_shared_total")
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		name = strings.TrimRight(name, "{[( )\n")
		elsewhere := name == "congthu_sweeps_total" || strings.HasPrefix(name, "congthu_throttled_")
		if !elsewhere && !strings.Contains(shown.String(), name) {
			t.Errorf("%q is on no dashboard", name)
		}
	}
}

// The link must lead to the section: an operator clicks it at three in the morning.
func TestLinksToTheRunbookLeadToASectionOfIt(t *testing.T) {
	for _, page := range []string{"runbook.md", "runbook.vi.md"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/guide", page))
		if err != nil {
			t.Fatal(err)
		}
		sections := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			if heading, ok := strings.CutPrefix(line, "## "); ok {
				sections[strings.ToLower(strings.TrimSpace(heading))] = true
			}
		}
		n := 0
		for name, d := range Dashboards() {
			for _, p := range d.Panels {
				for _, l := range p.Links {
					if section, ours := strings.CutPrefix(l.URL, "${guide}/"+page+"#"); ours {
						if n++; !sections[section] {
							t.Errorf("%s: %s leads to %s, which has no such section", name, p.Title, l.URL)
						}
					}
				}
			}
		}
		if n < 10 {
			t.Errorf("only %d links to %s", n, page)
		}
	}
}

// A new outcome without a colour would be drawn in that of another.
func TestEveryOutcomeHasAColour(t *testing.T) {
	for _, o := range auth.Outcomes() {
		if outcomeColors[o.String()] == "" || !slices.Contains(outcomeOrder, o.String()) {
			t.Errorf("%v has none", o)
		}
		system := o == auth.Unavailable || o == auth.StoreUnavailable
		if got := slices.Contains(strings.Split(trouble, "|"), o.String()); got != system {
			t.Errorf("%v: the system's fault: %v, want %v", o, got, system)
		}
	}
	if len(outcomeOrder) != len(auth.Outcomes()) || len(outcomeColors) != len(auth.Outcomes()) {
		t.Error("a colour of something that is no outcome")
	}
}
