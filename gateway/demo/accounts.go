package demo

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// Password is the password of every account of the demo; PreviousPassword is the
// earlier one of stale@congthu.test.
const (
	Password         = "Mat-khau-1"
	PreviousPassword = "Mat-khau-0"
	// Domain is the domain of the accounts.
	Domain = "congthu.test"
)

// strangers is the source of the wrong passwords for locked@congthu.test: an address of
// the range for documentation (RFC 5737).
var strangers = netip.MustParseAddr("203.0.113.7")

// lockedLocal is the account that those passwords locked.
const lockedLocal = "locked"

// scene is an account with its history before the demo begins.
type scene struct {
	local string
	set   func(a *auth.Account, now time.Time)
}

// Each account shows one rule.
var scenes = []scene{
	{"active", func(a *auth.Account, now time.Time) { a.Password.Since = now.AddDate(0, 0, -10) }},
	{"expiring", func(a *auth.Account, now time.Time) { a.Password.Since = auth.AddMonths(now, -2).AddDate(0, 0, -25) }},
	{"expired", func(a *auth.Account, now time.Time) { a.Password.Since = auth.AddMonths(now, -4) }},
	{"dormant", func(a *auth.Account, now time.Time) {
		a.LastLogin = auth.AddMonths(now, -13)
		a.Password.Since = a.LastLogin
	}},
	{lockedLocal, func(a *auth.Account, now time.Time) { a.Password.Since = now.AddDate(0, 0, -20) }},
	{"stale", func(a *auth.Account, now time.Time) { a.Password.Since = now.AddDate(0, 0, -1) }},
}

// prepare gives the account its state at the start of the demo.
func (s scene) prepare(a *auth.Account, password auth.Password, now time.Time) {
	begun := auth.AddMonths(now, -18)
	a.Registered, a.FirstLogin, a.LastLogin = begun, begun, now.AddDate(0, 0, -1)
	a.Password = password
	s.set(a, now)
	known := slices.Clone(password.Known)
	if n := len(known); n > 0 {
		known[n-1].Since, known[0].Since = a.Password.Since, auth.AddMonths(a.Password.Since, -1)
		if s.local != "stale" {
			known = known[n-1:]
			known[0].Since = a.Password.Since
		}
	}
	a.Password.Known = known
}

// Addresses returns the accounts of the demo, in the order of presentation.
func Addresses() []string {
	addresses := make([]string, len(scenes))
	for i, s := range scenes {
		addresses[i] = s.local + "@" + Domain
	}
	return addresses
}

// Seed creates the accounts that do not exist yet. Existing ones keep their state, with
// failures and locks.
func Seed(ctx context.Context, store auth.Store, fingerprints auth.Fingerprinter, now time.Time) error {
	guessed := false
	for _, s := range scenes {
		name := auth.Name(s.local + "@" + Domain)
		present, err := store.Account(ctx, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if present.Known() {
			continue
		}
		password, err := passwords(ctx, fingerprints)
		if err != nil {
			return fmt.Errorf("fingerprints of %s: %w", name, err)
		}
		_, err = store.Update(ctx, name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			if a.Known() {
				return nil, false
			}
			s.prepare(a, password, now)
			return []auth.Event{{
				Kind: auth.FirstLogin, Account: name, At: a.FirstLogin, Actor: auth.ByGateway, Before: "unknown", After: "active",
				Reason: "account of the demo",
			}}, true
		})
		if err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		guessed = guessed || s.local == lockedLocal
	}
	if !guessed {
		return nil
	}
	// Last, so that the audit log is in the order of time.
	if err := guess(ctx, store, lockedLocal+"@"+Domain, now.Add(-2*time.Hour)); err != nil {
		return fmt.Errorf("lock %s@%s: %w", lockedLocal, Domain, err)
	}
	return nil
}

// guess tries wrong passwords, one a minute, through the rules themselves, so that the
// account and the audit log look as after a real attack. The last one, at the given
// time, locks.
func guess(ctx context.Context, store auth.Store, address string, last time.Time) error {
	rules := auth.DefaultRules()
	var now time.Time
	g := &guard.Guard{Store: store, Now: func() time.Time { return now }}
	g.SetPolicy(guard.Policy{Names: &auth.Namer{Domains: map[string]bool{Domain: true}}, Rules: rules})
	for left := rules.Lockout.Tolerated; left >= 0; left-- {
		now = last.Add(-time.Duration(left) * time.Minute)
		verdict := g.Attempt(ctx, auth.Attempt{
			Login: address, Password: auth.NewSecret(fmt.Sprintf("guess-%d", left)),
			Source: netip.AddrPortFrom(strangers, uint16(50000-left)),
			Verify: func(context.Context, auth.Name) auth.Answer { return auth.Answer{Judgement: auth.JudgedWrong} },
		})
		if verdict.Outcome != auth.WrongPassword {
			return fmt.Errorf("a wrong password is %s: %w", verdict.Outcome, verdict.Err)
		}
	}
	return nil
}

// passwords returns the stored form of the demo's passwords.
func passwords(ctx context.Context, f auth.Fingerprinter) (p auth.Password, err error) {
	p.Salt = make([]byte, 16)
	rand.Read(p.Salt) // never fails (crypto/rand)
	for _, password := range []string{PreviousPassword, Password} {
		fingerprint, err := f.Fingerprint(ctx, p.Salt, auth.NewSecret(password))
		if err != nil {
			return p, err
		}
		p.Known = append(p.Known, auth.KnownPassword{Fingerprint: fingerprint})
	}
	return p, nil
}
