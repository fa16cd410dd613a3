package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

// Model is the reference store: all data is in maps under one mutex, so little code that
// it can be seen to be right. Other stores are compared with it, and tests of the rules
// use it where durability does not matter. The zero Model is empty and ready.
type Model struct {
	// MaxUnknown is the largest number of names without a login; 0: no limit.
	MaxUnknown int

	// Fail, when set, is called at the start of every operation; an error ends the
	// operation there, as if the store could not be reached.
	Fail func(auth.StoreOp) error
	// FailAfter, when set, is called after an operation that succeeded: its error goes
	// to the caller, as if the answer had been lost. What Update did is done; Reserve
	// gives its slot back, since no caller has it.
	FailAfter func(auth.StoreOp) error

	mu       sync.Mutex
	accounts map[auth.Name]auth.Account
	events   []auth.Event
	removed  audit.Head
	taken    map[auth.Reservation]auth.Name
	lapsed   map[auth.Reservation]lapsed
	last     auth.Reservation
}

// lapsed is a slot that expired because its gateway was treated as dead.
type lapsed struct {
	name    auth.Name
	counted bool // as a failure
}

var _ Store = (*Model)(nil)

// Account implements [auth.Store].
func (m *Model) Account(ctx context.Context, name auth.Name) (auth.Account, error) {
	return do(m, ctx, auth.OpAccount, func() (auth.Account, error) { return m.read(name), nil })
}

// Reserve implements [auth.Store].
func (m *Model) Reserve(ctx context.Context, name auth.Name, slots func(auth.Account) int) (auth.Account, auth.Reservation, error) {
	var r auth.Reservation
	a, err := do(m, ctx, auth.OpReserve, func() (auth.Account, error) {
		a := m.read(name)
		if m.inFlight(name)+1 > slots(m.read(name)) {
			return a, auth.ErrNoSlot
		}
		if !m.room(name) {
			return a, auth.ErrFull
		}
		m.last++
		r = m.last
		if m.taken == nil {
			m.taken = make(map[auth.Reservation]auth.Name)
		}
		m.taken[r] = name
		return a, nil
	})
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.taken, r)
		return a, 0, err
	}
	return a, r, nil
}

// Update implements [auth.Store].
func (m *Model) Update(ctx context.Context, name auth.Name, r auth.Reservation, change auth.Change) (auth.Account, error) {
	return do(m, ctx, auth.OpUpdate, func() (auth.Account, error) {
		a := m.read(name)
		late, isLate := m.lapsed[r]
		if r != 0 && !isLate {
			switch holder, taken := m.taken[r]; {
			case !taken:
				return a, nil // it was settled before
			case holder != name:
				return a, errors.New("the reservation is another account's")
			}
		}
		changed := m.read(name)
		events, write, err := apply(change, &changed)
		if err != nil {
			return a, err
		}
		if late.counted && changed.Failures > a.Failures {
			write = false // it was counted when the slot expired
		}
		if write {
			changed.Name = name
			if err := m.write(changed.Normalized(), events); err != nil {
				return a, err
			}
		}
		delete(m.taken, r)
		delete(m.lapsed, r)
		return m.read(name), nil
	})
}

// Taken returns the slots that are taken.
func (m *Model) Taken() map[auth.Reservation]auth.Name {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.taken)
}

// Lapse makes a slot expire, as when the other gateways treat its gateway as dead: the
// slot is free, and change says how it counts. Its gateway may still live and settle it
// later.
func (m *Model) Lapse(r auth.Reservation, change auth.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, taken := m.taken[r]
	if !taken {
		return nil
	}
	a := m.read(name)
	events, write, err := apply(change, &a)
	if err == nil && write {
		a.Name = name
		err = m.write(a.Normalized(), events)
	}
	if err != nil {
		return err
	}
	if m.lapsed == nil {
		m.lapsed = make(map[auth.Reservation]lapsed)
	}
	m.lapsed[r] = lapsed{name, write}
	delete(m.taken, r)
	return nil
}

