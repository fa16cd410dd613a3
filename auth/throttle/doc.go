// Package throttle slows down one source that guesses at many accounts, so that it
// cannot lock many owners out. [Throttle] says what counts, and why.
//
// It knows nothing of stores and passwords: each attempt says where it comes from, at
// which account, and what the account itself remembers ([Attempt]); the answer is that
// it passes, waits or is refused ([Decision]). networks.go has the sizes of the
// networks above a source, acts.go what administrators do and see.
package throttle
