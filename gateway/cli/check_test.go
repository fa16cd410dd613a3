package cli

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// A mail server that sees one address for all users applies its limits per address to
// all of them together. The administrator must know this before the users notice.
func TestCheckWarnsOfAMailServerThatSeesOneAddressForEverybody(t *testing.T) {
	listen := []config.Listener{{Address: "127.0.0.1:0", TLS: upstream.Implicit}}
	withID := []string{"IMAP4rev1", "AUTH=PLAIN", "ID"}
	for _, test := range []struct {
		name string
		imap []string // what the mail server offers
		smtp bool     // it offers XCLIENT
		pass bool     // the configuration wants the address to be passed on,
		head bool     // and that in a PROXY header
		want [2]string
	}{
		{"not asked for", withID, true, false, false, [2]string{"login_trusted_networks", "smtpd_authorized_xclient_hosts"}},
		{"not offered", withID[:2], false, true, false, [2]string{"does not offer ID", "does not offer XCLIENT"}},
		{"passed on", withID, true, true, false, [2]string{}},
		{"passed on in a header", withID[:2], false, true, true, [2]string{}},
		{"passed on to Dovecot", append([]string{"LOGIN-REFERRALS"}, withID...), true, true, false, [2]string{"anvil-auth-penalty"}},
		// Only a login shows whether the server believes the address in ID.
		{"passed on to Dovecot, believed or not", append([]string{"LOGIN-REFERRALS"}, withID...), true, true, false, [2]string{"whether it believes them cannot be seen from here"}},
		{"passed on to Dovecot in a header", append([]string{"LOGIN-REFERRALS"}, withID...), false, true, true, [2]string{"knows the clients' addresses from the PROXY header"}},
	} {
		imap, smtp := &mailtest.IMAP{Caps: test.imap, Proxied: test.head}, &mailtest.SMTP{XClient: test.smtp, Proxied: test.head}
		t.Cleanup(func() { imap.Close(); smtp.Close() })
		c := &config.Config{IMAP: config.IMAP{Listen: listen}, SMTP: config.SMTP{Listen: listen}}
		for _, s := range []struct {
			start func() (string, error)
			to    *config.Upstream
			pass  upstream.PassClient
		}{{imap.Start, &c.IMAP.Upstream, upstream.PassID}, {smtp.Start, &c.SMTP.Upstream, upstream.PassXCLIENT}} {
			address, err := s.start()
			if err != nil {
				t.Fatal(err)
			}
			s.to.Address, s.to.PassClient = address, upstream.PassNone
			if test.pass {
				s.to.PassClient = s.pass
			}
			if test.head {
				s.to.PassClient = upstream.PassPROXY
			}
		}
		for i, look := range []func(*check){
			func(k *check) { k.mailServer(t.Context(), auth.IMAP) },
			func(k *check) { k.mailServer(t.Context(), auth.SMTP) },
		} {
			var out bytes.Buffer
			k := &check{out: &out, config: c}
			look(k)
			_, warning, warned := strings.Cut(out.String(), "warning ")
			if k.failed || warned != (test.want[i] != "") || !strings.Contains(warning, test.want[i]) {
				t.Errorf("%s: %s", test.name, out.String())
			}
		}
	}
}

func TestCheckNamesTheKnownNetworks(t *testing.T) {
	rules := func(mode auth.Mode) config.Regulation {
		return config.Regulation{Lockout: config.Lockout{Mode: mode, Tolerated: 5}}
	}
	for _, c := range []struct {
		throttle config.Throttle
		want     string
	}{
		{config.Throttle{Enabled: true}, ""},
		{config.Throttle{KnownNetworks: office}, ""},
		{config.Throttle{Enabled: true, KnownNetworks: office}, "ok       known networks 203.0.113.0/24, 2001:db8:1::/48: an account that was not logged in to from there may have 4 wrong passwords before a source there needs room for it, elsewhere 2; what locks it, and how many accounts a source can lock, is the same\n"},
	} {
		var out bytes.Buffer
		k := &check{out: &out, config: &config.Config{Throttle: c.throttle, Regulation: rules(auth.Enforce)}}
		k.knownNetworks()
		if out.String() != c.want || k.failed {
			t.Errorf("%q, want %q", out.String(), c.want)
		}
		k.config.Regulation = rules(auth.Warn)
		out.Reset()
		k.knownNetworks()
		if more := "; while rules.lockout does not lock, a source has 10 times the room\n"; strings.HasSuffix(out.String(), more) != (c.want != "") {
			t.Errorf("%q, want it to end with %q", out.String(), more)
		}
	}
}

var office = []config.KnownNetwork{
	config.KnownNetwork(netip.MustParsePrefix("203.0.113.0/24")), config.KnownNetwork(netip.MustParsePrefix("2001:db8:1::/48")),
}
