package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"congthu/auth"
	"congthu/auth/audit"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func newMetrics(t testing.TB) (*Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return New(reg, Build{Version: "1.2.3", Revision: "abc"}), reg
}

// value reads one series by its name and labels as they are exposed, such as
// `congthu_accounts{state="locked"}`; ok is false when it does not exist.
func value(t testing.TB, reg *prometheus.Registry, series string) (v float64, ok bool) {
	t.Helper()
	for line := range bytes.Lines(exposition(t, reg)) {
		name, rest, found := strings.Cut(string(line), "} ")
		if found {
			name += "}"
		} else {
			name, rest, _ = strings.Cut(string(line), " ")
		}
		if name == series {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatalf("%s: %v", series, err)
			}
			return v, true
		}
	}
	return 0, false
}

// exposition is what a server that scrapes reads.
func exposition(t testing.TB, reg *prometheus.Registry) []byte {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	return text.Bytes()
}

func want(t testing.TB, reg *prometheus.Registry, series string, expected float64) {
	t.Helper()
	got, ok := value(t, reg, series)
	if !ok {
		t.Errorf("%s does not exist", series)
	} else if got != expected {
		t.Errorf("%s = %v, want %v", series, got, expected)
	}
}

// exercise calls every method at least once.
func exercise(m *Metrics) {
	m.RecordAttempt(auth.Attempt{Protocol: auth.SMTP, Mechanism: auth.Plain}, auth.Verdict{Upstream: time.Millisecond})
	m.RecordEvent(auth.Event{Kind: auth.AccountLocked, Actor: auth.ByGateway}, true)
	m.SlotsWaiting(func() int { return 1 })
	m.Sessions(func() int { return 1 })
	m.Accounts(auth.AccountStats{States: map[auth.State]int{auth.Active: 1}})
	m.RulesInForce(auth.DefaultRules())
	m.Opened(auth.IMAP)
	m.Closed(auth.IMAP)
	m.RecordHandshake(auth.IMAP, nil)
	m.Relayed(auth.IMAP, 1, 1)
	m.Submitted(SubmissionAccepted)
	m.Panicked(ComponentOf(auth.IMAP))
	m.UpstreamUp(auth.IMAP, true)
	m.StoreUp(true)
	m.ObserveStoreOp(auth.OpUpdate, time.Millisecond, nil)
	m.Committed(1, time.Millisecond)
	m.Queued(1)
	m.Reloaded(time.Unix(1, 0), nil)
	m.CertificateExpires(CertificateClients, time.Unix(1, 0))
	m.CertificateRead(CertificateClients, nil)
	m.ChainVerified(time.Unix(1, 0), nil)
}

func TestNamesAndLabelsAreTheOnesThatDashboardsUse(t *testing.T) {
	m, reg := newMetrics(t)
	exercise(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "congthu_") {
			continue // the runtime's own, which change with Go
		}
		values := make(map[string][]string)
		for _, series := range f.Metric {
			for _, l := range series.Label {
				if l.GetName() == "goversion" {
					l.Value = new("*")
				}
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		fmt.Fprintf(&names, "%s %s\n", f.GetName(), strings.ToLower(f.GetType().String()))
		labels := make([]string, 0, len(values))
		for name := range values {
			labels = append(labels, name)
		}
		slices.Sort(labels)
		for _, name := range labels {
			slices.Sort(values[name])
			fmt.Fprintf(&names, "  %s: %s\n", name, strings.Join(values[name], " "))
		}
	}
	const golden = "testdata/names.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(names.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expected, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(expected), names.String()); diff != "" {
		t.Errorf("rename with care: dashboards and alerts break (go test ./metrics -update):\n%s", diff)
	}
}

