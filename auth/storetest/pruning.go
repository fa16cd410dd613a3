package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/storetest/testenv"
)

const day = 24 * time.Hour

// keeping is the retention period of events in these cases.
const keeping = 400 * day

// age appends events that are this old at noon.
func age(t *testing.T, s Store, old ...time.Duration) {
	t.Helper()
	update(t, s, testName, 0, func(a *auth.Account) (events []auth.Event, _ bool) {
		for _, d := range old {
			one, _ := fail(a)
			one[0].At = noon.Add(-d)
			events = append(events, one...)
		}
		return events, true
	})
}

// guardOf returns a guard whose clock stands at noon.
func guardOf(s Store) *guard.Guard {
	g := &guard.Guard{Store: s, Now: func() time.Time { return noon }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules()})
	return g
}

func prune(t *testing.T, s Store) int64 {
	t.Helper()
	n, err := audit.Prune(t.Context(), guardOf(s), s, keeping)
	if err != nil {
		t.Fatalf("prune: %v", err)
	}
	return n
}

// all returns the events in the log, oldest first.
func all(t *testing.T, s Store) []auth.Event {
	t.Helper()
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 100_000})
	if err != nil {
		t.Fatalf("events: %v", err)
	}
	for i := range len(events) / 2 {
		events[i], events[len(events)-1-i] = events[len(events)-1-i], events[i]
	}
	return events
}

// wantLog checks that the log is intact, that the removed part ends with gone, and that
// it contains the events kept, followed by n events that record removals.
func wantLog(t *testing.T, s Store, gone audit.Head, kept []auth.Event, n int) {
	t.Helper()
	got, err := s.Removed(t.Context())
	if err != nil || got != gone {
		t.Fatalf("removed up to %+v, %v; want %+v", got, err, gone)
	}
	events := all(t, s)
	if len(events) != len(kept)+n {
		t.Fatalf("%d events are left, want %d and %d records of removals", len(events), len(kept), n)
	}
	if diff := cmp.Diff(kept, events[:len(kept)], addresses, cmp.Transformer("none", func(e []auth.Event) []auth.Event { return append([]auth.Event{}, e...) })); diff != "" {
		t.Fatalf("events that must stay (-want +got):\n%s", diff)
	}
	for _, e := range events[len(kept):] {
		if e.Kind != auth.AuditPruned {
			t.Fatalf("event %+v, want a record of a removal", e)
		}
	}
	last := gone
	if len(events) > 0 {
		last = link(events[len(events)-1])
	}
	head, err := s.Verify(t.Context(), nil)
	if err != nil || head != last {
		t.Fatalf("verify: %+v, %v; want %+v", head, err, last)
	}
}

func prunedEvents(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 150 { // so that the removal takes more than one step
		age(t, s, 410*day-time.Duration(i)*time.Minute, 409*day-time.Duration(i)*time.Minute)
	}
	age(t, s, 400*day, 400*day-time.Microsecond, 100*day, 0)
	before := all(t, s)
	account(t, s, testName)
	was := account(t, s, testName)
	if n := prune(t, s); n != 300 {
		t.Fatalf("%d events were removed, want 300", n)
	}
	check := func() {
		t.Helper()
		wantLog(t, s, link(before[299]), before[300:], 1)
		wantAccount(t, account(t, s, testName), was)
	}
	check()
	told := all(t, s)[4]
	if want := fmt.Sprintf("300:%s", before[299].Hash); told.After != want || told.Before != "0:" || told.Actor != auth.ByGateway || told.At != noon ||
		!strings.HasPrefix(told.Reason, "300 events are removed, ") || !strings.HasSuffix(told.Reason, " kept for 400 days") {
		t.Fatalf("the record of the removal is %+v, want one that goes up to %s", told, want)
	}
	oldest, err := audit.OldestEvent(t.Context(), s)
	if err != nil || oldest.Seq != 301 {
		t.Fatalf("the oldest event is %+v, %v; want number 301", oldest, err)
	}
	s = h.reopened(t, s)
	check()
	if n := prune(t, s); n != 0 {
		t.Fatalf("%d more events were removed at once", n)
	}
	check()
	age(t, s, 0) // the chain goes on
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != 306 {
		t.Fatalf("verify: %+v, %v; want 306 events", head, err)
	}
}

