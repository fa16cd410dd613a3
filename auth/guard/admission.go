package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

// admit lets the attempt go on to the mail server, or returns the reason for a refusal.
// Accepted means "ask the mail server".
func (t *attempt) admit(ctx context.Context) auth.Verdict {
	if t.good = t.isGood(); t.good {
		// It needs no slot, so it does not wait in the queue, which is bounded.
		if done, v := t.enter(ctx, false); done {
			return v
		}
	}
	if v := t.passThrottle(ctx); v.Outcome != auth.Accepted {
		return v
	}
	w, ok := t.waitQueues.enter(t.name)
	if !ok {
		return t.busy(errors.New("too many attempts wait for this account"))
	}
	defer t.waitQueues.leave(w)
	var patience <-chan time.Time // most tries do not wait
	for {
		first := t.waitQueues.first(w)
		t.good = t.isGood()
		done, v := t.enter(ctx, first)
		if done {
			return v
		}
		if t.aside && !t.waitQueues.stepAside(w) {
			return t.busy(errors.New("too many attempts wait for a slot of this account that needs no grant"))
		}
		// A slot may become free at another replica without an event in this process, so
		// the head of the queue polls. The others are woken by every other change.
		var poll <-chan time.Time
		if first {
			poll = time.After(100 * time.Millisecond)
		}
		if patience == nil {
			patience = time.After(cmp.Or(t.Patience, DefaultPatience))
		}
		select {
		case <-w.wake:
		case <-poll:
		case <-patience:
			return t.busy(errors.New("no slot became free"))
		case <-ctx.Done():
			return t.busy(context.Cause(ctx))
		}
	}
}

// passThrottle lets the attempt's source pass, or waits until attempts of the source that
// are in progress have ended: only verdicts distinguish colleagues behind one address
// from a guesser.
func (t *attempt) passThrottle(ctx context.Context) auth.Verdict {
	var patience <-chan time.Time
	for {
		p := t.Throttle.Begin(t.throttled(), t.now())
		switch {
		case p.Passage == throttle.Passes:
			t.charged, t.passed = true, p
			return auth.Verdict{}
		case !t.looked:
			// Not needed earlier: most sources have nothing against them.
			t.forgiveEverywhere()
			t.lookAt(ctx)
			continue
		case p.Passage == throttle.Refused:
			return auth.Verdict{Outcome: auth.Throttled, Err: errors.New("too much from this source has failed")}
		}
		if patience == nil {
			patience = time.After(cmp.Or(t.Patience, DefaultPatience))
		}
		select {
		case <-p.Ended:
		case <-patience:
			return auth.Verdict{Outcome: auth.Throttled, Err: errors.New("too many attempts of this source are under way")}
		case <-ctx.Done():
			return auth.Verdict{Outcome: auth.Throttled, Err: context.Cause(ctx)}
		}
	}
}

// throttled returns the attempt as the throttle needs it.
func (t *attempt) throttled() throttle.Attempt {
	return throttle.Attempt{
		Source: t.source, Known: t.network, Name: t.name, Tolerated: t.rules.Lockout.Tolerated, Seen: t.seen, Looked: t.looked,
		Allowed: t.passed.Allowed, Granted: t.granted, Near: throttle.SeenNear(t.account.Seen, t.source, t.network, t.now()),
	}
}

// lookAt passes to the throttle what the account remembers: whether it was logged in to
// from this source or near it, and whether a login from anywhere has forgiven the
// failures. On a day with too many wrong passwords a login does not forgive here.
func (t *attempt) lookAt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	before := t.Throttle.Remembered(t.throttled(), t.now())
	a, err := t.Store.Account(ctx, t.name)
	t.looked = true
	if err != nil {
		return // seen stays unknown
	}
	now := t.now()
	t.account = a // if the attempt is refused, the verdict says whether the name is an account
	t.seen = throttle.SeenNear(a.Seen, t.source, t.network, now)
	rows, err := t.rows(ctx, t.strays.namesOf(t.name))
	if err != nil {
		return
	}
	for _, row := range rows {
		t.seen = max(t.seen, throttle.SeenNear(row.Seen, t.source, t.network, now))
	}
	if t.rules.Lockout.Mode != auth.Off && !t.rules.DailyCapReached(a, now) {
		t.Throttle.Forgiven(t.throttled(), before, t.rules.Lockout.CountFailures(a, now), now)
	}
}

