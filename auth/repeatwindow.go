package auth

import "time"

// RepeatWindow says how often the same wrong password of an account counts. The
// regulation speaks of entering a password (Art. 6.2.d): what a mail program repeats by
// itself is not entered. Until the window has passed since the password was first
// counted, it counts again: a person enters it once more. After the window it is a
// program that checks for mail, and it does not count until it has not been offered for
// 24 hours. On a connection that was open when it was last counted and answered it is
// the same entry, since programs use several connections. At most 24 h.
type RepeatWindow time.Duration

const (
	// NeverCountRepeats counts a wrong password only once.
	NeverCountRepeats RepeatWindow = 0
	// AlwaysCountRepeats counts it each time, except repeats on one connection
	// ([RejectedPasswords]).
	AlwaysCountRepeats RepeatWindow = -1
)

// String returns "always", "never" or a duration.
func (w RepeatWindow) String() string {
	switch w {
	case NeverCountRepeats:
		return "never"
	case AlwaysCountRepeats:
		return "always"
	}
	return time.Duration(w).String()
}
