package auth

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"
)

// The changes that an attempt, or the end of a slot, makes to an account. They are pure
// functions, run by the store in one transaction with the audit events they return.

// decay applies what time alone changes: it forgets old failures and ends a lock made
// by wrong passwords, when the rules say so. Every settlement begins with it.
func (r Rules) decay(a *Account, now time.Time) []Event {
	if a.Lock.Cause == ByWrongPasswords && r.Lockout.Mode == Enforce && !r.Locked(*a, now) {
		e := Event{
			Kind: AccountUnlocked, Account: a.Name, At: now, Actor: ByGateway, Before: DescribeLock(a), After: "unlocked",
			Reason: fmt.Sprintf("the lock ended by itself after %s", r.Lockout.UnlockAfter),
		}
		a.Lock = Lock{}
		a.Forgive()
		return []Event{e}
	}
	if a.Failures > 0 && r.Lockout.CountFailures(*a, now) == 0 {
		a.Forgive()
	}
	return nil
}

// Reject counts one wrong password and locks the account when that is one more
// than tolerated (Art. 6.2.d).
func (r Rules) Reject(a *Account, now time.Time, source netip.AddrPort) []Event {
	if r.Lockout.Mode == Off {
		return nil
	}
	events := r.decay(a, now)
	before := DescribeFailures(a.Failures)
	r.addFailure(a, now, source)
	if a.Known() {
		events = append(events, Event{
			Kind: PasswordWrong, Account: a.Name, At: now, Actor: ByUser, Source: source,
			Before: before, After: DescribeFailures(a.Failures),
		})
	}
	if a.Failures <= r.Lockout.Tolerated || a.Lock.Cause != NotLocked || a.Name.Shared() {
		return events
	}
	e := Event{Account: a.Name, At: now, Actor: ByGateway, Source: source, Before: before, Reason: r.lockReason(a)}
	switch r.Lockout.Mode {
	case Enforce:
		a.Lock = Lock{Mark: Mark{At: now, By: ByGateway, Reason: e.Reason}, Cause: ByWrongPasswords}
		e.Kind, e.After = AccountLocked, DescribeLock(a)
		if !a.Known() {
			e.Kind = NameLocked
		}
		events = append(events, e)
	case Warn:
		// Once: at the failure that would have locked, not at each one after.
		if a.Failures == r.Lockout.Tolerated+1 {
			e.Kind, e.After = WouldLock, DescribeFailures(a.Failures)
			events = append(events, e)
		}
	}
	return events
}

// Doubt counts an attempt without a judgement. It never locks an account: at the limit
// one slot stays, and the next rejection by the mail server locks.
func (r Rules) Doubt(a *Account, now time.Time, source netip.AddrPort) []Event {
	if r.Lockout.Mode == Off {
		return nil
	}
	events := r.decay(a, now)
	if a.Failures >= r.Lockout.Tolerated {
		return events
	}
	before := DescribeFailures(a.Failures)
	r.addFailure(a, now, source)
	if !a.Known() {
		return events
	}
	return append(events, Event{
		Kind: PasswordInDoubt, Account: a.Name, At: now, Actor: ByGateway, Source: source,
		Before: before, After: DescribeFailures(a.Failures),
		Reason: "the mail server gave no answer after the password was sent",
	})
}

// addFailure counts one failure. The failures of a day are counted for accounts only:
// other names have no logins between their failures.
func (r Rules) addFailure(a *Account, now time.Time, source netip.AddrPort) {
	a.addFailure(Mistake{At: now, Source: source})
	if !a.Known() {
		return
	}
	if day := r.Day(now); a.WrongOn != day {
		a.WrongOn, a.WrongThatDay = day, 0
	}
	a.WrongThatDay++
}

// Observation is a fingerprint of a password that the mail server has accepted,
// made with the account's salt at that time.
type Observation struct {
	Salt, Fingerprint []byte
}

// Observe compares an accepted password with those that are remembered: one that is not
// among them is a change, and its age begins now (Art. 9). The first one is not a
// change: it may have been set long before.
func (r Rules) Observe(a *Account, now time.Time, o Observation, source netip.AddrPort) (events []Event, write bool) {
	switch {
	case len(o.Fingerprint) == 0, r.ClockSuspect: // its age would begin at an unknown instant
		return nil, false
	case len(a.Password.Salt) == 0:
		a.Password.Salt = o.Salt
	case !bytes.Equal(a.Password.Salt, o.Salt):
		// Computed while another login stored the first salt: computed again next time.
		return nil, false
	}
	p := &a.Password
	if len(p.Known) == 0 {
		if p.Since.IsZero() {
			p.Since = now
		}
		p.Known = []KnownPassword{{Fingerprint: o.Fingerprint, Since: p.Since}}
		return nil, true
	}
	if p.Place(o.Fingerprint) >= 0 {
		return nil, false
	}
	before := "password since " + r.Instant(p.Since)
	r.remember(p, o.Fingerprint, now)
	a.GraceUntil, a.AlertedOn = time.Time{}, ""
	return []Event{{
		Kind: PasswordChanged, Account: a.Name, At: now, Actor: ByUser, Source: source,
		Before: before, After: "password since " + r.Instant(p.Since),
		Reason: "a login with another password than before",
	}}, true
}

