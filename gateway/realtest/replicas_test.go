package realtest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"congthu/auth/postgres/pgtest"
	"congthu/auth/storetest/testenv"
	"congthu/gateway/mailtest"
)

// soak is how long the tests that take random turns go on: [testenv.SoakVariable] is
// a duration; without it they take a few turns only.
func soak(t testing.TB) time.Duration {
	text := os.Getenv(testenv.SoakVariable)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", testenv.SoakVariable, err)
	}
	return d
}

// turns calls f at least n times, and for as long as a soak is to last.
func turns(t *testing.T, n int, f func(turn int)) {
	t.Helper()
	end := time.Now().Add(soak(t))
	for turn := 0; turn < n || time.Now().Before(end); turn++ {
		f(turn)
		if t.Failed() {
			t.Fatalf("turn %d", turn)
		}
	}
}

// thoughtful is a mail server that takes some time for each verdict, so that
// guesses are in flight when something breaks.
func (r *Replicas) thoughtful() mailtest.Misdeed {
	r.asked.Add(1)
	return mailtest.Misdeed{Delay: time.Duration(rand.IntN(int(40 * time.Millisecond)))}
}

// I1 over replicas: whatever dies, the mail server judges at most six wrong
// passwords between two resets; and at most one more for each gateway that was
// killed, or stood still for so long that it was taken for dead, since its
// attempts in flight become failures in doubt, which never by themselves lock: at
// the cap one slot stays.
func TestReplicasTogetherHaveSixWrongPasswordsJudgedWhateverDies(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 3, 2*time.Millisecond)
	killed, worst := 0, 0
	turns(t, 3, func(turn int) {
		user := r.Account(t)
		if got := r.Gateways[turn%3].Guess(t, "", user, Password); !accepted(got) {
			t.Fatalf("before: %s", got)
		}
		// A gateway dies, or the database, or both.
		victim := r.Gateways[rand.IntN(3)]
		kill, restart, pause := turn%4 == 0 || turn%4 == 2, turn%4 == 0 || turn%4 == 1, turn%4 == 3
		var wg sync.WaitGroup
		asked := r.asked.Load()
		wait := func() {
			if rand.IntN(4) == 0 { // at any time
				time.Sleep(time.Duration(rand.IntN(int(600 * time.Millisecond))))
				return
			}
			// While the mail server thinks about one of the six.
			nth := asked + 1 + rand.Int64N(6)
			for deadline := time.Now().Add(patience); r.asked.Load() < nth && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(rand.IntN(int(40 * time.Millisecond))))
		}
		if kill {
			wg.Go(func() { wait(); victim.Process.Kill() })
		}
		if pause {
			// Long enough to be taken for dead; then it is back.
			wg.Go(func() {
				wait()
				victim.Process.Signal(syscall.SIGSTOP)
				time.Sleep(2 * r.Lease)
				victim.Process.Signal(syscall.SIGCONT)
			})
		}
		if restart {
			wg.Go(func() { wait(); r.Database.Restart(t, pgtest.Immediate) })
		}
		var replies tally
		var connected sync.WaitGroup
		connected.Add(300)
		each(300, func(i int) {
			g := r.Gateways[i%3]
			// All are there before the first one guesses: it is the burst that counts.
			conn, in, err := g.dial(t, "")
			connected.Done()
			connected.Wait()
			guess := func() string { return g.Guess(t, "", user, fmt.Sprintf("guess-%d-%d", turn, i)) }
			first := guess
			if err == nil {
				defer conn.Close()
				first = func() string {
					return command(conn, in, "LOGIN "+quoted(user)+" "+quoted(fmt.Sprintf("guess-%d-%d", turn, i)))
				}
			}
			for try := range 4 { // a refused client tries again, like a mail program
				if try == 1 {
					first = guess
				}
				got := first()
				replies.add(got)
				if got != imapLater && got != "" {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		wg.Wait()
		most := 6
		if kill || pause {
			killed++
			most++
		}
		if kill {
			victim.Start(t)
		}
		// Until it locks: the slots of the dead must have lapsed.
		Eventually(t, "the account to lock", func() bool {
			return r.Gateways[0].Guess(t, "", user, "one more guess") == imapLocked
		})
		if n := r.Wrong(user); n > most {
			t.Errorf("turn %d (killed %t, paused %t, restarted %t): %d wrong passwords were judged, want at most %d", turn, kill, pause, restart, n, most)
		} else {
			worst = max(worst, n)
			t.Logf("turn %d (killed %t, paused %t, restarted %t): %d judged wrong of at most %d; replies %v", turn, kill, pause, restart, n, most, replies.counts)
		}
		wantSafe(t, r, user, turn)
	})
	t.Logf("%d gateways killed or paused; at most %d wrong passwords were judged between two resets", killed, worst)
	wantNoTrace(t, r)
}

// wantSafe checks that a lock is one on all gateways, and so is an unlock.
func wantSafe(t *testing.T, r *Replicas, user string, turn int) {
	t.Helper()
	wrong, right := r.Wrong(user), r.Mail.Verdicts(user).Right
	for i, g := range r.Gateways {
		if got := g.Guess(t, "", user, Password); got != imapLocked {
			t.Errorf("turn %d, gateway %d: %s, want locked", turn, i, got)
		}
	}
	if v := r.Mail.Verdicts(user); v.Wrong != wrong || v.Right != right {
		t.Errorf("turn %d: the mail server was asked about a locked account", turn)
	}
	r.Gateways[turn%3].Act(t, "unlock", user)
	unlocked := time.Now()
	// At once: nothing is waited for.
	each(3, func(i int) {
		if got := r.Gateways[i].Guess(t, "", user, Password); !accepted(got) {
			t.Errorf("turn %d, gateway %d, after an unlock through %d: %s", turn, i, turn%3, got)
		}
	})
	t.Logf("turn %d: unlocked on all three %s after the unlock", turn, time.Since(unlocked).Round(time.Millisecond))
}

// wantNoTrace checks that no gateway has revealed the password of the database, and
// that nothing in the database failed.
func wantNoTrace(t *testing.T, r *Replicas) {
	t.Helper()
	for i, g := range r.Gateways {
		_, metrics := Get(t, g.URL("/metrics"))
		_, ready := Get(t, g.URL("/readyz"))
		for what, text := range map[string]string{"log": g.LogText(), "metrics": metrics, "readiness": ready} {
			if strings.Contains(text, databasePassword) {
				t.Errorf("gateway %d: the password of the database is in its %s", i, what)
			}
			if what == "log" && (strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic")) {
				t.Errorf("gateway %d: its log tells of a data race or a panic", i)
			}
		}
	}
}

// I2 over replicas.
func TestSixtyRightPasswordsOverReplicasAreSixtyLogins(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 3, 0)
	user := r.Account(t)
	for i := range 5 { // as many mistakes as are tolerated: one slot is left
		if got := r.Gateways[i%3].Guess(t, "", user, fmt.Sprint("wrong ", i)); got != imapWrong {
			t.Fatal(got)
		}
	}
	each(60, func(i int) {
		if got := r.Gateways[i%3].Guess(t, "", user, Password); !accepted(got) {
			t.Errorf("login %d: %s", i, got)
		}
	})
	if v := r.Mail.Verdicts(user); v.Right != 60 || v.Wrong != 5 {
		t.Errorf("the mail server judged %+v, want 60 right and 5 wrong", v)
	}
	if a := r.Gateways[0].Show(t, user); a.Failures != 0 || a.State != "active" {
		t.Errorf("afterwards: %+v", a)
	}
	// What is counted of one store is counted of the other.
	for _, series := range []string{
		`congthu_store_operations_total{operation="reserve",result="ok"}`, `congthu_store_operations_total{operation="update",result="ok"}`,
		`congthu_store_operations_total{operation="account",result="ok"}`, `congthu_store_operation_duration_seconds_count{operation="update"}`,
		`congthu_store_commit_duration_seconds_count`, `congthu_store_batch_size_count`,
	} {
		if r.Gateways[0].Metric(t, series) == 0 {
			t.Errorf("%s is 0", series)
		}
	}
}

// I5 over replicas: an admin's lock through one gateway ends the sessions of all; a
// lock made by wrong passwords ends none, otherwise an attacker could disconnect any
// user.
func TestAnAdminsLockEndsSessionsOnAllReplicasAndOneByGuessingNone(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 3, 0)
	guessed, locked := r.Account(t), r.Account(t)
	type session struct {
		say  func(string) string
		gone func() bool
	}
	open := func(g *Gateway, user string) session {
		conn, in, err := g.dial(t, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		say := func(text string) string { return command(conn, in, text) }
		if got := say("LOGIN " + quoted(user) + " " + quoted(Password)); !accepted(got) {
			t.Fatalf("login: %s", got)
		}
		return session{say, func() bool { _, err := in.ReadByte(); return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) }}
	}
	var ofGuessed, ofLocked []session
	for _, g := range r.Gateways {
		ofGuessed, ofLocked = append(ofGuessed, open(g, guessed)), append(ofLocked, open(g, locked))
	}
	for i := range 6 {
		r.Gateways[0].Guess(t, "", guessed, fmt.Sprint("wrong ", i))
	}
	// Changes arrive in order: a gateway that has received this lock has also received
	// the other one.
	r.Gateways[1].Act(t, "lock", locked)
	for i, s := range ofLocked {
		if !s.gone() { // until the deadline of the connection
			t.Errorf("gateway %d: a session of a locked account goes on", i)
		}
	}
	for i, s := range ofGuessed {
		if got := s.say("NOOP"); !accepted(got) {
			t.Errorf("gateway %d: a lock by wrong passwords has ended a session: %q", i, got)
		}
		if got := r.Gateways[i].Guess(t, "", guessed, Password); got != imapLocked {
			t.Errorf("gateway %d: %s, want locked", i, got)
		}
	}
}

