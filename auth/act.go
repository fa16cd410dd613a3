package auth

import (
	"errors"
	"net/netip"
)

// Act says who changes an account on purpose, from where, and why.
type Act struct {
	// Actor is the named person: the name of an admin token, or the owner of
	// the process at the other end of the admin socket.
	Actor string
	// Source is the address of the admin's request; zero on the Unix socket.
	Source netip.AddrPort
	// Reason is mandatory: an auditor will read it.
	Reason string
}

// Reasons why an act was not done. Any other error means that the store is unavailable.
var (
	ErrReasonMissing  = errors.New("a reason is required")
	ErrUnknownAccount = errors.New("no such account")
	ErrNothingToDo    = errors.New("nothing to do")
	ErrOutOfRange     = errors.New("out of range")
)
