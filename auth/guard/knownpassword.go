package guard

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// knownGood is what is known of the passwords that were accepted for an account.
type knownGood struct {
	// accepted are the passwords, the latest first, at most goodPasswords.
	accepted []goodPassword
	// account is as the store last had it, for the time that the store is down.
	account auth.Account
	// misses counts the other passwords that were compared with them, or judged
	// without, since one was last accepted; missed is when the latest was.
	misses int
	missed time.Time
	// unpaid are those of a day that the mail server was not asked about, so that
	// nothing was counted on the account. No login resets them: the owner's own
	// would buy a guesser new ones.
	unpaid []auth.Digest
	day    string
}

// goodPassword is one of them. It is never changed, but replaced.
type goodPassword struct {
	digest auth.Digest
	// observed is its fingerprint; empty until it has been made.
	observed auth.Observation
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
func (k knownGood) place(d auth.Digest) int {
	return slices.IndexFunc(k.accepted, func(p goodPassword) bool { return p.digest == d })
}

// comparable reports whether passwords from a source may be compared with any.
func (k knownGood) comparable(source netip.Prefix) bool {
	return slices.ContainsFunc(k.accepted, func(p goodPassword) bool { return slices.Contains(p.sources, source) })
}

// isGood reports whether a password from a source is one of them.
func (k knownGood) isGood(d auth.Digest, source netip.Prefix) bool {
	i := k.place(d)
	return i >= 0 && slices.Contains(k.accepted[i].sources, source)
}

// accept makes a password the latest, with its fingerprint if there is one. One that
// was made with another salt than the account's is void.
func (k *knownGood) accept(d auth.Digest, source netip.Prefix, o auth.Observation, account auth.Account) {
	i := k.place(d)
	p := goodPassword{digest: d, sources: []netip.Prefix{source}}
	if i >= 0 {
		p = k.accepted[i]
		if slices.Index(p.sources, source) != 0 {
			others := slices.DeleteFunc(slices.Clone(p.sources), func(s netip.Prefix) bool { return s == source })
			p.sources = append([]netip.Prefix{source}, others[:min(len(others), goodSources-1)]...)
		}
	}
	if len(o.Fingerprint) > 0 {
		p.observed = o
	}
	if !account.Password.SaltedWith(p.observed.Salt) {
		p.observed = auth.Observation{}
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
func (k *knownGood) drop(d auth.Digest) {
	k.accepted = slices.DeleteFunc(slices.Clone(k.accepted), func(p goodPassword) bool { return p.digest == d })
}

// fingerprinted returns the fingerprint of a password, if this process has made it with
// the salt.
func (g *Guard) fingerprinted(name auth.Name, d auth.Digest, salt []byte) (o auth.Observation) {
	k, ok := g.known.Get(name)
	if i := k.place(d); ok && i >= 0 && bytes.Equal(k.accepted[i].observed.Salt, salt) {
		o = k.accepted[i].observed
	}
	return o
}

// isGood reports whether the password is one of those accepted last. The comparison
// is a judgement, and nobody may have it for nothing: it is made only for
// sources that the password was accepted from, and no more passwords may miss
// than are tolerated, nor on one day without the mail server being asked; beyond
// that it is asked like for any other.
func (t *try) isGood() (good bool) {
	if _, wrong := t.entries.Get(t.digest); wrong {
		return false // when it was counted; repeated, it takes no comparison
	}
	most, now := t.rules.Lockout.Tolerated, t.now()
	t.known.Alter(t.name, func(k *knownGood) {
		if len(k.unpaid) > 0 && k.day != t.rules.Day(now) {
			k.unpaid = nil
		}
		switch {
		case !k.comparable(t.source), k.misses > most, len(k.unpaid) > most, k.accepted[0].digest == t.compared:
		case k.isGood(t.digest, t.source):
			good = true
		case slices.Contains(k.unpaid, t.digest): // the same again
		default:
			t.compared, t.missedGood = k.accepted[0].digest, true
			k.misses++
			k.missed = now
			k.day, k.unpaid = t.rules.Day(now), append(slices.Clone(k.unpaid), t.digest)
		}
	})
	return good
}

// paid notes that the mail server was asked about a password that was compared.
func (t *try) paid() {
	if !t.missedGood {
		return
	}
	t.known.Alter(t.name, func(k *knownGood) {
		k.unpaid = slices.DeleteFunc(slices.Clone(k.unpaid), func(d auth.Digest) bool { return d == t.digest })
	})
}

// missed notes a wrong password that was counted without having been compared: it
// is one less to compare.
func (t *try) missed() {
	if t.missedGood {
		return
	}
	now := t.now()
	t.known.Alter(t.name, func(k *knownGood) { k.misses, k.missed = k.misses+1, now })
}
