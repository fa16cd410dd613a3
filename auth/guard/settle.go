package guard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
)

func (g *Guard) loginWindow() time.Duration { return max(0, cmp.Or(g.LoginWindow, DefaultLoginWindow)) }

// settle records the answer on the account, frees the slot, and returns the verdict.
func (t *attempt) settle(ctx context.Context, answer auth.Answer) auth.Verdict {
	return t.complete(t.apply(ctx, answer))
}

// complete notes that the slot is settled, and fills the fields that every verdict has.
func (t *attempt) complete(v auth.Verdict) auth.Verdict {
	t.settled = true
	v = t.about(v)
	v.Known = v.Known || v.Outcome == auth.Accepted
	v.Admission, v.Upstream, v.Settlement = t.asked.Sub(t.started), t.answered.Sub(t.asked), time.Since(t.answered)
	return v
}

// apply is settle without the fields that every verdict has.
func (t *attempt) apply(ctx context.Context, answer auth.Answer) auth.Verdict {
	switch answer.Judgement {
	case auth.JudgedRight:
		return t.settleRight(ctx)
	case auth.JudgedWrong:
		return t.settleWrong(ctx, answer)
	case auth.RefusedOtherwise:
		t.release(ctx)
		return auth.Verdict{Outcome: auth.Refused, Code: answer.Code, Err: answer.Err}
	case auth.InDoubt:
		return t.settleDoubt(answer, time.Now().Add(t.lease()))
	}
	t.release(ctx)
	return auth.Verdict{Outcome: auth.Unavailable, Err: answer.Err}
}

// settleDoubt leaves a failure in doubt, which counts at due. The slot stays taken until
// then.
func (t *attempt) settleDoubt(answer auth.Answer, due time.Time) auth.Verdict {
	t.ending = throttle.EndedInDoubt
	if t.reservation != 0 {
		t.place.used.Store(true) // it will be used
		t.deferSettlement(&pendingSettlement{name: t.holder(), reservation: t.reservation, due: due, change: t.counted(t.rules.Doubt)})
	}
	return auth.Verdict{Outcome: auth.Unavailable, Err: answer.Err}
}

// lease is how long an attempt without a verdict keeps its slot.
func (g *Guard) lease() time.Duration { return cmp.Or(g.Lease, 2*time.Minute) }

// counted makes a store change from a rule that counts this attempt.
func (t *attempt) counted(rule func(*auth.Account, time.Time, netip.AddrPort) []auth.Event) func(*[]auth.Event) auth.Change {
	judged := t.now()
	return func(happened *[]auth.Event) auth.Change {
		return func(a *auth.Account) ([]auth.Event, bool) {
			if a.Blank() {
				t.place.used.Store(true)
			}
			*happened = rule(a, judged, t.Source)
			return *happened, true
		}
	}
}

