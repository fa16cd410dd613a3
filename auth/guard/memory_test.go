package guard

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"congthu/auth"
)

// remembered says which memories of a name are not empty, by the fields of memory.
func (m *memory) remembered(name auth.Name, d auth.Digest) map[string]bool {
	known, _ := m.known.Get(name)
	recent, _ := m.recent.Get(name)
	_, entered := m.entries.Get(d)
	_, forgiven := m.forgiven.Get(name)
	_, origin := m.origins.Get(name)
	_, alerted := m.alerted.Get(d)
	return map[string]bool{
		"known": len(known.accepted) > 0, "known, wrong": known.misses > 0 || len(known.unjudged) > 0,
		"recent, refused": len(recent.refused) > 0, "recent, unanswered": !recent.unanswered.IsZero(), "recent, tried": len(recent.tried) > 0,
		"entries": entered, "forgiven": forgiven, "origins": origin, "alerted": alerted,
	}
}

// filled returns a memory with an entry of a name in every field, from an instant.
func filled(name auth.Name, d auth.Digest, at time.Time) *memory {
	m := new(memory)
	m.make(0)
	m.fill(name, d, at)
	return m
}

func (m *memory) fill(name auth.Name, d auth.Digest, at time.Time) {
	source := netip.MustParseAddrPort("203.0.113.7:40000")
	m.known.Put(name, knownGood{accepted: []goodPassword{{digest: d}}, misses: 2, missed: at, unjudged: []auth.Digest{d}})
	m.recent.Put(name, recent{
		refused: refusals{{At: at, Source: source}}, unanswered: Refusal{At: at, Source: source},
		tried: []triedPassword{{Tried: Tried{Last: at}, digest: d}},
	})
	m.entries.Put(d, entry{first: at})
	m.forgiven.Put(name, at)
	m.origins.Put(name, auth.Origin{At: at})
	m.alerted.Put(d, "2026-03-31")
}

// The comment on memory says which function ends which memory. A field that is added to
// memory must be added there and here.
func TestWhichMemoriesEachFunctionEnds(t *testing.T) {
	const name = auth.Name("lan@example.vn")
	noon := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	d := auth.Digest{1}
	for f := range reflect.TypeFor[memory]().Fields() {
		switch f.Name {
		case "known", "voided", "recent", "entries", "forgiven", "origins", "alerted":
		default:
			t.Errorf("what ends %s?", f.Name)
		}
	}
	for _, c := range []struct {
		what string
		end  func(*memory)
		want []string // memories that are ended
	}{
		{"a lock", func(m *memory) { m.void(name) }, []string{"known", "known, wrong"}},
		{"an unlock", func(m *memory) {
			if refused := m.forget(name, noon); len(refused) != 1 || refused[0].String() != "203.0.113.7/32" {
				t.Errorf("refused from %v", refused)
			}
		}, []string{"known, wrong", "recent, refused", "recent, unanswered", "recent, tried"}},
		{"an unlock from before", func(m *memory) { m.forget(name, noon.Add(-time.Second)) }, nil},
		{"a lock of another", func(m *memory) { m.void("an@example.vn") }, nil},
		{"an unlock of another", func(m *memory) { m.forget("an@example.vn", noon) }, nil},
	} {
		m := filled(name, d, noon)
		want := m.remembered(name, d)
		for memory, there := range want {
			if !there {
				t.Fatalf("nothing in %s", memory)
			}
		}
		for _, ended := range c.want {
			want[ended] = false
		}
		c.end(m)
		if got := m.remembered(name, d); !reflect.DeepEqual(got, want) {
			t.Errorf("%s leaves %v, want %v", c.what, got, want)
		}
	}
}

// An unlock leaves no empty entry, which would take the room of another name.
func TestForgettingFreesTheRoom(t *testing.T) {
	noon := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	m := filled("lan@example.vn", auth.Digest{1}, noon)
	m.forget("lan@example.vn", noon)
	if r, there := m.recent.Get("lan@example.vn"); there {
		t.Errorf("%+v is left", r)
	}
}

// Attempts on many names, which any client can make, displace only entries of the same
// kind.
func TestGuessersFillOnlyTheirOwnRoom(t *testing.T) {
	const name = auth.Name("lan@example.vn")
	noon := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	g := &Guard{Now: func() time.Time { return noon }}
	g.init()
	d := auth.Digest{1}
	g.fill(name, d, noon)
	source := netip.MustParseAddrPort("198.51.100.9:40001")
	for i := range 4 * maxRecent {
		guess := auth.Attempt{Source: source, Password: auth.NewSecret("guess")}
		for _, o := range auth.Outcomes() {
			if o != auth.Accepted {
				g.noteLately(guess, auth.Verdict{Outcome: o, Name: auth.Name(fmt.Sprint("user", i)), Known: true})
			}
		}
	}
	for memory, there := range g.remembered(name, d) {
		if own := memory == "recent, refused" || memory == "recent, unanswered" || memory == "recent, tried"; there == own {
			t.Errorf("%s: remembered: %v", memory, there)
		}
	}
}

// A login that read the account before its memory was made void stores nothing.
func TestAVoidLoginIsNotRemembered(t *testing.T) {
	m := new(memory)
	m.make(0)
	accept := func(k knownGood) knownGood {
		k.misses++
		return k
	}
	before := m.generation("lan@example.vn")
	m.void("lan@example.vn")
	if _, remembered := m.remember("lan@example.vn", before, accept); remembered {
		t.Error("remembered")
	}
	if _, there := m.known.Get("lan@example.vn"); there {
		t.Error("written down")
	}
	if k, remembered := m.remember("lan@example.vn", m.generation("lan@example.vn"), accept); !remembered || k.misses != 1 {
		t.Errorf("%v, %+v: what came after it is not remembered", remembered, k)
	}
}
