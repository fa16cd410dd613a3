package admin

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"congthu/auth"
	"congthu/auth/audit"
)

// memory is the smallest store that a guard can work on.
type memory struct {
	mu       sync.Mutex
	accounts map[auth.Name]auth.Account
	events   []auth.Event // oldest first
	removed  audit.Head
	broken   *audit.BrokenChain
	fail     error       // of every operation
	failAt   int         // the number of events after which changes fail; 0: they never fail
	most     int         // rows per list; 0: as many as requested
	names    []auth.Name // sorted, if there are as many as accounts
	verify   func(ctx context.Context) error
}

var errDisk = errors.New("disk I/O error at /var/lib/secret-path")

func (m *memory) Account(_ context.Context, name auth.Name) (auth.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[name]
	a.Name = name
	return a, m.fail
}

func (m *memory) Reserve(ctx context.Context, name auth.Name, _ func(auth.Account) int) (auth.Account, auth.Reservation, error) {
	a, err := m.Account(ctx, name)
	return a, 1, err
}

func (m *memory) Update(_ context.Context, name auth.Name, _ auth.Reservation, change auth.Change) (auth.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return auth.Account{}, m.fail
	}
	if m.failAt > 0 && len(m.events) >= m.failAt {
		return auth.Account{}, errDisk
	}
	a := m.accounts[name]
	a.Name = name
	events, write := change(&a)
	if !write {
		return a, nil
	}
	m.accounts[name] = a
	for _, e := range events {
		e.Seq = int64(len(m.events) + 1)
		prev := ""
		if len(m.events) > 0 {
			prev = m.events[len(m.events)-1].Hash
		}
		e.Hash = audit.Chain(prev, e)
		m.events = append(m.events, e)
	}
	return a, nil
}

func (m *memory) List(_ context.Context, f auth.Filter) ([]auth.Account, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	if len(m.names) != len(m.accounts) {
		m.names = slices.Sorted(maps.Keys(m.accounts))
	}
	n := f.Limit
	if m.most > 0 {
		n = min(n, m.most)
	}
	var found []auth.Account
	begin, _ := slices.BinarySearch(m.names, f.After+"\x00")
	for _, name := range m.names[begin:] {
		a := m.accounts[name]
		login := a.LastLogin
		if login.IsZero() {
			login = a.Registered
		}
		switch {
		case !a.Known() && !f.Unknown,
			!strings.Contains(string(a.Name), strings.ToLower(f.Contains)),
			f.Locked && a.Lock.Cause == auth.NotLocked,
			f.Revoked && a.Revocation.IsZero(),
			!f.IdleBefore.IsZero() && !login.Before(f.IdleBefore),
			!f.PasswordBefore.IsZero() && (a.Password.Since.IsZero() || !a.Password.Since.Before(f.PasswordBefore)):
			continue
		}
		if found = append(found, a); len(found) == n {
			break
		}
	}
	return found, nil
}

func (m *memory) Each(ctx context.Context, f func(auth.Account) error) error {
	accounts, err := m.List(ctx, auth.Filter{Limit: 1 << 30})
	for _, a := range accounts {
		if err := f(a); err != nil {
			return err
		}
	}
	return err
}

func (m *memory) Events(_ context.Context, f auth.EventFilter) ([]auth.Event, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var found []auth.Event
	for _, e := range slices.Backward(m.events) {
		if f.Account != "" && e.Account != f.Account || f.Before != 0 && e.Seq >= f.Before ||
			len(f.Kinds) > 0 && !slices.Contains(f.Kinds, e.Kind) || len(found) == f.Limit {
			continue
		}
		found = append(found, e)
	}
	return found, nil
}

func (m *memory) Removed(context.Context) (audit.Head, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removed, m.fail
}

func (m *memory) Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error) {
	if m.verify != nil {
		if err := m.verify(ctx); err != nil {
			return audit.Head{}, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return audit.Head{}, m.fail
	}
	n := int64(len(m.events))
	if m.broken != nil {
		progress(m.broken.Seq-1, n)
		return audit.Head{}, m.broken
	}
	progress(n, n)
	if n == 0 {
		return audit.Head{}, nil
	}
	last := m.events[n-1]
	return audit.Head{Seq: last.Seq, Hash: last.Hash, At: last.At}, nil
}
