package guard_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// mailProgram is the behaviour of a mail program with one wrong saved password, as
// observed in front of Dovecot: how many connections offer the password together, with
// which pause between them, at which seconds from its start.
type mailProgram struct {
	start, check, press burst
	every               time.Duration // between checks; 0: it stops after the first refusal
	checks              []int         // seconds of the first checks, where they are not a multiple of every
}

// burst is a group of connections, each opened at its second, which all stay open as
// long as the last one.
type burst []time.Duration

func seconds(s ...float64) (b burst) {
	for _, v := range s {
		b = append(b, time.Duration(v*float64(time.Second)))
	}
	return b
}

var mailPrograms = map[string]mailProgram{
	"Thunderbird": {start: seconds(0), check: seconds(0, 1), press: seconds(0, 1), every: 600 * time.Second},
	"Evolution":   {start: seconds(0), press: seconds(0)},
	"Geary":       {start: seconds(0, 0), press: seconds(0, 0)},
	"Claws":       {start: seconds(0), press: seconds(0)},
	"Sylpheed":    {start: seconds(0), check: seconds(0), press: seconds(0), every: 61 * time.Second, checks: []int{61, 131, 192, 253, 314}},
}

// trace returns the times at which the program opens connections within a duration.
func (p mailProgram) trace(presses []time.Duration, length time.Duration) (opened []time.Duration) {
	add := func(at time.Duration, b burst) {
		for _, after := range b {
			opened = append(opened, at+after)
		}
	}
	add(0, p.start)
	for _, at := range presses {
		add(at, p.press)
	}
	if p.every > 0 {
		var at time.Duration
		for i := 0; ; i++ {
			if at += p.every; i < len(p.checks) {
				at = time.Duration(p.checks[i]) * time.Second
			}
			if at > length {
				break
			}
			add(at, p.check)
		}
	}
	slices.Sort(opened)
	return opened
}

// play opens the connections, each of which offers the password by PLAIN and then by
// LOGIN, as programs do.
func (b *bench) play(opened []time.Duration, password string, protocol auth.Protocol) {
	began := time.Now()
	var wg sync.WaitGroup
	for _, at := range opened {
		time.Sleep(time.Until(began.Add(at)))
		connected := time.Now()
		wg.Go(func() {
			var mistakes auth.RejectedPasswords
			for _, m := range []auth.Mechanism{auth.Plain, auth.Login} {
				b.attempt(auth.Attempt{
					Login: "lan", Password: auth.NewSecret(password), Protocol: protocol, Mechanism: m,
					Rejected: &mistakes, Connected: connected,
				})
			}
		})
	}
	wg.Wait()
}

// Art. 6.2.d speaks of entering: a repetition by a program without a user is not
// entering.
func TestOneWrongSavedPasswordLocksNoAccount(t *testing.T) {
	const day = 24 * time.Hour
	for name, p := range mailPrograms {
		for _, c := range []struct {
			name    string
			presses []time.Duration
			days    time.Duration
		}{
			{"untouched for a day", nil, 1},
			{"the button pressed twice", seconds(20, 70), 1},
			{"the button pressed twice at once", seconds(5, 6), 1},
			{"untouched for nine days of holidays", nil, 9},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				inBubble(t, withThrottle, func(b *bench) {
					b.server.delay = 2 * time.Second // as Dovecot delays a rejection
					b.want(b.try("lan", good), auth.Accepted)
					asked := b.server.asked
					trace := p.trace(c.presses, c.days*day)
					b.play(trace, "saved and wrong", auth.IMAP)
					if a := b.account(); a.Lock.Cause != auth.NotLocked || a.Failures > 5 {
						t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
					}
					if n := b.server.asked - asked; n != len(trace) {
						t.Errorf("the mail server was asked %d times, want %d: the password may have become right", n, len(trace))
					}
					b.want(b.try("lan", good), auth.Accepted)
				})
			})
		}
	}
}

// A computer that is switched on each morning, for two weeks.
func TestAProgramThatIsStartedEachMorningLocksNoAccount(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for range 14 {
			b.play(mailPrograms["Thunderbird"].trace(nil, 9*time.Hour), "saved and wrong", auth.IMAP)
			time.Sleep(15 * time.Hour)
		}
		if a := b.account(); a.Failures > 2 || a.Lock.Cause != auth.NotLocked {
			t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
		}
	})
}

// The most common test of the rule: the same wrong password six times.
func TestTheSameWrongPasswordEnteredSixTimesLocks(t *testing.T) {
	for name, protocols := range map[string][]auth.Protocol{
		"over IMAP": {auth.IMAP}, "over submission": {auth.SMTP}, "over both": {auth.IMAP, auth.SMTP},
	} {
		for _, delay := range []time.Duration{0, 50 * time.Millisecond, 2 * time.Second} {
			t.Run(fmt.Sprint(name, ", answers take ", delay), func(t *testing.T) {
				inBubble(t, nil, func(b *bench) {
					b.server.delay = delay
					for i := range 6 {
						b.want(b.attempt(auth.Attempt{
							Login: "lan", Password: auth.NewSecret("mistyped"), Protocol: protocols[i%len(protocols)],
							Rejected: new(auth.RejectedPasswords), Connected: time.Now(),
						}), auth.WrongPassword)
					}
					b.want(b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("mistyped"), Connected: time.Now()}), auth.Locked)
				})
			})
		}
	}
}

