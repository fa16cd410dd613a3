package auth

import "sync/atomic"

// generations tell whether what is known of a name was made void while a login was
// being settled: then the login must not write down what it saw before that. They
// are counters that names share, so that any number of names needs no more room;
// another name's event costs a login nothing but that it is not remembered, and the
// next one is. The zero generations are ready for use.
type generations [1024]atomic.Uint64

// of returns the counter of a name.
func (g *generations) of(name Name) *atomic.Uint64 { return &g[shard(name, len(g))] }

// forgetKnown makes void what is known of an account: its password that was
// accepted, and the account as it was then, by which a login goes on while the
// store is down. It is called after everything that locks or revokes, here or at
// another gateway, and when an attempt finds that this has happened.
func (g *Guard) forgetKnown(name Name) {
	// In this order: a login that is being settled either sees the new generation,
	// or has written what is removed then.
	g.voided.of(name).Add(1)
	g.known.remove(name)
}
