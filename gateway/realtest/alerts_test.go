package realtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// alert is what Prometheus says of one that is not quiet.
type alert struct {
	Labels, Annotations map[string]string
	State               string
}

// startPrometheus starts a Prometheus that scrapes a gateway every second, with
// the rules that are shipped, but that an alert fires after a second where it
// waits for minutes, and returns how to ask it.
func startPrometheus(t *testing.T, g *Gateway) (ask func(path string, into any)) {
	t.Helper()
	dir := newDir(t, "prometheus")
	wait := regexp.MustCompile(`(?m)^( +for: ).*$`)
	for _, name := range []string{"congthu.recording.yml", "congthu.alerts.yml"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), wait.ReplaceAllString(string(text), "${1}1s"), 0o644)
	}
	example, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	// Without the Alertmanager, which is not there.
	text, _, _ := strings.Cut(string(example), "\nalerting:")
	text = strings.NewReplacer("interval: 15s", "interval: 1s", "127.0.0.1:9143", addr(g.Admin)).Replace(text)
	config := writeFile(t, filepath.Join(dir, "prometheus.yml"), text, 0o644)
	port := freePort(t)
	log := filepath.Join(dir, "prometheus.log")
	tailOnFailure(t, log)
	p := start(t, "prometheus", log, "/usr/bin/prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr(port))
	t.Cleanup(p.Kill)
	Eventually(t, "Prometheus to be ready", func() bool {
		code, _ := Get(t, "http://"+addr(port)+"/-/ready")
		return code == http.StatusOK
	})
	return func(path string, into any) {
		t.Helper()
		code, body := Get(t, "http://"+addr(port)+path)
		if code != http.StatusOK {
			t.Fatalf("Prometheus: %s: %d %s", path, code, body)
		}
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatalf("Prometheus: %s: %v", path, err)
		}
	}
}

func TestPrometheusWakesSomebodyWhenTheMailServerIsDownAndNotBefore(t *testing.T) {
	t.Parallel()
	d := OwnDovecot(t)
	g := OwnCongthu(t, Setup{Dovecot: d, Postfix: OwnPostfix(t, d)})
	ask := startPrometheus(t, g)
	alerts := func() (all map[string]alert) {
		var answer struct{ Data struct{ Alerts []alert } }
		ask("/api/v1/alerts", &answer)
		all = make(map[string]alert)
		for _, a := range answer.Data.Alerts {
			if a.State == "firing" {
				all[a.Labels["alertname"]+" "+a.Labels["protocol"]] = a
			}
		}
		return all
	}
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	Eventually(t, "Prometheus to see the gateway", func() bool {
		ask("/api/v1/query?query=congthu_upstream_up+==+1", &answer)
		return len(answer.Data.Result) == 3 // IMAP, submission and POP3
	})
	for name, a := range alerts() {
		// Before the first scrape the gateway seemed to be down.
		if name != "CongthuDown " {
			t.Errorf("%s fires while all is well: %v", name, a.Annotations)
		}
	}
	d.Stop()
	Eventually(t, "the alert", func() bool { return alerts()["CongthuUpstreamDown imap"].State != "" })
	a := alerts()["CongthuUpstreamDown imap"]
	if a.Labels["severity"] != "page" {
		t.Errorf("labels: %v", a.Labels)
	}
	for key, want := range map[string]string{
		"summary":        fmt.Sprintf("The mail server does not answer %s over imap", addr(g.Admin)),
		"summary_vi":     fmt.Sprintf("Máy chủ thư không trả lời %s qua imap", addr(g.Admin)),
		"runbook_url":    "file:///usr/share/doc/congthu/guide/runbook.md#congthuupstreamdown",
		"runbook_url_vi": "file:///usr/share/doc/congthu/guide/runbook.vi.md#congthuupstreamdown",
	} {
		if a.Annotations[key] != want {
			t.Errorf("%s: %q, want %q", key, a.Annotations[key], want)
		}
	}
}
