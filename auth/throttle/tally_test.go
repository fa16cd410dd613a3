package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
)

// With any steps in any order, and with any clock, the sums that decide are those of the
// accounts of a source. Rules that change while attempts are in progress are included.
func TestTheTallyOfASourceIsTheSumOverItsAccounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		throttle := &Throttle{Accounts: rapid.IntRange(1, 4).Draw(t, "accounts"), Failures: rapid.IntRange(1, 12).Draw(t, "failures"), Locks: rapid.IntRange(1, 3).Draw(t, "locks")}
		sources := []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("203.0.113.8/32"), netip.MustParsePrefix("2001:db8:1:2::/64")}
		now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
		var underWay []Attempt
		tolerated := 5
		some := func(t *rapid.T) Attempt {
			return Attempt{
				Source: rapid.SampledFrom(sources).Draw(t, "source"), Name: auth.Name(fmt.Sprint("n", rapid.IntRange(0, 5).Draw(t, "name"))), Tolerated: tolerated,
				Seen: rapid.SampledFrom([]int{0, 0, 0, 0, 24, 32, 40, 64}).Draw(t, "seen"), Looked: rapid.Bool().Draw(t, "looked"),
			}
		}
		how := rapid.SampledFrom([]Ending{EndedWell, EndedInDoubt, EndedPrevious, EndedWrong, EndedWrong})
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				a := some(t)
				if p := throttle.Begin(a, now); p.Passage == Passes {
					a.Allowed = p.Allowed
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
				throttle.End(a, how.Draw(t, "how"), now)
			},
			"fail":    func(t *rapid.T) { throttle.Failed(some(t), how.Draw(t, "how"), now) },
			"succeed": func(t *rapid.T) { throttle.Succeeded(some(t), now) },
			"forgive everywhere": func(t *rapid.T) {
				a := some(t)
				throttle.forgiveAccount(a.Name, now, a.Source)
			},
			"allow": func(t *rapid.T) {
				throttle.Allow(some(t).Source, now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "s"))*time.Second))
			},
			"forgiven": func(t *rapid.T) {
				a := some(t)
				throttle.Forgiven(a, throttle.Remembered(a, now), rapid.IntRange(0, 3).Draw(t, "left"), now)
			},
			"the clock": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-600, 3600).Draw(t, "s")) * time.Second)
			},
			"a day":     func(*rapid.T) { now = now.Add(sourceMemory) },
			"the rules": func(t *rapid.T) { tolerated = rapid.IntRange(1, 10).Draw(t, "tolerated") },
			"": func(t *rapid.T) {
				for size := range throttle.histories {
					throttle.histories[size].Each(func(l netip.Prefix, h *sourceHistory) {
						if want := h.sum(); h.sourceTally != want {
							t.Fatalf("the tally of %v is %+v, the accounts make %+v", l, h.sourceTally, want)
						}
						n := 0
						for _, s := range h.accounts {
							n += s.underWay
							if s.spent && (!s.granted || s.failed.IsZero()) {
								t.Fatalf("%v has spent a grant that it does not hold: %+v", l, *s)
							}
						}
						want := 0
						for _, a := range underWay {
							levels, n := a.levels()
							for _, at := range levels[:n] {
								if at.prefix == l {
									want++
								}
							}
						}
						if n != want {
							t.Fatalf("%d attempts are under way at %v, %d are counted", want, l, n)
						}
					})
				}
			},
		})
	})
}

// sum computes each sum as its comment says.
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
		if s.spent {
			t.spending++
		}
	}
	return t
}

// A clock that was a year ahead for a moment must neither keep a source out nor exempt
// it for that year.
func TestAClockThatWasAheadKeepsNoSourceOut(t *testing.T) {
	throttle := new(Throttle)
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	from := netip.MustParsePrefix("203.0.113.7/32")
	stranger := func(i int) Attempt {
		return Attempt{Source: from, Name: auth.Name(fmt.Sprint("n", i)), Tolerated: 5, Looked: true}
	}
	for i := range 10 {
		throttle.Failed(stranger(i), EndedWrong, auth.AddMonths(now, 12))
	}
	if p := throttle.Begin(stranger(10), now); p.Passage != Refused {
		t.Fatalf("passage %v, want refused", p.Passage)
	}
	if p := throttle.Begin(stranger(10), now.Add(11*time.Minute)); p.Passage != Passes {
		t.Errorf("passage %v, want that it passes after the window", p.Passage)
	}
}
