package sqlite

import (
	"hash/maphash"
	"sync"

	"congthu/auth"
)

// cache is a copy of the rows of accounts that were lately read or written, so
// that the usual login, which changes nothing, needs no query. It is exact: what
// it answers is what a query at that moment would have read.
//
// Why. Only the writer changes rows; another process may not ([ErrInUse]). Before
// it commits it takes the names that it has changed out of the cache and bars
// them (hold); when the outcome is known it puts the new rows in, or nothing
// (settle), and only then hears its caller of it, or is a slot free. So there is
// never a copy of a row with a change on its way: whoever asks for it then reads
// the file, as if there were no cache. A copy that is made of a row read before
// such a change would be stale: hold and settle both count, and put refuses what
// was read before the count moved.
//
// Should another program write to the file all the same, as people do with a
// database shell, it is noticed within othersSeenWithin, and the cache is emptied.
//
// Names that nobody ever logged in with are not kept, since anybody can make them
// up, and neither is that there is no row. What has to make room is whatever the
// map gives first: all that it costs is one more query.
type cache struct {
	seed  maphash.Seed
	parts [32]part // one lock for all accounts would be everybody's
}

// maxCached bounds the copies; each takes 1 KiB, 2 at most.
const maxCached = 8192

type part struct {
	mu       sync.Mutex
	accounts map[auth.Name]*auth.Account
	held     map[auth.Name]bool // being committed, or in doubt
	moves    uint64             // of hold and settle
}

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].accounts = make(map[auth.Name]*auth.Account)
		c.parts[i].held = make(map[auth.Name]bool)
	}
	return c
}

func (c *cache) part(name auth.Name) *part {
	return &c.parts[maphash.String(c.seed, string(name))%uint64(len(c.parts))]
}

// get returns the caller's own copy of an account. When there is none, moves is
// what put wants to be told after the row was read.
func (c *cache) get(name auth.Name) (a auth.Account, ok bool, moves uint64) {
	p := c.part(name)
	p.mu.Lock()
	cached, moves := p.accounts[name], p.moves
	p.mu.Unlock()
	if cached == nil {
		return a, false, moves
	}
	return cached.Clone(), true, moves // nobody ever alters what is cached
}

// put keeps a copy of an account, unless it may have been changed since get.
func (c *cache) put(a auth.Account, moves uint64) {
	if !a.Known() {
		return
	}
	a = a.Clone()
	p := c.part(a.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moves == moves && !p.held[a.Name] {
		p.keep(&a)
	}
}

func (p *part) keep(a *auth.Account) {
	const most = maxCached / len(cache{}.parts)
	if _, has := p.accounts[a.Name]; !has && len(p.accounts) >= most {
		for other := range p.accounts {
			delete(p.accounts, other)
			break
		}
	}
	p.accounts[a.Name] = a
}

// hold is called before a commit that changes the accounts.
func (c *cache) hold(changed map[auth.Name]*auth.Account) {
	for name := range changed {
		p := c.part(name)
		p.mu.Lock()
		p.moves++
		delete(p.accounts, name)
		p.held[name] = true
		p.mu.Unlock()
	}
}

// settle is called when it is known whether the accounts were changed: to what
// the map has, or nil for nothing to keep.
func (c *cache) settle(changed map[auth.Name]*auth.Account, made bool) {
	for name, a := range changed {
		p := c.part(name)
		p.mu.Lock()
		p.moves++
		delete(p.held, name)
		if made && a != nil && a.Known() {
			p.keep(a)
		}
		p.mu.Unlock()
	}
}

// empty forgets all accounts.
func (c *cache) empty() {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		p.moves++
		clear(p.accounts)
		p.mu.Unlock()
	}
}
