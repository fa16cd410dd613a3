package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/sqlite"
	"congthu/auth/storetest"
)

// sourceVariable is the environment variable with the SQLite file that a child copies.
const sourceVariable = "CONGTHU_POSTGRES_TEST_SOURCE"

// copyOn copies and writes its progress.
func copyOn(dsn string) {
	from, err := sqlite.Open(context.Background(), sqlite.Options{Path: os.Getenv(sourceVariable)})
	must(err)
	say("begin")
	_, err = Copy(context.Background(), from, Options{DSN: dsn}, nil)
	must(err)
	say("done")
}

// filled returns a closed SQLite file with accounts of all kinds and a log.
func filled(t *testing.T, accounts int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "congthu.db")
	s := opened(t, path)
	defer s.Close()
	names := make([]auth.Name, accounts)
	for i := range names {
		names[i] = auth.Name(fmt.Sprintf("n%05d@congthu.test", i))
	}
	change(t, s, func(a *auth.Account) ([]auth.Event, bool) {
		var n int
		fmt.Sscanf(string(a.Name), "n%d@", &n)
		events, _ := storetest.Imported(a)
		switch n % 4 {
		case 0: // a name without a login, with its lock
			*a = auth.Account{Name: a.Name, Failures: 6, Lock: auth.Lock{Mark: auth.Mark{At: noon, By: auth.ByGateway}, Cause: auth.ByWrongPasswords}}
			events[0].Kind = auth.NameLocked
		case 1:
			*a = storetest.Full(a.Name)
			events = append(events, events[0])
		}
		return events, true
	}, append(names, "đỗ.mười@congthu.test", "Z@congthu.test")...)
	return path
}

func opened(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func change(t *testing.T, s *sqlite.Store, change auth.Change, names ...auth.Name) {
	t.Helper()
	for batch := range slices.Chunk(names, 500) {
		if err := s.UpdateBatch(t.Context(), batch, change); err != nil {
			t.Fatal(err)
		}
	}
}

// wantEqual compares the complete contents of two stores.
func wantEqual(t *testing.T, got *Store, want *sqlite.Store) {
	t.Helper()
	ctx := t.Context()
	for _, unknown := range []bool{true, false} {
		ours, err := got.List(ctx, auth.Filter{Unknown: unknown, Limit: 1 << 20})
		theirs, err2 := want.List(ctx, auth.Filter{Unknown: unknown, Limit: 1 << 20})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if len(ours) != len(theirs) {
			t.Fatalf("%d accounts, want %d", len(ours), len(theirs))
		}
		for i := range theirs {
			if !reflect.DeepEqual(ours[i], theirs[i].Normalized()) {
				t.Fatalf("account %+v\nwant %+v", ours[i], theirs[i])
			}
		}
	}
	ours, err := got.Events(ctx, auth.EventFilter{Limit: 1 << 20})
	theirs, err2 := want.Events(ctx, auth.EventFilter{Limit: 1 << 20})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(ours, theirs) {
		t.Fatalf("%d events, and not those that were copied (%d)", len(ours), len(theirs))
	}
	if _, err := got.Verify(ctx, nil); err != nil {
		t.Fatal(err)
	}
}

func TestACopyIsCompleteAndWorksAsAStore(t *testing.T) {
	t.Parallel()
	from := opened(t, filled(t, 4500))
	dsn := database(t)
	var steps []CopyStep
	done, err := Copy(t.Context(), from, Options{DSN: dsn}, func(step CopyStep, n, of int64) {
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
		if n > of {
			t.Errorf("%s: %d of %d", step, n, of)
		}
	})
	if err != nil || done.Accounts != 4502 || done.Unknown != 1127 || done.Already || done.Head.Seq != 4502+1125 {
		t.Fatalf("%+v, %v", done, err)
	}
	if want := []CopyStep{CheckingSource, CopyingEvents, CopyingAccounts, CheckingEvents, Comparing}; !reflect.DeepEqual(steps, want) {
		t.Errorf("steps %q", steps)
	}
	// The limit on unknown names counts the copied ones.
	s := open(t, Options{DSN: dsn, MaxUnknown: 1127})
	wantEqual(t, s, from)
	if _, err := s.Update(t.Context(), "new@congthu.test", 0, fail); !errors.Is(err, auth.ErrFull) {
		t.Errorf("a new unknown name where there is no room: %v", err)
	}
	again, err := Copy(t.Context(), from, Options{DSN: dsn}, nil)
	if err != nil || !again.Already || again.Accounts != done.Accounts || again.Head != done.Head {
		t.Errorf("once more: %+v, %v", again, err)
	}
	update(t, s, "n00001@congthu.test", 0, fail)
	wantEvents(t, s, 4502+1125+1)
}

func TestACopyIsRefusedWhereThereIsOtherData(t *testing.T) {
	t.Parallel()
	path := filled(t, 20)
	from := opened(t, path)
	for name, spoil := range map[string]func(t *testing.T, s *Store){
		"an account":        func(t *testing.T, s *Store) { update(t, s, "other@congthu.test", 0, fail) },
		"an event since":    func(t *testing.T, s *Store) { update(t, s, "n00001@congthu.test", 0, fail) },
		"a login since":     func(t *testing.T, s *Store) { update(t, s, "n00001@congthu.test", 0, silently) },
		"a gateway at work": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dsn := database(t)
			if spoil == nil {
				open(t, Options{DSN: dsn})
			} else {
				s := open(t, Options{DSN: dsn, Lease: time.Second})
				if name != "an account" {
					s.Close()
					copied(t, from, dsn)
					s = open(t, Options{DSN: dsn})
				}
				spoil(t, s)
				s.Close()
			}
			if _, err := Copy(t.Context(), from, Options{DSN: dsn}, nil); !errors.Is(err, ErrOccupied) {
				t.Fatalf("error %v, want ErrOccupied", err)
			}
			open(t, Options{DSN: dsn}) // the refused database is not marked
		})
	}
}