// A gateway with a pepper of its own would treat every login through another one as a
// change of the password, and no password would ever grow old.
func TestAReplicaWithAPepperOfItsOwnIsRefused(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 1, 0)
	text, err := os.ReadFile(r.Gateways[0].Config)
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(string(text), r.pepper(), "own-pepper.key", 1)
	file := filepath.Join(filepath.Dir(r.Gateways[0].Config), "stranger.yaml")
	writeFile(t, file, own, 0o600)
	// Its file is not even there, and check makes none.
	if o := Command(t, "", nil, Binary(t), "check", "-c", file); o.Code != 1 || !strings.Contains(o.All(), "own-pepper.key is missing") {
		t.Errorf("check without a pepper: exit code %d: %s", o.Code, o.All())
	}
	if o := Command(t, "", nil, Binary(t), "serve", "-c", file); o.Code != 1 || !strings.Contains(o.All(), "copy "+filepath.Join(filepath.Dir(file), "own-pepper.key")) {
		t.Errorf("serve: exit code %d: %s", o.Code, o.All())
	}
	// Nothing was left in its place, and another one is refused as well.
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "own-pepper.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("own-pepper.key was made: %v", err)
	}
	writeFile(t, filepath.Join(filepath.Dir(file), "own-pepper.key"), strings.Repeat("0f", 32)+"\n", 0o600)
	if o := Command(t, "", nil, Binary(t), "serve", "-c", file); o.Code != 1 || !strings.Contains(o.All(), "copy "+filepath.Join(filepath.Dir(file), "own-pepper.key")) {
		t.Errorf("serve with another pepper: exit code %d: %s", o.Code, o.All())
	}
	if o := Command(t, "", nil, Binary(t), "check", "-c", file); o.Code != 1 || !strings.Contains(o.All(), "is not the one that the store was used with") {
		t.Errorf("check with another pepper: exit code %d: %s", o.Code, o.All())
	}
}