// UpdateBatch implements [auth.Importer].
func (m *Model) UpdateBatch(ctx context.Context, names []auth.Name, change auth.Change) error {
	_, err := do(m, ctx, auth.OpUpdate, func() (_ struct{}, first error) {
		for _, name := range names {
			a := m.read(name)
			events, write, err := apply(change, &a)
			if err == nil && write {
				a.Name = name
				err = m.write(a.Normalized(), events)
			}
			if first == nil {
				first = err
			}
		}
		return struct{}{}, first
	})
	return err
}

// write remembers the account and appends the events.
func (m *Model) write(a auth.Account, events []auth.Event) error {
	if !a.Known() && !a.Blank() && !m.room(a.Name) {
		return auth.ErrFull
	}
	if m.accounts == nil {
		m.accounts = make(map[auth.Name]auth.Account)
	}
	m.accounts[a.Name] = a
	if a.Blank() {
		delete(m.accounts, a.Name)
	}
	for _, e := range events {
		head := m.removed
		if n := len(m.events); n > 0 {
			head = link(m.events[n-1])
		}
		e = e.Normalized()
		e.Seq = head.Seq + 1
		e.Hash = audit.Chain(head.Hash, e)
		m.events = append(m.events, e)
	}
	return nil
}

// link is the place of an event in the chain.
func link(e auth.Event) audit.Head { return audit.Head{Seq: e.Seq, Hash: e.Hash, At: e.At} }

// Each implements [Store].
func (m *Model) Each(ctx context.Context, f func(auth.Account) error) error {
	accounts, err := m.List(ctx, auth.Filter{Limit: math.MaxInt})
	for _, a := range accounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(a); err != nil {
			return err
		}
	}
	return err
}

// List implements [Store].
func (m *Model) List(ctx context.Context, want auth.Filter) ([]auth.Account, error) {
	return do(m, ctx, auth.OpList, func() (found []auth.Account, _ error) {
		for _, name := range slices.Sorted(maps.Keys(m.accounts)) {
			a := m.read(name)
			switch {
			case name <= want.After,
				!listed(name, a, want),
				!strings.Contains(string(name), Fold(want.Contains)),
				want.Locked && a.Lock.Cause == auth.NotLocked,
				want.Revoked && a.Revocation.IsZero(),
				!want.IdleBefore.IsZero() && !before(cmp.Or(a.LastLogin, a.Registered), want.IdleBefore),
				!want.PasswordBefore.IsZero() && !before(a.Password.Since, want.PasswordBefore):
				continue
			}
			if found = append(found, a); len(found) == cmp.Or(want.Limit, auth.DefaultLimit) {
				break
			}
		}
		return found, nil
	})
}

// Events implements [Store].
func (m *Model) Events(ctx context.Context, want auth.EventFilter) ([]auth.Event, error) {
	return do(m, ctx, auth.OpEvents, func() (found []auth.Event, _ error) {
		for _, e := range slices.Backward(m.events) {
			if want.Account != "" && e.Account != want.Account ||
				len(want.Kinds) > 0 && !slices.Contains(want.Kinds, e.Kind) ||
				want.Before > 0 && e.Seq >= want.Before {
				continue
			}
			if found = append(found, e); len(found) == cmp.Or(want.Limit, auth.DefaultLimit) {
				break
			}
		}
		return found, nil
	})
}

// Verify implements [Store].
func (m *Model) Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error) {
	return do(m, ctx, auth.OpVerify, func() (head audit.Head, _ error) {
		head = m.removed
		for i, e := range m.events {
			if e.Seq != head.Seq+1 || e.Hash != audit.Chain(head.Hash, e) {
				return head, &audit.BrokenChain{Seq: e.Seq, Why: "the event does not fit the one before it"}
			}
			head = link(e)
			if progress != nil {
				progress(int64(i+1), int64(len(m.events)))
			}
		}
		return head, nil
	})
}

