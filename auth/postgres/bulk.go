package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
	"congthu/auth/audit"
)

// Many accounts are changed in one transaction. It cannot take the lock of each
// name (PostgreSQL has room for some thousand locks), so there is one lock for
// all, which every transaction that changes an account shares and this one has
// to itself: then nothing that was read before it, under the lock of a name, is
// written after it. Others wait for it, in all replicas. So as much as can be is
// done before: the accounts are read and changed, and the rows sent to a table
// of the connection's own. Under the lock they are copied from there, and only
// the changes of accounts that somebody has changed meanwhile are made again;
// xmin, the transaction that wrote a row, tells which those are.

// draft is what becomes of one of many accounts. The account itself is on the
// stage: there may be many.
type draft struct {
	name    auth.Name
	exists  bool  // there is a row
	unknown int64 // by which the number of unknown names changes
	blank   bool  // there will be none
	events  []auth.Event
	write   bool
	is      *auth.Account // not on the stage
}

// make runs change on the account as it was read, and returns what it becomes.
func (d *draft) make(f *found, try func(auth.Change, *auth.Account) ([]auth.Event, bool, error), change auth.Change) (after auth.Account, err error) {
	before := auth.Account{Name: d.name}
	if d.exists = f != nil; d.exists {
		before = f.account
	}
	after = before.Normalized()
	d.events, d.write, err = try(change, &after)
	after.Name = d.name
	after = after.Normalized()
	d.unknown = 0
	if !d.write {
		d.events = nil
		return before, err
	}
	d.blank = after.Blank()
	d.unknown = unknown(!d.blank, after) - unknown(d.exists, before)
	return after, err
}

// found is an account as it was read, and xmin of its row.
type found struct {
	account auth.Account
	version int64
}

// bulk is one call of UpdateAll.
type bulk struct {
	*Store
	change auth.Change
	drafts []draft
	places map[auth.Name]int // of the drafts
	conn   *link             // nil when somebody else waits for its commit
}

// bulkPage is how many accounts are read at once.
const bulkPage = 2000

const (
	// shareChanges is held by every transaction that changes an account.
	shareChanges = `SELECT pg_advisory_xact_lock_shared($1)`
	takeChanges  = `SELECT pg_advisory_xact_lock($1)`

	readVersions = `SELECT xmin::text::bigint, ` + accountColumns + ` FROM accounts WHERE name = ANY($1)`
	makeStage    = `CREATE TEMPORARY TABLE stage (LIKE accounts); CREATE TEMPORARY TABLE looked (name text COLLATE "C", version bigint)`
	analyseStage = `ANALYZE stage; ANALYZE looked`
	findChanged  = `SELECT l.name FROM looked l LEFT JOIN accounts a USING (name) WHERE a.xmin::text::bigint IS DISTINCT FROM l.version`
	unstage      = `DELETE FROM stage WHERE name = ANY($1)`
)

var writeStage = `INSERT INTO accounts (` + accountColumns + `) SELECT ` + accountColumns + ` FROM stage` +
	` ON CONFLICT (name) DO UPDATE SET (` + accountColumns + `) = (` + excluded(accountColumns) + `)`

