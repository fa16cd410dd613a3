package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
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

// draft is what becomes of one of many accounts.
type draft struct {
	name          auth.Name
	before, after auth.Account
	exists        bool
	version       *int64 // xmin of the row; nil where there is none
	events        []auth.Event
	write         bool
}

// make runs change on the account as it was read.
func (d *draft) make(try func(auth.Change, *auth.Account) ([]auth.Event, bool, error), change auth.Change) (err error) {
	d.after = d.before.Normal()
	d.events, d.write, err = try(change, &d.after)
	d.after.Name = d.name
	d.after = d.after.Normal()
	if !d.write {
		d.events = nil
	}
	return err
}

// bulk is one call of UpdateAll.
type bulk struct {
	*Store
	change auth.Change
	drafts []draft
	places map[auth.Name]int // of the drafts
	conn   *pgx.Conn
}

// bulkPage is how many accounts are read at once.
const bulkPage = 2000

const (
	// shareChanges is held by every transaction that changes an account.
	shareChanges = `SELECT pg_advisory_xact_lock_shared($1)`
	takeChanges  = `SELECT pg_advisory_xact_lock($1)`

	readVersions = `SELECT xmin::text::bigint, ` + accountColumns + ` FROM accounts WHERE name = ANY($1)`
	makeStage    = `CREATE TEMPORARY TABLE stage (LIKE accounts); CREATE TEMPORARY TABLE looked (name text COLLATE "C", version bigint)`
	// Statistics make the plans right that join them.
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
	if s.isClosed() {
		return 0, ErrClosed
	}
	b := &bulk{Store: s, change: change, drafts: make([]draft, len(names)), places: make(map[auth.Name]int, len(names))}
	for i, name := range names {
		b.drafts[i] = draft{name: name, before: auth.Account{Name: name}}
		b.places[name] = i
	}
	for page := range slices.Chunk(names, bulkPage) {
		err := s.read(ctx, func(ctx context.Context) error {
			rows, err := s.pool.Query(ctx, readVersions, strs(page))
			if err != nil {
				return err
			}
			return b.scan(rows)
		})
		if err != nil {
			return 0, fmt.Errorf("read accounts: %w", err)
		}
	}
	write := false
	for i := range b.drafts {
		if err := b.drafts[i].make(s.try, change); err != nil {
			return 0, err
		}
		write = write || b.drafts[i].write
	}
	if !write {
		return 0, nil // as if it had been done when each was read
	}
	// What waits in the meantime: as long as a statement may take.
	config := s.config.Copy()
	config.RuntimeParams["statement_timeout"] = milliseconds(10 * s.o.StatementTimeout)
	if b.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return 0, fmt.Errorf("write: %w", explain(ctx, err))
	}
	defer closeConn(b.conn)
	if err := b.stage(ctx); err != nil {
		return 0, fmt.Errorf("prepare the changes: %w", explain(ctx, err))
	}
	if written, err = b.commit(ctx); err != nil {
		return 0, fmt.Errorf("write: %w", explain(ctx, err))
	}
	return written, nil
}

func strs(names []auth.Name) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = string(name)
	}
	return all
}

// scan takes accounts as they are, with their versions.
func (b *bulk) scan(rows pgx.Rows) error {
	defer rows.Close()
	for rows.Next() {
		var a auth.Account
		var version int64
		if err := rows.Scan(append([]any{&version}, accountFields(&a)...)...); err != nil {
			return err
		}
		d := &b.drafts[b.places[a.Name]]
		d.before, d.exists, d.version = a.Normal(), true, &version
	}
	return rows.Err()
}

