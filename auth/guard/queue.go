package guard

import (
	"slices"
	"sync"

	"congthu/auth"
	"congthu/auth/internal/lru"
)

// waitQueues are the queues of accounts whose slots are all taken. Attempts wait there,
// first come first served, instead of being refused (I2), so that a mail program that
// opens 20 connections with the right password gets 20 logins. Only the attempt at the
// head asks the store for a slot.
//
// An attempt that may use only some of the slots moves to a second queue, so that it does
// not delay those that may use all slots. The heads of both queues ask the store.
type waitQueues [lru.MaxShards]struct {
	mu     sync.Mutex
	queues map[auth.Name]*queue
}

// queue is the two queues of one account: those that wait for any slot, and those aside.
type queue [2][]*waiter

// maxWaiting is the largest length of each queue.
const maxWaiting = 512

// waiter is one attempt in a queue of its account.
type waiter struct {
	name  auth.Name
	aside int // index of its queue: 0 for any slot, 1 aside
	// wake has room for one signal: "check again".
	wake chan struct{}
}

// enter joins the queue of name; false when the queue is full.
func (all *waitQueues) enter(name auth.Name) (*waiter, bool) {
	g := &all[lru.Shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[name]
	if q == nil {
		if g.queues == nil {
			g.queues = make(map[auth.Name]*queue)
		}
		q = new(queue)
		g.queues[name] = q
	}
	w := &waiter{name: name, wake: make(chan struct{}, 1)}
	return w, q.join(w)
}

// join adds w to its queue; false when the queue is full.
func (q *queue) join(w *waiter) bool {
	if len(q[w.aside]) >= maxWaiting {
		return false
	}
	q[w.aside] = append(q[w.aside], w)
	return true
}

// stepAside moves w to the end of the second queue, if it is not there yet, and wakes
// the next one of the first; false when the second queue is full.
func (all *waitQueues) stepAside(w *waiter) bool {
	g := &all[lru.Shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if w.aside == 1 {
		return true
	}
	q := g.queues[w.name]
	q.remove(w)
	w.aside = 1
	return q.join(w)
}

// leave removes w from its queue and wakes the next one.
func (all *waitQueues) leave(w *waiter) {
	g := &all[lru.Shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[w.name]
	if q == nil {
		return // the second queue was full for w, and all others have left meanwhile
	}
	q.remove(w)
	q.wake()
	if len(q[0])+len(q[1]) == 0 {
		delete(g.queues, w.name)
	}
}

// remove removes w, if it is in its queue.
func (q *queue) remove(w *waiter) {
	if i := slices.Index(q[w.aside], w); i >= 0 {
		q[w.aside] = slices.Delete(q[w.aside], i, i+1)
	}
	if len(q[w.aside]) > 0 {
		q[w.aside][0].signal()
	}
}

// wake wakes the heads of both queues.
func (q *queue) wake() {
	for _, waiting := range q {
		if len(waiting) > 0 {
			waiting[0].signal()
		}
	}
}

// first reports whether w is at the head of its queue.
func (all *waitQueues) first(w *waiter) bool {
	g := &all[lru.Shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting := g.queues[w.name][w.aside]
	return len(waiting) > 0 && waiting[0] == w
}

// wake wakes the heads of the queues of name: a slot may be free.
func (all *waitQueues) wake(name auth.Name) {
	g := &all[lru.Shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.queues[name]; q != nil {
		q.wake()
	}
}

// wakeAll wakes all attempts of name: the password may have become known good, or the
// account locked or unlocked.
func (all *waitQueues) wakeAll(name auth.Name) {
	g := &all[lru.Shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.queues[name]; q != nil {
		for _, w := range slices.Concat(q[0], q[1]) {
			w.signal()
		}
	}
}

// waiting counts the attempts in all queues.
func (all *waitQueues) waiting() (n int) {
	for i := range all {
		g := &all[i]
		g.mu.Lock()
		for _, q := range g.queues {
			n += len(q[0]) + len(q[1])
		}
		g.mu.Unlock()
	}
	return n
}

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
