// Package scope names what the holder of an admin token may do. The configuration
// gives tokens these scopes, and each operation of the API asks for one.
package scope

// Scope is one of them, as the configuration writes it.
type Scope string

const (
	Read    Scope = "read"    // look at accounts
	Unlock  Scope = "unlock"  // end a lock
	Lock    Scope = "lock"    // lock an account
	Restore Scope = "restore" // give a revoked account back
	Grace   Scope = "grace"   // let an expired password go on for some days
	Sweep   Scope = "sweep"   // revoke all dormant accounts
	Audit   Scope = "audit"   // read and verify the whole audit log
	Rules   Scope = "rules"   // make other rules those of all gateways
	Import  Scope = "import"  // take over a list of accounts, merge names of one account
	Debug   Scope = "debug"   // profiles of the process, and the support bundle
)

// All lists every scope.
func All() []Scope {
	return []Scope{Read, Unlock, Lock, Restore, Grace, Sweep, Audit, Rules, Import, Debug}
}
