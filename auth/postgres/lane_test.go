package postgres

import (
	"sync"
	"time"

	"congthu/auth"
)

// noted is a Recorder that remembers.
type noted struct {
	mu      sync.Mutex
	ops     map[auth.StoreOp]int
	errs    map[auth.StoreOp]int
	batches []int
	deepest int
}

func (n *noted) Operated(op auth.StoreOp, took time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ops == nil {
		n.ops, n.errs = make(map[auth.StoreOp]int), make(map[auth.StoreOp]int)
	}
	n.ops[op]++
	if err != nil {
		n.errs[op]++
	}
}

func (n *noted) Committed(batch int, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.batches = append(n.batches, batch)
}

func (n *noted) Queued(depth int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deepest = max(n.deepest, depth)
}

func (n *noted) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ops, n.errs, n.batches, n.deepest = nil, nil, nil, 0
}
