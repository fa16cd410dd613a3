package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
)

// channel is the channel of LISTEN and NOTIFY. The payload is the number of an event:
// other listeners learn nothing from it.
const channel = "congthu"

// toldEvents are the kinds of events that other replicas must receive: those for which
// [guard.Guard.OnRemoteEvent] does something, and the rules on which gateways agree.
var toldEvents = []auth.EventKind{
	auth.AccountLocked, auth.NameLocked, auth.AccountUnlocked, auth.AccountRevoked, auth.AccountRestored,
	auth.AccountMerged, auth.SourceAllowed, auth.ClockSuspected, auth.ClockAccepted, auth.RulesAdopted,
}

// Changes calls f for every event that locks, unlocks, revokes, restores or merges an
// account, allows a source, doubts or accepts the clock, or changes the rules on which
// gateways agree, on this replica or another. It calls f in the order of the events, from
// now on and until ctx ends or the store is closed; then it returns nil. It is for work
// that every replica must do: end the sessions of an account that an admin has locked,
// wake waiting attempts.
//
// NOTIFY reports events at once; in addition Changes reads the log every [Options].Poll.
// While the database is down it waits, and misses nothing: events are committed in the
// order of their numbers, so it continues after the last event that it has read.
func (s *Store) Changes(ctx context.Context, f func(auth.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	w := &follower{Store: s, f: f, last: s.opened}
	failed := false
	for ctx.Err() == nil {
		err := w.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil && !failed {
			s.o.Log.Error("changes by other replicas cannot be seen", "err", explain(ctx, err))
		}
		failed = err != nil
		wait(ctx, s.o.Poll)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// follower is one call of Changes.
type follower struct {
	*Store
	f    func(auth.Event)
	last int64 // number of the last event that it has read
}

// follow follows the log over one connection.
func (w *follower) follow(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return err
	}
	for {
		if err := w.look(ctx, conn); err != nil {
			return err
		}
		heard, cancel := context.WithTimeout(ctx, w.o.Poll)
		_, err := conn.WaitForNotification(heard)
		timeout := heard.Err() != nil
		cancel()
		if err != nil && (!timeout || conn.IsClosed()) {
			return err
		}
	}
}

// look reads the new events and calls f.
func (w *follower) look(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 2*w.o.StatementTimeout)
	defer cancel()
	var newest int64
	if err := conn.QueryRow(ctx, `SELECT seq FROM head`).Scan(&newest); err != nil {
		return err
	}
	if w.last > newest {
		// Another server has taken over, or a backup was restored: new events are
		// numbered from the end of that log.
		w.o.Log.Warn("the audit log is shorter than it was: changes by other replicas may have been missed", "was", w.last, "is", newest)
		w.last = newest
	}
	for w.last < newest {
		rows, err := conn.Query(ctx, `SELECT `+eventColumns+` FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, w.last, newest, page)
		if err != nil {
			return err
		}
		events, err := pgx.CollectRows(rows, scanEvent)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			w.last = newest // the log was tampered with: Verify reports it
		}
		for _, e := range events {
			w.last = e.Seq
			if isTold(e) {
				w.f(e)
			}
		}
	}
	return nil
}

func isTold(e auth.Event) bool {
	for _, k := range toldEvents {
		if e.Kind == k {
			return true
		}
	}
	return false
}
