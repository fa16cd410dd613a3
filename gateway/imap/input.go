package imap

import (
	"fmt"
	"strconv"
	"strings"

	"congthu/gateway/frontend"
)

// maxLiteral limits a literal before login, in octets; the front end limits a whole
// command.
const maxLiteral = 4 << 10

const (
	errCommandTooLong = frontend.TooMuch("command too long")
	errLiteralTooLong = frontend.TooMuch("literal too long")
	errManyPieces     = frontend.TooMuch("too many literals")
)

// announced is the announcement of a literal at the end of a line (RFC 9051
// section 4.3, RFC 7888).
type announced struct {
	size   int  // maxLiteral+1 for any larger size
	async  bool // {n+}: the client does not wait
	binary bool // ~{n}: may contain NULs
}

// announcement splits the announcement of a literal off a line.
func announcement(line string) (before string, a announced, ok bool) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") {
		return line, a, false
	}
	size := line[open+1 : len(line)-1]
	size, a.async = strings.CutSuffix(size, "+")
	if size == "" || strings.Trim(size, "0123456789") != "" {
		return line, a, false
	}
	// ParseUint reports a size that would overflow as "out of range".
	n, err := strconv.ParseUint(size, 10, 31)
	if a.size = int(n); err != nil || n > maxLiteral {
		a.size = maxLiteral + 1
	}
	before, a.binary = strings.CutSuffix(line[:open], "~")
	return before, a, true
}

// maxPieces limits the parts of one command.
const maxPieces = 160

// piece is a part of a command: text within a line, or a literal.
type piece struct {
	octets          string
	literal, binary bool
}

// command is one complete command of a client.
type command struct {
	tag  string
	name string // in upper case
	args []piece
}

// syntaxError is the answer to a command with a syntax error. The text must not repeat
// anything that the client sent: it may be a password, or an attack on the reader of
// the answer.
type syntaxError struct {
	tag  string // "*" if the tag could not be read (RFC 9051 section 7.1.3)
	text string
}

func (e *syntaxError) Error() string { return e.text }

// readCommand reads the next command with its literals. It passes each synchronizing
// literal to admit: after an error the client has no continuation request and will not
// send the literal (RFC 9051 section 4.3).
func readCommand(in *frontend.Input, admit func(c command, a announced) error) (command, error) {
	line, err := in.Line(frontend.MaxCommand)
	if err != nil {
		return command{}, err
	}
	c, rest, bad := splitCommand(line)
	for {
		if bad == nil && strings.ContainsAny(rest, "\x00\r") {
			bad = &syntaxError{c.tag, "a NUL or CR"}
		}
		// LOGIN needs four pieces, ID some hundred; an empty literal uses memory beyond
		// its octets.
		if len(c.args) > maxPieces {
			return c, errManyPieces
		}
		before, a, more := announcement(rest)
		c.args = append(c.args, piece{octets: before})
		if !more {
			break
		}
		if a.size > in.Left() {
			return c, errCommandTooLong
		}
		switch {
		case a.async && a.size > maxLiteral:
			// The client sends it in any case: its octets must not be read as commands
			// (RFC 7888 section 4).
			return c, errLiteralTooLong
		case !a.async && bad != nil:
			return c, bad
		case !a.async:
			if err := admit(c, a); err != nil {
				return c, err
			}
		}
		octets, err := in.Octets(a.size)
		if err != nil {
			return c, err
		}
		if !a.binary && strings.IndexByte(octets, 0) >= 0 && bad == nil {
			bad = &syntaxError{c.tag, "a NUL"} // RFC 9051 section 9, CHAR8
		}
		c.args = append(c.args, piece{octets: octets, literal: true, binary: a.binary})
		if rest, err = in.Line(frontend.MaxCommand); err != nil {
			return c, err
		}
	}
	if bad != nil {
		return c, bad
	}
	return c, nil
}

// splitCommand splits tag and name off the first line of a command.
func splitCommand(line string) (c command, rest string, bad error) {
	tag, after, _ := strings.Cut(line, " ")
	if tag == "" || len(tag) > 255 || strings.IndexFunc(tag, notInTag) >= 0 {
		return c, after, &syntaxError{"*", "no tag"}
	}
	c.tag = tag
	name := after
	if i := strings.IndexByte(after, ' '); i >= 0 {
		name, rest = after[:i], after[i:]
	}
	c.name = strings.ToUpper(name)
	if name == "" || strings.ContainsAny(name, "\x00\r") {
		return c, rest, &syntaxError{tag, "no command"}
	}
	return c, rest, nil
}

