//go:build !linux

package relay

import "syscall"

// quickAck does nothing: only Linux has TCP_QUICKACK.
func quickAck(syscall.RawConn) func() { return func() {} }
