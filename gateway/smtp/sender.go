package smtp

import (
	"slices"
	"strings"

	"congthu/auth"
)

// Sender is Art. 13.8 for submitted mail: who may send as whom.
type Sender struct {
	Mode auth.Mode
	// Canonical returns the account that an address is a name of; nil is
	// [auth.ParseName].
	Canonical func(address string) (auth.Name, error)
	// Aliases are other addresses of accounts, canonical on both sides.
	Aliases map[auth.Name]auth.Name
	// Delegations are the accounts that may send as an address of somebody else,
	// or of nobody: an office.
	Delegations map[auth.Name][]auth.Name
}

// Owns reports whether account may send as address: its own, with or without a
// subaddress (RFC 5233), an alias of it, or one that was delegated to it. The
// local part has no quotes any more.
func (p Sender) Owns(account auth.Name, address string) bool {
	if account == "" {
		return false
	}
	if p.owns(account, address) {
		return true
	}
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return false
	}
	user, _, tagged := strings.Cut(address[:at], "+")
	return tagged && user != "" && p.owns(account, user+address[at:])
}

func (p Sender) owns(account auth.Name, address string) bool {
	// An address that is no account of ours can still be delegated.
	name, err := auth.ParseName(address)
	if err != nil {
		return false
	}
	canonical := name
	if p.Canonical != nil {
		if canonical, err = p.Canonical(address); err != nil {
			canonical = ""
		}
	}
	return canonical == account || p.Aliases[name] == account ||
		slices.Contains(p.Delegations[name], account) ||
		canonical != "" && slices.Contains(p.Delegations[canonical], account)
}
