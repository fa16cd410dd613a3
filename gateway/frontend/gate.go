package frontend

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
)

// Limits of TLS records before login, in octets. crypto/tls reserves memory for a whole
// record once it has read the record's header of 5 octets.
const (
	// maxFirstRecord limits each record of a handshake. A ClientHello with ML-KEM keys
	// has some 2 KiB.
	maxFirstRecord = 8 << 10
	// maxHandshake limits all records of a handshake together; crypto/tls accepts
	// messages of 64 KiB.
	maxHandshake = 16 << 10
	// overhead is the part of a record beside its content (RFC 5246 section 6.2.3
	// allows 2048, RFC 8446 section 5.2 allows 256; padding may be more, and counts).
	overhead = 256
)

// errRecordTooLong reports a record that exceeds its limit.
type errRecordTooLong int

func (e errRecordTooLong) Error() string {
	return fmt.Sprintf("a TLS record of %d octets, too long before login", int(e))
}

// Unwrap returns it as a [TooMuch].
func (e errRecordTooLong) Unwrap() error { return TooMuch("TLS record too long") }

// Gate is a connection whose TLS records are limited until the client is logged in. It
// lies below TLS. Its methods are for the goroutine that reads the connection.
type Gate struct {
	net.Conn
	// watching is set from the start of a handshake until the login.
	watching atomic.Bool
	// room is the number of octets left for the handshake; negative after it.
	room int
	// admit returns the maximum length of a record after the handshake.
	admit func() int
	// Place, unless nil, is charged with the length of records.
	Place *Place

	header [5]byte
	have   int // octets of the header received so far
	body   int // octets of the record still to come

	// eager: each read takes all that has arrived. ahead is what TLS has not asked for yet.
	eager bool
	ahead []byte
	buf   *[readAtOnce]byte
}

// readAtOnce is the size of an eager read, in octets: one record (RFC 8446 section 5.1) or
// many small ones.
const readAtOnce = 16 << 10

var readBuffers = sync.Pool{New: func() any { return new([readAtOnce]byte) }}

// halfGate is a Gate whose connection can close its write half.
type halfGate struct{ *Gate }

// CloseWrite closes the write half.
func (g halfGate) CloseWrite() error {
	return g.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Watch wraps a connection in a gate. Use the first result in place of the connection.
func Watch(conn net.Conn) (net.Conn, *Gate) {
	g := &Gate{Conn: conn}
	if _, ok := conn.(interface{ CloseWrite() error }); ok {
		return halfGate{g}, g
	}
	return g, g
}

// Handshake starts to limit records: the next octet is the first of a TLS handshake.
func (g *Gate) Handshake() {
	g.room, g.have, g.body = maxHandshake, 0, 0
	g.watching.Store(true)
}

// Talk ends the handshake: from now on admit limits the length of records.
func (g *Gate) Talk(admit func() int) { g.room, g.admit = -1, admit }

// Open removes all limits.
func (g *Gate) Open() {
	g.watching.Store(false)
	g.admit = nil
}

// NetConn returns the wrapped connection.
func (g *Gate) NetConn() net.Conn { return g.Conn }

// ReadAhead sets whether each read takes all that has arrived. It is for a message after
// the login, which may come in many small records. The buffer is kept only while TLS has
// not asked for all of it.
func (g *Gate) ReadAhead(on bool) { g.eager = on }

// readAhead is an eager Read.
func (g *Gate) readAhead(b []byte) (int, error) {
	if len(g.ahead) == 0 {
		if len(b) >= readAtOnce {
			return g.Conn.Read(b)
		}
		g.buf = readBuffers.Get().(*[readAtOnce]byte)
		n, err := g.Conn.Read(g.buf[:])
		if g.ahead = g.buf[:n]; n == 0 {
			readBuffers.Put(g.buf)
			g.buf = nil
			return 0, err
		}
	}
	n := copy(b, g.ahead)
	if g.ahead = g.ahead[n:]; len(g.ahead) == 0 {
		readBuffers.Put(g.buf)
		g.buf, g.ahead = nil, nil
	}
	return n, nil
}

// Read implements net.Conn.
func (g *Gate) Read(b []byte) (int, error) {
	if g.eager || len(g.ahead) > 0 {
		return g.readAhead(b)
	}
	n, err := g.Conn.Read(b)
	if n > 0 && g.watching.Load() {
		if err := g.see(b[:n]); err != nil {
			return 0, err // before crypto/tls reads the header
		}
	}
	return n, err
}

// see follows the records in the octets that were read.
func (g *Gate) see(b []byte) error {
	for len(b) > 0 {
		if g.body > 0 {
			n := min(g.body, len(b))
			g.body -= n
			b = b[n:]
			continue
		}
		n := copy(g.header[g.have:], b)
		g.have += n
		b = b[n:]
		if g.have < len(g.header) {
			return nil
		}
		g.have, g.body = 0, int(binary.BigEndian.Uint16(g.header[3:])) // RFC 8446 section 5.1
		if g.body > g.limit() {
			return errRecordTooLong(g.body)
		}
		g.Place.HoldRecord(g.body)
		if g.room >= 0 {
			g.room -= len(g.header) + g.body
		}
	}
	return nil
}

// limit returns the maximum length of the next record.
func (g *Gate) limit() int {
	switch {
	case g.room >= 0:
		return min(maxFirstRecord, g.room-len(g.header))
	case g.admit != nil:
		return g.admit() + overhead
	}
	return maxFirstRecord
}
