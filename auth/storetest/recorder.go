package storetest

import (
	"sync"
	"time"

	"congthu/auth"
)

// Recorder is a recorder of a store that remembers what the store reports. The zero
// value is ready.
type Recorder struct {
	mu      sync.Mutex
	ops     map[auth.StoreOp]int
	errs    map[auth.StoreOp]int
	batches []int
	deepest int
	lost    int
}

// ObserveStoreOp implements the recorder of each store.
func (r *Recorder) ObserveStoreOp(op auth.StoreOp, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ops == nil {
		r.ops, r.errs = make(map[auth.StoreOp]int), make(map[auth.StoreOp]int)
	}
	r.ops[op]++
	if err != nil {
		r.errs[op]++
	}
}

// Committed implements the recorder of each store.
func (r *Recorder) Committed(batch int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, batch)
}

// Queued implements the recorder of each store.
func (r *Recorder) Queued(depth int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deepest = max(r.deepest, depth)
}

// SlotsLost implements the recorder of a store that can lose slots.
func (r *Recorder) SlotsLost(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost += n
}

// Commits is the number of changes that were written, and of their transactions.
func (r *Recorder) Commits() (changes, transactions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, batch := range r.batches {
		changes += batch
	}
	return changes, len(r.batches)
}

// Lost is the number of slots that were lost.
func (r *Recorder) Lost() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Forget forgets everything but lost slots.
func (r *Recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops, r.errs, r.batches, r.deepest = nil, nil, nil, 0
}
