package relay

import (
	"net"
	"syscall"
)

// socket is what the idle poller holds of a connection. It resumes its owner when
// something can be read, which may be the end or an error.
type socket struct {
	owner        interface{ resume(*socket) }
	raw          syscall.RawConn // nil when it cannot be parked
	registration registration
}

// rawConn finds the socket below TLS.
func rawConn(conn net.Conn) (syscall.RawConn, error) {
	for {
		switch c := conn.(type) {
		case syscall.Conn:
			return c.SyscallConn()
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil, net.ErrClosed
		}
	}
}
