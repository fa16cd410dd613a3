package guard_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/incident"
)

// inNetwork returns the i-th source of an IPv6 network: /64s of different /48s as long
// as there are any.
func inNetwork(network netip.Prefix, i int) netip.AddrPort {
	sites := 1 << max(0, 48-network.Bits())
	octets := network.Addr().As16()
	first := binary.BigEndian.Uint64(octets[:8])
	first += uint64(i%sites)<<16 + uint64(i/sites)
	binary.BigEndian.PutUint64(octets[:8], first)
	octets[15] = 1
	return netip.AddrPortFrom(netip.AddrFrom16(octets), 40000)
}

// guessFromANetwork guesses at made-up names from all over a /43, two passwords for
// each, during some windows of the throttle.
func (b *bench) guessFromANetwork(windows int) {
	network := netip.MustParsePrefix("2001:db8:40::/43")
	for window := range windows {
		var wg sync.WaitGroup
		for i := range 32 * 4 {
			wg.Go(func() {
				for n := range 10 {
					for guess := range 2 {
						b.from(inNetwork(network, i), fmt.Sprintf("phantom-%d-%d-%d", window, i, n), fmt.Sprint("guess", guess))
					}
				}
			})
		}
		wg.Wait()
		time.Sleep(11 * time.Minute)
	}
}

// newcomersGetIn lets people log in for the first time, each from another place; shared
// says whether shared counters count their mistypes.
func (b *bench) newcomersGetIn(n int, shared bool) {
	b.t.Helper()
	for i := range n {
		name := fmt.Sprint("new-colleague", i)
		b.server.password[auth.Name(name+"@example.vn")] = good
		v := b.from(botnet(i), name, "mistyped")
		b.want(v, auth.WrongPassword)
		if v.Shared != shared {
			b.t.Errorf("newcomer %d: shared %v, want %v", i, v.Shared, shared)
		}
		b.want(b.from(botnet(i), name, good), auth.Accepted)
		b.want(b.from(botnet(i), name, good), auth.Accepted)
	}
}

// The room for names without a login is filled from one /43. A newcomer with the right
// password gets in.
func TestAFullRoomKeepsNoNewcomerOut(t *testing.T) {
	const room = 1000
	inBubble(t, nil, func(b *bench) { // without a throttle
		b.store.MaxUnknown = room
		b.guessFromANetwork(1)
		if n, err := b.store.UnknownNames(context.Background()); n != room || err != nil {
			b.t.Fatalf("%d names in the room, %v", n, err)
		}
		b.newcomersGetIn(50, true)
	})
	inBubble(t, withThrottle, func(b *bench) { // and without shares of the room
		b.store.MaxUnknown = room
		b.guessFromANetwork(13)
		if n, err := b.store.UnknownNames(context.Background()); n != room || err != nil {
			b.t.Fatalf("%d names in the room, %v", n, err)
		}
		b.newcomersGetIn(50, true)
	})
	inBubble(t, func(g *guard.Guard, r *auth.Rules) { withThrottle(g, r); g.MaxUnknown = room }, func(b *bench) {
		b.store.MaxUnknown = room
		b.guessFromANetwork(13)
		if n, err := b.store.UnknownNames(context.Background()); n != room/16 || err != nil {
			b.t.Errorf("%d names in the room, %v; want the share of a /40", n, err)
		}
		b.newcomersGetIn(50, false) // there is room for them
	})
}

// What an attack can do to newcomers in a day: a source fills as many counters as it may
// bring accounts near their lock, and the refused part of the newcomers equals the part
// of full counters.
func TestHowManyNewcomersAnAttackKeepsOut(t *testing.T) {
	const sources, newcomers = 40, 20_000
	inBubble(t, withThrottle, func(b *bench) {
		b.noRoom()
		for source := range sources {
			for n := range 9 {
				for i := range 7 {
					b.from(botnet(source), fmt.Sprintf("phantom-%d-%d", source, n), fmt.Sprint("guess", i))
				}
			}
		}
		n, err := b.guard.CountShared(context.Background(), b.store)
		if err != nil || n.Full > 5*sources || n.Full < 5*sources-5 {
			b.t.Errorf("%d sources have filled %d counters, %v; want 5 each", sources, n.Full, err)
		}
		full := make(map[auth.Name]bool)
		err = auth.Scan(context.Background(), b.store, auth.Filter{Shared: true}, func(a auth.Account) error {
			full[a.Name] = b.guard.Rules().Locked(a, time.Now())
			return nil
		})
		if err != nil {
			b.t.Fatal(err)
		}
		hit := 0
		for i := range newcomers {
			if full[b.counterOf(fmt.Sprint("new-colleague", i))] {
				hit++
			}
		}
		// 200 of 65,536 counters: 61 newcomers of 20,000.
		if hit < 30 || hit > 100 {
			b.t.Errorf("%d of %d newcomers are refused", hit, newcomers)
		}
	})
}

