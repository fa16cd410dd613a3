package auth

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Origin is when, from where, by which protocol and with which mail program somebody
// logged in.
type Origin struct {
	At       time.Time
	Source   netip.AddrPort
	Protocol Protocol
	// Program is the mail program's name as the client gave it; empty: it did not.
	Program string
}

// maxProgram is how many characters of a mail program's name are remembered.
const maxProgram = 32

// OriginOf is where an attempt comes from, at an instant.
func OriginOf(a Attempt, at time.Time) Origin {
	return Origin{At: at, Source: a.Source, Protocol: a.Protocol, Program: ProgramName(a.Program)}
}

// ProgramName is the name of a mail program for people: bounded, and of letters, digits,
// spaces and . _ - / only, since clients write what they like.
func ProgramName(program string) string {
	program = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" ._-/", r) {
			return -1
		}
		return r
	}, program))
	if runes := []rune(program); len(runes) > maxProgram {
		program = strings.TrimSpace(string(runes[:maxProgram]))
	}
	return strings.Clone(program) // not with all else that the client has sent
}
