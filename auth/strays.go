package auth

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"
)

// A store may remember something under a name that is no account's own any more:
// it has become an alias since, or the domain is one of several that the mail
// server takes for one. Such a name is a stray of the account that it means now.
// Nobody logs in under it, but a lock or a revocation that it has holds for the
// account, until [Guard.Merge] makes one of the two.

// strays are the strays in the store, by the account that they mean.
type strays struct {
	names *Namer

	mu      sync.RWMutex
	learned bool // all of them are in of
	of      map[Name][]Name
}

// straysOf returns what knows of no stray yet; nil where there can be none.
func straysOf(names *Namer) *strays {
	if names == nil || len(names.Aliases) == 0 && !names.foldsDomains() {
		return nil
	}
	return &strays{names: names, of: make(map[Name][]Name)}
}

// foldsDomains reports whether several domains are taken for one.
func (n *Namer) foldsDomains() bool {
	if !n.LocalNames || n.Default == "" {
		return false
	}
	for domain := range n.Domains {
		if domain != n.Default {
			return true
		}
	}
	return false
}

// home returns the account that the name of a row means; empty for none.
func (n *Namer) home(row Name) Name {
	account, err := n.Existing(string(row))
	if err != nil {
		return ""
	}
	return account
}

// OnlyExisting reports whether an account goes on because it is known, and could not
// begin.
func (n *Namer) OnlyExisting(account Name) bool {
	return !n.Unicode && !isASCII(account.Local()) && n.home(account) == account
}

// existing returns the account that a login name with letters beyond ASCII means, if
// it is known from before such names were refused: its owner must not be told that
// the password is wrong. Otherwise the outcome is not Accepted.
func (t *try) existing(ctx context.Context, names *Namer) (Name, Outcome, error) {
	name, err := names.Existing(t.Login)
	if err != nil {
		return "", Malformed, err
	}
	if _, good := t.known.get(name); good {
		return name, Accepted, nil // and needs no store
	}
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	account, err := t.Store.Account(ctx, name)
	switch {
	case err != nil:
		return "", StoreUnavailable, fmt.Errorf("store: %w", err)
	case !account.Known():
		return "", Malformed, ErrNotASCII
	}
	return name, Accepted, nil
}

// KeptName is a name of which a store has anything, and what stands against it.
type KeptName struct {
	Name Name
	// Known is set for an account; see [Account.Known].
	Known           bool
	Locked, Revoked bool
}

// Stray reports whether the name of a row means another account than its own, and
// which.
func (n *Namer) Stray(row Name) (account Name, stray bool) {
	account = n.home(row)
	return account, account != "" && account != row
}

// others are all the names that would be strays of an account.
func (n *Namer) others(account Name) (others []Name) {
	candidates := []Name{account}
	for alias := range n.Aliases {
		if n.account(alias) == account {
			candidates = append(candidates, alias)
		}
	}
	if n.foldsDomains() {
		for _, name := range slices.Clone(candidates) {
			candidates = append(candidates, n.inDefault(name))
			for domain := range n.Domains {
				candidates = append(candidates, Name(name.Local()+"@"+domain))
			}
		}
	}
	for _, name := range candidates {
		if name != account && n.home(name) == account {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// namesOf returns the rows that may have something to say about an account: its
// strays or, until they are known, whatever could be one.
func (s *strays) namesOf(account Name) []Name {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.learned {
		return s.names.others(account)
	}
	return s.of[account]
}

// add notes a row; it reports of which account it is a stray, if it is one.
func (s *strays) add(row Name) (account Name, stray bool) {
	if s == nil {
		return row, false
	}
	if account, stray = s.names.Stray(row); !stray {
		return row, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.of[account], row) {
		s.of[account] = append(slices.Clone(s.of[account]), row)
	}
	return account, true
}

// remove forgets a row that is no longer there.
func (s *strays) remove(row Name) {
	if s == nil {
		return
	}
	account := s.names.home(row)
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(s.of[account]), func(n Name) bool { return n == row })
	if len(left) == 0 {
		delete(s.of, account)
		return
	}
	s.of[account] = left
}

// accounts are the accounts that have strays, in the order of their names.
func (s *strays) accounts() (accounts []Name) {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for account := range s.of {
		accounts = append(accounts, account)
	}
	slices.Sort(accounts)
	return accounts
}

// NamesLearned is what [Guard.LearnNames] has found.
type NamesLearned struct {
	// Strays are rows whose name means another account.
	Strays int
	// NotASCII are accounts with letters beyond ASCII in the part before the @,
	// while [Namer].Unicode is not set: they go on, and no others can begin.
	NotASCII int
}

// LearnNames reads all rows of the store once and notes which have a name that
// means another account now. It is called after the start and after each
// [Guard.SetPolicy]; until it has come to its end every login of an account that
// could have such rows looks for each of them.
func (g *Guard) LearnNames(ctx context.Context, store Lister) (found NamesLearned, err error) {
	g.init()
	policy := g.policy.Load()
	if policy.strays == nil && policy.Names.Unicode {
		return found, nil
	}
	err = Walk(ctx, store, Filter{Unknown: true}, func(a Account) error {
		if _, stray := policy.strays.add(a.Name); stray {
			found.Strays++
		} else if a.Known() && policy.Names.OnlyExisting(a.Name) {
			found.NotASCII++
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("read accounts: %w", err)
	}
	if policy.strays == nil {
		return found, nil
	}
	policy.strays.mu.Lock()
	policy.strays.learned = true
	policy.strays.mu.Unlock()
	return found, nil
}

// sameNames reports whether two policies read names alike.
func sameNames(one, other *Namer) bool { return reflect.DeepEqual(one, other) }

// OtherNames returns what the store has of an account under names that are not its
// own any more.
func (g *Guard) OtherNames(ctx context.Context, account Name) ([]Account, error) {
	g.init()
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	return g.rows(ctx, g.policy.Load().strays.namesOf(account))
}

// rows reads the rows of these names that there are.
func (g *Guard) rows(ctx context.Context, names []Name) (rows []Account, err error) {
	for _, name := range names {
		a, err := g.Store.Account(ctx, name)
		if err != nil {
			return nil, err
		}
		if a = a.Normal(); !a.Blank() {
			rows = append(rows, a)
		}
	}
	return rows, nil
}

// Elsewhere is how an account is refused for what other rows of it say: Locked or
// Revoked, else Accepted. Only a mark revokes: nobody logs in under the name of a
// stray, so that it grows dormant whatever its owner does.
func (r Rules) Elsewhere(rows []Account, now time.Time) Outcome {
	outcome := Accepted
	for _, a := range rows {
		switch {
		case r.Locked(a, now):
			return Locked
		case r.Dormancy.Mode == Enforce && !a.Revocation.IsZero():
			outcome = Revoked
		}
	}
	return outcome
}

// elsewhere reads the strays of the try's account and judges them.
func (t *try) elsewhere(ctx context.Context) (Outcome, error) {
	names := t.strays.namesOf(t.name)
	if len(names) == 0 {
		return Accepted, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.readTimeout())
	defer cancel()
	rows, err := t.rows(ctx, names)
	if err != nil {
		return StoreUnavailable, err
	}
	outcome := t.rules.Elsewhere(rows, t.now())
	if i := slices.IndexFunc(rows, Account.Known); outcome == Locked && i >= 0 && !t.account.Known() {
		t.account = rows[i] // the name is that of an account
	}
	return outcome, nil
}