// sharing returns login names that use the same shared counter.
func (b *bench) sharing(n int) (logins []string, counter auth.Name) {
	b.t.Helper()
	for i := 0; len(logins) < n; i++ {
		login := fmt.Sprint("stranger", i)
		c := b.counterOf(login)
		if counter == "" {
			counter = c
		}
		if c == counter {
			logins = append(logins, login)
		}
	}
	return logins, counter
}

func (b *bench) counterOf(login string) auth.Name {
	b.t.Helper()
	c, err := b.guard.SharedCounter(context.Background(), auth.Name(login+"@example.vn"))
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) read(name auth.Name) auth.Account {
	b.t.Helper()
	a, err := b.store.Account(context.Background(), name)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// noRoom leaves no room for names without a login.
func (b *bench) noRoom() {
	b.store.MaxUnknown = 1
	b.want(b.try("occupant", "x"), auth.WrongPassword)
}

// I1: with any number of names and of connections.
func TestNamesThatShareACounterGetSixVerdictsADayTogether(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.noRoom()
		asked := b.server.asked
		logins, counter := b.sharing(4)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { b.from(botnet(i), logins[i%4], fmt.Sprint("guess", i)) })
		}
		wg.Wait()
		if n := b.server.asked - asked; n != 6 {
			b.t.Errorf("the mail server judged %d guesses, want 6", n)
		}
		if w, l := b.told.outcomes[auth.WrongPassword]-1, b.told.outcomes[auth.Locked]; w != 6 || l != 94 {
			b.t.Errorf("%d wrong and %d locked replies, want 6 and 94", w, l)
		}
		// No account is locked, and no reply reveals the counter.
		if a := b.read(counter); a.Failures != 6 || a.Lock.Cause != auth.NotLocked || a.Known() {
			b.t.Errorf("the counter: %+v", a)
		}
		if len(b.told.events) > 0 {
			b.t.Errorf("events: %+v", b.told.events)
		}
		if causes, err := incident.Find(context.Background(), b.store); err != nil || len(causes) > 0 {
			b.t.Errorf("causes %+v, %v", causes, err)
		}
		for _, want := range []auth.Filter{{}, {Unknown: true}, {Locked: true}, {Locked: true, Unknown: true}} {
			listed, err := b.store.List(context.Background(), want)
			if err != nil || slices.ContainsFunc(listed, func(a auth.Account) bool { return a.Name.Shared() }) {
				b.t.Errorf("list of %+v: %+v, %v", want, listed, err)
			}
		}
		if n, err := b.store.UnknownNames(context.Background()); n != 1 || err != nil {
			b.t.Errorf("%d unknown names, %v; want 1", n, err)
		}
		// Another name is not affected.
		b.want(b.try("somebody-else", "x"), auth.WrongPassword)
		if n, err := b.guard.CountShared(context.Background(), b.store); n != (auth.Counters{Used: 2, Full: 1}) || err != nil {
			b.t.Errorf("counted %+v, %v", n, err)
		}
	})
}

