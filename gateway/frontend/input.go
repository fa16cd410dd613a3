package frontend

import (
	"bufio"
	"errors"
	"io"
)

// The bounds of what a client may send before login, in octets.
const (
	// MaxCommand is a command with all its lines, literals and responses. They are
	// held until it is complete, for as many connections as there may be.
	MaxCommand = 16 << 10
	// maxTalk is all commands together.
	maxTalk = 256 << 10
	// maxCommands is how many there may be: what is answered to a client that does not
	// read is held by the kernel, and is ten times as long as some commands are.
	maxCommands = 100
)

const (
	errLineTooLong    = TooMuch("line too long")
	errCommandTooLong = TooMuch("command too long")
	errTalkTooLong    = TooMuch("too much before login")
)

// Input reads a client within bounds. It is the only reader of the connection;
// what it has read too much goes to the relay, once.
type Input struct {
	r *bufio.Reader
	// Octets that may still be read: of the command, and in all.
	command, room int
	commands      int // that have begun
	// place, unless nil, is told how long the command is.
	place *Place
}

// readAhead holds the commands of nearly all clients; a longer line takes a few more
// reads. It is made for each connection, and most end soon after.
const readAhead = 1 << 10

// NewInput reads r.
func NewInput(r io.Reader) *Input {
	return &Input{r: bufio.NewReaderSize(r, readAhead), command: MaxCommand, room: maxTalk}
}

// begin is the begin of a command.
func (in *Input) begin() {
	in.command = MaxCommand
	in.place.HoldCommand(0)
}

// Left is how many octets the command may still have.
func (in *Input) Left() int { return in.command }

// use takes octets from what may be read.
func (in *Input) use(n int) error {
	if in.command == MaxCommand {
		in.commands++
	}
	in.command -= n
	in.room -= n
	switch {
	case in.room < 0 || in.commands > maxCommands:
		return errTalkTooLong
	case in.command < 0:
		return errCommandTooLong
	}
	in.place.HoldCommand(MaxCommand - in.command)
	return nil
}

// turnTo reads on from r, such as the TLS on what was read so far. What was read
// ahead of it is forgotten.
func (in *Input) turnTo(r io.Reader) { in.r.Reset(r) }

// rest gives away what was read ahead.
func (in *Input) rest() []byte {
	ahead, _ := in.r.Peek(in.r.Buffered())
	return append([]byte(nil), ahead...)
}

// Line reads a line of at most max octets, within what the command has left,
// and returns it without its end, which is CRLF or, for people with telnet, LF.
func (in *Input) Line(max int) (string, error) {
	var line []byte
	for {
		part, err := in.r.ReadSlice('\n')
		if err := in.use(len(part)); err != nil {
			return "", err
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
	if err := in.use(n); err != nil {
		return "", err
	}
	octets := make([]byte, n)
	if _, err := io.ReadFull(in.r, octets); err != nil {
		return "", err
	}
	return string(octets), nil
}
