package auth

import (
	"container/list"
	"sync"
)

// lru is a map that forgets the least recently used entry when it is full. It
// admits everything: a cache that filters what it admits would let an attacker
// keep a newcomer's failures out. The zero lru holds nothing; set max first.
type lru[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	entries map[K]*list.Element
	order   list.List // front: most recently used; of lruEntry[K, V]
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

// get returns the value of key and makes it the most recently used.
func (l *lru[K, V]) get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*lruEntry[K, V]).value, true
	}
	return value, false
}

// update replaces the value of key by f of the present one (the zero value
// when there is none), under the lock, and returns it.
func (l *lru[K, V]) update(key K, f func(V) V) V {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		entry := e.Value.(*lruEntry[K, V])
		entry.value = f(entry.value)
		return entry.value
	}
	if l.entries == nil {
		l.entries = make(map[K]*list.Element)
	}
	var zero V
	entry := &lruEntry[K, V]{key, f(zero)}
	l.entries[key] = l.order.PushFront(entry)
	for len(l.entries) > max(l.max, 1) {
		oldest := l.order.Back()
		delete(l.entries, oldest.Value.(*lruEntry[K, V]).key)
		l.order.Remove(oldest)
	}
	return entry.value
}

// put sets the value of key.
func (l *lru[K, V]) put(key K, value V) { l.update(key, func(V) V { return value }) }

// remove forgets key.
func (l *lru[K, V]) remove(key K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}
