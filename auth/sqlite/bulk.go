package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"congthu/auth"
)

// Many accounts are changed in one transaction, and everybody else who writes
// waits for it. So as much as can be is done before it, beside the writer: the
// accounts are read and changed, and the rows put into a database of their own,
// the stage. The transaction copies them within SQLite, which takes a few
// microseconds a row, and makes again only the changes of accounts that somebody
// has changed meanwhile. Only the hashes of the events must be computed then,
// since they depend on the event before.

// many are the changes of many accounts that are made as one.
type many struct {
	drafts  []draft // in the order of the caller
	change  auth.Change
	stage   string // file of the database in which the rows are
	touched *touched
	written int
}

// draft is what becomes of one of many accounts. The account itself is on the
// stage: there may be many.
type draft struct {
	name    auth.Name
	exists  bool // there is a row
	unknown int  // by which the number of unknown names changes
	blank   bool // there will be none
	events  []auth.Event
	write   bool
	staged  bool          // what it becomes is on the stage
	touched bool          // and is no longer what it must be, which is:
	is      *auth.Account // with a row if stays
	stays   bool
}

// make runs change on the account as it was read, and returns what it becomes.
func (d *draft) make(before auth.Account, exists bool, try func(auth.Change, *auth.Account) ([]auth.Event, bool, error), change auth.Change) (after auth.Account, err error) {
	after = before.Normalized()
	d.events, d.write, err = try(change, &after)
	after.Name = d.name
	after = after.Normalized()
	d.exists, d.unknown = exists, 0
	if !d.write {
		d.events = nil
		return before, err
	}
	d.blank = after.Blank()
	d.unknown = unknown(!d.blank, after) - unknown(exists, before)
	return after, err
}

// touched are the names whose rows have changed since the drafts were begun: the
// writer notes each. No other process writes the file.
type touched struct {
	mu    sync.Mutex
	names map[auth.Name]bool
}

func (t *touched) add(name auth.Name) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names[name] = true
}

func (t *touched) has(name auth.Name) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.names[name]
}

