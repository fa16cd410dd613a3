package auth

import (
	"slices"
	"time"
)

// FoldsDomains reports whether several domains are treated as one.
func (n *Namer) FoldsDomains() bool {
	if !n.LocalNames || n.Default == "" {
		return false
	}
	for domain := range n.Domains {
		if domain != n.Default {
			return true
		}
	}
	return false
}

// Home returns the account that the name of a row means; empty for none.
func (n *Namer) Home(row Name) Name {
	account, err := n.Existing(string(row))
	if err != nil {
		return ""
	}
	return account
}

// OnlyExisting reports whether the account is accepted only because it exists: a new one
// could not have this name.
func (n *Namer) OnlyExisting(account Name) bool {
	return !n.Unicode && !isASCII(account.Local()) && n.Home(account) == account
}

// Stray reports whether the name of a row means another account than its own, and
// returns that account.
func (n *Namer) Stray(row Name) (account Name, stray bool) {
	account = n.Home(row)
	return account, account != "" && account != row
}

// Others returns all names that would be strays of an account.
func (n *Namer) Others(account Name) (others []Name) {
	candidates := []Name{account}
	for alias := range n.Aliases {
		if n.account(alias) == account {
			candidates = append(candidates, alias)
		}
	}
	if n.FoldsDomains() {
		for _, name := range slices.Clone(candidates) {
			candidates = append(candidates, n.inDefault(name))
			for domain := range n.Domains {
				candidates = append(candidates, Name(name.Local()+"@"+domain))
			}
		}
	}
	for _, name := range candidates {
		if name != account && n.Home(name) == account {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// Elsewhere returns the outcome that other rows of an account cause: Locked, Revoked or
// Accepted. A stray revokes only by a mark: no login uses its name, so it becomes
// dormant even if its account is used.
func (r Rules) Elsewhere(rows []Account, now time.Time) Outcome {
	outcome := Accepted
	for _, a := range rows {
		switch {
		case r.Locked(a, now):
			return Locked
		case r.Dormancy.Mode == Enforce && !a.Revocation.IsZero():
			outcome = Revoked
		}
	}
	return outcome
}
