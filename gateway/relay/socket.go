package relay

import (
	"net"
	"syscall"
)

// rawConn returns the socket below TLS.
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
