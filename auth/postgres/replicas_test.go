package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
)

// All gateways sweep at the same time of day.
func TestThreeSweepsAtOnceRevokeEachAccountOnce(t *testing.T) {
	t.Parallel()
	guards := replicated(t, 3, Options{DSN: database(t)})
	s := storeOf(guards[0])
	longAgo := auth.AddMonths(s.Now(), -24)
	const dormant = 20 // more at once need an admin's confirmation
	for i := range dormant + 10 {
		update(t, s, numbered(i), 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered, a.FirstLogin, a.LastLogin = longAgo, longAgo, longAgo
			if i >= dormant {
				a.LastLogin = s.Now()
			}
			return nil, true
		})
	}
	var revoked atomic.Int64
	var wg sync.WaitGroup
	for _, g := range guards {
		wg.Go(func() {
			swept, err := g.Sweep(t.Context(), storeOf(g))
			if err != nil {
				t.Error(err)
			}
			revoked.Add(int64(swept.Revoked))
		})
	}
	wg.Wait()
	events, err := s.Events(t.Context(), auth.EventFilter{Kinds: []auth.EventKind{auth.AccountRevoked}, Limit: 1000})
	if err != nil || len(events) != dormant || revoked.Load() != dormant {
		t.Errorf("%d events, %d revoked, %v; want %d of each", len(events), revoked.Load(), err, dormant)
	}
}

func TestAllAgreeOnTheFirstValue(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn}), open(t, Options{DSN: dsn})
	if err := a.Agree(t.Context(), "pepper", "one"); err != nil {
		t.Fatal(err)
	}
	if err := b.Agree(t.Context(), "pepper", "one"); err != nil {
		t.Errorf("the same value: %v", err)
	}
	if err := b.Agree(t.Context(), "pepper", "another"); !errors.Is(err, auth.ErrDisagreement) || !strings.Contains(err.Error(), "pepper") {
		t.Errorf("another value: %v, want ErrDisagreement", err)
	}
	if err := b.Agree(t.Context(), "salt", "another"); err != nil {
		t.Errorf("something else: %v", err)
	}
}

