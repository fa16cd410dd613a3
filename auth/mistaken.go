package auth

// Mistaken is one connection's memory of the wrong passwords it has offered, so
// that a client that tries the same password by a second mechanism is answered
// from memory: one entry by the user, one failure. The zero Mistaken is empty;
// it must not be used by two attempts at once.
type Mistaken struct {
	mistakes []mistaken
}

// mistaken is one wrong password; known is set when its name was an account.
type mistaken struct {
	digest Digest
	known  bool
}

// Digest is a keyed hash of a name and a password. Its key is the process's own, so it
// means nothing elsewhere.
type Digest [32]byte

// Has reports whether this connection has offered the password before (seen), and
// whether its name was an account then (known). A nil Mistaken has none.
func (m *Mistaken) Has(d Digest) (known, seen bool) {
	if m == nil {
		return false, false
	}
	for _, before := range m.mistakes {
		if before.digest == d {
			return before.known, true
		}
	}
	return false, false
}

// Add remembers a wrong password, of at most 32.
func (m *Mistaken) Add(d Digest, known bool) {
	if m != nil && len(m.mistakes) < 32 {
		m.mistakes = append(m.mistakes, mistaken{d, known})
	}
}