// Six different passwords lock, at once or over days. Repetitions by a program in
// between neither count nor hide them.
func TestSixDifferentWrongPasswordsLockWhateverIsRepeated(t *testing.T) {
	for _, pause := range []time.Duration{0, 20 * time.Hour} {
		inBubble(t, nil, func(b *bench) {
			for i := range 6 {
				b.want(b.try("lan", fmt.Sprint("guess", i)), auth.WrongPassword)
				if i == 5 {
					break
				}
				for range 6 {
					time.Sleep(pause/6 + 10*time.Minute)
					for again := range i + 1 {
						b.want(b.try("lan", fmt.Sprint("guess", again)), auth.RepeatedPassword)
					}
				}
			}
			if a := b.account(); a.Failures != 6 || a.Lock.Cause != auth.ByWrongPasswords {
				t.Errorf("%d failures, lock %+v", a.Failures, a.Lock)
			}
		})
	}
}

// The limits of the rule: the password is offered at these instants after the first
// time, one after the other on separate connections.
func TestWhenTheSameWrongPasswordCounts(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		window auth.RepeatWindow
		at     []time.Duration
		counts []bool
	}{
		{auth.RepeatWindow(3 * time.Minute), []time.Duration{0, 1, 3*time.Minute - 1, 3 * time.Minute, 3*time.Minute + day - 1}, []bool{true, true, true, false, false}},
		{auth.RepeatWindow(3 * time.Minute), []time.Duration{0, day - 1, 2*day - 2}, []bool{true, false, false}},
		{auth.RepeatWindow(3 * time.Minute), []time.Duration{0, day, day + time.Minute, day + 4*time.Minute}, []bool{true, true, true, false}},
		{auth.NeverCountRepeats, []time.Duration{0, 1, time.Hour, time.Hour + day}, []bool{true, false, false, true}},
		{auth.AlwaysCountRepeats, []time.Duration{0, 1, time.Hour, day, day + time.Hour}, []bool{true, true, true, true, true}},
	} {
		inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountRepeats = c.window }, func(b *bench) {
			b.server.delay = 0
			began := time.Now()
			for i, at := range c.at {
				time.Sleep(time.Until(began.Add(at)))
				want := auth.RepeatedPassword
				if c.counts[i] {
					want = auth.WrongPassword
				}
				if v := b.try("lan", "wrong"); v.Outcome != want {
					t.Errorf("%v: after %v it is %v, want %v", c.window, at, v.Outcome, want)
				}
			}
		})
	}
}

// One press of a button, several connections: all that were open when the answer came.
func TestConnectionsThatWereOpenWhenTheAnswerCameAreTheSameEntry(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		on := func(connected time.Time) auth.Verdict {
			return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("wrong"), Rejected: new(auth.RejectedPasswords), Connected: connected})
		}
		waiting := time.Now()
		time.Sleep(time.Second)
		b.want(on(time.Now()), auth.WrongPassword)
		time.Sleep(time.Second)
		b.want(on(waiting), auth.RepeatedPassword)
		again := time.Now()
		b.want(on(again), auth.WrongPassword)
		b.want(on(again), auth.RepeatedPassword)
		b.want(b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("other"), Connected: waiting}), auth.WrongPassword)
		if a := b.account(); a.Failures != 3 {
			t.Errorf("%d failures, want 3", a.Failures)
		}
	})
}

// I3: no client reads "wrong" for an entry that is not on disk, on any connection.
func TestTheSameEntryIsNotAnsweredBeforeItIsWritten(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.broken.Store(&failure{only: []auth.StoreOp{auth.OpUpdate}, after: true})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { b.want(b.from(elsewhere, "lan", "wrong"), auth.StoreUnavailable) })
		}
		wg.Wait()
		b.broken.Store(nil)
		time.Sleep(time.Minute)
		if a := b.account(); a.Failures != 1 {
			t.Errorf("%d failures, want 1", a.Failures)
		}
	})
}

// I3: a password that was good a moment ago has no slot, so its failure is not deferred
// if the store fails. A client that has entered it at the same time must not read
// "wrong" for it.
func TestAnEntryThatCouldNotBeWrittenIsNoEntryForOthers(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountPrevious = true }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		synctest.Wait()
		b.server.password[lan] = "Mat-khau-2"
		slow := &slowWrites{Store: b.guard.Store}
		slow.delay.Store(int64(time.Second))
		b.guard.Store = slow
		b.broken.Store(&failure{only: []auth.StoreOp{auth.OpUpdate}})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { b.want(b.try("lan", good), auth.StoreUnavailable) })
		}
		wg.Wait()
		b.broken.Store(nil)
		b.want(b.try("lan", good), auth.WrongPassword)
		if a := b.account(); a.Failures != 1 {
			t.Errorf("%d failures, want 1", a.Failures)
		}
	})
}

