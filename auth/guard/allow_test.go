package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

func (b *bench) allow(addr string, d time.Duration) auth.AllowedSource {
	b.t.Helper()
	a, err := b.guard.AllowSource(context.Background(), netip.MustParseAddr(addr), d, act)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

func TestAnAllowedSourceIsExemptUntilItsTimeEnds(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.throttledAt(elsewhere)
		a := b.allow("203.0.113.7", 4*time.Hour)
		if a.Source.String() != "203.0.113.7/32" || a.By != act.Actor || a.Reason != act.Reason || !a.Until.Equal(a.Since.Add(4*time.Hour).Truncate(time.Second)) {
			t.Errorf("%+v", a)
		}
		if list := b.guard.AllowedSources(); len(list) != 1 || list[0] != a {
			t.Errorf("%+v", list)
		}
		e := b.latest(auth.SourceAllowed)
		if e.Account != "" || e.Actor != act.Actor || e.Reason != act.Reason || e.Before != "203.0.113.7/32 not allowed" ||
			!strings.HasPrefix(e.After, "203.0.113.7/32 allowed until 20") {
			t.Errorf("%+v", e)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
		for i := range 50 {
			b.want(b.from(elsewhere, fmt.Sprint("colleague", i), "mistyped"), auth.WrongPassword)
		}
		time.Sleep(4*time.Hour + time.Second)
		if list := b.guard.AllowedSources(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		for i := range 12 {
			b.from(elsewhere, fmt.Sprint("again", i), "guess")
		}
		b.want(b.from(elsewhere, "again99", "guess"), auth.Throttled)
	})
}

func TestTheEndOfAnAllowanceIsAnEvent(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.allow("2001:db8:1:2::77", time.Hour)
		ended, err := b.guard.EndAllowedSource(context.Background(), netip.MustParseAddr("2001:db8:1:2::9"), act)
		if err != nil || !ended.Until.IsZero() || ended.Source.String() != "2001:db8:1:2::/64" {
			t.Fatalf("%+v %v", ended, err)
		}
		if list := b.guard.AllowedSources(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		if e := b.latest(auth.SourceAllowed); e.After != "2001:db8:1:2::/64 not allowed" || !strings.HasPrefix(e.Before, "2001:db8:1:2::/64 allowed until ") {
			t.Errorf("%+v", e)
		}
		if _, err := b.guard.EndAllowedSource(context.Background(), netip.MustParseAddr("2001:db8:1:2::9"), act); !errors.Is(err, auth.ErrNothingToDo) {
			t.Error(err)
		}
		b.throttledAt(netip.MustParseAddrPort("[2001:db8:1:2::77]:1"))
	})
}

func TestASourceIsAllowedWithAReasonForOneHourToSevenDays(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		addr := netip.MustParseAddr("203.0.113.7")
		for _, d := range []time.Duration{-time.Hour, 0, time.Hour - 1, 7*24*time.Hour + 1} {
			if _, err := b.guard.AllowSource(context.Background(), addr, d, act); !errors.Is(err, auth.ErrOutOfRange) {
				t.Errorf("%s: %v", d, err)
			}
		}
		if _, err := b.guard.AllowSource(context.Background(), addr, time.Hour, auth.Act{Actor: "A", Reason: " "}); !errors.Is(err, auth.ErrReasonMissing) {
			t.Error(err)
		}
		if _, err := b.guard.AllowSource(context.Background(), netip.Addr{}, time.Hour, act); !errors.Is(err, auth.ErrOutOfRange) {
			t.Error(err)
		}
		b.allow("203.0.113.7", time.Hour)
		b.allow("203.0.113.7", 7*24*time.Hour)
		if list := b.guard.AllowedSources(); len(list) != 1 || time.Until(list[0].Until) < 6*24*time.Hour {
			t.Errorf("%+v", list)
		}
		b.guard.Throttle = nil
		if _, err := b.guard.AllowSource(context.Background(), addr, time.Hour, act); !errors.Is(err, guard.ErrThrottleOff) {
			t.Error(err)
		}
	})
}

