package frontend

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
)

// Bounds of TLS records before login, in octets. crypto/tls reserves memory for a
// whole record when it has read the header, 5 octets, of it.
const (
	// maxFirstRecord bounds each record of a handshake. A ClientHello with ML-KEM
	// keys has some 2 KiB.
	maxFirstRecord = 8 << 10
	// maxHandshake bounds all records of a handshake together; crypto/tls takes
	// messages of 64 KiB.
	maxHandshake = 16 << 10
	// overhead is what a record has besides its content (RFC 5246 section 6.2.3
	// allows 2048, RFC 8446 section 5.2 256; padding may be more, and counts).
	overhead = 256
)

// errRecordTooLong is a record for which there is no room.
type errRecordTooLong int

func (e errRecordTooLong) Error() string {
	return fmt.Sprintf("a TLS record of %d octets, too long before login", int(e))
}

// Unwrap makes it a [TooMuch].
func (e errRecordTooLong) Unwrap() error { return TooMuch("TLS record too long") }

// Gate is a connection whose TLS records are bounded until the client is logged in.
// It is below TLS. Its methods are for the goroutine that reads the connection.
type Gate struct {
	net.Conn
	// watching is set from the begin of a handshake to the login.
	watching atomic.Bool
	// room is how many octets the handshake has left; negative after it.
	room int
	// admit says how long a record after the handshake may be.
	admit func() int
	// Place, unless nil, is told how long records are.
	Place *Place

	header [5]byte
	have   int // octets of header
	body   int // octets of the record that are to come
}

// halfGate is a Gate whose connection can be closed by halves.
type halfGate struct{ *Gate }

// CloseWrite closes the writing half.
func (g halfGate) CloseWrite() error {
	return g.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// Watch puts a gate on a connection. The first result is to be used in its place.
func Watch(conn net.Conn) (net.Conn, *Gate) {
	g := &Gate{Conn: conn}
	if _, ok := conn.(interface{ CloseWrite() error }); ok {
		return halfGate{g}, g
	}
	return g, g
}

// Handshake begins to bound records: the next octet is the first one of a TLS
// handshake.
func (g *Gate) Handshake() {
	g.room, g.have, g.body = maxHandshake, 0, 0
	g.watching.Store(true)
}

// Talk is the end of the handshake: records may be as long as admit says.
func (g *Gate) Talk(admit func() int) { g.room, g.admit = -1, admit }

// Open bounds nothing any more.
func (g *Gate) Open() {
	g.watching.Store(false)
	g.admit = nil
}

// NetConn returns the connection below.
func (g *Gate) NetConn() net.Conn { return g.Conn }

// Read implements net.Conn.
func (g *Gate) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if n > 0 && g.watching.Load() {
		if err := g.see(b[:n]); err != nil {
			return 0, err // before crypto/tls has read the header
		}
	}
	return n, err
}

// see follows the records in what was read.
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

// limit is the longest that the next record may be.
func (g *Gate) limit() int {
	switch {
	case g.room >= 0:
		return min(maxFirstRecord, g.room-len(g.header))
	case g.admit != nil:
		return g.admit() + overhead
	}
	return maxFirstRecord
}
