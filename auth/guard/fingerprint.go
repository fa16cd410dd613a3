package guard

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"congthu/auth"
)

// unobserved is an accepted password whose fingerprint has not been compared.
type unobserved struct {
	name     auth.Name
	digest   auth.Digest
	password auth.Secret
	source   netip.AddrPort
	at       time.Time
}

// saltSize is the salt length that RFC 9106 section 3.1 recommends, in octets.
const saltSize = 16

// observeLater compares an accepted password with the fingerprints of the account, after
// the login.
func (g *Guard) observeLater(ctx context.Context, u unobserved) {
	k, _ := g.known.Get(u.name)
	if i := k.place(u.digest); i < 0 || len(k.accepted[i].observed.Fingerprint) > 0 || g.suspicion.Load() != nil {
		return
	}
	read, cancel := context.WithTimeout(ctx, g.storeTimeout())
	account, err := g.Store.Account(read, u.name)
	cancel()
	if err != nil {
		return // the next login offers the password again
	}
	o, err := g.fingerprint(ctx, account, u.password)
	if err != nil {
		return
	}
	var happened []auth.Event
	rules := g.Rules()
	account, err = g.storeUpdate(ctx, u.name, 0, func(a *auth.Account) ([]auth.Event, bool) {
		var write bool
		happened, write = rules.Observe(a, u.at, o, u.source)
		return happened, write
	})
	if err != nil {
		return
	}
	g.recordEvents(happened, account.Known())
	if !account.Password.SaltedWith(o.Salt) {
		return // another salt was written first
	}
	g.known.Alter(u.name, func(k *knownGood) {
		if i := k.place(u.digest); i >= 0 {
			k.accepted = slices.Clone(k.accepted)
			k.accepted[i].observed = o
		}
	})
}

// fingerprint computes the fingerprint of a password with the account's salt, or with a
// new salt.
func (g *Guard) fingerprint(ctx context.Context, a auth.Account, password auth.Secret) (auth.Observation, error) {
	o := auth.Observation{Salt: a.Password.Salt}
	if len(o.Salt) == 0 {
		o.Salt = make([]byte, saltSize)
		rand.Read(o.Salt) // never fails (crypto/rand)
	}
	var err error
	o.Fingerprint, err = g.Fingerprints.Fingerprint(ctx, o.Salt, password)
	return o, err
}

// digester computes digests; a new one is made when all others are in use.
type digester struct {
	mac  hash.Hash
	text []byte
}

// digest identifies a password of an account in memory.
func (g *Guard) digest(name auth.Name, password auth.Secret) (d auth.Digest) {
	m, ok := g.digesters.Get().(*digester)
	if !ok {
		m = &digester{mac: hmac.New(sha256.New, g.key[:])}
	}
	m.text = strconv.AppendInt(m.text[:0], int64(len(name)), 10)
	m.text = append(append(append(append(m.text, ':'), name...), ':'), password.Reveal()...)
	m.mac.Write(m.text)
	clear(m.text) // leave no password in memory
	m.text = m.mac.Sum(m.text[:0])
	copy(d[:], m.text)
	m.mac.Reset()
	g.digesters.Put(m)
	return d
}
