package sqlite

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/storetest"
)

const testName auth.Name = "somebody@congthu.test"

// becomes returns what a transaction that changes one account passes to the cache.
func becomes(failures int) map[auth.Name]*auth.Account {
	a := storetest.Full(testName)
	a.Failures = failures
	return map[auth.Name]*auth.Account{testName: &a}
}

// wantCached checks how many failures the cached account has; -1: the account is not
// cached.
func wantCached(t *testing.T, c *cache, want int) {
	t.Helper()
	a, ok, _ := c.get(testName)
	if got := a.Failures; ok != (want >= 0) || ok && got != want {
		t.Fatalf("the cache has the account: %v, with %d failures; want %d", ok, got, want)
	}
}

func TestARowBeingChangedIsNotCached(t *testing.T) {
	old := *becomes(1)[testName]
	for what, c := range map[string]struct {
		begin, end func(*cache)
		made       int
	}{
		"made":       {func(c *cache) { c.beginCommit(becomes(2)) }, func(c *cache) { c.endCommit(becomes(2), true) }, 2},
		"not made":   {func(c *cache) { c.beginCommit(becomes(2)) }, func(c *cache) { c.endCommit(becomes(2), false) }, -1},
		"taken away": {func(c *cache) { c.beginCommit(becomes(2)) }, func(c *cache) { c.endCommit(map[auth.Name]*auth.Account{testName: nil}, true) }, -1},
	} {
		t.Run(what, func(t *testing.T) {
			cache := newCache()
			_, _, before := cache.get(testName)
			cache.put(old, before)
			wantCached(t, cache, 1)
			c.begin(cache)
			wantCached(t, cache, -1)
			cache.put(old, before) // read before the commit began
			wantCached(t, cache, -1)
			_, _, meanwhile := cache.get(testName)
			cache.put(old, meanwhile) // read during the commit
			wantCached(t, cache, -1)
			c.end(cache)
			wantCached(t, cache, c.made)
			cache.put(old, meanwhile)
			cache.put(old, before)
			wantCached(t, cache, c.made)
			_, _, after := cache.get(testName)
			cache.put(*becomes(3)[testName], after)
			wantCached(t, cache, 3)
		})
	}
}

func TestACachedAccountIsNotShared(t *testing.T) {
	c := newCache()
	given := storetest.Full(testName)
	_, _, version := c.get(testName)
	c.put(given, version)
	given.Mistakes[0], given.Seen[0], given.Password.Salt[0] = auth.Mistake{}, auth.Seen{}, 'x'
	got, _, _ := c.get(testName)
	got.Mistakes[1], got.Seen[1], got.Password.Known[0].Fingerprint[0] = auth.Mistake{}, auth.Seen{}, 'x'
	if again, ok, _ := c.get(testName); !ok || fmt.Sprint(again) != fmt.Sprint(storetest.Full(testName)) {
		t.Fatalf("the cache has %+v", again)
	}
}

func TestTheCacheIsBoundedAndHasOnlyKnownNames(t *testing.T) {
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
		c.endCommit(map[auth.Name]*auth.Account{name: {Name: name, Failures: 3}}, true)
	}
	if n := cached(); n > 0 {
		t.Fatalf("%d names without a login are cached", n)
	}
	for i := range 3 * maxCached {
		a := auth.Account{Name: auth.Name(fmt.Sprintf("user%d@congthu.test", i)), Registered: noon}
		_, _, version := c.get(a.Name)
		c.put(a, version)
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

// awaitOthersSeen waits for a check for changes by other programs: until then memory is not used.
func awaitOthersSeen(t *testing.T, s *Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !s.writer.sawOthers(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("changes by other programs are never looked for")
		}
	}
}

// No other program should write to the file, but people use database shells.
func TestAChangeThatAnotherProgramMakesIsSeen(t *testing.T) {
	const colleague auth.Name = "colleague@congthu.test"
	s := open(t, Options{})
	for _, name := range []auth.Name{testName, colleague} {
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
	registered(colleague) // in memory from here on
	before := auth.AddMonths(noon, -24)
	other, err := sql.Open("sqlite", "file:"+s.path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec("UPDATE accounts SET registered = ?", before.UnixMicro()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * othersSeenWithin); !registered(testName).Equal(before); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the change is never seen")
		}
	}
	awaitOthersSeen(t, s)
	if got := registered(colleague); !got.Equal(before) {
		t.Errorf("the other account is as it was in memory: registered %v", got)
	}
}

// The accounts in memory are still right, but the operator and the guard must see that
// the store fails; the guard alone decides whether a login is accepted then.
func TestWhileTheDiskFailsNothingIsReadFromMemory(t *testing.T) {
	s := open(t, Options{})
	login := func(a *auth.Account) ([]auth.Event, bool) { a.Registered = noon; return nil, true }
	if _, err := s.Update(t.Context(), testName, 0, login); err != nil {
		t.Fatal(err)
	}
	awaitOthersSeen(t, s)
	s.readers.Close()
	if _, err := s.Account(t.Context(), testName); err != nil {
		t.Fatalf("an account in memory: %v", err)
	}
	s.writer.faults.Store(&faults{before: errInjected})
	if _, err := s.writer.update(t.Context(), &request{name: "other@congthu.test", change: login}); err == nil {
		t.Fatal("no error")
	}
	if _, err := s.Account(t.Context(), testName); err == nil {
		t.Fatal("an account is read although the file can be neither read nor written")
	}
}

func TestAnAccountWhoseCommitIsInDoubtIsNotInMemory(t *testing.T) {
	for _, many := range []bool{false, true} {
		s := open(t, Options{})
		if _, err := s.Update(t.Context(), testName, 0, func(a *auth.Account) ([]auth.Event, bool) { a.Registered = noon; return nil, true }); err != nil {
			t.Fatal(err)
		}
		wantCached(t, s.cache, 0)
		s.writer.faults.Store(&faults{after: errInjected, connect: errInjected})
		var err error
		if many {
			err = s.UpdateBatch(t.Context(), []auth.Name{testName}, fail)
		} else {
			_, err = s.Update(t.Context(), testName, 0, fail)
		}
		if err == nil {
			t.Fatal("no error")
		}
		wantCached(t, s.cache, -1)
		if a, err := s.Account(t.Context(), testName); err != nil || a.Failures != 1 {
			t.Fatalf("%d failures, %v; want what the file has: 1", a.Failures, err)
		}
		wantCached(t, s.cache, -1)
		s.writer.faults.Store(nil)
		if _, err := s.Update(t.Context(), "other@congthu.test", 0, fail); err != nil {
			t.Fatal(err)
		}
		if a, err := s.Account(t.Context(), testName); err != nil || a.Failures != 1 {
			t.Fatalf("%d failures, %v; want 1", a.Failures, err)
		}
		wantCached(t, s.cache, 1)
	}
}
