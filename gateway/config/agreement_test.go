package config

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

// ownToEach are the settings that each gateway on a store may have of its own, by
// their paths or the beginning of them.
var ownToEach = []string{
	"profile", // the figures that it stands for are compared
	"hostname", "data_dir", "tls.", "imap.listen", "smtp.listen", "pop3.listen", "smtp.normalise_newlines", "smtp.max_recipients",
	"proxy_protocol.", "trusted_forwarders", "limits.", "admin.", "metrics.", "texts", "log.", "drain_timeout",
	"rules.dormancy.sweep_at", "rules.password.change_url", "rules.password.change_text",
	"store.driver", "store.path", "store.pepper_file", "store.grace",
	"store.postgres.dsn", "store.postgres.dsn_file", "store.postgres.max_connections", "store.postgres.connect_timeout",
	"store.postgres.statement_timeout", "store.postgres.lock_timeout", "store.postgres.poll",
}

// ownUpstream are likewise those of a mail server.
var ownUpstream = []string{"address", "tls", "ca_file", "server_name", "pin_sha256", "pass_client", "timeout", "spare_connections"}

// A new setting must be in one list or the other: in Agreement when gateways that
// have different values of it would treat one account differently.
func TestEverySettingIsAgreedOnOrOwnToEachGateway(t *testing.T) {
	own := slices.Clone(ownToEach)
	for _, u := range ownUpstream {
		own = append(own, "imap.upstream."+u, "smtp.upstream."+u, "pop3.upstream."+u)
	}
	all := builtIn()
	all.POP3.Listen = all.IMAP.Listen // it is off by default
	agreed := all.Agreement()
	settings := paths(reflect.TypeFor[Config](), "")
	for _, path := range settings {
		_, shared := agreed[path]
		apart := slices.ContainsFunc(own, func(o string) bool {
			return path == o || strings.HasSuffix(o, ".") && strings.HasPrefix(path, o) || strings.HasPrefix(path, o+".")
		})
		if shared == apart {
			t.Errorf("%s: agreed on: %v, own to each gateway: %v. Add it to Config.Agreement or to ownToEach in this test", path, shared, apart)
		}
	}
	for name := range agreed {
		if !slices.Contains(settings, name) {
			t.Errorf("%s is agreed on, and is no setting", name)
		}
	}
}

// paths are the settings below a type.
func paths(of reflect.Type, under string) (all []string) {
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		if f.Type.Kind() == reflect.Struct && f.Type.NumField() > 0 && f.Type.Field(0).Tag.Get("yaml") != "" {
			all = append(all, paths(f.Type, under+name+".")...)
		} else {
			all = append(all, under+name)
		}
	}
	return all
}

