package guard_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// If the store refuses a write, the error must not blame other logins to the account.
func TestAnAttemptThatWaitsForTheStoreDoesNotBlameOthers(t *testing.T) {
	slow := &slowWrites{}
	inBubble(t, func(g *guard.Guard, _ *auth.Rules) {
		slow.Store, g.Store = g.Store, slow
		g.Patience, g.StoreTimeout = time.Second, 10*time.Second
	}, func(b *bench) {
		slow.hangs.Store(true)
		first := make(chan auth.Verdict)
		go func() { first <- b.try("lan", "wrong") }()
		b.want(<-first, auth.StoreUnavailable)
		// The first of these writes the failure, which hangs; the others wait.
		go func() { first <- b.try("lan", good) }()
		synctest.Wait()
		for range 3 {
			b.want(b.try("lan", good), auth.StoreUnavailable)
		}
		b.want(<-first, auth.StoreUnavailable)
		if got := b.guard.LatelyUnanswered(lan); got.Outcome != auth.StoreUnavailable || got.Source != office {
			t.Errorf("support staff see %+v", got)
		}
		if got := b.guard.LatelyRefused(lan); !got.IsZero() {
			t.Errorf("treated as a refusal that can be ended: %+v", got)
		}
		slow.hangs.Store(false)
		b.want(b.try("lan", good), auth.Accepted)
		if got := b.guard.LatelyUnanswered(lan); !got.IsZero() {
			t.Errorf("after a login: %+v", got)
		}
	})
}

// Protocol and program of the last login, as support staff see them, without a write.
func TestTheLastLoginHasItsProtocolAndProgramAndWritesNothing(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		if got := b.guard.LastLogin(lan); got != (auth.Origin{}) {
			t.Errorf("before a login: %+v", got)
		}
		b.want(b.try("lan", good), auth.Accepted)
		written := b.account()
		time.Sleep(time.Minute)
		phone := netip.MustParseAddrPort("198.51.100.7:4000")
		b.want(b.attempt(auth.Attempt{Login: "office", Password: auth.NewSecret(good), Source: office, Protocol: auth.SMTP, Program: "K-9\x1b Mail " + strings.Repeat("x", 100)}), auth.Accepted)
		want := auth.Origin{At: time.Now(), Source: office, Protocol: auth.SMTP, Program: "K-9 Mail " + strings.Repeat("x", 23)}
		if got := b.guard.LastLogin(lan); got.Source != want.Source || got.Protocol != want.Protocol || got.Program != want.Program || !got.At.Equal(want.At) {
			t.Errorf("%+v, want %+v", got, want)
		}
		if a := b.account(); !a.LastLogin.Equal(written.LastLogin) {
			t.Error("the login was written")
		}
		b.want(b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("wrong"), Source: phone}), auth.WrongPassword)
		if got := b.guard.LastLogin(lan); got.Source != office {
			t.Errorf("a wrong password is a login: %+v", got)
		}
	})
}

// One program with one wrong password looks like one, and a guesser like many.
func TestSupportSeesWhichWrongPasswordsComeFromOneProgram(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		phone := auth.Attempt{Login: "lan", Password: auth.NewSecret("wrong"), Source: netip.MustParseAddrPort("198.51.100.7:4000"), Program: "Thunderbird"}
		for i := range 6 {
			phone.Source = netip.AddrPortFrom(phone.Source.Addr(), uint16(4000+i))
			b.want(b.attempt(phone), auth.WrongPassword)
			time.Sleep(10 * time.Second)
		}
		b.want(b.attempt(phone), auth.Locked)
		b.want(b.try("lan", good), auth.Locked) // a password that is not known to be wrong
		got := b.guard.LatelyTried(lan)
		if len(got) != 1 || got[0].Times != 7 || got[0].Password != 1 || got[0].Program != "Thunderbird" || got[0].Source != phone.Source.Addr() ||
			got[0].Last.Sub(got[0].First) < 50*time.Second {
			t.Fatalf("%+v", got)
		}
		if _, err := b.guard.Unlock(context.Background(), lan, act); err != nil {
			t.Fatal(err)
		}
		if got := b.guard.LatelyTried(lan); len(got) != 0 {
			t.Errorf("after an unlock: %+v", got)
		}
		for i := range 20 {
			b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("guess" + string(rune('a'+i))), Source: office, Protocol: auth.SMTP})
			b.attempt(auth.Attempt{Login: "nobody", Password: auth.NewSecret("guess"), Source: office})
		}
		if got := b.guard.LatelyTried(lan); len(got) < 2 || len(got) > 8 || got[0].Password == got[1].Password {
			t.Errorf("%+v", got)
		}
		if got := b.guard.LatelyTried("nobody@example.vn"); len(got) != 0 {
			t.Errorf("of a name that is no account: %+v", got)
		}
		time.Sleep(25 * time.Hour)
		if got := b.guard.LatelyTried(lan); len(got) != 0 {
			t.Errorf("a day later: %+v", got)
		}
	})
}
