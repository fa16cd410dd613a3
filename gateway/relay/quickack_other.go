//go:build !linux

package relay

import "syscall"

// quickAck does nothing: TCP_QUICKACK is Linux's.
func quickAck(syscall.RawConn) func() { return func() {} }