func nothingToPrune(t *testing.T, h Harness) {
	s := h.open(t)
	if n := prune(t, s); n != 0 {
		t.Fatalf("%d events were removed from an empty log", n)
	}
	wantLog(t, s, audit.Head{}, nil, 0)
	age(t, s, keeping, 0)
	if n := prune(t, s); n != 0 {
		t.Fatalf("%d young events were removed", n)
	}
	wantLog(t, s, audit.Head{}, all(t, s), 0)
}

func allPruned(t *testing.T, h Harness) {
	s := h.open(t)
	age(t, s, 402*day, 401*day, 401*day)
	before := all(t, s)
	if n := prune(t, s); n != 3 {
		t.Fatalf("%d events were removed, want 3", n)
	}
	s = h.reopened(t, s)
	wantLog(t, s, link(before[2]), nil, 1)
	// The record of the removal is itself replaced when it is old.
	g := guardOf(s)
	g.Now = func() time.Time { return noon.Add(keeping + day) }
	if n, err := audit.Prune(t.Context(), g, s, keeping); n != 1 || err != nil {
		t.Fatalf("%d events were removed, %v; want 1", n, err)
	}
	if gone, err := s.Removed(t.Context()); gone.Seq != 4 || err != nil {
		t.Fatalf("removed up to %+v, %v; want 4", gone, err)
	}
	wantEvents(t, s, 5)
}

func overdue(t *testing.T, h Harness) {
	s := h.open(t)
	age(t, s, 1000*day, 980*day, 960*day, 900*day, 401*day)
	before := all(t, s)
	for _, want := range []int64{2, 1, 1, 1, 0} {
		if n := prune(t, s); n != want {
			t.Fatalf("%d events were removed, want %d", n, want)
		}
	}
	wantLog(t, s, link(before[4]), nil, 4)
}

func prunedClockGoesBack(t *testing.T, h Harness) {
	s := h.open(t)
	age(t, s, 402*day, 1*day, 403*day, 2*day)
	before := all(t, s)
	if n := prune(t, s); n != 1 {
		t.Fatalf("%d events were removed, want 1", n)
	}
	wantLog(t, s, link(before[0]), before[1:], 1)
}

func notAnnounced(t *testing.T, h Harness) {
	s := h.open(t)
	age(t, s, 402*day, 402*day, 0)
	kept := all(t, s)
	for _, seq := range []int64{0, 1, 3, 4, -1} {
		if _, err := s.RemoveEvents(t.Context(), seq, 10); !errors.Is(err, audit.ErrNotAnnounced) {
			t.Fatalf("remove by event %d: %v, want ErrNotAnnounced", seq, err)
		}
	}
	wantLog(t, s, audit.Head{}, kept, 0)
	update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
		e, _ := fail(a)
		e[0].After = "2:" + kept[1].Hash
		return e, true
	})
	if _, err := s.RemoveEvents(t.Context(), 4, 10); !errors.Is(err, audit.ErrNotAnnounced) {
		t.Fatalf("remove by an event of another kind: %v", err)
	}
	// No more is removed than was announced, and never the announcement itself.
	tell(t, s, "2:"+kept[1].Hash)
	tell(t, s, "6:f00d")
	if _, err := s.RemoveEvents(t.Context(), 6, 10); !errors.Is(err, audit.ErrNotAnnounced) {
		t.Fatalf("remove an announcement by itself: %v", err)
	}
	for range 2 {
		if gone, err := s.RemoveEvents(t.Context(), 5, 10); err != nil || gone != link(kept[1]) {
			t.Fatalf("removed up to %+v, %v; want %+v", gone, err, link(kept[1]))
		}
	}
}

// tell appends the event that announces a removal.
func tell(t *testing.T, s Store, upto string) {
	t.Helper()
	update(t, s, "", 0, func(*auth.Account) ([]auth.Event, bool) {
		return []auth.Event{{At: noon, Kind: auth.AuditPruned, Actor: auth.ByGateway, After: upto}}, true
	})
}

// cut is a store whose removals stop after some steps.
type cut struct {
	Store
	steps int
}

func (c *cut) RemoveEvents(ctx context.Context, announced int64, most int) (audit.Head, error) {
	if c.steps--; c.steps < 0 {
		return audit.Head{}, errWanted
	}
	return c.Store.RemoveEvents(ctx, announced, 3)
}

