package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
)

// result is the class of an outcome, coarse enough for a label of a histogram.
type result uint8

const (
	resultAccepted  result = iota
	resultWrong            // the credentials are wrong, or of no account
	resultDenied           // refused by a rule or by the mail server
	resultTemporary        // the same credentials may work later

	numResults
)

var resultNames = [numResults]string{"accepted", "wrong", "denied", "temporary"}

// String returns the label value.
func (r result) String() string { return resultNames[r] }

// resultOf returns the class of an outcome.
func resultOf(o auth.Outcome) result {
	switch o {
	case auth.Accepted:
		return resultAccepted
	case auth.WrongPassword, auth.PreviousPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed:
		return resultWrong
	}
	if o.Temporary() {
		return resultTemporary
	}
	return resultDenied
}

// answer is the mail server's answer about the credentials, as far as the outcome of an
// attempt shows it.
type answer uint8

const (
	answerRight     answer = iota
	answerWrong            // counted, or a password from before a change
	answerRefused          // refused for another reason of the mail server
	answerNone             // no verdict: unreachable, too slow, not understood
	answerUnsettled        // there was an answer, but the store could not record it

	numAnswers
)

var answerNames = [numAnswers]string{"right", "wrong", "refused", "none", "unsettled"}

// answerOf infers the answer from the outcome of an attempt that reached the mail
// server. Locked, revoked and expired follow only a right password.
func answerOf(o auth.Outcome) answer {
	switch o {
	case auth.Unavailable:
		return answerNone
	case auth.StoreUnavailable:
		return answerUnsettled
	case auth.Refused:
		return answerRefused
	case auth.WrongPassword, auth.PreviousPassword, auth.RepeatedPassword:
		return answerWrong
	}
	return answerRight
}

// logins are the metrics of attempts. The children of the vectors are looked up once;
// an attempt then costs some array indexing and no allocation.
type logins struct {
	protocols []loginSeries // by auth.Protocol
	waiting   counted
	would     map[auth.Outcome]prometheus.Counter // read-only
}

type loginSeries struct {
	attempts [][]prometheus.Counter // by auth.Mechanism and auth.Outcome
	whole    [numResults]prometheus.Observer
	rules    prometheus.Observer
	admitted prometheus.Observer
	upstream prometheus.Observer
	answers  [numAnswers]prometheus.Counter
	known    prometheus.Counter
	shared   [numResults]prometheus.Counter
}

func (l *logins) register(f factory) {
	attempts := f.counters("congthu_login_attempts_total",
		"Attempts to log in, by how they ended. Only wrong_password counts towards the lock of an account; "+
			"unavailable and store_unavailable mean that the mail server or the gateway's own store is in trouble.",
		"protocol", "mechanism", "outcome")
	whole := f.durations("congthu_login_duration_seconds",
		"Seconds from complete credentials to the verdict, waiting, mail server and store together. High: "+
			"congthu_login_upstream_duration_seconds and congthu_login_rules_duration_seconds tell which of them it is.",
		"protocol", "result")
	rules := f.durations("congthu_login_rules_duration_seconds",
		"Seconds of a login that the gateway itself took: reading the account, waiting for a slot, writing the result. "+
			"High while congthu_login_upstream_duration_seconds is low: look at the store and its disk.",
		"protocol")
	admission := f.durations("congthu_login_admission_duration_seconds",
		"Seconds until an attempt was let through to the mail server, or refused unasked: reading the account and waiting for a slot. "+
			"It is the first part of congthu_login_rules_duration_seconds; the other is writing the result.",
		"protocol")
	upstream := f.durations("congthu_login_upstream_duration_seconds",
		"Seconds of a login that the mail server took to connect and to judge the credentials. "+
			"Only attempts that asked it. High: look at the mail server.",
		"protocol")
	answers := f.counters("congthu_upstream_answers_total",
		"What the mail server said of the credentials. none is no verdict at all: not reached, too slow, or not understood; "+
			"it is answered 'try again later' and never counted against an account.",
		"protocol", "judgement")
	known := f.counters("congthu_login_known_good_total",
		"Attempts with a password that this process had already seen accepted: they need no slot and no synchronous write. "+
			"Few of them are normal for a while after a restart.",
		"protocol")
	shared := f.counters("congthu_login_shared_total",
		"Attempts on names that nobody has ever logged in with and for which there is no room, so that they share a counter of wrong "+
			"passwords, by result. denied were refused like a locked account, since the counter was full: some of them may be new colleagues. "+
			"Import the accounts.",
		"protocol", "result")

	l.waiting.register(f, "congthu_login_slots_waiting",
		"Attempts that wait for a free slot of their account now. Lasting high values mean that somebody guesses passwords "+
			"of accounts in use, or that the mail server is slow.")
	would := f.counters("congthu_login_would_refuse_total",
		"Logins that were let in and would have been refused if the rule were enforced; it is in mode warn. "+
			"Look at who they are in the log (would_be) before you enforce it.", "outcome")
	l.would = make(map[auth.Outcome]prometheus.Counter)
	for _, o := range []auth.Outcome{auth.Locked, auth.Revoked, auth.Expired} {
		l.would[o] = would.WithLabelValues(o.String())
	}
	l.protocols = make([]loginSeries, len(auth.Protocols()))
	for _, p := range auth.Protocols() {
		s := &l.protocols[p]
		s.attempts = make([][]prometheus.Counter, len(auth.Mechanisms()))
		for _, m := range auth.Mechanisms() {
			s.attempts[m] = make([]prometheus.Counter, len(auth.Outcomes()))
			for _, o := range auth.Outcomes() {
				s.attempts[m][o] = attempts.WithLabelValues(p.String(), m.String(), o.String())
			}
		}
		for r, name := range resultNames {
			s.whole[r] = whole.WithLabelValues(p.String(), name)
			s.shared[r] = shared.WithLabelValues(p.String(), name)
		}
		for a, name := range answerNames {
			s.answers[a] = answers.WithLabelValues(p.String(), name)
		}
		s.rules = rules.WithLabelValues(p.String())
		s.admitted = admission.WithLabelValues(p.String())
		s.upstream = upstream.WithLabelValues(p.String())
		s.known = known.WithLabelValues(p.String())
	}
}

// RecordAttempt implements [auth.Recorder].
func (m *Metrics) RecordAttempt(a auth.Attempt, v auth.Verdict) {
	s := at(m.logins.protocols, a.Protocol)
	if s == nil {
		return
	}
	if byOutcome := at(s.attempts, a.Mechanism); byOutcome != nil {
		if counter := at(*byOutcome, v.Outcome); counter != nil {
			(*counter).Inc()
		}
	}
	if counter, ok := m.logins.would[v.Would]; ok {
		counter.Inc()
	}
	rules := v.Admission + v.Settlement
	s.whole[resultOf(v.Outcome)].Observe((rules + v.Upstream).Seconds())
	s.rules.Observe(rules.Seconds())
	s.admitted.Observe(v.Admission.Seconds())
	if v.KnownGood {
		s.known.Inc()
	}
	if v.Shared {
		s.shared[resultOf(v.Outcome)].Inc()
	}
	// Locked, throttled and similar outcomes are decided without the mail server.
	if v.Upstream > 0 {
		s.upstream.Observe(v.Upstream.Seconds())
		s.answers[answerOf(v.Outcome)].Inc()
	}
}

// SlotsWaiting sets the function that counts the attempts that wait for a slot. It is
// called at every scrape, from any goroutine.
func (m *Metrics) SlotsWaiting(count func() int) { m.logins.waiting.set(count) }
