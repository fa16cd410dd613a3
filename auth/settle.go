package auth

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The changes that an attempt makes to an account. They are pure functions, run
// by the store in one transaction with the audit events they return.

// lapse lets time do what the rules let it do: forget old failures, end a lock
// made by wrong passwords. Every settlement begins with it.
func (r Rules) lapse(a *Account, now time.Time) []Event {
	if a.Lock.Cause == ByWrongPasswords && r.Lockout.Mode == Enforce && !r.Locked(*a, now) {
		e := Event{
			Kind: AccountUnlocked, Account: a.Name, At: now, Actor: ByGateway, Before: describeLock(a), After: "unlocked",
			Reason: fmt.Sprintf("the lock ended by itself after %s", r.Lockout.UnlockAfter),
		}
		a.Lock = Lock{}
		a.forgive()
		return []Event{e}
	}
	if a.Failures > 0 && r.Lockout.failures(*a, now) == 0 {
		a.forgive()
	}
	return nil
}

// reject counts one wrong password and locks the account when that is one more
// than tolerated (Art. 6.2.d).
func (r Rules) reject(a *Account, now time.Time, source netip.AddrPort) []Event {
	if r.Lockout.Mode == Off {
		return nil
	}
	events := r.lapse(a, now)
	before := describeFailures(a.Failures)
	r.mistake(a, now, source)
	if a.Known() {
		events = append(events, Event{
			Kind: PasswordWrong, Account: a.Name, At: now, Actor: ByUser, Source: source,
			Before: before, After: describeFailures(a.Failures),
		})
	}
	if a.Failures <= r.Lockout.Tolerated || a.Lock.Cause != NotLocked || a.Name.Shared() {
		return events
	}
	e := Event{Account: a.Name, At: now, Actor: ByGateway, Source: source, Before: before, Reason: r.lockReason(a)}
	switch r.Lockout.Mode {
	case Enforce:
		a.Lock = Lock{Mark: Mark{At: now, By: ByGateway, Reason: e.Reason}, Cause: ByWrongPasswords}
		e.Kind, e.After = AccountLocked, describeLock(a)
		if !a.Known() {
			e.Kind = NameLocked
		}
		events = append(events, e)
	case Warn:
		// Once: at the failure that would have locked, not at each one after.
		if a.Failures == r.Lockout.Tolerated+1 {
			e.Kind, e.After = WouldLock, describeFailures(a.Failures)
			events = append(events, e)
		}
	}
	return events
}

// doubt counts a try without a verdict, which never by itself moves an account
// to locked: at the cap one slot stays, and the next real rejection locks.
func (r Rules) doubt(a *Account, now time.Time, source netip.AddrPort) []Event {
	if r.Lockout.Mode == Off {
		return nil
	}
	events := r.lapse(a, now)
	if a.Failures >= r.Lockout.Tolerated {
		return events
	}
	before := describeFailures(a.Failures)
	r.mistake(a, now, source)
	if !a.Known() {
		return events
	}
	return append(events, Event{
		Kind: PasswordInDoubt, Account: a.Name, At: now, Actor: ByGateway, Source: source,
		Before: before, After: describeFailures(a.Failures),
		Reason: "the mail server gave no answer after the password was sent",
	})
}

// mistake counts one failure. Days are counted of accounts only: no login comes
// between the failures of other names.
func (r Rules) mistake(a *Account, now time.Time, source netip.AddrPort) {
	a.mistaken(Mistake{At: now, Source: source})
	if !a.Known() {
		return
	}
	if day := r.day(now); a.WrongOn != day {
		a.WrongOn, a.WrongThatDay = day, 0
	}
	a.WrongThatDay++
}

// observation is a fingerprint of a password that the mail server has accepted,
// made with the account's salt at that time.
type observation struct {
	salt, fingerprint []byte
}

// observe compares an accepted password with those that are remembered: one that is
// not among them is a change, and its age begins now (Art. 9). The first that is seen
// is no change: it may have been set long before.
func (r Rules) observe(a *Account, now time.Time, o observation, source netip.AddrPort) (events []Event, write bool) {
	switch {
	case len(o.fingerprint) == 0, r.ClockSuspect: // its age would begin at no instant
		return nil, false
	case len(a.Password.Salt) == 0:
		a.Password.Salt = o.salt
	case !bytes.Equal(a.Password.Salt, o.salt):
		// Made while somebody else wrote the first salt: made again next time.
		return nil, false
	}
	p := &a.Password
	if len(p.Known) == 0 {
		if p.Since.IsZero() {
			p.Since = now
		}
		p.Known = []KnownPassword{{Fingerprint: o.fingerprint, Since: p.Since}}
		return nil, true
	}
	if p.place(o.fingerprint) >= 0 {
		return nil, false
	}
	before := "password since " + r.Instant(p.Since)
	r.remember(p, o.fingerprint, now)
	a.GraceUntil, a.AlertedOn = time.Time{}, ""
	return []Event{{
		Kind: PasswordChanged, Account: a.Name, At: now, Actor: ByUser, Source: source,
		Before: before, After: "password since " + r.Instant(p.Since),
		Reason: "a login with another password than before",
	}}, true
}