func cutOffPruning(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 10 {
		age(t, s, 410*day-time.Duration(i)*time.Hour)
	}
	age(t, s, 10*day)
	before := all(t, s)
	for _, steps := range []int{0, 1, 1} {
		if _, err := audit.Prune(t.Context(), guardOf(s), &cut{s, steps}, keeping); !errors.Is(err, errWanted) {
			t.Fatalf("prune: %v", err)
		}
		s = h.reopened(t, s)
	}
	if gone, err := s.Removed(t.Context()); gone != link(before[5]) || err != nil {
		t.Fatalf("removed up to %+v, %v; want %+v", gone, err, link(before[5]))
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Fatalf("verify after an interrupted removal: %v", err)
	}
	if n := prune(t, s); n != 4 {
		t.Fatalf("%d events were removed in the end, want 4", n)
	}
	wantLog(t, s, link(before[9]), before[10:], 4)
}

func brokenPruning(t *testing.T, h Harness) {
	if h.Break == nil {
		testenv.NotApplicable(t, "the store cannot be broken")
	}
	for _, m := range []Moment{BeforeCommit, AfterCommit} {
		s := h.open(t)
		age(t, s, 402*day, 401*day, 0)
		before := all(t, s)
		mend := h.Break(t, s, m)
		_, err := audit.Prune(t.Context(), guardOf(s), s, keeping)
		mend()
		if err == nil {
			t.Fatal("the removal succeeded although the store fails")
		}
		s = h.reopened(t, s)
		if _, err := s.Verify(t.Context(), nil); err != nil {
			t.Fatalf("verify after a failure: %v", err)
		}
		prune(t, s)
		if gone, err := s.Removed(t.Context()); gone != link(before[1]) || err != nil {
			t.Fatalf("removed up to %+v, %v; want %+v", gone, err, link(before[1]))
		}
	}
}

func pruningBesideOthers(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 30 {
		var old []time.Duration
		for j := range 40 {
			old = append(old, 420*day-time.Duration(40*i+j)*time.Minute)
		}
		age(t, s, old...)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, r := range h.replicas(t, s) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.Update(context.WithoutCancel(ctx), number(i), 0, fail); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.Verify(context.WithoutCancel(ctx), nil); err != nil {
					t.Errorf("verify: %v", err)
					return
				}
			}
		})
	}
	if n := prune(t, s); n != 1200 {
		t.Errorf("%d events were removed, want 1200", n)
	}
	stop()
	wg.Wait()
	appended := 0
	for i := range 3 {
		appended += account(t, s, number(i)).Failures
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != int64(1200+1+appended) {
		t.Fatalf("verify: %+v, %v; want %d events", head, err, 1200+1+appended)
	}
}

func pruningReplicas(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 20 {
		age(t, s, 420*day-time.Duration(i)*time.Minute, 419*day-time.Duration(i)*time.Minute)
	}
	before := all(t, s)
	var wg sync.WaitGroup
	for _, r := range h.replicas(t, s) {
		wg.Go(func() {
			if _, err := audit.Prune(t.Context(), guardOf(r), &cut{r, 1000}, keeping); err != nil {
				t.Errorf("prune: %v", err)
			}
		})
	}
	wg.Wait()
	wantLog(t, s, link(before[39]), nil, 1)
}

