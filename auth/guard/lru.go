package guard

import (
	"container/list"
	"hash/maphash"
	"sync"
)

// shards are lrus that share what is to be remembered by its key, so that no lock
// is everybody's. Each is a plain lru of its part of the room: together they never
// hold more than newShards was told, and what makes room is the least recently
// used of one part, not of all. No shards hold nothing; make them first.
type shards[K comparable, V any] []lru[K, V]

// maxShards is how many shards there are, unless there is less to hold.
const maxShards = 32

// shardSeed is the process's own: nobody can choose names of one shard.
var shardSeed = maphash.MakeSeed()

// newShards returns shards for at most n entries, and at least one.
func newShards[K comparable, V any](n int) shards[K, V] {
	n = max(n, 1)
	s := make(shards[K, V], min(n, maxShards))
	for i := range s {
		s[i].max = n / len(s)
	}
	return s
}

// of returns the shard of a key.
func (s shards[K, V]) of(key K) *lru[K, V] { return &s[shard(key, len(s))] }

// shard returns which of n shards a key belongs to.
func shard[K comparable](key K, n int) int {
	return int(maphash.Comparable(shardSeed, key) % uint64(n))
}

func (s shards[K, V]) get(key K) (V, bool)         { return s.of(key).get(key) }
func (s shards[K, V]) update(key K, f func(V) V) V { return s.of(key).update(key, f) }
func (s shards[K, V]) updateIf(key K, ok func() bool, f func(V) V) (V, bool) {
	return s.of(key).updateIf(key, ok, f)
}
func (s shards[K, V]) alter(key K, f func(*V)) { s.of(key).alter(key, f) }
func (s shards[K, V]) put(key K, value V)      { s.of(key).put(key, value) }
func (s shards[K, V]) remove(key K)            { s.of(key).remove(key) }
func (s shards[K, V]) removeIf(key K, f func(V) bool) {
	s.of(key).removeIf(key, f)
}

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
	return l.set(key, f)
}

// updateIf does so if ok, which is asked under the lock, and reports whether it has.
func (l *lru[K, V]) updateIf(key K, ok func() bool, f func(V) V) (value V, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok() {
		return value, false
	}
	return l.set(key, f), true
}

// set is update; the caller holds the lock.
func (l *lru[K, V]) set(key K, f func(V) V) V {
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

// alter lets f alter the value of key in place, under the lock; when there is none
// it does nothing.
func (l *lru[K, V]) alter(key K, f func(*V)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		f(&e.Value.(*lruEntry[K, V]).value)
	}
}

// put sets the value of key.
func (l *lru[K, V]) put(key K, value V) { l.update(key, func(V) V { return value }) }

// remove forgets key.
func (l *lru[K, V]) remove(key K) { l.removeIf(key, func(V) bool { return true }) }

// removeIf forgets key if f wants that of its value; f is called under the lock, and
// not when there is none.
func (l *lru[K, V]) removeIf(key K, f func(V) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok && f(e.Value.(*lruEntry[K, V]).value) {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

// each shows f every entry, shard by shard under its lock. f must not use s.
func (s shards[K, V]) each(f func(K, V)) {
	for i := range s {
		s[i].each(f)
	}
}

func (l *lru[K, V]) each(f func(K, V)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.entries {
		f(key, e.Value.(*lruEntry[K, V]).value)
	}
}
