package lru

import (
	"container/list"
	"hash/maphash"
	"sync"
)

// Map is split by a hash of the key into parts with a lock each, to avoid contention on
// one lock. Together they never hold more than the n of [New]. A new entry displaces the
// least recently used one of its part, not of all. The nil Map is not usable: make one
// with New.
type Map[K comparable, V any] []part[K, V]

// MaxShards is the number of parts of a Map, unless it holds fewer entries.
const MaxShards = 32

// shardSeed is different in each process, so that no client can choose names of one part.
var shardSeed = maphash.MakeSeed()

// New returns a Map for at most n entries, and at least one.
func New[K comparable, V any](n int) Map[K, V] {
	n = max(n, 1)
	s := make(Map[K, V], min(n, MaxShards))
	for i := range s {
		s[i].max = n / len(s)
	}
	return s
}

// of returns the part of a key.
func (s Map[K, V]) of(key K) *part[K, V] { return &s[Shard(key, len(s))] }

// Shard returns the number of the part, of n, to which a key belongs.
func Shard[K comparable](key K, n int) int {
	return int(maphash.Comparable(shardSeed, key) % uint64(n))
}

// Get returns the value of key and makes it the most recently used.
func (s Map[K, V]) Get(key K) (V, bool) { return s.of(key).get(key) }

// Update replaces the value of key by f of the present one (the zero value if there is
// none), under the lock of its part, and returns it.
func (s Map[K, V]) Update(key K, f func(V) V) V { return s.of(key).update(key, f) }

// UpdateIf does so if ok returns true under the lock, and reports whether it did.
func (s Map[K, V]) UpdateIf(key K, ok func() bool, f func(V) V) (V, bool) {
	return s.of(key).updateIf(key, ok, f)
}

// Alter lets f alter the value of key in place, under the lock; it does nothing if there
// is none.
func (s Map[K, V]) Alter(key K, f func(*V)) { s.of(key).alter(key, f) }

// Put sets the value of key.
func (s Map[K, V]) Put(key K, value V) { s.of(key).put(key, value) }

// Remove removes key.
func (s Map[K, V]) Remove(key K) { s.of(key).remove(key) }

// RemoveIf removes key if f returns true for its value; f is called under the lock, and
// not called if there is none.
func (s Map[K, V]) RemoveIf(key K, f func(V) bool) {
	s.of(key).removeIf(key, f)
}

// part is a map that forgets the least recently used entry when it is full. It admits
// every entry: with a filter, an attacker could keep the failures of new names out. The
// zero part holds nothing; set max first.
type part[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	entries map[K]*list.Element
	order   list.List // of partEntry[K, V], the most recently used first
}

type partEntry[K comparable, V any] struct {
	key   K
	value V
}

// get returns the value of key and makes it the most recently used.
func (l *part[K, V]) get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		return e.Value.(*partEntry[K, V]).value, true
	}
	return value, false
}

// update replaces the value of key by f of the present one (the zero value if there is
// none), under the lock, and returns it.
func (l *part[K, V]) update(key K, f func(V) V) V {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set(key, f)
}

// updateIf does so if ok returns true under the lock, and reports whether it did.
func (l *part[K, V]) updateIf(key K, ok func() bool, f func(V) V) (value V, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ok() {
		return value, false
	}
	return l.set(key, f), true
}

// set is update; the caller holds the lock.
func (l *part[K, V]) set(key K, f func(V) V) V {
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		entry := e.Value.(*partEntry[K, V])
		entry.value = f(entry.value)
		return entry.value
	}
	if l.entries == nil {
		l.entries = make(map[K]*list.Element)
	}
	var zero V
	entry := &partEntry[K, V]{key, f(zero)}
	l.entries[key] = l.order.PushFront(entry)
	for len(l.entries) > max(l.max, 1) {
		oldest := l.order.Back()
		delete(l.entries, oldest.Value.(*partEntry[K, V]).key)
		l.order.Remove(oldest)
	}
	return entry.value
}

// alter lets f alter the value of key in place, under the lock; it does nothing if there
// is none.
func (l *part[K, V]) alter(key K, f func(*V)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok {
		l.order.MoveToFront(e)
		f(&e.Value.(*partEntry[K, V]).value)
	}
}

// put sets the value of key.
func (l *part[K, V]) put(key K, value V) { l.update(key, func(V) V { return value }) }

// remove removes key.
func (l *part[K, V]) remove(key K) { l.removeIf(key, func(V) bool { return true }) }

// removeIf removes key if f returns true for its value; f is called under the lock, and
// not called if there is none.
func (l *part[K, V]) removeIf(key K, f func(V) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.entries[key]; ok && f(e.Value.(*partEntry[K, V]).value) {
		l.order.Remove(e)
		delete(l.entries, key)
	}
}

// Each calls f for every entry, part by part under its lock. f must not use s.
func (s Map[K, V]) Each(f func(K, V)) {
	for i := range s {
		s[i].each(f)
	}
}

func (l *part[K, V]) each(f func(K, V)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.entries {
		f(key, e.Value.(*partEntry[K, V]).value)
	}
}
