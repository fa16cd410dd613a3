package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
	"congthu/auth/storetest/testenv"
)

// The guard over the SQLite store: a reply that a client has read must stay true.

// guarded returns a guard over a store; the guard runs until stop is called.
func guarded(s *Store) (g *guard.Guard, stop func()) {
	g = &guard.Guard{Store: s, Patience: 50 * time.Millisecond}
	rules := auth.DefaultRules()
	rules.Lockout.DailyFailureCap = 0
	g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "congthu.test"}, Rules: rules})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	return g, func() { cancel(); wg.Wait() }
}

// login makes one attempt; the mail server calls asked, and then judges.
func login(g *guard.Guard, name auth.Name, password string, asked func()) auth.Verdict {
	return g.Attempt(context.Background(), auth.Attempt{
		Login: string(name), Password: auth.NewSecret(password), Source: netip.MustParseAddrPort("203.0.113.7:50312"),
		Verify: func(context.Context, auth.Name) auth.Answer {
			asked()
			if password == "right" {
				return auth.Answer{Judgement: auth.JudgedRight}
			}
			return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
		},
	})
}

// serve is a gateway that works until it is killed, with three kinds of users: the
// password of "guessed" is guessed, and an admin unlocks it when it is locked;
// "careless" mistypes twice after each login; "careful" never does. The steps of one
// user come one after the other. The child writes a line before and after each:
//
//	asked NAME     the mail server judges a wrong password
//	no NAME        the client has read that it was wrong
//	trying NAME    a login or an unlock begins
//	done NAME      the login or unlock has ended
func serve(path string) {
	say("start")
	s, err := Open(context.Background(), Options{Path: path})
	must(err)
	g, _ := guarded(s)
	say("open")
	var wg sync.WaitGroup
	for i := range 12 {
		kind := []string{"guessed", "careless", "careful"}[i%3]
		name := auth.Name(fmt.Sprintf("%s%d@congthu.test", kind, i))
		want := func(v auth.Verdict, o auth.Outcome) {
			if v.Outcome != o {
				say("unexpected %v of %s, %v", v.Outcome, name, v.Err)
			}
		}
		wg.Go(func() {
			for n := 0; ; n++ {
				if kind == "guessed" || kind == "careless" && n%3 > 0 {
					v := login(g, name, fmt.Sprint("wrong", n), func() { say("asked %s", name) })
					if kind == "careless" || v.Outcome != auth.Locked {
						want(v, auth.WrongPassword)
						say("no %s", name)
						continue
					}
					say("trying %s", name)
					_, err := g.Unlock(context.Background(), name, auth.Act{Actor: "An", Reason: "test"})
					must(err)
				} else {
					if kind == "careful" && n%100 > 0 { // its logins write nothing: report one in a hundred
						want(login(g, name, "right", func() {}), auth.Accepted)
						continue
					}
					say("trying %s", name)
					want(login(g, name, "right", func() {}), auth.Accepted)
				}
				say("done %s", name)
			}
		})
	}
	wg.Wait()
}

