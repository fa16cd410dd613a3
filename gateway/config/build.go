package config

import (
	"slices"
	"time"

	"congthu/auth"
)

// Rules returns the rules as the guard works with them.
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
			// A last login may be written that much late; nobody is revoked early for it.
			Slack: c.Store.LastLoginWindow,
		},
		Password: auth.PasswordAge{
			Mode: r.Password.Mode, Months: r.Password.Months, WarnDays: r.Password.WarnDays,
			MaxGrace: time.Duration(r.Password.MaxGraceDays) * 24 * time.Hour,
		},
		Sender: r.Sender.Mode,
	}
}

// Namer returns what turns login names into account names.
func (c *Config) Namer() *auth.Namer {
	n := c.addresses()
	n.Aliases = c.Aliases
	n.FoldSubaddress = c.Names.Subaddress == FoldSubaddress
	n.LocalNames = c.localNames()
	return n
}

// addresses is Namer without aliases and folding: what can be the name of an
// account at all.
func (c *Config) addresses() *auth.Namer {
	n := &auth.Namer{Default: c.Domain, Domains: make(map[string]bool, len(c.Domains)), MasterSeparators: c.Names.MasterSeparators, Unicode: c.Names.Unicode}
	for _, d := range c.Domains {
		n.Domains[d] = true
	}
	return n
}

// served are the domains of the accounts, each once.
func (c *Config) served() []string {
	domains := append([]string{c.Domain}, c.Domains...)
	slices.Sort(domains)
	return slices.Compact(domains)
}

// loginNames are how the mail servers of the doors that are open know an account.
func (c *Config) loginNames() (names []LoginName) {
	for _, p := range auth.Protocols() {
		if m := c.Mail(p); len(m.Listen) > 0 {
			names = append(names, m.Upstream.LoginName)
		}
	}
	return names
}

// localNames reports whether no mail server is told the domain. The checker has
// seen to it that where there are several domains all are told or none is.
func (c *Config) localNames() bool {
	names := c.loginNames()
	return len(names) > 0 && !slices.Contains(names, LoginAddress)
}

// SenderAliases are the aliases as the rule on senders (Art. 13.8) takes them: an
// alias, and the name of the account that it leads to.
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

// SenderDelegations are the delegations as the rule on senders takes them: an
// address, in each domain in which it is the same to the mail server, and the
// names of the accounts that may send as it.
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
