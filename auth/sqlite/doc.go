// Package sqlite is the embedded store: accounts and the audit log in one
// SQLite file that one process owns. It keeps the contract of auth/storetest.
//
// # What is durable when
//
// An Update that has returned without an error is on disk: the database is in
// WAL mode with synchronous=FULL, so COMMIT returns after an fsync. The process
// may be killed and the power may fail. Reads see what was committed and nothing
// else.
//
// # Goroutines
//
//   - One goroutine, the writer, owns the only connection that writes. Callers
//     send it their changes through a bounded channel. It takes up to 64 changes that
//     queued while the disk was busy, makes them in one transaction, and returns to
//     each caller its own result. It ends with Close.
//   - Callers read in their own goroutines, on a pool of connections that cannot
//     write. WAL lets them read while the writer writes.
//   - Accounts that were read or written lately are in memory as well (see cache),
//     exactly as they are in the file, since only the writer changes it. The usual login
//     makes no query. The writer itself reads the row that it changes.
//   - A change runs first in its caller's goroutine, on the present account. If it has
//     nothing to write the caller is done: no queue, no fsync. Otherwise the writer runs
//     it again, on the account as it is then.
//   - Reservations are in memory (see slots): one process owns the file, by a lock on a
//     second file beside it, and attempts end with the process.
//
// # Failures
//
// A change that panics, or whose account the database refuses, fails alone. Any other
// error fails the whole transaction: all its callers get the error, their reservations
// stay taken, the connection is closed, and the next transaction begins with a new one.
// So it is enough to remove the cause: a disk that has room again is written again,
// without a restart.
//
// While the last transaction has failed nothing is answered from memory: readers, too,
// must see that the disk fails.
//
// If COMMIT reports an error, the store reads from the file whether the transaction was
// committed: each transaction increments a counter in the table head. Until this can be
// read the slots in doubt stay taken.
//
// If a file was removed, replaced or cut while the process runs, the store refuses all
// work until the next start (see files): an open file still works without its name, but
// what it confirms is lost when the process ends. The lock file records that there was a
// database, so that a start without the database is not taken for a first start.
//
// Errors say what an operator can do. Open refuses a file that is damaged
// (PRAGMA quick_check), that belongs to another program, or that has a newer schema.
// Schema changes go forward only; make a backup ([Store.Backup]) before an upgrade.
//
// # The audit log
//
// The writer numbers events and chains them by hash (audit.Chain), in the transaction of
// the change that they record. Triggers refuse to alter or remove events, except the
// oldest ones after an event has recorded their removal ([Store.RemoveEvents]). The head
// of the chain is in a row of its own, and [Store.Verify] checks the chain. If a person
// who can write the file recomputes every hash and the head, only a head that was
// written down elsewhere shows it.
package sqlite
