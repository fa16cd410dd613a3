package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pgregory.net/rapid"

	"congthu/auth"
)

// What may happen in a history of several gateways: each act is one step of it, and
// says what must be true when it has been done.

func (h *gateways) guess(t *rapid.T) {
	locked, asked := h.account(t).Lock.Cause != auth.NotLocked, h.server.asked
	outcomes := h.tries(h.source(t), h.wrongOnes(t), h.all...)
	if locked && h.server.asked != asked {
		t.Fatal("I5: the mail server was asked about a locked account")
	}
	if n := sum(outcomes, auth.Accepted); n > 0 {
		t.Fatal("a guess was accepted")
	}
	h.told += sum(outcomes, auth.WrongPassword)
}

func (h *gateways) rightOnes(t *rapid.T) (passwords []string) {
	for range rapid.IntRange(1, 15).Draw(t, "logins") {
		passwords = append(passwords, h.server.current)
	}
	return passwords
}

func (h *gateways) logIn(t *rapid.T) {
	passwords, before, clear := h.rightOnes(t), h.owed(), h.clear(t)
	locked, lockSeq := h.account(t).Lock.Cause != auth.NotLocked, h.lockSeq(t)
	outcomes := h.tries(h.source(t), passwords, h.all...)
	in := sum(outcomes, auth.Accepted)
	for g, of := range outcomes {
		// A gateway without its store that had not received the lock cannot know it.
		if locked && of[auth.Accepted] > 0 && (!h.grace || g.health.Load() == well || g.heard >= lockSeq) {
			t.Fatalf("I5: %v on a locked account (health %d)", outcomes, g.health.Load())
		}
	}
	switch refused := sum(outcomes, auth.Throttled); {
	case clear && !h.throttled && !h.c.Real && in != len(passwords), clear && in+sum(outcomes, auth.Busy)+refused != len(passwords),
		clear && !h.throttled && refused > 0:
		t.Fatalf("I2: %v with the right password", outcomes)
	}
	h.mayHaveReset(t, before, h.stored(outcomes), func(g *gateway) bool { return g.health.Load() == well && outcomes[g][auth.Accepted] > 0 })
}

// stored reports whether a login was certainly accepted by a gateway that could write
// it. A gateway whose store is down may accept a login too, but that resets nothing.
func (h *gateways) stored(outcomes map[*gateway]map[auth.Outcome]int) bool {
	for g, of := range outcomes {
		if g.health.Load() == well && of[auth.Accepted] > 0 {
			return true
		}
	}
	return false
}

