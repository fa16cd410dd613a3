package config

import (
	"slices"
	"time"

	"congthu/auth"
)

// Rules returns the rules in the form that the guard uses.
func (c *Config) Rules() auth.Rules {
	r := c.Regulation
	strangers := 0
	if c.Throttle.Enabled {
		strangers = c.Throttle.StrangersAfter
	}
	return auth.Rules{
		Location: r.TimeZone,
		Lockout: auth.Lockout{
			Mode: r.Lockout.Mode, Tolerated: r.Lockout.Tolerated, ForgetAfter: r.Lockout.ForgetAfter, UnlockAfter: r.Lockout.UnlockAfter,
			CountPrevious: r.Lockout.CountPreviousPassword, CountRepeats: r.Lockout.CountRepeats,
			DailyFailureCap: strangers, ForgetUnknown: c.Store.ForgetUnknownAfter,
		},
		Dormancy: auth.Dormancy{
			Mode: r.Dormancy.Mode, Months: r.Dormancy.Months, DoorsComplete: r.Dormancy.DoorsComplete,
			// The stored last login may be this much too old; no account is revoked
			// early because of it.
			Slack: c.Store.LastLoginWindow,
		},
		Password: auth.PasswordAge{
			Mode: r.Password.Mode, Months: r.Password.Months, WarnDays: r.Password.WarnDays,
			MaxGrace: time.Duration(r.Password.MaxGraceDays) * 24 * time.Hour,
		},
		Sender: r.Sender.Mode,
	}
}

// Namer returns the function set that turns login names into account names.
func (c *Config) Namer() *auth.Namer {
	n := c.addresses()
	n.Aliases = c.Aliases
	n.FoldSubaddress = c.Names.Subaddress == FoldSubaddress
	n.LocalNames = c.localNames()
	return n
}

// addresses is Namer without aliases and folding: it decides which names can be names
// of accounts.
func (c *Config) addresses() *auth.Namer {
	n := &auth.Namer{Default: c.Domain, Domains: make(map[string]bool, len(c.Domains)), MasterSeparators: c.Names.MasterSeparators, Unicode: c.Names.Unicode}
	for _, d := range c.Domains {
		n.Domains[d] = true
	}
	return n
}

// served returns the domains of the accounts, each once.
func (c *Config) served() []string {
	domains := append([]string{c.Domain}, c.Domains...)
	slices.Sort(domains)
	return slices.Compact(domains)
}

// loginNames returns the forms of login names for the mail servers of all served
// protocols.
func (c *Config) loginNames() (names []LoginName) {
	for _, p := range auth.Protocols() {
		if m := c.Mail(p); len(m.Listen) > 0 {
			names = append(names, m.Upstream.LoginName)
		}
	}
	return names
}

// localNames reports whether all mail servers receive login names without the domain.
// The checker ensures that, with several domains, either all receive the domain or none
// does.
func (c *Config) localNames() bool {
	names := c.loginNames()
	return len(names) > 0 && !slices.Contains(names, LoginAddress)
}

// SenderAliases returns the aliases for the rule on senders (Art. 13.8): each alias
// with the name of its account.
func (c *Config) SenderAliases() map[auth.Name]auth.Name {
	names := c.Namer()
	aliases := make(map[auth.Name]auth.Name, len(c.Aliases))
	for alias := range c.Aliases {
		if account, err := names.Canonical(string(alias)); err == nil {
			aliases[alias] = account
		}
	}
	return aliases
}

// SenderDelegations returns the delegations for the rule on senders: each address, in
// every domain in which the mail server treats it as the same, with the names of the
// accounts that may send as it.
func (c *Config) SenderDelegations() map[auth.Name][]auth.Name {
	names := c.Namer()
	delegations := make(map[auth.Name][]auth.Name, len(c.Delegations))
	for address, accounts := range c.Delegations {
		for _, domain := range c.served() {
			same := auth.Name(address.Local() + "@" + domain)
			if !names.SameAccount(same, address) {
				continue
			}
			for _, account := range accounts {
				account, err := names.Canonical(string(account))
				if err == nil && !slices.Contains(delegations[same], account) {
					delegations[same] = append(delegations[same], account)
				}
			}
		}
	}
	return delegations
}
