package sqlite

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest"
)

const somebody auth.Name = "somebody@congthu.test"

// becomes is what a transaction that changes one account tells the cache.
func becomes(failures int) map[auth.Name]*auth.Account {
	a := storetest.Full(somebody)
	a.Failures = failures
	return map[auth.Name]*auth.Account{somebody: &a}
}

// wantCached checks how many failures the cache shows; -1: it does not know the
// account.
func wantCached(t *testing.T, c *cache, want int) {
	t.Helper()
	a, ok, _ := c.get(somebody)
	if got := a.Failures; ok != (want >= 0) || ok && got != want {
		t.Fatalf("the cache has the account: %v, with %d failures; want %d", ok, got, want)
	}
}

func TestACopyIsNotKeptOfARowWithAChangeOnItsWay(t *testing.T) {
	old := *becomes(1)[somebody]
	for what, c := range map[string]struct {
		begin, end func(*cache)
		made       int
	}{
		"made":       {func(c *cache) { c.hold(becomes(2)) }, func(c *cache) { c.settle(becomes(2), true) }, 2},
		"not made":   {func(c *cache) { c.hold(becomes(2)) }, func(c *cache) { c.settle(becomes(2), false) }, -1},
		"taken away": {func(c *cache) { c.hold(becomes(2)) }, func(c *cache) { c.settle(map[auth.Name]*auth.Account{somebody: nil}, true) }, -1},
	} {
		t.Run(what, func(t *testing.T) {
			cache := newCache()
			_, _, before := cache.get(somebody)
			cache.put(old, before)
			wantCached(t, cache, 1)
			c.begin(cache)
			wantCached(t, cache, -1)
			cache.put(old, before) // read before the change was on its way
			wantCached(t, cache, -1)
			_, _, meanwhile := cache.get(somebody)
			cache.put(old, meanwhile) // or while it was
			wantCached(t, cache, -1)
			c.end(cache)
			wantCached(t, cache, c.made)
			cache.put(old, meanwhile)
			cache.put(old, before)
			wantCached(t, cache, c.made)
			_, _, after := cache.get(somebody)
			cache.put(*becomes(3)[somebody], after)
			wantCached(t, cache, 3)
		})
	}
}

func TestWhatIsCachedIsNobodyElses(t *testing.T) {
	c := newCache()
	given := storetest.Full(somebody)
	_, _, moves := c.get(somebody)
	c.put(given, moves)
	given.Mistakes[0], given.Seen[0], given.Password.Salt[0] = auth.Mistake{}, auth.Seen{}, 'x'
	got, _, _ := c.get(somebody)
	got.Mistakes[1], got.Seen[1], got.Password.Known[0].Fingerprint[0] = auth.Mistake{}, auth.Seen{}, 'x'
	if again, ok, _ := c.get(somebody); !ok || fmt.Sprint(again) != fmt.Sprint(storetest.Full(somebody)) {
		t.Fatalf("the cache has %+v", again)
	}
}

func TestTheCacheIsBoundedAndHasNoNamesThatAnybodyCanMakeUp(t *testing.T) {
	c := newCache()
	cached := func() (n int) {
		for i := range c.parts {
			n += len(c.parts[i].accounts)
		}
		return n
	}
	for i := range maxCached {
		name := auth.Name(fmt.Sprintf("stranger%d@congthu.test", i))
		c.put(auth.Account{Name: name, Failures: 3}, 0)
		c.settle(map[auth.Name]*auth.Account{name: {Name: name, Failures: 3}}, true)
	}
	if n := cached(); n > 0 {
		t.Fatalf("%d names that nobody ever logged in with are cached", n)
	}
	for i := range 3 * maxCached {
		a := auth.Account{Name: auth.Name(fmt.Sprintf("user%d@congthu.test", i)), Registered: noon}
		_, _, moves := c.get(a.Name)
		c.put(a, moves)
		if _, ok, _ := c.get(a.Name); !ok {
			t.Fatalf("account %d is not cached", i)
		}
	}
	if n := cached(); n > maxCached || n < maxCached*9/10 {
		t.Fatalf("%d accounts are cached, want about %d and no more", n, maxCached)
	}
	for i := range c.parts {
		if n := len(c.parts[i].held); n > 0 {
			t.Fatalf("%d are held", n)
		}
	}
}

