// Package defaults has the figures of package postgres that hold where none are
// given. It is a package of its own so that the configuration can have them without
// the driver.
package defaults

import "time"

// See the fields of the same names of postgres.Options.
const (
	Lease            = 30 * time.Second
	MaxConns         = 8
	ConnectTimeout   = 5 * time.Second
	StatementTimeout = 6 * time.Second
	LockTimeout      = 4 * time.Second
	Poll             = time.Second
)
