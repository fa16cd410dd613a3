//go:build !unix

package upstream

import "net"

// nothingToRead cannot tell: there are no spare connections here.
func nothingToRead(net.Conn) bool { return false }
