package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"congthu/auth"
	"congthu/auth/audit"
)

// connection is the writer's connection with its statements.
type connection struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts []*sql.Stmt // all statements below
	// head is the head after the last commit.
	head head

	begin, commit, rollback        *sql.Stmt
	account, write, remove, append *sql.Stmt
	advance, probe, version        *sql.Stmt
	// others is the last result of version, which changes with commits of other connections.
	others int64
}

// head is the end of the chain of events, and the number of transactions so far.
type head struct {
	audit.Head
	commits int64
}

// selectHead takes the newest event if the row of head was set back to an older one: the
// chain then continues, and verification reports it.
const selectHead = `SELECT
	CASE WHEN e.seq > h.seq THEN e.seq ELSE h.seq END,
	CASE WHEN e.seq > h.seq THEN e.hash ELSE h.hash END,
	h.commits
	FROM head h LEFT JOIN (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1) e`

func newConnection(path string) (_ *connection, err error) {
	ctx := context.Background()
	c := &connection{db: connect(path, false)}
	c.db.SetMaxOpenConns(1)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn, err = c.db.Conn(ctx); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&c.begin, `BEGIN IMMEDIATE`},
		{&c.commit, `COMMIT`},
		{&c.rollback, `ROLLBACK`},
		{&c.account, selectAccount},
		{&c.write, `REPLACE INTO accounts (` + accountColumns + `) VALUES ` + places(accountColumns)},
		{&c.remove, `DELETE FROM accounts WHERE name = ?`},
		{&c.append, `INSERT INTO events (` + eventColumns + `) VALUES ` + places(eventColumns)},
		{&c.advance, `UPDATE head SET seq = ?, hash = ?, commits = ?`},
		// As much as a few changes need, so that one free page on a full disk does not
		// count as room.
		{&c.probe, `REPLACE INTO probe VALUES (1, randomblob(32768))`},
		{&c.version, `PRAGMA data_version`},
	} {
		if *s.stmt, err = c.conn.PrepareContext(ctx, s.text); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
		c.stmts = append(c.stmts, *s.stmt)
	}
	err = c.conn.QueryRowContext(ctx, selectHead).Scan(&c.head.Seq, &c.head.Hash, &c.head.commits)
	if err != nil {
		return nil, fmt.Errorf("read head of the audit log: %w", err)
	}
	if err := c.version.QueryRowContext(ctx).Scan(&c.others); err != nil {
		return nil, fmt.Errorf("read data_version: %w", err)
	}
	// SQLite also opens a read-only file, and reports an error only at the first write.
	if err := run(c.begin); err != nil {
		return nil, err
	}
	if err := run(c.advance, c.head.Seq, c.head.Hash, c.head.commits); err != nil {
		return nil, err
	}
	if err := run(c.rollback); err != nil {
		return nil, err
	}
	return c, nil
}

// close also ends an open transaction; SQLite would not, as long as there are
// statements.
func (c *connection) close() error {
	var errs []error
	if c.conn != nil {
		c.conn.ExecContext(context.Background(), `ROLLBACK`) // it fails if there is no transaction
	}
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	if c.conn != nil {
		errs = append(errs, c.conn.Close())
	}
	return errors.Join(append(errs, c.db.Close())...)
}

// transaction is one transaction of many changes.
type transaction struct {
	*writer
	next       head // the head after the transaction
	changes    int  // number of changes that are written
	writes     bool // there is something to commit
	committing bool // if it fails now, its outcome is in doubt
	made       bool // set by settle

	claims []auth.Reservation
	rows   []row
	// changed holds the new accounts, for the cache; nil: do not cache.
	changed map[auth.Name]*auth.Account
}

// row is a row that a transaction inserts, updates or removes.
type row struct {
	*entry
	exists  bool // after the transaction
	unknown int  // change of the number of unknown names
}

