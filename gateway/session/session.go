// Package session holds the live sessions of each account, so that an admin's lock or a
// revocation can end them, support staff can see them, and a shutdown knows how many
// it waits for.
//
// A lock made by wrong passwords never ends a session: otherwise an
// attacker could disconnect users by guessing.
package session

import (
	"slices"
	"sync"

	"congthu/auth"
)

// Registry holds the live sessions. The zero Registry is ready to use.
type Registry struct {
	mu     sync.Mutex
	byName map[auth.Name]map[*entry]struct{}
	n      int
}

type entry struct {
	from auth.Origin
	end  func()
}

// Add registers a logged-in session of name and where it came from. end is called, in
// a goroutine of its own and at most once per End, to close it. The returned function
// takes the session out again and must be called exactly once.
func (r *Registry) Add(name auth.Name, from auth.Origin, end func()) (remove func()) {
	e := &entry{from, end}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName == nil {
		r.byName = make(map[auth.Name]map[*entry]struct{})
	}
	if r.byName[name] == nil {
		r.byName[name] = make(map[*entry]struct{})
	}
	r.byName[name][e] = struct{}{}
	r.n++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.byName[name], e)
		if len(r.byName[name]) == 0 {
			delete(r.byName, name)
		}
		r.n--
	}
}

// End closes all sessions of name and returns how many there were.
func (r *Registry) End(name auth.Name) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.byName[name] {
		go e.end()
	}
	return len(r.byName[name])
}

// Of returns where the live sessions of name came from, the oldest first.
func (r *Registry) Of(name auth.Name) []auth.Origin {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []auth.Origin
	for e := range r.byName[name] {
		all = append(all, e.from)
	}
	slices.SortFunc(all, func(a, b auth.Origin) int { return a.At.Compare(b.At) })
	return all
}

// Len returns how many sessions are live, of name or, for "", of all accounts.
func (r *Registry) Len(name auth.Name) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "" {
		return r.n
	}
	return len(r.byName[name])
}
