package config

import (
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
			StrangersAfter: strangers, ForgetUnknown: c.Store.ForgetUnknownAfter,
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
	return n
}

// addresses is Namer without aliases and folding: what can be the name of an
// account at all.
func (c *Config) addresses() *auth.Namer {
	n := &auth.Namer{Default: c.Domain, Domains: make(map[string]bool, len(c.Domains)), MasterSeparators: c.Names.MasterSeparators}
	for _, d := range c.Domains {
		n.Domains[d] = true
	}
	return n
}
