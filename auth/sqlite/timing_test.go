package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/password"
	"congthu/auth/storetest/testenv"
)

// TestUnknownNamesTakeAsLongAsAccounts: the time of an answer must not show whether an
// account exists. The mail server answers at once here, so that nothing hides the time
// of the guard. A wrong password of an account is compared with its previous password.
// For an unknown name, and for a name for which there is no room, the guard makes a
// comparison of the same cost. Only medians of many tries are meaningful on a busy
// machine.
func TestUnknownNamesTakeAsLongAsAccounts(t *testing.T) {
	testenv.NeedSoak(t)
	const tries = 200
	dir := t.TempDir()
	fingerprints, err := password.Open(filepath.Join(dir, "pepper.key"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guard.Guard{Store: open(t, Options{Path: filepath.Join(dir, "congthu.db"), MaxUnknown: tries}), Fingerprints: fingerprints}
	g.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "example.vn"}, Rules: auth.DefaultRules()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	defer func() { cancel(); <-done }()

	attempt := func(login, given string, j auth.Judgement) time.Duration {
		began := time.Now()
		v := g.Attempt(ctx, auth.Attempt{
			Login: login, Password: auth.NewSecret(given), Source: netip.MustParseAddrPort("192.0.2.1:1"),
			Verify: func(context.Context, auth.Name) auth.Answer {
				return auth.Answer{Judgement: j, Err: errors.New("judged")}
			},
		})
		took := time.Since(began)
		if want := map[auth.Judgement]auth.Outcome{auth.JudgedRight: auth.Accepted, auth.JudgedWrong: auth.WrongPassword}[j]; v.Outcome != want {
			t.Fatalf("%s: %v (%v)", login, v.Outcome, v.Err)
		}
		return took
	}
	for i := range tries {
		attempt(fmt.Sprint("known", i), "Mat-khau-1", auth.JudgedRight)
	}
	for i := range tries { // until all fingerprints are stored
		for {
			a, err := g.Store.Account(ctx, auth.Name(fmt.Sprintf("known%d@example.vn", i)))
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Password.Known) > 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	var known, unknown, beyond []time.Duration
	for i := range tries {
		known = append(known, attempt(fmt.Sprint("known", i), "guess", auth.JudgedWrong))
		unknown = append(unknown, attempt(fmt.Sprint("unknown", i), "guess", auth.JudgedWrong))
	}
	for i := range tries { // the room is full
		beyond = append(beyond, attempt(fmt.Sprint("beyond", i), "guess", auth.JudgedWrong))
	}
	for _, of := range [][]time.Duration{known, unknown, beyond} {
		slices.Sort(of)
	}
	k, u, b := known[tries/2], unknown[tries/2], beyond[tries/2]
	t.Logf("medians of %d: accounts %v, unknown names %v, names beyond the room %v", tries, k, u, b)
	for _, other := range []time.Duration{u, b} {
		if r := float64(k) / float64(other); r < 0.8 || r > 1.25 {
			t.Errorf("the times differ: accounts %v, unknown names %v, names beyond the room %v", k, u, b)
		}
	}
}
