package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// checker checks a configuration as a whole. It reads the named files and has no other
// effect.
type checker struct {
	*source
	c   *Config
	now time.Time
}

func (k *checker) check() {
	k.checkDomains()
	k.checkHostname()
	k.c.mail = k.checkKeyPair("tls", k.c.TLS, true)
	k.checkDoor("imap", k.c.IMAP.Listen, k.c.IMAP.Upstream, upstream.PassID)
	k.checkDoor("smtp", k.c.SMTP.Listen, k.c.SMTP.Upstream, upstream.PassXCLIENT)
	k.checkDoor("pop3", k.c.POP3.Listen, k.c.POP3.Upstream, upstream.PassNone)
	if k.c.POP3.Upstream.SpareConnections > 0 && !k.refused("pop3.upstream.spare_connections") {
		k.wrong("pop3.upstream.spare_connections", "remove it", "`pop3.upstream.spare_connections`: a connection is made for each login over POP3")
	}
	if len(k.c.loginNames()) == 0 && !k.anyRefused("imap", "smtp", "pop3") {
		k.wrong("imap.listen", "list at least one address in `imap.listen` or `smtp.listen`", "neither `imap.listen` nor `smtp.listen` has an address: there is nothing to serve")
	}
	k.checkAdmin()
	k.checkMetrics()
	k.checkListeners()
	k.checkTrusted()
	k.checkNames()
	k.checkLoginNames()
	k.checkAliases()
	k.checkDelegations()
	k.checkRules()
	k.checkSizes()
	k.checkStore()
	k.checkTexts()
}

// oneOf returns an error if word is none of the choices.
func oneOf(word string, choices []string) error {
	if !slices.Contains(choices, word) {
		return errors.New("not a choice")
	}
	return nil
}

// checkDomains converts the domains to canonical form.
func (k *checker) checkDomains() {
	c := k.c
	canonical := func(path, domain string) string {
		ascii, err := auth.CanonicalDomain(domain)
		if err != nil || strings.Contains(domain, "@") {
			k.wrong(path, "write the part behind the @ only, such as example.org", "`%s`: %q is not a domain", path, domain)
			return domain
		}
		return ascii
	}
	if c.Domain == "" {
		if !k.refused("domain") {
			k.wrong("domain", "add the line domain: example.org, with the part of your addresses behind the @", "`domain` is missing: names without a domain could not be completed")
		}
	} else {
		c.Domain = canonical("domain", c.Domain)
	}
	seen := map[string]string{c.Domain: "domain"}
	for i, d := range c.Domains {
		path := fmt.Sprintf("domains[%d]", i)
		if k.refused(path) {
			continue
		}
		c.Domains[i] = canonical(path, d)
		if first, again := seen[c.Domains[i]]; again {
			k.wrong(path, "remove it here", "`%s`: %s is there already, as `%s`", path, c.Domains[i], first)
		}
		seen[c.Domains[i]] = path
	}
}

func (k *checker) checkHostname() {
	if _, err := auth.CanonicalDomain(k.c.Hostname); err != nil && k.given("hostname") && !k.refused("hostname") {
		k.wrong("hostname", "write a full name, such as mail.example.org", "`hostname`: %q is not a host name", k.c.Hostname)
	}
}

