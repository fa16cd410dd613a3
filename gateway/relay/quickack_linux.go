package relay

import (
	"net"
	"syscall"
)

// quickAck returns a function that acknowledges at once what has been read from
// conn. A client that writes the end of a command in a small segment of its own
// (an APPEND in Python's imaplib) waits until the segment before it is
// acknowledged (RFC 896); the kernel would wait 40 ms for a reply to send the
// acknowledgement with, and there is none before the command is complete.
// Dovecot does the same. It does not last, so it is said after each read.
func quickAck(conn net.Conn) func() {
	raw, err := rawConn(conn)
	if err != nil {
		return func() {}
	}
	return func() {
		raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
	}
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