// A new process reads the latest allowances from the audit log.
func TestAnAllowedSourceSurvivesARestart(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.allow("198.51.100.1", time.Hour) // ends before the restart
		b.allow("198.51.100.2", 7*24*time.Hour)
		if _, err := b.guard.EndAllowedSource(context.Background(), netip.MustParseAddr("198.51.100.2"), act); err != nil {
			t.Fatal(err)
		}
		for i := range 250 { // more than one page
			b.allow("203.0.113.7", time.Duration(i%100+1)*time.Hour)
		}
		kept := b.allow("203.0.113.7", 24*time.Hour)
		time.Sleep(2 * time.Hour)
		b.restarted()
		if err := b.guard.RecallAllowed(context.Background(), b.store); err != nil {
			t.Fatal(err)
		}
		if list := b.guard.AllowedSources(); len(list) != 1 || list[0] != kept {
			t.Errorf("%+v, want %+v", list, kept)
		}
		for i := range 50 {
			b.want(b.from(elsewhere, fmt.Sprint("colleague", i), "mistyped"), auth.WrongPassword)
		}
		// Eight days later there is no allowance left to read.
		time.Sleep(8 * 24 * time.Hour)
		b.restarted()
		if err := b.guard.RecallAllowed(context.Background(), b.store); err != nil {
			t.Fatal(err)
		}
		if list := b.guard.AllowedSources(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

// Events may arrive before those from before a restart are read, and the other way
// round: the latest counts.
func TestTheLatestAllowanceOfASourceCounts(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.allow("203.0.113.7", 24*time.Hour)
		first := b.latest(auth.SourceAllowed)
		time.Sleep(time.Second)
		if _, err := b.guard.EndAllowedSource(context.Background(), netip.MustParseAddr("203.0.113.7"), act); err != nil {
			t.Fatal(err)
		}
		second := b.latest(auth.SourceAllowed)
		for _, order := range [][]auth.Event{{first, second}, {second, first}, {first, second, first}} {
			other := b.another()
			for _, e := range order {
				other.OnRemoteEvent(e)
			}
			if list := other.AllowedSources(); len(list) != 0 {
				t.Errorf("%+v", list)
			}
			b.at(other, func() { b.throttledAt(elsewhere) })
		}
	})
}

func TestAnAllowedSourceIsAllowedAtEveryGateway(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		other := b.another()
		b.at(other, func() { b.throttledAt(elsewhere) })
		a := b.allow("203.0.113.7", time.Hour)
		other.OnRemoteEvent(b.latest(auth.SourceAllowed))
		if list := other.AllowedSources(); len(list) != 1 || list[0] != a {
			t.Errorf("%+v, want %+v", list, a)
		}
		b.at(other, func() { b.want(b.from(elsewhere, "lan", good), auth.Accepted) })
	})
}

// An event that was tampered with cannot allow a source for longer, or break anything.
func TestAnEventAllowsNoSourceForLongerThanSevenDays(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		now := time.Now().UTC()
		for _, after := range []string{
			"203.0.113.7/32 allowed until 2999-01-01T00:00:00Z", "x allowed until 2999-01-01T00:00:00Z", "203.0.113.8/32 allowed until tomorrow", "", "203.0.113.9/32",
		} {
			b.guard.OnRemoteEvent(auth.Event{Kind: auth.SourceAllowed, At: now, Actor: "A", After: after})
		}
		list := b.guard.AllowedSources()
		if len(list) != 1 || list[0].Until.Sub(now) != auth.MaxAllowance {
			t.Errorf("%+v", list)
		}
	})
}

// The account's own limits stay: its lock, its daily limit, its slots.
func TestAnAllowedSourceLiftsNoLimitOfAnAccount(t *testing.T) {
	t.Run("the lock", func(t *testing.T) {
		inBubble(t, withThrottle, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			b.allow("203.0.113.7", time.Hour)
			for i := range 50 {
				b.from(elsewhere, "lan", fmt.Sprint("guess", i))
			}
			if b.server.worst != 6 || b.account().Lock.Cause != auth.ByWrongPasswords {
				t.Errorf("%d wrong passwords were judged, lock %v", b.server.worst, b.account().Lock.Cause)
			}
			b.want(b.from(elsewhere, "lan", good), auth.Locked)
		})
	})
	t.Run("slots", func(t *testing.T) {
		inBubble(t, withThrottle, func(b *bench) {
			b.allow("203.0.113.7", time.Hour)
			var most, now int
			var mu sync.Mutex
			b.server.answer = &auth.Answer{Judgement: auth.Unreached}
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				now += n
				most = max(most, now)
			}
			var wg sync.WaitGroup
			for range 30 {
				wg.Go(func() {
					b.guard.Attempt(context.Background(), auth.Attempt{
						Login: "lan", Password: auth.NewSecret("x"), Source: elsewhere,
						Verify: func(context.Context, auth.Name) auth.Answer {
							count(1)
							time.Sleep(time.Second)
							count(-1)
							return auth.Answer{Judgement: auth.Unreached}
						},
					})
				})
			}
			synctest.Wait()
			wg.Wait()
			if most != 6 {
				t.Errorf("%d at once with the mail server, want 6", most)
			}
		})
	})
	t.Run("the wrong passwords of a day", func(t *testing.T) {
		inBubble(t, withThrottle, func(b *bench) {
			b.want(b.try("lan", good), auth.Accepted)
			b.allow("203.0.113.7", 24*time.Hour)
			for n := range 30 {
				b.want(b.from(elsewhere, "lan", fmt.Sprint("guess", n)), auth.WrongPassword)
				if n%5 == 4 {
					b.want(b.from(office, "lan", good), auth.Accepted)
				}
			}
			v := b.from(elsewhere, "lan", good)
			b.want(v, auth.Throttled)
			if !errors.Is(v.Err, guard.ErrUnfamiliar) || !b.guard.LatelyRefused(lan).Unfamiliar {
				t.Errorf("%v, %+v: treated as a refusal of the source", v.Err, b.guard.LatelyRefused(lan))
			}
			b.want(b.from(office, "lan", good), auth.Accepted)
		})
	})
}
