package auth

import (
	"slices"
	"strings"
	"time"
)

// WhileClockSuspect returns the rules that hold while the clock is suspect: nothing
// happens that only time would bring about.
func (r Rules) WhileClockSuspect() Rules {
	r.ClockSuspect = true
	r.Lockout.ForgetAfter, r.Lockout.UnlockAfter, r.Lockout.ForgetUnknown = 0, 0, 0
	r.Lockout.keepShared = true
	return r
}

// Doubtful records what was done to one account while the clock was suspect.
type Doubtful struct {
	Newcomer bool        // it had its first login
	At       []time.Time // times of imports and restorations, by the suspect clock
}

// Redate sets instants in the future to now, when the clock is right again. A first
// login, an import or a restoration that happened while the clock was suspect counts
// from accepted; otherwise its months might have begun long ago. Redate reports whether
// it changed anything; names without a login change without an event.
func (r Rules) Redate(a *Account, now time.Time, d Doubtful, accepted time.Time, act Act) (events []Event, changed bool) {
	var before []string
	set := func(what string, t *time.Time, at time.Time) {
		changed = true
		if what != "" {
			before = append(before, what+" "+r.Instant(*t))
		}
		*t = at
	}
	future := func(what string, t *time.Time) {
		if t.After(now) {
			set(what, t, now)
		}
	}
	future("registered", &a.Registered)
	future("first login", &a.FirstLogin)
	future("last login", &a.LastLogin)
	future("restored", &a.Restored)
	future("password since", &a.Password.Since)
	for i := range a.Password.Known {
		future("", &a.Password.Known[i].Since)
	}
	future("locked", &a.Lock.At)
	future("revoked", &a.Revocation.At)
	future("", &a.Stale.At)
	for i := range a.Mistakes {
		future("", &a.Mistakes[i].At)
	}
	for i := range a.Seen {
		future("", &a.Seen[i].At)
	}
	if most := now.Add(r.Password.MaxGrace); a.GraceUntil.After(most) {
		before = append(before, "grace until "+r.Instant(a.GraceUntil))
		a.GraceUntil, changed = most, true
	}
	today := r.Day(now)
	if a.WrongOn > today { // both have the form 2006-01-02
		a.WrongOn, changed = today, true
	}
	if a.AlertedOn > today {
		a.AlertedOn, changed = "", true
	}
	doubted := func(what string, t *time.Time) {
		if t.Before(accepted) && slices.ContainsFunc(d.At, t.Equal) {
			set(what, t, accepted)
		}
	}
	doubted("registered", &a.Registered)
	doubted("restored", &a.Restored)
	if d.Newcomer && a.Known() {
		if a.LastLogin.Before(accepted) {
			set("last login", &a.LastLogin, accepted)
		}
		if !a.Password.Since.IsZero() && a.Password.Since.Before(accepted) {
			set("password since", &a.Password.Since, accepted)
			for i := range a.Password.Known {
				a.Password.Known[i].Since = accepted
			}
		}
	}
	if len(before) == 0 || !a.Known() {
		return nil, changed
	}
	return []Event{{
		Kind: AccountRedated, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: strings.Join(before, ", "), After: "now", Reason: act.Reason,
	}}, changed
}
