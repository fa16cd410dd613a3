package relay

import "syscall"

// quickAck returns a function that acknowledges the data read from a socket at once. A
// client that writes the end of a command in a small segment (an APPEND in Python's
// imaplib) waits until the segment before it is acknowledged (RFC 896). The kernel
// would delay the acknowledgement by 40 ms to combine it with a reply, but there is no
// reply before the command is complete. Dovecot does the same. The option is not
// permanent, so it is set after each read.
func quickAck(socket syscall.RawConn) func() {
	if socket == nil {
		return func() {}
	}
	return func() {
		socket.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1) })
	}
}