// checkDoor checks the listeners and the upstream of one protocol.
func (k *checker) checkDoor(door string, listen []Listener, u Upstream, passing upstream.PassClient) {
	path := door + ".upstream"
	for i, l := range listen {
		at := fmt.Sprintf("%s.listen[%d]", door, i)
		if k.refused(at) {
			continue
		}
		switch {
		case k.given(at) && !k.given(at+".tls"):
			k.wrong(at+".tls", "add tls: starttls, or tls: implicit", "`%s.tls` is missing", at)
		case l.TLS == upstream.Plain && !k.refused(at+".tls"):
			k.wrong(at+".tls", "write starttls or implicit", "`%s.tls` is none: passwords would cross the network in clear text", at)
		}
		k.listenAddress(at+".address", l.Address)
	}
	if len(listen) == 0 && !k.given(path) {
		return
	}
	if u.Address == "" {
		if !k.refused(path + ".address") {
			k.wrong(path+".address", fmt.Sprintf("add the mail server's host:port; where there is no such server write %s: { listen: [] }", door), "`%s.address` is missing: the gateway would not know the mail server", path)
		}
		return
	}
	addressPath := path
	if k.given(path + ".address") {
		addressPath += ".address"
	}
	host, port, err := splitAddress(u.Address)
	switch {
	case k.refused(path + ".address"):
	case err != nil:
		k.mistaken(addressPath, err)
	case host == "":
		k.wrong(addressPath, "write host:port", "`%s`: %q names no host", addressPath, u.Address)
	case port == 0:
		k.wrong(addressPath, "write the port the mail server listens on", "`%s`: port 0 is none", addressPath)
	default:
		k.checkUpstreamTLS(path, host, port, u)
	}
	k.checkTrust(path, u)
	switch {
	case k.refused(path + ".pass_client"):
	case u.PassClient == upstream.PassPROXY:
		if k.given(path+".spare_connections") && u.SpareConnections > 0 {
			k.doubt(path+".spare_connections", "remove it, or write 0", "`%s.spare_connections` has no effect with pass_client: proxy: a connection belongs to its client from its first octet, so none can be made in advance", path)
		}
	case u.PassClient != upstream.PassNone && u.PassClient != passing:
		fix := "write proxy or none"
		if passing != upstream.PassNone {
			fix = fmt.Sprintf("write %s, proxy or none", passing)
		}
		k.wrong(path+".pass_client", fix, "`%s.pass_client`: %s cannot be said in %s", path, u.PassClient, strings.ToUpper(door))
	}
	k.atLeast(path+".timeout", u.Timeout, time.Second, 10*time.Minute)
	k.between(path+".spare_connections", u.SpareConnections, 0, 64)
}

func (k *checker) checkUpstreamTLS(path, host string, port uint16, u Upstream) {
	if k.refused(path + ".tls") {
		return
	}
	if u.TLS == upstream.Plain && !loopback(host) {
		k.wrong(path+".tls", "write starttls or implicit; for a server with a certificate of its own add ca_file",
			"`%s.tls` is none, but %s is not on this machine: passwords would cross the network in clear text", path, host)
	}
	implicit := port == 993 || port == 465
	switch {
	case implicit && u.TLS != upstream.Implicit:
		k.doubt(path+".tls", "write tls: implicit", "`%s`: port %d usually begins with TLS, but `tls` is not implicit", path, port)
	case u.TLS == upstream.Implicit && (port == 143 || port == 587 || port == 25):
		k.doubt(path+".tls", "write tls: starttls", "`%s`: port %d usually begins in clear text, but `tls` is implicit", path, port)
	}
	if u.TLS == upstream.Plain {
		for field, set := range map[string]bool{"ca_file": u.CAFile != "", "pin_sha256": len(u.PinSHA256) > 0} {
			if set {
				k.wrong(path+"."+field, "write tls: starttls or implicit, or remove `"+field+"`", "`%s.%s` is set, but there is no TLS to verify", path, field)
			}
		}
	}
	// A connection to the gateway itself would return to it without end.
	for i, l := range k.listenAddresses() {
		lh, lp, err := splitAddress(l.address)
		if err == nil && lp == port && loopback(host) && (wildcard(lh) || sameHost(lh, host)) && i < 64 {
			k.wrong(path, "move the mail server to another port or address, or set the listen address of the gateway",
				"`%s` %s is where the gateway itself listens (`%s`)", path, u.Address, l.path)
		}
	}
}

// listenAddress checks one address to listen on.
func (k *checker) listenAddress(path, address string) bool {
	switch {
	case k.refused(path):
		return false
	case address == "":
		k.wrong(path, `write host:port, or ":port" for all addresses of the machine`, "`%s` is missing", path)
		return false
	}
	host, _, err := splitAddress(address)
	if err != nil {
		k.mistaken(path, err)
		return false
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			k.wrong(path, `write an IP address of this machine, or ":port" for all of them`, "`%s`: %q is not an IP address", path, host)
			return false
		}
	}
	return true
}

type listening struct{ path, address string }

// listenAddresses returns every TCP address on which the gateway would listen.
func (k *checker) listenAddresses() (all []listening) {
	for _, p := range auth.Protocols() {
		for i, l := range k.c.Mail(p).Listen {
			all = append(all, listening{fmt.Sprintf("%s.listen[%d].address", p, i), l.Address})
		}
	}
	if k.c.Admin.Listen != "" {
		all = append(all, listening{"admin.listen", k.c.Admin.Listen})
	}
	if k.c.Metrics.Listen != "" {
		all = append(all, listening{"metrics.listen", k.c.Metrics.Listen})
	}
	return all
}

