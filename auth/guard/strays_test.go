package guard_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
)

// twin is a name of lan's mailbox from before the domains became one, front a name from
// before it became an alias.
const (
	twin  = auth.Name("lan@other.vn")
	front = auth.Name("front@example.vn")
)

// twins treats both as lan.
func twins() *auth.Namer {
	return &auth.Namer{
		Default: "example.vn", Domains: map[string]bool{"other.vn": true}, LocalNames: true,
		Aliases: map[auth.Name]auth.Name{front: lan},
	}
}

// inTwins runs a test over a store that has rows under other names.
func inTwins(t *testing.T, rows []auth.Account, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, row := range rows {
			put(t, b.store, row)
		}
		b.guard.SetPolicy(guard.Policy{Names: twins(), Rules: auth.DefaultRules()})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.guard.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		test(b)
	})
}

func put(t testing.TB, store auth.Store, row auth.Account) {
	t.Helper()
	if _, err := store.Update(context.Background(), row.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
		*a = row
		return nil, true
	}); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, store auth.Store, name auth.Name) auth.Account {
	t.Helper()
	a, err := store.Account(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a.Normalized()
}

func (b *bench) learn() guard.NamesLearned {
	b.t.Helper()
	found, err := b.guard.LearnNames(context.Background(), b.store)
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

var (
	lastYear   = time.Date(1999, 3, 1, 0, 0, 0, 0, time.UTC) // in a bubble it is 2000
	adminsLock = auth.Lock{Mark: auth.Mark{At: lastYear, By: "An", Reason: "left the office"}, Cause: auth.ByAdmin}
	wrongLock  = auth.Lock{Mark: auth.Mark{At: lastYear, By: auth.ByGateway, Reason: "6 wrong passwords"}, Cause: auth.ByWrongPasswords}
	sweptAway  = auth.Mark{At: lastYear, By: auth.ByGateway, Reason: "not logged in to"}
)

func known(name auth.Name, change func(*auth.Account)) auth.Account {
	at := auth.AddMonths(lastYear, 9)
	a := auth.Account{Name: name, Registered: at, FirstLogin: at, LastLogin: at}
	if change != nil {
		change(&a)
	}
	return a
}

func TestStraysApplyToTheirAccount(t *testing.T) {
	for what, c := range map[string]struct {
		row   auth.Account
		want  auth.Outcome
		asked bool // the mail server is asked
	}{
		"an admin's lock":                  {known(twin, func(a *auth.Account) { a.Lock = adminsLock }), auth.Locked, false},
		"a lock by wrong passwords":        {known(twin, func(a *auth.Account) { a.Lock, a.Failures = wrongLock, 6 }), auth.Locked, false},
		"a lock of a name without a login": {auth.Account{Name: twin, Lock: wrongLock, Failures: 6}, auth.Locked, false},
		"a lock of what is an alias now":   {known(front, func(a *auth.Account) { a.Lock = adminsLock }), auth.Locked, false},
		"a revocation":                     {known(twin, func(a *auth.Account) { a.Revocation = sweptAway }), auth.Revoked, true},
		"disuse": {known(twin, func(a *auth.Account) {
			a.FirstLogin, a.LastLogin = auth.AddMonths(lastYear, -60), auth.AddMonths(lastYear, -60)
		}), auth.Accepted, true},
		"nothing": {known(twin, nil), auth.Accepted, true},
	} {
		t.Run(what, func(t *testing.T) {
			inTwins(t, []auth.Account{c.row}, func(b *bench) {
				for _, learned := range []bool{false, true} {
					if learned {
						if n := b.learn().Strays; n != 1 {
							t.Errorf("%d rows with another name were found, want 1", n)
						}
					}
					for _, login := range []string{"lan", string(twin), string(front)} {
						asked := false
						v := b.guard.Attempt(context.Background(), auth.Attempt{
							Login: login, Password: auth.NewSecret("right"), Source: office,
							Verify: func(_ context.Context, name auth.Name) auth.Answer {
								if asked = true; name != lan {
									t.Errorf("the mail server is asked about %s", name)
								}
								return auth.Answer{Judgement: auth.JudgedRight}
							},
						})
						b.want(v, c.want)
						if asked != c.asked || v.Name != lan {
							t.Errorf("%s, learned %v: %s, the mail server was asked: %v, want %v", login, learned, v.Name, asked, c.asked)
						}
					}
				}
			})
		})
	}
}

func TestALockUnderAnotherNameIsSeenByTheLoginThatItOvertakes(t *testing.T) {
	inTwins(t, []auth.Account{known(lan, nil), known(twin, nil)}, func(b *bench) {
		b.learn()
		v := b.guard.Attempt(context.Background(), auth.Attempt{
			Login: "lan", Password: auth.NewSecret("right"), Source: office,
			Verify: func(context.Context, auth.Name) auth.Answer {
				put(t, b.store, known(twin, func(a *auth.Account) { a.Lock = adminsLock }))
				return auth.Answer{Judgement: auth.JudgedRight}
			},
		})
		b.want(v, auth.Locked)
	})
}

// A gateway of an earlier version runs beside this one for a while.
func TestEventsOfAGatewayThatUsesTheOtherNameApply(t *testing.T) {
	inTwins(t, []auth.Account{known(lan, nil)}, func(b *bench) {
		b.guard.StoreGrace = time.Hour
		if n := b.learn().Strays; n != 0 {
			t.Fatalf("%d rows with another name were found, want none", n)
		}
		b.want(b.try("lan", good), auth.Accepted)
		put(t, b.store, known(twin, func(a *auth.Account) { a.Lock = adminsLock }))
		b.guard.OnRemoteEvent(auth.Event{Kind: auth.AccountLocked, Account: twin, Actor: "An"})
		if !slices.Equal(b.ended, []auth.Name{lan}) {
			t.Errorf("sessions ended of %v, want of %s", b.ended, lan)
		}
		b.want(b.try("lan", good), auth.Locked)
		b.broken.Store(unreachable)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		b.broken.Store(nil)
	})
}

func TestTheSweepDoesNotRevokeAStray(t *testing.T) {
	inTwins(t, []auth.Account{known(lan, nil), known(twin, func(a *auth.Account) {
		a.FirstLogin, a.LastLogin = auth.AddMonths(lastYear, -60), auth.AddMonths(lastYear, -60)
	})}, func(b *bench) {
		swept, err := b.guard.Sweep(context.Background(), b.store)
		if err != nil || swept.Revoked != 0 {
			t.Errorf("revoked %d, %v; want none", swept.Revoked, err)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestLearnedNamesMakeLoginsNoSlower(t *testing.T) {
	count := func(names *auth.Namer) (operations int) {
		b := newBench(t)
		b.store.Fail = func(auth.StoreOp) error { operations++; return nil }
		b.guard.SetPolicy(guard.Policy{Names: names, Rules: auth.DefaultRules()})
		b.learn()
		operations = 0
		b.want(b.try("lan", good), auth.Accepted)
		return operations
	}
	if with, without := count(twins()), count(&auth.Namer{Default: "example.vn"}); with != without {
		t.Errorf("%d operations of the store, %d where there can be no other name", with, without)
	}
}

func TestAMergeEndsTheOtherNameAndTheAuditLogHasBoth(t *testing.T) {
	rows := []auth.Account{
		known(lan, nil), known(twin, func(a *auth.Account) { a.Lock = adminsLock }), known(front, func(a *auth.Account) { a.Failures = 2 }),
	}
	inTwins(t, rows, func(b *bench) {
		ctx := context.Background()
		if _, err := b.guard.Merge(ctx, lan, auth.Act{Actor: "An", Reason: " "}, false); !errors.Is(err, auth.ErrReasonMissing) {
			t.Errorf("without a reason: %v", err)
		}
		would, err := b.guard.Merge(ctx, lan, auth.Act{}, true)
		if err != nil || len(would.From) != 2 || would.Account.Lock.Cause != auth.ByAdmin || len(b.told.kinds) != 0 || get(t, b.store, twin).Blank() {
			t.Errorf("a dry run: %+v, %v, told %v", would, err, b.told.kinds)
		}
		all, err := b.guard.MergeAll(ctx, b.store, clerk, false)
		if err != nil || len(all) != 1 || len(all[0].From) != 2 || all[0].Account.Lock.Cause != auth.ByAdmin || all[0].Account.Failures != 2 {
			t.Fatalf("%+v, %v", all, err)
		}
		for _, name := range []auth.Name{twin, front} {
			if a := get(t, b.store, name); !a.Blank() {
				t.Errorf("still there: %+v", a)
			}
			events, err := b.store.Events(ctx, auth.EventFilter{Account: name})
			if err != nil || len(events) != 1 || events[0].Kind != auth.AccountMerged || events[0].After != "merged into lan@example.vn" || events[0].Actor != clerk.Actor {
				t.Errorf("%s: %+v, %v", name, events, err)
			}
		}
		if !slices.Contains(b.ended, lan) {
			t.Error("the sessions of an account that is locked now are still open")
		}
		b.want(b.try("lan", good), auth.Locked)
		if _, err := b.guard.Unlock(ctx, lan, clerk); err != nil {
			t.Fatal(err)
		}
		b.want(b.try(string(twin), good), auth.Accepted)
		if _, err := b.guard.Merge(ctx, lan, clerk, false); !errors.Is(err, auth.ErrNothingToDo) {
			t.Errorf("once more: %v", err)
		}
		if all, err := b.guard.MergeAll(ctx, b.store, clerk, false); err != nil || len(all) != 0 {
			t.Errorf("all once more: %+v, %v", all, err)
		}
	})
}

func TestAnInterruptedMergeCanBeRepeated(t *testing.T) {
	for cut := 1; cut <= 2; cut++ {
		for _, after := range []bool{false, true} {
			inTwins(t, []auth.Account{known(lan, nil), known(twin, func(a *auth.Account) { a.Lock = adminsLock })}, func(b *bench) {
				b.learn()
				updates := 0
				fail := func(op auth.StoreOp) error {
					if op == auth.OpUpdate {
						if updates++; updates == cut {
							return errBroken
						}
					}
					return nil
				}
				if after {
					b.store.Fail, b.store.FailAfter = nil, fail
				} else {
					b.store.Fail, b.store.FailAfter = fail, nil
				}
				if _, err := b.guard.Merge(context.Background(), lan, clerk, false); !errors.Is(err, errBroken) {
					t.Fatalf("cut at write %d: %v", cut, err)
				}
				b.store.Fail, b.store.FailAfter = nil, nil
				b.want(b.try("lan", good), auth.Locked)
				if _, err := b.guard.Merge(context.Background(), lan, clerk, false); err != nil && !errors.Is(err, auth.ErrNothingToDo) {
					t.Fatal(err)
				}
				if a := get(t, b.store, twin); !a.Blank() || get(t, b.store, lan).Lock.Cause != auth.ByAdmin {
					t.Errorf("afterwards: %+v, %+v", get(t, b.store, lan), a)
				}
				b.want(b.try("lan", good), auth.Locked)
			})
		}
	}
}

// changing is a store in which another process changes the row of the other name before
// each write of it, a few times.
type changing struct {
	*storetest.Model
	times int
}

func (c *changing) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	if name == twin && c.times > 0 {
		c.times--
		if _, err := c.Model.Update(ctx, twin, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Failures++
			return nil, true
		}); err != nil {
			return auth.Account{}, err
		}
	}
	return c.Model.Update(ctx, name, r, change)
}

func TestFailuresCountedDuringAMergeAreNotLost(t *testing.T) {
	for times, want := range map[int]string{3: "", 50: "another gateway"} {
		store := &changing{new(storetest.Model), 0}
		put(t, store, known(twin, nil))
		store.times = times
		g := &guard.Guard{Store: store}
		g.SetPolicy(guard.Policy{Names: twins(), Rules: auth.DefaultRules()})
		merged, err := g.Merge(t.Context(), lan, clerk, false)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%d changes: %v, want an error about %s", times, err, want)
		case want == "" && (err != nil || merged.Account.Failures != times || !get(t, store, twin).Blank()):
			t.Errorf("%d changes: %+v, %v", times, merged.Account, err)
		}
	}
}

func TestAMergeDoesNotWriteANameWithoutALogin(t *testing.T) {
	inTwins(t, []auth.Account{known(lan, nil), {Name: twin, Failures: 3, Mistakes: []auth.Mistake{{At: lastYear}}}}, func(b *bench) {
		if _, err := b.guard.Merge(context.Background(), lan, clerk, false); err != nil {
			t.Fatal(err)
		}
		events, err := b.store.Events(context.Background(), auth.EventFilter{Account: lan, Kinds: []auth.EventKind{auth.AccountMerged}})
		if err != nil || len(events) != 1 || strings.Contains(events[0].After, "other.vn") || !strings.Contains(events[0].After, "another name") {
			t.Errorf("%+v, %v", events, err)
		}
	})
}