func prunedTampering(t *testing.T, h Harness) {
	t.Run("told otherwise afterwards", func(t *testing.T) {
		if _, ok := h.open(t).(*Model); ok {
			testenv.NotApplicable(t, "the model cannot be tampered with")
		}
		s := h.open(t)
		age(t, s, 402*day, 402*day, 402*day, 3*day)
		prune(t, s)
		tell(t, s, "3:f00d")
		_, err := s.Verify(t.Context(), nil)
		if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != 3 {
			t.Fatalf("verify: %v, want a break at 3", err)
		}
	})
	if h.Tamper == nil {
		testenv.NotApplicable(t, "there is no SQL")
	}
	for _, c := range []struct {
		name      string
		statement string
		at        int64
	}{
		{"the first that is left", `DELETE FROM events WHERE seq = 4`, 4},
		{"one behind it", `DELETE FROM events WHERE seq = 5`, 5},
		{"the one that tells of it", `DELETE FROM events WHERE kind = 'audit.pruned'`, 7},
		{"another removal is recorded", `UPDATE events SET became = '5:f00d' WHERE kind = 'audit.pruned'`, 7},
		{"the note set back", `UPDATE removed SET seq = 2`, 3},
		{"the note taken away", `UPDATE removed SET seq = 0, hash = ''`, 1},
		{"another note", `UPDATE removed SET hash = 'f00d'`, 4},
		{"the note set forward", `UPDATE removed SET seq = 5, hash = (SELECT hash FROM events WHERE seq = 5)`, 5},
		{"more removed, and noted", `UPDATE removed SET seq = 5, hash = (SELECT hash FROM events WHERE seq = 5);
			DELETE FROM events WHERE seq <= 5`, 5},
		{"one put back", `INSERT INTO events SELECT 2, at, kind, account, actor, source, was, became, reason, hash FROM events WHERE seq = 5`, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := h.open(t)
			age(t, s, 402*day, 402*day, 402*day, 3*day, 2*day, 1*day)
			if n := prune(t, s); n != 3 {
				t.Fatalf("%d events were removed", n)
			}
			wantEvents(t, s, 7)
			s = h.Tamper(t, s, strings.Split(c.statement, ";")...)
			_, err := s.Verify(t.Context(), nil)
			if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != c.at {
				t.Fatalf("verify: %v, want a break at %d", err, c.at)
			}
			t.Log(err)
		})
	}
	t.Run("removed and noted without an event", func(t *testing.T) {
		s := h.open(t)
		age(t, s, 402*day, 402*day, 402*day, 3*day)
		s = h.Tamper(t, s, `UPDATE removed SET seq = 2, hash = (SELECT hash FROM events WHERE seq = 2)`, `DELETE FROM events WHERE seq <= 2`)
		_, err := s.Verify(t.Context(), nil)
		if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != 2 {
			t.Fatalf("verify: %v, want a break at 2", err)
		}
	})
}

// PruneSlowly removes events older than 400 days, three at a time, and reports how far
// it has come: for a process that is killed during the removal.
func PruneSlowly(ctx context.Context, s Store, told func(gone audit.Head)) error {
	_, err := audit.Prune(ctx, guardOf(s), &telling{s, told}, keeping)
	return err
}

type telling struct {
	Store
	told func(audit.Head)
}

func (s *telling) RemoveEvents(ctx context.Context, announced int64, _ int) (audit.Head, error) {
	gone, err := s.Store.RemoveEvents(ctx, announced, 3)
	if err == nil {
		s.told(gone)
	}
	return gone, err
}

// KilledPruning kills processes while they remove events, one after the other, until one
// completes. open opens the store and returns the function that closes it. begin starts
// a process that calls [PruneSlowly]; after each step it writes a line with the number
// of the last event removed, or any other text in case of an error.
func KilledPruning(t *testing.T, open func() (Store, func()), begin func() (kill func(), said *bufio.Scanner)) {
	s, shut := open()
	const young = 20
	old := Rounds(600, 1200)
	var ages []time.Duration
	for i := range old {
		ages = append(ages, 410*day-time.Duration(i)*time.Second)
	}
	for range young {
		ages = append(ages, day)
	}
	age(t, s, ages...)
	before := all(t, s)
	shut()
	killed := 0
	for {
		kill, said := begin()
		last, lines := int64(0), 1+rand.N(old/12) // within the first third
		for said.Scan() {
			var err error
			if last, err = strconv.ParseInt(said.Text(), 10, 64); err != nil {
				t.Fatalf("the process said %q", said.Text())
			}
			if lines--; lines == 0 {
				break
			}
		}
		kill()
		s, shut := open()
		gone, err := s.Removed(t.Context())
		if err != nil || gone.Seq < last || gone.Seq > 0 && gone != link(before[gone.Seq-1]) {
			t.Fatalf("removed up to %+v, %v; it said %d", gone, err, last)
		}
		events := all(t, s)
		if first := events[0]; first.Seq != gone.Seq+1 {
			t.Fatalf("the first event is %d behind %d", first.Seq, gone.Seq)
		}
		if _, err := s.Verify(t.Context(), nil); err != nil {
			t.Fatalf("verify after a kill at %d: %v", gone.Seq, err)
		}
		if gone.Seq == int64(old) {
			wantLog(t, s, link(before[old-1]), before[old:], len(events)-young)
			shut()
			break
		}
		shut()
		killed++
	}
	if killed == 0 {
		t.Fatal("no process was killed during the removal: the test proves nothing")
	}
	t.Logf("%d were killed in between", killed)
}