// notInTag reports characters that a tag must not contain, since the answer repeats it
// (RFC 9051 section 9: 1*<any ASTRING-CHAR except "+">).
func notInTag(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\+`, r)
}

// scanner reads the arguments of a command.
type scanner struct {
	tag    string
	args   []piece
	closed bool // the last string was quoted or a literal
}

func (c command) scan() *scanner {
	return &scanner{tag: c.tag, args: append([]piece(nil), c.args...)}
}

func (s *scanner) bad(format string, args ...any) error {
	return &syntaxError{s.tag, fmt.Sprintf(format, args...)}
}

// text returns the rest of the present text.
func (s *scanner) text() *string {
	if len(s.args) == 0 || s.args[0].literal {
		return new(string)
	}
	return &s.args[0].octets
}

// take skips exactly the given text, and reports whether it was there.
func (s *scanner) take(prefix string) bool {
	t := s.text()
	if !strings.HasPrefix(*t, prefix) {
		return false
	}
	*t = (*t)[len(prefix):]
	return true
}

// blanks skips blanks, and reports whether there was one. The grammar permits exactly
// one (RFC 9051 section 9, SP); programs send more, also at the end of a line, and
// servers accept them.
func (s *scanner) blanks() bool {
	t := s.text()
	before := len(*t)
	*t = strings.TrimLeft(*t, " ")
	return len(*t) < before
}

// between skips the blanks between two words. There must be one unless the first word
// has its own end.
func (s *scanner) between() bool { return s.blanks() || s.closed }

// takeNil skips NIL, if it is there as a separate word.
func (s *scanner) takeNil() bool {
	t := s.text()
	if len(*t) < 3 || !strings.EqualFold((*t)[:3], "NIL") || len(*t) > 3 && (*t)[3] != ' ' && (*t)[3] != ')' {
		return false
	}
	*t = (*t)[3:]
	return true
}

// end reports whether only blanks are left.
func (s *scanner) end() bool {
	s.blanks()
	for _, p := range s.args {
		if p.literal || p.octets != "" {
			return false
		}
	}
	return true
}

// word reads an atom, or similar text: people who type by hand send passwords with % or
// * or letters beyond ASCII without quotes.
func (s *scanner) word() (string, error) {
	t := s.text()
	n := strings.IndexFunc(*t, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`(){"\`, r)
	})
	if n < 0 {
		n = len(*t)
	}
	if n == 0 {
		return "", s.bad("an argument is missing or malformed")
	}
	word := (*t)[:n]
	*t = (*t)[n:]
	s.closed = false
	return word, nil
}

// skip reads the remaining words, which the command does not use.
func (s *scanner) skip() error {
	for s.blanks(); !s.end(); s.blanks() {
		if _, err := s.anyString(); err != nil {
			return err
		}
		if !s.between() && !s.end() {
			return s.bad("no space between the arguments")
		}
	}
	return nil
}

// astring reads an atom, a quoted string or a literal.
func (s *scanner) astring() (string, error) {
	value, err := s.anyString()
	if err == nil && len(value) > maxLiteral {
		err = s.bad("an argument is too long")
	}
	return value, err
}

func (s *scanner) anyString() (string, error) {
	if len(s.args) > 1 && !s.args[0].literal && s.args[0].octets == "" {
		p := s.args[1]
		s.args = s.args[2:]
		s.closed = true
		if p.binary {
			return "", s.bad("a binary literal has no place here") // RFC 9051 section 9: only in APPEND
		}
		return p.octets, nil
	}
	if !s.take(`"`) {
		return s.word()
	}
	t := s.text()
	var value strings.Builder
	for i := 0; i < len(*t); i++ {
		ch := (*t)[i]
		switch ch {
		case '"':
			*t = (*t)[i+1:]
			s.closed = true
			return value.String(), nil
		case '\\':
			// Only these two are escaped (RFC 9051 section 9, QUOTED-CHAR). Dovecot
			// also ignores a backslash before another character.
			if i++; i == len(*t) {
				return "", s.bad("a backslash at the end")
			}
			ch = (*t)[i]
		}
		value.WriteByte(ch)
	}
	return "", s.bad("a quoted string has no end")
}
