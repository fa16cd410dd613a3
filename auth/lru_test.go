package auth

import (
	"fmt"
	"slices"
	"testing"
)

func TestShardsTogetherHoldNoMoreThanTheyMay(t *testing.T) {
	for _, most := range []int{1, 2, 31, 32, 33, 64, 1000} {
		s := newShards[Name, int](most)
		for i := range 20 * most {
			s.put(Name(fmt.Sprintf("n%d@congthu.test", i)), i)
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

// Within one shard it is the least recently used that goes, as in a map that has
// no shards.
func TestAShardForgetsTheLeastRecentlyUsed(t *testing.T) {
	s := newShards[Name, int](2 * maxShards)
	var names []Name // of one shard
	for i := 0; len(names) < 3; i++ {
		if name := Name(fmt.Sprintf("n%d@congthu.test", i)); s.of(name) == &s[7] {
			names = append(names, name)
		}
	}
	for use, touch := range map[string]func(Name){
		"get":    func(n Name) { s.get(n) },
		"alter":  func(n Name) { s.alter(n, func(*int) {}) },
		"update": func(n Name) { s.update(n, func(v int) int { return v }) },
	} {
		for _, n := range names {
			s.remove(n)
		}
		s.put(names[0], 10)
		s.put(names[1], 11)
		touch(names[0])
		s.put(names[2], 12)
		var held []int
		for _, n := range names {
			if v, ok := s.get(n); ok {
				held = append(held, v)
			}
		}
		if !slices.Equal(held, []int{10, 12}) {
			t.Errorf("after %s of the first, a third and its room for two: %v are held", use, held)
		}
	}
}

func TestOnlyWhatIsHeldIsAltered(t *testing.T) {
	s := newShards[Name, int](8)
	s.alter("an@congthu.test", func(*int) { t.Error("there was nothing to alter") })
	s.put("an@congthu.test", 1)
	s.alter("an@congthu.test", func(v *int) { *v++ })
	if v, ok := s.get("an@congthu.test"); !ok || v != 2 {
		t.Errorf("%d, %v; want 2", v, ok)
	}
}

// A digest must be the same whatever was digested before it, and tell where the
// name ends.
func TestADigestDependsOnNothingButTheNameAndThePassword(t *testing.T) {
	var g Guard
	g.init()
	first := g.digest("an@congthu.test", NewSecret("mật khẩu"))
	others := []digest{
		g.digest("an@congthu.tes", NewSecret("tmật khẩu")), g.digest("an@congthu.test", NewSecret("mật khẩu ")),
		g.digest("an@congthu.test", NewSecret("")), g.digest("", NewSecret("an@congthu.testmật khẩu")),
	}
	if slices.Contains(others, first) {
		t.Error("two passwords have one digest")
	}
	if again := g.digest("an@congthu.test", NewSecret("mật khẩu")); again != first {
		t.Error("the same password has another digest than before")
	}
	var other Guard
	other.init()
	if other.digest("an@congthu.test", NewSecret("mật khẩu")) == first {
		t.Error("two guards have one key")
	}
}
