package guard

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"congthu/auth"
)

// A store may remember something under a name that is no account's own any more:
// it has become an alias since, or the domain is one of several that the mail
// server takes for one. Such a name is a stray of the account that it means now.
// Nobody logs in under it, but a lock or a revocation that it has holds for the
// account, until [Guard.Merge] makes one of the two.

// strays are the strays in the store, by the account that they mean.
type strays struct {
	names *auth.Namer

	mu      sync.RWMutex
	learned bool // all of them are in of
	of      map[auth.Name][]auth.Name
}

// straysOf returns what knows of no stray yet; nil where there can be none.
func straysOf(names *auth.Namer) *strays {
	if names == nil || len(names.Aliases) == 0 && !names.FoldsDomains() {
		return nil
	}
	return &strays{names: names, of: make(map[auth.Name][]auth.Name)}
}

// existing returns the account that a login name with letters beyond ASCII means, if
// it is known from before such names were refused: its owner must not be told that
// the password is wrong. Otherwise the outcome is not Accepted.
func (t *try) existing(ctx context.Context, names *auth.Namer) (auth.Name, auth.Outcome, error) {
	name, err := names.Existing(t.Login)
	if err != nil {
		return "", auth.Malformed, err
	}
	if _, good := t.known.Get(name); good {
		return name, auth.Accepted, nil // and needs no store
	}
	ctx, cancel := context.WithTimeout(ctx, t.storeTimeout())
	defer cancel()
	account, err := t.Store.Account(ctx, name)
	switch {
	case err != nil:
		return "", auth.StoreUnavailable, fmt.Errorf("store: %w", err)
	case !account.Known():
		return "", auth.Malformed, auth.ErrNotASCII
	}
	return name, auth.Accepted, nil
}

// namesOf returns the rows that may have something to say about an account: its
// strays or, until they are known, whatever could be one.
func (s *strays) namesOf(account auth.Name) []auth.Name {
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.learned {
		return s.names.Others(account)
	}
	return s.of[account]
}

// add notes a row; it reports of which account it is a stray, if it is one.
func (s *strays) add(row auth.Name) (account auth.Name, stray bool) {
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
func (s *strays) remove(row auth.Name) {
	if s == nil {
		return
	}
	account := s.names.Home(row)
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(s.of[account]), func(n auth.Name) bool { return n == row })
	if len(left) == 0 {
		delete(s.of, account)
		return
	}
	s.of[account] = left
}

// accounts are the accounts that have strays, in the order of their names.
func (s *strays) accounts() (accounts []auth.Name) {
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
	// while [auth.Namer].Unicode is not set: they go on, and no others can begin.
	NotASCII int
}

// LearnNames reads all rows of the store once and notes which have a name that
// means another account now. It is called after the start and after each
// [Guard.SetPolicy]; until it has come to its end every login of an account that
// could have such rows looks for each of them.
func (g *Guard) LearnNames(ctx context.Context, store auth.Lister) (found NamesLearned, err error) {
	g.init()
	policy := g.policy.Load()
	if policy.strays == nil && policy.Names.Unicode {
		return found, nil
	}
	err = auth.Scan(ctx, store, auth.Filter{Unknown: true}, func(a auth.Account) error {
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
func sameNames(one, other *auth.Namer) bool { return reflect.DeepEqual(one, other) }

// OtherNames returns what the store has of an account under names that are not its
// own any more.
func (g *Guard) OtherNames(ctx context.Context, account auth.Name) ([]auth.Account, error) {
	g.init()
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	return g.rows(ctx, g.policy.Load().strays.namesOf(account))
}

// rows reads the rows of these names that there are.
func (g *Guard) rows(ctx context.Context, names []auth.Name) (rows []auth.Account, err error) {
	for _, name := range names {
		a, err := g.Store.Account(ctx, name)
		if err != nil {
			return nil, err
		}
		if a = a.Normalized(); !a.Blank() {
			rows = append(rows, a)
		}
	}
	return rows, nil
}

// elsewhere reads the strays of the try's account and judges them.
func (t *try) elsewhere(ctx context.Context) (auth.Outcome, error) {
	names := t.strays.namesOf(t.name)
	if len(names) == 0 {
		return auth.Accepted, nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.readTimeout())
	defer cancel()
	rows, err := t.rows(ctx, names)
	if err != nil {
		return auth.StoreUnavailable, err
	}
	outcome := t.rules.Elsewhere(rows, t.now())
	if i := slices.IndexFunc(rows, auth.Account.Known); outcome == auth.Locked && i >= 0 && !t.account.Known() {
		t.account = rows[i] // the name is that of an account
	}
	return outcome, nil
}
