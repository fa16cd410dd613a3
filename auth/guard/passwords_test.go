package guard_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/throttle"
)

// right tries a password that the mail server accepts, possibly beside others.
func (b *bench) right(password string) auth.Verdict {
	b.server.password[lan] = password
	v := b.try("lan", password)
	synctest.Wait() // the fingerprint is stored
	return v
}

// restart continues with another process on the same store.
func (b *bench) restart(change func(*guard.Guard)) { b.guard = b.process(change) }

// Article 9: a password is refused when it is older than 3 months, even if other
// passwords are accepted beside it.
func TestTheAgeOfAPasswordIsItsOwn(t *testing.T) {
	type login struct {
		day      int
		password string
		want     auth.Outcome
	}
	for name, logins := range map[string][]login{
		"one password": {{0, "A", auth.Accepted}, {80, "A", auth.Accepted}, {100, "A", auth.Expired}, {400, "A", auth.Expired}},
		"a change":     {{0, "A", auth.Accepted}, {60, "B", auth.Accepted}, {100, "B", auth.Accepted}, {160, "B", auth.Expired}},
		"a main password that has run out, and a password of a program": {
			{0, "main", auth.Accepted}, {100, "main", auth.Expired}, {100, "app", auth.Accepted}, {100, "main", auth.Expired},
			{101, "app", auth.Accepted}, {150, "main", auth.Expired}, {150, "app", auth.Accepted}, {200, "app", auth.Expired},
		},
		"there and back": {
			{0, "A", auth.Accepted}, {60, "B", auth.Accepted}, {61, "A", auth.Accepted}, {100, "A", auth.Expired},
			{100, "B", auth.Accepted}, {100, "A", auth.Expired}, {170, "B", auth.Expired},
		},
		"there and back at once": {
			{0, "A", auth.Accepted}, {100, "A", auth.Expired}, {100, "B", auth.Accepted}, {100, "A", auth.Expired},
		},
		"three in turn": {
			{0, "A", auth.Accepted}, {30, "B", auth.Accepted}, {60, "C", auth.Accepted}, {61, "A", auth.Accepted}, {62, "B", auth.Accepted},
			{95, "A", auth.Expired}, {95, "B", auth.Accepted}, {95, "C", auth.Accepted}, {130, "B", auth.Expired}, {130, "C", auth.Accepted},
		},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/restarts %v", name, restarts), func(t *testing.T) {
				inBubble(t, nil, func(b *bench) {
					began := time.Now()
					for _, l := range logins {
						time.Sleep(time.Until(began.AddDate(0, 0, l.day)))
						if restarts {
							ctx, cancel := context.WithCancel(context.Background())
							b.restart(nil)
							go b.guard.Run(ctx)
							defer cancel()
						}
						if v := b.right(l.password); v.Outcome != l.want {
							t.Errorf("day %d, %s: %v (%v), want %v", l.day, l.password, v.Outcome, v.Err, l.want)
						}
					}
				})
			})
		}
	}
}

func TestAPhoneWithAnyEarlierPasswordLocksNoAccount(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				for _, p := range []string{"A", "B", "C", "D"} {
					b.want(b.right(p), auth.Accepted)
				}
				if restarted {
					b.restart(nil)
				}
				for range 10 {
					for _, p := range []string{"A", "B", "C"} {
						b.want(b.try("lan", p), auth.PreviousPassword)
					}
				}
				b.want(b.try("lan", "D"), auth.Accepted)
				if a := b.account(); a.Failures != 0 || a.Lock.Cause != auth.NotLocked {
					b.t.Errorf("%d failures, lock %+v; want none", a.Failures, a.Lock)
				}
			})
		})
	}
}

func TestTheStrictestReadingCountsAnyEarlierPassword(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountPrevious = true }, func(b *bench) {
		for _, p := range []string{"A", "B", "C"} {
			b.want(b.right(p), auth.Accepted)
		}
		for _, p := range []string{"A", "B", "A", "B", "A", "B"} {
			b.want(b.try("lan", p), auth.WrongPassword)
		}
		b.want(b.try("lan", "C"), auth.Locked)
	})
}

// An earlier password does not prove the owner: leaked lists of passwords are tried at
// many accounts.
func TestTheThrottleCountsEarlierPasswordsOfSourcesThatAreNotProven(t *testing.T) {
	stranger := netip.MustParseAddrPort("203.0.113.7:4000")
	throttled := func(g *guard.Guard, _ *auth.Rules) { g.Throttle = &throttle.Throttle{Failures: 3} }
	from := func(b *bench, source netip.AddrPort, password string) auth.Verdict {
		return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Source: source})
	}
	inBubble(t, throttled, func(b *bench) {
		b.want(b.right("A"), auth.Accepted)
		b.want(b.right("B"), auth.Accepted)
		for range 3 {
			b.want(from(b, stranger, "A"), auth.PreviousPassword)
		}
		b.want(from(b, stranger, "A"), auth.Throttled)
		for range 20 {
			b.want(from(b, office, "A"), auth.PreviousPassword)
		}
		b.want(from(b, office, "B"), auth.Accepted)
		if a := b.account(); a.Failures != 0 {
			b.t.Errorf("%d failures, want none", a.Failures)
		}
	})
}

