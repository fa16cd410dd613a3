// Package postgres is the store that several gateways share: accounts, reservations
// and the audit log in one PostgreSQL database. It keeps the contract of auth/storetest.
//
// # What is durable when
//
// An Update that has returned without an error is committed with synchronous_commit: it
// is on the disk of the server and, if the server has a synchronous standby, on the
// standby as well (see link). A commit whose answer is lost is in doubt until the store
// has found its outcome in the database (see lane).
//
// # Goroutines
//
//   - Two goroutines, the lanes, write, each over a connection of its own: one takes
//     slots, the other makes changes. Each takes up to 64 requests that queued during
//     its last transaction and makes them in one transaction (see transaction).
//   - Callers read in their own goroutines, on a pool of connections. There they also free
//     slots whose settlement writes nothing, without waiting for the disk.
//   - The lease manager sends heartbeats, expires processes that send none, and turns
//     their reservations into failures in doubt (see leaseManager).
//   - Agreements and removals of events are rare and use a connection of their own.
//
// Reservations are rows of the database, so that all gateways together judge no more
// wrong passwords of an account than one would.
package postgres
