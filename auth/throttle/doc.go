// Package throttle slows down one source that guesses at many accounts, so that it
// cannot lock many owners out. [Throttle] says what counts, and why.
//
// It uses no store and no password: each attempt carries its source, its account, and
// what the account itself remembers ([Attempt]); the answer is that it passes, waits or
// is refused ([Decision]). networks.go has the sizes of the networks above a source,
// acts.go the acts and lists of administrators.
package throttle
