package guard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"congthu/auth"
)

// An outage counts nothing, so it is not stored; support staff must see it nevertheless,
// and an unlock does not help.
func TestSupportSeesThatTheMailServerGaveNoVerdict(t *testing.T) {
	for _, judgement := range []auth.Judgement{auth.Unreached, auth.InDoubt} {
		inBubble(t, nil, func(b *bench) {
			unlock := func() error {
				_, err := b.guard.Unlock(context.Background(), lan, act)
				return err
			}
			seen := func(want bool) {
				t.Helper()
				r := b.guard.LatelyUnanswered(lan)
				if want && (r.Source != office || r.Outcome != auth.Unavailable || r.At.IsZero()) || !want && !r.IsZero() {
					t.Errorf("%+v, wanted one: %v", r, want)
				}
				if r := b.guard.LatelyRefused(lan); !r.IsZero() {
					t.Errorf("treated as a refusal that can be ended: %+v", r)
				}
			}
			b.want(b.try("lan", good), auth.Accepted)
			b.server.answer = &auth.Answer{Judgement: judgement}
			b.want(b.try("lan", good), auth.Unavailable)
			seen(true)
			if err := unlock(); !errors.Is(err, auth.ErrNothingToDo) {
				t.Errorf("unlock: %v", err)
			}
			seen(true)
			time.Sleep(24*time.Hour - time.Second)
			seen(true)
			time.Sleep(time.Second)
			seen(false)

			// Any verdict shows that the mail server is back.
			for _, verdict := range []auth.Judgement{auth.JudgedWrong, auth.RefusedOtherwise, auth.JudgedRight} {
				b.server.answer = &auth.Answer{Judgement: judgement}
				b.want(b.try("lan", good), auth.Unavailable)
				seen(true)
				b.server.answer = &auth.Answer{Judgement: verdict}
				b.try("lan", good)
				seen(false)
			}
		})
	}
}

// A user who is refused at one place may be logged in at another all the time: a
// telephone at home, and a computer in an office that is throttled.
func TestSupportSeesARefusalDespiteALoginFromAnotherSource(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.from(office, "lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.from(elsewhere, fmt.Sprint("colleague", i), "guess"), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
		seen := func(want bool) {
			t.Helper()
			if r := b.guard.LatelyRefused(lan); want != (r.Source == elsewhere && r.Outcome == auth.Throttled) || !want && !r.IsZero() {
				t.Errorf("%+v, wanted: %v", r, want)
			}
		}
		seen(true)
		b.want(b.from(office, "lan", good), auth.Accepted)
		seen(true)
		time.Sleep(11 * time.Minute) // the source is not refused any more
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
		seen(false)
	})
	inBubble(t, withThrottle, func(b *bench) {
		b.want(b.from(office, "lan", good), auth.Accepted)
		for i := range 10 {
			b.want(b.from(elsewhere, fmt.Sprint("colleague", i), "guess"), auth.WrongPassword)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Throttled)
		b.want(b.from(office, "lan", good), auth.Accepted)
		// An unlock ends the refusal there, at once.
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			t.Error(err)
		}
		b.want(b.from(elsewhere, "lan", good), auth.Accepted)
	})
}

// Without its store the gateway does not ask the mail server: that says nothing about
// the mail server.
func TestAStoreThatFailsIsNotBlamedOnTheMailServer(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.broken.Store(unreachable)
		b.want(b.try("lan", good), auth.StoreUnavailable)
		if r := b.guard.LatelyUnanswered(lan); r.Outcome != auth.StoreUnavailable {
			t.Errorf("%+v", r)
		}
	})
}

func TestOneOfAnythingIsSingular(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try("lan", "guess"), auth.WrongPassword)
		b.want(b.try("lan", "another"), auth.WrongPassword)
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try("lan", "guess"), auth.WrongPassword)
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range b.told.events {
			if e.Kind == auth.PasswordWrong || e.Kind == auth.AccountUnlocked {
				got = append(got, e.Before+" -> "+e.After)
			}
		}
		want := []string{
			"0 wrong passwords -> 1 wrong password", "1 wrong password -> 2 wrong passwords",
			"0 wrong passwords -> 1 wrong password", "not locked, 1 wrong password -> unlocked",
		}
		if len(got) != len(want) {
			t.Fatalf("%q", got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q, want %q", got[i], want[i])
			}
		}
	})
}