// make applies the changes and commits.
func (t *transaction) make(batch []*request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// A bug in this package costs one batch, not the gateway.
			t.log.Error("the writer panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("writer panicked: %s", auth.PanicText(p))
		}
	}()
	if err := t.connect(); err != nil {
		return err
	}
	t.next = t.conn.head
	if err := run(t.conn.begin); err != nil {
		return err
	}
	for _, q := range batch {
		if !q.state.CompareAndSwap(waiting, running) {
			continue
		}
		err := t.apply(q)
		q.ran()
		if err != nil {
			return err
		}
	}
	if !t.writes {
		return run(t.conn.rollback)
	}
	t.next.commits++
	if err := run(t.conn.advance, t.next.Seq, t.next.Hash, t.next.commits); err != nil {
		return err
	}
	if err := t.wanted().before; err != nil {
		return err
	}
	t.cache.beginCommit(t.changed)
	t.committing = true
	if err := run(t.conn.commit); err != nil {
		return err
	}
	if err := t.wanted().after; err != nil {
		return err
	}
	// Confirm nothing that is in a file without a name.
	if err := t.files.check(); err != nil {
		return err
	}
	t.conn.head = t.next
	return nil
}

// apply makes one change. An error of that change alone is set in q; an error that is
// returned fails the whole batch.
func (t *transaction) apply(q *request) error {
	if q.prune != nil {
		return t.prune(q)
	}
	if q.agree != nil {
		return t.agree(q)
	}
	a, exists, err := readAccount(context.Background(), t.conn.account, q.name)
	if err != nil {
		return err
	}
	q.account = a
	switch t.slots.claim(q.reservation, q.name) {
	case settled:
		return nil
	case foreign:
		q.err = errForeign
		return nil
	}
	changed := a.Normalized()
	events, write, err := t.try(q.change, &changed)
	if err == nil && write {
		changed.Name = q.name
		changed = changed.Normalized()
		err, q.err = t.write(a, changed, exists, events)
	} else {
		err, q.err = nil, err
	}
	if err != nil || q.err != nil {
		t.slots.unclaim(q.reservation)
		return err
	}
	t.claims = append(t.claims, q.reservation)
	if q.probe {
		t.writes = true
		return run(t.conn.probe)
	}
	if write {
		q.account = changed
	}
	return nil
}

// write stores an account and its events. It either fails before anything is written,
// which is an error of this change (own), or spoils the transaction.
func (t *transaction) write(before, after auth.Account, exists bool, events []auth.Event) (spoilt, own error) {
	next, err := t.next.Append(events)
	if err != nil {
		return nil, err
	}
	r := row{entry: t.slots.enter(after.Name), exists: !after.Blank()}
	r.unknown = unknown(r.exists, after) - unknown(exists, before)
	if !exists && r.unknown > 0 && !t.slots.promise(r.entry) {
		t.slots.leave(r.entry)
		return nil, auth.ErrFull
	}
	if r.exists {
		err = run(t.conn.write, accountFields(&after)...)
	} else {
		err = run(t.conn.remove, string(after.Name))
	}
	if err != nil {
		t.slots.leave(r.entry)
		if ofOneRow(err) {
			return nil, err
		}
		return err, nil
	}
	t.rows = append(t.rows, r)
	if t.changed[after.Name] = nil; after.Known() {
		kept := after.Clone()
		t.changed[after.Name] = &kept
	}
	for i := range events {
		if err := run(t.conn.append, eventFields(&events[i])...); err != nil {
			return err, nil
		}
	}
	t.next.Head, t.writes = next, true
	t.changes++
	return nil, nil
}

// unknown is 1 for a row that takes room among the names without a login, else 0. A
// shared counter takes none.
func unknown(exists bool, a auth.Account) int {
	if exists && !a.Known() && !a.Name.Shared() {
		return 1
	}
	return 0
}

// settle updates the memory when it is known whether the transaction was committed:
// slots are free only then.
func (t *transaction) settle(made bool) {
	t.made = made
	// Before any slot is free and any caller gets its result.
	t.cache.endCommit(t.changed, made)
	for _, r := range t.rows {
		if made {
			t.slots.stored(r.entry, r.exists, r.unknown)
		}
		t.slots.leave(r.entry)
	}
	for _, r := range t.claims {
		if made {
			t.slots.release(r)
		} else {
			t.slots.unclaim(r)
		}
	}
}

// run executes a statement. The writer's statements have no caller's context: a caller
// must not interrupt a transaction that it shares with others.
func run(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(context.Background(), args...)
	return err
}

// ofOneRow reports whether a statement failed because of its values, which leaves the
// transaction as it was; every other error may also fail the next statement.
func ofOneRow(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return true // a value that could not be converted
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}