// checkListeners finds two listeners on one address. A listener without a host
// takes the port on every address.
func (k *checker) checkListeners() {
	all := k.listenAddresses()
	for i, second := range all {
		sh, sp, err := splitAddress(second.address)
		if err != nil || sp == 0 {
			continue
		}
		for _, first := range all[:i] {
			fh, fp, err := splitAddress(first.address)
			if err != nil || fp != sp || !(wildcard(fh) || wildcard(sh) || sameHost(fh, sh)) {
				continue
			}
			fix := "give one of them another port or address"
			if strings.HasPrefix(first.path, "admin") {
				fix = "remove `metrics.listen`: the admin listener has /metrics too"
			}
			message := fmt.Sprintf("`%s` %s is taken by `%s` %s", second.path, second.address, first.path, first.address)
			at := second.path
			if !k.given(at) && k.given(first.path) {
				at = first.path
			}
			k.wrong(at, fix, "%s", message)
			break
		}
	}
}

// checkTrusted checks the lists of machines that may name the address of a client. Each
// network is checked when it is read.
func (k *checker) checkTrusted() {
	p := k.c.ProxyProtocol
	k.atLeast("proxy_protocol.timeout", p.Timeout, 100*time.Millisecond, time.Minute)
	if k.given("proxy_protocol.timeout") && !k.given("proxy_protocol.from") {
		k.doubt("proxy_protocol", "list the balancers in `from`, or remove `proxy_protocol`", "`proxy_protocol` has no `from`: no PROXY header is read")
	}
	k.checkTwice("proxy_protocol.from", p.From)
	k.checkTwice("trusted_forwarders", k.c.TrustedForwarders)
}

// checkTwice finds a network that a list already contains, by itself or as part of
// another: deleting one of the two entries later would have no effect.
func (k *checker) checkTwice(path string, networks []netip.Prefix) {
	for i, network := range networks {
		at := fmt.Sprintf("%s[%d]", path, i)
		for j, other := range networks {
			first := fmt.Sprintf("%s[%d]", path, j)
			if i == j || k.refused(at) || k.refused(first) || other.Bits() > network.Bits() || !other.Contains(network.Addr()) {
				continue
			}
			if other == network && i < j {
				continue // reported for the second one
			}
			k.wrong(at, "remove it here", "`%s`: %s is there already, in `%s` %s", at, network, first, other)
			break
		}
	}
}

func wildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

func sameHost(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := netip.ParseAddr(strings.Replace(a, "localhost", "127.0.0.1", 1))
	y, errY := netip.ParseAddr(strings.Replace(b, "localhost", "127.0.0.1", 1))
	return errX == nil && errY == nil && x.Unmap() == y.Unmap()
}

func (k *checker) checkMetrics() {
	if k.c.Metrics.Listen != "" {
		k.listenAddress("metrics.listen", k.c.Metrics.Listen)
	}
}

func (k *checker) checkRules() {
	r := k.c.Regulation
	k.between("rules.lockout.tolerated", r.Lockout.Tolerated, 1, 100)
	k.atLeast("rules.lockout.forget_after", r.Lockout.ForgetAfter, 0, 0)
	k.atLeast("rules.lockout.unlock_after", r.Lockout.UnlockAfter, 0, 0)
	k.between("rules.dormancy.months", r.Dormancy.Months, 1, 120)
	p := r.Password
	k.between("rules.password.months", p.Months, 1, 120)
	k.between("rules.password.warn_days", p.WarnDays, 0, 90)
	// The admin interface limits the grace to a week, whatever this setting says.
	k.between("rules.password.max_grace_days", p.MaxGraceDays, 0, 7)
	if p.ChangeURL != "" && k.plainLine("rules.password.change_url", p.ChangeURL) && !webAddress(p.ChangeURL) {
		k.wrong("rules.password.change_url", "write the whole address, such as https://mail.example.org/password", "`rules.password.change_url`: %q is not a web address", p.ChangeURL)
	}
	if p.ChangeText != "" {
		k.plainLine("rules.password.change_text", p.ChangeText)
	}
	if p.Mode == auth.Enforce && p.ChangeURL == "" && p.ChangeText == "" && !k.refused("rules.password") && !k.anyRefused("rules.password.change_url", "rules.password.change_text", "rules.password.mode") {
		k.wrong("rules.password.mode",
			"set `rules.password.change_url` to the page where passwords are changed without this gateway, or `change_text` to a sentence that tells the way; or mode: warn until there is one",
			"`rules.password` is enforced, but neither `change_url` nor `change_text` says how to change an expired password: nobody must be locked into one, and with it nobody can log in here to change it")
	}
}