func TestPromlintFindsNothing(t *testing.T) {
	m, reg := newMetrics(t)
	exercise(m)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEveryHelpTextIsASentenceAndDurationsSaySeconds(t *testing.T) {
	m, reg := newMetrics(t)
	exercise(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "congthu_") {
			continue
		}
		help := f.GetHelp()
		if len(help) < 20 || !strings.HasSuffix(help, ".") {
			t.Errorf("%s: help is no sentence: %q", f.GetName(), help)
		}
		if strings.Contains(f.GetName(), "_seconds") && !regexp.MustCompile(`(?i)seconds`).MatchString(help) {
			t.Errorf("%s: help does not name the unit: %q", f.GetName(), help)
		}
	}
}

// A label with an unbounded set of values fills the server that scrapes, and a
// name or an address in one tells it who reads mail when.
func TestNothingThatAClientChoseBecomesALabel(t *testing.T) {
	const canary = "canary"
	source := netip.MustParseAddrPort("198.51.100.77:4711")
	m, reg := newMetrics(t)
	exercise(m)
	before := seriesCount(t, reg)
	m.RecordAttempt(auth.Attempt{
		Session: canary, Login: canary, Authorize: canary, Password: auth.NewSecret(canary), Source: source,
		Protocol: auth.Protocol(99), Mechanism: auth.Mechanism(99),
	}, auth.Verdict{Outcome: auth.Outcome(99), Name: canary, Code: canary, Err: errors.New(canary)})
	m.RecordAttempt(auth.Attempt{Mechanism: auth.Mechanism(99), Login: canary, Source: source},
		auth.Verdict{Outcome: auth.Outcome(99), Would: auth.Outcome(99), Code: canary})
	m.RecordEvent(auth.Event{Kind: canary, Account: canary, Actor: canary, Reason: canary, Source: source}, true)
	m.RecordHandshake(auth.IMAP, errors.New(canary))
	m.RecordHandshake(auth.Protocol(99), nil)
	m.Opened(auth.Protocol(99))
	m.Closed(auth.Protocol(99))
	m.Relayed(auth.Protocol(99), 1, 1)
	m.Submitted(canary)
	m.Panicked(canary)
	m.UpstreamUp(auth.Protocol(99), true)
	m.ObserveStoreOp(auth.OpUpdate, 0, errors.New(canary))
	m.ObserveStoreOp(auth.StoreOp(99), 0, nil)
	m.CertificateExpires(canary, time.Now())
	m.Accounts(auth.AccountStats{States: map[auth.State]int{99: 7}, ExpiringWithin: map[int]int{99: 7}, Violations: map[auth.Rule]int{99: 7}})
	m.ChainVerified(time.Now(), &audit.BrokenChain{Why: canary})
	m.Reloaded(time.Now(), errors.New(canary))
	text := exposition(t, reg)
	for _, leak := range []string{canary, "198.51.100.77", ":4711", `"4711`} {
		if bytes.Contains(text, []byte(leak)) {
			t.Errorf("%q is exposed", leak)
		}
	}
	if after := seriesCount(t, reg); after != before {
		t.Errorf("%d series became %d", before, after)
	}
	want(t, reg, `congthu_submitted_messages_total{result="other"}`, 1)
	want(t, reg, `congthu_panics_total{component="other"}`, 1)
	want(t, reg, `congthu_audit_events_total{kind="other"}`, 1)
}

func seriesCount(t *testing.T, reg *prometheus.Registry) int {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "congthu_") {
			n += len(f.Metric)
		}
	}
	return n
}

func TestASecondRegistrationIsAMistakeInTheProgram(t *testing.T) {
	_, reg := newMetrics(t)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	New(reg, Build{})
}

func TestTheRuntimesFiguresMayBeThereAlready(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := factory{reg}
	f.tolerate(collectors.NewGoCollector())
	New(reg, Build{})
	if _, ok := value(t, reg, "go_goroutines"); !ok {
		t.Error("go_goroutines is missing")
	}
	if _, ok := value(t, reg, "process_open_fds"); !ok {
		t.Error("process_open_fds is missing")
	}
	if n, err := testutil.GatherAndCount(reg, "congthu_build_info"); n != 1 || err != nil {
		t.Errorf("build info: %d, %v", n, err)
	}
}

