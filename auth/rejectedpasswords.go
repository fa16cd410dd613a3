package auth

// RejectedPasswords holds the passwords that the mail server has rejected on one
// connection, at most 32. A client that sends the same password by a second mechanism
// is answered from it, so that one entry by the user counts as one failure. The zero
// value is empty. It must not be used by two attempts at the same time.
type RejectedPasswords struct {
	rejected []rejectedPassword
}

// rejectedPassword is one wrong password; known is set when its name is an account.
type rejectedPassword struct {
	digest Digest
	known  bool
}

// Digest is a keyed hash of a name and a password. Each process has its own key, so a
// digest has no meaning in another.
type Digest [32]byte

// Has reports whether d was rejected before (seen), and whether its name is an account
// (known). A nil receiver holds nothing.
func (m *RejectedPasswords) Has(d Digest) (known, seen bool) {
	if m == nil {
		return false, false
	}
	for _, before := range m.rejected {
		if before.digest == d {
			return before.known, true
		}
	}
	return false, false
}

// Add notes a rejected password. A nil receiver ignores it.
func (m *RejectedPasswords) Add(d Digest, known bool) {
	if m != nil && len(m.rejected) < 32 {
		m.rejected = append(m.rejected, rejectedPassword{d, known})
	}
}