// AcceptedLogin is what [Rules.Accept] needs to know beyond the account.
type AcceptedLogin struct {
	Now      time.Time
	Source   netip.AddrPort
	Window   time.Duration // in which last logins are coalesced
	Observed Observation   // of the password; empty when the fingerprint is made later
	SSO      bool
	CanAlert bool // the protocol can show a text to the user
}

// Acceptance is how [Rules.Accept] decided.
type Acceptance struct {
	Outcome   Outcome
	Would     Outcome
	Alert     bool
	ExpiresIn int
	Events    []Event
	Write     bool
}

// Accept decides on a login whose password the mail server has accepted. It judges the
// account as it is now, not as it was when the attempt began.
func (r Rules) Accept(a *Account, s AcceptedLogin) (v Acceptance) {
	if r.Locked(*a, s.Now) {
		v.Outcome = Locked
		return v
	}
	if events := r.decay(a, s.Now); len(events) > 0 {
		v.Events, v.Write = events, true
	}
	if r.Revoked(*a, s.Now) {
		// The sweep marks the account, not the login: a clock that is wrong for an hour
		// must not leave marks that only an admin can remove.
		v.Outcome = Revoked
		return v
	}
	if events, write := r.Observe(a, s.Now, s.Observed, s.Source); write {
		v.Events, v.Write = append(v.Events, events...), true
	}
	since := a.Password.SinceOf(s.Observed.Fingerprint)
	if !s.SSO && r.PasswordExpired(*a, since, s.Now) {
		v.Outcome = Expired
		return v
	}

	v.Would = r.would(*a, since, s.Now, s.SSO)
	if v.Would == Revoked && r.Dormant(*a, s.Now) { // this login ends the dormancy
		v.Events = append(v.Events, Event{
			Kind: WouldRevoke, Account: a.Name, At: s.Now, Actor: ByGateway, Source: s.Source,
			Reason: "unused since " + r.Instant(r.dormancyBaseline(*a)),
		})
	}
	if a.FirstLogin.IsZero() {
		a.FirstLogin = s.Now
		before := "imported"
		if !a.Known() {
			a.Registered, before = s.Now, "unknown"
		}
		if a.Password.Since.IsZero() && !s.SSO {
			a.Password.Since = s.Now
		}
		v.Events = append(v.Events, Event{
			Kind: FirstLogin, Account: a.Name, At: s.Now, Actor: ByUser, Source: s.Source, Before: before, After: "active",
		})
		v.Write = true
	}
	if a.Failures > 0 {
		a.Forgive()
		v.Write = true
	}
	if !r.ClockSuspect && a.see(Source(s.Source.Addr()), s.Now) {
		v.Write = true
	}
	if !r.ClockSuspect && s.Now.Sub(a.LastLogin) >= s.Window || len(v.Events) > 0 {
		v.Write = true
	}
	// A suspect clock does not replace a known instant; the guard keeps the login until
	// the clock is accepted.
	if v.Write && s.Now.After(a.LastLogin) && (!r.ClockSuspect || a.LastLogin.IsZero()) {
		a.LastLogin = s.Now
	}
	if days, soon := r.expiringIn(*a, a.Password.SinceOf(s.Observed.Fingerprint), s.Now); soon && s.CanAlert && !s.SSO {
		v.Alert, v.ExpiresIn = true, days
		if day := r.Day(s.Now); a.AlertedOn != day {
			a.AlertedOn, v.Write = day, true
		}
	}
	v.Outcome = Accepted
	return v
}

// would is the outcome that a login about to be accepted would have had if the rules in
// mode warn were enforced; Accepted if no rule objects. The password is the one that was
// first accepted at since.
func (r Rules) would(a Account, since, now time.Time, sso bool) Outcome {
	switch {
	case r.Lockout.Mode == Warn && a.Failures > r.Lockout.Tolerated:
		return Locked
	case r.Dormancy.Mode == Warn && (!a.Revocation.IsZero() || r.Dormant(a, now)):
		return Revoked
	case r.Password.Mode == Warn && !sso && r.passwordTooOld(a, since, now):
		return Expired
	}
	return Accepted
}

// Revoke marks an account as revoked for its dormancy (Art. 5.3.c).
func (r Rules) Revoke(a *Account, now time.Time, act Act) Event {
	reason := "not logged in to since " + r.Instant(r.dormancyBaseline(*a))
	if act.Reason != "" {
		reason += ": " + act.Reason
	}
	a.Revocation = Mark{At: now, By: act.Actor, Reason: reason}
	return Event{
		Kind: AccountRevoked, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: "active", After: "revoked", Reason: reason,
	}
}

// ReservationExpired counts an attempt whose reservation has expired: the gateway that
// made it is gone, and the judgement of the mail server is lost. It counts like every
// attempt without an answer, which never locks by itself. It reports whether it has
// counted.
func (r Rules) ReservationExpired(a *Account, now time.Time) ([]Event, bool) {
	before := a.Failures
	events := r.Doubt(a, now, netip.AddrPort{})
	for i := range events {
		events[i].Reason = "the gateway ended before it could note what the mail server answered"
	}
	return events, a.Failures != before
}
