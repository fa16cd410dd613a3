//go:build !unix

package upstream

import "net"

// nothingToRead always returns false: on this system there are no spare connections.
func nothingToRead(net.Conn) bool { return false }
