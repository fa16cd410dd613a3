// Package defaults has the default figures of package postgres. It is a package of its
// own so that the configuration can use them without the database driver.
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
