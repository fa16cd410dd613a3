package auth

import (
	"context"
	"errors"
	"time"
)

// Store is the memory that guard.Guard needs: it reads accounts, holds the slots
// of attempts in flight, and makes changes durable. It decides nothing: the functions
// that it is given say what may change and why.
//
// A name that was never seen reads as an Account with only its Name set.
//
// Any error except [ErrNoSlot] and [ErrFull] means that the store is unavailable:
// the caller answers "try again later" and treats nothing as known.
type Store interface {
	// Account reads one account, as of the last change that is durable.
	Account(ctx context.Context, name Name) (Account, error)

	// Reserve takes one of the slots of an account: it succeeds if, together
	// with this one, no more attempts are in flight than slots returns for the
	// account. The account is returned even with ErrNoSlot. A slot stays taken
	// until Update is given its Reservation.
	//
	// The exactness of the lock depends on this: if an attempt left the in-flight count
	// before Reserve counted, its change is in the account that slots gets.
	Reserve(ctx context.Context, name Name, slots func(Account) int) (Account, Reservation, error)

	// Update changes one account and appends events to the audit log, in one
	// transaction, and returns when that is on disk; then it frees the
	// reservation r, if any. If it fails the caller must assume that nothing has
	// changed, and r stays taken.
	//
	// A reservation that was settled before, perhaps by a call whose outcome its
	// caller did not learn, changes nothing, so a settlement may be retried until it
	// succeeds and still counts once. A reservation that the store no longer knows is
	// not always settled: if it was lost, with a server whose standby took over, its
	// change is made nevertheless. A reservation whose gateway was treated as dead is
	// free for other attempts, and not settled.
	//
	// change may run more than once and must depend only on its argument. If it
	// reports false nothing is written and only r is freed.
	Update(ctx context.Context, name Name, r Reservation, change Change) (Account, error)
}

// Change alters an account in place and returns the events that record the change, and
// whether there is anything to write.
type Change func(*Account) (events []Event, write bool)

// Reservation is one taken slot. The zero Reservation means no slot.
type Reservation uint64

var (
	// ErrNoSlot: all slots of the account are taken; wait for one.
	ErrNoSlot = errors.New("no free slot")
	// ErrFull: there is no room for another name without an accepted login.
	ErrFull = errors.New("no room for another name that nobody ever logged in with: import the accounts, or raise store.max_unknown_names")
)

// DefaultMaxUnknown is the default limit of the names in a store that have never had an
// accepted login.
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
	// Events returns the events that match the filter, newest first.
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

	// UpdateBatch changes the accounts of these names, which must be distinct, and
	// appends the events, in the order of the names, in one transaction, and returns
	// when that is on disk. A change that fails by itself (it panics, or there is no
	// room) is an error, and the others of the batch are made. After any other error
	// nothing was made, unless ctx has ended or the outcome of the commit is unknown.
	// So the caller answers an error with the same batch again, whose changes must be
	// harmless when made twice.
	//
	// change runs for each name, perhaps more than once, in one goroutine at a time,
	// never after UpdateBatch has returned, and must depend only on its argument. If it
	// reports false the account stays as it is.
	//
	// Other callers wait as long as the transaction takes: some hundred names are
	// a good size.
	UpdateBatch(ctx context.Context, names []Name, change Change) error
}

// DefaultLimit is the limit of a filter whose Limit is 0.
const DefaultLimit = 100

// Filter chooses accounts to list, in the order of their names. A zero field is no
// condition.
type Filter struct {
	// After continues a list after that name.
	After Name
	// Limit is the largest number of accounts; 0 means [DefaultLimit].
	Limit int
	// Contains is a part of the name, canonical or not, compared without case.
	Contains string
	// Locked selects accounts with a Lock, Revoked those with a Revocation.
	Locked, Revoked bool
	// Unknown includes names that have never had an accepted login.
	Unknown bool
	// Shared selects the counters that such names share, which are not names, and
	// nothing else; together with Unknown it selects everything that is stored.
	Shared bool
	// IdleBefore selects accounts whose last login (or registration, if there
	// was none) is earlier.
	IdleBefore time.Time
	// PasswordBefore selects accounts whose password is older.
	PasswordBefore time.Time
}

// EventFilter chooses events of the audit log, newest first.
type EventFilter struct {
	Account Name
	Kinds   []EventKind
	// Before selects events with a smaller Seq; 0 begins with the newest.
	Before int64
	// Limit is the largest number of events; 0 means [DefaultLimit].
	Limit int
}

// Lister is a store that can list its accounts page by page, and with [Filter].Unknown
// also names that have never had an accepted login.
type Lister interface {
	List(ctx context.Context, want Filter) ([]Account, error)
}

// KeptName is a name in a store, with its lock and revocation.
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
