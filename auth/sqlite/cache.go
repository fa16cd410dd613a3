package sqlite

import (
	"hash/maphash"
	"sync"

	"congthu/auth"
)

// cache is a copy of the rows of accounts that were read or written lately, so that
// the usual login, which changes nothing, needs no query. It is exact: it returns what
// a query at that moment would have read.
//
// Proof. Only the writer changes rows; another process may not ([ErrInUse]). Before it
// commits, it removes the names that it has changed from the cache and blocks them
// (beginCommit). When the outcome is known it stores the new rows, or nothing
// (endCommit). Only after that does its caller get the result, and is a slot free. So
// there is never a copy of a row that is being changed: a reader then reads the file, as
// if there were no cache. A copy of a row that was read before such a change would be
// stale: beginCommit and endCommit both increment version, and put refuses a row that
// was read at an older version.
//
// If another program writes to the file nevertheless, as people do with a database shell,
// the writer notices within othersSeenWithin and empties the cache.
//
// Names without a login are not cached, since any client can make them up, and neither
// is the fact that there is no row. When the cache is full an arbitrary account is
// removed: that costs one more query.
type cache struct {
	seed  maphash.Seed
	parts [32]part // so that accounts do not share one lock
}

// maxCached is the largest number of copies; each takes 1 KiB, at most 2 KiB.
const maxCached = 8192

type part struct {
	mu       sync.Mutex
	accounts map[auth.Name]*auth.Account
	held     map[auth.Name]bool // being committed, or in doubt
	version  uint64             // number of calls of beginCommit and endCommit
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

// get returns the caller's own copy of an account. If there is none, the caller passes
// version to put after it has read the row.
func (c *cache) get(name auth.Name) (a auth.Account, ok bool, version uint64) {
	p := c.part(name)
	p.mu.Lock()
	cached, version := p.accounts[name], p.version
	p.mu.Unlock()
	if cached == nil {
		return a, false, version
	}
	return cached.Clone(), true, version // cached accounts are never changed in place
}

// put stores a copy of an account, unless the account may have changed since get.
func (c *cache) put(a auth.Account, version uint64) {
	if !a.Known() {
		return
	}
	a = a.Clone()
	p := c.part(a.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == version && !p.held[a.Name] {
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

// beginCommit is called before a commit that changes the accounts.
func (c *cache) beginCommit(changed map[auth.Name]*auth.Account) {
	for name := range changed {
		p := c.part(name)
		p.mu.Lock()
		p.version++
		delete(p.accounts, name)
		p.held[name] = true
		p.mu.Unlock()
	}
}

// endCommit is called when it is known whether the accounts were changed: to those in
// the map, or nil for an account that is not to be cached.
func (c *cache) endCommit(changed map[auth.Name]*auth.Account, made bool) {
	for name, a := range changed {
		p := c.part(name)
		p.mu.Lock()
		p.version++
		delete(p.held, name)
		if made && a != nil && a.Known() {
			p.keep(a)
		}
		p.mu.Unlock()
	}
}

// empty removes all accounts.
func (c *cache) empty() {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		p.version++
		clear(p.accounts)
		p.mu.Unlock()
	}
}