// events returns the events of the audit log, the oldest first.
func (h *gateways) events(t *rapid.T) []auth.Event {
	events, err := h.all[0].member.Events(context.Background(), auth.EventFilter{Limit: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(events)
	return events
}

// lockSeq is the number of the latest event that locked the account; 0 for none.
func (h *gateways) lockSeq(t *rapid.T) (seq int64) {
	for _, e := range h.events(t) {
		if e.Kind == auth.AccountLocked || e.Kind == auth.NameLocked {
			seq = e.Seq
		}
	}
	return seq
}

// hear passes to a gateway at most this many of the events that it has not received.
func (h *gateways) hear(t *rapid.T, g *gateway, most int) {
	if g.health.Load() == unreachable {
		return
	}
	for _, e := range h.events(t) {
		if e.Seq > g.heard && most > 0 {
			g.OnRemoteEvent(e)
			g.heard = e.Seq
			most--
		}
	}
}

func (h *gateways) hearSome(t *rapid.T) {
	h.hear(t, h.draw(t), rapid.IntRange(1, 10).Draw(t, "events"))
}

// unlockEverywhere unlocks the account and passes the event to all gateways. Then the
// owner can log in at each of them, from any source.
func (h *gateways) unlockEverywhere(t *rapid.T) {
	g := h.draw(t)
	h.unlockOn(t, g)
	for _, other := range h.all {
		h.hear(t, other, 100_000)
	}
	before, clear, source := h.owed(), h.clear(t), h.source(t)
	if !clear || h.account(t).Failures > 0 {
		t.Skip("a login cannot succeed now")
	}
	var outcomes map[*gateway]map[auth.Outcome]int
	for range 100 {
		h.c.Settle() // the throttle may forgive with a short delay
		outcomes = h.tries(source, slices.Repeat([]string{h.server.current}, len(h.all)), h.all...)
		if !h.c.Real || sum(outcomes, auth.Throttled) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := sum(outcomes, auth.Accepted); n != len(h.all) {
		t.Fatalf("%v with the right password after an unlock", outcomes)
	}
	h.mayHaveReset(t, before, true, func(*gateway) bool { return true })
}

// lockThenCut locks at one gateway, perhaps just after a login at another has been
// committed. Then the other gateway, which has received the lock, cannot reach its
// store: the password that it knew must not be accepted any more.
func (h *gateways) lockThenCut(t *rapid.T) {
	g, by, source := h.draw(t), h.draw(t), h.source(t)
	before, health := h.owed(), g.health.Load()
	if health != well || by.health.Load() != well {
		t.Skip("a store is not well")
	}
	var err error
	locked := make(chan struct{})
	lock := func() {
		defer close(locked)
		_, err = by.Lock(context.Background(), testName, anAct)
	}
	amid := rapid.Bool().Draw(t, "when a login was committed")
	if amid {
		// So that the login has something to write.
		h.guesses++
		h.told += sum(h.tries(source, []string{fmt.Sprint("guess", h.guesses)}, g), auth.WrongPassword)
		before = h.owed()
		g.mu.Lock()
		g.committed = lock
		g.mu.Unlock()
	}
	outcomes := h.tries(source, []string{h.server.current}, g)
	g.mu.Lock()
	missed := g.committed != nil
	g.committed = nil
	g.mu.Unlock()
	if !amid || missed { // the login wrote nothing
		lock()
	}
	<-locked // another commit may have called it
	h.mayHaveReset(t, before, h.stored(outcomes), func(o *gateway) bool { return o == g && outcomes[g][auth.Accepted] > 0 })
	if err != nil {
		return // it was locked already
	}
	if by != g {
		h.hear(t, g, 100_000)
	}
	g.health.Store(unreachable)
	outcomes = h.tries(source, slices.Repeat([]string{h.server.current}, 3), g)
	g.health.Store(health)
	if sum(outcomes, auth.Accepted) > 0 {
		t.Fatalf("I5: %v without the store, on an account whose lock the gateway had received", outcomes)
	}
}

// allowSource lets a source go on. It does not lift the limit of any account.
func (h *gateways) allowSource(t *rapid.T) {
	if !h.throttled {
		t.Skip("this history has no throttle")
	}
	_, err := h.draw(t).AllowSource(context.Background(), h.source(t).Addr(), 4*time.Hour, anAct)
	if err != nil && !errors.Is(err, errHealth) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, auth.ErrNothingToDo) {
		t.Fatal(err)
	}
}

// cut makes the store of a gateway unreachable while the mail server judges its
// attempts, and reachable again.
func (h *gateways) cut(t *rapid.T) {
	g := h.draw(t)
	passwords, source := h.wrongOnes(t), h.source(t)
	dead := g.member.TakeForDead != nil && rapid.Bool().Draw(t, "taken for dead")
	health := g.health.Load()
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		g.health.Store(unreachable)
		if dead {
			h.declareDead(g)
		}
	})
	h.told += sum(outcomes, auth.WrongPassword)
	if rapid.Bool().Draw(t, "for long") {
		return // a later step draws the store's health again
	}
	g.health.Store(health)
}

// takeForDead treats a gateway as dead, as if it was paused for longer than the lease.
func (h *gateways) takeForDead(t *rapid.T) {
	g := h.draw(t)
	if g.member.TakeForDead == nil {
		t.Skip("the store has no leases")
	}
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() { h.declareDead(g) })
	h.told += sum(outcomes, auth.WrongPassword)
}

