package wire

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// MaxCommand is how long a command may be, in octets without its CRLF. RFC 5321 section
// 4.5.3.1.4 wants 512 and what extensions add; Postfix takes 2,048.
const MaxCommand = 2048

// Errors of a command, which is never passed on.
var (
	ErrLong   = errors.New("line too long")
	ErrOctets = errors.New("a NUL, a bare CR or a bare LF")
)

// Command is what a client says.
type Command struct {
	Verb string // in upper case; empty when there is none
	Args string // as written, without the blanks around
}

// String is the command as it is passed on, without CRLF.
func (c Command) String() string {
	if c.Args == "" {
		return c.Verb
	}
	return c.Verb + " " + c.Args
}

// ReadCommand reads the command that b begins with, and says how many octets it has. 0
// octets without an error: its end is still to come. 0 octets with ErrLong: so is its end,
// and it is too long.
//
// Blanks before and behind are taken as Postfix takes them.
func ReadCommand(b []byte) (c Command, n int, err error) {
	n = bytes.IndexByte(b, '\n') + 1
	if n == 0 {
		if len(b) > MaxCommand+1 { // the CR
			return c, 0, ErrLong
		}
		return c, 0, nil
	}
	line, crlf := bytes.CutSuffix(b[:n], []byte("\r\n"))
	switch {
	case len(line) > MaxCommand:
		return c, n, ErrLong
	case !crlf || bytes.ContainsAny(line, "\x00\r"): // RFC 5321 section 2.3.8
		return c, n, ErrOctets
	}
	text := strings.Trim(string(line), " \t")
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		end = len(text)
	}
	return Command{upper(text[:end]), strings.TrimLeft(text[end:], " \t")}, n, nil
}

// upper changes ASCII letters only: to Unicode a dotless i is an I as well.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}, s)
}

// ErrBDAT is a BDAT without a size: where its octets end is not known.
var ErrBDAT = errors.New("syntax: BDAT size [LAST]")

// ParseBDAT reads the arguments of BDAT (RFC 3030 section 2).
func ParseBDAT(args string) (size int64, last bool, err error) {
	words := strings.Fields(args)
	if len(words) == 0 || len(words) > 2 || strings.Trim(words[0], "0123456789") != "" {
		return 0, false, ErrBDAT
	}
	if last = len(words) == 2; last && !strings.EqualFold(words[1], "LAST") {
		return 0, false, ErrBDAT
	}
	if size, err = strconv.ParseInt(words[0], 10, 64); err != nil {
		return 0, false, ErrBDAT
	}
	return size, last, nil
}
