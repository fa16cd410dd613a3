package auth

// Mistaken is one connection's memory of the wrong passwords it has offered, so
// that a client that tries the same password by a second mechanism is answered
// from memory: one entry by the user, one failure. The zero Mistaken is empty;
// it must not be used by two attempts at once.
type Mistaken struct {
	digests []digest
}

type digest [32]byte

func (m *Mistaken) has(d digest) bool {
	if m == nil {
		return false
	}
	for _, seen := range m.digests {
		if seen == d {
			return true
		}
	}
	return false
}

func (m *Mistaken) add(d digest) {
	if m != nil && len(m.digests) < 32 {
		m.digests = append(m.digests, d)
	}
}
