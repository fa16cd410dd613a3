package postgres

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
)

// identity is the identity of this process in the database. The process gets a new one
// after its lease has expired.
type identity struct {
	holder int64
	lanes  [numLanes]int64
}

// commitHere makes commits not wait for a standby, for the whole session or for the
// transaction: heartbeats and the removal of slots promise nothing to a client, and must
// work while a standby is down.
const commitHere = `SELECT set_config('synchronous_commit', 'local', $1) WHERE current_setting('synchronous_commit') <> 'off'`

// register makes the process known to the database, in place of old, whose lease has
// expired; it takes over the reservations that have not expired yet.
func (s *Store) register(ctx context.Context, conn *pgx.Conn, old *identity) error {
	s.registering.Lock()
	defer s.registering.Unlock()
	if s.identity.Load() != old {
		return nil // another goroutine has done it
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.o.StatementTimeout)
	defer cancel()
	host, _ := os.Hostname()
	id := new(identity)
	var shown time.Time
	asked := time.Now()
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, commitHere, true); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `INSERT INTO holders (name, rules, lease) VALUES ($1, $2, $3) RETURNING id, clock_timestamp()`,
			fmt.Sprintf("%s:%d", host, os.Getpid()), s.rules.Load(), s.o.Lease.Microseconds()).Scan(&id.holder, &shown)
		if err != nil {
			return err
		}
		s.clock.heard(shown, asked, time.Now())
		for i := range id.lanes {
			if err := tx.QueryRow(ctx, `INSERT INTO lanes (holder) VALUES ($1) RETURNING id`, id.holder).Scan(&id.lanes[i]); err != nil {
				return err
			}
		}
		if old == nil {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE reservations SET holder = $1 WHERE id IN (
			SELECT id FROM reservations WHERE (holder = $2 OR id = ANY($3)) AND lapsed IS NULL ORDER BY id FOR UPDATE)`, id.holder, old.holder, s.held.ids())
		return err
	})
	if err != nil {
		return fmt.Errorf("register process: %w", err)
	}
	if old != nil {
		s.o.Log.Warn("this process was taken for dead by another, and is back", "lease", s.o.Lease)
	}
	s.identity.Store(id)
	return nil
}

// leaseManager keeps the lease of this process and expires those of others, in one
// goroutine. At every heartbeat it
//
//   - raises the counter of this process,
//   - expires processes whose counter has not changed for a lease,
//   - expires the reservations of those processes,
//   - frees reservations of this process that it does not hold in memory: taken by a
//     transaction whose outcome was not known, or back after a crash of the
//     database.
//
// The observer measures how long a counter has not changed, and only while it could
// read it. So no clock has to be right, and an outage of the database, or of the
// network to it, expires no process.
type leaseManager struct {
	*Store
	every   time.Duration
	nudge   chan struct{} // requests a heartbeat
	stopped chan struct{} // closed when run has returned
	looks   atomic.Int64  // heartbeats that succeeded

	// Only run uses these.
	conn   *pgx.Conn
	failed bool      // the last heartbeat failed
	stuck  bool      // the last expiry of reservations failed
	looked time.Time // when it last read the others
	others map[int64]lastHeartbeat
}

// lastHeartbeat is the last known heartbeat of another process.
type lastHeartbeat struct {
	beats int64
	since time.Time // when this count was first seen
}

func newLeaseManager(s *Store, conn *pgx.Conn) *leaseManager {
	return &leaseManager{
		Store: s, conn: conn, every: max(time.Millisecond, s.o.Lease/6),
		nudge: make(chan struct{}, 1), stopped: make(chan struct{}), others: make(map[int64]lastHeartbeat),
	}
}

// wake requests a heartbeat now.
func (k *leaseManager) wake() {
	select {
	case k.nudge <- struct{}{}:
	default:
	}
}

// run sends heartbeats until Close, and then removes the row of this process.
func (k *leaseManager) run() {
	defer close(k.stopped)
	beat := time.NewTicker(k.every)
	defer beat.Stop()
	for {
		err := k.heartbeat()
		switch {
		case err != nil && !k.failed:
			k.o.Log.Error("this process cannot tell that it lives", "lease", k.o.Lease, "err", explain(context.Background(), err))
		case err == nil && k.failed:
			k.o.Log.Info("this process can tell again that it lives")
		}
		k.failed = err != nil
		select {
		case <-beat.C:
		case <-k.nudge:
		case <-k.life.Done():
			k.leave()
			return
		}
	}
}

// bounded returns a context for a few statements, which Close does not interrupt.
func (k *leaseManager) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*k.o.StatementTimeout)
}

// seen is what a heartbeat reads from the database.
type seen struct {
	alive   bool                // this process is registered
	others  map[int64]heartbeat // heartbeats of the other processes
	own     []int64             // slots of this process
	orphans []orphan
}

// heartbeat is the content of the row of another process.
type heartbeat struct {
	beats int64
	// lease is the other's own lease: with a shorter one this process would expire it between two
	// heartbeats. 0: not known.
	lease time.Duration
}

// orphan is a slot of a dead process.
type orphan struct {
	id      int64
	account auth.Name
}

func (k *leaseManager) heartbeat() (err error) {
	ctx, cancel := k.bounded()
	defer cancel()
	defer func() {
		if err != nil && k.conn != nil {
			closeConn(k.conn)
			k.conn = nil
		}
	}()
	if k.conn == nil || k.conn.IsClosed() {
		if k.conn, err = k.connect(ctx); err != nil {
			return err
		}
		if _, err = k.conn.Exec(ctx, commitHere, false); err != nil {
			return err
		}
	}
	id := k.identity.Load()
	found, err := k.look(ctx, id)
	if err != nil {
		return err
	}
	if !found.alive {
		return k.register(ctx, k.conn, id)
	}
	if err := k.free(ctx, found.own); err != nil {
		return err
	}
	if err := k.expireSilent(ctx, found.others); err != nil {
		return err
	}
	k.expireReservations(found.orphans)
	k.looks.Add(1)
	return nil
}

// look raises the counter of this process and reads the others.
func (k *leaseManager) look(ctx context.Context, id *identity) (seen, error) {
	found := seen{others: make(map[int64]heartbeat)}
	var shown time.Time
	var b pgx.Batch
	b.Queue(`UPDATE holders SET beats = beats + 1, seen = clock_timestamp() WHERE id = $1 AND gone IS NULL RETURNING seen`, id.holder).
		QueryRow(func(row pgx.Row) error {
			err := row.Scan(&shown)
			found.alive = err == nil
			return none(err)
		})
	b.Queue(`SELECT id, beats, coalesce(lease, 0) FROM holders WHERE id <> $1 AND gone IS NULL`, id.holder).Query(func(rows pgx.Rows) error {
		var other, beats, lease int64
		_, err := pgx.ForEachRow(rows, []any{&other, &beats, &lease}, func() error {
			found.others[other] = heartbeat{beats, time.Duration(lease) * time.Microsecond}
			return nil
		})
		return err
	})
	b.Queue(`SELECT id FROM reservations WHERE holder = $1 AND lapsed IS NULL`, id.holder).Query(func(rows pgx.Rows) (err error) {
		found.own, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	b.Queue(`SELECT id, account FROM reservations r WHERE lapsed IS NULL AND NOT ` + holderLives + ` LIMIT 1000`).Query(func(rows pgx.Rows) error {
		var o orphan
		_, err := pgx.ForEachRow(rows, []any{&o.id, &o.account}, func() error { found.orphans = append(found.orphans, o); return nil })
		return err
	})
	// A holder that comes back within a day can still settle expired reservations.
	b.Queue(`DELETE FROM reservations WHERE lapsed < clock_timestamp() - interval '1 day'`)
	b.Queue(`DELETE FROM holders WHERE gone < clock_timestamp() - interval '1 day'`)
	b.Queue(`DELETE FROM settlements WHERE id IN (SELECT id FROM settlements WHERE at < clock_timestamp() - interval '1 day'
		ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)`)
	asked := time.Now()
	err := k.conn.SendBatch(ctx, &b).Close()
	if err == nil && found.alive {
		k.clock.heard(shown, asked, time.Now())
	}
	return found, err
}

// free frees the slots of this process that it does not hold in memory. A slot is held
// in memory before it is in the database, and until it is gone from there.
func (k *leaseManager) free(ctx context.Context, own []int64) error {
	var lost []int64
	for _, id := range own {
		if !k.held.has(auth.Reservation(id)) {
			lost = append(lost, id)
		}
	}
	if len(lost) == 0 {
		return nil
	}
	// Rows that another transaction has locked are left for the next heartbeat: waiting
	// could deadlock, or delay the heartbeat.
	_, err := k.conn.Exec(ctx, `DELETE FROM reservations WHERE id IN (
		SELECT id FROM reservations WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED)`, lost)
	return err
}

// expireSilent expires processes whose counter has not changed for a lease.
func (k *leaseManager) expireSilent(ctx context.Context, pulses map[int64]heartbeat) error {
	now := time.Now()
	if now.Sub(k.looked) > 3*k.every {
		clear(k.others) // it has not observed the others meanwhile
	}
	k.looked = now
	for id := range k.others {
		if _, there := pulses[id]; !there {
			delete(k.others, id)
		}
	}
	for id, p := range pulses {
		n := p.beats
		w, known := k.others[id]
		switch {
		case !known || w.beats != n:
			k.others[id] = lastHeartbeat{n, now}
		case now.Sub(w.since) >= max(k.o.Lease, p.lease):
			// Unless it has sent a heartbeat just now.
			tag, err := k.conn.Exec(ctx, `UPDATE holders SET gone = clock_timestamp() WHERE id = $1 AND beats = $2 AND gone IS NULL`, id, n)
			if err != nil {
				return err
			}
			if tag.RowsAffected() > 0 {
				k.o.Log.Warn("another process is gone: its attempts count as failures in doubt", "silent", now.Sub(w.since))
			}
		}
	}
	return nil
}

// expireReservations turns slots into failures in doubt, at most maxBatch at a time. A
// failure is retried at the next heartbeat.
func (k *leaseManager) expireReservations(orphans []orphan) {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	limit := make(chan struct{}, maxBatch)
	for _, o := range orphans {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			ctx, cancel := k.bounded()
			defer cancel()
			q := &request{kind: lapsing, name: o.account, reservation: auth.Reservation(o.id), change: k.o.ReservationExpired, tells: true}
			if _, err := k.settle.do(ctx, q); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	err := failed.Load()
	if err != nil && !k.stuck {
		k.o.Log.Error("slots of a process that is gone could not be made to lapse", "err", *err)
	}
	k.stuck = err != nil
}

// leave removes the row of this process. It tries twice: the present connection may be
// broken without an error so far.
func (k *leaseManager) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), k.o.ConnectTimeout)
	defer cancel()
	<-k.admit.stopped
	<-k.settle.stopped
	var err error
	for range 2 {
		if k.conn == nil || k.conn.IsClosed() {
			k.conn, err = k.connect(ctx)
		}
		if k.conn != nil {
			_, err = k.conn.Exec(ctx, `DELETE FROM holders WHERE id = $1`, k.identity.Load().holder)
			closeConn(k.conn)
			k.conn = nil
		}
		if err == nil {
			return
		}
	}
	k.o.Log.Warn("the other processes could not be told that this one ends; they notice after the lease", "lease", k.o.Lease, "err", err)
}
