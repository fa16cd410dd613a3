package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
	"congthu/auth/guard"
)

// What a caller does with its ticket.
const (
	settledTwice = iota
	abandoned    // its context ends
	leftAlone    // until its lease ends
)

// tickets makes guesses in two steps at one gateway. Some tickets are never settled,
// others twice. It ends when all tickets have ended.
func (h *gateways) tickets(t *rapid.T) {
	g, source, passwords := h.draw(t), h.source(t), h.wrongOnes(t)
	ways := make([]int, len(passwords))
	for i := range ways {
		ways[i] = rapid.SampledFrom([]int{settledTwice, settledTwice, abandoned, leftAlone}).Draw(t, "way")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mu sync.Mutex
	var late []*guard.Ticket
	var wrong []string // violations
	told, alone, crashes := 0, 0, 0
	doubt := func() {
		h.server.mu.Lock()
		h.server.doubts++
		h.server.mu.Unlock()
	}
	var begun, settled sync.WaitGroup
	for i, p := range passwords {
		begun.Add(1)
		settled.Go(func() {
			begins := context.Background()
			if ways[i] == abandoned {
				begins = ctx
			}
			k, v := g.Begin(begins, auth.Attempt{Login: spellings[i%len(spellings)], Password: auth.NewSecret(p), Source: source})
			mu.Lock()
			switch {
			case v.Outcome == auth.Accepted:
				wrong = append(wrong, "a guess was accepted when it began")
			case k == nil:
				if v.Outcome == auth.WrongPassword {
					told++
				}
			case ways[i] != settledTwice:
				doubt()
				late = append(late, k)
				if ways[i] == leftAlone {
					alone++
				}
			}
			mu.Unlock()
			begun.Done()
			if k == nil || ways[i] != settledTwice {
				return
			}
			first := k.Settle(context.Background(), h.server.verify(p)(context.Background(), k.Name()))
			again := k.Settle(context.Background(), auth.Answer{Judgement: auth.JudgedRight})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case first.Outcome == auth.WrongPassword:
				told++
			case first.Outcome == auth.Accepted:
				wrong = append(wrong, "a guess was accepted")
			case errors.Is(first.Err, guard.ErrAbandoned) && h.c.Real: // on a slow machine
				doubt()
				crashes++
			}
			if again.Outcome != auth.Unavailable || !errors.Is(again.Err, guard.ErrSettled) && !errors.Is(again.Err, guard.ErrAbandoned) {
				wrong = append(wrong, "settled again, and "+again.Outcome.String())
			}
		})
	}
	begun.Wait()
	cancel()
	settled.Wait()
	if alone > 0 {
		lease := g.Lease
		if lease == 0 {
			lease = 2 * time.Minute
		}
		time.Sleep(lease)
	}
	h.c.Settle()
	if !h.c.Real { // in real time they may still be open
		for _, k := range late {
			v := k.Settle(context.Background(), auth.Answer{Judgement: auth.JudgedRight})
			if v.Outcome != auth.Unavailable || !errors.Is(v.Err, guard.ErrAbandoned) {
				t.Fatalf("settled too late, and still %v (%v)", v.Outcome, v.Err)
			}
		}
	}
	h.told += told
	h.crashes += crashes
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
}
