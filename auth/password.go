package auth

import (
	"bytes"
	"crypto/subtle"
	"slices"
	"time"
)

// Password is what is remembered of the passwords of an account: not the passwords,
// only fingerprints (see auth/password) that distinguish a new one from one that was
// accepted before. A mailbox may have several passwords that work side by side: its
// main one, and those of programs.
type Password struct {
	// Salt is the salt of the account, the same for all its passwords: one
	// computation then compares a password with all fingerprints.
	Salt []byte
	// Known are the passwords that were accepted, in the order in which they were
	// first seen, at most [MaxPasswords] and one more: see Beyond.
	Known []KnownPassword
	// Since is the Since of the last of Known. Before the first one was seen it belongs
	// to the next one: as imported, or the time of the first login.
	Since time.Time
}

// KnownPassword is one password that was accepted.
type KnownPassword struct {
	Fingerprint []byte `json:"fingerprint"`
	// Since is when it was first accepted; its age counts from then.
	Since time.Time `json:"since"`
	// Beyond is set for a password for which there was no room: it gets the age of the
	// oldest at that time, and the next such password replaces it.
	Beyond bool `json:"beyond,omitempty"`
}

// MaxPasswords is the number of passwords of an account that are remembered with an age
// of their own. A password within the age limit is never dropped.
const MaxPasswords = 16

// Place returns the index of a fingerprint in Known; -1 if it is not there.
func (p Password) Place(fingerprint []byte) int {
	return slices.IndexFunc(p.Known, func(k KnownPassword) bool { return equal(k.Fingerprint, fingerprint) })
}

// SaltedWith reports whether fingerprints made with a salt can be compared with the
// known ones.
func (p Password) SaltedWith(salt []byte) bool { return equal(p.Salt, salt) }

// oldest returns the index of the password with the earliest Since.
func (p Password) oldest() (place int) {
	for i, k := range p.Known {
		if k.Since.Before(p.Known[place].Since) {
			place = i
		}
	}
	return place
}

// SinceOf returns the instant from which the age of a password counts. A password
// without a fingerprint is treated as the latest. A password that is not in Known,
// although others are, had no room, or its fingerprint was made with another salt; it is
// as old as the oldest.
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

// remember adds a password that is not known yet. Expired ones make room, the oldest
// first.
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

// Recall completes the passwords of a row with the two columns that gateways of earlier
// versions use. They remember the latest password, first accepted at p.Since, and the one
// before it. Such gateways may run beside this one, and write these two only:
//
//   - a password that is not known is new since p.Since; the one before it is at least
//     as old. If there is no room it is left for its next login.
//   - the latest may have an earlier date there, after a clock was set right, but never
//     a later one: those gateways treat a password that comes back as a new one.
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

// Latest returns the two fingerprints that gateways of earlier versions use: see
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

// AnyNearItsEnd reports whether one of the passwords has expired, or expires soon enough
// to warn the user: then it matters which of them a login used.
func (r Rules) AnyNearItsEnd(a Account, now time.Time, alert bool) bool {
	for _, since := range a.Password.ages() {
		if _, soon := r.expiringIn(a, since, now); alert && soon || r.passwordTooOld(a, since, now) {
			return true
		}
	}
	return false
}

// ages returns the instants from which the ages of the passwords count.
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

// RunOutBeside returns the first acceptance of the most recent expired password of an
// account whose newest password has not expired: a login with it is refused. It is zero
// if there is none, or if the rule on the age is not enforced.
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
