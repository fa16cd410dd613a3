package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"congthu/auth"
)

// Harness makes the stores that [Run] tries.
type Harness struct {
	// Open returns an empty store that t.Cleanup closes.
	Open func(t *testing.T, o Options) Store
	// Reopen closes a store as the end of the program does and opens it again on
	// the same data. nil: the store remembers nothing beyond its process.
	Reopen func(t *testing.T, s Store) Store
	// Replica returns another store on the same data, as another process opens it.
	// nil: one process owns the data.
	Replica func(t *testing.T, s Store) Store
	// Break makes every commit of the store fail at that moment, until mend is
	// called. nil: commits cannot be made to fail, and the cases that need it are
	// left out.
	Break func(t *testing.T, s Store, m Moment) (mend func())
	// Fill adds accounts until there are n, directly in the data for speed:
	// user00420@congthu.test is like user00000@congthu.test, and so on for each of
	// the first. nil: they are made one by one.
	Fill func(t testing.TB, s Store, first, n int) Store
	// Tamper runs SQL directly on the data, as the owner of the database can; nothing
	// protects the audit log from the owner. nil: there is no SQL, and the cases that
	// need it are left out.
	Tamper func(t *testing.T, s Store, statements ...string) Store
	// Queue looks into a store whose changes share commits. nil: they do not, and the
	// cases that need it are left out.
	Queue *Queue
	// Parallel: the cases may run at the same time, which saves time where they
	// wait for a disk or a server.
	Parallel bool
}

// number names the accounts of [populate] and [Harness].Fill; the SQL of Fill makes the same names.
func number(i int) auth.Name { return auth.Name(fmt.Sprintf("user%05d@congthu.test", i)) }

// Options are the options that every store has.
type Options struct {
	// MaxUnknown is the largest number of names without a login. 0: no less
	// than 100,000.
	MaxUnknown int
	// Recorder records the operations of the store; nil: they are not recorded.
	Recorder *Recorder
}

// Moment is the moment at which a commit fails.
type Moment int

const (
	// BeforeCommit: nothing is written.
	BeforeCommit Moment = iota
	// AfterCommit: everything is written, but the caller gets an error.
	AfterCommit
)

// testCase is one case of the contract.
type testCase struct {
	name string
	run  func(*testing.T, Harness)
}

// Run puts a store through the contract.
func Run(t *testing.T, h Harness) {
	cases := []testCase{
		{"an unseen name reads as nothing but its name", unseenName},
		{"every field survives", everyField},
		{"times come back in UTC with microseconds", times},
		{"names differ by every character", names},
		{"what the caller is given is the caller's own", ownership},
		{"invalid text is made valid", oddText},

		{"a change and its events are written together", changeAndEvents},
		{"a change that reports false writes nothing", nothingToWrite},
		{"a change cannot move to another name", otherName},
		{"parallel changes of one account are all made", parallelChanges},
		{"a change that panics costs one update", panickingChange},
		{"a change gets the account as it is now", lateChange},
		{"a committed change is visible to all later reads", madeIsRead},
		{"after a failed commit reads show what is stored", doubtIsRead},
		{"a last login never goes back when its change keeps the later one", lastLogin},

		{"slots are counted", slotsAreCounted},
		{"a locked account has no slot", noSlots},
		{"a free slot is given", freeSlot},
		{"parallel reservations never exceed the slots", parallelReservations},
		{"never more wrong passwords than allowed", neverTooMany},
		{"a slot is free only when its change can be read", slotAfterChange},
		{"a settlement counts once however often it is made", duplicateSettlement},
		{"a reservation settles its own account only", foreignReservation},

		{"a context that has ended changes nothing", endedContext},
		{"a context that ends during a change leaves no half change", contextEndsWithin},
		{"contexts that end at any time leave no half change", contextsEndAnytime},

		{"events are numbered and chained", chainedEvents},
		{"a change that fails leaves no gap", noGap},
		{"a clock that goes back does not reorder events", clockGoesBack},
		{"events are filtered", filteredEvents},

		{"old events are removed, and the chain goes on", prunedEvents},
		{"nothing is removed from an empty log, or from a young one", nothingToPrune},
		{"of a log with old events only the record of the removal stays", allPruned},
		{"an overdue removal goes month by month", overdue},
		{"events after a young one stay, whatever their dates", prunedClockGoesBack},
		{"a removal is recorded before it begins", notAnnounced},
		{"an interrupted removal can be verified, and is finished", cutOffPruning},
		{"a failed removal has removed all or nothing of a step", brokenPruning},
		{"events are appended and verified during a removal", pruningBesideOthers},
		{"several gateways remove the same events as one", pruningReplicas},
		{"tampering with the record of removed events is found", prunedTampering},

		{"new unknown names are refused when the room is full", fullOfUnknown},
		{"many new names at once do not exceed the room", parallelNewcomers},
		{"shared counters take no room and are not listed", sharedCounters},

		{"a store that fails before the commit has changed nothing", failsBefore},
		{"a store that fails after the commit counts once", failsAfter},

		{"a batch of changes", manyChanges},
		{"a batch of changes may remove accounts", manyTakenAway},
		{"a change that fails does not stop the others of its batch", manyButOne},
		{"a batch of a failing store is written or not", manyBroken},
		{"batches of changes and logins run at the same time", manyBesideOthers},
		{"an attempt in flight survives a batch of changes", manyInFlight},

		{"accounts are filtered", filteredAccounts},
		{"lists continue where they stopped", listCursor},
		{"each account is visited once", eachAccount},
		{"tens of thousands of accounts", manyAccounts},

		{"any history reads as in the model", histories},
	}
	if h.Queue != nil {
		cases = append(cases, queueing...)
	}
	if h.Tamper != nil {
		cases = append(cases, tampering...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if h.Parallel {
				t.Parallel()
			}
			c.run(t, h)
		})
	}
}

