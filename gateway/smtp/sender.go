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
// local part has no quotes any more; an address that needs any is nobody's.
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
	return tagged && isAddress(address) && p.owns(account, user+address[at:])
}

// isAddress reports whether all of an address, its subaddress included, is as
// plain as the name of an account: letters and digits of any script, and what
// RFC 5321 section 4.1.2 allows without quotes, but no slash, in 64 octets. A
// quoted subaddress could hold anything: a line end, another address and its
// bracket, letters that turn round or hide what is beside them.
func isAddress(address string) bool {
	_, err := auth.ParseName(address)
	return err == nil
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
