package auth

import (
	"fmt"
	"slices"
	"time"
)

// Merge joins an account with a row under another name of it: where the rules hold
// something against it, it keeps the worse of both; where they ask when it was used, the
// later of both. Merging the same row again changes nothing.
//
//   - a lock stays: an admin's takes precedence over one by wrong passwords, and of two
//     of the same kind the later, which ends later. A revocation stays too. The larger
//     number of failures counts.
//   - registration and first login are the earliest, the last login the latest.
//   - the passwords are those of the name with the later last login. The age of the
//     newest (Art. 9) begins with the latest change that was seen here, or else when a
//     password was first seen under either name. Grace ends.
//   - the sources of logins of both are kept.
func (r Rules) Merge(a *Account, from Account, now time.Time, act Act) []Event {
	before, was := Describe(*a), a.Clone()
	if a.Unit == "" {
		a.Unit = from.Unit
	}
	later := from.LastLogin.After(a.LastLogin)
	a.Password = mergedPassword(*a, from, later)
	a.Registered = earlier(a.Registered, from.Registered)
	a.FirstLogin = earlier(a.FirstLogin, from.FirstLogin)
	if later {
		a.LastLogin = from.LastLogin
	}
	a.Failures = max(a.Failures, from.Failures)
	a.Mistakes = mergedMistakes(a.Mistakes, from.Mistakes)
	switch {
	case from.WrongOn > a.WrongOn:
		a.WrongOn, a.WrongThatDay = from.WrongOn, from.WrongThatDay
	case from.WrongOn == a.WrongOn:
		a.WrongThatDay = max(a.WrongThatDay, from.WrongThatDay)
	}
	a.Seen = mergedSeen(a.Seen, from.Seen)
	if from.Stale.At.After(a.Stale.At) {
		a.Stale = from.Stale
	}
	if from.Lock.Cause > a.Lock.Cause || from.Lock.Cause == a.Lock.Cause && from.Lock.At.After(a.Lock.At) {
		a.Lock = from.Lock
	}
	if a.Revocation.IsZero() || !from.Revocation.IsZero() && from.Revocation.At.Before(a.Revocation.At) {
		a.Revocation = from.Revocation
	}
	if from.Restored.After(a.Restored) {
		a.Restored = from.Restored
	}
	a.GraceUntil = time.Time{}
	a.AlertedOn = max(a.AlertedOn, from.AlertedOn)

	other := "another name"
	if from.Known() { // a name without a login may be a mistyped password
		other = string(from.Name)
	}
	events := []Event{{
		Kind: AccountMerged, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: before, After: fmt.Sprintf("merged with %s: %s", other, Describe(*a)), Reason: act.Reason,
	}}
	// Locks and revocations end sessions, here and at other gateways, so they have their own events.
	if a.Lock.Cause == ByAdmin && was.Lock.Cause != ByAdmin {
		events = append(events, Event{
			Kind: AccountLocked, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
			Before: DescribeLock(&was), After: "locked by admin", Reason: act.Reason,
		})
	}
	if !a.Revocation.IsZero() && was.Revocation.IsZero() {
		events = append(events, Event{
			Kind: AccountRevoked, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
			Before: "active", After: "revoked", Reason: act.Reason,
		})
	}
	return events
}

// mergedPassword returns the passwords of a merged account.
func mergedPassword(a, from Account, later bool) Password {
	p, other := a.Password, from.Password
	if later {
		p, other = other, p
	}
	if len(p.Known) == 0 && p.Since.IsZero() {
		p, other = other, p
	}
	since, seen := earlier(p.Since, other.Since), false
	for _, q := range []Password{p, other} {
		// There is an earlier password only after a change that was seen here.
		if len(q.Known) > 1 && (!seen || q.Since.After(since)) {
			since, seen = q.Since, true
		}
	}
	p = p.clone()
	p.Since = since
	if n := len(p.Known); n > 0 {
		p.Known[n-1].Since = since
	}
	return p
}

func mergedMistakes(a, b []Mistake) []Mistake {
	all := slices.Clone(a)
	for _, m := range b {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(x, y Mistake) int { return x.At.Compare(y.At) })
	return all[max(0, len(all)-MaxMistakes):]
}

func mergedSeen(a, b []Seen) []Seen {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(x, y Seen) int { return y.At.Compare(x.At) })
	var seen []Seen
	for _, s := range all {
		if !slices.ContainsFunc(seen, func(t Seen) bool { return t.Source == s.Source }) {
			seen = append(seen, s)
		}
	}
	return seen[:min(len(seen), MaxSeen)]
}
