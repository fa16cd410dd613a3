package lru

import (
	"fmt"
	"slices"
	"testing"

	"congthu/auth"
)

func TestShardsTogetherHoldNoMoreThanTheyMay(t *testing.T) {
	for _, most := range []int{1, 2, 31, 32, 33, 64, 1000} {
		s := New[auth.Name, int](most)
		for i := range 20 * most {
			s.Put(auth.Name(fmt.Sprintf("n%d@congthu.test", i)), i)
		}
		held := 0
		for i := range s {
			held += s[i].len()
		}
		if held > most || held < most/2 {
			t.Errorf("room for %d: %d are held", most, held)
		}
	}
}

// Within one part the least recently used entry is removed, as in a map that is not
// split.
func TestAShardForgetsTheLeastRecentlyUsed(t *testing.T) {
	s := New[auth.Name, int](2 * MaxShards)
	var names []auth.Name // of one shard
	for i := 0; len(names) < 3; i++ {
		if name := auth.Name(fmt.Sprintf("n%d@congthu.test", i)); s.of(name) == &s[7] {
			names = append(names, name)
		}
	}
	for use, touch := range map[string]func(auth.Name){
		"get":    func(n auth.Name) { s.Get(n) },
		"alter":  func(n auth.Name) { s.Alter(n, func(*int) {}) },
		"update": func(n auth.Name) { s.Update(n, func(v int) int { return v }) },
	} {
		for _, n := range names {
			s.Remove(n)
		}
		s.Put(names[0], 10)
		s.Put(names[1], 11)
		touch(names[0])
		s.Put(names[2], 12)
		var held []int
		for _, n := range names {
			if v, ok := s.Get(n); ok {
				held = append(held, v)
			}
		}
		if !slices.Equal(held, []int{10, 12}) {
			t.Errorf("after %s of the first, a third and its room for two: %v are held", use, held)
		}
	}
}

func TestOnlyExistingEntriesAreAltered(t *testing.T) {
	s := New[auth.Name, int](8)
	s.Alter("an@congthu.test", func(*int) { t.Error("there was nothing to alter") })
	s.Put("an@congthu.test", 1)
	s.Alter("an@congthu.test", func(v *int) { *v++ })
	if v, ok := s.Get("an@congthu.test"); !ok || v != 2 {
		t.Errorf("%d, %v; want 2", v, ok)
	}
}

// len returns how many entries there are.
func (l *part[K, V]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}
