package frontend

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Refusals writes farewells to refused connections. The zero Refusals is ready for use;
// all listeners of a protocol share one.
type Refusals struct{ under atomic.Int32 }

const (
	// maxRefusals limits the farewells that are being written at one time.
	maxRefusals = 100
	// refusalTime limits the time of one write.
	refusalTime = time.Second
)

// Say writes a line and closes the connection. It blocks for up to a second, so the
// accept loop must not call it directly. If maxRefusals are being written already, it
// closes the connection without a line: refused connections come in large numbers.
func (r *Refusals) Say(conn net.Conn, line string) {
	defer conn.Close()
	defer r.under.Add(-1)
	if r.under.Add(1) > maxRefusals {
		return
	}
	conn.SetWriteDeadline(time.Now().Add(refusalTime))
	io.WriteString(conn, line+"\r\n") // an error does not matter: the client has gone
}
