package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/gateway/config"
)

// unused makes an account that has not logged in since a time.
func unused(t *testing.T, store *memory, name auth.Name, since time.Time) {
	t.Helper()
	_, err := store.Update(context.Background(), name, 0, func(a *auth.Account) ([]auth.Event, bool) {
		a.Registered, a.FirstLogin, a.LastLogin = since, since, since
		return nil, true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// revoked reports whether an account is marked, and the events that say so.
func revoked(t *testing.T, store *memory, name auth.Name) (marked bool, events []auth.Event) {
	t.Helper()
	a, err := store.Account(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	events, err = store.Events(context.Background(), auth.EventFilter{Account: name, Kinds: []auth.EventKind{auth.AccountRevoked}})
	if err != nil {
		t.Fatal(err)
	}
	return !a.Revocation.IsZero(), events
}

// Art. 5.3.c: the account is revoked, not only its next login refused.
func TestTheSweepRevokesWhatIsDormantAndEndsItsSessions(t *testing.T) {
	o := newOffice(t)
	const binh = "binh@example.vn"
	o.imap.Accounts[binh] = "Mat-khau-1"
	o.open()
	login := func(user string) *phone {
		p := o.phone()
		p.say("a LOGIN " + user + ` "Mat-khau-1"`)
		p.read("a OK")
		return p
	}
	reading, other := login("lan"), login("binh")
	sending := o.sender()
	sending.say("AUTH PLAIN " + plain(lan, "Mat-khau-1"))
	sending.read("235 ")

	unused(t, o.store, lan, auth.AddMonths(time.Now(), -13))
	unused(t, o.store, binh, auth.AddMonths(time.Now(), -11))
	sweep := func() { // the daily jobs themselves are another goroutine's
		t.Helper()
		if _, err := o.gateway.guard.Sweep(context.Background(), o.store); err != nil {
			t.Fatal(err)
		}
	}
	sweep()

	marked, events := revoked(t, o.store, lan)
	if !marked || len(events) != 1 {
		t.Fatalf("marked %v, events %+v", marked, events)
	}
	if e := events[0]; e.Actor != auth.ByGateway || e.Before != "active" || e.After != "revoked" || !strings.Contains(e.Reason, "not logged in to since") {
		t.Errorf("the audit log says %+v", e)
	}
	if rest := reading.ended(); rest != "" {
		t.Errorf("a spliced session was ended with words: %q", rest)
	}
	if rest := sending.ended(); !strings.HasPrefix(rest, "421 ") {
		t.Errorf("the submission session was ended with %q", rest)
	}
	p := o.phone()
	p.say(`a LOGIN lan "Mat-khau-1"`)
	p.read("a NO [CONTACTADMIN]")
	// An account is dormant after 12 months, not before.
	other.say("b NOOP")
	other.read("b OK")
	if marked, events := revoked(t, o.store, binh); marked || len(events) > 0 {
		t.Errorf("an account unused for 11 months: marked %v, %+v", marked, events)
	}
	// Once.
	sweep()
	if _, events := revoked(t, o.store, lan); len(events) != 1 {
		t.Errorf("after another sweep: %+v", events)
	}
}

// slow is a store with so many accounts that reading them takes long.
type slow struct {
	*memory
	takes atomic.Int64 // nanoseconds
}

func (s *slow) List(ctx context.Context, want auth.Filter) ([]auth.Account, error) {
	time.Sleep(time.Duration(s.takes.Load()))
	return s.memory.List(ctx, want)
}

func TestTheSweepComesEveryDayHoweverSlowTheStoreIs(t *testing.T) {
	o := newOffice(t)
	o.write("")
	c, err := config.Load(o.file)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		store := &slow{memory: o.store}
		store.takes.Store(int64(countEvery + 2*time.Minute)) // it is always counting
		g := &Gateway{Store: store, Metrics: o.counts, Log: slog.New(slog.NewTextHandler(o.log, nil))}
		if err := g.assemble(c, false); err != nil {
			t.Fatal(err)
		}
		unused(t, o.store, lan, auth.AddMonths(time.Now(), -13))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.sweepDaily(ctx) }()
		// rules.dormancy.sweep_at is 02:30 in Viet Nam. The bubble begins at
		// midnight UTC, 7 o'clock there.
		sweep := time.Date(2000, 1, 1, 19, 30, 0, 0, time.UTC)
		time.Sleep(time.Until(sweep))
		if marked, _ := revoked(t, o.store, lan); marked {
			t.Error("revoked before the time of the sweep")
		}
		time.Sleep(30 * time.Minute)
		if marked, _ := revoked(t, o.store, lan); !marked {
			t.Error("not revoked by the sweep of the day")
		}
		time.Sleep(24 * time.Hour)
		if n := strings.Count(o.log.String(), "swept for dormant accounts"); n != 2 {
			t.Errorf("%d sweeps on two days", n)
		}
		// A new time of the sweep is in force at once. It is 3 o'clock.
		store.takes.Store(0)
		time.Sleep(10 * time.Minute)
		o.settings = strings.Replace(o.settings, "rules: {", `rules: { dormancy: { sweep_at: "03:11" },`, 1)
		o.write("")
		g.Load = func() (*config.Config, error) { return config.Load(o.file) }
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := strings.Count(o.log.String(), "swept for dormant accounts"); n != 3 {
			t.Errorf("%d sweeps, one of them at a new time", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// old appends events to the audit log that are so many days old.
func old(t *testing.T, store *memory, days ...int) {
	t.Helper()
	_, err := store.Update(context.Background(), lan, 0, func(a *auth.Account) (events []auth.Event, _ bool) {
		a.Registered = time.Now()
		for _, d := range days {
			events = append(events, auth.Event{At: time.Now().AddDate(0, 0, -d), Kind: auth.PasswordWrong, Account: lan, Actor: auth.ByUser})
		}
		return events, true
	})
	if err != nil {
		t.Fatal(err)
	}
}

// broken is a store whose audit log does not verify.
type broken struct{ *memory }

func (broken) Verify(context.Context, func(checked, total int64)) (audit.Head, error) {
	return audit.Head{}, &audit.BrokenChain{Seq: 2, Why: "the event is missing"}
}

func TestTheSweepRemovesOldEventsOfALogThatVerifies(t *testing.T) {
	for name, c := range map[string]struct {
		setting string
		broken  bool
		removed int64
	}{
		"by default after 400 days":       {"", false, 2},
		"as set":                          {"audit: { keep_days: 40 }\n", false, 3},
		"never":                           {"audit: { keep_days: 0 }\n", false, 0},
		"nothing of a log that is broken": {"", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			o.write(c.setting)
			loaded, err := config.Load(o.file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				var store Store = o.store
				if c.broken {
					store = broken{o.store}
				}
				g := &Gateway{Store: store, Metrics: o.counts, Log: slog.New(slog.NewTextHandler(o.log, nil))}
				if err := g.assemble(loaded, false); err != nil {
					t.Fatal(err)
				}
				old(t, o.store, 402, 401, 395, 39, 1)
				g.sweep(t.Context())
				gone, err := o.store.Removed(t.Context())
				if err != nil || gone.Seq != c.removed {
					t.Errorf("%d events were removed, %v; want %d", gone.Seq, err, c.removed)
				}
				oldest, err := audit.OldestEvent(t.Context(), o.store)
				if err != nil {
					t.Fatal(err)
				}
				if !o.counts.oldest.Equal(oldest.At) {
					t.Errorf("the metrics were told that the oldest event is of %v, want %v", o.counts.oldest, oldest.At)
				}
				if told := strings.Contains(o.log.String(), "old events were removed from the audit log"); told != (c.removed > 0) {
					t.Errorf("the log tells of it: %v\n%s", told, o.log)
				}
			})
		})
	}
}

// Mail programs show the text of a greeting, and ask for no password.
func TestSubmissionGreetsWithTheOutageOfTheMailServer(t *testing.T) {
	o := newOffice(t)
	o.open()
	before := o.sender()
	for o.gateway.health[auth.SMTP].Load() == nil { // the first probe; the next one is in 15 s
		time.Sleep(time.Millisecond)
	}
	o.gateway.recordProbe(t.Context(), auth.SMTP, errors.New("connection refused"))
	p := o.dial(o.submit)
	p.read("421 4.3.2 He thong tam thoi ban, vui long thu lai sau / Temporarily unavailable, please try again later")
	before.say("NOOP")
	before.read("250 ")
	o.gateway.recordProbe(t.Context(), auth.SMTP, nil)
	o.sender()
}