func TestPasswordsInTurnCostNoFingerprint(t *testing.T) {
	var fingerprints watchedFingerprints
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Fingerprints = &fingerprints }, func(b *bench) {
		turns := []string{"main", "phone", "tablet"}
		for day := range 120 { // the first ones have expired at the end
			for _, p := range turns {
				b.right(p)
			}
			if n := fingerprints.made.Load(); int(n) != len(turns) {
				b.t.Fatalf("day %d: %d fingerprints made of %d passwords", day, n, len(turns))
			}
			time.Sleep(24 * time.Hour)
		}
		b.want(b.right("main"), auth.Expired)
	})
}

func TestPasswordsThatWorkBesideEachOtherAreKnownGood(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.right("main")
		b.right("phone")
		for range 10 {
			for _, p := range []string{"main", "phone"} {
				if v := b.right(p); v.Outcome != auth.Accepted || !v.KnownGood {
					b.t.Errorf("%s: %v, known good %v", p, v.Outcome, v.KnownGood)
				}
			}
		}
		// A change of one does not affect the others.
		b.server.password[lan] = "phone"
		b.want(b.try("lan", "main"), auth.PreviousPassword)
		if v := b.try("lan", "main"); v.Outcome != auth.PreviousPassword || v.KnownGood {
			b.t.Errorf("changed: %v, known good %v", v.Outcome, v.KnownGood)
		}
		if v := b.try("lan", "phone"); v.Outcome != auth.Accepted || !v.KnownGood {
			b.t.Errorf("not changed: %v, known good %v", v.Outcome, v.KnownGood)
		}
	})
}

func TestTheSeventeenthPasswordIsAsOldAsTheFirst(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				began := time.Now()
				for i := range 17 {
					b.want(b.right(fmt.Sprint("password ", i)), auth.Accepted)
					time.Sleep(24 * time.Hour)
				}
				b.want(b.right("password 16"), auth.Accepted)
				for i := range 16 { // none was dropped
					b.server.password[lan] = "password 16"
					b.want(b.try("lan", fmt.Sprint("password ", i)), auth.PreviousPassword)
				}
				if a := b.account(); len(a.Password.Known) != auth.MaxPasswords+1 || !a.Password.Since.Equal(a.Password.Known[0].Since) {
					b.t.Errorf("%d passwords remembered, the last since %s; want 17, and the day of the first", len(a.Password.Known), a.Password.Since)
				}
				if n := b.told.count(auth.PasswordChanged); n != 16 {
					b.t.Errorf("%d changes told, want 16", n)
				}
				if restarted {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					b.restart(nil)
					go b.guard.Run(ctx)
				}
				time.Sleep(time.Until(began.AddDate(0, 0, 90)))
				b.want(b.right("password 16"), auth.Accepted)
				b.want(b.right("password 17"), auth.Accepted) // replaces the one before it
				if a := b.account(); len(a.Password.Known) != auth.MaxPasswords+1 || !a.Password.Since.Equal(a.Password.Known[0].Since) {
					b.t.Errorf("%d passwords remembered, the last since %s; want 17, and the day of the first", len(a.Password.Known), a.Password.Since)
				}
				time.Sleep(time.Until(began.AddDate(0, 0, 92)))
				b.want(b.right("password 17"), auth.Expired)
				b.want(b.right("password 0"), auth.Expired)
				b.want(b.right("password 15"), auth.Accepted)
				b.want(b.right("password 18"), auth.Accepted) // in the place of the first
				if a := b.account(); len(a.Password.Known) != auth.MaxPasswords || a.Password.Since.Before(began.AddDate(0, 0, 92)) {
					b.t.Errorf("%d passwords remembered, the last since %s; want 16, and today", len(a.Password.Known), a.Password.Since)
				}
			})
		})
	}
}

func TestFrequentChangesOfThePasswordAreNeverRefused(t *testing.T) {
	for _, days := range []int{5, 10, 30, 80} {
		t.Run(fmt.Sprint("every ", days, " days"), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				for i := range 60 {
					for range 2 {
						b.want(b.right(fmt.Sprint("password ", i)), auth.Accepted)
					}
					time.Sleep(time.Duration(days) * 24 * time.Hour)
				}
			})
		})
	}
}

