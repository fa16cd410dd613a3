package auth

import (
	"net/netip"
	"time"
)

// Event is one entry of the audit log: who did what to which account, when, from where,
// the state before and after, and why. Events are append-only and chained by hash: a
// change or removal of one breaks every later hash.
type Event struct {
	// Seq numbers the events of one chain from 1 without gaps. The store sets it.
	Seq int64 `json:"seq"`
	// At is when it happened, UTC, microseconds.
	At   time.Time `json:"at"`
	Kind EventKind `json:"kind"`
	// Account is the name that was changed; empty for events of the whole gateway.
	Account Name `json:"account,omitempty"`
	// Actor is who did it: "user" (the client that tried to log in), "gateway" (a rule,
	// by itself), or the named person behind an admin token or socket.
	Actor string `json:"actor"`
	// Source is the client's address and port; both, since offices of a province
	// share addresses. Zero when there is none.
	Source netip.AddrPort `json:"source,omitzero"`
	// Before and After are short states, such as "locked" and "active".
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Reason is a sentence from the admin or from the rule.
	Reason string `json:"reason,omitempty"`
	// Hash is audit.Chain(previous hash, this event), hexadecimal. The store sets it.
	Hash string `json:"hash"`
}

// EventKind is the kind of an event.
type EventKind string

const (
	FirstLogin      EventKind = "login.first"        // a name became an account
	PasswordWrong   EventKind = "password.wrong"     // a wrong password was counted on an account
	PasswordInDoubt EventKind = "password.in_doubt"  // a try without a verdict was counted
	PasswordChanged EventKind = "password.changed"   // a login with another password than before
	AccountLocked   EventKind = "account.locked"     // Art. 6.2.d, or an admin
	NameLocked      EventKind = "name.locked"        // Art. 6.2.d, a name without a login
	AccountUnlocked EventKind = "account.unlocked"   // by an admin, or by time where the rules say so
	AccountRevoked  EventKind = "account.revoked"    // Art. 5.3.c
	AccountRestored EventKind = "account.restored"   // by an admin
	AccountImported EventKind = "account.imported"   // by an admin, from a list kept elsewhere
	ImportBegun     EventKind = "import.begun"       // by an admin: a list is imported, batch by batch; see [ListMark]
	ImportFinished  EventKind = "import.finished"    // the whole list is imported
	GraceGranted    EventKind = "password.grace"     // an expired password is accepted for some more days
	WouldLock       EventKind = "account.would_lock" // in mode warn: the rule would have locked
	WouldRevoke     EventKind = "account.would_revoke"
	AccountMerged   EventKind = "account.merged" // a row under another name of the account was joined with it
	SourceAllowed   EventKind = "source.allowed" // by an admin, for some time, or the end of an allowance: see guard.Guard.AllowSource
	AuditPruned     EventKind = "audit.pruned"   // the oldest events are removed: see audit.Prune
	ClockSuspected  EventKind = "clock.suspected"
	ClockAccepted   EventKind = "clock.accepted"  // by an admin: see guard.Guard.AcceptClock
	RulesAdopted    EventKind = "rules.adopted"   // the settings that gateways on one store have in common changed: see [Agreement]
	AccountRedated  EventKind = "account.redated" // an instant in the future was changed when the clock was accepted
)

// EventKinds lists every kind.
func EventKinds() []EventKind {
	return []EventKind{
		FirstLogin, PasswordWrong, PasswordInDoubt, PasswordChanged, AccountLocked, NameLocked,
		AccountUnlocked, AccountRevoked, AccountRestored, AccountImported, ImportBegun, ImportFinished, GraceGranted, WouldLock, WouldRevoke,
		AccountMerged, SourceAllowed, AuditPruned, ClockSuspected, ClockAccepted, AccountRedated,
		RulesAdopted,
	}
}

// ByUser and ByGateway are the actors that are not a named person.
const (
	ByUser    = "user"
	ByGateway = "gateway"
)

// OfNoAccount reports whether all events of these kinds concern the whole gateway: their
// [Event].Account is empty. Stores use this to find these few events in a long log.
func OfNoAccount(kinds []EventKind) bool {
	for _, k := range kinds {
		switch k {
		case ClockSuspected, ClockAccepted, SourceAllowed, RulesAdopted, ImportBegun, ImportFinished:
		default:
			return false
		}
	}
	return len(kinds) > 0
}
