package auth

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens to a source, in whatever order and by whatever clock, the sums
// that decide are those of its accounts. Rules that change while attempts are
// under way are among it.
func TestTheTallyOfASourceIsTheSumOverItsAccounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		throttle := &Throttle{Accounts: rapid.IntRange(1, 4).Draw(t, "accounts"), Failures: rapid.IntRange(1, 12).Draw(t, "failures"), Locks: rapid.IntRange(1, 3).Draw(t, "locks")}
		source := netip.MustParsePrefix("203.0.113.7/32")
		now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
		var underWay []throttled
		tolerated := 5
		some := func(t *rapid.T) throttled {
			return throttled{
				source: source, name: Name(fmt.Sprint("n", rapid.IntRange(0, 5).Draw(t, "name"))), tolerated: tolerated,
				proven: rapid.IntRange(0, 3).Draw(t, "proven") == 0, looked: rapid.Bool().Draw(t, "looked"),
			}
		}
		how := rapid.SampledFrom([]ending{endedWell, endedInDoubt, endedWrong, endedWrong})
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				a := some(t)
				if p, _ := throttle.begin(a, now); p == passes {
					underWay = append(underWay, a)
				}
			},
			"end": func(t *rapid.T) {
				if len(underWay) == 0 {
					t.Skip("nothing is under way")
				}
				i := rapid.IntRange(0, len(underWay)-1).Draw(t, "attempt")
				a := underWay[i]
				underWay = append(underWay[:i], underWay[i+1:]...)
				throttle.end(a, how.Draw(t, "how"), now)
			},
			"fail":    func(t *rapid.T) { throttle.failed(some(t), how.Draw(t, "how"), now) },
			"succeed": func(t *rapid.T) { throttle.succeeded(some(t), now) },
			"forgive": func(t *rapid.T) { throttle.forgive(some(t), now) },
			"forget":  func(*rapid.T) { throttle.forget(source, now) },
			"forgiven": func(t *rapid.T) {
				a := some(t)
				throttle.forgiven(a, throttle.remembered(a, now), rapid.IntRange(0, 3).Draw(t, "left"), now)
			},
			"the clock": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-600, 3600).Draw(t, "s")) * time.Second)
			},
			"a day":     func(*rapid.T) { now = now.Add(sourceMemory) },
			"the rules": func(t *rapid.T) { tolerated = rapid.IntRange(1, 10).Draw(t, "tolerated") },
			"": func(t *rapid.T) {
				for i := range throttle.shards {
					h, ok := throttle.shards[i].get(source)
					if !ok {
						continue
					}
					want := h.sum()
					if h.sourceTally != want {
						t.Fatalf("the tally is %+v, the accounts make %+v", h.sourceTally, want)
					}
					n := 0
					for _, s := range h.accounts {
						n += s.underWay
					}
					if n != len(underWay) {
						t.Fatalf("%d attempts are under way, %d are counted", len(underWay), n)
					}
				}
			},
		})
	})
}

// sum counts as the comment on each of the sums says.
func (h *sourceHistory) sum() (t sourceTally) {
	for _, s := range h.accounts {
		if !s.right.IsZero() {
			t.succeeded++
		}
		if !s.proven {
			if s.recent > 0 {
				t.failing++
				t.failures += s.recent
			} else if s.underWay > 0 {
				t.trying++
			}
			t.underWay += s.underWay
		}
		if s.granted {
			t.granted++
		}
		if s.near {
			t.near++
		}
	}
	return t
}

// A clock that was a year ahead for a moment must not keep a source out, or let it
// off, for that year.
func TestAClockThatWasAheadKeepsNoSourceOut(t *testing.T) {
	throttle := new(Throttle)
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	from := netip.MustParsePrefix("203.0.113.7/32")
	stranger := func(i int) throttled {
		return throttled{source: from, name: Name(fmt.Sprint("n", i)), tolerated: 5, looked: true}
	}
	for i := range 10 {
		throttle.failed(stranger(i), endedWrong, now.AddDate(1, 0, 0))
	}
	if p, _ := throttle.begin(stranger(10), now); p != refused {
		t.Fatalf("passage %v, want refused", p)
	}
	if p, _ := throttle.begin(stranger(10), now.Add(11*time.Minute)); p != passes {
		t.Errorf("passage %v, want that it passes after the window", p)
	}
}
