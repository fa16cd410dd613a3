package auth

import (
	"context"
	"errors"
)

// Store is the memory that [Guard] needs: it reads accounts, holds the slots
// of attempts in flight, and makes changes durable. It decides nothing; what
// may change and why is in the functions it is given.
//
// A name that was never seen reads as an Account with only its Name set.
//
// Any error but [ErrNoSlot] and [ErrFull] means that the store is unavailable:
// the caller answers "try again later" and counts nothing as known.
type Store interface {
	// Account reads one account, as of the last change that is durable.
	Account(ctx context.Context, name Name) (Account, error)

	// Reserve takes one of the slots of an account: it succeeds if, together
	// with this one, no more attempts are in flight than slots returns for the
	// account. The account is returned even with ErrNoSlot. A slot stays taken
	// until Update is given its Reservation.
	//
	// The promise on which the exactness of the lock rests: an attempt that
	// left the in-flight count before Reserve counted has its change in the
	// account that slots is shown.
	Reserve(ctx context.Context, name Name, slots func(Account) int) (Account, Reservation, error)

	// Update changes one account and appends events to the audit log, in one
	// transaction, and returns when that is on disk; then it frees the
	// reservation r, if any. When it fails nothing has changed as far as the
	// caller can tell, and r stays taken. A reservation that was settled
	// before, perhaps by a call whose outcome its caller did not learn, changes
	// nothing, so that a settlement may be retried until it succeeds and still
	// counts once. That the store no longer knows of a reservation is no sign
	// of it: one that was lost, with a server whose standby took over, has its
	// change made all the same. One whose gateway was taken for dead is free
	// for others and not settled.
	//
	// change may run more than once and must depend on nothing but its
	// argument. When it reports false nothing is written and only r is freed.
	Update(ctx context.Context, name Name, r Reservation, change Change) (Account, error)
}

// Change alters an account in place and returns the events that tell of it,
// and whether there is anything to write at all.
type Change func(*Account) (events []Event, write bool)

// Reservation is one taken slot. The zero Reservation is none.
type Reservation uint64

var (
	// ErrNoSlot: all slots of the account are taken; wait for one.
	ErrNoSlot = errors.New("no free slot")
	// ErrFull: there is no room for another name that nobody ever logged in with.
	ErrFull = errors.New("no room for another name that nobody ever logged in with: import the accounts, or raise store.max_unknown_names")
)

// StoreOp names an operation of a store, as a metric label.
type StoreOp uint8

const (
	OpAccount StoreOp = iota
	OpReserve
	OpUpdate
	OpUpdateAll
	OpList
	OpEvents
	OpVerify
	OpPrune

	numStoreOps
)

var storeOpNames = [numStoreOps]string{"account", "reserve", "update", "update_all", "list", "events", "verify", "prune"}

// String returns the name used in metrics and logs.
func (o StoreOp) String() string { return enumName(o, storeOpNames[:]) }

// StoreOps lists every operation.
func StoreOps() []StoreOp { return enumValues[StoreOp](int(numStoreOps)) }
