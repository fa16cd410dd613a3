package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// What an attempt leaves behind: settlements that the store would not take or
// that wait for a lease to end, last logins from a time without a store, and
// fingerprints that nobody had to wait for. [Guard.Run] works them off.

// debt is a settlement that must be made durable. It holds its slot until then.
type debt struct {
	name        Name
	reservation Reservation
	// change makes the store's change, with a place for its events. Each call
	// gets one of its own, since a call whose outcome is unknown may still run.
	change func(happened *[]Event) Change
	// due is of the machine's monotonic clock: should the clock be set back by an
	// hour, slots would stay taken for that hour.
	due   time.Time
	tries int
	since time.Time // when it was owed first
}

// unobserved is an accepted password whose fingerprint has not been compared.
type unobserved struct {
	name     Name
	digest   digest
	password Secret
	source   netip.AddrPort
	at       time.Time
}

// saltSize is that of RFC 9106 section 3.1.
const saltSize = 16

// Run works off what attempts leave behind until ctx ends, and then settles
// what can be settled: slots without a verdict become failures at once, since
// their leases end with the process. Call it once, for as long as the guard is
// in use; it returns nil.
func (g *Guard) Run(ctx context.Context) error {
	g.init()
	observing := make(chan struct{})
	go func() {
		defer close(observing)
		for {
			select {
			case <-ctx.Done():
				return
			case u := <-g.observe:
				g.observeLater(ctx, u)
			}
		}
	}()
	forgiving := make(chan struct{})
	go func() {
		defer close(forgiving)
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.forgiveSoon:
				g.forgiveEverywhere()
			}
		}
	}()
	for ctx.Err() == nil {
		wake := time.NewTimer(g.untilDue())
		select {
		case <-ctx.Done():
		case <-wake.C:
		case <-g.nudge:
		}
		wake.Stop()
		if ctx.Err() == nil {
			g.writeSuspicion(ctx)
			g.pay(ctx, time.Now())
			g.writeLogins(ctx)
		}
	}
	<-observing
	<-forgiving
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.storeTimeout())
	defer cancel()
	g.writeSuspicion(last)
	g.pay(last, farFuture)
	g.writeLogins(last)
	if n := g.Owed(); n > 0 {
		g.Log.Error("failures could not be written and are lost", "count", n)
	}
	return nil
}

// farFuture is when every debt is due.
var farFuture = time.Unix(1<<40, 0)

// untilDue is how long Run may sleep.
func (g *Guard) untilDue() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	sleep := 24 * time.Hour
	s := g.suspicion.Load()
	if s == nil && len(g.logins) > 0 || s != nil && !s.written {
		sleep = time.Second
	}
	for _, d := range g.debts {
		sleep = min(sleep, time.Until(d.due))
	}
	return sleep
}

// Owed is how many settlements wait to be made: answers in doubt, and failures
// that the store would not take.
func (g *Guard) Owed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.debts) + g.paying
}

// owedOf is how many settlements of one account wait to be made.
func (g *Guard) owedOf(name Name) (n int) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, d := range g.debts {
		if d.name == name {
			n++
		}
	}
	return n
}

// owe leaves a settlement for later; its slot stays taken.
func (g *Guard) owe(d debt) {
	if d.since.IsZero() {
		d.since = g.now()
	}
	g.mu.Lock()
	g.debts = append(g.debts, d)
	g.mu.Unlock()
	g.wakeRun()
}

func (g *Guard) wakeRun() {
	select {
	case g.nudge <- struct{}{}:
	default:
	}
}

// noChange only frees the slot.
func noChange(*[]Event) Change {
	return func(*Account) ([]Event, bool) { return nil, false }
}

// forgiveDebts makes failures that could not be written yet free their slots
// and no more: a login or an unlock has come after them.
func (g *Guard) forgiveDebts(name Name) { g.forgiveDebtsOf(name, farFuture) }

// forgiveDebtsOf does so for what was owed up to an instant.
func (g *Guard) forgiveDebtsOf(name Name, upto time.Time) {
	// Every login comes here, and but for bad times nothing is owed: they do not
	// wait for each other to see that.
	g.mu.RLock()
	owing := len(g.debts) > 0
	g.mu.RUnlock()
	if !owing {
		return
	}
	g.mu.Lock()
	forgiven := false
	for i := range g.debts {
		if d := &g.debts[i]; d.name == name && !d.since.After(upto) {
			d.change, d.due, forgiven = noChange, time.Time{}, true
		}
	}
	g.mu.Unlock()
	if forgiven {
		g.wakeRun()
	}
}

// pay makes the settlements that are due; those that fail again are due later.
// It takes them one by one, so that a login can forgive those it has not come
// to yet.
func (g *Guard) pay(ctx context.Context, now time.Time) {
	for range g.Owed() {
		g.mu.Lock()
		i := slices.IndexFunc(g.debts, func(d debt) bool { return !d.due.After(now) })
		if i < 0 {
			g.mu.Unlock()
			return
		}
		d := g.debts[i]
		g.debts = slices.Delete(g.debts, i, i+1)
		g.paying = 1
		g.mu.Unlock()
		g.update(ctx, d)
		g.mu.Lock()
		g.paying = 0
		g.mu.Unlock()
	}
}

