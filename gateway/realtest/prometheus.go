package realtest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"congthu/auth/storetest/testenv"
)

// PrometheusServer is a running Prometheus that scrapes once a second.
type PrometheusServer struct {
	port int
}

// Prometheus starts a Prometheus for one test. It scrapes ports of this machine, with
// or without a listener, as the job "congthu".
func Prometheus(t testing.TB, ports ...int) *PrometheusServer {
	t.Helper()
	need(t)
	testenv.NeedRealClock(t, "Prometheus has the machine's clock, and the gateway another one")
	dir := newDir(t, "m")
	p := &PrometheusServer{port: freePort(t)}
	var targets []string
	for _, port := range ports {
		targets = append(targets, strconv.Quote(addr(port)))
	}
	config := writeFile(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - { job_name: congthu, static_configs: [ { targets: [%s] } ] }
`, strings.Join(targets, ", ")), 0o644)
	log := filepath.Join(dir, "prometheus.log")
	process := start(t, "prometheus", log, "/usr/bin/prometheus", "--config.file="+config,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr(p.port), "--log.level=warn")
	t.Cleanup(process.Kill)
	tailOnFailure(t, log)
	Eventually(t, "Prometheus to be ready", func() bool {
		if code, ended := process.Exited(); ended {
			t.Fatalf("prometheus ended with code %d:\n%s", code, readFrom(log, 0))
		}
		status, _ := Get(t, "http://"+addr(p.port)+"/-/ready")
		return status == http.StatusOK
	})
	return p
}

// Series is one series of an answer: its labels, and its values without those that are
// not numbers.
type Series struct {
	Labels map[string]string
	Values []float64
}

// Last returns the latest value.
func (s Series) Last() float64 { return s.Values[len(s.Values)-1] }

// Now evaluates an expression at the present time.
func (p *PrometheusServer) Now(t testing.TB, expr string) []Series {
	t.Helper()
	return p.ask(t, "/api/v1/query", url.Values{"query": {expr}})
}

// Lately evaluates an expression over the recent past, in steps of a second, up to and
// including the second that has begun.
func (p *PrometheusServer) Lately(t testing.TB, expr string, since time.Time) []Series {
	t.Helper()
	second := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	return p.ask(t, "/api/v1/query_range", url.Values{"query": {expr}, "start": {second(since)}, "end": {second(time.Now().Add(time.Second))}, "step": {"1"}})
}

func (p *PrometheusServer) ask(t testing.TB, path string, query url.Values) (all []Series) {
	t.Helper()
	_, body := Get(t, "http://"+addr(p.port)+path+"?"+query.Encode())
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %s (%v)", query.Get("query"), body, err)
	}
	for _, r := range answer.Data.Result {
		s := Series{Labels: r.Metric}
		if r.Value != nil {
			r.Values = [][]any{r.Value}
		}
		for _, sample := range r.Values {
			text, _ := sample[1].(string)
			if v, err := strconv.ParseFloat(text, 64); err != nil {
				t.Fatalf("%s: %v", query.Get("query"), err)
			} else if !math.IsNaN(v) && !math.IsInf(v, 0) {
				s.Values = append(s.Values, v)
			}
		}
		if len(s.Values) > 0 {
			all = append(all, s)
		}
	}
	return all
}
