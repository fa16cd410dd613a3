package guard

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
)

// knownGood holds the passwords that were accepted for an account.
type knownGood struct {
	// accepted are the passwords, the latest first, at most goodPasswords.
	accepted []goodPassword
	// account is the account as last read from the store, for use while the store is
	// down.
	account auth.Account
	// misses counts the wrong passwords since the last accepted one that were compared
	// with accepted, or judged without a comparison; missed is the time of the latest.
	misses int
	missed time.Time
	// unjudged are the passwords of one day that were compared but not yet judged by the
	// mail server, so that they are not counted on the account. A login does not clear
	// them: otherwise each login of the owner would give a guesser new comparisons.
	unjudged []auth.Digest
	day      string
}

// goodPassword is one accepted password. It is never changed in place but replaced.
type goodPassword struct {
	digest auth.Digest
	// observed is its fingerprint; empty until it has been computed.
	observed auth.Observation
	// sources are the latest sources that it was accepted from, at most goodSources:
	// only passwords from these are compared with it.
	sources []netip.Prefix
}

// goodPasswords is the number of passwords that an account uses side by side: a main
// password, and those of some programs.
const (
	goodPasswords = 4
	goodSources   = 8
)

// place returns the index of a password in accepted; -1 if it is not there.
func (k knownGood) place(d auth.Digest) int {
	return slices.IndexFunc(k.accepted, func(p goodPassword) bool { return p.digest == d })
}

// comparable reports whether a password from the source may be compared with any of
// them.
func (k knownGood) comparable(source netip.Prefix) bool {
	return slices.ContainsFunc(k.accepted, func(p goodPassword) bool { return slices.Contains(p.sources, source) })
}

// isGood reports whether a password from the source is one of them.
func (k knownGood) isGood(d auth.Digest, source netip.Prefix) bool {
	i := k.place(d)
	return i >= 0 && slices.Contains(k.accepted[i].sources, source)
}

// accept makes a password the latest, with its fingerprint if there is one. A
// fingerprint that was made with another salt than the account's is dropped.
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

// fingerprinted returns the fingerprint of a password, if this process has computed it
// with this salt.
func (g *Guard) fingerprinted(name auth.Name, d auth.Digest, salt []byte) (o auth.Observation) {
	k, ok := g.known.Get(name)
	if i := k.place(d); ok && i >= 0 && bytes.Equal(k.accepted[i].observed.Salt, salt) {
		o = k.accepted[i].observed
	}
	return o
}

// isGood reports whether the password is one of those accepted last. A comparison is a
// judgement, so it must not be free for a guesser: passwords are compared only if they
// come from a source that a password was accepted from, and no more of them may fail
// than are tolerated, neither since the last login nor on one day without a verdict of
// the mail server. Beyond that the mail server is asked as for any other password.
func (t *attempt) isGood() (good bool) {
	if _, wrong := t.entries.Get(t.digest); wrong {
		return false // known to be wrong; its repetition uses no comparison
	}
	most, now := t.rules.Lockout.Tolerated, t.now()
	t.known.Alter(t.name, func(k *knownGood) {
		if len(k.unjudged) > 0 && k.day != t.rules.Day(now) {
			k.unjudged = nil
		}
		switch {
		case !k.comparable(t.source), k.misses > most, len(k.unjudged) > most, k.accepted[0].digest == t.compared:
		case k.isGood(t.digest, t.source):
			good = true
		case slices.Contains(k.unjudged, t.digest): // compared before
		default:
			t.compared, t.missedGood = k.accepted[0].digest, true
			k.misses++
			k.missed = now
			k.day, k.unjudged = t.rules.Day(now), append(slices.Clone(k.unjudged), t.digest)
		}
	})
	return good
}

// noteJudged notes that the mail server has judged a password that was compared.
func (t *attempt) noteJudged() {
	if !t.missedGood {
		return
	}
	t.known.Alter(t.name, func(k *knownGood) {
		k.unjudged = slices.DeleteFunc(slices.Clone(k.unjudged), func(d auth.Digest) bool { return d == t.digest })
	})
}

// noteUncompared notes a wrong password that was counted without a comparison: it uses up one
// comparison.
func (t *attempt) noteUncompared() {
	if t.missedGood {
		return
	}
	now := t.now()
	t.known.Alter(t.name, func(k *knownGood) { k.misses, k.missed = k.misses+1, now })
}