func TestGraceExtendsEveryExpiredPassword(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.right("main"), auth.Accepted)
		time.Sleep(100 * 24 * time.Hour)
		b.want(b.right("app"), auth.Accepted)
		b.want(b.right("main"), auth.Expired)
		if _, err := b.guard.Grace(context.Background(), lan, 3, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.right("main"), auth.Accepted)
		b.want(b.right("app"), auth.Accepted)
		time.Sleep(3 * 24 * time.Hour)
		b.want(b.right("main"), auth.Expired)
		b.want(b.right("app"), auth.Accepted)
	})
}

func TestTheUserIsAlertedOfThePasswordThatIsUsed(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		alert := func(password string) bool {
			b.server.password[lan] = password
			v := b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Protocol: auth.IMAP})
			synctest.Wait()
			b.want(v, auth.Accepted)
			return v.Alert
		}
		alert("main")
		time.Sleep(85 * 24 * time.Hour)
		if alert("app") {
			b.t.Error("alerted with a new password")
		}
		if !alert("main") {
			b.t.Error("not alerted with a password that expires")
		}
	})
}

func TestAnImportedDateIsThatOfThePasswordSeenFirst(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		now := time.Now()
		list := []auth.Imported{{Name: lan, PasswordChanged: now.AddDate(0, 0, -60)}}
		if _, err := b.guard.Import(context.Background(), b.store, list, act, guard.ImportOptions{}); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.right("main"), auth.Accepted)
		b.want(b.right("app"), auth.Accepted)
		// After they were seen here, the dates of lists are ignored.
		list[0].PasswordChanged = now.AddDate(0, 0, -1)
		if _, err := b.guard.Import(context.Background(), b.store, list, act, guard.ImportOptions{}); err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(40 * 24 * time.Hour)
		b.want(b.right("main"), auth.Expired)
		b.want(b.right("app"), auth.Accepted)
		b.want(b.right("main"), auth.Expired)
	})
}

// A mail server that truncates passwords accepts many as one: each is a password of its
// own here, and no more are remembered than the limit.
func TestPasswordsThatAMailServerDoesNotDistinguishAreDistinct(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for day := range 90 {
			b.want(b.right(fmt.Sprint("Mat-khau", day)), auth.Accepted)
			time.Sleep(24 * time.Hour)
		}
		if a := b.account(); len(a.Password.Known) != auth.MaxPasswords+1 || a.Password.Since.After(a.Password.Known[0].Since) {
			b.t.Errorf("%d remembered, the newest since %s", len(a.Password.Known), a.Password.Since)
		}
		time.Sleep(2 * 24 * time.Hour)
		b.want(b.right("Mat-khau89"), auth.Expired)
	})
}

func TestTheWouldBeOutcomeIsOfThePasswordThatIsUsed(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Password.Mode = auth.Warn }, func(b *bench) {
		b.right("main")
		time.Sleep(100 * 24 * time.Hour)
		for range 2 {
			for password, want := range map[string]auth.Outcome{"main": auth.Expired, "app": auth.Accepted} {
				if v := b.right(password); v.Outcome != auth.Accepted || v.Would != want {
					b.t.Errorf("%s: %v, would be %v; want accepted, and %v", password, v.Outcome, v.Would, want)
				}
			}
		}
	})
}

func TestWithoutTheStoreEachPasswordHasItsOwnAge(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.StoreGrace = time.Hour }, func(b *bench) {
		b.right("main")
		time.Sleep(60 * 24 * time.Hour)
		b.right("app")
		b.right("main")
		time.Sleep(40 * 24 * time.Hour)
		b.want(b.right("app"), auth.Accepted)
		b.broken.Store(unreachable)
		b.want(b.right("main"), auth.StoreUnavailable)
		b.want(b.right("app"), auth.Accepted)
		b.broken.Store(nil)
		b.want(b.right("main"), auth.Expired)
	})
}

// A phone at a place from which its owner logged in before takes nothing of the room of
// users who log in there for the first time.
func TestAnEarlierPasswordDoesNotCountAtARememberedSource(t *testing.T) {
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) { g.Throttle = &throttle.Throttle{Accounts: 1} }, func(b *bench) {
		b.want(b.right("A"), auth.Accepted)
		b.want(b.right("B"), auth.Accepted)
		time.Sleep(48 * time.Hour)
		b.restart(func(g *guard.Guard) { g.Throttle = &throttle.Throttle{Accounts: 1} })
		b.want(b.try("lan", "A"), auth.PreviousPassword)
		b.want(b.try("newcomer", "mistyped"), auth.WrongPassword)
	})
}