// settleWrong counts a wrong password, unless it is one that does not count.
func (t *attempt) settleWrong(ctx context.Context, answer auth.Answer) auth.Verdict {
	now := t.now()
	if t.SSO {
		// A token that does not verify is not a wrong password.
		t.release(ctx)
		return auth.Verdict{Outcome: auth.WrongPassword, Err: answer.Err}
	}
	t.Rejected.Add(t.digest, t.account.Known())
	if t.good {
		// It was accepted a moment ago, so it has been changed at the mail server. Other
		// passwords of the account may still be right.
		t.known.Alter(t.name, func(k *knownGood) { k.drop(t.digest) })
	}
	previous := t.isPrevious(ctx)
	if previous && !t.rules.Lockout.CountPrevious {
		if !t.good && !t.passed.Proven && !t.account.SeenFrom(t.source, now) {
			t.ending = throttle.EndedPrevious // it does not prove the owner
		}
		t.noteStale(ctx, now)
		return auth.Verdict{Outcome: auth.PreviousPassword, Err: answer.Err}
	}
	written, same := t.enterWrong(now)
	if same {
		if !t.good && !t.passed.Proven && !t.account.SeenFrom(t.source, now) {
			t.ending = throttle.EndedRepeated
		}
		if err := t.settleSame(ctx, written); err != nil {
			return auth.Verdict{Outcome: auth.StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
		}
		return auth.Verdict{Outcome: auth.RepeatedPassword, Err: answer.Err}
	}
	counted := false
	defer func() { t.entered(written, counted) }()
	t.ending = throttle.EndedWrong
	t.noteUncompared()
	if !t.charged {
		t.Throttle.Failed(t.throttled(), t.ending, now)
	}
	err := t.update(ctx, &pendingSettlement{name: t.holder(), reservation: t.reservation, change: t.counted(t.rules.Reject), heard: true})
	counted = err == nil || t.reservation != 0 // written later
	if err != nil {
		if t.reservation != 0 {
			t.place.used.Store(true) // it will be used
		}
		// I3: the client must not read "wrong" for a failure that is not durable.
		return auth.Verdict{Outcome: auth.StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	return auth.Verdict{Outcome: auth.WrongPassword, Err: answer.Err}
}

// isPrevious reports whether a rejected password was right before. It takes the same
// time for every name, known or not.
func (t *attempt) isPrevious(ctx context.Context) bool {
	if t.Fingerprints == nil {
		return t.good
	}
	salt := t.account.Password.Salt
	if len(salt) == 0 {
		salt = make([]byte, saltSize)
	}
	fingerprint, err := t.Fingerprints.Fingerprint(ctx, salt, t.Password)
	if err != nil {
		t.Log.Warn("a rejected password could not be compared with the previous one", "session", t.Session, "err", err)
		return t.good
	}
	p := t.account.Password
	return t.good || len(p.Salt) > 0 && p.Place(fingerprint) >= 0
}

// noteStale releases the slot and notes, at most once an hour, that a device still uses
// an earlier password: support staff look for it first.
func (t *attempt) noteStale(ctx context.Context, now time.Time) {
	if now.Sub(t.account.Stale.At) < time.Hour {
		t.release(ctx)
		return
	}
	t.update(ctx, &pendingSettlement{name: t.holder(), reservation: t.reservation, change: func(*[]auth.Event) auth.Change {
		return func(a *auth.Account) ([]auth.Event, bool) {
			a.Stale = auth.Mistake{At: now, Source: t.Source}
			return nil, true
		}
	}})
}

// settleRight re-checks the account as it is now and makes it a login.
func (t *attempt) settleRight(ctx context.Context) auth.Verdict {
	now := t.now()
	s := auth.AcceptedLogin{
		Now: now, Source: t.Source, Window: t.loginWindow(), SSO: t.SSO,
		CanAlert: t.Protocol == auth.IMAP,
	}
	if t.offline {
		// The event of a lock may have arrived while the mail server was asked.
		if !t.offlineGrace() {
			return auth.Verdict{Outcome: auth.StoreUnavailable, Err: errors.New("store: unavailable, and the account has changed")}
		}
		return t.settleOffline(now)
	}
	if !t.SSO {
		s.Observed = t.fingerprinted(t.name, t.digest, t.account.Password.Salt)
	}
	alert := s.CanAlert && t.alertedOn() != t.rules.Day(now)
	if !t.SSO && t.Fingerprints != nil && t.rules.Password.Mode != auth.Off && len(s.Observed.Fingerprint) == 0 &&
		t.rules.AnyNearItsEnd(t.account, now, alert) {
		// The login waits for the fingerprint only here: it matters which password this
		// is, or whether it is a new one.
		o, err := t.fingerprint(ctx, t.account, t.Password)
		if err != nil {
			t.release(ctx)
			return auth.Verdict{Outcome: auth.Unavailable, Err: fmt.Errorf("fingerprint: %w", err)}
		}
		s.Observed = o
	}

	// A login that was not settled is not accepted.
	v := auth.Acceptance{Outcome: auth.StoreUnavailable}
	own := t.reservation
	if t.counter != "" {
		own = 0 // the slot belongs to the counter
	}
	generation := t.generation(t.name)
	account := t.account
	elsewhere, err := t.straysOutcome(ctx)
	switch {
	case err != nil:
	case elsewhere != auth.Accepted:
		v.Outcome = elsewhere
	default:
		account, err = t.storeUpdate(ctx, t.name, own, func(a *auth.Account) ([]auth.Event, bool) {
			v = t.rules.Accept(a, s)
			return v.Events, v.Write
		})
	}
	if v.Outcome == auth.Locked || v.Outcome == auth.Revoked {
		// What the store has returned of the account is true, even if the store failed
		// after that.
		t.void(t.name)
	}
	if err != nil {
		if t.good && t.offlineGrace() {
			return t.settleOffline(now)
		}
		t.release(ctx)
		return auth.Verdict{Outcome: auth.StoreUnavailable, Err: fmt.Errorf("store: %w", err)}
	}
	if t.counter != "" || elsewhere != auth.Accepted {
		// The slot was not settled. A login forgives nothing of a shared counter:
		// failures of other names are counted there as well.
		t.release(ctx)
	}
	t.recordEvents(v.Events, account.Known())
	verdict := auth.Verdict{Outcome: v.Outcome, Would: v.Would}
	if v.Alert && t.tellToday(now) {
		verdict.Alert, verdict.ExpiresIn = true, v.ExpiresIn
	}
	if elsewhere != auth.Accepted {
		return verdict
	}
	if v.Outcome != auth.Accepted {
		t.waitQueues.wake(t.name)
		return verdict
	}
	t.accepted(account, generation, s.Observed)
	return verdict
}

// tellToday reports whether to tell the user now that the password expires soon: once a
// day through each mail program, since some programs show nothing of it, and others open
// several connections.
func (t *attempt) tellToday(now time.Time) (tell bool) {
	t.alerted.Update(t.listener(), func(last string) string {
		day := t.rules.Day(now)
		tell = day != last
		return day
	})
	return tell
}

// alertedOn is the day on which the user was last told through this mail program.
func (t *attempt) alertedOn() string {
	day, _ := t.alerted.Get(t.listener())
	return day
}

// listener is the digest of the account and the mail program, or of the account and the
// source if the program is unknown. It exists in memory only.
func (t *attempt) listener() auth.Digest {
	program := t.Program
	if program == "" {
		program = t.source.String()
	}
	return t.Guard.digest(t.name, auth.NewSecret(program))
}

// settleOffline accepts a known-good password while the store is down; its last login is
// written later.
func (t *attempt) settleOffline(now time.Time) auth.Verdict {
	t.noteLogin(now)
	wake(t.wakeLogins)
	return auth.Verdict{Outcome: auth.Accepted}
}

// noteLogin keeps a last login to be written later. While the clock is suspect the login
// has no instant: it gets the instant at which the clock is accepted.
func (t *attempt) noteLogin(now time.Time) {
	if t.suspicion.Load() != nil {
		now = time.Time{}
	}
	t.mu.Lock()
	t.logins[t.name] = now
	t.mu.Unlock()
}

// accepted remembers the password as known good, unless the memory of the account was
// made void since generation, and wakes all attempts that wait with the same password.
func (t *attempt) accepted(account auth.Account, generation uint64, o auth.Observation) {
	if t.SSO {
		t.waitQueues.wake(t.name)
		return
	}
	k, remembered := t.remember(t.name, generation, func(k knownGood) knownGood {
		k.accept(t.digest, t.source, o, account)
		return k
	})
	t.entries.Remove(t.digest)
	t.forgivePending(t.name)
	if t.rules.ClockSuspect {
		t.noteLogin(t.now())
	}
	t.waitQueues.wakeAll(t.name)
	t.Throttle.Succeeded(t.throttled(), t.now())
	if remembered && len(k.accepted[0].observed.Fingerprint) == 0 && t.Fingerprints != nil {
		select {
		case t.Guard.observe <- unobserved{t.name, t.digest, t.Password, t.Source, t.now()}:
		default: // the queue is full; the next login offers it again
		}
	}
}

// release frees the slot without any other change.
func (t *attempt) release(ctx context.Context) {
	if t.reservation == 0 {
		return
	}
	t.update(ctx, &pendingSettlement{name: t.holder(), reservation: t.reservation, change: noChange})
}
