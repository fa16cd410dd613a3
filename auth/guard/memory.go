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
// lost with the process, and all of it has bounded room. What guessers can fill has
// room of its own, so that no guesser makes the process forget a password that is known
// to be good, or an unlock. Its locks are the innermost: no code that runs under one of
// them takes another lock.
//
// Two functions end what it remembers of a name. [memory.void] removes what lets the
// account in: after a lock no login may go on by what was known before. [memory.forget]
// removes what is held against the account: an unlock forgives it.
//
//	             filled by         void   forget
//	known        logins            all    the count of compared wrong passwords
//	recent       all attempts             all
//	entries      wrong passwords          all: readers check forgiven
//	forgiven     unlocks                  no: it is the memory of unlocks
//	origins      logins
//	alerted      logins
type memory struct {
	known    lru.Map[auth.Name, knownGood]
	voided   generations // generations of known
	recent   lru.Map[auth.Name, recent]
	entries  lru.Map[auth.Digest, entry]     // wrong passwords, for deciding whether a repeat counts
	forgiven lru.Map[auth.Name, time.Time]   // the latest unlock of a name that was applied here
	origins  lru.Map[auth.Name, auth.Origin] // origins of last logins
	alerted  lru.Map[auth.Digest, string]    // the day of the last warning, by account and mail program, that the password expires
}

// The room of the memory, in names.
const (
	maxRecent  = 3 * 4096
	maxUnlocks = 4096
)

// make allocates the memory; passwords is the room of known in accounts, 0 for the
// default.
func (m *memory) make(passwords int) {
	m.known = lru.New[auth.Name, knownGood](cmp.Or(passwords, 100_000))
	m.recent, m.forgiven = lru.New[auth.Name, recent](maxRecent), lru.New[auth.Name, time.Time](maxUnlocks)
	m.entries, m.alerted = lru.New[auth.Digest, entry](maxEntries), lru.New[auth.Digest, string](maxEntries)
	m.origins = lru.New[auth.Name, auth.Origin](maxOrigins)
}

// generations tell whether the memory of a name was made void while a login was being
// settled: then the login must not store what it read before. They are counters that
// names share, so that their room is fixed. An event of another name with the same
// counter only means that this login is not remembered; the next one is. The zero
// generations are ready for use.
type generations [1024]atomic.Uint64

// of returns the counter of a name.
func (g *generations) of(name auth.Name) *atomic.Uint64 { return &g[lru.Shard(name, len(g))] }

// generation returns the value that a caller which now reads the account must pass to
// [memory.remember].
func (m *memory) generation(name auth.Name) uint64 { return m.voided.of(name).Load() }

// void removes what lets an account in: its accepted passwords, and the account as last
// read, by which a login goes on while the store is down. It is called after every lock
// or revocation, here or at another gateway, and when an attempt finds that one has
// happened.
func (m *memory) void(name auth.Name) {
	// The order matters: a login that is being settled either sees the new generation,
	// or has already written the entry that is then removed.
	m.voided.of(name).Add(1)
	m.known.Remove(name)
}

// remember changes what is known of an account and returns it, unless it was made void
// since generation.
func (m *memory) remember(name auth.Name, generation uint64, change func(knownGood) knownGood) (knownGood, bool) {
	return m.known.UpdateIf(name, func() bool { return m.generation(name) == generation }, change)
}

// forget removes what is held against a name from up to an instant, and returns the
// sources at which the name was refused.
func (m *memory) forget(name auth.Name, upto time.Time) (refused []netip.Prefix) {
	m.recent.Alter(name, func(r *recent) {
		refused = r.refused.sources()
		r.forget(upto)
	})
	m.recent.RemoveIf(name, recent.isZero)
	m.known.Alter(name, func(k *knownGood) {
		if !k.missed.After(upto) {
			k.misses, k.unjudged = 0, nil
		}
	})
	return refused
}

// recent is what support staff look for when the user of an account calls and the store
// does not have. Its lists are read without a lock, so they are never changed in place
// but replaced.
type recent struct {
	refused    refusals // without asking the mail server
	unanswered Refusal  // the mail server or the store gave no answer
	tried      []triedPassword
}

// isZero reports whether it is empty.
func (r recent) isZero() bool {
	return len(r.refused) == 0 && r.unanswered.IsZero() && len(r.tried) == 0
}

// forget removes each part whose latest entry is not after upto.
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
