package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/internal/lru"
)

// memory is what one process remembers of accounts beside the store. All of it may be
// lost with the process, and all of it has bounded room: what strangers can fill has
// room of its own, so that no guesser makes the process forget a password that is known
// to be good, or an unlock. Its locks are the innermost: nothing that is called under
// one takes another.
//
// Two things end what it remembers of a name. [memory.void] is for what speaks for the
// account: after a lock nobody goes on by what was known before. [memory.forget] is for
// what speaks against it: an unlock forgives it.
//
//	             filled by         void   forget
//	known        logins            all    the wrong passwords that were compared with it
//	recent       anybody                  all
//	entries      wrong passwords          all: who reads them looks at forgiven
//	forgiven     unlocks                  it is what is remembered of them
//	origins      logins
//	alerted      logins
type memory struct {
	known    lru.Map[auth.Name, knownGood]
	voided   generations // of known
	recent   lru.Map[auth.Name, recent]
	entries  lru.Map[auth.Digest, entry]     // of wrong passwords, where not each repeat counts
	forgiven lru.Map[auth.Name, time.Time]   // the latest unlock of a name that was applied here
	origins  lru.Map[auth.Name, auth.Origin] // of last logins
	alerted  lru.Map[auth.Digest, string]    // the day on which an account and program was told that its password runs out
}

// The room is in names, and of entries and alerted in passwords and mail programs.
const (
	maxRecent  = 3 * 4096
	maxUnlocks = 4096
)

// make gives the memory its room; passwords is that of known, 0 for the default.
func (m *memory) make(passwords int) {
	m.known = lru.New[auth.Name, knownGood](cmp.Or(passwords, 100_000))
	m.recent, m.forgiven = lru.New[auth.Name, recent](maxRecent), lru.New[auth.Name, time.Time](maxUnlocks)
	m.entries, m.alerted = lru.New[auth.Digest, entry](maxEntries), lru.New[auth.Digest, string](maxEntries)
	m.origins = lru.New[auth.Name, auth.Origin](maxOrigins)
}

// generations tell whether what is known of a name was made void while a login was
// being settled: then the login must not write down what it saw before that. They
// are counters that names share, so that any number of names needs no more room;
// another name's event costs a login nothing but that it is not remembered, and the
// next one is. The zero generations are ready for use.
type generations [1024]atomic.Uint64

// of returns the counter of a name.
func (g *generations) of(name auth.Name) *atomic.Uint64 { return &g[lru.Shard(name, len(g))] }

// generation is what [memory.remember] must be given by who reads the account from now.
func (m *memory) generation(name auth.Name) uint64 { return m.voided.of(name).Load() }

// void makes void what is known of an account: its passwords that were accepted, and
// the account as it was then, by which a login goes on while the store is down. It is
// called after everything that locks or revokes, here or at another gateway, and when
// an attempt finds that this has happened.
func (m *memory) void(name auth.Name) {
	// In this order: a login that is being settled either sees the new generation,
	// or has written what is removed then.
	m.voided.of(name).Add(1)
	m.known.Remove(name)
}

// remember changes what is known of an account, and returns it, unless it was made
// void since generation.
func (m *memory) remember(name auth.Name, generation uint64, change func(knownGood) knownGood) (knownGood, bool) {
	return m.known.UpdateIf(name, func() bool { return m.generation(name) == generation }, change)
}

// forget forgets what is held against a name from up to an instant, and returns the
// sources from which it was refused.
func (m *memory) forget(name auth.Name, upto time.Time) (refused []netip.Prefix) {
	m.recent.Alter(name, func(r *recent) {
		refused = r.refused.sources()
		r.forget(upto)
	})
	m.recent.RemoveIf(name, recent.isZero)
	m.known.Alter(name, func(k *knownGood) {
		if !k.missed.After(upto) {
			k.misses, k.unpaid = 0, nil
		}
	})
	return refused
}

// recent is what support staff look for when the user of an account calls, and the
// store has nothing of. A list in it is not altered but replaced, since it is read
// without a lock.
type recent struct {
	refused    refusals // unasked
	unanswered Refusal  // by the mail server
	tried      []triedPassword
}

// isZero reports whether there is nothing.
func (r recent) isZero() bool {
	return len(r.refused) == 0 && r.unanswered.IsZero() && len(r.tried) == 0
}

// forget forgets each of them that is not younger than an instant.
func (r *recent) forget(upto time.Time) {
	if !r.refused.latest().At.After(upto) {
		r.refused = nil
	}
	if !r.unanswered.At.After(upto) {
		r.unanswered = Refusal{}
	}
	if !slices.ContainsFunc(r.tried, func(p triedPassword) bool { return p.Last.After(upto) }) {
		r.tried = nil
	}
}