// Removed implements [Store].
func (m *Model) Removed(ctx context.Context) (audit.Head, error) {
	return do(m, ctx, auth.OpPrune, func() (audit.Head, error) { return m.removed, nil })
}

// Older implements [Store].
func (m *Model) Older(ctx context.Context, before time.Time) (audit.Head, error) {
	return do(m, ctx, auth.OpPrune, func() (last audit.Head, _ error) {
		last = m.removed
		for _, e := range m.events {
			if !e.At.Before(before) {
				break
			}
			last = link(e)
		}
		return last, nil
	})
}

// RemoveEvents implements [Store].
func (m *Model) RemoveEvents(ctx context.Context, announced int64, most int) (audit.Head, error) {
	return do(m, ctx, auth.OpPrune, func() (audit.Head, error) {
		var told auth.Event
		for _, e := range m.events {
			if e.Seq == announced {
				told = e
			}
		}
		last, err := audit.Removes(told, m.removed, most)
		for err == nil && m.removed.Seq < last {
			m.removed, m.events = link(m.events[0]), m.events[1:]
		}
		return m.removed, err
	})
}

// Alone implements [Store].
func (m *Model) Alone(ctx context.Context, _ string, f func(context.Context) error) (bool, error) {
	return true, f(ctx)
}

// do runs one operation under the lock, between Fail and FailAfter.
func do[T any](m *Model, ctx context.Context, op auth.StoreOp, f func() (T, error)) (result T, err error) {
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if m.Fail != nil {
		if err := m.Fail(op); err != nil {
			return result, err
		}
	}
	func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		result, err = f()
	}()
	if err == nil && m.FailAfter != nil {
		err = m.FailAfter(op)
	}
	return result, err
}

// read returns a copy of an account that shares no memory with the model.
func (m *Model) read(name auth.Name) auth.Account {
	a := m.accounts[name]
	a.Name = name
	return a.Normalized()
}

func (m *Model) inFlight(name auth.Name) (n int) {
	for _, holder := range m.taken {
		if holder == name {
			n++
		}
	}
	return n
}

// listed reports whether the filter asks for known, unknown or shared names such as this.
func listed(name auth.Name, a auth.Account, want auth.Filter) bool {
	switch {
	case name.Shared():
		return want.Shared
	case want.Shared && !want.Unknown:
		return false
	}
	return a.Known() || want.Unknown
}

// room reports whether the store may remember something for name: it already does, or
// the name holds a slot, or there is room for one more unknown name. So an attempt that
// was admitted can always be settled.
func (m *Model) room(name auth.Name) bool {
	if _, has := m.accounts[name]; has || m.MaxUnknown == 0 || name.Shared() {
		return true
	}
	unknown := make(map[auth.Name]bool)
	for _, a := range m.accounts {
		if !a.Known() && !a.Name.Shared() {
			unknown[a.Name] = true
		}
	}
	for _, holder := range m.taken {
		if _, has := m.accounts[holder]; !has && !holder.Shared() {
			unknown[holder] = true
		}
	}
	return unknown[name] || len(unknown) < m.MaxUnknown
}

// UnknownNames implements [Store].
func (m *Model) UnknownNames(context.Context) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.accounts {
		if !a.Known() && !a.Name.Shared() {
			n++
		}
	}
	return n, nil
}

// apply runs change; a panic of it is an error.
func apply(change auth.Change, a *auth.Account) (events []auth.Event, write bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			events, write, err = nil, false, fmt.Errorf("change panicked: %s", auth.PanicText(p))
		}
	}()
	events, write = change(a)
	return events, write, nil
}

// before is t.Before(limit), and false when t is zero.
func before(t, limit time.Time) bool { return !t.IsZero() && t.Before(limit) }