// enter checks once whether the attempt may go on; first is set at the head of the queue,
// where it may take a slot.
func (t *attempt) enter(ctx context.Context, first bool) (done bool, v auth.Verdict) {
	var err error
	elsewhere := auth.Accepted
	if t.good || first {
		elsewhere, err = t.straysOutcome(ctx)
	}
	switch {
	case err != nil || elsewhere == auth.Locked:
	case t.good:
		t.account, err = t.goodAccount(ctx)
	case first:
		t.account, t.reservation, err = t.reserve(ctx)
	default:
		return false, v
	}
	if errors.Is(err, errUnwritten) {
		return false, v // the attempt is woken when it is written
	}
	switch {
	case err == nil || errors.Is(err, auth.ErrNoSlot):
		t.noteContact()
	case t.good && t.offlineGrace():
		t.offline = true
		return true, v
	default:
		return true, auth.Verdict{Outcome: auth.StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	if elsewhere == auth.Locked || t.rules.Locked(t.account, t.now()) {
		// Perhaps locked by another gateway, whose event has not arrived yet.
		t.void(t.name)
		t.release(ctx) // a clock that was set back may have given the attempt a slot before
		return true, auth.Verdict{Outcome: auth.Locked}
	}
	if err == nil {
		return true, v
	}
	if t.rules.UnfamiliarSource(t.account, t.source, t.now()) {
		return true, auth.Verdict{Outcome: auth.Throttled, Err: ErrUnfamiliar}
	}
	free, limited := t.free(t.account, t.now())
	if !limited {
		return false, v
	}
	switch p := t.Throttle.Grant(t.throttled(), t.now()); {
	case p == throttle.Passes:
		t.granted = true
		return t.enter(ctx, first)
	case p == throttle.Refused && t.rules.FreeSlots(t.account, free, t.now()) == 0:
		return true, auth.Verdict{Outcome: auth.Throttled, Err: errors.New("the account has wrong passwords, and this source or its network has brought as many accounts near their lock today as it may")}
	}
	t.aside = true
	return false, v
}

// free is the number of wrong passwords of the account up to which the attempt's source may
// try without a grant; limited is false where it needs no grant: see throttle.Throttle.
// If an admin has forgiven the account, only the failure that locks needs a grant.
func (t *attempt) free(a auth.Account, now time.Time) (n int, limited bool) {
	switch {
	case t.Throttle == nil, t.granted, t.passed.Proven, a.SeenFrom(t.source, now):
		return 0, false
	case t.passed.Forgiven:
		return t.rules.Lockout.Tolerated, true
	}
	return t.throttled().Free(), true
}

func (t *attempt) reserve(ctx context.Context) (auth.Account, auth.Reservation, error) {
	if err := t.writeHeard(ctx, t.name); err != nil {
		return auth.Account{}, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	t.counter = ""
	beyond := false // the share of the source is used up
	a, r, err := t.Store.Reserve(ctx, t.name, func(a auth.Account) int {
		if beyond = a.Blank() && !t.takePlace(); beyond {
			return 0
		}
		return t.slots(a)
	})
	if errors.Is(err, auth.ErrFull) || errors.Is(err, auth.ErrNoSlot) && beyond {
		t.leavePlace()
		return t.reserveShared(ctx)
	}
	return a, r, err
}

// slots is the number of attempts on the account that may be at the mail server at once.
func (t *attempt) slots(a auth.Account) int {
	now := t.now()
	switch {
	case t.rules.Locked(a, now):
		return 0
	case t.rules.Lockout.Mode != auth.Enforce:
		return math.MaxInt
	case t.rules.UnfamiliarSource(a, t.source, now):
		return 0
	}
	if free, limited := t.free(a, now); limited {
		return t.rules.FreeSlots(a, free, now)
	}
	return t.rules.Slots(a, now)
}

// offlineGrace decides on a known-good password while the store is down, by what this
// process last knew of the account.
func (t *attempt) offlineGrace() bool {
	k, ok := t.known.Get(t.name)
	now := t.now()
	if !ok || t.StoreGrace <= 0 || time.Since(t.began)-time.Duration(t.contact.Load()) >= t.StoreGrace {
		return false
	}
	t.account = k.account
	if t.rules.Locked(k.account, now) || t.rules.Revoked(k.account, now) {
		return false
	}
	o := t.fingerprinted(t.name, t.digest, k.account.Password.Salt)
	if len(o.Fingerprint) == 0 && t.rules.Password.Mode == auth.Enforce && t.rules.AnyNearItsEnd(k.account, now, false) {
		return false // it may be the password that has expired
	}
	return !t.rules.PasswordExpired(k.account, k.account.Password.SinceOf(o.Fingerprint), now)
}

// hangs is how long an attempt that can go on without the store waits for it: a store behind
// a broken link accepts requests and never answers, and mail programs give up earlier
// than [Guard].StoreTimeout.
const hangs = 3 * time.Second

// goodAccount reads the account of a password that is known to be good.
func (t *attempt) goodAccount(ctx context.Context) (auth.Account, error) {
	ctx, cancel := context.WithTimeout(ctx, t.readTimeout())
	defer cancel()
	return t.Store.Account(ctx, t.name)
}

// readTimeout is how long the attempt waits for each read of the store before the mail
// server is asked.
func (t *attempt) readTimeout() time.Duration {
	if t.good && t.StoreGrace > 0 {
		return min(t.storeTimeout(), hangs)
	}
	return t.storeTimeout()
}

// busy is the verdict on an attempt that has waited for too long. If a wrong password of the
// account cannot be written, the attempt has waited for the store and not for other
// attempts.
func (t *attempt) busy(err error) auth.Verdict {
	if t.unwritten(t.name) {
		return auth.Verdict{Outcome: auth.StoreUnavailable, Err: fmt.Errorf("store: %w: %w", errUnwritten, err)}
	}
	return auth.Verdict{Outcome: auth.Busy, Err: err}
}
