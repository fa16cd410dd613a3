package frontend

import (
	"bufio"
	"errors"
	"io"
)

// Limits on what a client may send before login, in octets.
const (
	// MaxCommand is the size of a command with all its lines, literals and responses.
	// They stay in memory until the command is complete, for every connection.
	MaxCommand = 16 << 10
	// maxTalk is the size of all commands together.
	maxTalk = 256 << 10
	// maxCommands is the number of commands: the kernel buffers the replies for a
	// client that does not read, and some replies are ten times as long as their
	// command.
	maxCommands = 100
)

const (
	errLineTooLong    = TooMuch("line too long")
	errCommandTooLong = TooMuch("command too long")
	errTalkTooLong    = TooMuch("too much before login")
)

// Input reads from a client within limits. It is the only reader of the connection;
// data that it has read too much goes to the relay, once.
type Input struct {
	r *bufio.Reader
	// Octets that may still be read: of this command, and in total.
	command, room int
	commands      int // started so far
	// place, unless nil, is charged with the length of the command.
	place *Place
}

// readAhead is the size of the buffer: it holds the commands of nearly all clients, and
// a longer line needs a few more reads. Each connection has one, and most end soon.
const readAhead = 1 << 10

// NewInput returns an Input that reads from r.
func NewInput(r io.Reader) *Input {
	return &Input{r: bufio.NewReaderSize(r, readAhead), command: MaxCommand, room: maxTalk}
}

// begin starts a command.
func (in *Input) begin() {
	in.command = MaxCommand
	in.place.HoldCommand(0)
}

// Left returns the number of octets that the command may still have.
func (in *Input) Left() int { return in.command }

// use counts octets against the limits.
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

// turnTo continues reading from r, such as the TLS connection over the one before. It
// discards data that was read ahead.
func (in *Input) turnTo(r io.Reader) { in.r.Reset(r) }

// rest returns the data that was read ahead.
func (in *Input) rest() []byte {
	ahead, _ := in.r.Peek(in.r.Buffered())
	return append([]byte(nil), ahead...)
}

// Line reads a line of at most max octets, within the limit of the command, and returns
// it without its end, which is CRLF or, for people with telnet, LF.
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
