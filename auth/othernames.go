package auth

import (
	"slices"
	"time"
)

// FoldsDomains reports whether several domains are taken for one.
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

// OnlyExisting reports whether an account goes on because it is known, and could not
// begin.
func (n *Namer) OnlyExisting(account Name) bool {
	return !n.Unicode && !isASCII(account.Local()) && n.Home(account) == account
}

// Stray reports whether the name of a row means another account than its own, and
// which.
func (n *Namer) Stray(row Name) (account Name, stray bool) {
	account = n.Home(row)
	return account, account != "" && account != row
}

// Others are all the names that would be strays of an account.
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

// Elsewhere is how an account is refused for what other rows of it say: Locked or
// Revoked, else Accepted. Only a mark revokes: nobody logs in under the name of a
// stray, so that it grows dormant whatever its owner does.
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
