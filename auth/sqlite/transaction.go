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
	stmts []*sql.Stmt // all of the following
	// head is that of the last commit.
	head head

	begin, commit, rollback        *sql.Stmt
	account, write, remove, append *sql.Stmt
	advance, probe, version        *sql.Stmt
	// others is what version last said: it moves with the commits of others.
	others int64
}

// head is the end of the chain of events, and how many transactions there were.
type head struct {
	audit.Head
	commits int64
}

// selectHead takes what is newer, should the one row of head have been set back:
// the chain then goes on, and verification tells.
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
		// As much as a few changes take, so that one page that is left on a disk
		// does not pass for room.
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
	// SQLite opens a file that it may only read, and says so at the first write.
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

// close ends a transaction that is left, which SQLite would not do as long as
// there are statements.
func (c *connection) close() error {
	var errs []error
	if c.conn != nil {
		c.conn.ExecContext(context.Background(), `ROLLBACK`) // an error: there is none
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
	next       head // the head after it
	changes    int  // that are written
	writes     bool // there is anything to commit
	committing bool // its outcome is in doubt if it fails now
	made       bool // set by settle

	claims []auth.Reservation
	rows   []row
	// changed is what the accounts become, for the cache; nil: nothing to keep.
	changed map[auth.Name]*auth.Account
}

// row is a row that a transaction makes, alters or removes.
type row struct {
	*entry
	exists  bool // afterwards
	unknown int  // by which the number of unknown names changes
}

// make applies the changes and commits.
func (t *transaction) make(batch []*request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// A mistake in this package: it costs one batch, not the gateway.
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
	t.cache.hold(t.changed)
	t.committing = true
	if err := run(t.conn.commit); err != nil {
		return err
	}
	if err := t.wanted().after; err != nil {
		return err
	}
	// Nothing is confirmed that is in a file without a name.
	if err := t.files.check(); err != nil {
		return err
	}
	t.conn.head = t.next
	return nil
}

// apply makes one change. What is wrong with that change alone becomes its own
// error; the error returned is everybody's.
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

// write stores an account and its events. It either fails before anything is
// written, which is a matter of this change (own), or spoils the transaction.
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

// unknown is 1 for a row that takes of the room for names that nobody ever logged
// in with. A shared counter takes none.
func unknown(exists bool, a auth.Account) int {
	if exists && !a.Known() && !a.Name.Shared() {
		return 1
	}
	return 0
}

// settle does what is to be done in memory when it is known whether the
// transaction was made: only then are slots free again.
func (t *transaction) settle(made bool) {
	t.made = made
	// Before any slot is free and any caller hears of it.
	t.cache.settle(t.changed, made)
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

// run executes a statement. The writer's own statements end by themselves: no
// caller's context interrupts what others share.
func run(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(context.Background(), args...)
	return err
}

// ofOneRow reports whether a statement failed for what it was given, which has
// left nothing behind; everything else may fail the next statement too.
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
