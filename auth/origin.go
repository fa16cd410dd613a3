package auth

import (
	"net/netip"
	"strings"
	"time"
	"unicode"
)

// Origin is the time, source, protocol and mail program of a
// login.
type Origin struct {
	At       time.Time
	Source   netip.AddrPort
	Protocol Protocol
	// Program is the name of the mail program as the client sent it; empty: not sent.
	Program string
}

// maxProgram is the number of characters of a mail program's name that are remembered.
const maxProgram = 32

// OriginOf returns the origin of an attempt that was made at an instant.
func OriginOf(a Attempt, at time.Time) Origin {
	return Origin{At: at, Source: a.Source, Protocol: a.Protocol, Program: ProgramName(a.Program)}
}

// ProgramName returns the name of a mail program for people: at most 32 characters, and
// only letters, digits, spaces and . _ - /, since clients may send anything.
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
	return strings.Clone(program) // so that the rest of the client's data can be freed
}
