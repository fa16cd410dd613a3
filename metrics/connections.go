package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
)

// connections are the metrics of clients' connections and their data.
type connections struct {
	protocols []connectionSeries                // by auth.Protocol
	submitted map[Submission]prometheus.Counter // read-only
	panics    map[Component]prometheus.Counter  // read-only
}

type connectionSeries struct {
	active                 prometheus.Gauge
	total                  prometheus.Counter
	handshaken, failed     prometheus.Counter
	fromClient, fromServer prometheus.Counter
}

// Submission is the result of the submission of one message.
type Submission string

const (
	// SubmissionAccepted: the mail server took the message.
	SubmissionAccepted Submission = "accepted"
	// SubmissionRefused: the mail server refused the sender, a recipient or the
	// message.
	SubmissionRefused Submission = "refused"
	// SubmissionSenderRefused: the gateway refused a sender that does not belong
	// to the account (Art. 13.8).
	SubmissionSenderRefused Submission = "sender_refused"
	// SubmissionAborted: the client went away or sent a malformed message; nothing
	// was delivered.
	SubmissionAborted Submission = "aborted"
	// SubmissionFailed: the mail server was lost; the client will try again.
	SubmissionFailed Submission = "failed"
	// SubmissionWouldRefuse: the gateway would have refused the sender if the rule were
	// enforced. It is counted in addition to the message's own result.
	SubmissionWouldRefuse Submission = "would_refuse"
	// submissionOther is any value outside the set.
	submissionOther Submission = "other"
)

// Submissions lists the results of a submission; SubmissionWouldRefuse is not one.
func Submissions() []Submission {
	return []Submission{SubmissionAccepted, SubmissionRefused, SubmissionSenderRefused, SubmissionAborted, SubmissionFailed}
}

// Component is a part of the gateway that recovers from panics: a protocol, or
// another.
type Component string

// ComponentOf returns the component that serves a protocol.
func ComponentOf(p auth.Protocol) Component { return Component(p.String()) }

const (
	ComponentAdmin Component = "admin"
	// componentOther is any value outside the set.
	componentOther Component = "other"
)

// Components lists every component.
func Components() (all []Component) {
	for _, p := range auth.Protocols() {
		all = append(all, ComponentOf(p))
	}
	return append(all, ComponentAdmin)
}

func (c *connections) register(f factory) {
	active := f.gauges("congthu_connections_active", "Client connections that are open now, logged in or not. Near limits.connections nobody new gets in: raise it, or find the source that takes them.", "protocol")
	total := f.counters("congthu_connections_total", "Client connections accepted since the start. A jump without a jump of logins: somebody scans, or a balancer checks often.", "protocol")
	handshakes := f.counters("congthu_tls_handshakes_total",
		"TLS handshakes with clients. A jump of failed after a change of certificate: clients do not trust it.",
		"protocol", "result")
	relayed := f.counters("congthu_relay_bytes_total",
		"Bytes passed between logged-in clients and the mail server, counted while a session goes on (imap) or at its end (smtp).", "protocol", "direction")
	c.protocols = make([]connectionSeries, len(auth.Protocols()))
	for _, p := range auth.Protocols() {
		c.protocols[p] = connectionSeries{
			active:     active.WithLabelValues(p.String()),
			total:      total.WithLabelValues(p.String()),
			handshaken: handshakes.WithLabelValues(p.String(), "ok"),
			failed:     handshakes.WithLabelValues(p.String(), "failed"),
			fromClient: relayed.WithLabelValues(p.String(), "from_client"),
			fromServer: relayed.WithLabelValues(p.String(), "from_server"),
		}
	}

	submitted := f.counters("congthu_submitted_messages_total",
		"Messages submitted by logged-in users, by result. sender_refused is the gateway's own check of the sender; "+
			"aborted and failed were not delivered. A jump of failed: look at the mail server; of sender_refused: 'sender refused' in the log.",
		"result")
	c.submitted = make(map[Submission]prometheus.Counter)
	for _, s := range append(Submissions(), submissionOther) {
		c.submitted[s] = submitted.WithLabelValues(string(s))
	}
	c.submitted[SubmissionWouldRefuse] = f.counter("congthu_submitted_would_refuse_total",
		"Messages whose sender would have been refused if the rule were enforced; it is in mode warn (rules.sender.mode). "+
			"Look for 'sender would be refused' in the log before you enforce it.")
	panics := f.counters("congthu_panics_total",
		"Mistakes in the program that were caught; each cost one connection or request. Any is worth a report, with the log.",
		"component")
	c.panics = make(map[Component]prometheus.Counter)
	for _, component := range append(Components(), componentOther) {
		c.panics[component] = panics.WithLabelValues(string(component))
	}
}

// Opened counts a new client connection. Each is followed by one Closed.
func (m *Metrics) Opened(p auth.Protocol) {
	if s := at(m.connections.protocols, p); s != nil {
		s.active.Inc()
		s.total.Inc()
	}
}

// Closed subtracts a client connection from the open ones.
func (m *Metrics) Closed(p auth.Protocol) {
	if s := at(m.connections.protocols, p); s != nil {
		s.active.Dec()
	}
}

// RecordHandshake counts one finished TLS handshake with a client; err is the reason of
// a failure.
func (m *Metrics) RecordHandshake(p auth.Protocol, err error) {
	if s := at(m.connections.protocols, p); s != nil {
		either(err == nil, s.handshaken, s.failed).Inc()
	}
}

// Relayed adds bytes that passed between a client and the mail server.
func (m *Metrics) Relayed(p auth.Protocol, fromClient, fromServer int64) {
	if s := at(m.connections.protocols, p); s != nil {
		// A counter panics on a negative value.
		s.fromClient.Add(float64(max(0, fromClient)))
		s.fromServer.Add(float64(max(0, fromServer)))
	}
}

// Submitted counts one message.
func (m *Metrics) Submitted(result Submission) {
	counter, ok := m.connections.submitted[result]
	if !ok {
		counter = m.connections.submitted[submissionOther]
	}
	counter.Inc()
}

// Panicked counts one recovered panic.
func (m *Metrics) Panicked(component Component) {
	counter, ok := m.connections.panics[component]
	if !ok {
		counter = m.connections.panics[componentOther]
	}
	counter.Inc()
}
