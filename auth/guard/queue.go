package guard

import (
	"slices"
	"sync"

	"congthu/auth"
	"congthu/auth/internal/lru"
)

// gates are the queues before accounts whose slots are all taken: attempts
// wait there, first come first served, instead of being refused, so that a mail
// program opening twenty connections with the right password gets twenty
// logins. Only the attempt at the head asks the store for a slot.
//
// Who may use only some of the slots steps aside into a second queue: what keeps
// it waiting does not keep those who may use all. The heads of both ask.
type gates [lru.MaxShards]struct {
	mu     sync.Mutex
	queues map[auth.Name]*queue
}

// queue is those who wait before one account: for any slot, and aside.
type queue [2][]*waiter

// maxWaiting bounds each of the queues of one account.
const maxWaiting = 512

// waiter is one attempt before the gate of its account.
type waiter struct {
	name  auth.Name
	aside int // which queue of its account it is in: 1 aside
	// wake has room for one signal: "look again".
	wake chan struct{}
}

// enter joins the queue of name; false when it is too long.
func (all *gates) enter(name auth.Name) (*waiter, bool) {
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

// join adds w to its queue; false when that is too long.
func (q *queue) join(w *waiter) bool {
	if len(q[w.aside]) >= maxWaiting {
		return false
	}
	q[w.aside] = append(q[w.aside], w)
	return true
}

// stepAside moves w to the end of the second queue, if it is not there, and lets
// the next one of the first look; false when the second is too long.
func (all *gates) stepAside(w *waiter) bool {
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

// leave takes w out of its queue and lets the next one look.
func (all *gates) leave(w *waiter) {
	g := &all[lru.Shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[w.name]
	if q == nil {
		return // it could not step aside, and all others have left meanwhile
	}
	q.remove(w)
	q.wake()
	if len(q[0])+len(q[1]) == 0 {
		delete(g.queues, w.name)
	}
}

// remove takes w out, if it is there.
func (q *queue) remove(w *waiter) {
	if i := slices.Index(q[w.aside], w); i >= 0 {
		q[w.aside] = slices.Delete(q[w.aside], i, i+1)
	}
	if len(q[w.aside]) > 0 {
		q[w.aside][0].signal()
	}
}

// wake lets the heads look.
func (q *queue) wake() {
	for _, waiting := range q {
		if len(waiting) > 0 {
			waiting[0].signal()
		}
	}
}

// first reports whether w is at the head of its queue.
func (all *gates) first(w *waiter) bool {
	g := &all[lru.Shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting := g.queues[w.name][w.aside]
	return len(waiting) > 0 && waiting[0] == w
}

// wake lets the heads of the queues look: a slot may be free.
func (all *gates) wake(name auth.Name) {
	g := &all[lru.Shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.queues[name]; q != nil {
		q.wake()
	}
}

// wakeAll lets everybody look: the password may have become known good, or the
// account locked or unlocked.
func (all *gates) wakeAll(name auth.Name) {
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
func (all *gates) waiting() (n int) {
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
