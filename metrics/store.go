package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
)

// storeResult is the result of an operation of the store.
type storeResult uint8

const (
	storeOK        storeResult = iota
	storeNoSlot                // all slots of the account are taken: not a fault of the store
	storeFull                  // no room for another unknown name
	storeCancelled             // the caller stopped waiting
	storeFailed                // the store is unavailable

	numStoreResults
)

var storeResultNames = [numStoreResults]string{"ok", "no_slot", "full", "cancelled", "failed"}

func storeResultOf(err error) storeResult {
	switch {
	case err == nil:
		return storeOK
	case errors.Is(err, auth.ErrNoSlot):
		return storeNoSlot
	case errors.Is(err, auth.ErrFull):
		return storeFull
	case errors.Is(err, context.Canceled):
		return storeCancelled
	}
	return storeFailed
}

// storage are the metrics of the store.
type storage struct {
	ops    []storeSeries // by auth.StoreOp
	queue  prometheus.Gauge
	batch  prometheus.Observer
	commit prometheus.Observer
	lost   prometheus.Counter
}

type storeSeries struct {
	results [numStoreResults]prometheus.Counter
	took    prometheus.Observer
}

func (s *storage) register(f factory) {
	operations := f.counters("congthu_store_operations_total",
		"Operations of the store, by result. failed means that logins are answered 'try again later': "+
			"look at the disk and the log. no_slot only means that an attempt has to wait.",
		"operation", "result")
	took := f.durations("congthu_store_operation_duration_seconds",
		"Seconds that one operation of the store took, waiting for its turn included. High: look at congthu_store_commit_duration_seconds, "+
			"then at the disk or the database.", "operation")
	s.ops = make([]storeSeries, len(auth.StoreOps()))
	for _, op := range auth.StoreOps() {
		for r, name := range storeResultNames {
			s.ops[op].results[r] = operations.WithLabelValues(op.String(), name)
		}
		s.ops[op].took = took.WithLabelValues(op.String())
	}
	s.queue = f.gauge("congthu_store_queue_depth",
		"Changes that wait to be written to disk. Lasting growth means that the disk cannot keep up.")
	batch := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "congthu_store_batch_size",
		Help:    "Changes that one transaction wrote together. Near 64 all the time means that the disk cannot keep up; an import writes 100 at once.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 8), // 1 to 128

		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  64,
		NativeHistogramMinResetDuration: time.Hour,
	})
	f.reg.MustRegister(batch)
	s.batch = batch
	s.lost = f.counter("congthu_store_lost_slots_total",
		"Slots of attempts that were gone from PostgreSQL before their answers were written; the answers were counted all the same. "+
			"More than 0: it has lost what it had confirmed, as when an asynchronous standby takes over, or somebody deletes from reservations.")
	s.commit = f.duration("congthu_store_commit_duration_seconds",
		"Seconds to write one transaction and to see it safe on disk (fsync). More than 0.1 all the time: the disk is too slow, or shared.")
}

// ObserveStoreOp counts one operation of the store with its result.
func (m *Metrics) ObserveStoreOp(op auth.StoreOp, took time.Duration, err error) {
	if s := at(m.store.ops, op); s != nil {
		s.results[storeResultOf(err)].Inc()
		s.took.Observe(took.Seconds())
	}
}

// Committed counts one transaction that wrote batch changes.
func (m *Metrics) Committed(batch int, took time.Duration) {
	m.store.batch.Observe(float64(batch))
	m.store.commit.Observe(took.Seconds())
}

// SlotsLost counts slots that the database has lost.
func (m *Metrics) SlotsLost(n int) { m.store.lost.Add(float64(n)) }

// Queued sets how many changes wait to be written.
func (m *Metrics) Queued(depth int) { m.store.queue.Set(float64(depth)) }
