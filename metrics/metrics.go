// Package metrics counts what the gateway does, for Prometheus.
//
// Every number goes in through a method with typed arguments ([Metrics.RecordAttempt],
// [Metrics.RecordHandshake], [Metrics.ObserveStoreOp]), so that no caller can swap two
// labels, and every label is one value of a closed set. A user name, an address
// or anything else that a client chose is never a label: it would fill the
// memory of the server that scrapes, and tell it who reads mail when.
//
// All series of a closed set exist from the start with the value 0. A graph of a
// rate then has a first point, and an alert on something that has never happened
// yet is a comparison with 0 rather than with nothing. Four gauges stay absent
// until their value is known, because any value would be a lie that wakes
// somebody: whether a mail server is up, whether the store is, when a certificate
// runs out, and when the audit log was last verified.
//
// Metrics satisfies the small Recorder interfaces that the other packages
// declare; it imports none of them but auth. The methods may be called from any
// goroutine, do not block, and ignore values outside their set rather than
// panic: a metric is never worth a connection.
//
// Durations are seconds, as histograms of both kinds at once: classic buckets
// from 0.25 ms to 60 s for any Prometheus, and native ones, a tenth wide each,
// where the server asks for them.
package metrics

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build identifies the program.
type Build struct {
	// Version is the release, such as "1.2.0"; empty becomes "unknown".
	Version string
	// Revision is the commit it was built from; empty becomes "unknown".
	Revision string
}

// Metrics holds all series of the gateway. Make one with [New].
type Metrics struct {
	logins      logins
	accounts    accounts
	connections connections
	upstream    upstreams
	store       storage
	process     process
}

// New registers everything with reg, including the figures of the Go runtime and of the
// process. It panics if reg already has a Metrics: that is a bug in the program. The
// figures of the runtime and the process may already be registered, as in
// prometheus.DefaultRegisterer.
func New(reg prometheus.Registerer, build Build) *Metrics {
	m := &Metrics{}
	f := factory{reg}
	m.logins.register(f)
	m.accounts.register(f)
	m.connections.register(f)
	m.upstream.register(f)
	m.store.register(f)
	m.process.register(f, build)
	f.tolerate(collectors.NewGoCollector())
	f.tolerate(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// factory creates series and registers them.
type factory struct{ reg prometheus.Registerer }

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	f.reg.MustRegister(c)
	return c
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	f.reg.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	f.reg.MustRegister(g)
	return g
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	f.reg.MustRegister(g)
	return g
}

func (f factory) duration(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(durations(name, help))
	f.reg.MustRegister(h)
	return h
}

func (f factory) durations(name, help string, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(durations(name, help), labels)
	f.reg.MustRegister(h)
	return h
}

// counted is a gauge with a function that counts; 0 until that is set, or set to nil.
type counted struct{ count atomic.Pointer[func() int] }

func (c *counted) register(f factory, name, help string) {
	f.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		if count := c.count.Load(); count != nil {
			return float64((*count)())
		}
		return 0
	}))
}

func (c *counted) set(count func() int) {
	if count == nil {
		c.count.Store(nil)
		return
	}
	c.count.Store(&count)
}

// tolerate registers a collector that may already be registered.
func (f factory) tolerate(c prometheus.Collector) {
	err := f.reg.Register(c)
	if already := (prometheus.AlreadyRegisteredError{}); err != nil && !errors.As(err, &already) {
		panic(err)
	}
}

// durations describes a histogram of seconds, classic and native.
func durations(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name:    name,
		Help:    help,
		Buckets: durationBuckets,
		// Each native bucket is at most a tenth wider than the previous one, and there
		// are at most 160: clients with attempts of all durations cost resolution, not
		// memory.
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// durationBuckets are the upper bounds in seconds. A commit to a good disk takes some
// tenths of a millisecond; a minute is the longest wait of a client.
var durationBuckets = []float64{
	0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
}

// at returns a pointer to the element for the enum value e, or nil if e is outside the
// set.
func at[E ~uint8, T any](all []T, e E) *T {
	if int(e) >= len(all) {
		return nil
	}
	return &all[e]
}
