package realtest

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// overIPv6 is a connection to a server that has an IPv6 address.
type overIPv6 struct{ net.Conn }

func (overIPv6) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::143]:143"))
}

// Clients that no test can come from, since it would need their addresses.
func TestTheServersLearnOfAnyClientFromAHeader(t *testing.T) {
	t.Parallel()
	d, p := Dovecot(t), Postfix(t)
	server := func(port int, mode upstream.TLSMode) *upstream.Server {
		s := &upstream.Server{Address: addr(port), TLS: mode, PassClient: upstream.PassPROXY, Spare: 4, Timeout: 20 * time.Second}
		if mode != upstream.Plain {
			s.TLSConfig = TheAuthority(t).TLS()
		}
		t.Cleanup(s.Close)
		return s
	}
	plain, startTLS, implicit := server(d.Proxied, upstream.Plain), server(d.Proxied, upstream.StartTLS), server(d.ProxiedS, upstream.Implicit)
	mixed := server(d.Proxied, upstream.Plain)
	mixed.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return overIPv6{conn}, err
	}
	for name, test := range map[string]struct {
		server *upstream.Server
		client string
		rip    string
	}{
		// Not from login_trusted_networks: without a word about the client's TLS
		// Dovecot would offer no login.
		"in clear text":     {plain, "192.0.2.7:40000", "192.0.2.7"},
		"STARTTLS":          {startTLS, "192.0.2.8:40000", "192.0.2.8"},
		"implicit":          {implicit, "192.0.2.9:40000", "192.0.2.9"},
		"without a port":    {implicit, "192.0.2.10:0", "192.0.2.10"},
		"IPv6":              {startTLS, "[2001:db8::7]:40000", "2001:db8::7"},
		"IPv6, in clear":    {plain, "[2001:db8::8]:40000", "2001:db8::8"},
		"IPv4 to IPv6":      {mixed, "192.0.2.13:40000", "::ffff:192.0.2.13"},
		"IPv4 as IPv6":      {implicit, "[::ffff:192.0.2.11]:40000", "192.0.2.11"},
		"IPv6 with a zone":  {implicit, "[fe80::7%eth0]:40000", "fe80::7"},
		"IPv6, no port":     {implicit, "[2001:db8::9]:0", "2001:db8::9"},
		"in clear, no port": {plain, "192.0.2.12:0", "192.0.2.12"},
	} {
		t.Run("Dovecot, "+name, func(t *testing.T) {
			t.Parallel()
			user := d.Account(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, answer := test.server.LoginIMAP(ctx, auth.Name(user), auth.NewSecret(Password),
				upstream.Client{Address: netip.MustParseAddrPort(test.client), TLS: tls.VersionTLS13})
			if conn == nil {
				t.Fatalf("%+v", answer)
			}
			conn.Logout()
			Eventually(t, "Dovecot to log the client's address", func() bool {
				return d.LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+test.rip+",")
			})
		})
	}
	for name, test := range map[string]struct {
		server *upstream.Server
		client string
		says   string
	}{
		"STARTTLS": {server(p.Proxied, upstream.StartTLS), "192.0.2.21:40000", "[192.0.2.21]"},
		"implicit": {server(p.ProxiedS, upstream.Implicit), "192.0.2.22:40000", "[192.0.2.22]"},
		"IPv6":     {server(p.ProxiedS, upstream.Implicit), "[2001:db8::21]:40000", "[2001:db8::21]"},
	} {
		t.Run("Postfix, "+name, func(t *testing.T) {
			t.Parallel()
			user := d.Account(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, answer := test.server.LoginSMTP(ctx, auth.Name(user), auth.NewSecret(Password),
				upstream.Client{Address: netip.MustParseAddrPort(test.client), TLS: tls.VersionTLS13})
			if conn == nil {
				t.Fatalf("%+v", answer)
			}
			conn.Logout()
			Eventually(t, "Postfix to log the client's address", func() bool {
				return p.LogHas("disconnect from", test.says, "auth=1")
			})
		})
	}
}

func TestAWebmailsUsersAreKnownFromAHeaderToo(t *testing.T) {
	t.Parallel()
	const webmail = "127.9.8.2"
	g := OwnCongthu(t, Setup{Proxy: "implicit", Extra: "trusted_forwarders: [" + webmail + "]\n"})
	user, owner := Dovecot(t).Account(t), FreshAddress()
	d := g.Door().DialIMAP(t, webmail)
	// No port: it knows none.
	if reply := d.Command("i", `ID ("name" "Roundcube" "x-originating-ip" "`+owner+`")`); !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	if reply := d.Command("a", "LOGIN "+quoted(user)+" "+quoted(Password)); !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	Eventually(t, "Dovecot to log the user's address", func() bool {
		return Dovecot(t).LogHas("imap-login: Info: Login: user=<"+user+">", "rip="+owner+",")
	})
}

func TestCheckTellsWhoExpectsAHeader(t *testing.T) {
	t.Parallel()
	d, p := Dovecot(t), Postfix(t)
	for name, test := range map[string]struct {
		setup      Setup
		code       int
		imap, smtp string
	}{
		"in order": {Setup{Proxy: "implicit"}, 0, `^ok +imap +\S+ answers`, `^ok +smtp +\S+ answers`},
		"no IPv6":  {Setup{Proxy: "starttls"}, 0, `^ok +imap +\S+ answers`, `^warning +smtp .*inet_protocols = all`},
		"not expected": {Setup{Proxy: "starttls", Dovecot: &DovecotServer{Proxied: d.IMAP}, Postfix: &PostfixServer{Proxied: p.Submission}}, 1,
			`^failed +imap .*Without a PROXY header it answers.*haproxy = yes.*pass_client: id$`,
			`^failed +smtp .*Without a PROXY header it answers.*smtpd_upstream_proxy_protocol.*pass_client: xclient$`},
		"not expected, implicit": {Setup{Proxy: "implicit", Dovecot: &DovecotServer{ProxiedS: d.IMAPS}, Postfix: &PostfixServer{ProxiedS: p.Submissions}}, 1,
			`^failed +imap .*Without a PROXY header it answers`, `^failed +smtp .*Without a PROXY header it answers`},
		"expected": {Setup{Dovecot: &DovecotServer{IMAP: d.Proxied}, Postfix: &PostfixServer{Submission: p.Proxied}}, 1,
			`^failed +imap .*With a PROXY header it answers.*imap.upstream.pass_client: proxy`,
			`^failed +smtp .*With a PROXY header it answers.*smtp.upstream.pass_client: proxy`},
		"nobody there": {Setup{Proxy: "starttls", Dovecot: &DovecotServer{Proxied: 1}, Postfix: &PostfixServer{Proxied: 1}}, 1,
			`^failed +imap .*no program listens at \S+ \(imap.upstream.address, .* firewall$`, `^failed +smtp .*no program listens at \S+ \(smtp.upstream.address, .* firewall$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Command(t, "", nil, Binary(t), "check", "-c", Configured(t, test.setup).Config)
			for _, want := range []string{test.imap, test.smtp} {
				if !regexp.MustCompile("(?m)" + want).MatchString(o.Stdout) {
					t.Errorf("want a line like %s:\n%s", want, o.All())
				}
			}
			if o.Code != test.code {
				t.Errorf("exit code %d, want %d:\n%s", o.Code, test.code, o.All())
			}
		})
	}
}
