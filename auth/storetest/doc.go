// Package storetest defines what a store of accounts must do: as tests for any store,
// and as a model that is simple enough to be obviously right.
//
// [Run] is the contract: auth/sqlite, auth/postgres and every later store pass the
// same cases. [Model] passes them too. Tests of the rules, which do not test storage,
// use it as their store; its fields make it fail at the worst moments.
//
// The contract adds to the documentation of [auth.Store]:
//
//   - A change that panics is an error of that Update only. Nothing is written
//     and the reservation stays taken, as with any other error.
//   - change never runs after its Update has returned, so it may set variables
//     of its caller.
//   - A caller whose context ends while its change is in progress gets the
//     context's error; the change and its events are then either written completely or
//     not at all. If they are written, the reservation is free.
//   - An account with nothing to remember takes no room.
//   - The limit on unknown names counts names that hold a slot for the first
//     time: an attempt that was admitted can always be settled.
//   - Times come back in UTC with microseconds, empty slices as nil; text is
//     made valid UTF-8 without NUL.
package storetest

import (
	"context"

	"congthu/auth"
	"congthu/auth/audit"
)

// Store is a store with everything that the gateway uses: what the guard needs, lists,
// and the audit log.
type Store interface {
	audit.Prunable
	auth.Importer

	// Each calls f for every known account in the order of names, until f
	// returns an error, which is returned. f may use the store.
	Each(ctx context.Context, f func(auth.Account) error) error
	// List returns the accounts that match the filter, in the order of names.
	List(ctx context.Context, want auth.Filter) ([]auth.Account, error)
	// UnknownNames is the number of names in the store that have never had a
	// login.
	UnknownNames(ctx context.Context) (int, error)
	// Verify checks the chain of events and returns its head. A chain that was
	// tampered with is an *audit.BrokenChain. progress may be nil.
	Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error)
}
