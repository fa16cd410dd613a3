package guard_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// An account restored or imported while the clock is behind has twelve months from then.
func TestAnAccountRestoredWhileTheClockIsBehindIsNotDormantAfterIt(t *testing.T) {
	var clock wallClock
	inBubble(t, func(g *guard.Guard, r *auth.Rules) {
		clock.watched(g, r)
		r.Dormancy.DoorsComplete, r.Password.Mode = true, auth.Off
	}, func(b *bench) {
		b.learnClock()
		b.want(b.try("lan", good), auth.Accepted)
		time.Sleep(months14)
		synctest.Wait()
		b.want(b.try("lan", good), auth.Revoked)
		if _, err := b.guard.Sweep(context.Background(), auth.BackgroundScan{Lister: b.store}); err != nil {
			t.Fatal(err)
		}
		clock.set(-months14 - 24*time.Hour)
		b.guard.Rules()
		if b.guard.Suspicion().IsZero() {
			t.Fatal("the clock is not suspect")
		}
		time.Sleep(2 * time.Second) // the suspicion is written
		synctest.Wait()
		if _, err := b.guard.Restore(context.Background(), lan, act); err != nil {
			t.Fatal(err)
		}
		b.server.password["moi@example.vn"] = good
		if _, err := b.guard.Import(context.Background(), b.store, []auth.Imported{{Name: "moi@example.vn"}}, act, guard.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		b.want(b.try("lan", good), auth.Accepted)
		clock.set(0)
		b.guard.Rules()
		b.accept()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.want(b.try("lan", good), auth.Accepted)
		b.want(b.try("moi", good), auth.Accepted)
		if s, err := b.guard.Sweep(context.Background(), auth.BackgroundScan{Lister: b.store}); err != nil || s.Revoked > 0 {
			t.Errorf("swept %+v %v", s, err)
		}
	})
}