func TestASharedCounterIsEmptiedADayAfterItsFirstFailure(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.Tolerated = 11 }, func(b *bench) {
		b.noRoom()
		logins, counter := b.sharing(2)
		for i := range 12 {
			b.want(b.try(logins[i%2], fmt.Sprint("guess", i)), auth.WrongPassword)
			time.Sleep(time.Hour)
		}
		b.want(b.try(logins[0], "x"), auth.Locked)
		forget := func() {
			if _, err := b.guard.ForgetUnknown(context.Background(), b.store); err != nil {
				b.t.Fatal(err)
			}
		}
		time.Sleep(12*time.Hour - 10*time.Second)
		forget()
		b.want(b.try(logins[1], "x"), auth.Locked)
		time.Sleep(10 * time.Second)
		for i := range 12 {
			b.want(b.try(logins[i%2], fmt.Sprint("again", i)), auth.WrongPassword)
		}
		b.want(b.try(logins[0], "x"), auth.Locked)
		time.Sleep(24 * time.Hour)
		forget()
		if a := b.read(counter); !a.Blank() {
			b.t.Errorf("the chores leave %+v", a)
		}
		if n, err := b.guard.CountShared(context.Background(), b.store); n != (auth.Counters{}) || err != nil {
			b.t.Errorf("counted %+v, %v", n, err)
		}
	})
}

// If the lock of an account ends by itself, a refusal by a counter must not last longer:
// that would reveal that there is no account.
func TestAFullCounterLastsNoLongerThanALock(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.UnlockAfter = 15 * time.Minute }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.noRoom()
		for i := range 6 {
			b.want(b.try("lan", fmt.Sprint("guess", i)), auth.WrongPassword)
			b.want(b.try("stranger", fmt.Sprint("guess", i)), auth.WrongPassword)
			time.Sleep(time.Minute)
		}
		for range 2 {
			b.want(b.try("lan", "x"), auth.Locked)
			b.want(b.try("stranger", "x"), auth.Locked)
			time.Sleep(13 * time.Minute)
		}
		time.Sleep(2 * time.Minute)
		b.want(b.try("lan", "x"), auth.WrongPassword)
		b.want(b.try("stranger", "x"), auth.WrongPassword)
	})
}

// A login makes an account of the name, which needs no room; the failures of other names
// that share the counter stay.
func TestALoginBeyondTheRoomForgivesNoOtherName(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.noRoom()
		logins, counter := b.sharing(3)
		for i := range 4 {
			b.want(b.try(logins[0], fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.server.password[auth.Name(logins[1]+"@example.vn")] = good
		var wg sync.WaitGroup
		for range 20 { // 20 attempts for two slots
			wg.Go(func() { b.want(b.try(logins[1], good), auth.Accepted) })
		}
		wg.Wait()
		if a := b.read(auth.Name(logins[1] + "@example.vn")); !a.Known() || a.Failures != 0 || a.FirstLogin.IsZero() {
			b.t.Errorf("after its first login: %+v", a)
		}
		if n := b.told.count(auth.FirstLogin); n != 1 {
			b.t.Errorf("%d events of first logins", n)
		}
		if a := b.read(counter); a.Failures != 4 {
			b.t.Errorf("the counter has %d failures after a login of one of its names, want 4", a.Failures)
		}
		for i := range 6 { // the account has its own failures
			b.want(b.try(logins[1], fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try(logins[1], good), auth.Locked)
		for i := range 2 { // both slots of the counter are free again
			b.want(b.try(logins[2], fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try(logins[2], "x"), auth.Locked)
	})
}

// Beyond the room only wrong passwords count, and an answer in doubt alone never makes a
// counter full.
func TestOnlyWrongPasswordsFillASharedCounter(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.noRoom()
		logins, counter := b.sharing(2)
		for _, j := range []auth.Judgement{auth.Unreached, auth.RefusedOtherwise, auth.InDoubt} {
			b.server.answer = &auth.Answer{Judgement: j}
			for i := range 6 {
				b.try(logins[i%2], "x")
			}
			time.Sleep(3 * time.Minute) // the leases of the attempts in doubt end
			if a, want := b.read(counter), map[auth.Judgement]int{auth.InDoubt: 5}[j]; a.Failures != want {
				b.t.Errorf("%v: the counter has %d failures, want %d", j, a.Failures, want)
			}
		}
		b.server.answer = nil
		b.want(b.try(logins[0], "y"), auth.WrongPassword)
		b.want(b.try(logins[1], "y"), auth.Locked)
		if len(b.told.events) > 0 {
			b.t.Errorf("events: %+v", b.told.events)
		}
		// A gateway that died with slots of the counter does not fill it either.
		a := auth.Account{Name: counter}
		for range 10 {
			if events, _ := b.guard.Rules().ReservationExpired(&a, time.Now()); len(events) > 0 {
				b.t.Errorf("events: %+v", events)
			}
		}
		if a.Failures != 5 || b.guard.Rules().Locked(a, time.Now()) {
			b.t.Errorf("slots that lapsed: %+v", a)
		}
	})
}

// I3: a failure that cannot be written is not answered, and keeps its slot.
func TestAFailureOfASharedCounterIsWrittenBeforeTheReply(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.noRoom()
		logins, counter := b.sharing(2)
		b.broken.Store(noWrites)
		asked := b.server.asked
		for i := range 6 {
			b.want(b.try(logins[0], fmt.Sprint("guess", i)), auth.StoreUnavailable)
		}
		b.broken.Store(nil)
		time.Sleep(2 * time.Minute)
		if a := b.read(counter); a.Failures != 1 || b.server.asked != asked+1 {
			b.t.Errorf("the counter has %d failures, %d were judged; want 1, and no more as long as it is not written", a.Failures, b.server.asked-asked)
		}
		for i := range 5 {
			b.want(b.try(logins[0], fmt.Sprint("more", i)), auth.WrongPassword)
		}
		b.want(b.try(logins[1], "x"), auth.Locked)
	})
}

// Replies do not distinguish a name that is an account from one that is not, in the room
// or beyond it.
func TestTheRoomDoesNotShowWhoExists(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.from(botnet(1), "lan", good), auth.Accepted)
		b.store.MaxUnknown = 1
		// A name in the room, one beyond it, and an account; each from its own places.
		said := make(map[string][]auth.Outcome)
		for n, login := range []string{"in-the-room", "beyond-it", "lan"} {
			for i := range 40 {
				v := b.from(botnet(1000*(n+1)+i%4), login, fmt.Sprint("guess", i))
				said[login] = append(said[login], v.Outcome)
			}
		}
		for _, login := range []string{"in-the-room", "beyond-it"} {
			if !slices.Equal(said[login], said["lan"]) {
				b.t.Errorf("answers to %s: %v, to an account: %v", login, said[login], said["lan"])
			}
		}
	})
}

