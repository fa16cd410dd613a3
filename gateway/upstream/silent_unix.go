//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// nothingToRead checks a socket without waiting and without reading from it. A
// connection without a socket cannot be checked.
func nothingToRead(conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var waiting error
	err = raw.Control(func(fd uintptr) {
		// The runtime's sockets are non-blocking.
		_, _, waiting = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
	})
	return err == nil && (errors.Is(waiting, syscall.EAGAIN) || errors.Is(waiting, syscall.EINTR))
}
