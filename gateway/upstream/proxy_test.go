package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// proxied is a fake of either protocol that wants a PROXY header, and its client.
type proxied struct {
	*Server
	headers  func() []*proxyproto.Header
	verdicts func(string) mailtest.Verdicts
	probe    func() error
	login    func(Client) (conn net.Conn, answer auth.Answer)
	spares   func() int
}

// withProxied runs f for both protocols and all ways to protect them.
func withProxied(t *testing.T, f func(t *testing.T, p *proxied)) {
	for way, mode := range map[string]TLSMode{"clear": Plain, "STARTTLS": StartTLS, "implicit": Implicit} {
		server := func(start func() (string, error), end func() error) *Server {
			t.Cleanup(func() { end() })
			address, err := start()
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{Address: address, TLS: mode, Timeout: time.Minute, PassClient: PassPROXY, Spare: 4}
			if mode != Plain {
				s.TLSConfig = mailtest.ClientTLS()
			}
			t.Cleanup(s.Close)
			return s
		}
		t.Run("IMAP, "+way, func(t *testing.T) {
			fake := &mailtest.IMAP{Accounts: accounts(), Proxied: true, Implicit: mode == Implicit}
			if mode != Plain {
				fake.TLS = mailtest.ServerTLS()
			}
			s := server(fake.Start, fake.Close)
			f(t, &proxied{s, fake.Headers, fake.Verdicts,
				func() error { _, err := s.ProbeIMAP(t.Context()); return err },
				func(c Client) (net.Conn, auth.Answer) {
					conn, answer := s.LoginIMAP(t.Context(), owner, auth.NewSecret(password), c)
					if conn == nil {
						return nil, answer
					}
					return conn.Conn, answer
				},
				func() int {
					s.imapSpares.mu.Lock()
					defer s.imapSpares.mu.Unlock()
					return s.imapSpares.making + len(s.imapSpares.ready)
				}})
			if ids := fake.IDs(); len(ids) != 0 {
				t.Errorf("the client is told twice, the server heard %q", ids)
			}
		})
		t.Run("SMTP, "+way, func(t *testing.T) {
			fake := &mailtest.SMTP{Accounts: accounts(), Proxied: true, XClient: true, Implicit: mode == Implicit}
			if mode != Plain {
				fake.TLS = mailtest.ServerTLS()
			}
			s := server(fake.Start, fake.Close)
			f(t, &proxied{s, fake.Headers, fake.Verdicts,
				func() error { _, err := s.ProbeSMTP(t.Context()); return err },
				func(c Client) (net.Conn, auth.Answer) {
					conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), c)
					if conn == nil {
						return nil, answer
					}
					return conn.Conn, answer
				},
				func() int {
					s.smtpSpares.mu.Lock()
					defer s.smtpSpares.mu.Unlock()
					return s.smtpSpares.making + len(s.smtpSpares.ready)
				}})
			if told := fake.Clients(); len(told) != 0 {
				t.Errorf("the client is told twice, the server heard %q", told)
			}
		})
	}
}

func TestTheServerLearnsTheClientBeforeAnythingElse(t *testing.T) {
	withProxied(t, func(t *testing.T, p *proxied) {
		conn, answer := p.login(Client{Address: netip.MustParseAddrPort("192.0.2.7:40000"), Session: "S1"})
		if conn == nil {
			t.Fatalf("%+v", answer)
		}
		conn.Close()
		headers := p.headers()
		if len(headers) != 1 {
			t.Fatalf("%d headers", len(headers))
		}
		h := headers[0]
		if h.Version != 2 || h.Command != proxyproto.PROXY || h.SourceAddr.String() != "192.0.2.7:40000" || h.DestinationAddr.String() != p.Address {
			t.Errorf("the header is %+v, the server %s", h, p.Address)
		}
	})
}

func TestAProbeSpeaksForNobody(t *testing.T) {
	withProxied(t, func(t *testing.T, p *proxied) {
		if err := p.probe(); err != nil {
			t.Fatal(err)
		}
		conn, answer := p.login(Client{}) // as congthu check does
		if conn == nil {
			t.Fatalf("%+v", answer)
		}
		conn.Close()
		headers := p.headers()
		if len(headers) != 2 {
			t.Fatalf("%d headers", len(headers))
		}
		for _, h := range headers {
			if h.Version != 2 || h.Command != proxyproto.LOCAL || h.TransportProtocol != proxyproto.UNSPEC {
				t.Errorf("the header is %+v", h)
			}
		}
	})
}

func TestAConnectionWithAHeaderIsNeverASpare(t *testing.T) {
	withProxied(t, func(t *testing.T, p *proxied) {
		for _, from := range []string{"192.0.2.1:1001", "192.0.2.2:1002"} {
			conn, answer := p.login(Client{Address: netip.MustParseAddrPort(from)})
			if conn == nil {
				t.Fatalf("%+v", answer)
			}
			conn.Close()
			if n := p.spares(); n != 0 {
				t.Errorf("%d connections are ready, or are being made, for nobody knows whom", n)
			}
			headers := p.headers()
			if got := headers[len(headers)-1].SourceAddr.String(); got != from {
				t.Errorf("the login from %s came from %s", from, got)
			}
		}
	})
}

func TestAServerThatWantsAHeaderAndGetsNoneJudgesNobody(t *testing.T) {
	withProxied(t, func(t *testing.T, p *proxied) {
		p.PassClient = PassNone
		if conn, answer := p.login(Client{Address: netip.MustParseAddrPort("192.0.2.7:40000")}); conn != nil || answer.Judgement != auth.Unreached {
			t.Errorf("%v %+v", conn, answer)
		}
		if v := p.verdicts(string(owner)); v != (mailtest.Verdicts{}) {
			t.Errorf("%+v", v)
		}
	})
}