// congthu check looks at the database, tells what it is like, and how to put
// right what is wrong.
func TestCheckTellsOfTheDatabase(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 1, 0)
	o := Command(t, "", nil, Binary(t), "check", "-c", r.Gateways[0].Config)
	for _, want := range []string{
		"ok       store          PostgreSQL 1", " ms; used by ", "ok       store          schema version ", "ok       pepper ",
		// The tests' PostgreSQL does not sync.
		"failed   store          fsync off, full_page_writes on, synchronous_commit on: ", "postgresql.conf",
	} {
		if !strings.Contains(o.All(), want) {
			t.Errorf("does not say %q:\n%s", want, o.All())
		}
	}
	r.Database.Stop(t, pgtest.Fast)
	o = Command(t, "", nil, Binary(t), "check", "-c", r.Gateways[0].Config)
	if o.Code != 1 || !strings.Contains(o.All(), "failed   store          the database cannot be reached") || strings.Contains(o.All(), databasePassword) {
		t.Errorf("without a database: exit code %d:\n%s", o.Code, o.All())
	}
	if o := Command(t, "", nil, Binary(t), "serve", "-c", r.Gateways[0].Config); o.Code != 1 || !strings.Contains(o.All(), "the database cannot be reached") || strings.Contains(o.All(), databasePassword) {
		t.Errorf("serve without a database: exit code %d:\n%s", o.Code, o.All())
	}
	r.Database.Start(t)
}