// Guesses beyond the room count against their source like others.
func TestBeyondTheRoomTheThrottleForgetsNothing(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.noRoom()
		judged := b.server.asked
		for i := range 20 {
			for range 6 {
				b.from(elsewhere, fmt.Sprint("stranger", i), "guess")
			}
		}
		most := make(map[auth.Name]int)
		for name, n := range b.server.wrong {
			most[name] = n
		}
		near := 0
		for _, n := range most {
			if n > 2 {
				near++
			}
		}
		if near > 5 {
			b.t.Errorf("one source has brought %d names near their lock, want 5 (%d verdicts)", near, b.server.asked-judged)
		}
	})
}

// The counter of a name is the same at every gateway and after a restart, and different
// if the key is different.
func TestTheCounterOfANameFollowsFromTheKey(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		counter := func(g *guard.Guard, name auth.Name) auth.Name {
			c, err := g.SharedCounter(context.Background(), name)
			if err != nil || !c.Shared() || len(c) != 5 {
				t.Fatalf("counter %q, %v", c, err)
			}
			return c
		}
		other := &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}}
		differ := 0
		for i := range 100 {
			name := auth.Name(fmt.Sprintf("n%d@example.vn", i))
			if counter(b.guard, name) != counter(other, name) {
				t.Fatalf("two gateways disagree about %s", name)
			}
			if counter(b.guard, name) != counter(&guard.Guard{Fingerprints: otherKey{}}, name) {
				differ++
			}
		}
		if differ < 99 {
			t.Errorf("only %d of 100 names have another counter with another key", differ)
		}
		if _, err := new(guard.Guard).SharedCounter(context.Background(), lan); err != nil {
			t.Errorf("without fingerprints: %v", err)
		}
		if _, err := (&guard.Guard{Fingerprints: otherKey{errBroken}}).SharedCounter(context.Background(), lan); !errors.Is(err, errBroken) {
			t.Errorf("error %v", err)
		}
	})
}

