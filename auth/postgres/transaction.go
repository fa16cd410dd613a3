package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime/debug"
	"slices"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
	"congthu/auth/audit"
)

// transaction is one transaction of many requests. It takes two round trips to the
// database: one that locks and reads the rows of the requests, and one that writes and
// commits. In between the callers' functions run.
//
// Proof that no more wrong passwords are judged than Reserve's callback allows, on any
// number of replicas. Let the callback return limit - failures. A transaction that takes
// a slot of an account, or changes the account, holds the lock of its name from
// before it reads until its commit is visible to all. So these transactions happen one
// after the other, and each sees all before it. Slots are also freed without that lock,
// but only where nothing is written, which can only make the count too high. Take the
// last attempt that is admitted: any attempt admitted before it either has its
// reservation in the count, or was settled, and then its failure is in the account. So
// all attempts that ever fail are at most the count, this one, and the failures, which
// is at most limit. Reservations and failures are on disk, and on a synchronous standby,
// when their commits are confirmed, so a crash of the database or a takeover loses
// none of them. A slot that this process holds and the database does not have counts as
// well: see unseen.
//
// Locks are taken in one order everywhere, so that there is no deadlock:
// the row of the lane, the lock that changes share (see shareChanges), the names in the
// order of their keys, reservations in the order of their ids, the head of the
// audit log, the count of unknown names.
type transaction struct {
	*lane
	identity *identity
	commits  int64 // number of transactions of the lane, with this one

	rows map[auth.Name]*row

	head    *audit.Head // nil until it is locked
	unknown *room       // nil until it is locked
	delta   int64       // change of the number of unknown names

	// What is written beside the rows.
	writes  bool
	events  []auth.Event
	taken   []int64
	takers  []string
	settled []int64
	lost    int // number of settled reservations that the database did not have
	lapsed  []int64
	counted []int64 // those of lapsed that counted as a failure
	notify  bool    // an event that other replicas must receive is written

	committing bool // if it fails now, its outcome is in doubt
}

// row is the state of one account and its reservations in the transaction.
type row struct {
	account auth.Account // always normalized
	stored  bool         // there is a row now
	exists  bool         // there will be a row
	dirty   bool
	slots   map[auth.Reservation]*slot
}

// slot is a reservation that is not settled.
type slot struct {
	lapsed  bool // its holder was treated as dead
	counted bool // its expiry counted as a failure
	alive   bool // its holder is alive
}

// room is the room that names without a login take.
type room struct {
	unknown  int64              // rows of such names
	promised map[auth.Name]bool // names without a row that may need one
}

// inFlight is the number of slots that are taken.
func (r *row) inFlight() (n int) {
	for _, s := range r.slots {
		if !s.lapsed {
			n++
		}
	}
	return n
}

// make makes the transaction. If it fails, nothing was committed, unless committing is
// set.
func (t *transaction) make(batch []*request) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*t.o.StatementTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			// A bug in this package costs one batch, not the gateway.
			t.o.Log.Error("the writer panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: writer panicked: %s", errOwn, auth.PanicText(p))
		}
		if err != nil && t.conn != nil && !t.conn.IsClosed() && sqlState(err) == "" && !errors.Is(err, errLeaseExpired) && !errors.Is(err, errWarned) {
			err = fmt.Errorf("%w: %w", errOwn, err)
		}
	}()
	if err := t.reach(ctx); err != nil {
		return err
	}
	t.identity = t.Store.identity.Load()
	if err := t.begin(ctx, batch); err != nil {
		return err
	}
	for _, q := range batch {
		var err error
		q.run(func() { err = t.apply(ctx, q) })
		if err != nil {
			return err
		}
	}
	if !t.writes {
		t.rollback()
		return nil
	}
	return t.commit()
}

// holderLives is true for a reservation r whose holder was not treated as dead.
const holderLives = `EXISTS (SELECT FROM holders h WHERE h.id = r.holder AND h.gone IS NULL)`