// A reply that a client has read survives SIGKILL at any time; other attempts count at
// most as wrong passwords; and no account is locked without enough of them.
func TestRepliesSurviveSIGKILL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	type person struct {
		asked, told int  // since the last reset, including those before a restart
		trying      bool // a reset is in progress
		known       bool
	}
	everybody := make(map[string]*person)
	logins, locks := 0, 0
	rounds := storetest.Rounds(6, 500)
	round := 0
	for ; round < rounds || (logins == 0 || locks == 0) && round < 20*rounds; round++ {
		cmd, said := child(t, "serve", path)
		lines := rand.N(200)
		if round%6 == 0 {
			lines = rand.N(4) // kill it while it opens
		}
		for n := 0; said.Scan(); {
			what, name, _ := strings.Cut(said.Text(), " ")
			if !strings.HasPrefix(name, "careful") { // it is many times faster than the others
				n++
			}
			p := everybody[name]
			if p == nil {
				p = new(person)
				everybody[name] = p
			}
			switch what {
			case "asked":
				p.asked++
			case "no":
				p.told++
			case "trying":
				p.trying = true
			case "done":
				guessed := strings.HasPrefix(name, "guessed")
				*p = person{known: !guessed}
				if guessed {
					locks++ // each is followed by an unlock
				} else {
					logins++
				}
			case "unexpected":
				t.Fatalf("round %d: %s", round, said.Text())
			}
			if n >= lines {
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()

		s := open(t, Options{Path: path})
		if _, err := s.Verify(t.Context(), nil); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for name, p := range everybody {
			a, err := s.Account(t.Context(), auth.Name(name))
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			locked := a.Lock.Cause != auth.NotLocked
			switch reset := p.trying && a.Failures == 0; {
			case !reset && (a.Failures < p.told || a.Failures > p.asked):
				t.Fatalf("round %d: %s has %d failures; %d were told, %d asked", round, name, a.Failures, p.told, p.asked)
			case locked != (a.Failures > 5):
				t.Fatalf("round %d: %s has %d failures, and the lock %+v", round, name, a.Failures, a.Lock)
			case locked && !strings.HasPrefix(name, "guessed"):
				t.Fatalf("round %d: %s is locked: %+v", round, name, a.Lock)
			case p.known && !a.Known():
				t.Fatalf("round %d: %s has logged in, and is not known", round, name)
			}
			if locked {
				locks++
			}
			*p = person{asked: a.Failures, told: a.Failures, known: a.Known()}
		}
		shut(t, s)
	}
	if logins == 0 || locks == 0 {
		t.Fatalf("%d logins, %d locks: the test kills too early", logins, locks)
	}
	t.Logf("%d rounds: %d logins, %d locks", round, logins, locks)
}

// tmpfs mounts a file system of a few kilobytes in memory.
func tmpfs(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	const why = "a file system that can run full cannot be mounted: run the tests as root, or with: unshare --user --map-root-user --mount go test ./auth/sqlite"
	switch err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); {
	case errors.Is(err, syscall.EPERM):
		testenv.Missing(t, why)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// The disk becomes full under a running gateway: replies that were sent stay true, a
// failure that cannot be written is answered "try again later", and no password is
// judged beyond the limit; when there is room again, all pending failures are counted
// once.
func TestAFullDiskUnderTheGatewayLosesNothingAndGivesNoGuesses(t *testing.T) {
	dir := tmpfs(t, "2m")
	s := open(t, Options{Path: filepath.Join(dir, "congthu.db")})
	g, stop := guarded(s)
	defer stop()
	none := func() {}
	if v := login(g, "owner@congthu.test", "right", none); v.Outcome != auth.Accepted {
		t.Fatalf("%v, %v", v.Outcome, v.Err)
	}
	ballast := filepath.Join(dir, "ballast")
	told := 0
	for i := range 3 {
		if v := login(g, victim, fmt.Sprint("before", i), none); v.Outcome != auth.WrongPassword {
			t.Fatalf("%v, %v", v.Outcome, v.Err)
		}
		told++
	}
	fillUp(t, ballast)
	asked := 0
	full := false
	for i := range 50 {
		switch v := login(g, auth.Name(fmt.Sprintf("n%d@congthu.test", i)), "wrong", none); {
		case v.Outcome == auth.WrongPassword: // there was still a free page
		case v.Outcome == auth.StoreUnavailable && errors.Is(v.Err, ErrDiskFull) && strings.Contains(v.Err.Error(), "free some on the file system"):
			full = true
		default:
			t.Fatalf("on a full disk: %v, %v", v.Outcome, v.Err)
		}
	}
	if !full {
		t.Fatal("the disk did not run full")
	}
	for i := range 20 {
		v := login(g, victim, fmt.Sprint("full", i), func() { asked++ })
		if v.Outcome == auth.WrongPassword {
			told++
		} else if !v.Outcome.Temporary() && v.Outcome != auth.Locked {
			t.Fatalf("on a full disk: %v, %v", v.Outcome, v.Err)
		}
	}
	if asked > 3 {
		t.Errorf("%d guesses were judged but cannot be counted, want at most 3", asked)
	}
	// A login with a password that is known to be good writes nothing, and works.
	if v := login(g, "owner@congthu.test", "right", none); v.Outcome != auth.Accepted {
		t.Errorf("the owner, on a full disk: %v, %v", v.Outcome, v.Err)
	}
	if a, err := s.Account(t.Context(), victim); err != nil || a.Failures < told || a.Failures > 3+asked {
		t.Errorf("%d failures, %v; %d were told", a.Failures, err, told)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	stop() // writes the pending settlements
	if n := g.Owed(); n != 0 {
		t.Errorf("%d settlements are still pending", n)
	}
	a, err := s.Account(t.Context(), victim)
	if err != nil || a.Failures != 3+asked {
		t.Errorf("%d failures, %v; %d were judged", a.Failures, err, 3+asked)
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

const victim auth.Name = "victim@congthu.test"

// fillUp writes a file until the file system is full.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}
