package auth

import "time"

// Filter chooses accounts to list, in the order of their names. Zero fields are
// no condition.
type Filter struct {
	// After continues a list behind that name.
	After Name
	// Limit is how many at most; 0 means 100.
	Limit int
	// Contains is a part of the name, canonical or not, compared without case.
	Contains string
	// Locked and Revoked want accounts with a Lock, with a Revocation.
	Locked, Revoked bool
	// Unknown includes names that nobody ever logged in with.
	Unknown bool
	// IdleBefore wants accounts whose last login (or registration, when there
	// was none) is earlier.
	IdleBefore time.Time
	// PasswordBefore wants accounts whose password dates from earlier.
	PasswordBefore time.Time
}

// EventFilter chooses events of the audit log, newest first.
type EventFilter struct {
	Account Name
	Kinds   []EventKind
	// Before wants events with a smaller Seq; 0 begins with the newest.
	Before int64
	// Limit is how many at most; 0 means 100.
	Limit int
}
