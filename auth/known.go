package auth

import (
	"bytes"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// generations tell whether what is known of a name was made void while a login was
// being settled: then the login must not write down what it saw before that. They
// are counters that names share, so that any number of names needs no more room;
// another name's event costs a login nothing but that it is not remembered, and the
// next one is. The zero generations are ready for use.
type generations [1024]atomic.Uint64

// of returns the counter of a name.
func (g *generations) of(name Name) *atomic.Uint64 { return &g[shard(name, len(g))] }

// forgetKnown makes void what is known of an account: its passwords that were
// accepted, and the account as it was then, by which a login goes on while the
// store is down. It is called after everything that locks or revokes, here or at
// another gateway, and when an attempt finds that this has happened.
func (g *Guard) forgetKnown(name Name) {
	// In this order: a login that is being settled either sees the new generation,
	// or has written what is removed then.
	g.voided.of(name).Add(1)
	g.known.remove(name)
}

// knownGood is what is known of the passwords that were accepted for an account.
type knownGood struct {
	// accepted are the passwords, the latest first, at most goodPasswords.
	accepted []goodPassword
	// account is as the store last had it, for the time that the store is down.
	account Account
	// misses counts the other passwords that were compared with them, or judged
	// without, since one was last accepted; missed is when the latest was.
	misses int
	missed time.Time
	// unpaid are those of a day that the mail server was not asked about, so that
	// nothing was counted on the account. No login resets them: the owner's own
	// would buy a guesser new ones.
	unpaid []digest
	day    string
}

// goodPassword is one of them. It is never changed, but replaced.
type goodPassword struct {
	digest digest
	// observed is its fingerprint; empty until it has been made.
	observed observation
	// sources are the latest that it was accepted from, at most goodSources:
	// nobody else's password is compared with it.
	sources []netip.Prefix
}

// goodPasswords is as many as work beside each other: a main password, and those
// of some programs.
const (
	goodPasswords = 4
	goodSources   = 8
)

// place returns where a password is among the accepted; -1 where it is not.
func (k knownGood) place(d digest) int {
	return slices.IndexFunc(k.accepted, func(p goodPassword) bool { return p.digest == d })
}

// comparable reports whether passwords from a source may be compared with any.
func (k knownGood) comparable(source netip.Prefix) bool {
	return slices.ContainsFunc(k.accepted, func(p goodPassword) bool { return slices.Contains(p.sources, source) })
}

// isGood reports whether a password from a source is one of them.
func (k knownGood) isGood(d digest, source netip.Prefix) bool {
	i := k.place(d)
	return i >= 0 && slices.Contains(k.accepted[i].sources, source)
}

// accept makes a password the latest, with its fingerprint if there is one. One that
// was made with another salt than the account's is void.
func (k *knownGood) accept(d digest, source netip.Prefix, o observation, account Account) {
	i := k.place(d)
	p := goodPassword{digest: d, sources: []netip.Prefix{source}}
	if i >= 0 {
		p = k.accepted[i]
		if slices.Index(p.sources, source) != 0 {
			others := slices.DeleteFunc(slices.Clone(p.sources), func(s netip.Prefix) bool { return s == source })
			p.sources = append([]netip.Prefix{source}, others[:min(len(others), goodSources-1)]...)
		}
	}
	if len(o.fingerprint) > 0 {
		p.observed = o
	}
	if !account.Password.SaltedWith(p.observed.salt) {
		p.observed = observation{}
	}
	accepted := []goodPassword{p}
	for j, other := range k.accepted {
		if j != i && len(accepted) < goodPasswords {
			accepted = append(accepted, other)
		}
	}
	k.accepted, k.account, k.misses = accepted, account, 0
}

// drop forgets one password.
func (k *knownGood) drop(d digest) {
	k.accepted = slices.DeleteFunc(slices.Clone(k.accepted), func(p goodPassword) bool { return p.digest == d })
}

// fingerprinted returns the fingerprint of a password, if this process has made it with
// the salt.
func (g *Guard) fingerprinted(name Name, d digest, salt []byte) (o observation) {
	k, ok := g.known.get(name)
	if i := k.place(d); ok && i >= 0 && bytes.Equal(k.accepted[i].observed.salt, salt) {
		o = k.accepted[i].observed
	}
	return o
}