// awaitOthersSeen waits until accounts may be read from memory.
func awaitOthersSeen(t *testing.T, s *Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !s.writer.sawOthers(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("changes by other programs are never looked for")
		}
	}
}

// Nobody should; but people have a database shell.
func TestAChangeThatAnotherProgramMakesIsSeen(t *testing.T) {
	const colleague auth.Name = "colleague@congthu.test"
	s := open(t, Options{})
	for _, name := range []auth.Name{somebody, colleague} {
		if _, err := s.Update(t.Context(), name, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Registered = noon; return nil, true }); err != nil {
			t.Fatal(err)
		}
	}
	registered := func(name auth.Name) time.Time {
		a, err := s.Account(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return a.Registered
	}
	awaitOthersSeen(t, s)
	registered(colleague) // is in memory from here on
	before := auth.AddMonths(noon, -24)
	other, err := sql.Open("sqlite", "file:"+s.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec("UPDATE accounts SET registered = ?", before.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * othersSeenWithin); !registered(somebody).Equal(before); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is never seen")
		}
	}
	awaitOthersSeen(t, s)
	if got := registered(colleague); !got.Equal(before) {
		t.Errorf("the other account is as it was in memory: registered %v", got)
	}
}

// What is in memory is as good as ever, but the operator and the guard must see
// that the store fails, and a login that is let in then is the guard's affair.
func TestWhileTheDiskFailsNobodyIsServedFromMemory(t *testing.T) {
	s := open(t, Options{})
	login := func(a *auth.Account) ([]auth.Event, bool) { a.Registered = noon; return nil, true }
	if _, err := s.Update(t.Context(), somebody, 0, login); err != nil {
		t.Fatal(err)
	}
	awaitOthersSeen(t, s)
	s.readers.Close()
	if _, err := s.Account(t.Context(), somebody); err != nil {
		t.Fatalf("an account in memory: %v", err)
	}
	s.writer.faults.Store(&faults{before: errInjected})
	if _, err := s.writer.update(t.Context(), &request{name: "other@congthu.test", change: login}); err == nil {
		t.Fatal("no error")
	}
	if _, err := s.Account(t.Context(), somebody); err == nil {
		t.Fatal("an account is read although the file can be neither read nor written")
	}
}

func TestAnAccountWhoseCommitIsInDoubtIsNotInMemory(t *testing.T) {
	for _, many := range []bool{false, true} {
		s := open(t, Options{})
		if _, err := s.Update(t.Context(), somebody, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Registered = noon; return nil, true }); err != nil {
			t.Fatal(err)
		}
		wantCached(t, s.cache, 0)
		s.writer.faults.Store(&faults{after: errInjected, connect: errInjected})
		var err error
		if many {
			err = s.UpdateBatch(t.Context(), []auth.Name{somebody}, fail)
		} else {
			_, err = s.Update(t.Context(), somebody, 0, fail)
		}
		if err == nil {
			t.Fatal("no error")
		}
		wantCached(t, s.cache, -1)
		if a, err := s.Account(t.Context(), somebody); err != nil || a.Failures != 1 {
			t.Fatalf("%d failures, %v; want what the file has: 1", a.Failures, err)
		}
		wantCached(t, s.cache, -1)
		s.writer.faults.Store(nil)
		if _, err := s.Update(t.Context(), "other@congthu.test", 0, fail); err != nil {
			t.Fatal(err)
		}
		if a, err := s.Account(t.Context(), somebody); err != nil || a.Failures != 1 {
			t.Fatalf("%d failures, %v; want 1", a.Failures, err)
		}
		wantCached(t, s.cache, 1)
	}
}
