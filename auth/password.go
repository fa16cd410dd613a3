package auth

import (
	"bytes"
	"crypto/subtle"
	"slices"
	"time"
)

// Password is what is remembered of the passwords of an account: no password,
// only fingerprints (see auth/password) that tell a new one from one that was
// accepted before. A mailbox may have several that work beside each other: its
// main one, and those of programs.
type Password struct {
	// Salt is the account's own, the same for all its passwords: one
	// computation then compares a password with all fingerprints.
	Salt []byte
	// Known are the passwords that were accepted, in the order in which they were
	// seen first, at most [MaxPasswords] and one more: see [Rules] on Art. 9.
	Known []KnownPassword
	// Since is the Since of the last of Known. While none was seen here it is of the
	// password that will be: as imported, or when somebody logged in with it first.
	Since time.Time
}

// KnownPassword is one password that was accepted.
type KnownPassword struct {
	Fingerprint []byte `json:"fingerprint"`
	// Since is when it was accepted first, from which its age counts.
	Since time.Time `json:"since"`
	// Beyond is set for one for which there was no room: it is as old as the oldest
	// then was, and the next such one takes its place.
	Beyond bool `json:"beyond,omitempty"`
}

// MaxPasswords is how many passwords of an account are remembered with an age of
// their own. One within the age limit is never dropped.
const MaxPasswords = 16

// Place returns where a fingerprint is among the known; -1 where it is not.
func (p Password) Place(fingerprint []byte) int {
	return slices.IndexFunc(p.Known, func(k KnownPassword) bool { return equal(k.Fingerprint, fingerprint) })
}

// SaltedWith reports whether fingerprints made with a salt can be compared with those
// that are known.
func (p Password) SaltedWith(salt []byte) bool { return equal(p.Salt, salt) }

// oldest returns the place of the one that was accepted first of all.
func (p Password) oldest() (place int) {
	for i, k := range p.Known {
		if k.Since.Before(p.Known[place].Since) {
			place = i
		}
	}
	return place
}

// SinceOf returns from when the age of a password counts. One without a fingerprint
// is taken for the latest; one that is not known although others are has found no
// room, or its fingerprint was made with another salt, and is as old as the oldest.
func (p Password) SinceOf(fingerprint []byte) time.Time {
	if len(fingerprint) == 0 || len(p.Known) == 0 {
		return p.Since
	}
	i := p.Place(fingerprint)
	if i < 0 {
		i = p.oldest()
	}
	return p.Known[i].Since
}

// remember adds a password that is not known yet. What has run out makes room, the
// oldest first.
func (r Rules) remember(p *Password, fingerprint []byte, now time.Time) {
	k := KnownPassword{Fingerprint: fingerprint, Since: now}
	p.Known = slices.Clone(p.Known)
	for len(p.Known) >= MaxPasswords {
		oldest := p.oldest()
		if now.Before(r.passwordExpiry(p.Known[oldest].Since)) {
			k.Since, k.Beyond = p.Known[oldest].Since, true
			p.Known = slices.DeleteFunc(p.Known, func(k KnownPassword) bool { return k.Beyond })
			break
		}
		p.Known = slices.Delete(p.Known, oldest, oldest+1)
	}
	p.Known = append(p.Known, k)
	p.Since = k.Since
}

// Recall completes what a store has of the passwords by what it has for gateways of
// earlier versions, which remember the latest password, accepted first at p.Since,
// and the one before it. They may run beside this one and write these two only:
//
//   - one that is not known is new since p.Since; the one before it is at least as
//     old. Where there is no room it is left to its next login.
//   - the latest may have an earlier date there, a clock having been set right, but
//     never a later one: they take a password that comes back for a new one.
func (p *Password) Recall(latest, before []byte) {
	since := p.Since
	add := func(fingerprint []byte) {
		if len(fingerprint) > 0 && p.Place(fingerprint) < 0 && len(p.Known) < MaxPasswords {
			p.Known = append(p.Known, KnownPassword{Fingerprint: fingerprint, Since: since})
		}
	}
	add(before)
	add(latest)
	if i := p.Place(latest); i >= 0 && since.Before(p.Known[i].Since) && !since.IsZero() {
		p.Known[i].Since = since
	}
	if n := len(p.Known); n > 0 {
		p.Since = p.Known[n-1].Since
	}
}

// Latest returns the fingerprints that gateways of earlier versions know: see
// [Password.Recall].
func (p Password) Latest() (latest, before []byte) {
	if n := len(p.Known); n > 0 {
		latest = p.Known[n-1].Fingerprint
		if n > 1 {
			before = p.Known[n-2].Fingerprint
		}
	}
	return latest, before
}

// clone returns a copy that shares no memory with p.
func (p Password) clone() Password {
	p.Salt, p.Known = ownSlice(p.Salt), ownSlice(p.Known)
	for i := range p.Known {
		p.Known[i].Fingerprint = bytes.Clone(p.Known[i].Fingerprint)
	}
	return p
}

// AnyNearItsEnd reports whether one of the passwords has run out, or does so soon
// enough to tell the user: then it matters which of them a login used.
func (r Rules) AnyNearItsEnd(a Account, now time.Time, alert bool) bool {
	for _, since := range a.Password.ages() {
		if _, soon := r.expiringIn(a, since, now); alert && soon || r.passwordTooOld(a, since, now) {
			return true
		}
	}
	return false
}

// ages are from when the ages of the passwords count.
func (p Password) ages() []time.Time {
	if len(p.Known) == 0 {
		return []time.Time{p.Since}
	}
	ages := make([]time.Time, len(p.Known))
	for i, k := range p.Known {
		ages[i] = k.Since
	}
	return ages
}

// RunOutBeside returns since when the age of the latest password counted that has
// run out although the account's newest has not: whoever logs in with it is
// refused. It is zero where there is none, or the rule on the age is not enforced.
func (r Rules) RunOutBeside(a Account, now time.Time) (since time.Time) {
	if r.Expired(a, now) || r.Password.Mode != Enforce {
		return time.Time{}
	}
	for _, s := range a.Password.ages() {
		if s.After(since) && r.passwordTooOld(a, s, now) {
			since = s
		}
	}
	return since
}

func equal(a, b []byte) bool { return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1 }