type otherKey struct{ err error }

func (k otherKey) Fingerprint(context.Context, []byte, auth.Secret) ([]byte, error) {
	return []byte("another key"), k.err
}

// How many newcomers an attack can affect: the same part of them as it has filled of the
// counters.
func TestAFullCounterHitsFewNewcomers(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		const filled, newcomers = 655, 50_000 // one counter in a hundred
		full := make(map[auth.Name]bool)
		for i := 0; len(full) < filled; i++ {
			full[b.counterOf(fmt.Sprint("phantom", i))] = true
		}
		hit := 0
		for i := range newcomers {
			if full[b.counterOf(fmt.Sprint("new-colleague", i))] {
				hit++
			}
		}
		if hit < newcomers/120 || hit > newcomers/80 {
			t.Errorf("%d of %d newcomers are hit, want one in a hundred", hit, newcomers)
		}
	})
}

// The clock was two months ahead for an hour: counters from then do not refuse for two months.
func TestASharedCounterOfAClockThatWasAheadIsEmpty(t *testing.T) {
	rules, now := auth.DefaultRules(), time.Date(2026, 2, 28, 23, 59, 0, 0, time.UTC)
	a := auth.Account{Name: "@00ff", Failures: 6}
	for range 6 {
		a.Mistakes = append(a.Mistakes, auth.Mistake{At: auth.AddMonths(now, 2), Source: office})
	}
	if rules.Locked(a, now) || rules.Slots(a, now) != 6 {
		t.Errorf("the counter is full, with %d slots", rules.Slots(a, now))
	}
	a.Name = "lan@example.vn"
	if rules.Slots(a, now) != 1 {
		t.Error("an account is treated alike")
	}
}

// The part of the room that one source takes in a day is limited, and so is the part
// that the sources of a network take together.
func TestOneSourceTakesAShareOfTheRoom(t *testing.T) {
	const room = 6400
	wrong := func(b *bench, from netip.AddrPort, login string) (shared bool) {
		b.t.Helper()
		v := b.from(from, login, "x")
		b.want(v, auth.WrongPassword)
		return v.Shared
	}
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.MaxUnknown = room }, func(b *bench) {
		b.store.MaxUnknown = room
		b.server.delay = 0
		beyond := 0
		for i := range 300 { // an office: no user is refused
			if wrong(b, elsewhere, fmt.Sprint("mistyped", i)) {
				beyond++
			}
		}
		if beyond != 200 {
			b.t.Errorf("%d of 300 names share a counter, want all but 100", beyond)
		}
		// Names that have a place keep it, and new names get none.
		if wrong(b, elsewhere, "mistyped7") {
			b.t.Error("a name that has a place shares a counter")
		}
		b.server.password["new-colleague@example.vn"] = good
		b.want(b.from(elsewhere, "new-colleague", good), auth.Accepted)
		if wrong(b, botnet(1), "elsewhere") {
			b.t.Error("another source has no share left")
		}
		// A day later the source has a new share.
		time.Sleep(24 * time.Hour)
		if wrong(b, elsewhere, "tomorrow") {
			b.t.Error("there is no new share after a day")
		}
	})
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.MaxUnknown = room }, func(b *bench) {
		b.store.MaxUnknown = room
		b.server.delay = 0
		for _, c := range []struct {
			network string
			want    int
		}{{"198.51.100.0/24", 200}, {"2001:db8:1::/48", 200}, {"2001:db8:100::/40", 400}, {"2001:db9::/32", 800}} {
			network, taken := netip.MustParsePrefix(c.network), 0
			for i := range 900 {
				from := inNetwork(network, i)
				if network.Addr().Is4() {
					octets := network.Addr().As4()
					octets[3] = byte(i)
					from = netip.AddrPortFrom(netip.AddrFrom4(octets), 40000)
				}
				if !wrong(b, from, fmt.Sprintf("n%d-%d", c.want, i)+strings.ReplaceAll(c.network[:9], ":", "-")) {
					taken++
				}
			}
			if taken != c.want {
				b.t.Errorf("a %s takes %d places, want %d", c.network, taken, c.want)
			}
		}
	})
}