// stage sends what was read and what becomes of it.
func (b *bulk) stage(ctx context.Context) error {
	if _, err := b.conn.Exec(ctx, makeStage); err != nil {
		return err
	}
	_, err := b.conn.CopyFrom(ctx, pgx.Identifier{"looked"}, []string{"name", "version"},
		pgx.CopyFromSlice(len(b.drafts), func(i int) ([]any, error) {
			return []any{string(b.drafts[i].name), b.drafts[i].version}, nil
		}))
	if err != nil {
		return err
	}
	var puts []*auth.Account
	for i := range b.drafts {
		if d := &b.drafts[i]; d.write && !d.after.Blank() {
			puts = append(puts, &d.after)
		}
	}
	if err := copyRows(ctx, b.conn, "stage", accountColumns, puts, accountFields); err != nil {
		return err
	}
	_, err = b.conn.Exec(ctx, analyseStage)
	return err
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
		if err != nil {
			// No more than the connection is lost, and the transaction with it.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			tx.Rollback(ctx)
		}
	}()
	if _, err := tx.Exec(ctx, takeChanges, lockKey("changes")); err != nil {
		return 0, fmt.Errorf("wait for the changes under way: %w", err)
	}
	again, err := b.remake(ctx, tx)
	if err != nil {
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
		delta += unknown(!d.after.Blank(), d.after) - unknown(d.exists, d.before)
		switch {
		case d.after.Blank():
			removed = append(removed, string(d.name))
		case again[d.name]:
			late = append(late, &d.after)
		}
		for i := range d.events {
			events = append(events, &d.events[i])
			notify = notify || isLockEvent(d.events[i])
		}
	}
	if written == 0 {
		return 0, tx.Rollback(ctx)
	}
	if err := b.findRoom(ctx, tx, delta); err != nil {
		return 0, err
	}
	var end head
	if len(events) > 0 {
		if err := tx.QueryRow(ctx, lockHead).Scan(&end.seq, &end.hash); err != nil {
			return 0, err
		}
		if end, err = chainAll(end, events); err != nil {
			return 0, err
		}
		if err := copyRows(ctx, b.conn, "events", eventColumns, events, eventFields); err != nil {
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
		rest.Queue(advanceHead, end.seq, end.hash)
	}
	if delta != 0 {
		rest.Queue(addUnknown, delta)
	}
	if notify {
		rest.Queue(notifyOfTheEvent, channel, fmt.Sprint(end.seq))
	}
	if err := tx.SendBatch(ctx, &rest).Close(); err != nil {
		return 0, err
	}
	if err := b.settle.wanted().before; err != nil {
		return 0, err
	}
	// From here on the outcome is not known until PostgreSQL has told it.
	err = tx.Commit(ctx)
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
func (b *bulk) remake(ctx context.Context, tx pgx.Tx) (again map[auth.Name]bool, err error) {
	rows, err := tx.Query(ctx, findChanged)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(names) == 0 {
		return nil, err
	}
	again = make(map[auth.Name]bool, len(names))
	for _, name := range names {
		d := &b.drafts[b.places[auth.Name(name)]]
		*d = draft{name: d.name, before: auth.Account{Name: d.name}}
		again[d.name] = true
	}
	if rows, err = tx.Query(ctx, readVersions, names); err != nil {
		return nil, err
	}
	if err := b.scan(rows); err != nil {
		return nil, err
	}
	for name := range again {
		if err := b.drafts[b.places[name]].make(b.try, b.change); err != nil {
			return nil, fmt.Errorf("%w: %w", errOwn, err)
		}
	}
	_, err = tx.Exec(ctx, unstage, names)
	return again, err
}

// findRoom reports ErrFull where there is no room for so many more names that
// nobody ever logged in with.
func (b *bulk) findRoom(ctx context.Context, tx pgx.Tx, delta int64) error {
	fresh := make(map[auth.Name]bool)
	for i := range b.drafts {
		if d := &b.drafts[i]; d.write && !d.exists && !d.after.Blank() && !d.after.Known() {
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
func chainAll(h head, events []*auth.Event) (_ head, err error) {
	for _, e := range events {
		one := []auth.Event{*e}
		if h, err = chain(h, one); err != nil {
			return h, fmt.Errorf("%w: %w", errOwn, err)
		}
		*e = one[0]
	}
	return h, nil
}