// UpdateAll implements [auth.Importer]. It is not tried again by itself when the
// database fails: the caller may.
func (s *Store) UpdateAll(ctx context.Context, names []auth.Name, change auth.Change) (written int, err error) {
	defer s.operated(auth.OpUpdateAll, time.Now(), &err)
	ctx, end, err := s.call(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	defer func() {
		if err != nil && s.isClosed() {
			err = fmt.Errorf("%w: %w", ErrClosed, err)
		}
	}()
	b := &bulk{Store: s, change: change, drafts: make([]draft, len(names)), places: make(map[auth.Name]int, len(names))}
	for i, name := range names {
		b.drafts[i] = draft{name: name}
		b.places[name] = i
	}
	// What waits in the meantime: as long as a statement may take.
	if b.conn, err = s.link(ctx, s.session.but(settings{"statement_timeout": milliseconds(10 * s.o.StatementTimeout)})); err != nil {
		return 0, fmt.Errorf("write: %w", explain(ctx, err))
	}
	defer func() {
		if b.conn != nil {
			closeConn(b.conn.Conn)
		}
	}()
	if _, err := b.conn.Exec(ctx, makeStage); err != nil {
		return 0, fmt.Errorf("prepare the changes: %w", explain(ctx, err))
	}
	write := false
	for page := range slices.Chunk(b.drafts, bulkPage) {
		written, err := b.prepare(ctx, page)
		if err != nil {
			return 0, fmt.Errorf("prepare the changes: %w", explain(ctx, err))
		}
		write = write || written
	}
	if !write {
		return 0, nil // as if it had been done when each was read
	}
	// Statistics make the plans right that join them.
	if _, err := b.conn.Exec(ctx, analyseStage); err != nil {
		return 0, fmt.Errorf("prepare the changes: %w", explain(ctx, err))
	}
	if written, err = b.commit(ctx); err != nil {
		return 0, fmt.Errorf("write: %w", explain(ctx, err))
	}
	return written, nil
}

// prepare reads some accounts, and sends what was read and what becomes of it.
func (b *bulk) prepare(ctx context.Context, drafts []draft) (write bool, err error) {
	read, err := b.look(ctx, b.conn, drafts)
	if err != nil {
		return false, err
	}
	var puts []*auth.Account
	for i := range drafts {
		d := &drafts[i]
		after, err := d.make(read[d.name], b.try, b.change)
		if err != nil {
			return false, fmt.Errorf("%w: %w", errOwn, err)
		}
		write = write || d.write
		if d.write && !d.blank {
			puts = append(puts, &after)
		}
	}
	_, err = b.conn.CopyFrom(ctx, pgx.Identifier{"looked"}, []string{"name", "version"},
		pgx.CopyFromSlice(len(drafts), func(i int) ([]any, error) {
			var version *int64
			if f := read[drafts[i].name]; f != nil {
				version = &f.version
			}
			return []any{string(drafts[i].name), version}, nil
		}))
	if err != nil {
		return false, err
	}
	return write, copyRows(ctx, b.conn.Conn, "stage", accountColumns, puts, accountFields)
}

// look reads accounts as they are; those without a row are left out.
func (b *bulk) look(ctx context.Context, from interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, drafts []draft) (map[auth.Name]*found, error) {
	names := make([]string, len(drafts))
	for i := range drafts {
		names[i] = string(drafts[i].name)
	}
	rows, err := from.Query(ctx, readVersions, names)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	read := make(map[auth.Name]*found, len(drafts))
	for rows.Next() {
		var f found
		if err := rows.Scan(append([]any{&f.version}, accountFields(&f.account)...)...); err != nil {
			return nil, err
		}
		f.account = f.account.Normalized()
		read[f.account.Name] = &f
	}
	return read, rows.Err()
}

// copyRows sends rows to a table, by the columns and fields that all statements
// of this package go by.
func copyRows[T any](ctx context.Context, conn *pgx.Conn, table, columns string, rows []*T, fields func(*T) []any) error {
	names := strings.FieldsFunc(columns, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') })
	_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, names,
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return fields(rows[i]), nil }))
	return err
}

