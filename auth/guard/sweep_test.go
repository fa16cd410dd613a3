package guard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

func TestADormantAccountIsRefusedAtItsLoginAndMarkedByTheSweep(t *testing.T) {
	inBubble(t, func(_ *guard.Guard, r *auth.Rules) { r.Password.Mode = auth.Off }, func(b *bench) {
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(367 * 24 * time.Hour)
		b.want(b.try("lan", "wrong"), auth.WrongPassword) // revealed only after the right password
		b.want(b.try("lan", good), auth.Revoked)
		if a := b.account(); !a.Revocation.IsZero() || len(b.ended) != 0 {
			b.t.Errorf("the login has left a mark, %+v, and ended %v: a clock that is wrong for an hour would revoke every account", a.Revocation, b.ended)
		}
		swept, err := b.guard.Sweep(context.Background(), b.store)
		if err != nil || swept.Revoked != 1 || swept.States[auth.StateRevoked] != 1 || len(b.ended) != 1 {
			b.t.Fatalf("swept %+v, %v, ended %v", swept, err, b.ended)
		}
		b.want(b.try("lan", good), auth.Revoked)
		if a := b.account(); a.Revocation.IsZero() || b.told.count(auth.AccountRevoked) != 1 {
			b.t.Errorf("revocation %+v, events %v", a.Revocation, b.told.kinds)
		}
		if _, err := b.guard.Restore(context.Background(), lan, act); err != nil {
			b.t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
	})
}

func TestASweepOfManyAtOnceNeedsAConfirmation(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		ctx := context.Background()
		register := func(n int, lastLogin time.Time) {
			for i := range n {
				name := auth.Name(fmt.Sprintf("user%d-%d@example.vn", lastLogin.Unix(), i))
				_, err := b.store.Update(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
					a.Registered, a.FirstLogin, a.LastLogin = lastLogin, lastLogin, lastLogin
					return nil, true
				})
				if err != nil {
					b.t.Fatal(err)
				}
			}
		}
		sweep := func(f func() (guard.Swept, error), wantErr error, wantDormant, wantRevoked int) {
			b.t.Helper()
			swept, err := f()
			if !errors.Is(err, wantErr) || len(swept.Dormant) != wantDormant || swept.Revoked != wantRevoked {
				b.t.Errorf("%d dormant, %d revoked, %v; want %d, %d, %v", len(swept.Dormant), swept.Revoked, err, wantDormant, wantRevoked, wantErr)
			}
		}
		usual := func() (guard.Swept, error) { return b.guard.Sweep(ctx, b.store) }
		now := time.Now()
		register(20, auth.AddMonths(now, -24))
		sweep(usual, nil, 20, 20) // few: all of them
		register(230, now)
		register(25, auth.AddMonths(now, -36))
		sweep(usual, nil, 25, 25) // 25 of 275
		register(31, auth.AddMonths(now, -48))
		sweep(usual, guard.ErrManyDormant, 31, 0) // 31 of 306
		time.Sleep(400 * 24 * time.Hour)          // or a wrong clock
		sweep(usual, guard.ErrManyDormant, 261, 0)
		sweep(func() (guard.Swept, error) { return b.guard.Dormant(ctx, b.store) }, nil, 261, 0)
		sweep(func() (guard.Swept, error) { return b.guard.ForceSweep(ctx, b.store, auth.Act{Actor: "An"}) }, auth.ErrReasonMissing, 0, 0)
		sweep(func() (guard.Swept, error) { return b.guard.ForceSweep(ctx, b.store, act) }, nil, 261, 261)
		events, err := b.store.Events(ctx, auth.EventFilter{Limit: 1})
		if err != nil || events[0].Kind != auth.AccountRevoked || events[0].Actor != act.Actor || !strings.Contains(events[0].Reason, act.Reason) {
			b.t.Errorf("event %+v, %v: who has forced it, and why?", events, err)
		}
	})
}

func TestTheSweepLeavesImportedAccountsWhileOtherWaysToLogInExist(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		_, err := b.store.Update(context.Background(), lan, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered = time.Now()
			return nil, true
		})
		if err != nil {
			b.t.Fatal(err)
		}
		time.Sleep(400 * 24 * time.Hour)
		if swept, err := b.guard.Sweep(context.Background(), b.store); err != nil || swept.Revoked != 0 {
			b.t.Errorf("swept %+v, %v", swept, err)
		}
		rules := auth.DefaultRules()
		rules.Dormancy.DoorsComplete = true
		b.setRules(rules)
		if swept, err := b.guard.Sweep(context.Background(), b.store); err != nil || swept.Revoked != 1 {
			b.t.Errorf("with all doors closed: swept %+v, %v", swept, err)
		}
	})
}
