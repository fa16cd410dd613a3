package auth

import (
	"context"
	"errors"
	"time"
)

// Store is the memory that guard.Guard needs: it reads accounts, holds the slots
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
	// ErrFull: there is no room for another name without an accepted login.
	ErrFull = errors.New("no room for another name that nobody ever logged in with: import the accounts, or raise store.max_unknown_names")
)

// DefaultMaxUnknown is the default bound of the names in a store that have never had
// an accepted login.
const DefaultMaxUnknown = 100_000

// StoreOp names an operation of a store, as a metric label.
type StoreOp uint8

const (
	OpAccount StoreOp = iota
	OpReserve
	OpUpdate
	OpList
	OpEvents
	OpVerify
	OpPrune

	numStoreOps
)

var storeOpNames = [numStoreOps]string{"account", "reserve", "update", "list", "events", "verify", "prune"}

// String returns the name used in metrics and logs.
func (o StoreOp) String() string { return enumName(o, storeOpNames[:]) }

// StoreOps lists every operation.
func StoreOps() []StoreOp { return enumValues[StoreOp](int(numStoreOps)) }

// EventReader reads the audit log.
type EventReader interface {
	// Events returns the events that the filter wants, newest first.
	Events(ctx context.Context, want EventFilter) ([]Event, error)
}

// DatedStore is a store that can list accounts and read the audit log.
type DatedStore interface {
	Lister
	EventReader
}

// Importer is a store that can change a batch of accounts in one transaction.
type Importer interface {
	EventReader

	// UpdateBatch changes the accounts of these names, which differ from each
	// other, and appends the events, in the order of the names, in one
	// transaction, and returns when that is on disk. A change that cannot be made
	// by itself (it panics, or there is no room) is an error, and the others of
	// the batch are made all the same. After any other error nothing was made,
	// unless ctx has ended or the outcome of the commit is not known: so an error
	// is answered by the same batch again, with changes that are harmless twice.
	//
	// change is run for each name, perhaps more than once, by one goroutine at a
	// time, never after UpdateBatch has returned, and must depend on nothing but
	// its argument. Where it reports false the account stays as it is.
	//
	// Other callers wait as long as the transaction takes: some hundred names are
	// a good size.
	UpdateBatch(ctx context.Context, names []Name, change Change) error
}

// DefaultLimit is the Limit of a filter that has none.
const DefaultLimit = 100

// Filter chooses accounts to list, in the order of their names. Zero fields are
// no condition.
type Filter struct {
	// After continues a list behind that name.
	After Name
	// Limit is how many at most; 0 means [DefaultLimit].
	Limit int
	// Contains is a part of the name, canonical or not, compared without case.
	Contains string
	// Locked and Revoked want accounts with a Lock, with a Revocation.
	Locked, Revoked bool
	// Unknown includes names that have never had an accepted login.
	Unknown bool
	// Shared wants the counters that such names share, which are no names, and
	// nothing else; together with Unknown it wants everything that is stored.
	Shared bool
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
	// Limit is how many at most; 0 means [DefaultLimit].
	Limit int
}

// Lister is a store that can list its accounts page by page, and with [Filter].Unknown
// also names that have never had an accepted login.
type Lister interface {
	List(ctx context.Context, want Filter) ([]Account, error)
}

// KeptName is a name that a store has anything of, with its lock and revocation.
type KeptName struct {
	Name Name
	// Known is set for an account; see [Account.Known].
	Known           bool
	Locked, Revoked bool
}

// Scanner is a store that can read all its accounts.
type Scanner interface {
	// Each calls f with every known account, in the order of names, until f
	// returns an error, which it returns.
	Each(ctx context.Context, f func(Account) error) error
}