// acceptance is what accept needs to know beyond the account.
type acceptance struct {
	now      time.Time
	source   netip.AddrPort
	window   time.Duration // in which last logins are coalesced
	observed observation   // of the password; empty when the fingerprint is made later
	sso      bool
	canAlert bool // the protocol can show a text to the user
}

// accepted is how accept decided.
type accepted struct {
	outcome   Outcome
	would     Outcome
	alert     bool
	expiresIn int
	events    []Event
	write     bool
}

// accept is what happens after the mail server has taken the password: the
// account is judged as it is now, not as it was when the attempt began.
func (r Rules) accept(a *Account, s acceptance) (v accepted) {
	if r.Locked(*a, s.now) {
		v.outcome = Locked
		return v
	}
	if events := r.lapse(a, s.now); len(events) > 0 {
		v.events, v.write = events, true
	}
	if r.Revoked(*a, s.now) {
		// The sweep makes the mark, not the login: a clock that is wrong for an hour
		// must not leave marks that only an admin can take away.
		v.outcome = Revoked
		return v
	}
	if events, write := r.observe(a, s.now, s.observed, s.source); write {
		v.events, v.write = append(v.events, events...), true
	}
	since := a.Password.since(s.observed.fingerprint)
	if !s.sso && r.expired(*a, since, s.now) {
		v.outcome = Expired
		return v
	}

	v.would = r.would(*a, since, s.now, s.sso)
	if v.would == Revoked && r.Dormant(*a, s.now) { // this login ends the disuse
		v.events = append(v.events, Event{
			Kind: WouldRevoke, Account: a.Name, At: s.now, Actor: ByGateway, Source: s.source,
			Reason: "unused since " + r.Instant(r.dormancyBaseline(*a)),
		})
	}
	if a.FirstLogin.IsZero() {
		a.FirstLogin = s.now
		before := "imported"
		if !a.Known() {
			a.Registered, before = s.now, "unknown"
		}
		if a.Password.Since.IsZero() && !s.sso {
			a.Password.Since = s.now
		}
		v.events = append(v.events, Event{
			Kind: FirstLogin, Account: a.Name, At: s.now, Actor: ByUser, Source: s.source, Before: before, After: "active",
		})
		v.write = true
	}
	if a.Failures > 0 {
		a.forgive()
		v.write = true
	}
	if !r.ClockSuspect && a.see(Source(s.source.Addr()), s.now) {
		v.write = true
	}
	if !r.ClockSuspect && s.now.Sub(a.LastLogin) >= s.window || len(v.events) > 0 {
		v.write = true
	}
	// What is known is not replaced by what a suspect clock shows; the guard keeps
	// the login until the clock is accepted.
	if v.write && s.now.After(a.LastLogin) && (!r.ClockSuspect || a.LastLogin.IsZero()) {
		a.LastLogin = s.now
	}
	if days, soon := r.expiringIn(*a, a.Password.since(s.observed.fingerprint), s.now); soon && s.canAlert && !s.sso {
		v.alert, v.expiresIn = true, days
		if day := r.day(s.now); a.AlertedOn != day {
			a.AlertedOn, v.write = day, true
		}
	}
	v.outcome = Accepted
	return v
}

// would is the outcome that a login about to be accepted would have had if the
// rules in mode warn were enforced; Accepted when none objects. The password is the
// one that was accepted first at since.
func (r Rules) would(a Account, since, now time.Time, sso bool) Outcome {
	switch {
	case r.Lockout.Mode == Warn && a.Failures > r.Lockout.Tolerated:
		return Locked
	case r.Dormancy.Mode == Warn && (!a.Revocation.IsZero() || r.Dormant(a, now)):
		return Revoked
	case r.Password.Mode == Warn && !sso && r.tooOld(a, since, now):
		return Expired
	}
	return Accepted
}

// revoke marks an account as revoked for its dormancy (Art. 5.3.c).
func (r Rules) revoke(a *Account, now time.Time, act Act) Event {
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

func describeFailures(n int) string {
	if n == 1 {
		return "1 wrong password"
	}
	return fmt.Sprintf("%d wrong passwords", n)
}

// lockReason tells where the wrong passwords came from.
func (r Rules) lockReason(a *Account) string {
	var sources []string
	seen := make(map[netip.Addr]bool)
	for _, m := range a.Mistakes {
		if addr := m.Source.Addr(); addr.IsValid() && !seen[addr] {
			seen[addr] = true
			sources = append(sources, addr.String())
		}
	}
	return fmt.Sprintf("%s, %d tolerated, from %s", describeFailures(a.Failures), r.Lockout.Tolerated, strings.Join(sources, ", "))
}
