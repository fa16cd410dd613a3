package postgres

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
)

// shortLease is long enough for a heartbeat on a busy machine.
const shortLease = 1200 * time.Millisecond

const victim auth.Name = "victim@congthu.test"

// doubt counts a try without a verdict, as the rules do: it never locks.
func doubt(a *auth.Account) ([]auth.Event, bool) {
	if a.Failures >= 5 {
		return nil, false
	}
	a.Failures++
	return []auth.Event{{At: noon, Kind: auth.PasswordInDoubt, Account: a.Name, Actor: auth.ByGateway}}, true
}

// login makes the name an account that has just logged in.
func login(a *auth.Account) ([]auth.Event, bool) {
	a.Registered, a.LastLogin, a.Failures = noon, noon, 0
	return []auth.Event{{At: noon, Kind: auth.FirstLogin, Account: a.Name, Actor: auth.ByUser}}, true
}

// kill treats a process as dead, as others do when it sends no heartbeats.
func kill(t *testing.T, s *Store) {
	t.Helper()
	execute(t, connected(t, s), `UPDATE holders SET gone = now() WHERE id = $1`, s.identity.Load().holder)
}

func TestSlotsOfAKilledProcessExpireAndCountOnce(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a := open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	mine := reserve(t, a, victim, allow(6))
	cmd, said := child(t, "hold", dsn)
	if got := line(t, said); got != "held" {
		t.Fatalf("the child said %q", got)
	}
	wantNoSlot(t, a, victim, allow(3))
	wantFailures(t, a, victim, 1)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its slots are free", func() bool {
		_, r, err := a.Reserve(t.Context(), victim, allow(2))
		if err == nil {
			update(t, a, victim, r, nothing)
		}
		return err == nil
	})
	// The last heartbeats of the replicas may still be in progress.
	for range 3 {
		wantFailures(t, a, victim, 3)
		wantEvents(t, a, 3)
	}
	// The slots of live processes are as they were.
	wantNoSlot(t, a, victim, allow(1))
	update(t, a, victim, mine, fail)
	wantFailures(t, a, victim, 4)
}

func TestSlotsHeldAtCloseExpireAtOnce(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	// The lease is half a minute, but the test does not wait for it.
	a, b := open(t, Options{DSN: dsn}), open(t, Options{DSN: dsn, ReservationExpired: doubt})
	reserve(t, a, victim, allow(6))
	wantNoSlot(t, b, victim, allow(1))
	a.Close()
	b.leases.wake()
	eventually(t, "the slot has expired", func() bool { return failures(t, b, victim) == 1 })
	reserve(t, b, victim, allow(1))
}

func TestADoubtNeverLocks(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	a, b := open(t, Options{DSN: dsn}), open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	for range 4 {
		update(t, b, victim, 0, fail)
	}
	reserve(t, a, victim, allow(6))
	reserve(t, a, victim, allow(6))
	a.Close()
	eventually(t, "the slots have expired", func() bool {
		_, r, err := b.Reserve(t.Context(), victim, allow(1))
		if err == nil {
			update(t, b, victim, r, nothing)
		}
		return err == nil
	})
	wantFailures(t, b, victim, 5)
	wantEvents(t, b, 5)
}

// TestAProcessTreatedAsDeadStillSettles: its verdicts are true although they are late; a
// failure that its expired slot has counted is not counted again.
func TestAProcessTreatedAsDeadStillSettles(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	quiet := Options{DSN: dsn, Lease: time.Hour} // expires no other process by itself
	a, b := open(t, quiet), open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	const full auth.Name = "full@congthu.test" // as many failures as doubts can cause
	for range 5 {
		update(t, b, full, 0, fail)
	}
	counted, uncounted := reserve(t, a, victim, allow(6)), reserve(t, a, full, allow(6))
	right := reserve(t, a, "right@congthu.test", allow(6))
	free := reserve(t, a, "free@congthu.test", allow(6))
	kill(t, a)
	eventually(t, "the slots have expired", func() bool {
		return failures(t, b, victim) == 1 && failures(t, b, "right@congthu.test") == 1 && failures(t, b, "free@congthu.test") == 1
	})
	eventually(t, "the uncounted slot has expired", func() bool {
		_, r, err := b.Reserve(t.Context(), full, allow(1))
		if err == nil {
			update(t, b, full, r, nothing)
		}
		return err == nil
	})
	update(t, a, victim, counted, fail)
	wantFailures(t, b, victim, 1)
	update(t, a, full, uncounted, fail)
	wantFailures(t, b, full, 6)
	if got := update(t, a, "right@congthu.test", right, login); !got.Known() || got.Failures != 0 {
		t.Errorf("a login that was late: %+v", got)
	}
	update(t, a, "free@congthu.test", free, nothing)
	wantFailures(t, b, "free@congthu.test", 1)
	// Again, as after a lost answer.
	update(t, a, full, uncounted, fail)
	wantFailures(t, b, full, 6)
	wantEvents(t, b, 10)
	// The process continues under another identity.
	r := reserve(t, a, victim, allow(1))
	wantNoSlot(t, b, victim, allow(1))
	update(t, a, victim, r, fail)
	wantFailures(t, b, victim, 2)
}

