// Package sqlite is the embedded store: accounts and the audit log in one
// SQLite file that one process owns. It keeps the contract of auth/storetest.
//
// # What is durable when
//
// An Update that has returned without an error is on disk: the database is in
// WAL mode with synchronous=FULL, so COMMIT returns after an fsync. The process
// may be killed and the power may fail. Reading sees what was committed and
// nothing else.
//
// # Who does what
//
//   - One goroutine, the writer, owns the only connection that writes. Callers
//     hand it their changes by a bounded channel; it takes up to 64 of those that
//     queued while the disk was busy, makes them in one transaction and tells
//     each caller its own result. It ends with Close.
//   - Reading is done by the callers' goroutines on a pool of connections that
//     cannot write. WAL lets them go on beside the writer.
//   - Accounts lately read or written are in memory as well (see cache), exactly as
//     they are in the file, since nobody but the writer changes it. The usual login
//     makes no query. The writer itself reads the row that it changes.
//   - A change runs first in its caller's goroutine, on the account as it is. When
//     it has nothing to write the caller is done: no queue, no fsync. Otherwise
//     the writer runs it again, on the account as it is then.
//   - Reservations are in memory (see slots): one process owns the file, which a
//     lock on a file beside it sees to, and attempts end with the process.
//
// # When something fails
//
// A change that panics, or whose account the database does not take, fails
// alone. Anything else fails the whole transaction; all its callers get the
// error, their reservations stay taken, the connection is closed and the next
// transaction begins with a new one, so that nothing but mending the cause is
// needed: a disk that has room again is written again, without a restart.
//
// While the last transaction has failed nothing is answered from memory: that the
// disk fails must show to whoever reads, too.
//
// Whether a COMMIT that reported an error was made after all is read from the
// file: each transaction increments a counter in the table head. Until it can
// be read the slots in doubt stay taken.
//
// A file that was removed, replaced or cut under the process ends the use of the
// database until the next start (see files): an open file goes on working without
// its name, and what it confirms is gone with the process. The lock file remembers
// that there was a database, so that a start without it is no first start.
//
// Errors say what an operator can do. Open refuses a file that is damaged
// (PRAGMA quick_check), another program's, or of a newer schema. Schema changes
// go forward only; make a backup ([Store.Backup]) before an upgrade.
//
// # The audit log
//
// Events are numbered and chained by hash (audit.Chain) by the writer, in the
// transaction of the change that they tell of. Triggers refuse to alter or
// remove them, but for the oldest when an event has told of it
// ([Store.RemoveEvents]), the head of the chain is kept in a row of its own, and
// [Store.Verify] walks the chain. Somebody who can write the file and
// recomputes every hash and the head is found out only by a head that was
// written down elsewhere.
package sqlite