// declareDead lets the slots of a live gateway expire. It costs what a crash costs, but
// only once until the gateway has written its verdicts: until then it does not ask the
// mail server again.
func (h *gateways) declareDead(g *gateway) {
	g.mu.Lock()
	held := len(g.held)
	g.mu.Unlock()
	if held > 0 {
		h.crashes++
		h.lost += held
		h.orphans += held
	}
	h.pending = append(h.pending, g.member.TakeForDead())
}

// loseSlots is a fail-over while the mail server judges.
func (h *gateways) loseSlots(t *rapid.T) {
	g := h.draw(t)
	if g.member.LoseSlots == nil {
		t.Skip("the store cannot lose slots")
	}
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		for _, o := range h.all {
			o.mu.Lock()
			h.crashes += len(o.held) // each slot may be used once more
			h.lost += len(o.held)
			o.mu.Unlock()
		}
		g.member.LoseSlots()
	})
	h.told += sum(outcomes, auth.WrongPassword)
}

// acceptClocks sets all clocks right and accepts them at each gateway.
func (h *gateways) acceptClocks(t *rapid.T) {
	h.skew.Store(0)
	for _, g := range h.all {
		g.skew.Store(0)
	}
	h.lastSeen = time.Time{} // the last login may be in the future
	for _, g := range h.all {
		_, err := g.AcceptClock(context.Background(), g.dated(), anAct, false)
		if err == nil && !g.Suspicion().IsZero() {
			t.Fatalf("the clock was accepted but is still suspect: %v", g.Suspicion())
		}
	}
}

// mayHaveReset resets if a login or an unlock took effect, also when its caller did not
// learn of it.
func (h *gateways) mayHaveReset(t *rapid.T, before map[*gateway]int, sure bool, learnt func(*gateway) bool) {
	for _, g := range h.all {
		sure = g.forgave.Swap(false) || sure // a lock, or failures, may have come after it
	}
	if a := h.account(t); sure || a.Failures == 0 && a.Lock.Cause == auth.NotLocked {
		h.reset(before, learnt)
	}
}

func (h *gateways) oldPassword(t *rapid.T) {
	if len(h.server.earlier) == 0 {
		t.Skip("there is no earlier password")
	}
	var passwords []string
	for range rapid.IntRange(1, 15).Draw(t, "tries") {
		passwords = append(passwords, rapid.SampledFrom(h.server.earlier).Draw(t, "which"))
	}
	outcomes := h.tries(h.source(t), passwords, h.all...)
	if sum(outcomes, auth.WrongPassword)+sum(outcomes, auth.Accepted) > 0 {
		t.Fatalf("I4: %v with earlier passwords", outcomes)
	}
}

// change changes the password at the mail server, if the store knows the present one.
func (h *gateways) change(t *rapid.T) {
	p := h.account(t).Password
	known, _ := plain{}.Fingerprint(context.Background(), p.Salt, auth.NewSecret(h.server.current))
	if latest, _ := p.Latest(); len(latest) == 0 || string(latest) != string(known) {
		t.Skip("the password has not been used yet")
	}
	if len(p.Known) == auth.MaxPasswords {
		t.Skip("no room to remember the next password")
	}
	h.changes++
	h.server.earlier, h.server.current = append(h.server.earlier, h.server.current), fmt.Sprint("Mat-khau-", h.changes)
}

var anAct = auth.Act{Actor: "Nguyễn Văn An", Reason: "called, identity checked"}

func (h *gateways) unlock(t *rapid.T) { h.unlockOn(t, h.draw(t)) }

func (h *gateways) unlockOn(t *rapid.T, g *gateway) {
	before := h.owed()
	_, err := g.Unlock(context.Background(), testName, anAct)
	h.mayHaveReset(t, before, err == nil, func(o *gateway) bool { return err == nil && o == g })
}

