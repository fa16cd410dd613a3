package guard

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"congthu/auth"
)

// A store may hold a row under a name that is no longer an account of its own: it has
// become an alias, or its domain is one of several that the mail server treats as one.
// Such a row is a stray of the account that its name now means. No login uses the row, but
// its lock or revocation applies to the account, until [Guard.Merge] makes one row of
// the two.

// strays are the strays in the store, by the account that their names mean.
type strays struct {
	names *auth.Namer

	mu      sync.RWMutex
	learned bool // of is complete
	of      map[auth.Name][]auth.Name
}

// straysOf returns strays that are not learned yet; nil if names can have none.
func straysOf(names *auth.Namer) *strays {
	if names == nil || len(names.Aliases) == 0 && !names.FoldsDomains() {
		return nil
	}
	return &strays{names: names, of: make(map[auth.Name][]auth.Name)}
}

// existing returns the account that a login name with letters beyond ASCII means, if the
// account is from before such names were refused: its owner must not read that the
// password is wrong. Otherwise the outcome is not Accepted.
func (t *attempt) existing(ctx context.Context, names *auth.Namer) (auth.Name, auth.Outcome, error) {
	name, err := names.Existing(t.Login)
	if err != nil {
		return "", auth.Malformed, err
	}
	if _, good := t.known.Get(name); good {
		return name, auth.Accepted, nil // without reading the store
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

// namesOf returns the rows that may apply to an account: its strays or, until they are
// learned, all names that could be strays of it.
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

// add notes a row, and returns the account of which it is a stray, if it is one.
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

// accounts returns the accounts that have strays, in the order of their names.
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

// NamesLearned is the result of [Guard.LearnNames].
type NamesLearned struct {
	// Strays is the number of rows whose name means another account.
	Strays int
	// NotASCII is the number of accounts with letters beyond ASCII in the part before the @,
	// while [auth.Namer].Unicode is not set: these still work, and no new ones can begin.
	NotASCII int
}

// LearnNames reads all rows of the store once and notes those whose name now means
// another account. Call it after the start and after each [Guard.SetPolicy]; until it
// has finished, every login of an account that could have such rows looks for each of
// them.
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

// sameNames reports whether two policies treat names alike.
func sameNames(one, other *auth.Namer) bool { return reflect.DeepEqual(one, other) }

// OtherNames returns the rows that the store has of an account under names that no
// longer mean an account of their own.
func (g *Guard) OtherNames(ctx context.Context, account auth.Name) ([]auth.Account, error) {
	g.init()
	ctx, cancel := context.WithTimeout(ctx, g.storeTimeout())
	defer cancel()
	return g.rows(ctx, g.policy.Load().strays.namesOf(account))
}

// rows returns those rows of these names that exist.
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

// straysOutcome reads the strays of the attempt's account and applies the rules to them.
func (t *attempt) straysOutcome(ctx context.Context) (auth.Outcome, error) {
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
		t.account = rows[i] // so that the verdict says that the name is an account
	}
	return outcome, nil
}
