package auth

import (
	"net/netip"
	"time"
)

// Event is one entry of the audit log: who did what to which account, when,
// from where, what it was before and after, and why. Events are append-only
// and chained by hash: changing or removing one breaks every later hash.
type Event struct {
	// Seq numbers the events of one chain from 1 without gaps. Given by the store.
	Seq int64 `json:"seq"`
	// At is when it happened, UTC, microseconds.
	At   time.Time `json:"at"`
	Kind EventKind `json:"kind"`
	// Account is the name that it happened to; empty for acts on the whole gateway.
	Account Name `json:"account,omitempty"`
	// Actor is who did it: "user" (whoever tried to log in), "gateway" (a rule,
	// by itself), or the named person behind an admin token or socket.
	Actor string `json:"actor"`
	// Source is the client's address and port; both, since a province's offices
	// share addresses. Zero when there is none.
	Source netip.AddrPort `json:"source,omitzero"`
	// Before and After are short states, such as "locked" and "active".
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Reason is a sentence: given by the admin, or composed by the rule.
	Reason string `json:"reason,omitempty"`
	// Hash is Chain(previous hash, this event), hexadecimal. Given by the store.
	Hash string `json:"hash"`
}

// EventKind is what happened.
type EventKind string

const (
	FirstLogin      EventKind = "login.first"        // a name became an account
	PasswordWrong   EventKind = "password.wrong"     // a wrong password was counted on an account
	PasswordInDoubt EventKind = "password.in_doubt"  // a try without a verdict was counted
	PasswordChanged EventKind = "password.changed"   // a login with another password than before
	AccountLocked   EventKind = "account.locked"     // Art. 6.2.d, or an admin
	NameLocked      EventKind = "name.locked"        // Art. 6.2.d, a name that nobody ever logged in with
	AccountUnlocked EventKind = "account.unlocked"   // by an admin, or by itself where the rules say so
	AccountRevoked  EventKind = "account.revoked"    // Art. 5.3.c
	AccountRestored EventKind = "account.restored"   // by an admin
	AccountImported EventKind = "account.imported"   // by an admin, from a list kept elsewhere
	ImportBegun     EventKind = "import.begun"       // by an admin: a list is taken over, batch by batch; see [ListMark]
	ImportFinished  EventKind = "import.finished"    // the whole list is
	GraceGranted    EventKind = "password.grace"     // an expired password may go on for some days
	WouldLock       EventKind = "account.would_lock" // as the enforcing rule would have, in mode warn
	WouldRevoke     EventKind = "account.would_revoke"
	AccountMerged   EventKind = "account.merged" // what was kept under another name of the account was joined with it
	SourceAllowed   EventKind = "source.allowed" // by an admin, for some time, or the end of that: see guard.Guard.AllowSource
	AuditPruned     EventKind = "audit.pruned"   // the oldest events are removed: see audit.Prune
	ClockSuspected  EventKind = "clock.suspected"
	ClockAccepted   EventKind = "clock.accepted"  // by an admin: see guard.Guard.AcceptClock
	RulesAdopted    EventKind = "rules.adopted"   // the settings that gateways on one store have in common changed: see [Agreement]
	AccountRedated  EventKind = "account.redated" // what was in the future happened when the clock was accepted
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

// OfNoAccount reports whether events of these kinds are all of the whole gateway:
// their [Event].Account is empty. Stores find these few in a long log by that.
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
