package sqlite

import (
	"context"
	"errors"
	"sync"

	"congthu/auth"
)

// slots are the reservations, in memory: one process owns the file, and an attempt ends
// with its process.
//
// Proof that no more wrong passwords are judged than Reserve's callback allows. Let
// the callback return limit - failures, and call an attempt "in flight" from
// the moment its slot is counted to the moment it is released. [Store.Reserve]
//
//  1. counts n, the attempts in flight and itself,
//  2. then reads the account, in a transaction that begins after 1, or from
//     memory, which has what such a transaction would read (see cache),
//  3. then admits the attempt only if n <= limit - failures,
//
// and a slot is released only after the commit of its change, which every
// transaction that begins later sees. Take the last attempt that is admitted. Any
// attempt admitted before it is, at step 1, either still in flight, and then included
// in n, or released, and then its failure is included in what step 2 reads. So all
// attempts that ever fail are at most n + failures <= limit.
// (With read first and count second, an attempt that settles in between would be
// included in neither.) An attempt that settles between 1 and 2 is included in both,
// which errs on the safe side; Reserve then repeats the steps instead of refusing.
type slots struct {
	max int // largest number of unknown names

	mu    sync.Mutex
	last  auth.Reservation
	taken map[auth.Reservation]*slot
	names map[auth.Name]*entry
	// unknown is the number of rows of names without a login, newcomers the number of
	// names without a row for which room is reserved.
	unknown, newcomers int
}

// slot is one taken slot.
type slot struct {
	*entry
	// settling is set while the writer has a change for the slot whose outcome is
	// unknown: no other caller may release it then.
	settling bool
}

// entry is a name with attempts that are in flight or being reserved.
type entry struct {
	name     auth.Name
	turn     chan struct{} // a lock for reserving; it ends with a context
	inFlight int
	released uint64 // number of slots released so far
	users    int    // callers between enter and leave
	newcomer bool   // room for its row is reserved
}

// enter returns the entry of name, which stays until leave.
func (s *slots) enter(name auth.Name) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.names[name]
	if e == nil {
		e = &entry{name: name, turn: make(chan struct{}, 1)}
		s.names[name] = e
	}
	e.users++
	return e
}

func (s *slots) leave(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.users--
	s.forget(e)
}

// forget removes an entry that is not in use, and its reserved room.
func (s *slots) forget(e *entry) {
	if e.users > 0 || e.inFlight > 0 {
		return
	}
	if e.newcomer {
		s.newcomers--
	}
	delete(s.names, e.name)
}

// reserve is [Store.Reserve], with a function that reads accounts.
func (s *slots) reserve(
	ctx context.Context, name auth.Name, limit func(auth.Account) int,
	read func(context.Context, auth.Name) (a auth.Account, exists bool, err error),
) (auth.Account, auth.Reservation, error) {
	e := s.enter(name)
	defer s.leave(e)
	// One at a time for each name: a reservation that will be refused must not be
	// counted by another one, which might then be refused wrongly.
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return auth.Account{}, 0, ctx.Err()
	}
	for {
		n, released := s.count(e)
		a, exists, err := read(ctx, name)
		if err != nil {
			return auth.Account{}, 0, err
		}
		if n+1 <= limit(a.Clone()) {
			r, err := s.take(e, exists)
			return a, r, err
		}
		// This loop ends: each round needs a release, and no other caller can take a slot meanwhile.
		if _, now := s.count(e); now == released {
			return a, 0, auth.ErrNoSlot
		}
	}
}

func (s *slots) count(e *entry) (inFlight int, released uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.inFlight, e.released
}

// take takes a slot. If the name has no row, room for one is reserved, so that the
// attempt can be settled.
func (s *slots) take(e *entry, exists bool) (auth.Reservation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !exists && !s.room(e) {
		return 0, auth.ErrFull
	}
	s.last++
	e.inFlight++
	s.taken[s.last] = &slot{entry: e}
	return s.last, nil
}

// promise reserves room for the row of a name without one, until the entry ends or the
// row exists.
func (s *slots) promise(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.room(e)
}

func (s *slots) room(e *entry) bool {
	if e.newcomer || e.name.Shared() {
		return true
	}
	if s.unknown+s.newcomers >= s.max {
		return false
	}
	e.newcomer = true
	s.newcomers++
	return true
}

// stored notes that the row of e was committed, or its removal; change is the change of
// the number of rows of unknown names.
func (s *slots) stored(e *entry, exists bool, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unknown += change
	switch {
	case exists && e.newcomer:
		e.newcomer = false
		s.newcomers--
	case !exists && !e.newcomer && e.inFlight > 0 && !e.name.Shared():
		// The attempts in flight may need a row again.
		e.newcomer = true
		s.newcomers++
	}
}

// claim is what the writer finds for a reservation that it must settle.
type claim uint8

const (
	claimed claim = iota // or r is 0, and there is nothing to settle
	settled              // it was settled before, or is being settled
	foreign              // it is the reservation of another account
)

var errForeign = errors.New("the reservation is another account's")

// look returns what claim would return, and claims nothing.
func (s *slots) look(r auth.Reservation, name auth.Name) claim {
	if r == 0 {
		return claimed // the usual login: it needs no slot, and so no lock
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t := s.taken[r]; {
	case t == nil:
		return settled
	case t.name != name:
		return foreign
	}
	return claimed
}

// claim reserves the settlement of r for the caller, until release or unclaim.
func (s *slots) claim(r auth.Reservation, name auth.Name) claim {
	if found := s.look(r, name); found != claimed || r == 0 {
		return found
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.taken[r]
	if t == nil || t.settling {
		return settled
	}
	t.settling = true
	return claimed
}

// unclaim ends a claim; the slot stays taken.
func (s *slots) unclaim(r auth.Reservation) {
	if r == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.taken[r]; t != nil {
		t.settling = false
	}
}

// release frees a slot that the caller has claimed.
func (s *slots) release(r auth.Reservation) {
	if r == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.taken[r]
	if t == nil {
		return
	}
	delete(s.taken, r)
	t.inFlight--
	t.released++
	s.forget(t.entry)
}
