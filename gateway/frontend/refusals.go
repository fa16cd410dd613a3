package frontend

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Refusals says last words to connections that are not let in. The zero Refusals
// is ready; all listeners of a protocol share one.
type Refusals struct{ under atomic.Int32 }

const (
	// maxRefusals is how many connections may be written to at one time.
	maxRefusals = 100
	// refusalTime is the longest that one write may take.
	refusalTime = time.Second
)

// Say writes a line and closes the connection. It blocks for a second at most, so
// it is nothing for the loop that accepts. When maxRefusals are being written
// already the connection is closed without a word: those who come to be refused
// come in crowds.
func (r *Refusals) Say(conn net.Conn, line string) {
	defer conn.Close()
	defer r.under.Add(-1)
	if r.under.Add(1) > maxRefusals {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(refusalTime))
	io.WriteString(conn, line+"\r\n") // a client that has gone need not be told
}
