package auth

import (
	"net/netip"
	"time"
)

// Account is everything that is remembered of one name. It is data: the decisions are in
// [Rules]. Times are UTC with microseconds; a zero time means never.
type Account struct {
	Name Name
	// Unit is the agency that the account belongs to, as it was imported; empty
	// when it is not known. Reports for each agency use it (Art. 13.9).
	Unit string

	// Registered is when the name became an account: imported, or its first
	// accepted login. Zero for a name without any accepted login; such names
	// have failures and locks like any other, but sweeps, reports and gauges leave
	// them out, and so do lists without [Filter].Unknown.
	Registered time.Time
	// FirstLogin is the first accepted login through this gateway.
	FirstLogin time.Time
	// LastLogin is the last accepted login, through this gateway or as
	// imported. It never goes back, and lags by at most the coalescing window.
	LastLogin time.Time

	// Failures counts the wrong passwords since the last accepted login or
	// unlock (Art. 6.2.d).
	Failures int
	// Mistakes are the latest of those failures, oldest first, at most [MaxMistakes]. Of
	// a shared counter they are the very first and the latest.
	Mistakes []Mistake
	// WrongOn is the calendar day of the latest failure (2006-01-02, in the
	// regulation's time zone), and WrongThatDay their number on that day. A
	// login does not reset them: they show slow guessing between the owner's logins.
	WrongOn      string
	WrongThatDay int
	// Seen are the sources that the account was last logged in to from, the
	// latest first, at most [MaxSeen].
	Seen []Seen
	// Stale is the latest attempt with an earlier password: a device that still has
	// the password from before a change. Noted at most once an hour.
	Stale Mistake

	// Lock is set while the account is locked.
	Lock Lock
	// Revocation is set while the account is revoked (Art. 5.3.c).
	Revocation Mark
	// Restored is when an admin last restored the account: its 12 months
	// restart there.
	Restored time.Time

	// Password is what is remembered of the passwords (Art. 9).
	Password Password
	// GraceUntil is the instant until which an expired password is still accepted.
	GraceUntil time.Time
	// AlertedOn is the calendar day (2006-01-02, in the regulation's time zone)
	// of the last warning to the user that the password expires soon.
	AlertedOn string
}

// MaxMistakes is the number of failures that are kept with their source.
const MaxMistakes = 8

// Mistake is one counted failure and its source.
type Mistake struct {
	At     time.Time      `json:"at"`
	Source netip.AddrPort `json:"source"`
}

// MaxSeen is the number of sources of logins that are kept.
const MaxSeen = 8

// Seen is a source from which a login was accepted.
type Seen struct {
	At     time.Time    `json:"at"`
	Source netip.Prefix `json:"source"`
}

// Mark says who did something, when, and why.
type Mark struct {
	At     time.Time
	By     string
	Reason string
}

// IsZero reports whether the mark is not set.
func (m Mark) IsZero() bool { return m.At.IsZero() }

// Lock says who locked an account, when and why.
type Lock struct {
	Mark
	Cause LockCause
}

// LockCause distinguishes a lock made by wrong passwords from one made by an admin: the
// first may end by itself if the rules say so, the second ends live sessions.
type LockCause uint8

const (
	NotLocked LockCause = iota
	ByWrongPasswords
	ByAdmin

	numLockCauses
)

var lockCauseNames = [numLockCauses]string{"", "wrong_passwords", "admin"}

// String returns the name used in metrics, logs and JSON.
func (c LockCause) String() string { return enumName(c, lockCauseNames[:]) }

// LockCauses lists the causes an account can be locked for.
func LockCauses() []LockCause { return enumValues[LockCause](int(numLockCauses))[1:] }

// Known reports whether the name is an account: it has logged in at least
// once, or was imported.
func (a Account) Known() bool { return !a.Registered.IsZero() }

// SeenFor is how long a login proves that a source belongs to the owner.
const SeenFor = 30 * 24 * time.Hour

// SeenFrom reports whether the account was logged in to from the source within
// the last 30 days.
func (a Account) SeenFrom(source netip.Prefix, now time.Time) bool {
	for _, s := range a.Seen {
		if s.Source == source {
			return now.Sub(s.At) < SeenFor
		}
	}
	return false
}

// see notes the source of an accepted login, once a day, and reports whether it has
// changed anything.
func (a *Account) see(source netip.Prefix, now time.Time) bool {
	if !source.IsValid() {
		return false
	}
	seen := []Seen{{At: now, Source: source}}
	for _, s := range a.Seen {
		switch {
		case s.Source != source:
			seen = append(seen, s)
		case now.Sub(s.At) < 24*time.Hour:
			return false
		}
	}
	a.Seen = seen[:min(len(seen), MaxSeen)]
	return true
}

// addFailure records one counted failure.
func (a *Account) addFailure(m Mistake) {
	a.Failures++
	switch {
	case len(a.Mistakes) < MaxMistakes:
	case a.Name.Shared(): // keep its first failure, which says when it is emptied
		a.Mistakes = append(a.Mistakes[:1:1], a.Mistakes[2:]...)
	default:
		a.Mistakes = a.Mistakes[len(a.Mistakes)-MaxMistakes+1:]
	}
	a.Mistakes = append(append([]Mistake(nil), a.Mistakes...), m)
}

// Forgive forgets all failures.
func (a *Account) Forgive() { a.Failures, a.Mistakes = 0, nil }