func TestWhoIsIntroduced(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.7:40000 to 192.0.2.143:143":            "TCPv4 192.0.2.7:40000 192.0.2.143:143",
		"[2001:db8::7]:40000 to [2001:db8::143]:143":    "TCPv6 [2001:db8::7]:40000 [2001:db8::143]:143",
		"[::ffff:192.0.2.7]:40000 to 192.0.2.143:143":   "TCPv4 192.0.2.7:40000 192.0.2.143:143",
		"[fe80::7%eth0]:40000 to [fe80::143%eth1]:143":  "TCPv6 [fe80::7]:40000 [fe80::143]:143",
		"[2001:db8::7]:40000 to 192.0.2.143:143":        "TCPv6 [2001:db8::7]:40000 192.0.2.143:143",
		"192.0.2.7:40000 to [2001:db8::143]:143":        "TCPv6 192.0.2.7:40000 [2001:db8::143]:143",
		"192.0.2.7:0 to 192.0.2.143:143":                "TCPv4 192.0.2.7:0 192.0.2.143:143", // a webmail knew no port
		"[::ffff:192.0.2.7]:0 to [::ffff:192.0.2.8]:14": "TCPv4 192.0.2.7:0 192.0.2.8:14",
	} {
		from, to, _ := strings.Cut(client, " to ")
		h, err := proxyHeader(Client{Address: netip.MustParseAddrPort(from), TLS: tls.VersionTLS13}, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(to)))
		if err != nil {
			t.Errorf("%s: %v", client, err)
			continue
		}
		octets, err := h.Format()
		if err != nil {
			t.Errorf("%s: %v", client, err)
			continue
		}
		family := map[byte]string{0x11: "TCPv4", 0x21: "TCPv6"}[octets[13]]
		read, err := proxyproto.Read(readerOf(octets))
		if err != nil {
			t.Errorf("%s: %v", client, err)
			continue
		}
		if got := family + " " + read.SourceAddr.String() + " " + read.DestinationAddr.String(); got != want || octets[12] != 0x21 {
			t.Errorf("%s: %s, want %s", client, got, want)
		}
		tlvs, err := read.TLVs()
		if err != nil {
			t.Fatal(err)
		}
		ssl, ok := tlvparse.FindSSL(tlvs)
		if version, _ := ssl.SSLVersion(); version != "TLSv1.3" {
			t.Errorf("%s: the client's TLS is %q", client, version)
		}
		if !ok || !ssl.ClientSSL() || ssl.Verified() || ssl.ClientCertConn() {
			t.Errorf("%s: of the client's TLS the header says %+v", client, ssl)
		}
	}
	h, err := proxyHeader(Client{Address: netip.MustParseAddrPort("192.0.2.7:1")}, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.8:143")))
	if err != nil {
		t.Fatal(err)
	}
	if tlvs, err := h.TLVs(); err != nil || len(tlvs) != 0 {
		t.Errorf("nobody has told of TLS, the header does: %v %v", tlvs, err)
	}
	if _, err := proxyHeader(Client{Address: netip.MustParseAddrPort("192.0.2.7:1")}, &net.UnixAddr{Name: "/run/imap", Net: "unix"}); err == nil {
		t.Error("a Unix socket has an address")
	}
}

// What a server takes for rubbish must not have the password behind it.
func TestAServerThatDoesNotKnowTheHeaderIsNotTheOneToShowThePassword(t *testing.T) {
	from := Client{Address: netip.MustParseAddrPort("192.0.2.7:40000")}
	imap := &mailtest.IMAP{Accounts: accounts()}
	smtp := &mailtest.SMTP{Accounts: accounts()}
	server := func(start func() (string, error), end func() error) *Server {
		t.Cleanup(func() { end() })
		address, err := start()
		if err != nil {
			t.Fatal(err)
		}
		return &Server{Address: address, Timeout: 10 * time.Second, PassClient: PassPROXY}
	}
	conn, answer := server(imap.Start, imap.Close).LoginIMAP(t.Context(), owner, auth.NewSecret(password), from)
	if conn != nil || answer.Judgement != auth.Unreached || !strings.Contains(answer.Err.Error(), "after the PROXY header") {
		t.Errorf("IMAP: %+v", answer)
	}
	if raw := imap.Raw(); bytes.Contains(raw, []byte("AUTHENTICATE")) || !bytes.Contains(raw, []byte("QUIT\n")) {
		t.Errorf("the server was told %q", raw)
	}
	// Others answer to it as to no command, and then wait for the rest of one.
	waiting := &mailtest.IMAP{
		Accounts: accounts(), Greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n* BAD Invalid tag",
		Misbehave: func(step mailtest.Step) (m mailtest.Misdeed) { m.Hang = step != "greeting"; return m },
	}
	conn, answer = server(waiting.Start, waiting.Close).LoginIMAP(t.Context(), owner, auth.NewSecret(password), from)
	if conn != nil || answer.Judgement != auth.Unreached || !strings.Contains(answer.Err.Error(), "does not understand") {
		t.Errorf("IMAP, waiting: %+v", answer)
	}
	if conn, answer := server(smtp.Start, smtp.Close).LoginSMTP(t.Context(), owner, auth.NewSecret(password), from); conn != nil ||
		answer.Judgement != auth.Unreached || !strings.Contains(answer.Err.Error(), "after the PROXY header") {
		t.Errorf("SMTP: %+v", answer)
	}
	if lines := strings.Join(smtp.Lines(), "\n"); strings.Contains(lines, "AUTH") {
		t.Errorf("the server was told %q", lines)
	}
}

func readerOf(octets []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(octets)) }
