package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Imported is one account of a list from another system. A zero field says
// nothing, so the present value stays.
type Imported struct {
	Name Name
	Unit string
	// Registered is when the mailbox was assigned, LastLogin the last login to it
	// by any protocol or system, PasswordChanged when its password was set.
	Registered, LastLogin, PasswordChanged time.Time
}

// Import merges an entry of a list into an account; it makes the name an account. Each
// field is corrected in one direction only, so that neither an old list nor the same list
// again does any harm:
//
//   - registered is the earlier of the present value and the list's; a login proves
//     that there was an account. A new account for which the list has neither is
//     registered now, and its 12 months begin (Art. 5.3.c).
//   - the last login is the latest; it never goes back.
//   - the age of the password is the list's as long as no fingerprint of it was seen
//     here and no earlier list has a later date. What this gateway has seen of a
//     password itself is better evidence (Art. 9).
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

// ListMark identifies the list of an import in the audit log: its number of accounts,
// and the SHA-256 of the file, in hexadecimal.
type ListMark struct {
	Accounts int
	Digest   string
}

func (m ListMark) String() string {
	return fmt.Sprintf("%d accounts, list sha256:%s", m.Accounts, m.Digest)
}

// ImportsLookedAt is the number of the latest events of imports that are read to find an
// interrupted one.
const ImportsLookedAt = 200

// List returns the list of an import; false if the event is not of an import.
func (e Event) List() (m ListMark, ok bool) {
	if e.Kind != ImportBegun && e.Kind != ImportFinished {
		return m, false
	}
	n, _ := fmt.Sscanf(e.Before, "%d accounts, list sha256:%s", &m.Accounts, &m.Digest)
	return m, n > 0
}

// UnfinishedImports returns, from the events of imports, newest first, the beginnings of
// those that are not finished, the oldest first and each list once. Such an import still
// runs or was interrupted. It is over when the same list is finished, or a later one
// with at least as many accounts.
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