// update makes a settlement, or leaves it for later when the store fails.
func (g *Guard) update(ctx context.Context, d debt) error {
	var happened []Event
	a, err := g.storeUpdate(ctx, d.name, d.reservation, d.change(&happened))
	if err != nil {
		if d.reservation != 0 {
			d.tries++
			d.due = time.Now().Add(min(time.Second<<min(d.tries, 5), 30*time.Second))
			g.Log.Error("a settlement could not be written and is tried again", "tries", d.tries, "err", err)
			g.owe(d)
		}
		return fmt.Errorf("store: %w", err)
	}
	g.happened(happened, a.Known())
	if g.Rules().Locked(a, g.now()) {
		// By this settlement; or by an earlier call for it, of which the store gave no
		// answer; or meanwhile. What was known before the lock is void.
		g.forgetKnown(d.name)
		g.gates.wakeAll(d.name)
		return nil
	}
	g.gates.wake(d.name)
	return nil
}

// storeUpdate is Store.Update within the store's time.
func (g *Guard) storeUpdate(ctx context.Context, name Name, r Reservation, change Change) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	a, err := g.Store.Update(ctx, name, r, change)
	if err == nil {
		g.reached()
	}
	return a, err
}

// writeLogins writes the last logins of the time when the store was down, or the
// clock suspect; in the latter case they happened when it was accepted, at the
// latest.
func (g *Guard) writeLogins(ctx context.Context) {
	now := g.now()
	if g.suspicion.Load() != nil {
		return
	}
	g.mu.Lock()
	logins := g.logins
	g.logins = make(map[Name]time.Time)
	g.mu.Unlock()
	for name, at := range logins {
		at = notAfter(at, now)
		_, err := g.storeUpdate(ctx, name, 0, func(a *Account) ([]Event, bool) {
			if !at.After(a.LastLogin) {
				return nil, false
			}
			a.LastLogin = at
			return nil, true
		})
		if err != nil {
			g.mu.Lock()
			if at.After(g.logins[name]) {
				g.logins[name] = at
			}
			g.mu.Unlock()
		}
	}
}

// observeLater compares an accepted password with the fingerprints of the
// account, off the path of the login.
func (g *Guard) observeLater(ctx context.Context, u unobserved) {
	if k, ok := g.known.get(u.name); !ok || k.digest != u.digest || k.observed || g.suspicion.Load() != nil {
		return
	}
	read, cancel := context.WithTimeout(ctx, g.storeTimeout())
	account, err := g.Store.Account(read, u.name)
	cancel()
	if err != nil {
		return // the next login offers the password again
	}
	o, err := g.fingerprint(ctx, account, u.password)
	if err != nil {
		return
	}
	var happened []Event
	rules := g.Rules()
	account, err = g.storeUpdate(ctx, u.name, 0, func(a *Account) ([]Event, bool) {
		var write bool
		happened, write = rules.observe(a, u.at, o, u.source)
		return happened, write
	})
	if err != nil {
		return
	}
	g.happened(happened, account.Known())
	if !equal(account.Password.Current, o.fingerprint) {
		return // another salt was written first
	}
	g.known.alter(u.name, func(k *knownGood) {
		k.observed = k.observed || k.digest == u.digest
	})
}

// fingerprint makes the fingerprint of a password with the account's salt, or a
// new one.
func (g *Guard) fingerprint(ctx context.Context, a Account, password Secret) (observation, error) {
	o := observation{salt: a.Password.Salt}
	if len(o.salt) == 0 {
		o.salt = make([]byte, saltSize)
		rand.Read(o.salt) // never fails (crypto/rand)
	}
	var err error
	o.fingerprint, err = g.Fingerprints.Fingerprint(ctx, o.salt, password)
	return o, err
}

// reached notes that the store has answered.
func (g *Guard) reached() { g.contact.Store(int64(time.Since(g.began))) }

func (g *Guard) now() time.Time {
	now := time.Now
	if g.Now != nil {
		now = g.Now
	}
	shown := now()
	g.watchClock(shown)
	return shown.UTC().Truncate(time.Microsecond)
}

func (g *Guard) storeTimeout() time.Duration { return orDefault(g.StoreTimeout, 10*time.Second) }

func (g *Guard) loginWindow() time.Duration { return max(0, orDefault(g.LoginWindow, time.Hour)) }

func (g *Guard) endSessions(name Name) {
	g.forgetKnown(name)
	if g.EndSessions != nil {
		g.EndSessions(name)
	}
}

// happened tells of the events of one account; known is whether it is one.
func (g *Guard) happened(events []Event, known bool) {
	if g.Recorder == nil {
		return
	}
	for _, e := range events {
		g.Recorder.Happened(e, known)
	}
}

func equal(a, b []byte) bool { return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1 }
