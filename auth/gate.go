package auth

import (
	"slices"
	"sync"
)

// gates are the queues before accounts whose slots are all taken: attempts
// wait there, first come first served, instead of being refused, so that a mail
// program opening twenty connections with the right password gets twenty
// logins. Only the attempt at the head asks the store for a slot.
type gates [maxShards]struct {
	mu     sync.Mutex
	queues map[Name][]*waiter
}

// maxWaiting bounds the queue of one account.
const maxWaiting = 512

// waiter is one attempt before the gate of its account.
type waiter struct {
	name Name
	// wake has room for one signal: "look again".
	wake chan struct{}
}

// enter joins the queue of name; false when it is too long.
func (all *gates) enter(name Name) (*waiter, bool) {
	g := &all[shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queues[name]) >= maxWaiting {
		return nil, false
	}
	if g.queues == nil {
		g.queues = make(map[Name][]*waiter)
	}
	w := &waiter{name, make(chan struct{}, 1)}
	g.queues[name] = append(g.queues[name], w)
	return w, true
}

// leave takes w out of its queue and lets the next one look.
func (all *gates) leave(w *waiter) {
	g := &all[shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := g.queues[w.name]
	if i := slices.Index(queue, w); i >= 0 {
		queue = slices.Delete(queue, i, i+1)
	}
	if len(queue) == 0 {
		delete(g.queues, w.name)
		return
	}
	g.queues[w.name] = queue
	queue[0].signal()
}

// first reports whether w is at the head of its queue.
func (all *gates) first(w *waiter) bool {
	g := &all[shard(w.name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	queue := g.queues[w.name]
	return len(queue) > 0 && queue[0] == w
}

// wake lets the head of the queue look: a slot may be free.
func (all *gates) wake(name Name) {
	g := &all[shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	if queue := g.queues[name]; len(queue) > 0 {
		queue[0].signal()
	}
}

// wakeAll lets everybody look: the password may have become known good, or the
// account locked or unlocked.
func (all *gates) wakeAll(name Name) {
	g := &all[shard(name, len(all))]
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.queues[name] {
		w.signal()
	}
}

// waiting counts the attempts in all queues.
func (all *gates) waiting() (n int) {
	for i := range all {
		g := &all[i]
		g.mu.Lock()
		for _, queue := range g.queues {
			n += len(queue)
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