const (
	advanceLane = `UPDATE lanes l SET commits = commits + 1 FROM holders h
		WHERE l.id = $1 AND h.id = l.holder AND h.gone IS NULL RETURNING commits`
	// shareChanges is held by every transaction that changes an account. During an
	// upgrade a gateway of the release before may run beside this one: while it writes
	// an import it takes this lock exclusively, and it would overwrite changes of others
	// made meanwhile.
	shareChanges = `SELECT pg_advisory_xact_lock_shared($1)`
	lockNames    = `SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k`
	readAccounts = `SELECT ` + accountColumns + ` FROM accounts WHERE name = ANY($1)`
	// readSlots in the settling lane also locks the slots, so that they are not released
	// at the same time.
	readSlots = `SELECT r.account, r.id, r.lapsed IS NOT NULL, r.counted, ` + holderLives + `
		FROM reservations r WHERE r.account = ANY($1)`
	// lockHead takes the newest event if the row of head was set back to an older one:
	// the chain then continues, and verification reports it.
	lockHead = `SELECT CASE WHEN e.seq > h.seq THEN e.seq ELSE h.seq END, CASE WHEN e.seq > h.seq THEN e.hash ELSE h.hash END
		FROM head h LEFT JOIN (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1) e ON true FOR UPDATE OF h`
	lockCounts = `SELECT FROM counts FOR UPDATE`
	readRoom   = `SELECT unknown, ARRAY (
		SELECT DISTINCT r.account FROM reservations r
		WHERE r.lapsed IS NULL AND NOT (r.account >= '@' AND r.account < 'A')
		AND NOT EXISTS (SELECT FROM accounts a WHERE a.name = r.account)) FROM counts`
	// isShared is [auth.Name.Shared] of a name.
	isShared = `(name >= '@' AND name < 'A')`

	removeAccount    = `DELETE FROM accounts WHERE name = $1`
	appendEvent      = `INSERT INTO events (` + eventColumns + `) VALUES `
	advanceHead      = `UPDATE head SET seq = $1, hash = $2`
	addUnknown       = `UPDATE counts SET unknown = unknown + $1`
	takeSlots        = `INSERT INTO reservations (id, account, holder) SELECT id, account, $3 FROM unnest($1::bigint[], $2::text[]) AS _ (id, account)`
	freeSlots        = `WITH freed AS (DELETE FROM reservations WHERE id = ANY($1)) INSERT INTO settlements (id) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING`
	countReceipts    = `SELECT count(*) FROM settlements WHERE id = ANY($1)`
	letSlotsLapse    = `UPDATE reservations SET lapsed = clock_timestamp(), counted = id = ANY($2) WHERE id = ANY($1)`
	notifyOfTheEvent = `SELECT pg_notify($1, $2)`
)

var (
	writeAccount = `INSERT INTO accounts (` + accountColumns + `) VALUES ` + places(accountColumns) +
		` ON CONFLICT (name) DO UPDATE SET (` + accountColumns + `) = (` + excluded(accountColumns) + `)`
	writeEvent = appendEvent + places(eventColumns)
)

// lockKey is the key of an advisory lock. If two names have the same key, their
// transactions wait for each other, which does no other harm.
func lockKey(of string) int64 {
	h := fnv.New64a()
	h.Write([]byte("congthu:" + of))
	return int64(h.Sum64())
}

