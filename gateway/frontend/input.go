package frontend

import (
	"bufio"
	"errors"
	"io"
)

// maxTalk is all that a client may send until the login.
const maxTalk = 256 << 10

const (
	errLineTooLong = TooMuch("line too long")
	errTalkTooLong = TooMuch("too much before login")
)

// Input reads a client within bounds. It is the only reader of the connection;
// what it has read too much goes to the relay, once.
type Input struct {
	r    *bufio.Reader
	room int // octets
}

// readAhead holds the commands of nearly all clients; a longer line takes a few more
// reads. It is made for each connection, and most end soon after.
const readAhead = 1 << 10

// NewInput reads r, and no more than room octets.
func NewInput(r io.Reader, room int) *Input {
	return &Input{r: bufio.NewReaderSize(r, readAhead), room: room}
}

// turnTo reads on from r, such as the TLS on what was read so far. What was read
// ahead of it is forgotten.
func (in *Input) turnTo(r io.Reader) { in.r.Reset(r) }

// rest gives away what was read ahead.
func (in *Input) rest() []byte {
	ahead, _ := in.r.Peek(in.r.Buffered())
	return append([]byte(nil), ahead...)
}

// Line reads a line of at most max octets and returns it without its end, which
// is CRLF or, for people with telnet, LF.
func (in *Input) Line(max int) (string, error) {
	var line []byte
	for {
		part, err := in.r.ReadSlice('\n')
		if in.room -= len(part); in.room < 0 {
			return "", errTalkTooLong
		}
		line = append(line, part...)
		switch {
		case len(line) > max+2:
			return "", errLineTooLong
		case err == nil:
			line = line[:len(line)-1]
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			if len(line) > max {
				return "", errLineTooLong
			}
			return string(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		}
	}
}

// Octets reads n octets, such as a literal.
func (in *Input) Octets(n int) (string, error) {
	if in.room -= n; in.room < 0 {
		return "", errTalkTooLong
	}
	octets := make([]byte, n)
	if _, err := io.ReadFull(in.r, octets); err != nil {
		return "", err
	}
	return string(octets), nil
}