func TestManyGoroutinesLoseNothing(t *testing.T) {
	m, reg := newMetrics(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				exercise(m)
			}
		})
		wg.Go(func() {
			for range 5 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want(t, reg, `congthu_login_attempts_total{mechanism="plain",outcome="accepted",protocol="smtp"}`, 800)
	want(t, reg, `congthu_connections_total{protocol="imap"}`, 800)
	want(t, reg, `congthu_connections_active{protocol="imap"}`, 0)
	want(t, reg, `congthu_login_duration_seconds_count{protocol="smtp",result="accepted"}`, 800)
}

func TestStoreOperationsTellTroubleFromWaiting(t *testing.T) {
	m, reg := newMetrics(t)
	for _, err := range []error{
		nil, fmt.Errorf("reserve: %w", auth.ErrNoSlot), auth.ErrFull, context.Canceled, context.DeadlineExceeded,
		errors.New("disk full"),
	} {
		m.ObserveStoreOp(auth.OpReserve, 3*time.Millisecond, err)
	}
	for result, n := range map[string]float64{"ok": 1, "no_slot": 1, "full": 1, "cancelled": 1, "failed": 2} {
		want(t, reg, fmt.Sprintf(`congthu_store_operations_total{operation="reserve",result=%q}`, result), n)
	}
	want(t, reg, `congthu_store_operations_total{operation="update",result="failed"}`, 0)
	want(t, reg, `congthu_store_operation_duration_seconds_count{operation="reserve"}`, 6)

	m.Committed(3, 2*time.Millisecond)
	m.SlotsLost(2)
	want(t, reg, "congthu_store_lost_slots_total", 2)
	want(t, reg, `congthu_store_batch_size_bucket{le="2"}`, 0)
	want(t, reg, `congthu_store_batch_size_bucket{le="4"}`, 1)
	want(t, reg, `congthu_store_commit_duration_seconds_bucket{le="0.0025"}`, 1)
	m.Queued(17)
	m.Queued(4)
	want(t, reg, `congthu_store_queue_depth`, 4)
}

func TestConnectionsAndBytes(t *testing.T) {
	m, reg := newMetrics(t)
	m.Opened(auth.IMAP)
	m.Opened(auth.IMAP)
	m.Opened(auth.SMTP)
	m.Closed(auth.IMAP)
	want(t, reg, `congthu_connections_active{protocol="imap"}`, 1)
	want(t, reg, `congthu_connections_total{protocol="imap"}`, 2)
	want(t, reg, `congthu_connections_active{protocol="smtp"}`, 1)

	m.RecordHandshake(auth.IMAP, nil)
	m.RecordHandshake(auth.IMAP, errors.New("tls: bad certificate"))
	m.RecordHandshake(auth.IMAP, nil)
	want(t, reg, `congthu_tls_handshakes_total{protocol="imap",result="ok"}`, 2)
	want(t, reg, `congthu_tls_handshakes_total{protocol="imap",result="failed"}`, 1)

	m.Relayed(auth.IMAP, 10, 2000)
	m.Relayed(auth.IMAP, -1, 5) // a counter that is asked to go back panics
	want(t, reg, `congthu_relay_bytes_total{direction="from_client",protocol="imap"}`, 10)
	want(t, reg, `congthu_relay_bytes_total{direction="from_server",protocol="imap"}`, 2005)

	for _, s := range Submissions() {
		m.Submitted(s)
		want(t, reg, fmt.Sprintf(`congthu_submitted_messages_total{result=%q}`, s), 1)
	}
	m.Submitted(SubmissionWouldRefuse)
	want(t, reg, `congthu_submitted_would_refuse_total`, 1)
	for _, c := range Components() {
		m.Panicked(c)
		want(t, reg, fmt.Sprintf(`congthu_panics_total{component=%q}`, c), 1)
	}
}

func TestWhatIsNotKnownYetIsAbsent(t *testing.T) {
	m, reg := newMetrics(t)
	for _, series := range []string{
		`congthu_upstream_up{protocol="imap"}`,
		`congthu_store_up`,
		`congthu_certificate_expiry_timestamp_seconds{certificate="clients"}`,
		`congthu_audit_chain_verified_timestamp_seconds`,
	} {
		if v, ok := value(t, reg, series); ok {
			t.Errorf("%s = %v before anybody knows", series, v)
		}
	}
	m.UpstreamUp(auth.IMAP, true)
	want(t, reg, `congthu_upstream_up{protocol="imap"}`, 1)
	m.UpstreamUp(auth.IMAP, false)
	want(t, reg, `congthu_upstream_up{protocol="imap"}`, 0)
	if _, ok := value(t, reg, `congthu_upstream_up{protocol="smtp"}`); ok {
		t.Error("smtp was never probed")
	}
	m.StoreUp(false)
	want(t, reg, `congthu_store_up`, 0)
	m.StoreUp(true)
	want(t, reg, `congthu_store_up`, 1)
	m.CertificateExpires(CertificateAdmin, time.UnixMilli(1500))
	want(t, reg, `congthu_certificate_expiry_timestamp_seconds{certificate="admin"}`, 1.5)
}

func TestAFailedReloadKeepsTheTimeOfTheConfigurationInForce(t *testing.T) {
	m, reg := newMetrics(t)
	m.Reloaded(time.Unix(1000, 0), nil)
	m.Reloaded(time.Unix(2000, 0), errors.New("line 3"))
	want(t, reg, `congthu_config_last_reload_successful`, 0)
	want(t, reg, `congthu_config_last_reload_success_timestamp_seconds`, 1000)
	want(t, reg, `congthu_config_reloads_total{result="ok"}`, 1)
	want(t, reg, `congthu_config_reloads_total{result="failed"}`, 1)
	m.Reloaded(time.Unix(3000, 0), nil)
	want(t, reg, `congthu_config_last_reload_successful`, 1)
	want(t, reg, `congthu_config_last_reload_success_timestamp_seconds`, 3000)
}

func TestOnlyABrokenChainIsABrokenChain(t *testing.T) {
	m, reg := newMetrics(t)
	want(t, reg, `congthu_audit_chain_ok`, 1)
	m.ChainVerified(time.Unix(10, 0), errors.New("store: disk I/O error"))
	want(t, reg, `congthu_audit_chain_ok`, 1)
	m.ChainVerified(time.Unix(20, 0), fmt.Errorf("verify: %w", &audit.BrokenChain{Seq: 3, Why: "hash differs"}))
	want(t, reg, `congthu_audit_chain_ok`, 0)
	want(t, reg, `congthu_audit_chain_verified_timestamp_seconds`, 20)
	m.ChainVerified(time.Unix(30, 0), errors.New("store: disk I/O error"))
	want(t, reg, `congthu_audit_chain_ok`, 0)
	m.ChainVerified(time.Unix(40, 0), nil)
	want(t, reg, `congthu_audit_chain_ok`, 1)
}

// An operator reads it at three in the morning.
func TestEveryHelpTellsTheUnitAndMoreThanTheName(t *testing.T) {
	m, reg := newMetrics(t)
	exercise(m)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name, help := f.GetName(), f.GetHelp()
		if !strings.HasPrefix(name, "congthu_") {
			continue
		}
		for suffix, unit := range map[string]string{"_seconds": "(?i)seconds", "_bytes_total": "(?i)bytes"} {
			if strings.HasSuffix(name, suffix) && !regexp.MustCompile(unit).MatchString(help) {
				t.Errorf("%s does not say its unit: %s", name, help)
			}
		}
		// What it is, and what to look at or to do: a sentence and a half at least.
		if len(help) < 60 || !strings.HasSuffix(help, ".") {
			t.Errorf("%s: %q", name, help)
		}
	}
}