func (h *gateways) lock(t *rapid.T) {
	g := h.draw(t)
	_, err := g.Lock(context.Background(), testName, anAct)
	if a := h.account(t); err == nil && a.Lock.Cause == auth.NotLocked {
		t.Fatalf("I5: after a lock the account has %+v", a.Lock)
	}
}

func (h *gateways) lockWithin(t *rapid.T) {
	passwords, on, before := h.rightOnes(t), h.draw(t), h.owed()
	var outcomes map[*gateway]map[auth.Outcome]int
	locked := false
	source := h.source(t)
	h.server.within(func() { outcomes = h.tries(source, passwords, on) }, func() {
		_, err := h.draw(t).Lock(context.Background(), testName, anAct)
		locked = err == nil
	})
	in := sum(outcomes, auth.Accepted)
	if locked && in > 0 && on.health.Load() == well {
		t.Fatalf("I5: %d logins were accepted after the lock", in)
	}
	h.mayHaveReset(t, before, h.stored(outcomes), func(g *gateway) bool { return outcomes[g][auth.Accepted] > 0 })
}

func (h *gateways) unlockWithin(t *rapid.T) {
	passwords, on, by := h.wrongOnes(t), h.draw(t), h.draw(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	source := h.source(t)
	h.server.within(func() { outcomes = h.tries(source, passwords, on) }, func() { h.unlockOn(t, by) })
	h.told += sum(outcomes, auth.WrongPassword)
}

// kill ends a gateway at work, and starts another.
func (h *gateways) kill(t *rapid.T) {
	i := rapid.IntRange(0, len(h.all)-1).Draw(t, "gateway")
	g := h.all[i]
	passwords, source := h.wrongOnes(t), h.source(t)
	var outcomes map[*gateway]map[auth.Outcome]int
	h.server.within(func() { outcomes = h.tries(source, passwords, g) }, func() {
		h.c.Settle() // by now the other attempts wait
		g.health.Store(unreachable)
	})
	g.health.Store(unreachable)
	h.told += sum(outcomes, auth.WrongPassword) // attempts that ended before the kill
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) > 0 {
		h.crashes++
	}
	h.all = append(h.all[:i], h.all[i+1:]...)
	h.orphans += len(g.held)
	h.lost += len(g.held) // the mail server may have judged them
	h.pending = append(h.pending, g.member.Kill(g.held))
	h.start()
	if rapid.Bool().Draw(t, "noticed at once") {
		h.lapse()
	}
}

// lapse waits until the slots of killed gateways have expired.
func (h *gateways) lapse() {
	for _, lapse := range h.pending {
		lapse()
	}
	h.pending, h.orphans = nil, 0
}

func (h *gateways) wait(t *rapid.T) {
	s := rapid.IntRange(1, 300).Draw(t, "s")
	if h.c.Real {
		time.Sleep(time.Duration(s) * 2 * time.Millisecond)
	} else {
		time.Sleep(time.Duration(s) * time.Second)
	}
	h.lapse()
}

func (h *gateways) serverHealth(t *rapid.T) {
	h.server.answer = rapid.SampledFrom([]*auth.Answer{
		nil, nil, {Judgement: auth.InDoubt}, {Judgement: auth.Unreached}, {Judgement: auth.RefusedOtherwise},
	}).Draw(t, "answers")
}

func (h *gateways) storeHealth(t *rapid.T) {
	of := rapid.SampledFrom([]int32{well, well, well, failsBeforeCommit, failsAfterCommit, hangsBeforeCommit, hangsAfterCommit, unreachable})
	for _, g := range h.all {
		g.health.Store(of.Draw(t, "health"))
	}
}

func (h *gateways) setClock(t *rapid.T) {
	minutes := rapid.SampledFrom([]int{-600_000, -90, -4, 0, 4, 90, 600_000}).Draw(t, "minutes")
	skew := int64(time.Duration(minutes) * time.Minute)
	if rapid.Bool().Draw(t, "of one machine") {
		h.draw(t).skew.Store(skew)
		return
	}
	h.skew.Store(skew)
	for _, g := range h.all {
		g.skew.Store(skew)
	}
}
