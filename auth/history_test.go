package auth_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
)

// history drives a guard with random parallel attempts, acts, outages and the
// passing of time, and knows what must hold after each step whatever happened.
type history struct {
	*bench
	guesses  int // all guesses are different
	verdicts int // wrong ones since the last reset
	doubts   int // answers in doubt since the last reset
	carried  int // settlements owed from before a reset that nobody learnt of
	told     int // "wrong password" replies since the last reset
}

// tries makes n parallel attempts with the given password, "" for guesses.
func (h *history) tries(n int, password string) (outcomes map[auth.Outcome]int) {
	outcomes = make(map[auth.Outcome]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		p := password
		if p == "" {
			h.guesses++
			p = fmt.Sprint("guess", h.guesses)
		}
		wg.Go(func() {
			v := h.try("lan", p)
			mu.Lock()
			defer mu.Unlock()
			outcomes[v.Outcome]++
		})
	}
	wg.Wait()
	return outcomes
}

// reset forgets what was before a login or an unlock. When the guard did not
// learn that it was one, what is owed from before still counts after; else only
// the one settlement that was being made at that moment may.
func (h *history) reset(learnt bool, owed int) {
	h.verdicts, h.doubts, h.told, h.carried = 0, 0, 0, min(owed, 1)
	if !learnt {
		h.carried = max(owed, h.guard.Owed())
	}
}

func TestEveryHistoryKeepsTheInvariants(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		rapid.Check(t, func(t *rapid.T) {
			h := &history{bench: newBench(b.t)}
			guard := h.guard
			guard.Patience = 2 * time.Second
			rules := auth.DefaultRules()
			rules.Dormancy.Mode, rules.Password.Mode = auth.Off, auth.Off
			h.setRules(rules)
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { guard.Run(ctx) })
			defer running.Wait()
			defer cancel()
			size := rapid.IntRange(1, 15)

			t.Repeat(map[string]func(*rapid.T){
				"guess": func(t *rapid.T) {
					locked := h.account().Lock.Cause != auth.NotLocked
					asked := h.server.asked
					outcomes := h.tries(size.Draw(t, "n"), "")
					if locked && h.server.asked != asked {
						t.Fatal("I5: the mail server was asked about a locked account")
					}
					switch {
					case h.server.answer == nil:
						h.verdicts += h.server.asked - asked
					case h.server.answer.Judgement == auth.InDoubt:
						h.doubts += h.server.asked - asked
					}
					h.told += outcomes[auth.WrongPassword]
					if outcomes[auth.Accepted] > 0 {
						t.Fatal("a guess was accepted")
					}
				},
				"log in": func(t *rapid.T) {
					n := size.Draw(t, "n")
					owed := guard.Owed()
					wasLocked := h.account().Lock.Cause != auth.NotLocked
					asked := h.server.asked
					outcomes := h.tries(n, good)
					if h.server.answer != nil && h.server.answer.Judgement == auth.InDoubt {
						h.doubts += h.server.asked - asked
					}
					switch {
					case wasLocked:
						if h.broken.Load() == nil && outcomes[auth.Locked] != n {
							t.Fatalf("I5: %v on a locked account", outcomes)
						}
					case h.broken.Load() == nil && h.server.answer == nil && owed == 0 && outcomes[auth.Accepted] != n:
						t.Fatalf("I2: %v with the right password", outcomes)
					}
					// With the answer of the store lost, it may have happened as well.
					learnt := outcomes[auth.Accepted] > 0
					if learnt || h.broken.Load() == noAnswers && h.account().Failures == 0 {
						h.reset(learnt, owed)
					}
				},
				"unlock": func(t *rapid.T) {
					owed := guard.Owed()
					_, err := guard.Unlock(ctx, lan, act)
					if err == nil || h.broken.Load() == noAnswers && h.account().Failures == 0 {
						h.reset(err == nil, owed)
					}
				},
				"time passes": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 300).Draw(t, "s")) * time.Second)
					synctest.Wait()
				},
				"the mail server": func(t *rapid.T) {
					h.server.answer = rapid.SampledFrom([]*auth.Answer{
						nil, nil, {Judgement: auth.InDoubt}, {Judgement: auth.Unreached}, {Judgement: auth.RefusedOtherwise},
					}).Draw(t, "answers")
				},
				"the store": func(t *rapid.T) {
					h.broken.Store(rapid.SampledFrom([]*failure{nil, nil, noWrites, noAnswers}).Draw(t, "fails"))
				},
				"": func(t *rapid.T) {
					synctest.Wait()
					a := h.account()
					// A doubt frees its slot when its lease ends and at the cap
					// leaves the count as it is: that is the price of locking
					// nobody in an outage.
					if h.verdicts > 6+h.doubts+h.carried {
						t.Fatalf("I1: %d wrong passwords judged, %d doubts", h.verdicts, h.doubts)
					}
					if a.Failures < min(h.told, 6) {
						t.Fatalf("I3: %d failures on disk, %d told", a.Failures, h.told)
					}
					if a.Failures > h.verdicts+h.doubts+h.carried {
						t.Fatalf("I4: %d failures counted, %d judged wrong, %d in doubt", a.Failures, h.verdicts, h.doubts)
					}
					if locked := a.Lock.Cause != auth.NotLocked; locked && h.verdicts+h.carried == 0 {
						t.Fatal("locked without a wrong password")
					}
				},
			})
		})
	})
}