// The throttle does not count repetitions that do not count.
func TestRepetitionsDoNotCountAgainstTheirSource(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		for i := range 9 {
			b.want(b.from(elsewhere, fmt.Sprint("name", i), "saved"), auth.WrongPassword)
		}
		time.Sleep(11 * time.Minute)
		for i := range 9 {
			b.want(b.from(elsewhere, fmt.Sprint("name", i), "saved"), auth.RepeatedPassword)
		}
		for i := range 10 {
			b.want(b.from(elsewhere, fmt.Sprint("other", i), "saved"), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "nobody", "saved"), auth.Throttled)
	})
}

// They do not count against the account either: a device that repeats one wrong password
// beside the owner's own uses no comparison with the good one.
func TestRepetitionsBesideTheOwnerUseNoComparisons(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for range 20 {
			b.try("lan", "saved")
			time.Sleep(10 * time.Minute)
		}
		if v := b.try("lan", good); !v.KnownGood {
			t.Errorf("%v, and not known to be good", v.Outcome)
		}
		// A password that has become right is known to be good like any other.
		b.server.password[lan] = "saved"
		b.want(b.try("lan", "saved"), auth.Accepted)
		if v := b.try("lan", "saved"); !v.KnownGood {
			t.Errorf("%v, and not known to be good", v.Outcome)
		}
	})
}

// A password that was wrong may have become right: the mail server is asked each time.
func TestARepeatedPasswordThatHasBecomeRightIsAccepted(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", "new one"), auth.WrongPassword)
		time.Sleep(10 * time.Minute)
		b.want(b.try("lan", "new one"), auth.RepeatedPassword)
		b.server.password[lan] = "new one"
		b.want(b.try("lan", "new one"), auth.Accepted)
	})
}

// After an unlock the same wrong password is a new entry: it counts, and again a program
// does not lock the account.
func TestAnUnlockBeginsTheCountOfRepeatsAnew(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for range 6 {
			b.want(b.try("lan", "saved and wrong"), auth.WrongPassword)
		}
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			t.Fatal(err)
		}
		b.play(mailPrograms["Thunderbird"].trace(nil, 24*time.Hour), "saved and wrong", auth.IMAP)
		if a := b.account(); a.Failures == 0 || a.Failures > 2 {
			t.Errorf("%d failures, want 1 or 2", a.Failures)
		}
	})
}

// The memory belongs to one process: with several gateways, and after a restart, the
// same password is one more entry at each.
func TestARestartCostsOneEntryOfARepeatedPassword(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", "saved"), auth.WrongPassword)
		time.Sleep(time.Hour)
		b.restarted()
		b.want(b.try("lan", "saved"), auth.WrongPassword)
		time.Sleep(time.Hour)
		b.want(b.try("lan", "saved"), auth.RepeatedPassword)
		if a := b.account(); a.Failures != 2 {
			t.Errorf("%d failures, want 2", a.Failures)
		}
	})
}

func TestTheSameWrongPasswordOnOneConnectionCountsOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		connection := new(auth.RejectedPasswords)
		again := func(password string) auth.Verdict {
			return b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret(password), Rejected: connection})
		}
		b.want(again("wrong"), auth.WrongPassword)
		b.want(again("wrong"), auth.RepeatedPassword)
		b.want(again("other"), auth.WrongPassword)
		b.want(b.try("lan", "wrong"), auth.WrongPassword) // another connection
		if a := b.account(); a.Failures != 3 || b.server.asked != 3 {
			b.t.Errorf("%d failures, %d asked; want 3 and 3", a.Failures, b.server.asked)
		}
	})
}

func TestRepeatsWithinADayCountOnceIfTheRulesSaySo(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Lockout.CountRepeats = auth.NeverCountRepeats }, func(b *bench) {
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		for range 10 {
			b.want(b.try("lan", "wrong"), auth.RepeatedPassword)
		}
		time.Sleep(24 * time.Hour)
		b.want(b.try("lan", "wrong"), auth.WrongPassword)
		if a := b.account(); a.Failures != 2 {
			b.t.Errorf("%d failures, want 2", a.Failures)
		}
	})
}

// A name that is not an account may be a mistyped password, and is not logged.
func TestARepeatOnOneConnectionKnowsItsAccount(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		for login, known := range map[string]bool{"lan": true, "nobody": false} {
			var connection auth.RejectedPasswords
			for _, want := range []auth.Outcome{auth.WrongPassword, auth.RepeatedPassword} {
				v := b.attempt(auth.Attempt{Login: login, Password: auth.NewSecret("wrong"), Rejected: &connection})
				b.want(v, want)
				if v.Known != known {
					t.Errorf("%s, %v: known %v, want %v", login, want, v.Known, known)
				}
			}
		}
	})
}