// The database fails: known passwords are still accepted, other clients receive "try
// again later", nothing is counted, and the recovery is automatic.
func TestAnOutageOfTheDatabase(t *testing.T) {
	t.Parallel()
	r := NewReplicas(t, 2, 0)
	const office, home = "127.0.9.1", "127.0.9.2"
	turns(t, 2, func(turn int) {
		g, other := r.Gateways[turn%2], r.Gateways[(turn+1)%2]
		known, stranger, latecomer := r.Account(t), r.Account(t), r.Account(t)
		for range 2 {
			if got := g.Guess(t, office, known, Password); !accepted(got) {
				t.Fatalf("before: %s", got)
			}
		}
		other.Guess(t, office, latecomer, "wrong")
		before := g.Show(t, known).LastLogin
		failed := g.Metric(t, `congthu_store_operations_total{operation="reserve",result="failed"}`)

		// It crashes, is stopped, or is cut off: in that case it accepts data and
		// answers nothing.
		how := turn % 3
		switch how {
		case 0:
			r.Database.Stop(t, pgtest.Immediate)
		case 1:
			r.Database.Pause(t)
		case 2:
			r.Database.Stop(t, pgtest.Fast)
		}
		down := time.Now()
		var wg sync.WaitGroup
		// All at once: each waits for a store that is cut off.
		for at, want := range map[struct {
			g                    *Gateway
			from, user, password string
		}]string{
			{g, office, known, Password}:     "OK [CAPABILITY]",
			{g, office, known, "wrong"}:      imapLater,
			{g, home, known, Password}:       imapLater, // it was never seen from there
			{other, office, known, Password}: imapLater, // nor by this gateway
			{g, office, stranger, Password}:  imapLater,
			{g, office, latecomer, "wrong"}:  imapLater,
		} {
			wg.Go(func() {
				if got := at.g.Guess(t, at.from, at.user, at.password); got != want {
					t.Errorf("turn %d, during the outage, %s from %s with %s: %q, want %q", turn, at.user, at.from, at.password, got, want)
				}
			})
		}
		wg.Wait()
		if v := r.Mail.Verdicts(known); v.Wrong != 0 || r.Wrong(latecomer) != 1 || r.Mail.Verdicts(stranger) != (mailtest.Verdicts{}) {
			t.Errorf("turn %d: during the outage the mail server was asked: %+v, %+v", turn, v, r.Mail.Judged())
		}
		for _, g := range r.Gateways {
			Eventually(t, "the gateways to say that they are not ready", func() bool {
				status, body := Get(t, g.URL("/readyz"))
				return status == 503 && strings.Contains(body, `"store":{"ok":false,"error":"read account: the database cannot be reached`)
			})
			if status, _ := Get(t, g.URL("/healthz")); status != 200 {
				t.Errorf("turn %d: not alive: %d", turn, status)
			}
		}
		if now := g.Metric(t, `congthu_store_operations_total{operation="reserve",result="failed"}`); now < failed+3 {
			t.Errorf("turn %d: failed operations of the store: %v before, %v now", turn, failed, now)
		}
		wantNoGrowth(t, r, g, known, office)

		if how == 1 {
			r.Database.Resume(t)
		} else {
			r.Database.Start(t)
		}
		for _, g := range r.Gateways {
			Eventually(t, "the gateways to be ready again", func() bool { status, _ := Get(t, g.URL("/readyz")); return status == 200 })
		}
		Eventually(t, "the last login to be written", func() bool { return g.Show(t, known).LastLogin.After(before) })
		if at := g.Show(t, known).LastLogin; at.Before(down.Add(-time.Second)) {
			t.Errorf("turn %d: the last login is of %s, the outage began at %s", turn, at, down)
		}
		if a := g.Show(t, known); a.Failures != 0 || a.State != "active" {
			t.Errorf("turn %d: afterwards: %+v", turn, a)
		}
		// Only the one from before.
		if a := other.Show(t, latecomer); a.Failures != 1 {
			t.Errorf("turn %d: afterwards: %+v", turn, a)
		}
		for _, g := range r.Gateways {
			for _, user := range []string{known, stranger, latecomer} {
				if got := g.Guess(t, home, user, Password); !accepted(got) {
					t.Errorf("turn %d, afterwards: %s", turn, got)
				}
			}
		}
	})
	wantNoTrace(t, r)
}

