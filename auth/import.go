package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Imported is what a list kept elsewhere says of one account. Zero fields say
// nothing: what is known stays.
type Imported struct {
	Name Name
	Unit string
	// Registered is when the mailbox was given out, LastLogin when it was last
	// logged in to by whatever door, PasswordChanged when its password was set.
	Registered, LastLogin, PasswordChanged time.Time
}

// Import merges what a list says into what is known of an account; the name
// becomes an account with it. What is known is corrected in one direction only,
// so that neither an old list nor the same list again does any harm:
//
//   - registered is the earliest of what is known and what the list says; a
//     login is proof that there was an account. A new account of which the list
//     says neither is registered now, and its 12 months begin (Art. 5.3.c).
//   - the last login is the latest; it never goes back.
//   - the age of the password is the list's while no fingerprint of it was seen
//     here, and what an earlier list said is older. What this gateway has seen
//     of a password itself is better evidence (Art. 9).
//   - the unit is replaced.
//
// Failures, locks, revocations and grace stay: an import releases nothing.
func (r Rules) Import(a *Account, from Imported, now time.Time, act Act) (events []Event, write bool) {
	var before, after []string
	set := func(what string, field *time.Time, t time.Time) {
		if !field.IsZero() {
			before = append(before, what+" "+r.Instant(*field))
		}
		after = append(after, what+" "+r.Instant(t))
		*field = t
	}
	known := a.Known()
	if !known {
		before = append(before, "no account")
	}
	if unit := normalizeText(from.Unit); unit != "" && unit != a.Unit {
		if a.Unit != "" {
			before = append(before, "unit "+a.Unit)
		}
		after = append(after, "unit "+unit)
		a.Unit = unit
	}
	registered := earlier(NormalizeTime(from.Registered), NormalizeTime(from.LastLogin))
	if registered.IsZero() && !known {
		registered = NormalizeTime(now)
	}
	if !registered.IsZero() && (!known || registered.Before(a.Registered)) {
		set("registered", &a.Registered, registered)
	}
	if login := NormalizeTime(from.LastLogin); login.After(a.LastLogin) {
		set("last login", &a.LastLogin, login)
	}
	if changed := NormalizeTime(from.PasswordChanged); changed.After(a.Password.Since) && len(a.Password.Known) == 0 {
		set("password since", &a.Password.Since, changed)
	}
	if len(after) == 0 {
		return nil, false
	}
	return []Event{{
		Kind: AccountImported, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: strings.Join(before, ", "), After: strings.Join(after, ", "), Reason: act.Reason,
	}}, true
}

// ListMark says which list an import takes over, in the audit log: how many
// accounts it has, and the SHA-256 of the file, hexadecimal, by which it is known
// again.
type ListMark struct {
	Accounts int
	Digest   string
}

func (m ListMark) String() string {
	return fmt.Sprintf("%d accounts, list sha256:%s", m.Accounts, m.Digest)
}

// ImportsLookedAt is how many of the latest events of imports are read to find one
// that was interrupted.
const ImportsLookedAt = 200

// List returns the list that an import took over; false where the event is of
// anything else.
func (e Event) List() (m ListMark, ok bool) {
	if e.Kind != ImportBegun && e.Kind != ImportFinished {
		return m, false
	}
	n, _ := fmt.Sscanf(e.Before, "%d accounts, list sha256:%s", &m.Accounts, &m.Digest)
	return m, n > 0
}

// UnfinishedImports returns of the events of imports, newest first, those that
// tell of one that was begun and is not finished, the oldest first and each list
// once. It goes on or was interrupted. It is over when the same list is finished, or
// a later one with at least as many accounts.
func UnfinishedImports(newestFirst []Event) (begun []Event) {
	for _, e := range slices.Backward(newestFirst) {
		list, ok := e.List()
		if !ok {
			continue
		}
		begun = slices.DeleteFunc(begun, func(earlier Event) bool {
			other, _ := earlier.List()
			return other.Digest == list.Digest || e.Kind == ImportFinished && other.Accounts <= list.Accounts
		})
		if e.Kind == ImportBegun {
			begun = append(begun, e)
		}
	}
	return begun
}