// After a failover to a server that had not received the latest changes, or with a
// restored backup, numbers are assigned again; no event after that may be missed.
func TestChangesContinueWhenTheLogIsShorterThanBefore(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Poll: 20 * time.Millisecond})
	l := follow(t, s)
	for i := range 5 {
		update(t, s, numbered(i), 0, locked(auth.AccountLocked))
	}
	eventually(t, "five events arrived", func() bool { return strings.Count(l.said(), "\n") == 5 })
	conn := connected(t, s)
	for _, statement := range allowTampering {
		execute(t, conn, statement)
	}
	execute(t, conn, `WITH gone AS (DELETE FROM events WHERE seq > 2) UPDATE head SET seq = 2, hash = (SELECT hash FROM events WHERE seq = 2)`)
	// Wait for more than one poll, so that the shorter log is seen before it grows.
	watched := connected(t, s)
	eventually(t, "a heartbeat was sent", func() bool {
		var n int
		err := watched.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND query = 'SELECT seq FROM head' AND query_start > now() - interval '1 s' AND query_start > (SELECT max(state_change) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'WITH gone%')`).Scan(&n)
		return err == nil && n > 0
	})
	update(t, s, "after@congthu.test", 0, locked(auth.AccountLocked))
	eventually(t, "the sixth event arrived", func() bool { return strings.Contains(l.said(), "after@congthu.test") })
}

func TestInspectReportsWhatMattersAndChangesNothing(t *testing.T) {
	t.Parallel()
	empty := pgtest.Database(t)
	newest, err := newestVersion()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Inspect(t.Context(), Options{DSN: empty}, "pepper")
	if err != nil {
		t.Fatal(err)
	}
	if r.Schema != 0 || r.Newest != newest || !r.MayCreate || !r.Local || r.Encrypted || r.Latency <= 0 || !strings.HasPrefix(r.Server, "1") || len(r.Gateways) > 0 {
		t.Errorf("an empty one: %+v", r)
	}
	// pgtest does not sync.
	if r.Durable() || r.Fsync != "off" || r.SynchronousCommit != "on" {
		t.Errorf("fsync is off, but: %+v", r)
	}
	if again, err := Inspect(t.Context(), Options{DSN: empty}, "pepper"); err != nil || again.Schema != 0 {
		t.Errorf("looking has made a schema: %+v, %v", again, err)
	}
	s := open(t, Options{DSN: empty, MaxConns: 3})
	if err := s.Agree(t.Context(), "pepper", "one"); err != nil {
		t.Fatal(err)
	}
	r, err = Inspect(t.Context(), Options{DSN: empty, MaxConns: 3}, "pepper")
	if err != nil || r.Schema != newest || len(r.Gateways) != 1 || r.Agreed != "one" || r.Wanted != 9 {
		t.Errorf("one in use: %+v, %v", r, err)
	}
	if r, err = Inspect(t.Context(), Options{DSN: empty + " synchronous_commit=off"}, "pepper"); err != nil || r.SynchronousCommit != "off" {
		t.Errorf("without synchronous commits: %+v, %v", r, err)
	}
	server := pgtest.Shared(t)
	server.Exec(t, `DROP ROLE IF EXISTS guest`)
	server.Exec(t, `CREATE ROLE guest LOGIN`)
	another := strings.Replace(server.Database(t), "user=congthu", "user=guest", 1)
	for _, dsn := range []string{another, another + " search_path=nowhere"} {
		if r, err = Inspect(t.Context(), Options{DSN: dsn}, "pepper"); err != nil || r.MayCreate {
			t.Errorf("as a user that may not create tables: %+v, %v", r, err)
		}
	}
	if _, err := Inspect(context.Background(), Options{DSN: "host=" + t.TempDir() + " dbname=x user=y"}, "pepper"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no server: %v", err)
	}
}

// The lease manager and the writers of other processes lock the same reservations:
// waiting for one of them while it holds another could be a deadlock, and would delay
// the heartbeat of this process.
func TestTheLeaseManagerWaitsForNoReservation(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Lease: shortLease})
	s.held.take(4711, victim)
	s.held.take(4712, victim)
	execute(t, connected(t, s), takeSlots, []int64{4711, 4712}, []string{string(victim), string(victim)}, s.identity.Load().holder)
	other := connected(t, s)
	execute(t, other, `SET idle_in_transaction_session_timeout = 0`)
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SELECT FROM reservations WHERE id = 4711 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	s.held.drop(4711)
	s.held.drop(4712)
	reader := connected(t, s)
	left := func(id int64) (n int) {
		if err := reader.QueryRow(t.Context(), `SELECT count(*) FROM reservations WHERE id = $1`, id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	looks := s.leases.looks.Load()
	eventually(t, "the other slot is free, and heartbeats continue", func() bool { return left(4712) == 0 && s.leases.looks.Load() > looks+2 })
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "this slot is free as well", func() bool { return left(4711) == 0 })
}

// joins lets a process register with its settings.
func joins(t *testing.T, s *Store, tolerated string) error {
	t.Helper()
	mine := auth.Agreement{"rules.lockout.tolerated": tolerated}
	return s.AgreeOnRules(t.Context(), mine.String(), func(agreed string, others int) (string, []auth.Event, error) {
		set, err := auth.ParseAgreement(agreed)
		if err != nil {
			return "", nil, err
		}
		next, events, err := mine.Join(set, others, noon)
		return next.String(), events, err
	})
}

func wantRules(t *testing.T, s *Store, tolerated string, events int) {
	t.Helper()
	text, err := s.Rules(t.Context())
	if err != nil || text != "v1\nrules.lockout.tolerated "+tolerated+"\n" {
		t.Errorf("agreed on %q, error %v; want %s", text, err, tolerated)
	}
	told, err := s.Events(t.Context(), auth.EventFilter{Kinds: []auth.EventKind{auth.RulesAdopted}, Limit: 100})
	if err != nil || len(told) != events {
		t.Errorf("%d events, error %v; want %d", len(told), err, events)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != int64(events) {
		t.Errorf("the log ends at %d, error %v", head.Seq, err)
	}
}

func TestAProcessWithOtherSettingsIsRefused(t *testing.T) {
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn, Lease: 2 * time.Second}), open(t, Options{DSN: dsn, Lease: 2 * time.Second})
	for _, s := range []*Store{a, b} { // both have registered before the first has stored its settings
		if err := joins(t, s, "5"); err != nil {
			t.Fatal(err)
		}
	}
	// With a shorter lease it must not expire the two between their heartbeats.
	c := open(t, Options{DSN: dsn, Lease: 60 * time.Millisecond})
	if err := joins(t, c, "50"); !errors.Is(err, auth.ErrDisagreement) || !strings.Contains(err.Error(), "tolerated is 50 here, agreed is 5") {
		t.Errorf("another beside two: %v", err)
	}
	wantRules(t, c, "5", 0)
	// A refused process does not count as another: the two end, and it is alone.
	for _, s := range []*Store{a, b} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := joins(t, c, "50"); err != nil {
		t.Errorf("alone: %v", err)
	}
	wantRules(t, c, "50", 1)
}

// Two processes start at the same time with new settings, as when people restart them:
// the first makes its settings the agreed ones, the second has the same.
func TestProcessesThatStartTogetherWithNewSettingsAgree(t *testing.T) {
	dsn := database(t)
	first := open(t, Options{DSN: dsn})
	if err := joins(t, first, "5"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var stores []*Store
	for range 4 {
		stores = append(stores, open(t, Options{DSN: dsn}))
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			if err := joins(t, s, "6"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantRules(t, stores[0], "6", 1)
}

// A killed process counts for one lease, and no longer.
func TestAKilledProcessKeepsItsSettingsForALease(t *testing.T) {
	dsn := database(t)
	s := open(t, Options{DSN: dsn, Lease: 300 * time.Millisecond})
	if err := joins(t, s, "5"); err != nil {
		t.Fatal(err)
	}
	conn, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	// The state that a process without heartbeats leaves.
	_, err = conn.Exec(t.Context(), `WITH dead AS (INSERT INTO holders (name, rules) VALUES ('dead:1', 'x') RETURNING id) INSERT INTO lanes (holder) SELECT id FROM dead`)
	if err != nil {
		t.Fatal(err)
	}
	if err := joins(t, s, "6"); err != nil {
		t.Errorf("beside one that is dead: %v", err)
	}
	wantRules(t, s, "6", 1)
}

// A process that was treated as dead and is back has the same settings.
func TestAProcessThatIsBackCountsAgain(t *testing.T) {
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn, Lease: 200 * time.Millisecond}), open(t, Options{DSN: dsn, Lease: time.Minute})
	if err := joins(t, a, "5"); err != nil {
		t.Fatal(err)
	}
	old := a.identity.Load()
	if _, err := b.pool.Exec(t.Context(), `UPDATE holders SET gone = clock_timestamp() WHERE id = $1`, old.holder); err != nil {
		t.Fatal(err)
	}
	for a.identity.Load() == old {
		if t.Context().Err() != nil {
			t.Fatal("it was not back")
		}
		time.Sleep(time.Millisecond)
	}
	var working bool
	if err := b.pool.QueryRow(t.Context(), `SELECT rules IS NOT NULL FROM holders WHERE id = $1`, a.identity.Load().holder).Scan(&working); err != nil || !working {
		t.Errorf("it is not known to work by its settings: %v", err)
	}
}
