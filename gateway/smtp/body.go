package smtp

import (
	"bytes"
	"io"
	"slices"
	"sync"

	gosmtp "github.com/emersion/go-smtp"
)

// bodyReader reads a message sent with DATA. go-smtp's reader looks at each octet
// by itself, behind another one that does the same; both together are most of
// what a message costs. But nearly all lines of nearly all messages are plain:
// they end in CRLF, begin with no dot, and have no other CR or LF. Such lines mean
// nothing to that reader; whether it has seen them or not, it stands at the
// beginning of a line afterwards. So they are taken from the connection directly,
// and go-smtp's reader is given the others, one by one: it takes out the dots, and
// it alone says where the message ends.
//
// At the first line that is not as it should be, or is too long to tell, the
// reader is left to itself for the rest of the message, because where it stands
// then is not known.
type bodyReader struct {
	conn *conn
	slow io.Reader // go-smtp's
	// fast says that slow stands at the beginning of a line and holds nothing.
	fast bool
	// room is how much more the message may have; negative for no limit.
	room int64
}

// body is a reader of the message that follows DATA; limit, if any, is the
// longest that the mail server takes.
func (c *conn) body(slow io.Reader, limit int64) *bodyReader {
	// go-smtp has read the line with DATA and holds nothing that came after it, if
	// that line was given to it alone.
	r := &bodyReader{conn: c, slow: slow, fast: c.alone, room: -1}
	if limit > 0 {
		r.room = limit
	}
	return r
}

// Read implements io.Reader. b has room for a line at least.
func (r *bodyReader) Read(b []byte) (n int, err error) {
	if !r.fast {
		n, err = r.slow.Read(b)
	} else if n, err = r.conn.plainLines(b); n == 0 && err == nil {
		n, err = r.oneLine(b)
	}
	if r.room >= 0 && int64(n) > r.room {
		return 0, gosmtp.ErrDataTooLarge // RFC 1870 section 6.3
	}
	if r.room >= 0 {
		r.room -= int64(n)
	}
	if err == io.EOF && n > 0 && r.fast {
		err = nil // next time
	}
	return n, err
}

// oneLine lets go-smtp's reader have the line that comes next.
func (r *bodyReader) oneLine(b []byte) (int, error) {
	line := r.conn.heldLine()
	if !regular(line) || len(line) > len(b) {
		r.fast = false
		return r.slow.Read(b)
	}
	r.conn.inLine = true // it alone
	want := len(line) - 1
	if want == len(endOfData)-1 {
		want = 1 // there is none: it says that the message is over
	}
	return io.ReadFull(r.slow, b[:want])
}

// endOfData is what comes after the last line.
const endOfData = ".\r\n"

// regular reports whether a line ends in CRLF and has no other CR or LF.
func regular(line []byte) bool {
	return len(line) >= 2 && bytes.IndexByte(line, '\r') == len(line)-2 && line[len(line)-1] == '\n'
}

// plainPrefix is the length of the plain lines that b begins with.
func plainPrefix(b []byte) (n int) {
	for n < len(b) && b[n] != '.' {
		end := bytes.IndexByte(b[n:], '\n') + 1
		if end == 0 || !regular(b[n:n+end]) {
			break
		}
		n += end
	}
	return n
}

// plainLines reads plain lines into b. It returns none when what comes next is
// another line, or is too long for b; that is held then, whole if there is room.
func (c *conn) plainLines(b []byte) (int, error) {
	// Where something is held it is looked at in place: with a message of lines that
	// begin with a dot, each would otherwise move all that is behind it.
	if held := c.held[:min(len(b), len(c.held))]; len(held) > 0 {
		n := plainPrefix(held)
		if n > 0 || bytes.IndexByte(held, '\n') >= 0 || len(held) == len(b) {
			copy(b, held[:n])
			c.keep(c.held[n:])
			return n, nil
		}
	}
	have := copy(b, c.held)
	c.keep(c.held[have:])
	for {
		n := plainPrefix(b[:have])
		if n > 0 || bytes.IndexByte(b[:have], '\n') >= 0 || have == len(b) {
			if n < have {
				c.keep(slices.Concat(b[n:have], c.held))
			}
			return n, nil
		}
		more, err := c.read(b[have:])
		if err != nil {
			if have > 0 {
				c.keep(bytes.Clone(b[:have]))
			}
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		have += more
	}
}

// heldLine is the line that is held, as far as it is there.
func (c *conn) heldLine() []byte {
	return c.held[:bytes.IndexByte(c.held, '\n')+1]
}

// pieces are buffers for a message under way; a session between two messages has
// none.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// pieceSize is more than a record of TLS has (RFC 8446 section 5.1), so that what
// is left of one by the line that goes on in the next has room with it.
const pieceSize = 32 << 10
