package auth

import (
	"slices"
	"strings"
	"time"
)

// WhileClockSuspect is the rules as they hold while the clock is suspect: what only
// time would bring about does not happen.
func (r Rules) WhileClockSuspect() Rules {
	r.ClockSuspect = true
	r.Lockout.ForgetAfter, r.Lockout.UnlockAfter, r.Lockout.ForgetUnknown = 0, 0, 0
	r.Lockout.keepShared = true
	return r
}

// Doubtful is what was done to one account while the clock was suspect.
type Doubtful struct {
	Newcomer bool        // somebody logged in for the first time
	At       []time.Time // when it was imported or restored, as the clock had it
}

// Redate sets what happened in the future to now, the clock being right again. A
// first login, an import or a restoration while it was not counts from the acceptance,
// or its months might have begun long ago. It reports whether anything changed; names
// that nobody ever logged in with change without an event.
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
	if a.WrongOn > today { // of the form 2006-01-02
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