func (k *checker) anyRefused(paths ...string) bool { return slices.ContainsFunc(paths, k.refused) }

func (k *checker) checkSizes() {
	c := k.c
	k.between("smtp.max_recipients", c.SMTP.MaxRecipients, 100, 100_000) // RFC 5321 section 4.5.3.1.8: at least 100
	if days := c.Audit.KeepDays; days != 0 && (days < 30 || days > 36_500) && !k.refused("audit.keep_days") {
		k.wrong("audit.keep_days", "write a number from 30 to 36500, or 0 to keep all for ever", "`audit.keep_days` is %d, out of range", days)
	}
	if c.Throttle.Enabled {
		k.atLeast("throttle.window", c.Throttle.Window, time.Second, 24*time.Hour)
		k.between("throttle.accounts", c.Throttle.Accounts, 1, 1_000_000)
		k.between("throttle.failures", c.Throttle.Failures, 1, 1_000_000)
		k.between("throttle.locks", c.Throttle.Locks, 1, 1_000_000)
		k.between("throttle.strangers_after", c.Throttle.StrangersAfter, 0, 1_000_000)
	} else if len(c.Throttle.KnownNetworks) > 0 {
		k.doubt("throttle.known_networks", "remove it, or set enabled: true", "`throttle.known_networks` has no effect while `throttle.enabled` is false: no source is refused")
	}
	k.checkTwice("throttle.known_networks", prefixes(c.Throttle.KnownNetworks))
	l := c.Limits
	k.between("limits.connections", l.Connections, 1, 10_000_000)
	k.between("limits.connections_per_source", l.ConnectionsPerSource, 1, 10_000_000)
	k.between("limits.failed_logins", l.FailedLogins, 1, 1_000)
	k.atLeast("limits.login_timeout", l.LoginTimeout, time.Second, time.Hour)
	k.atLeast("limits.login_total", l.LoginTotal, time.Second, 24*time.Hour)
	// RFC 9051 section 5.4: the inactivity timer of a logged-in session is at least 30
	// minutes.
	k.atLeast("limits.idle_timeout", l.IdleTimeout, 30*time.Minute, 0)
	k.atLeast("limits.patience", l.Patience, time.Second, 10*time.Minute)
	k.atLeast("drain_timeout", c.DrainTimeout, 0, time.Hour)
	if l.LoginTotal < l.LoginTimeout && !k.anyRefused("limits.login_total", "limits.login_timeout") {
		k.wrong("limits.login_total", "raise `login_total`, or lower `login_timeout`", "`limits.login_total` %s is shorter than `login_timeout` %s, one step of it", short(l.LoginTotal), short(l.LoginTimeout))
	}
	if l.ConnectionsPerSource > l.Connections && k.given("limits.connections_per_source") {
		k.doubt("limits.connections_per_source", "lower it", "`limits.connections_per_source` %d is more than `connections` %d allows altogether", l.ConnectionsPerSource, l.Connections)
	}
}

// between records a number out of range.
func (k *checker) between(path string, n, least, most int) {
	if (n < least || n > most) && !k.refused(path) {
		k.wrong(path, fmt.Sprintf("write a number from %d to %d", least, most), "`%s` is %d, out of range", path, n)
	}
}

// atLeast records a duration out of range; most 0 means no upper limit.
func (k *checker) atLeast(path string, d, least, most time.Duration) {
	if k.refused(path) || d >= least && (most == 0 || d <= most) {
		return
	}
	fix := "write " + short(least) + " or more"
	if most > 0 {
		fix = "write a duration from " + short(least) + " to " + short(most)
	}
	k.wrong(path, fix, "`%s` is %s, out of range", path, short(d))
}

// short formats 30m rather than 30m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