// UpdateAll implements [auth.Importer].
func (s *Store) UpdateAll(ctx context.Context, names []auth.Name, change auth.Change) (written int, err error) {
	defer s.operated(auth.OpUpdateAll, s.now(), &err)
	select {
	case s.bulk <- struct{}{}:
		defer func() { <-s.bulk }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := s.usable(); err != nil {
		return 0, err
	}
	m := &many{
		drafts: make([]draft, len(names)), change: change, stage: stageOf(s.path),
		touched: &touched{names: make(map[auth.Name]bool)},
	}
	// Before the first account is read.
	s.writer.touched.Store(m.touched)
	defer s.writer.touched.Store(nil)
	stage := &stage{file: m.stage}
	defer func() { err = errors.Join(err, stage.close(), removeStage(s.path)) }()
	write := false
	for i, name := range names {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		d := &m.drafts[i]
		d.name = name
		before, exists, err := s.readRow(ctx, name)
		if err != nil {
			return 0, err
		}
		after, err := d.make(before, exists, s.try, change)
		if err != nil {
			return 0, err
		}
		if !d.write {
			continue
		}
		write = true
		if err := stage.put(ctx, d, &after); err != nil {
			return 0, fmt.Errorf("prepare the changes: %w", explain(m.stage, err))
		}
	}
	if !write {
		return 0, nil // as if it had been done when each was read
	}
	if err := stage.finish(ctx); err != nil {
		return 0, fmt.Errorf("prepare the changes: %w", explain(m.stage, err))
	}
	if _, err := s.writer.update(ctx, &request{many: m}); err != nil {
		return 0, err
	}
	return m.written, nil
}

// stageOf is the file of the stage, beside the database: there is room there,
// and it is as private.
func stageOf(path string) string { return path + ".import" }

// removeStage removes what a process that was killed has left, too.
func removeStage(path string) error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(stageOf(path) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rowsAtOnce is how many rows one statement writes: they share its cost. With 26
// columns that is less than half of the variables that SQLite allows (32,766).
const rowsAtOnce = 500

// stage is the database in which the rows of a transaction are prepared. It need
// not survive anything.
type stage struct {
	file     string
	db       *sql.DB // nil before the first row
	accounts []*auth.Account
	events   []*auth.Event
	numbered int64 // events
}

// put adds what becomes of one account, and its events, numbered from 1.
func (g *stage) put(ctx context.Context, d *draft, after *auth.Account) error {
	if g.db == nil {
		if err := g.open(ctx); err != nil {
			return err
		}
	}
	d.staged = true
	if !d.blank {
		g.accounts = append(g.accounts, after)
	}
	for i := range d.events {
		g.numbered++
		d.events[i] = d.events[i].Normalized()
		d.events[i].Seq = g.numbered
		g.events = append(g.events, &d.events[i])
	}
	if len(g.accounts) >= rowsAtOnce || len(g.events) >= rowsAtOnce {
		return g.flush(ctx)
	}
	return nil
}

func (g *stage) open(ctx context.Context) error {
	f, err := os.OpenFile(g.file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	g.db = connect(g.file, false)
	g.db.SetMaxOpenConns(1)
	for _, text := range []string{
		`PRAGMA journal_mode = OFF`, `PRAGMA synchronous = OFF`,
		// In the order of the tree that they will go into.
		`CREATE TABLE accounts (` + strings.Replace(accountColumns, "name", "name PRIMARY KEY", 1) + `) WITHOUT ROWID`,
		`CREATE TABLE events (` + strings.Replace(eventColumns, "seq", "seq INTEGER PRIMARY KEY", 1) + `)`,
		`BEGIN`,
	} {
		if _, err := g.db.ExecContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

func (g *stage) flush(ctx context.Context) error {
	if err := insert(ctx, g.db, `INSERT INTO accounts VALUES `, accountColumns, g.accounts, accountFields); err != nil {
		return err
	}
	if err := insert(ctx, g.db, `INSERT INTO events VALUES `, eventColumns, g.events, eventFields); err != nil {
		return err
	}
	g.accounts, g.events = g.accounts[:0], g.events[:0]
	return nil
}

// finish makes the stage complete, for another connection to read.
func (g *stage) finish(ctx context.Context) error {
	if err := g.flush(ctx); err != nil {
		return err
	}
	if _, err := g.db.ExecContext(ctx, `COMMIT`); err != nil {
		return err
	}
	return g.close()
}

func (g *stage) close() error {
	if g.db == nil {
		return nil
	}
	db := g.db
	g.db = nil
	return db.Close()
}

// insert writes rows, many with each statement.
func insert[T any](ctx context.Context, db *sql.DB, text, columns string, rows []*T, fields func(*T) []any) error {
	whole := text + strings.Repeat(places(columns)+", ", rowsAtOnce-1) + places(columns)
	for chunk := range slices.Chunk(rows, rowsAtOnce) {
		text := whole
		if n := len(chunk); n < rowsAtOnce {
			text = whole[:len(whole)-(rowsAtOnce-n)*len(places(columns)+", ")]
		}
		var args []any
		for _, row := range chunk {
			args = append(args, fields(row)...)
		}
		if _, err := db.ExecContext(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
}

// attach shows the stage to the connection; it cannot be done within a
// transaction.
func (c *connection) attach(stage string) error {
	_, err := c.conn.ExecContext(context.Background(), `ATTACH ? AS stage`, dsn(stage, nil))
	return err
}

// detach is to be called when the transaction has ended. After a failure the
// connection is closed, which does it too.
func (c *connection) detach() {
	c.conn.ExecContext(context.Background(), `DETACH stage`)
}

// applyMany makes the changes of many accounts. What goes wrong before anything
// is written is the request's own error.
func (t *transaction) applyMany(q *request) error {
	ctx := context.Background()
	m := q.many
	var events []*auth.Event
	for i := range m.drafts {
		d := &m.drafts[i]
		if d.touched = m.touched.has(d.name); d.touched {
			before, exists, err := readAccount(ctx, t.conn.account, d.name)
			if err != nil {
				return err
			}
			var is auth.Account
			if is, q.err = d.make(before, exists, t.try, m.change); q.err != nil {
				return nil
			}
			d.is, d.stays = &is, exists
			if d.write {
				d.stays = !d.blank
			}
		}
		if !d.write {
			continue
		}
		m.written++
		for i := range d.events {
			events = append(events, &d.events[i])
		}
	}
	if m.written == 0 {
		return nil
	}
	if q.err = t.enterAll(m); q.err != nil {
		t.giveUp()
		return nil
	}
	hashes, next, err := chainAll(t.next, events)
	if err != nil {
		q.err = err
		t.giveUp()
		return nil
	}
	if err := t.copyAccounts(m); err != nil {
		return err
	}
	if err := t.copyEvents(m, hashes); err != nil {
		return err
	}
	for i, e := range events {
		e.Seq = t.next.Seq + int64(i) + 1
	}
	t.next, t.writes = next, true
	t.changes += m.written
	return nil
}

// enterAll notes what the rows will change of the count of unknown names.
func (t *transaction) enterAll(m *many) error {
	for i := range m.drafts {
		d := &m.drafts[i]
		if !d.write {
			continue
		}
		r := row{entry: t.slots.enter(d.name), exists: !d.blank, unknown: d.unknown}
		t.rows = append(t.rows, r)
		if !d.exists && r.unknown > 0 && !t.slots.promise(r.entry) {
			return auth.ErrFull
		}
	}
	return nil
}

// giveUp is for when nothing is written.
func (t *transaction) giveUp() {
	for _, r := range t.rows {
		t.slots.leave(r.entry)
	}
	t.rows = nil
}

// hashSize is how long a hash is as text.
const hashSize = 64

// chainAll gives events their numbers and hashes, which are also returned one
// after the other.
func chainAll(h head, events []*auth.Event) (hashes []byte, _ head, err error) {
	hashes = make([]byte, 0, len(events)*hashSize)
	for _, e := range events {
		staged, one := e.Seq, []auth.Event{*e}
		if h.Head, err = h.Append(one); err != nil {
			return nil, h, err
		}
		hashes = append(hashes, h.Hash...)
		*e, e.Seq = one[0], staged
	}
	return hashes, h, nil
}

// copyAccounts copies the accounts from the stage, and puts those right that
// have changed since.
func (t *transaction) copyAccounts(m *many) error {
	ctx := context.Background()
	_, err := t.conn.conn.ExecContext(ctx, `REPLACE INTO main.accounts (`+accountColumns+`) SELECT `+accountColumns+` FROM stage.accounts`)
	if err != nil {
		return err
	}
	for i := range m.drafts {
		d := &m.drafts[i]
		switch {
		case d.touched && d.stays && (d.write || d.staged):
			err = run(t.conn.write, accountFields(d.is)...)
		case d.touched && !d.stays, d.write && d.blank:
			err = run(t.conn.remove, string(d.name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyEvents copies the events from the stage, as long a run of them at once as
// has not changed since, each with its hash.
func (t *transaction) copyEvents(m *many, hashes []byte) error {
	ctx := context.Background()
	columns := strings.NewReplacer("seq,", "seq + ?1,", " hash", " CAST(substr(?2, (seq + ?3) * 64 - 63, 64) AS TEXT)").Replace(eventColumns)
	stmt, err := t.conn.conn.PrepareContext(ctx, `INSERT INTO main.events (`+eventColumns+`)
		SELECT `+columns+` FROM stage.events WHERE seq BETWEEN ?4 AND ?5 ORDER BY seq`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	var done, first, last int64 // events before the run, and the run
	flush := func() error {
		if last < first || first == 0 {
			return nil
		}
		offset := done - first + 1 // from a number on the stage to that among all
		_, err := stmt.ExecContext(ctx, t.next.Seq+offset, hashes, offset, first, last)
		done += last - first + 1
		first, last = 0, 0
		return err
	}
	for i := range m.drafts {
		d := &m.drafts[i]
		if !d.write || len(d.events) == 0 {
			continue
		}
		if !d.touched {
			begin, end := d.events[0].Seq, d.events[len(d.events)-1].Seq
			if first != 0 && begin != last+1 {
				if err := flush(); err != nil {
					return err
				}
			}
			if first == 0 {
				first = begin
			}
			last = end
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		for i := range d.events {
			done++
			d.events[i].Seq = t.next.Seq + done
			if err := run(t.conn.append, eventFields(&d.events[i])...); err != nil {
				return err
			}
		}
	}
	return flush()
}