func TestEachSettingThatIsAgreedOnMakesADifference(t *testing.T) {
	base := builtIn().Agreement()
	for name, change := range map[string]func(*Config){
		"domain":                                func(c *Config) { c.Domain = "x.test" },
		"domains":                               func(c *Config) { c.Domains = []string{"x.test"} },
		"aliases":                               func(c *Config) { c.Aliases = map[auth.Name]auth.Name{"a@x": "b@x"} },
		"delegations":                           func(c *Config) { c.Delegations = map[auth.Name][]auth.Name{"a@x": {"b@x"}} },
		"names.subaddress":                      func(c *Config) { c.Names.Subaddress = FoldSubaddress },
		"names.master_separators":               func(c *Config) { c.Names.MasterSeparators = "" },
		"names.unicode":                         func(c *Config) { c.Names.Unicode = true },
		"rules.time_zone":                       func(c *Config) { c.Regulation.TimeZone = time.UTC },
		"rules.lockout.mode":                    func(c *Config) { c.Regulation.Lockout.Mode = auth.Warn },
		"rules.lockout.tolerated":               func(c *Config) { c.Regulation.Lockout.Tolerated = 50 },
		"rules.lockout.forget_after":            func(c *Config) { c.Regulation.Lockout.ForgetAfter++ },
		"rules.lockout.unlock_after":            func(c *Config) { c.Regulation.Lockout.UnlockAfter++ },
		"rules.lockout.count_previous_password": func(c *Config) { c.Regulation.Lockout.CountPreviousPassword = true },
		"rules.lockout.count_repeats":           func(c *Config) { c.Regulation.Lockout.CountRepeats = auth.NeverCountRepeats },
		"rules.dormancy.mode":                   func(c *Config) { c.Regulation.Dormancy.Mode = auth.Off },
		"rules.dormancy.months":                 func(c *Config) { c.Regulation.Dormancy.Months++ },
		"rules.dormancy.doors_complete":         func(c *Config) { c.Regulation.Dormancy.DoorsComplete = true },
		"rules.password.mode":                   func(c *Config) { c.Regulation.Password.Mode = auth.Off },
		"rules.password.months":                 func(c *Config) { c.Regulation.Password.Months++ },
		"rules.password.warn_days":              func(c *Config) { c.Regulation.Password.WarnDays++ },
		"rules.password.max_grace_days":         func(c *Config) { c.Regulation.Password.MaxGraceDays++ },
		"rules.sender.mode":                     func(c *Config) { c.Regulation.Sender.Mode = auth.Off },
		"throttle.enabled":                      func(c *Config) { c.Throttle.Enabled = false },
		"throttle.window":                       func(c *Config) { c.Throttle.Window++ },
		"throttle.accounts":                     func(c *Config) { c.Throttle.Accounts++ },
		"throttle.failures":                     func(c *Config) { c.Throttle.Failures++ },
		"throttle.locks":                        func(c *Config) { c.Throttle.Locks++ },
		"throttle.strangers_after":              func(c *Config) { c.Throttle.StrangersAfter++ },
		"throttle.known_networks": func(c *Config) {
			c.Throttle.KnownNetworks = append(c.Throttle.KnownNetworks, KnownNetwork(netip.MustParsePrefix("203.0.113.0/24")))
		},
		"store.postgres.lease":       func(c *Config) { c.Store.Postgres.Lease++ },
		"store.last_login_window":    func(c *Config) { c.Store.LastLoginWindow++ },
		"store.max_unknown_names":    func(c *Config) { c.Store.MaxUnknownNames++ },
		"store.forget_unknown_after": func(c *Config) { c.Store.ForgetUnknownAfter++ },
		"audit.keep_days":            func(c *Config) { c.Audit.KeepDays++ },
		"imap.upstream.login_name":   func(c *Config) { c.IMAP.Upstream.LoginName = LoginLocal },
		"smtp.upstream.login_name":   func(c *Config) { c.SMTP.Upstream.LoginName = LoginLocal },
	} {
		c := builtIn()
		change(c)
		if d := c.Agreement().Differences(base); len(d) != 1 || d[0].Setting != name {
			t.Errorf("another %s: differences %v", name, d)
		}
	}
	c := builtIn()
	c.SMTP.Listen = nil
	for name := range maps.Keys(c.Agreement()) {
		if strings.HasPrefix(name, "smtp.") {
			t.Errorf("%s is agreed on by a gateway that does not serve SMTP", name)
		}
	}
	// Their order makes no difference.
	one, other := builtIn(), builtIn()
	one.Domains, other.Domains = []string{"a.test", "b.test"}, []string{"b.test", "a.test"}
	if d := one.Agreement().Differences(other.Agreement()); len(d) > 0 {
		t.Errorf("domains in another order: %v", d)
	}
}

// One file with these two is refused: see checkLoginNames. So are two files.
func TestGatewaysOfOneProtocolEachAgreeOnWhatTheMailServerIsAsked(t *testing.T) {
	for _, domains := range [][]string{nil, {"b.test"}} {
		reader, sender := builtIn(), builtIn()
		for _, c := range []*Config{reader, sender} {
			c.Domain, c.Domains = "a.test", domains
		}
		reader.SMTP.Listen, reader.IMAP.Upstream.LoginName = nil, LoginLocal
		sender.IMAP.Listen, sender.SMTP.Upstream.LoginName = nil, LoginAddress
		differences := sender.Agreement().Differences(reader.Agreement())
		if differ := len(differences) > 0; differ != (len(domains) > 0) {
			t.Errorf("domains %v: %v", domains, differences)
		}
		sender.SMTP.Upstream.LoginName = LoginLocal
		if differences := sender.Agreement().Differences(reader.Agreement()); len(differences) > 0 {
			t.Errorf("domains %v, alike: %v", domains, differences)
		}
	}
}
