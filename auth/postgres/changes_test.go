package postgres

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
)

// locked is a change that locks an account, with the event of that.
func locked(kind auth.EventKind) auth.Change {
	return func(a *auth.Account) ([]auth.Event, bool) {
		a.Lock = auth.Lock{Mark: auth.Mark{At: noon, By: "admin"}, Cause: auth.ByAdmin}
		return []auth.Event{{At: noon, Kind: kind, Account: a.Name, Actor: "admin"}}, true
	}
}

// told stores the events that Changes passes.
type told struct {
	mu     sync.Mutex
	events []auth.Event
}

func (l *told) tell(e auth.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *told) said() (all string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		all += fmt.Sprintf("%s %s\n", e.Account, e.Kind)
	}
	return all
}

// follow follows the changes of a store until the test ends.
func follow(t *testing.T, s *Store) *told {
	t.Helper()
	conn := connected(t, s)
	followers := func() (n int) {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND query = 'SELECT seq FROM head' AND state = 'idle'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var l told
	before := followers()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Changes(ctx, l.tell); err != nil {
			t.Errorf("changes: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	// It begins with the events after its first read.
	eventually(t, "the connection listens", func() bool { return followers() > before })
	return &l
}

const wanted = `n0@congthu.test account.locked
n1@congthu.test account.unlocked
n2@congthu.test account.revoked
n3@congthu.test account.restored
n4@congthu.test name.locked
n5@congthu.test account.merged
 source.allowed
 clock.suspected
 clock.accepted
 rules.adopted
`

func changeLocks(t *testing.T, s *Store) {
	t.Helper()
	for i, kind := range []auth.EventKind{
		auth.AccountLocked, auth.AccountUnlocked, auth.AccountRevoked, auth.AccountRestored, auth.NameLocked,
		auth.AccountMerged,
	} {
		update(t, s, numbered(i), 0, fail) // not an event that Changes passes
		update(t, s, numbered(i), 0, locked(kind))
	}
	// An event of no account.
	for _, kind := range []auth.EventKind{auth.SourceAllowed, auth.ClockSuspected, auth.ClockAccepted, auth.RulesAdopted} {
		update(t, s, "", 0, func(*auth.Account) ([]auth.Event, bool) {
			return []auth.Event{{At: noon, Kind: kind, Actor: "admin"}}, true
		})
	}
}

func TestChangesOfOneReplicaReachAllAtOnce(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	o := Options{DSN: dsn, Poll: time.Hour} // no polls, only notifications
	update(t, open(t, o), "before@congthu.test", 0, locked(auth.AccountLocked))
	a, b := open(t, o), open(t, o)
	there, here := follow(t, b), follow(t, a)
	changeLocks(t, a)
	eventually(t, "both got the event", func() bool { return there.said() == wanted && here.said() == wanted })
}

// The connection that follows the log may be made after the first login: a lock in
// between must end the session of that login.
func TestChangesSinceTheStoreWasOpenedArrive(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn}), open(t, Options{DSN: dsn})
	update(t, a, "n0@congthu.test", 0, locked(auth.AccountLocked))
	l := follow(t, b)
	update(t, a, "n1@congthu.test", 0, locked(auth.AccountLocked))
	eventually(t, "the event reached the second", func() bool { return strings.Contains(l.said(), "n1@") })
	if l.said() != "n0@congthu.test account.locked\nn1@congthu.test account.locked\n" {
		t.Error(l.said())
	}
}

func TestChangesAreSeenWithoutNotifications(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Poll: 20 * time.Millisecond})
	l := follow(t, s)
	// As if the notification was lost.
	conn := connected(t, s)
	execute(t, conn, `INSERT INTO events VALUES (1, now(), 'account.locked', 'n0@congthu.test', '', '', '', '', '', '')`)
	execute(t, conn, `UPDATE head SET seq = 1`)
	eventually(t, "the event arrived", func() bool { return l.said() == "n0@congthu.test account.locked\n" })
}

func TestNoChangeIsMissedDuringAnOutage(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	dsn := server.Database(t)
	s := open(t, Options{DSN: dsn, Poll: 20 * time.Millisecond})
	way := route(t, server.Socket())
	l := follow(t, open(t, Options{DSN: way.through(dsn), Poll: 20 * time.Millisecond}))
	update(t, s, "n0@congthu.test", 0, locked(auth.AccountLocked))
	eventually(t, "the event arrived", func() bool { return l.said() != "" })
	way.closed.Store(true)
	way.cut()
	changeLocks(t, s)
	server.Restart(t, pgtest.Immediate)
	way.closed.Store(false)
	eventually(t, "all events arrived", func() bool { return l.said() == "n0@congthu.test account.locked\n"+wanted })
}

func TestChangesEndWithTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	done := make(chan error)
	go func() { done <- s.Changes(context.Background(), func(auth.Event) {}) }()
	s.Close()
	if err := <-done; err != nil {
		t.Errorf("error %v, want none", err)
	}
}

func TestTheClockIsTheDatabasesAndIsSlowedBySmallStepsBack(t *testing.T) {
	t.Parallel()
	var c clock
	if d := time.Since(c.now()); d < 0 || d > time.Minute {
		t.Errorf("without a database it is %v off", d)
	}
	at := time.Now()
	c = clock{}
	c.heard(noon, at, at)
	if now := c.now(); now.Before(noon) || now.Sub(noon) > time.Minute || now.Location() != time.UTC {
		t.Errorf("the clock shows %v, the database %v", now, noon)
	}
	// Forward: at once.
	later := at.Add(10 * time.Second)
	c.heard(noon.Add(time.Hour), later, later)
	if got := c.at(later); got != noon.Add(time.Hour) {
		t.Errorf("the clock shows %v, the database an hour more", got)
	}
	// Back: it runs at half speed until the other has caught up.
	before := c.at(later.Add(20 * time.Second))
	back := noon.Add(time.Hour - 4*time.Minute)
	c.heard(back, later.Add(20*time.Second), later.Add(20*time.Second))
	after := c.at(later.Add(20 * time.Second))
	if after.After(before) || after != noon.Add(time.Hour+10*time.Second) {
		t.Errorf("the clock shows %v after the database was set back, %v before", after, before)
	}
	shown := c.now()
	for range 1000 {
		now := c.now()
		if now.Before(shown) {
			t.Fatalf("the clock went back from %v to %v", shown, now)
		}
		shown = now
	}
	// The uncertainty is half of the round trip.
	c = clock{}
	c.heard(noon, at, at.Add(2*time.Second))
	if got := c.at(at.Add(time.Second)); got != noon {
		t.Errorf("the clock shows %v in the middle, the database %v", got, noon)
	}
}

func TestTheClockFollowsADatabaseWhoseClockWasWrong(t *testing.T) {
	t.Parallel()
	var c clock
	at := time.Now()
	c.heard(auth.AddMonths(noon, 12), at, at)
	c.now()
	c.heard(noon, at, at)
	if now := c.now(); now.Before(noon) || now.Sub(noon) > time.Minute {
		t.Errorf("the clock shows %v, the database %v", now, noon)
	}
}

func TestReplicasShareAClock(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn}), open(t, Options{DSN: dsn})
	if d := a.Now().Sub(b.Now()).Abs(); d > 10*time.Second {
		t.Errorf("their clocks differ by %v", d)
	}
}