func copied(t *testing.T, from *sqlite.Store, dsn string) {
	t.Helper()
	if _, err := Copy(t.Context(), from, Options{DSN: dsn}, nil); err != nil {
		t.Fatal(err)
	}
}

// silently changes an account without an event, as most logins do.
func silently(a *auth.Account) ([]auth.Event, bool) {
	a.LastLogin = noon.Add(1e6 * time.Hour)
	return nil, true
}

// TestAKilledCopyContinues kills a process that copies, at random moments, and checks
// what it leaves; sometimes the source changes in between.
func TestAKilledCopyContinues(t *testing.T) {
	path := filled(t, 6000)
	t.Setenv(sourceVariable, path)
	var took time.Duration
	halves, rounds, round := 0, storetest.Rounds(3, 30), 0
	for ; round < rounds || halves == 0 && round < 20*rounds; round++ {
		dsn := database(t)
		for try := 0; ; try++ {
			cmd, said := child(t, "copy", dsn)
			if got := line(t, said); got != "begin" {
				t.Fatal(got)
			}
			began := time.Now()
			var killed *time.Timer
			if round > 0 && try < 5 {
				killed = time.AfterFunc(rand.N(took/2), func() { cmd.Process.Kill() })
			}
			done := said.Scan()
			if done && said.Text() != "done" {
				t.Fatal(said.Text())
			}
			if killed != nil {
				killed.Stop()
			}
			cmd.Wait()
			if done {
				if round == 0 {
					took = time.Since(began)
				}
				break
			}
			s, err := Open(t.Context(), Options{DSN: dsn})
			switch {
			case err == nil:
				// Killed before it began, or after it was done.
				if all, err := s.List(t.Context(), auth.Filter{Unknown: true, Limit: 1 << 20}); err != nil || len(all) != 0 && len(all) < 6002 {
					t.Fatalf("a gateway opens a database with %d accounts: %v", len(all), err)
				}
				s.Close()
			case errors.Is(err, ErrHalfCopied):
				halves++
			default:
				t.Fatal(err)
			}
			if round == 2 {
				from := opened(t, path)
				change(t, from, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true }, "n00001@congthu.test")
				change(t, from, fail, auth.Name(fmt.Sprintf("later%d@congthu.test", try)), "n00500@congthu.test", "n05999@congthu.test")
				from.Close()
			}
		}
		s, from := open(t, Options{DSN: dsn}), opened(t, path)
		wantEqual(t, s, from)
		from.Close()
		s.Close()
	}
	if halves == 0 {
		t.Fatal("it was never killed during a copy: the test proves nothing")
	}
	t.Logf("%d copies, killed %d times within one", round, halves)
}

