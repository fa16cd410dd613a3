package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// MergeNames checks that the guard finds rows under other names of an account in a
// store, applies their locks to the account, and merges them. listed returns all names
// in the store.
func MergeNames(t *testing.T, store interface {
	auth.Store
	auth.Lister
}, listed func() []auth.KeptName) {
	const account, twin, unknown = auth.Name("lan@congthu.test"), auth.Name("lan@other.test"), auth.Name("binh@other.test")
	put := func(row auth.Account) {
		t.Helper()
		if _, err := store.Update(t.Context(), row.Name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			*a = row
			return nil, true
		}); err != nil {
			t.Fatal(err)
		}
	}
	lock := auth.Lock{Mark: auth.Mark{At: noon, By: "An", Reason: "left"}, Cause: auth.ByAdmin}
	put(auth.Account{Name: twin, Registered: noon, FirstLogin: noon, LastLogin: noon, Lock: lock})
	put(auth.Account{Name: unknown, Failures: 1, Mistakes: []auth.Mistake{{At: noon}}})
	if got, want := listed(), []auth.KeptName{{Name: unknown}, {Name: twin, Known: true, Locked: true}}; !slices.Equal(got, want) {
		t.Errorf("names %+v, want %+v", got, want)
	}

	g := &guard.Guard{Store: store, Now: func() time.Time { return noon.Add(time.Hour) }}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: &auth.Namer{Default: account.Domain(), Domains: map[string]bool{twin.Domain(): true}, LocalNames: true}})
	try := func() auth.Outcome {
		return g.Attempt(t.Context(), auth.Attempt{
			Login: "lan", Password: auth.NewSecret("right"),
			Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedRight} },
		}).Outcome
	}
	if outcome := try(); outcome != auth.Locked {
		t.Errorf("before the merge: %v, want %v", outcome, auth.Locked)
	}
	if found, err := g.LearnNames(t.Context(), store); err != nil || found.Strays != 2 {
		t.Errorf("%+v, %v; want 2", found, err)
	}
	act := auth.Act{Actor: "An", Reason: "one mailbox"}
	if all, err := g.MergeAll(t.Context(), store, act, false); err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v; want two accounts", all, err)
	}
	if got, want := listed(), []auth.KeptName{{Name: "binh@congthu.test"}, {Name: account, Known: true, Locked: true}}; !slices.Equal(got, want) {
		t.Errorf("names %+v, want %+v", got, want)
	}
	if outcome := try(); outcome != auth.Locked {
		t.Errorf("after the merge: %v, want %v", outcome, auth.Locked)
	}
	if _, err := g.Unlock(t.Context(), account, act); err != nil {
		t.Fatal(err)
	}
	if outcome := try(); outcome != auth.Accepted {
		t.Errorf("after the unlock: %v, want %v", outcome, auth.Accepted)
	}
}
