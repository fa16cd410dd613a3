package metrics

import (
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
	"congthu/auth/audit"
)

// upstreams is the health of the mail servers and of the store, which are probed
// equally often.
type upstreams struct{ up, store *prometheus.GaugeVec }

func (u *upstreams) register(f factory) {
	u.up = f.gauges("congthu_upstream_up",
		"1 when the mail server answered the last probe, 0 when it did not: users cannot log in. "+
			"Absent for a protocol that has not been probed.",
		"protocol")
	u.store = f.gauges("congthu_store_up",
		"1 when the gateway's own store could be used at the last probe, 0 when not: only users whose password this process has seen accepted "+
			"can log in, for store.grace. Absent before the first probe.")
}

// StoreUp sets whether the store was usable at its latest probe.
func (m *Metrics) StoreUp(up bool) { m.upstream.store.WithLabelValues().Set(truth(up)) }

// UpstreamUp sets whether the mail server of a protocol answered its latest probe.
func (m *Metrics) UpstreamUp(p auth.Protocol, up bool) {
	if int(p) < len(auth.Protocols()) {
		m.upstream.up.WithLabelValues(p.String()).Set(truth(up))
	}
}

// ClockSuspect sets whether the clock is suspect.
func (m *Metrics) ClockSuspect(suspect bool) { m.process.clockSuspect.Set(truth(suspect)) }

// RulesBehind sets whether this gateway uses other rules than the gateways on its store
// have agreed on.
func (m *Metrics) RulesBehind(behind bool) { m.process.rulesBehind.Set(truth(behind)) }

// Certificate distinguishes the certificates.
type Certificate string

const (
	// CertificateClients is the certificate for mail clients.
	CertificateClients Certificate = "clients"
	// CertificateAdmin is the certificate of the admin listener.
	CertificateAdmin Certificate = "admin"
)

// process is the program itself: its configuration, certificates and audit log.
type process struct {
	reloads         map[bool]prometheus.Counter
	reloaded        prometheus.Gauge
	reloadedAt      prometheus.Gauge
	certificates    *prometheus.GaugeVec
	certificateRead *prometheus.GaugeVec
	chainOK         prometheus.Gauge
	chainVerifiedAt *prometheus.GaugeVec
	clockSuspect    prometheus.Gauge
	rulesBehind     prometheus.Gauge
}

func (p *process) register(f factory, build Build) {
	info := f.gauges("congthu_build_info", "Always 1; the labels say which program this is. Several at once: a replica was not upgraded.",
		"version", "revision", "goversion")
	info.WithLabelValues(orUnknown(build.Version), orUnknown(build.Revision), runtime.Version()).Set(1)

	reloads := f.counters("congthu_config_reloads_total",
		"Times the configuration was read again, by result. After failed the old configuration stays in force: the log says what is wrong, "+
			"and so does 'congthu check'.", "result")
	p.reloads = map[bool]prometheus.Counter{
		true:  reloads.WithLabelValues("ok"),
		false: reloads.WithLabelValues("failed"),
	}
	p.reloaded = f.gauge("congthu_config_last_reload_successful",
		"0 when the configuration file was refused at the last reload and the old one is still in force; the log says why.")
	p.reloaded.Set(1)
	p.reloadedAt = f.gauge("congthu_config_last_reload_success_timestamp_seconds",
		"When the configuration in force was read, in seconds since 1970. Older than the file: it was not reloaded (systemctl reload congthu).")
	p.certificates = f.gauges("congthu_certificate_expiry_timestamp_seconds",
		"When a certificate in use runs out, in seconds since 1970. Clients refuse to connect after that: put the new pair in its place, it is read by itself.", "certificate")
	p.certificateRead = f.gauges("congthu_certificate_last_read_successful",
		"0 when the files of a certificate have changed and are not in force, since they do not go together or clients would "+
			"refuse it; the one from before stays. The log says why.", "certificate")
	p.clockSuspect = f.gauge("congthu_clock_suspect",
		"1 while the clock disagrees with the audit log, the database's clock or the time that has passed: users log in, but nothing is revoked "+
			"and no password runs out until somebody has looked at the clock ('congthu clock accept').")
	p.rulesBehind = f.gauge("congthu_rules_behind",
		"1 while this gateway works by other rules than the gateways on its database have agreed on: others were adopted ('congthu rules adopt'), "+
			"and its own configuration file does not have them yet, or it needs a restart. 'congthu rules show' says which settings differ.")
	p.chainOK = f.gauge("congthu_audit_chain_ok",
		"0 when the last verification found that the audit log had been changed or cut; keep the database as it is and "+
			"run 'congthu audit verify'.")
	p.chainOK.Set(1)
	p.chainVerifiedAt = f.gauges("congthu_audit_chain_verified_timestamp_seconds",
		"When the audit log was last verified from end to end, in seconds since 1970. Absent before the first time. "+
			"Older than two days: run 'congthu audit verify'.")
}

// Reloaded records that the configuration was read at that time and, if err is nil, put
// into force. The first reading counts as well.
func (m *Metrics) Reloaded(at time.Time, err error) {
	m.process.reloads[err == nil].Inc()
	m.process.reloaded.Set(truth(err == nil))
	if err == nil {
		m.process.reloadedAt.Set(seconds(at))
	}
}

// CertificateExpires sets the expiry of a certificate.
func (m *Metrics) CertificateExpires(c Certificate, at time.Time) {
	if c == CertificateClients || c == CertificateAdmin {
		m.process.certificates.WithLabelValues(string(c)).Set(seconds(at))
	}
}

// CertificateRead sets whether the certificate in force is that of the files.
func (m *Metrics) CertificateRead(c Certificate, err error) {
	if c == CertificateClients || c == CertificateAdmin {
		m.process.certificateRead.WithLabelValues(string(c)).Set(truth(err == nil))
	}
}

// ChainVerified records the result of a verification of the audit log. An error other
// than [*audit.BrokenChain] says nothing about the log and changes nothing.
func (m *Metrics) ChainVerified(at time.Time, err error) {
	broken := (*audit.BrokenChain)(nil)
	if err != nil && !errors.As(err, &broken) {
		return
	}
	m.process.chainOK.Set(truth(err == nil))
	m.process.chainVerifiedAt.WithLabelValues().Set(seconds(at))
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// seconds returns the Unix time with its fraction.
func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