// Attempts that leave nothing to remember return their place, and attempts on the same
// name take one place.
func TestOnlyNamesThatAreRememberedTakeAPlace(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.MaxUnknown = 640 }, func(b *bench) {
		b.store.MaxUnknown = 640 // ten places for a source
		for i := range 20 {
			login := fmt.Sprint("new-colleague", i)
			b.server.password[auth.Name(login+"@example.vn")] = good
			b.want(b.from(elsewhere, login, good), auth.Accepted)
		}
		b.server.answer = &auth.Answer{Judgement: auth.Unreached}
		for i := range 20 {
			b.want(b.from(elsewhere, fmt.Sprint("outage", i), "x"), auth.Unavailable)
		}
		b.server.answer = nil
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() { b.want(b.from(elsewhere, "mistyped", fmt.Sprint("guess", i)), auth.WrongPassword) })
		}
		wg.Wait()
		for i := range 12 {
			if v := b.from(elsewhere, fmt.Sprint("mistyped", i), "x"); v.Shared != (i >= 9) {
				b.t.Errorf("name %d: shared %v", i, v.Shared)
			}
		}
	})
}

// Support staff see why a name that is not an account is refused, and what helps.
func TestANewcomerOfAFullCounterIsHelpedByAnImport(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		ctx := context.Background()
		b.noRoom()
		logins, _ := b.sharing(2)
		newcomer := auth.Name(logins[1] + "@example.vn")
		b.server.password[newcomer] = good
		if until, err := b.guard.SharedFull(ctx, newcomer); !until.IsZero() || err != nil {
			b.t.Errorf("refused until %v, %v", until, err)
		}
		began := time.Now()
		for i := range 6 {
			b.want(b.try(logins[0], fmt.Sprint("guess", i)), auth.WrongPassword)
		}
		b.want(b.try(logins[1], good), auth.Locked)
		until, err := b.guard.SharedFull(ctx, newcomer)
		if err != nil || until.Before(began.Add(24*time.Hour)) || until.After(began.Add(24*time.Hour+time.Second)) {
			b.t.Errorf("refused until %v, %v", until, err)
		}
		_, err = b.guard.Unlock(ctx, newcomer, act)
		if !errors.Is(err, auth.ErrNothingToDo) || !errors.Is(err, guard.ErrSharedFull) || !strings.Contains(err.Error(), "congthu import accounts") {
			b.t.Errorf("unlock: %v", err)
		}
		if _, err := b.guard.Import(ctx, b.store, []auth.Imported{{Name: newcomer}}, act, guard.ImportOptions{}); err != nil {
			b.t.Fatal(err)
		}
		if until, err := b.guard.SharedFull(ctx, newcomer); !until.IsZero() || err != nil {
			b.t.Errorf("an account is refused until %v, %v", until, err)
		}
		b.want(b.try(logins[1], good), auth.Accepted)
	})
}

// While the lockout is in mode warn or off, no name is refused beyond the room.
func TestASharedCounterRefusesOnlyWhileTheRuleIsEnforced(t *testing.T) {
	for _, mode := range []auth.Mode{auth.Warn, auth.Off} {
		inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.Mode = mode }, func(b *bench) {
			b.store.MaxUnknown = 1
			b.want(b.try("occupant", "x"), auth.WrongPassword)
			for i := range 10 {
				b.want(b.try("stranger", fmt.Sprint("guess", i)), auth.WrongPassword)
			}
			if len(b.told.events) > 0 {
				b.t.Errorf("mode %v: events %+v", mode, b.told.events)
			}
		})
	}
}

// While the clock is suspect no time passes for a shared counter either.
func TestASuspectClockEmptiesNoSharedCounter(t *testing.T) {
	for _, watch := range []bool{false, true} {
		var ahead atomic.Int64
		inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
			g.WatchClock = watch
			g.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		}, func(b *bench) {
			b.noRoom()
			for i := range 6 {
				b.want(b.try("stranger", fmt.Sprint("guess", i)), auth.WrongPassword)
			}
			ahead.Store(int64(25 * time.Hour))
			want := auth.WrongPassword
			if watch {
				want = auth.Locked
			}
			b.want(b.try("stranger", "x"), want)
		})
	}
}
