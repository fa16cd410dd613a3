package relay

import "syscall"

// quickAck returns a function that acknowledges at once what has been read from
// a socket. A client that writes the end of a command in a small segment of its own
// (an APPEND in Python's imaplib) waits until the segment before it is
// acknowledged (RFC 896); the kernel would wait 40 ms for a reply to send the
// acknowledgement with, and there is none before the command is complete.
// Dovecot does the same. It does not last, so it is said after each read.
func quickAck(socket syscall.RawConn) func() {
	if socket == nil {
		return func() {}
	}
	return func() {
		socket.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
	}
}