func TestSlotsWithoutAHolderAreFreed(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Lease: shortLease})
	held := reserve(t, s, victim, allow(2))
	// As after a committed transaction whose outcome this process never learnt.
	execute(t, connected(t, s), takeSlots, []int64{4711}, []string{string(victim)}, s.identity.Load().holder)
	wantNoSlot(t, s, victim, allow(2))
	eventually(t, "the slot is free", func() bool {
		_, r, err := s.Reserve(t.Context(), victim, allow(2))
		if err == nil {
			update(t, s, victim, r, nothing)
		}
		return err == nil
	})
	wantNoSlot(t, s, victim, allow(1))
	update(t, s, victim, held, fail)
	wantFailures(t, s, victim, 1)
}

// TestAnOutageOfTheDatabaseExpiresNoProcess: silence counts only while the observer
// could read heartbeats.
func TestAnOutageOfTheDatabaseExpiresNoProcess(t *testing.T) {
	t.Parallel()
	server := unstable(t)
	o := Options{DSN: server.Database(t), Lease: shortLease, ReservationExpired: doubt}
	a, b := open(t, o), open(t, o)
	mine, yours := reserve(t, a, victim, allow(6)), reserve(t, b, victim, allow(6))
	server.Stop(t, pgtest.Immediate)
	time.Sleep(shortLease + shortLease/2) // an outage longer than the lease
	server.Start(t)
	looks := a.leases.looks.Load()
	eventually(t, "both have sent heartbeats", func() bool { return a.leases.looks.Load() > looks+9 })
	wantFailures(t, a, victim, 0)
	wantNoSlot(t, a, victim, allow(2))
	update(t, a, victim, mine, fail)
	update(t, b, victim, yours, fail)
	wantFailures(t, a, victim, 2)
	wantEvents(t, a, 2)
}

// TestAProcessThatStoodStillComesBack: the whole process stops, as when a virtual
// machine is moved; the others continue without it.
func TestAProcessThatStoodStillComesBack(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	b := open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: doubt})
	cmd, said := child(t, "guess", dsn)
	line(t, said)
	go func() {
		for said.Scan() { // so that it does not wait for a reader
			if strings.HasPrefix(said.Text(), "unexpected") {
				t.Error(said.Text())
			}
		}
	}()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	conn := connected(t, b)
	eventually(t, "the process is treated as dead", func() bool {
		var holders int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM holders WHERE gone IS NULL`).Scan(&holders); err != nil {
			t.Fatal(err)
		}
		return holders == 1
	})
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	head, err := b.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child guesses again", func() bool {
		now, err := b.Verify(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return now.Seq > head.Seq+100
	})
	total := 0
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	eventually(t, "nothing is in flight", func() bool {
		var taken int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM reservations WHERE lapsed IS NULL`).Scan(&taken); err != nil {
			t.Fatal(err)
		}
		return taken == 0
	})
	for i := range 5 {
		total += failures(t, b, numbered(i))
	}
	wantEvents(t, b, total)
}

func TestAPanicInReservationExpiredCostsNothingElse(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	var calls atomic.Int64
	b := open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: func(a *auth.Account) ([]auth.Event, bool) {
		if calls.Add(1) == 1 {
			panic("spilt milk")
		}
		return doubt(a)
	}})
	a := open(t, Options{DSN: dsn})
	reserve(t, a, victim, allow(6))
	a.Close()
	eventually(t, "the slot has expired", func() bool { return failures(t, b, victim) == 1 })
	if err := b.Health(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAClosedStoreHasNoRegistration(t *testing.T) {
	t.Parallel()
	s := open(t, Options{})
	conn := connected(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var holders, lanes int
	err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM holders), (SELECT count(*) FROM lanes)`).Scan(&holders, &lanes)
	if err != nil || holders != 0 || lanes != 0 {
		t.Errorf("%d processes, %d lanes, %v; want none", holders, lanes, err)
	}
	if err := s.Health(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("health: %v, want ErrClosed", err)
	}
}
