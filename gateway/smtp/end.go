package smtp

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// end is one of the two ends of a session: a connection, with what was read from it and
// not used, and what is still to be written.
type end struct {
	conn net.Conn
	buf  []byte
	r, w int    // what was read and not used is buf[r:w]
	out  []byte // to be written
	err  error  // why nothing more can be read, or written

	// The times that its reads and writes have, as they were set last: to set a time costs as
	// much as to read.
	readUntil, writeUntil time.Time
}

// Buffers: commands and replies are read into a small one, messages into a large one.
// An end where nothing waits has none.
const (
	smallBuffer = 4 << 10
	largeBuffer = 16 << 10 // a TLS record (RFC 8446 section 5.1)
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// ahead is what was read already.
func (e *end) ahead(b []byte) {
	e.buf = append([]byte(nil), b...)
	e.w = len(b)
}

// in is what was read and not used.
func (e *end) in() []byte { return e.buf[e.r:e.w] }

// use takes from what was read.
func (e *end) use(n int) { e.r += n }

// room makes room to read into, in a buffer of that size at least.
func (e *end) room(size int) []byte {
	waiting := e.in()
	if len(waiting) == 0 && len(e.buf) != size {
		e.release()
		e.buf = borrow(size)
	}
	switch {
	case e.r > 0:
		e.r, e.w = 0, copy(e.buf, waiting)
	case e.w == len(e.buf):
		larger := make([]byte, max(size, 2*len(e.buf)))
		e.w = copy(larger, waiting)
		giveBack(e.buf)
		e.buf = larger
	}
	return e.buf[e.w:]
}

// release gives the buffer back, but for what waits in it.
func (e *end) release() {
	waiting := append([]byte(nil), e.in()...)
	giveBack(e.buf)
	e.buf, e.r, e.w = waiting, 0, len(waiting)
	if len(waiting) == 0 {
		e.buf = nil
	}
}

func borrow(size int) []byte {
	if size == smallBuffer {
		return smallBuffers.Get().(*[smallBuffer]byte)[:]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:]
}

func giveBack(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// abort closes a connection without TLS's goodbye, which can take seconds when the other
// side does not read.
func (e *end) abort() {
	if secured, ok := e.conn.(*tls.Conn); ok {
		secured.NetConn().Close()
	}
	e.conn.Close()
}

// linger lets the other side read our last words, for as long as it goes on to send: closing
// a socket with something unread in it would take them back. It reads most octets, and
// waits for each piece of them.
func (e *end) linger(most int64, wait time.Duration, arm func(time.Time)) {
	below := e.conn
	if secured, ok := e.conn.(*tls.Conn); ok {
		secured.CloseWrite()
		below = secured.NetConn()
	}
	half, ok := below.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	e.r = e.w
	for most > 0 {
		arm(time.Now().Add(wait))
		n, err := below.Read(e.room(smallBuffer))
		if err != nil {
			return
		}
		most -= int64(n)
	}
}
