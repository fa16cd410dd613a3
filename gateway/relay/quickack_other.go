//go:build !linux

package relay

import "net"

// quickAck does nothing: TCP_QUICKACK is Linux's.
func quickAck(net.Conn) func() { return func() {} }