func TestAPhoneWithThePreviousPasswordLocksNoAccount(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				b.want(b.try("lan", good), auth.Accepted)
				synctest.Wait() // the fingerprint is stored
				b.server.password[lan] = "Mat-khau-2"
				if restarted {
					// Another process on the same store, with an empty memory.
					other := &guard.Guard{Store: b.store, Fingerprints: plainFingerprints{}, Recorder: b.told}
					other.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "example.vn"}, Rules: auth.DefaultRules()})
					b.guard = other
				}
				for range 20 {
					b.want(b.try("lan", good), auth.PreviousPassword)
				}
				b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
				if !restarted {
					synctest.Wait()
					b.want(b.try("lan", good), auth.PreviousPassword)
				}
				if a := b.account(); a.Failures != 0 || a.Stale.At.IsZero() {
					b.t.Errorf("%d failures, stale device %+v; want none and its trace", a.Failures, a.Stale)
				}
			})
		})
	}
}

func TestTheStrictestReadingCountsThePreviousPassword(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountPrevious = true }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		b.server.password[lan] = "Mat-khau-2"
		for range 6 {
			b.want(b.try("lan", good), auth.WrongPassword)
		}
		b.want(b.try("lan", "Mat-khau-2"), auth.Locked)
	})
}

func TestAnExpiredPasswordIsRefusedUntilItIsChanged(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		time.Sleep(100 * 24 * time.Hour)
		lastLogin := b.account().LastLogin
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Expired)
		if a := b.account(); a.Failures != 1 || !a.LastLogin.Equal(lastLogin) {
			b.t.Errorf("%d failures, last login %v: an expired verdict is no login and resets nothing", a.Failures, a.LastLogin)
		}

		if _, err := b.guard.Grace(context.Background(), lan, 8, act); !errors.Is(err, auth.ErrOutOfRange) {
			b.t.Errorf("eight days of grace give %v", err)
		}
		if _, err := b.guard.Grace(context.Background(), lan, 7, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(7 * 24 * time.Hour)
		b.want(b.try("lan", good), auth.Expired)

		b.server.password[lan] = "Mat-khau-2"
		b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
		if b.told.count(auth.PasswordChanged) != 1 {
			b.t.Errorf("events %v, want one change", b.told.kinds)
		}
		time.Sleep(80 * 24 * time.Hour)
		b.want(b.try("lan", "Mat-khau-2"), auth.Accepted)
	})
}

func TestTheUserIsAlertedOncePerDayBeforeThePasswordExpires(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted) // 1 January 2000, 07:00 in Vietnam
		time.Sleep(85 * 24 * time.Hour)
		alerts := 0
		for range 5 {
			v := b.try("lan", good)
			b.want(v, auth.Accepted)
			if v.Alert {
				alerts++
				if v.ExpiresIn != 6 {
					b.t.Errorf("runs out in %d days, want 6", v.ExpiresIn)
				}
			}
		}
		if alerts != 1 {
			b.t.Errorf("%d alerts on one day, want 1", alerts)
		}
		time.Sleep(24 * time.Hour)
		if v := b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Protocol: auth.SMTP}); v.Alert {
			b.t.Error("an alert that SMTP cannot show was used up")
		}
		if v := b.try("lan", good); !v.Alert {
			b.t.Error("no alert on the next day")
		}
	})
}

// Some mail programs do not show the alert, so each program gets it, identified by its
// name or else by its address, and at most once more after a restart.
func TestEachMailProgramIsAlertedOncePerDay(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(85 * 24 * time.Hour)
		for day := range 2 {
			alerts := make(map[string]int)
			key := func(program string, source netip.AddrPort) string {
				if program == "" {
					return source.Addr().String()
				}
				return program
			}
			for range 5 {
				for _, c := range []struct {
					program string
					source  netip.AddrPort
				}{{"Geary", office}, {"Thunderbird", office}, {"Thunderbird", elsewhere}, {"", office}, {"", elsewhere}} {
					v := b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Program: c.program, Source: c.source})
					b.want(v, auth.Accepted)
					if v.Alert {
						alerts[key(c.program, c.source)]++
					}
				}
			}
			want := map[string]int{"Geary": 1, "Thunderbird": 1, office.Addr().String(): 1, elsewhere.Addr().String(): 1}
			if !maps.Equal(alerts, want) {
				t.Errorf("day %d: alerts %v, want %v", day, alerts, want)
			}
			time.Sleep(24 * time.Hour)
		}
		// Five connections of one program at the same time: one of them gets the alert.
		var alerts atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(good), Program: "Geary"}).Alert {
					alerts.Add(1)
				}
			})
		}
		wg.Wait()
		if n := alerts.Load(); n != 1 {
			t.Errorf("%d alerts at once, want 1", n)
		}
	})
}