// commit makes the transaction. When its outcome is not known the error says so.
func (b *bulk) commit(ctx context.Context) (written int, err error) {
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil && b.conn != nil {
			// No more than the connection is lost, and the transaction with it.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			tx.Rollback(ctx)
		}
	}()
	if _, err := tx.Exec(ctx, takeChanges, lockKey("changes")); err != nil {
		return 0, fmt.Errorf("wait for the changes under way: %w", err)
	}
	// Others wait now, and give up after their lock_timeout.
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, b.o.LockTimeout*9/10)
	defer cancel()
	defer func() {
		if err != nil && outer.Err() == nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: it took longer than others can wait (lock_timeout): %w", auth.ErrTooMany, err)
		}
	}()
	if err := b.remake(ctx, tx); err != nil {
		return 0, err
	}
	var events []*auth.Event
	var removed []string
	var late []*auth.Account
	var delta int64
	notify := false
	for i := range b.drafts {
		d := &b.drafts[i]
		if !d.write {
			continue
		}
		written++
		delta += d.unknown
		switch {
		case d.blank:
			removed = append(removed, string(d.name))
		case d.is != nil:
			late = append(late, d.is)
		}
		for i := range d.events {
			events = append(events, &d.events[i])
			notify = notify || isTold(d.events[i])
		}
	}
	if written == 0 {
		return 0, tx.Rollback(ctx)
	}
	if err := b.findRoom(ctx, tx, delta); err != nil {
		return 0, err
	}
	var end audit.Head
	if len(events) > 0 {
		if err := tx.QueryRow(ctx, lockHead).Scan(&end.Seq, &end.Hash); err != nil {
			return 0, err
		}
		if end, err = chainAll(end, events); err != nil {
			return 0, err
		}
		if err := copyRows(ctx, b.conn.Conn, "events", eventColumns, events, eventFields); err != nil {
			return 0, err
		}
	}
	var rest pgx.Batch
	rest.Queue(writeStage)
	for _, a := range late {
		rest.Queue(writeAccount, accountFields(a)...)
	}
	rest.Queue(`DELETE FROM accounts WHERE name = ANY($1)`, removed)
	if len(events) > 0 {
		rest.Queue(advanceHead, end.Seq, end.Hash)
	}
	if delta != 0 {
		rest.Queue(addUnknown, delta)
	}
	if notify {
		rest.Queue(notifyOfTheEvent, channel, fmt.Sprint(end.Seq))
	}
	if err := tx.SendBatch(ctx, &rest).Close(); err != nil {
		return 0, err
	}
	if err := b.settle.wanted().before; err != nil {
		return 0, err
	}
	// From here on the outcome is not known until PostgreSQL has told it.
	if err = b.Store.commit(outer, b.conn, new(pgx.Batch)); errors.Is(err, ErrUnconfirmed) {
		b.conn = nil
	}
	if err == nil {
		err = b.settle.wanted().after
	}
	if err != nil && !certain(err) {
		return 0, fmt.Errorf("it is not known whether the changes were made; make them again to find out: %w", err)
	}
	return written, err
}

// remake makes the changes again of accounts that were changed since they were
// read, and takes those from the stage.
func (b *bulk) remake(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, findChanged)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		return err
	}
	drafts := make([]draft, len(names))
	for i, name := range names {
		drafts[i].name = auth.Name(name)
	}
	read, err := b.look(ctx, tx, drafts)
	if err != nil {
		return err
	}
	for i := range drafts {
		d := &drafts[i]
		after, err := d.make(read[d.name], b.try, b.change)
		if err != nil {
			return fmt.Errorf("%w: %w", errOwn, err)
		}
		d.is = &after
		b.drafts[b.places[d.name]] = *d
	}
	_, err = tx.Exec(ctx, unstage, names)
	return err
}

// findRoom reports ErrFull where there is no room for so many more names that
// nobody ever logged in with.
func (b *bulk) findRoom(ctx context.Context, tx pgx.Tx, delta int64) error {
	fresh := make(map[auth.Name]bool)
	for i := range b.drafts {
		if d := &b.drafts[i]; d.write && !d.exists && d.unknown > 0 {
			fresh[d.name] = true
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	// In order: see transaction.
	if _, err := tx.Exec(ctx, lockHead); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, lockCounts); err != nil {
		return err
	}
	var n int64
	var promised []string
	if err := tx.QueryRow(ctx, readRoom).Scan(&n, &promised); err != nil {
		return err
	}
	for _, name := range promised {
		if !fresh[auth.Name(name)] {
			n++
		}
		delete(fresh, auth.Name(name))
	}
	if len(fresh) > 0 && n+delta > int64(b.o.MaxUnknown) {
		return fmt.Errorf("%w: %w", errOwn, auth.ErrFull)
	}
	return nil
}

// chainAll gives events their numbers and hashes.
func chainAll(h audit.Head, events []*auth.Event) (_ audit.Head, err error) {
	for _, e := range events {
		one := []auth.Event{*e}
		if h, err = h.Append(one); err != nil {
			return h, fmt.Errorf("%w: %w", errOwn, err)
		}
		*e = one[0]
	}
	return h, nil
}