// wantNoGrowth gives a gateway without a database much to do, and checks that
// nothing of it stays behind.
func wantNoGrowth(t *testing.T, r *Replicas, g *Gateway, known, from string) {
	t.Helper()
	load := func(d time.Duration) (accepts, later int64) {
		var good, bad atomic.Int64
		end := time.Now().Add(d)
		each(16, func(i int) {
			for n := 0; time.Now().Before(end); n++ {
				if i%2 == 0 {
					if got := g.Guess(t, from, known, Password); !accepted(got) {
						t.Errorf("under load: %q", got)
					}
					good.Add(1)
				} else {
					if got := g.Guess(t, from, replicaAccount((i*200+n)%replicaAccounts), "a guess"); got != imapLater {
						t.Errorf("under load: %q", got)
					}
					bad.Add(1)
				}
			}
		})
		return good.Load(), bad.Load()
	}
	settled := func() (goroutines float64, memory int64) {
		// Connections take a moment to end, and the collector to come by.
		Eventually(t, "the goroutines of ended connections to end", func() bool {
			was := goroutines
			goroutines = g.Metric(t, "go_goroutines")
			return goroutines == was
		})
		return goroutines, g.Resident(t)
	}
	load(time.Second)
	goroutines, memory := settled()
	accepts, later := load(max(2*time.Second, min(soak(t)/10, 2*time.Minute)))
	goroutinesNow, memoryNow := settled()
	t.Logf("%d accepted and %d refused during the outage; goroutines %v to %v, memory %d to %d MiB",
		accepts, later, goroutines, goroutinesNow, memory>>20, memoryNow>>20)
	if goroutinesNow > goroutines+20 {
		t.Errorf("goroutines grew from %v to %v", goroutines, goroutinesNow)
	}
	if memoryNow > memory+64<<20 {
		t.Errorf("memory grew from %d to %d MiB", memory>>20, memoryNow>>20)
	}
}
