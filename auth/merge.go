package auth

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Merged is an account that was joined, or would be, with what the store had of it
// under other names.
type Merged struct {
	// Account is as it is afterwards.
	Account Account
	// From are the rows under other names, as they were.
	From []Account
}

// Merge joins an account with what the store has of it under names that are not its
// own any more, and removes that. Nothing is forgiven: it keeps every lock and
// revocation, and the most failures (see [Rules.Merge]). The error is
// ErrNothingToDo when there is no such name. With dry nothing is changed, and no
// reason is needed.
//
// The account is written first. Should the gateway end before the other name is
// removed, that one goes on to hold for the account, and merging again ends it.
func (g *Guard) Merge(ctx context.Context, account Name, act Act, dry bool) (Merged, error) {
	g.init()
	if !dry && strings.TrimSpace(act.Reason) == "" {
		return Merged{}, ErrReasonMissing
	}
	strays := g.policy.Load().strays
	rows, err := g.OtherNames(ctx, account)
	if err != nil {
		return Merged{}, fmt.Errorf("store: %w", err)
	}
	if len(rows) == 0 {
		return Merged{}, fmt.Errorf("%w: nothing is kept of %s under another name", ErrNothingToDo, account)
	}
	merged := Merged{From: rows}
	if dry {
		merged.Account, err = g.Store.Account(ctx, account)
		if err != nil {
			return Merged{}, fmt.Errorf("store: %w", err)
		}
		for _, row := range rows {
			g.Rules().Merge(&merged.Account, row, g.now(), act)
		}
		return merged, nil
	}
	for _, row := range rows {
		if merged.Account, err = g.merge(ctx, account, row, act); err != nil {
			return Merged{}, err
		}
		strays.remove(row.Name)
	}
	return merged, nil
}

// MergeAll merges every account of which there is anything under other names, in
// the order of their names. It goes on behind an account that somebody else has
// merged meanwhile, and ends at the first failure of the store.
func (g *Guard) MergeAll(ctx context.Context, store Lister, act Act, dry bool) (all []Merged, err error) {
	if !dry && strings.TrimSpace(act.Reason) == "" {
		return nil, ErrReasonMissing
	}
	if _, err := g.LearnNames(ctx, store); err != nil {
		return nil, err
	}
	for _, account := range g.policy.Load().strays.accounts() {
		merged, err := g.Merge(ctx, account, act, dry)
		switch {
		case errors.Is(err, ErrNothingToDo):
		case err != nil:
			return all, err
		default:
			all = append(all, merged)
		}
	}
	return all, nil
}

// merge joins an account with one row under another name and removes the row. A row
// that somebody changes in between, a gateway that reads names as it was read
// before, is joined again.
func (g *Guard) merge(ctx context.Context, account Name, row Account, act Act) (after Account, err error) {
	rules := g.Rules()
	for range mergeTries {
		var happened []Event
		after, err = g.storeUpdate(ctx, account, 0, func(a *Account) ([]Event, bool) {
			happened = rules.Merge(a, row, g.now(), act)
			return happened, true
		})
		if err != nil {
			return after, fmt.Errorf("store: %w", err)
		}
		// A lock must be known before its owner is asked for a password again.
		g.forgetKnown(account)
		for _, e := range happened {
			if e.Kind == AccountLocked || e.Kind == AccountRevoked {
				g.endSessions(account)
			}
		}
		g.gates.wakeAll(account)
		g.happened(happened, after.Known())

		now, gone, was := g.now(), false, row
		var removed []Event
		_, err = g.storeUpdate(ctx, row.Name, 0, func(a *Account) ([]Event, bool) {
			row, removed = a.Normal(), nil
			if gone = reflect.DeepEqual(row, was); !gone {
				return nil, false
			}
			removed = []Event{{
				Kind: AccountMerged, Account: row.Name, At: now, Actor: act.Actor, Source: act.Source,
				Before: describe(row), After: "merged into " + string(account), Reason: act.Reason,
			}}
			*a = Account{Name: a.Name}
			return removed, true
		})
		if err != nil {
			return after, fmt.Errorf("store: %w", err)
		}
		if gone {
			g.happened(removed, row.Known())
			return after, nil
		}
		if row.Blank() {
			return after, nil // somebody else has done the same
		}
	}
	return after, fmt.Errorf("store: %s changes as fast as it can be merged: does another gateway still use it?", row.Name)
}

// mergeTries is how often a row may change while it is being merged.
const mergeTries = 5

// Merge joins an account with what was kept under another name of it: the worse of
// both where the rules hold something against it, the later of both where they ask
// when it was used. Merging the same again changes nothing.
//
//   - a lock stays, an admin's before one by wrong passwords, the later of two
//     alike, which ends later; so does a revocation. Of the failures the larger number counts.
//   - registration and first login are the earliest, the last login the latest.
//   - the passwords are those of the name that was logged in to last. The age of the
//     newest (Art. 9) begins with the latest change that was seen here, or else when a
//     password was first seen under either name. Grace ends.
//   - the sources of both are known.
func (r Rules) Merge(a *Account, from Account, now time.Time, act Act) []Event {
	before, was := describe(*a), a.Clone()
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
	if from.Known() { // one that nobody ever logged in with may be a mistyped password
		other = string(from.Name)
	}
	events := []Event{{
		Kind: AccountMerged, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: before, After: fmt.Sprintf("merged with %s: %s", other, describe(*a)), Reason: act.Reason,
	}}
	// What ends sessions, here and at other gateways, is told as what it is.
	if a.Lock.Cause == ByAdmin && was.Lock.Cause != ByAdmin {
		events = append(events, Event{
			Kind: AccountLocked, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
			Before: describeLock(&was), After: "locked by admin", Reason: act.Reason,
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

// describe says what the rules hold against an account.
func describe(a Account) string {
	if a.Blank() {
		return "nothing known"
	}
	text := describeLock(&a)
	if !a.Revocation.IsZero() {
		text += ", revoked"
	}
	return text
}

// mergedPassword is what is remembered of the password of a merged account.
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
		// Only a change that was seen here leaves an earlier password.
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
