package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"congthu/auth"
)

// histories runs the same random histories on a store and on the model, step by step,
// and compares their answers. The number of a history is its seed.
func histories(t *testing.T, h Harness) {
	for seed := range uint64(Rounds(5, 50)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			const room = 4
			d := driver{
				T: t, h: h, rand: rand.New(rand.NewPCG(seed, 0)),
				store: h.Open(t, Options{MaxUnknown: room}), model: &Model{MaxUnknown: room},
			}
			for range 150 {
				d.step()
			}
			d.compareAll()
		})
	}
}

type driver struct {
	*testing.T
	h     Harness
	rand  *rand.Rand
	store Store
	model *Model
	held  []held
	steps int
}

// held is a reservation of the store and the same one of the model.
type held struct {
	name         auth.Name
	store, model auth.Reservation
}

func (d *driver) step() {
	d.Helper()
	d.steps++
	name := auth.Name(fmt.Sprintf("n%d@congthu.test", d.rand.IntN(8)))
	switch n := d.rand.IntN(20); {
	case n < 6:
		slots := tolerate(d.rand.IntN(7))
		a, r, err := d.store.Reserve(d.Context(), name, slots)
		b, q, wrong := d.model.Reserve(d.Context(), name, slots)
		d.same("reserve "+string(name), a, b, err, wrong)
		if err == nil {
			d.held = append(d.held, held{name, r, q})
		}
	case n < 12 && len(d.held) > 0: // sometimes keep it, to settle it again
		i := d.rand.IntN(len(d.held))
		if d.update(d.held[i]) == nil && d.rand.IntN(4) > 0 {
			d.held = slices.Delete(d.held, i, i+1)
		}
	case n < 16:
		d.update(held{name: name})
	case n < 17:
		d.store = d.h.reopened(d.T, d.store)
		// Reservations may end with the process or may not: release them all first.
		for _, h := range d.held {
			update(d.T, d.model, h.name, h.model, nothing)
			update(d.T, d.store, h.name, h.store, nothing)
		}
		d.held = nil
	case n < 18:
		d.updateBatch()
	default:
		d.compareAll()
	}
}

// updateBatch makes the same random change of some accounts in both.
func (d *driver) updateBatch() {
	d.Helper()
	var names []auth.Name
	for _, i := range d.rand.Perm(8)[:d.rand.IntN(9)] {
		names = append(names, auth.Name(fmt.Sprintf("n%d@congthu.test", i)))
	}
	changes := []auth.Change{give, give, give, fail, nothing, func(a *auth.Account) ([]auth.Event, bool) {
		if a.Known() {
			*a = auth.Account{}
			return nil, true
		}
		return give(a)
	}}
	i := d.rand.IntN(len(changes))
	n, err := counted(d.Context(), d.store, names, changes[i])
	m, wrong := counted(d.Context(), d.model, names, changes[i])
	if n != m || errors.Is(err, auth.ErrFull) != errors.Is(wrong, auth.ErrFull) || (err == nil) != (wrong == nil) {
		d.Fatalf("step %d, change %d of %v: %d written and error %v; the model: %d and %v", d.steps, i, names, n, err, m, wrong)
	}
}

// update makes the same random change in both.
func (d *driver) update(h held) error {
	d.Helper()
	at := noon.Add(time.Duration(d.steps) * time.Minute)
	changes := []auth.Change{fail, fail, fail, login, nothing,
		func(a *auth.Account) ([]auth.Event, bool) { *a = auth.Account{}; return nil, true },
		func(a *auth.Account) ([]auth.Event, bool) { a.Failures = 0; a.Mistakes = nil; return nil, true },
		func(a *auth.Account) ([]auth.Event, bool) {
			*a = full(a.Name)
			return []auth.Event{{At: at, Kind: auth.AccountLocked, Account: a.Name, Actor: "admin", Reason: "lý do"}}, true
		},
		func(a *auth.Account) ([]auth.Event, bool) { panic("spilt milk") },
	}
	i := d.rand.IntN(len(changes))
	a, err := d.store.Update(d.Context(), h.name, h.store, changes[i])
	b, wrong := d.model.Update(d.Context(), h.name, h.model, changes[i])
	d.same(fmt.Sprintf("change %d of %s", i, h.name), a, b, err, wrong)
	return err
}

// same compares the store's answer with the model's.
func (d *driver) same(what string, got, want auth.Account, err, wrong error) {
	d.Helper()
	if (err == nil) != (wrong == nil) || errors.Is(err, auth.ErrNoSlot) != errors.Is(wrong, auth.ErrNoSlot) ||
		errors.Is(err, auth.ErrFull) != errors.Is(wrong, auth.ErrFull) {
		d.Fatalf("step %d, %s: error %v, the model's is %v", d.steps, what, err, wrong)
	}
	if err != nil && !errors.Is(err, auth.ErrNoSlot) {
		return
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		d.Fatalf("step %d, %s (-model +store):\n%s", d.steps, what, diff)
	}
}

func (d *driver) compareAll() {
	d.Helper()
	filter := auth.Filter{Unknown: d.rand.IntN(2) == 0, Locked: d.rand.IntN(3) == 0, Limit: 1 + d.rand.IntN(9)}
	accounts, err1 := d.store.List(d.Context(), filter)
	wanted, err2 := d.model.List(d.Context(), filter)
	events, err3 := d.store.Events(d.Context(), auth.EventFilter{Limit: 1000})
	happened, err4 := d.model.Events(d.Context(), auth.EventFilter{Limit: 1000})
	head, err5 := d.store.Verify(d.Context(), nil)
	end, err6 := d.model.Verify(d.Context(), nil)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		d.Fatalf("step %d: %v", d.steps, err)
	}
	if diff := cmp.Diff([]any{wanted, happened, end}, []any{accounts, events, head}, addresses, cmpopts.EquateEmpty()); diff != "" {
		d.Fatalf("step %d (-model +store):\n%s", d.steps, diff)
	}
}