// begin locks and reads the rows of the requests.
func (t *transaction) begin(ctx context.Context, batch []*request) error {
	t.rows = make(map[auth.Name]*row)
	var names []string
	var keys []int64
	tells := false
	for _, q := range batch {
		tells = tells || q.tells
		if q.kind == probing || t.rows[q.name] != nil {
			continue
		}
		t.rows[q.name] = &row{account: auth.Account{Name: q.name}, slots: make(map[auth.Reservation]*slot)}
		names = append(names, string(q.name))
		keys = append(keys, lockKey("name:"+string(q.name)))
	}
	slices.Sort(keys)
	slots := readSlots
	if t.number == settling {
		slots += ` ORDER BY r.id FOR UPDATE OF r`
	}

	var b pgx.Batch
	b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`)
	b.Queue(advanceLane, t.identity.lanes[t.number]).QueryRow(func(r pgx.Row) error {
		err := r.Scan(&t.commits)
		if errors.Is(err, pgx.ErrNoRows) {
			return errLeaseExpired
		}
		return err
	})
	if t.number == settling {
		b.Queue(shareChanges, lockKey("changes"))
	}
	b.Queue(lockNames, slices.Compact(keys))
	// Each statement from here on sees every commit that was made under these locks.
	b.Queue(readAccounts, names).Query(t.scanAccounts)
	b.Queue(slots, names).Query(t.scanSlots)
	if tells {
		b.Queue(lockHead).QueryRow(t.scanHead)
	}
	return t.conn.SendBatch(ctx, &b).Close()
}

func (t *transaction) scanAccounts(rows pgx.Rows) error {
	for rows.Next() {
		var a auth.Account
		if err := rows.Scan(accountFields(&a)...); err != nil {
			return err
		}
		r := t.rows[a.Name]
		r.account, r.stored, r.exists = a.Normalized(), true, true
	}
	return nil
}

func (t *transaction) scanSlots(rows pgx.Rows) error {
	for rows.Next() {
		var name auth.Name
		var id int64
		var s slot
		if err := rows.Scan(&name, &id, &s.lapsed, &s.counted, &s.alive); err != nil {
			return err
		}
		t.rows[name].slots[auth.Reservation(id)] = &s
	}
	return nil
}

func (t *transaction) scanHead(r pgx.Row) error {
	t.head = new(audit.Head)
	return r.Scan(&t.head.Seq, &t.head.Hash)
}

// apply executes one request. An error of that request alone is set in q; an error that
// is returned fails the whole batch.
func (t *transaction) apply(ctx context.Context, q *request) error {
	q.err = nil
	if q.kind == probing {
		t.writes = true
		return nil
	}
	r := t.rows[q.name]
	defer func() {
		if q.err == nil || errors.Is(q.err, auth.ErrNoSlot) {
			q.account = r.account.Normalized()
		}
	}()
	switch q.kind {
	case reserving:
		return t.reserve(ctx, q, r)
	case lapsing:
		return t.lapse(ctx, q, r)
	}
	return t.change(ctx, q, r)
}

// reserve takes a slot.
func (t *transaction) reserve(ctx context.Context, q *request, r *row) error {
	slots, err := t.limit(q.slots, r.account.Normalized())
	if err != nil {
		q.err = err
		return nil
	}
	own, err := t.unseen(ctx, q.name, r)
	if err != nil {
		return err
	}
	if r.inFlight()+own+1 > slots {
		q.err = auth.ErrNoSlot
		return nil
	}
	fits, err := t.fits(ctx, r, false)
	if err != nil {
		return err
	}
	if !fits {
		q.err = auth.ErrFull
		return nil
	}
	// Unique, apart from a chance of one in 2^63.
	q.reservation = auth.Reservation(rand.Int64N(1<<63-1) + 1)
	t.held.take(q.reservation, q.name)
	r.slots[q.reservation] = &slot{alive: true}
	t.taken = append(t.taken, int64(q.reservation))
	t.takers = append(t.takers, string(q.name))
	t.writes = true
	return nil
}

// unseen counts the slots of an account that this process holds and that are not taken
// in the database: they expired without a failure, since other processes treated this
// one as dead, or they were lost with a server. Their attempts are at the mail server,
// or their verdicts are not written yet, so they still count.
func (t *transaction) unseen(ctx context.Context, name auth.Name, r *row) (n int, err error) {
	var gone []int64
	for _, id := range t.held.of(name) {
		switch s := r.slots[id]; {
		case s == nil:
			gone = append(gone, int64(id))
		case s.lapsed && !s.counted:
			n++
		}
	}
	if len(gone) == 0 {
		return n, nil
	}
	settled := 0
	err = t.conn.QueryRow(ctx, countReceipts, gone).Scan(&settled) // the lane gets the error
	return n + len(gone) - settled, err
}

// limit calls a caller's function, and returns a panic as an error.
func (t *transaction) limit(slots func(auth.Account) int, a auth.Account) (n int, err error) {
	_, _, err = t.try(func(a *auth.Account) ([]auth.Event, bool) { n = slots(*a); return nil, false }, &a)
	return n, err
}

// change changes an account and settles a reservation.
func (t *transaction) change(ctx context.Context, q *request, r *row) error {
	var s *slot
	if q.reservation != 0 {
		if s = r.slots[q.reservation]; s == nil {
			if lost, err := t.isLost(ctx, q.reservation); err != nil || !lost {
				return err
			}
		}
	}
	lost := q.reservation != 0 && s == nil
	changed := r.account.Normalized()
	events, write, err := t.try(q.change, &changed)
	if err != nil {
		q.err = err
		return nil
	}
	if s != nil && s.counted && changed.Failures > r.account.Failures {
		// The failure was counted when the slot expired.
		events, write = nil, false
	}
	if write {
		if err := t.write(ctx, q, r, changed, events, q.reservation != 0); err != nil || q.err != nil {
			return err
		}
	}
	if lost && write {
		t.lost++
	}
	if q.reservation != 0 {
		delete(r.slots, q.reservation)
		t.settled = append(t.settled, int64(q.reservation))
		t.writes = true
	}
	return nil
}

// isLost reports whether a reservation that the database does not have was never
// settled: it was lost with a server, or deleted by hand. The change is then made
// nevertheless. If this process does not hold the reservation, it has settled it before,
// and knows that the settlement is durable. Otherwise a receipt in the table settlements
// decides; the receipt is trusted when this transaction, which comes after it, is
// confirmed.
func (t *transaction) isLost(ctx context.Context, r auth.Reservation) (bool, error) {
	if !t.held.has(r) || slices.Contains(t.settled, int64(r)) {
		return false, nil
	}
	receipts := 0
	if err := t.conn.QueryRow(ctx, countReceipts, []int64{int64(r)}).Scan(&receipts); err != nil || receipts == 0 {
		return err == nil, err
	}
	t.settled = append(t.settled, int64(r))
	t.writes = true
	return false, nil
}

// lapse turns the slot of a dead holder into a failure in doubt.
func (t *transaction) lapse(ctx context.Context, q *request, r *row) error {
	s := r.slots[q.reservation]
	if s == nil || s.lapsed || s.alive {
		return nil // another process was first, or the holder is back
	}
	changed := r.account.Normalized()
	var events []auth.Event
	var write bool
	if q.change != nil {
		var err error
		if events, write, err = t.try(q.change, &changed); err != nil {
			q.err = err
			return nil
		}
	}
	if write {
		if err := t.write(ctx, q, r, changed, events, true); err != nil || q.err != nil {
			return err
		}
		t.counted = append(t.counted, int64(q.reservation))
	}
	s.lapsed, s.counted = true, write
	t.lapsed = append(t.lapsed, int64(q.reservation))
	t.writes = true
	return nil
}

// write notes the new state of an account and its events. If it sets q.err it has
// changed nothing.
func (t *transaction) write(ctx context.Context, q *request, r *row, after auth.Account, events []auth.Event, promised bool) error {
	after.Name = q.name
	after = after.Normalized()
	exists := !after.Blank()
	if exists && !after.Known() {
		fits, err := t.fits(ctx, r, promised)
		if err != nil {
			return err
		}
		if !fits {
			q.err = auth.ErrFull
			return nil
		}
	}
	if len(events) > 0 {
		if t.head == nil {
			if err := t.scanHead(t.conn.QueryRow(ctx, lockHead)); err != nil {
				return err
			}
		}
		next, err := t.head.Append(events)
		if err != nil {
			q.err = err
			return nil
		}
		*t.head = next
		t.events = append(t.events, events...)
		for _, e := range events {
			t.notify = t.notify || slices.Contains(toldEvents, e.Kind)
		}
	}
	t.delta += unknown(exists, after) - unknown(r.exists, r.account)
	r.account, r.exists, r.dirty = after, exists, true
	t.writes = true
	return nil
}

// unknown is 1 for a row that takes room among the names without a login, else 0. A
// shared counter takes none.
func unknown(exists bool, a auth.Account) int64 {
	if exists && !a.Known() && !a.Name.Shared() {
		return 1
	}
	return 0
}

// fits reports whether the store may remember something for the name: it already does,
// or a slot has reserved room for it, or there is room for one more unknown name.
func (t *transaction) fits(ctx context.Context, r *row, promised bool) (bool, error) {
	if r.exists || promised || r.inFlight() > 0 || r.account.Name.Shared() {
		return true, nil
	}
	if t.unknown == nil {
		if err := t.measure(ctx); err != nil {
			return false, err
		}
	}
	n := t.unknown.unknown + t.delta
	for name := range t.unknown.promised {
		if t.rows[name] == nil {
			n++
		}
	}
	for _, r := range t.rows {
		if !r.exists && r.inFlight() > 0 && !r.account.Name.Shared() {
			n++
		}
	}
	return n < int64(t.o.MaxUnknown), nil
}

// measure locks the count of unknown names and reads it.
func (t *transaction) measure(ctx context.Context) error {
	var b pgx.Batch
	if t.number == settling && t.head == nil {
		b.Queue(lockHead).QueryRow(t.scanHead) // keeps the order of locks: see transaction
	}
	b.Queue(lockCounts)
	m := room{promised: make(map[auth.Name]bool)}
	b.Queue(readRoom).QueryRow(func(r pgx.Row) error {
		var names []string
		err := r.Scan(&m.unknown, &names)
		for _, name := range names {
			m.promised[auth.Name(name)] = true
		}
		return err
	})
	if err := t.conn.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	t.unknown = &m
	return nil
}

// commit writes all changes and commits.
func (t *transaction) commit() error {
	var b pgx.Batch
	for name, r := range t.rows {
		switch {
		case !r.dirty:
		case r.exists:
			b.Queue(writeAccount, accountFields(&r.account)...)
		case r.stored:
			b.Queue(removeAccount, string(name))
		}
	}
	for i := range t.events {
		b.Queue(writeEvent, eventFields(&t.events[i])...)
	}
	if len(t.events) > 0 {
		b.Queue(advanceHead, t.head.Seq, t.head.Hash)
	}
	if t.delta != 0 {
		b.Queue(addUnknown, t.delta)
	}
	if len(t.taken) > 0 {
		b.Queue(takeSlots, t.taken, t.takers, t.identity.holder)
	}
	if len(t.lapsed) > 0 {
		b.Queue(letSlotsLapse, t.lapsed, append([]int64{}, t.counted...)) // an empty array, not NULL
	}
	if len(t.settled) > 0 {
		b.Queue(freeSlots, t.settled)
	}
	if t.notify {
		b.Queue(notifyOfTheEvent, channel, fmt.Sprint(t.head.Seq))
	}
	if err := t.wanted().before; err != nil {
		return err
	}
	t.committing = true
	err := t.Store.commit(context.Background(), t.conn, &b)
	if errors.Is(err, ErrUnconfirmed) {
		t.conn = nil // Store.await has it now
	}
	if err != nil {
		return err
	}
	return t.wanted().after
}

// settle updates the memory after the transaction was committed.
func (t *transaction) settle() {
	for _, r := range t.settled {
		t.held.drop(auth.Reservation(r))
	}
	if t.lost > 0 {
		t.o.Log.Error("slots were gone from the database before their answers were written; these were counted all the same", "count", t.lost)
		t.o.Recorder.SlotsLost(t.lost)
	}
}

// abandon updates the memory after the transaction was not committed, or may not have
// been: the lease manager frees slots that were taken nevertheless.
func (t *transaction) abandon() {
	for _, r := range t.taken {
		t.held.drop(auth.Reservation(r))
	}
}

// excluded returns the columns with the prefix "excluded." (INSERT, ON CONFLICT).
func excluded(columns string) string {
	var b []byte
	word := false
	for _, c := range []byte(columns) {
		letter := c == '_' || 'a' <= c && c <= 'z'
		if letter && !word {
			b = append(b, "excluded."...)
		}
		word = letter
		b = append(b, c)
	}
	return string(b)
}