func (h Harness) open(t *testing.T) Store {
	t.Helper()
	return h.Open(t, Options{})
}

// reopened returns s as it is after a restart, if the store can be reopened.
func (h Harness) reopened(t *testing.T, s Store) Store {
	t.Helper()
	if h.Reopen == nil {
		return s
	}
	return h.Reopen(t, s)
}

// replicas returns s and two replicas on the same data, if the store has replicas.
func (h Harness) replicas(t *testing.T, s Store) []Store {
	t.Helper()
	if h.Replica == nil {
		return []Store{s}
	}
	return []Store{s, h.Replica(t, s), h.Replica(t, s)}
}

// Names and values that the cases share.

const testName auth.Name = "somebody@congthu.test"

var (
	noon   = time.Date(2026, 3, 31, 12, 0, 0, 123456000, time.UTC)
	office = netip.MustParseAddrPort("203.0.113.7:50312")
)

var addresses = cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})

var errWanted = errors.New("wanted by the test")

// allow is a Reserve callback that allows n attempts at once.
func allow(n int) func(auth.Account) int { return func(auth.Account) int { return n } }

// tolerate is a Reserve callback that allows n wrong passwords in all, as the rules do.
func tolerate(n int) func(auth.Account) int {
	return func(a auth.Account) int { return n - a.Failures }
}

// fail counts one wrong password and writes its event.
func fail(a *auth.Account) ([]auth.Event, bool) {
	a.Failures++
	a.Mistakes = append(a.Mistakes, auth.Mistake{At: noon, Source: office})
	if len(a.Mistakes) > auth.MaxMistakes {
		a.Mistakes = a.Mistakes[1:]
	}
	return []auth.Event{{At: noon, Kind: auth.PasswordWrong, Account: a.Name, Actor: auth.ByUser, Source: office}}, true
}

// login makes the name an account.
func login(a *auth.Account) ([]auth.Event, bool) {
	a.Failures, a.Mistakes = 0, nil
	a.LastLogin = noon
	if a.Known() {
		return nil, true
	}
	a.Registered, a.FirstLogin = noon, noon
	return []auth.Event{{At: noon, Kind: auth.FirstLogin, Account: a.Name, Actor: auth.ByUser, Source: office}}, true
}

// nothing changes nothing: it only releases the slot.
func nothing(*auth.Account) ([]auth.Event, bool) { return nil, false }

func update(t *testing.T, s Store, name auth.Name, r auth.Reservation, change auth.Change) auth.Account {
	t.Helper()
	a, err := s.Update(t.Context(), name, r, change)
	if err != nil {
		t.Fatalf("update %s: %v", name, err)
	}
	return a
}

func account(t *testing.T, s Store, name auth.Name) auth.Account {
	t.Helper()
	a, err := s.Account(t.Context(), name)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return a
}

func reserve(t *testing.T, s Store, name auth.Name, slots func(auth.Account) int) auth.Reservation {
	t.Helper()
	_, r, err := s.Reserve(t.Context(), name, slots)
	if err != nil {
		t.Fatalf("reserve %s: %v", name, err)
	}
	if r == 0 {
		t.Fatalf("reserve %s: the reservation is zero", name)
	}
	return r
}

// wantNoSlot checks that Reserve finds no slot and still returns the account.
func wantNoSlot(t *testing.T, s Store, name auth.Name, slots func(auth.Account) int) {
	t.Helper()
	a, r, err := s.Reserve(t.Context(), name, slots)
	if !errors.Is(err, auth.ErrNoSlot) || r != 0 {
		t.Fatalf("reserve %s: reservation %d, error %v; want none and ErrNoSlot", name, r, err)
	}
	wantAccount(t, a, account(t, s, name))
}

func wantAccount(t *testing.T, got, want auth.Account) {
	t.Helper()
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Fatalf("account (-want +got):\n%s", diff)
	}
}

func wantFailures(t *testing.T, s Store, name auth.Name, want int) {
	t.Helper()
	if got := account(t, s, name).Failures; got != want {
		t.Fatalf("%s has %d failures, want %d", name, got, want)
	}
}

// wantEvents verifies the whole chain and checks that it has n events.
func wantEvents(t *testing.T, s Store, n int) {
	t.Helper()
	head, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if head.Seq != int64(n) {
		t.Fatalf("the chain has %d events, want %d", head.Seq, n)
	}
}

// settle repeats a settlement until the store accepts it, as the guard does.
func settle(t *testing.T, s Store, name auth.Name, r auth.Reservation, change auth.Change) {
	t.Helper()
	for range 100 {
		if _, err := s.Update(context.WithoutCancel(t.Context()), name, r, change); err == nil {
			return
		}
	}
	t.Errorf("settle %s: the store keeps failing", name)
}
