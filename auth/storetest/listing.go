package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"congthu/auth"
	"congthu/auth/audit"
)

func chainedEvents(t *testing.T, h Harness) {
	s := h.open(t)
	wantEvents(t, s, 0)
	var wg sync.WaitGroup
	for i, s := range append(h.replicas(t, s), s, s, s) {
		wg.Go(func() {
			for range 20 {
				if _, err := s.Update(t.Context(), auth.Name(fmt.Sprintf("n%d@congthu.test", i)), 0, fail); err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s = h.reopened(t, s)
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 1000})
	if err != nil {
		t.Fatalf("events: %v", err)
	}
	slices.Reverse(events)
	var prev string
	for i, e := range events {
		if e.Seq != int64(i+1) || e.Hash != audit.Chain(prev, e) {
			t.Fatalf("event %d does not follow the one before it: %+v", i, e)
		}
		prev = e.Hash
	}
	var last, calls int64
	head, err := s.Verify(t.Context(), func(checked, total int64) {
		if checked <= last || checked > total {
			t.Errorf("progress went from %d to %d of %d", last, checked, total)
		}
		last = checked
		calls++
	})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	if want := (audit.Head{Seq: int64(len(events)), Hash: prev, At: noon}); head != want || last != want.Seq || calls == 0 {
		t.Fatalf("verify found %+v after %d, want %+v", head, last, want)
	}
}

func noGap(t *testing.T, h Harness) {
	s := h.Open(t, Options{MaxUnknown: 1})
	update(t, s, testName, 0, fail)
	ctx := t.Context()
	for range 3 {
		s.Update(ctx, "other@congthu.test", 0, fail) // refused: no room
		s.Update(ctx, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { fail(a); panic("spilt milk") })
		s.Update(ctx, testName, 1_000_000, fail) // a reservation that was settled before
		s.Update(ctx, testName, 0, func(a *auth.Account) ([]auth.Event, bool) { e, _ := fail(a); return e, false })
		update(t, s, testName, 0, fail)
	}
	wantEvents(t, s, 4)
	wantFailures(t, s, testName, 4)
}

func clockGoesBack(t *testing.T, h Harness) {
	s := h.open(t)
	for _, d := range []time.Duration{0, time.Hour, -48 * time.Hour, 0, -1 * time.Microsecond} {
		update(t, s, testName, 0, func(a *auth.Account) ([]auth.Event, bool) {
			e, _ := fail(a)
			e[0].At = noon.Add(d)
			a.LastLogin = noon.Add(d)
			return e, true
		})
	}
	wantEvents(t, s, 5)
	events, err := s.Events(t.Context(), auth.EventFilter{})
	if err != nil {
		t.Fatalf("events: %v", err)
	}
	for i, e := range events {
		if e.Seq != int64(5-i) {
			t.Fatalf("event %d of the list has number %d", i, e.Seq)
		}
	}
	if events[2].At != noon.Add(-48*time.Hour) {
		t.Fatalf("event %+v does not have the time that the change set", events[2])
	}
}

func filteredEvents(t *testing.T, h Harness) {
	s := h.open(t)
	for i := range 130 {
		update(t, s, auth.Name(fmt.Sprintf("n%d@congthu.test", i%2)), 0, func(a *auth.Account) ([]auth.Event, bool) {
			e, _ := fail(a)
			if i%10 == 0 {
				e[0].Kind = auth.AccountLocked
			}
			if i%10 == 5 {
				e[0].Kind = auth.AccountUnlocked
			}
			return e, true
		})
	}
	for name, c := range map[string]struct {
		want        auth.EventFilter
		n           int
		first, last int64
	}{
		"newest first, a hundred": {auth.EventFilter{}, 100, 130, 31},
		"limit":                   {auth.EventFilter{Limit: 3}, 3, 130, 128},
		"before":                  {auth.EventFilter{Before: 31}, 30, 30, 1},
		"before the first":        {auth.EventFilter{Before: 1}, 0, 0, 0},
		"account":                 {auth.EventFilter{Account: "n1@congthu.test"}, 65, 130, 2},
		"unheard-of account":      {auth.EventFilter{Account: "n@congthu.test"}, 0, 0, 0},
		"kind":                    {auth.EventFilter{Kinds: []auth.EventKind{auth.AccountLocked}}, 13, 121, 1},
		"kinds":                   {auth.EventFilter{Kinds: []auth.EventKind{auth.AccountLocked, auth.AccountUnlocked}}, 26, 126, 1},
		"all at once": {auth.EventFilter{
			Account: "n1@congthu.test", Kinds: []auth.EventKind{auth.AccountUnlocked, auth.AccountLocked}, Before: 126, Limit: 2,
		}, 2, 116, 106},
	} {
		events, err := s.Events(t.Context(), c.want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(events) != c.n || c.n > 0 && (events[0].Seq != c.first || events[c.n-1].Seq != c.last) {
			t.Errorf("%s: %d events, want %d from %d to %d", name, len(events), c.n, c.first, c.last)
		}
	}
}

// populate makes accounts 0 to n-1: every 2nd is locked, every 3rd revoked, every 5th
// unknown; each has a last login one day earlier and an older password than the one
// before.
func populate(t testing.TB, s Store, n int) []auth.Account {
	t.Helper()
	all := make([]auth.Account, n)
	var wg sync.WaitGroup
	queue := make(chan int)
	for range min(n, 64) {
		wg.Go(func() {
			for i := range queue {
				if _, err := s.Update(t.Context(), all[i].Name, 0, put(all[i])); err != nil {
					t.Errorf("populate: %v", err)
				}
			}
		})
	}
	for i := range n {
		a := auth.Account{Name: number(i), Failures: i%7 + 1}
		if i%2 == 0 {
			a.Lock = auth.Lock{Mark: auth.Mark{At: noon, By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
		}
		if i%3 == 0 {
			a.Revocation = auth.Mark{At: noon, By: auth.ByGateway}
		}
		if i%5 != 0 {
			a.Registered = noon.AddDate(0, 0, -i)
			if i%4 != 0 {
				a.LastLogin = a.Registered.Add(time.Hour)
			}
			a.Password.Since = a.Registered
		}
		all[i] = a
		queue <- i
	}
	close(queue)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all
}

func filteredAccounts(t *testing.T, h Harness) {
	s := h.open(t)
	all := populate(t, s, 60)
	named := full("đỗ.mười@congthu.test")
	update(t, s, named.Name, 0, put(named))
	all = append(all, named)

	idle := func(a auth.Account) time.Time {
		if a.LastLogin.IsZero() {
			return a.Registered
		}
		return a.LastLogin
	}
	day := noon.AddDate(0, 0, -30)
	for name, c := range map[string]struct {
		want    auth.Filter
		matches func(auth.Account) bool
	}{
		"known":            {auth.Filter{}, func(a auth.Account) bool { return a.Known() }},
		"unknown too":      {auth.Filter{Unknown: true}, func(a auth.Account) bool { return true }},
		"locked":           {auth.Filter{Locked: true}, func(a auth.Account) bool { return a.Known() && a.Lock.Cause != auth.NotLocked }},
		"locked, unknown":  {auth.Filter{Locked: true, Unknown: true}, func(a auth.Account) bool { return a.Lock.Cause != auth.NotLocked }},
		"revoked":          {auth.Filter{Revoked: true}, func(a auth.Account) bool { return a.Known() && !a.Revocation.IsZero() }},
		"part of the name": {auth.Filter{Contains: "r0001"}, func(a auth.Account) bool { return a.Known() && strings.Contains(string(a.Name), "r0001") }},
		"other case":       {auth.Filter{Contains: "USER0001"}, func(a auth.Account) bool { return a.Known() && strings.Contains(string(a.Name), "user0001") }},
		"Vietnamese":       {auth.Filter{Contains: "ĐỖ.M"}, func(a auth.Account) bool { return a.Name == named.Name }},
		"decomposed":       {auth.Filter{Contains: "đô\u0303.m"}, func(a auth.Account) bool { return a.Name == named.Name }},
		"no wildcards":     {auth.Filter{Contains: "user%"}, func(a auth.Account) bool { return false }},
		"no wildcard":      {auth.Filter{Contains: "user0_0"}, func(a auth.Account) bool { return false }},
		"idle":             {auth.Filter{IdleBefore: day}, func(a auth.Account) bool { return a.Known() && idle(a).Before(day) }},
		"old password":     {auth.Filter{PasswordBefore: day}, func(a auth.Account) bool { return a.Known() && a.Password.Since.Before(day) }},
		"unknown and idle": {auth.Filter{IdleBefore: day, Unknown: true}, func(a auth.Account) bool { return a.Known() && idle(a).Before(day) }},
		"all at once": {
			auth.Filter{Locked: true, Revoked: true, IdleBefore: day, PasswordBefore: day, Contains: "user", After: "user00040"},
			func(a auth.Account) bool {
				return a.Known() && a.Lock.Cause != auth.NotLocked && !a.Revocation.IsZero() && idle(a).Before(day) && a.Name > "user00040"
			},
		},
	} {
		var want []auth.Account
		for _, a := range all {
			if c.matches(a) {
				want = append(want, a)
			}
		}
		slices.SortFunc(want, func(a, b auth.Account) int { return strings.Compare(string(a.Name), string(b.Name)) })
		got, err := s.List(t.Context(), c.want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), addresses); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func listCursor(t *testing.T, h Harness) {
	s := h.open(t)
	populate(t, s, 250)
	first, err := s.List(t.Context(), auth.Filter{})
	if err != nil || len(first) != 100 {
		t.Fatalf("list without a limit: %d, %v; want 100", len(first), err)
	}
	var seen []auth.Name
	want := auth.Filter{Limit: 7}
	for {
		part, err := s.List(t.Context(), want)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		for _, a := range part {
			seen = append(seen, a.Name)
		}
		if len(part) < want.Limit {
			break
		}
		want.After = part[len(part)-1].Name
	}
	if len(seen) != 200 || !slices.IsSorted(seen) || len(slices.Compact(seen)) != 200 {
		t.Fatalf("%d names in pages, want 200 in order, each once", len(seen))
	}
}

func eachAccount(t *testing.T, h Harness) {
	s := h.open(t)
	populate(t, s, 20)
	var seen []auth.Name
	err := s.Each(t.Context(), func(a auth.Account) error {
		seen = append(seen, a.Name)
		// Change the account during Each, as the sweep does.
		update(t, s, a.Name, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Revocation.At = noon; return nil, true })
		return nil
	})
	if err != nil || len(seen) != 16 || !slices.IsSorted(seen) {
		t.Fatalf("each visited %v, error %v; want the 16 known in order", seen, err)
	}
	visits := 0
	err = s.Each(t.Context(), func(a auth.Account) error {
		if a.Revocation.At != noon {
			t.Errorf("%s was not changed", a.Name)
		}
		if visits++; visits == 3 {
			return errWanted
		}
		return nil
	})
	if !errors.Is(err, errWanted) || visits != 3 {
		t.Fatalf("each visited %d accounts and returned %v", visits, err)
	}
}

// populated is the number of accounts that [populate] makes before [Harness].Fill
// continues: a multiple of every period in which they differ.
const populated = 420

// filled returns a store with n accounts that are like those of populate in all that
// matters.
func (h Harness) filled(t testing.TB, s Store, n int) Store {
	t.Helper()
	if h.Fill == nil {
		populate(t, s, n)
		return s
	}
	populate(t, s, min(n, populated))
	return h.Fill(t, s, populated, n)
}

func manyAccounts(t *testing.T, h Harness) {
	n := Rounds(20_000, 1_000_000)
	s := h.reopened(t, h.filled(t, h.open(t), n))
	visited := 0
	var last auth.Name
	err := s.Each(t.Context(), func(a auth.Account) error {
		if a.Name <= last {
			t.Fatalf("%s comes after %s", a.Name, last)
		}
		last = a.Name
		visited++
		return nil
	})
	if err != nil || visited != n*4/5 {
		t.Fatalf("each visited %d, error %v; want %d", visited, err, n*4/5)
	}
	locked, err := s.List(t.Context(), auth.Filter{Locked: true, Unknown: true, Limit: n})
	if err != nil || len(locked) != n/2 {
		t.Fatalf("%d locked, error %v; want %d", len(locked), err, n/2)
	}
	some := locked[n/4]
	wantAccount(t, account(t, s, some.Name), some)
	unknown, err := s.UnknownNames(t.Context())
	if err != nil || unknown != n/5 {
		t.Fatalf("%d unknown names, error %v; want %d", unknown, err, n/5)
	}
	before := some.Failures
	update(t, s, some.Name, reserve(t, s, some.Name, allow(1)), fail)
	wantFailures(t, s, some.Name, before+1)
}
