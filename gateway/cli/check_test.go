package cli

import (
	"bytes"
	"strings"
	"testing"

	"congthu/gateway/config"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// A mail server that sees one address for everybody has limits that somebody
// must know of before the users meet them.
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
		// Whether it believes what ID says is not seen before a login.
		{"passed on to Dovecot, believed or not", append([]string{"LOGIN-REFERRALS"}, withID...), true, true, false, [2]string{"whether it believes them cannot be seen from here"}},
		{"passed on to Dovecot in a header", append([]string{"LOGIN-REFERRALS"}, withID...), false, true, true, [2]string{"knows the clients' addresses from the PROXY header"}},
	} {
		imap, smtp := &mailtest.IMAP{Caps: test.imap, Proxied: test.head}, &mailtest.SMTP{XClient: test.smtp, Proxied: test.head}
		t.Cleanup(func() { imap.Close(); smtp.Close() })
		c := &config.Config{IMAP: config.IMAP{Listen: listen}, SMTP: config.SMTP{Listen: listen}}
		for _, s := range []struct {
			start func() (string, error)
			to    *config.Upstream
			pass  config.PassClient
		}{{imap.Start, &c.IMAP.Upstream, config.PassID}, {smtp.Start, &c.SMTP.Upstream, config.PassXCLIENT}} {
			address, err := s.start()
			if err != nil {
				t.Fatal(err)
			}
			s.to.Address, s.to.PassClient = address, config.PassNone
			if test.pass {
				s.to.PassClient = s.pass
			}
			if test.head {
				s.to.PassClient = config.PassPROXY
			}
		}
		for i, look := range []func(*check){
			func(k *check) { k.imap(t.Context()) },
			func(k *check) { k.smtp(t.Context()) },
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
