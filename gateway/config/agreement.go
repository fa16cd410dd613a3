package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"congthu/auth"
)

// Agreement returns the settings that must be equal at all gateways on one store: those
// that decide which accounts are counted, locked, revoked, refused and stored, and
// under which name. Addresses, certificates, texts and the limits of a single gateway
// are not among them. Settings of a protocol that this gateway does not serve are left
// out.
func (c *Config) Agreement() auth.Agreement {
	r, t, p := c.Regulation, c.Throttle, c.Store.Postgres
	a := auth.Agreement{
		"domain":                  c.Domain,
		"domains":                 list(c.Domains),
		"names.subaddress":        string(c.Names.Subaddress),
		"names.master_separators": list([]string{c.Names.MasterSeparators}),
		"names.unicode":           fmt.Sprint(c.Names.Unicode),

		"rules.time_zone":                       r.TimeZone.String(),
		"rules.lockout.mode":                    r.Lockout.Mode.String(),
		"rules.lockout.tolerated":               fmt.Sprint(r.Lockout.Tolerated),
		"rules.lockout.forget_after":            duration(r.Lockout.ForgetAfter),
		"rules.lockout.unlock_after":            duration(r.Lockout.UnlockAfter),
		"rules.lockout.count_previous_password": fmt.Sprint(r.Lockout.CountPreviousPassword),
		"rules.lockout.count_repeats":           r.Lockout.CountRepeats.String(),
		"rules.dormancy.mode":                   r.Dormancy.Mode.String(),
		"rules.dormancy.months":                 fmt.Sprint(r.Dormancy.Months),
		"rules.dormancy.doors_complete":         fmt.Sprint(r.Dormancy.DoorsComplete),
		"rules.password.mode":                   r.Password.Mode.String(),
		"rules.password.months":                 fmt.Sprint(r.Password.Months),
		"rules.password.warn_days":              fmt.Sprint(r.Password.WarnDays),
		"rules.password.max_grace_days":         fmt.Sprint(r.Password.MaxGraceDays),
		"rules.sender.mode":                     r.Sender.Mode.String(),

		"throttle.enabled":         fmt.Sprint(t.Enabled),
		"throttle.window":          duration(t.Window),
		"throttle.accounts":        fmt.Sprint(t.Accounts),
		"throttle.failures":        fmt.Sprint(t.Failures),
		"throttle.locks":           fmt.Sprint(t.Locks),
		"throttle.strangers_after": fmt.Sprint(t.StrangersAfter),
		"throttle.known_networks":  networks(t.KnownNetworks),

		"store.postgres.lease":       duration(p.Lease),
		"store.last_login_window":    duration(c.Store.LastLoginWindow),
		"store.max_unknown_names":    fmt.Sprint(c.Store.MaxUnknownNames),
		"store.forget_unknown_after": duration(c.Store.ForgetUnknownAfter),
		// A gateway that keeps events for less time deletes them for all gateways.
		"audit.keep_days": fmt.Sprint(c.Audit.KeepDays),
	}
	var aliases, delegations []string
	for alias, account := range c.Aliases {
		aliases = append(aliases, fmt.Sprintf("%s=%s", alias, account))
	}
	for address, accounts := range c.Delegations {
		for _, account := range accounts {
			delegations = append(delegations, fmt.Sprintf("%s=%s", address, account))
		}
	}
	a["aliases"], a["delegations"] = list(aliases), list(delegations)
	for _, p := range auth.Protocols() {
		if m := c.Mail(p); len(m.Listen) > 0 {
			m.Upstream.agree(a, p.String()+".upstream.")
		}
	}
	// With several domains this setting decides which account a name means, so a
	// gateway for one protocol must not differ from a gateway for another
	// (checkLoginNames).
	if len(c.served()) > 1 {
		for _, p := range []auth.Protocol{auth.IMAP, auth.SMTP} {
			if names := c.loginNames(); len(names) > 0 && len(c.Mail(p).Listen) == 0 {
				a[p.String()+".upstream.login_name"] = string(names[0])
			}
		}
	}
	return a
}

// agree adds the settings that decide about which account the mail server is asked, and
// which replies mean a wrong password.
func (u Upstream) agree(a auth.Agreement, path string) {
	a[path+"login_name"] = string(u.LoginName)
	a[path+"wrong"], a[path+"not_wrong"] = patterns(u.Wrong), patterns(u.NotWrong)
}

func patterns(expressions []*regexp.Regexp) string {
	var texts []string
	for _, e := range expressions {
		texts = append(texts, e.String())
	}
	return list(texts)
}

// list returns a JSON array in canonical order.
func list(values []string) string {
	sorted := slices.Sorted(slices.Values(values))
	text, err := json.Marshal(append([]string{}, sorted...))
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(text)
}

func networks(known []KnownNetwork) string {
	var texts []string
	for _, n := range known {
		texts = append(texts, n.String())
	}
	return list(texts)
}

// duration formats a duration so that equal ones have equal text.
func duration(d time.Duration) string { return d.String() }
