// Package storetest says what a store of accounts must do, as tests that any
// store can be put through, and as a model that is simple enough to be obviously
// right.
//
// [Run] is the contract: auth/sqlite and auth/postgres, and whatever comes
// later, pass the same cases. [Model] passes them too; it is the store of tests
// that are about the rules and not about storing, with fields that make it
// fail at the worst moments.
//
// What the contract adds to the words of [auth.Store]:
//
//   - A change that panics is an error of that Update only. Nothing is written
//     and the reservation stays taken, as with any other error.
//   - change never runs after its Update has returned, so it may set variables
//     of its caller.
//   - A caller whose context ends while its change is under way gets the
//     context's error; the change and its events are then wholly there or
//     wholly not. When they are, the reservation is free.
//   - An account about which there is nothing to remember takes no room.
//   - The bound on unknown names counts names that hold a slot for the first
//     time: an attempt that was let through can always be settled.
//   - Times come back in UTC with microseconds, empty slices as nil; text is
//     made valid UTF-8 without NUL.
package storetest

import (
	"context"

	"congthu/auth"
	"congthu/auth/audit"
)

// Store is a store with everything that the gateway uses of it: what the guard
// needs, lists, and the audit log.
type Store interface {
	audit.Prunable
	auth.Importer

	// Each calls f for every known account in the order of names, until it
	// returns an error, which is returned. f may use the store.
	Each(ctx context.Context, f func(auth.Account) error) error
	// List returns the accounts that the filter wants, in the order of names.
	List(ctx context.Context, want auth.Filter) ([]auth.Account, error)
	// UnknownNames is how many names are remembered that nobody ever logged in
	// with.
	UnknownNames(ctx context.Context) (int, error)
	// Verify walks the chain of events and returns its head. A chain that was
	// tampered with is an *audit.BrokenChain. progress may be nil.
	Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error)
}