func TestACopyFollowsASourceThatChangedAfterAnInterruption(t *testing.T) {
	t.Parallel()
	from := opened(t, filled(t, 50))
	dsn := database(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Copy(ctx, from, Options{DSN: dsn}, func(step CopyStep, _, _ int64) {
		if step == Comparing {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := Open(t.Context(), Options{DSN: dsn}); !errors.Is(err, ErrHalfCopied) {
		t.Fatalf("a gateway on half a copy: %v, want ErrHalfCopied", err)
	}
	other := opened(t, filled(t, 60))
	if _, err := Copy(t.Context(), other, Options{DSN: dsn}, nil); !errors.Is(err, ErrOccupied) {
		t.Fatalf("onto half a copy of another source: %v, want ErrOccupied", err)
	}
	// Remove the last name, and one in between.
	change(t, from, func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true }, "đỗ.mười@congthu.test", "n00012@congthu.test")
	copied(t, from, dsn)
	wantEqual(t, open(t, Options{DSN: dsn}), from)
}

// A gateway that starts on the copy with another pepper than the source had must be
// refused, as on the source.
func TestACopyHasThePepperOfItsSource(t *testing.T) {
	for _, noted := range []string{"", "the source's"} {
		path := filled(t, 4)
		from := opened(t, path)
		if noted != "" {
			if err := from.Agree(t.Context(), "pepper", noted); err != nil {
				t.Fatal(err)
			}
		}
		dsn := pgtest.Database(t)
		// A gateway used the database before the copy, when it was empty.
		early := open(t, Options{DSN: dsn})
		if err := early.Agree(t.Context(), "pepper", "an early gateway's"); err != nil {
			t.Fatal(err)
		}
		if err := early.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Copy(t.Context(), from, Options{DSN: dsn}, nil); err != nil {
			t.Fatal(err)
		}
		from.Close()
		s := open(t, Options{DSN: dsn})
		if v, known, err := s.Agreed(t.Context(), "pepper"); err != nil || v != noted || known != (noted != "") {
			t.Errorf("the copy knows %q, %v, error %v; want %q", v, known, err, noted)
		}
		want := error(nil)
		if noted != "" {
			want = auth.ErrDisagreement
		}
		if err := s.Agree(t.Context(), "pepper", "another"); !errors.Is(err, want) {
			t.Errorf("another pepper on the copy of one with %q: %v, want %v", noted, err, want)
		}
		s.Close()
	}
}

// A copy includes the shared counters; otherwise a guesser that has filled one could
// begin again. They are counted neither as accounts nor as names.
func TestACopyHasTheSharedCounters(t *testing.T) {
	t.Parallel()
	from := opened(t, filled(t, 8))
	want, _, err := from.Contents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before, err := Copy(t.Context(), from, Options{DSN: database(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(t, from, func(a *auth.Account) ([]auth.Event, bool) { a.Failures = 6; return nil, true }, "@00ff", "@ff00")
	if now, _, err := from.Contents(t.Context()); err != nil || now == want {
		t.Fatalf("the source has not changed: %q, %v", now, err)
	}
	dsn := database(t)
	done, err := Copy(t.Context(), from, Options{DSN: dsn}, nil)
	if err != nil || done.Accounts != before.Accounts || done.Unknown != before.Unknown {
		t.Fatalf("%+v, %v; want as many as %+v", done, err, before)
	}
	s := open(t, Options{DSN: dsn})
	wantFailures(t, s, "@ff00", 6)
	if n, err := s.UnknownNames(t.Context()); int64(n) != before.Unknown || err != nil {
		t.Errorf("%d unknown names, %v; want %d", n, err, before.Unknown)
	}
}
