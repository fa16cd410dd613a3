package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/upstream"
)

// check waits this long for a greeting before it tests whether the server waits for
// TLS. Together with silentHandshake that is 5 s; imap.upstream.timeout is 30 s.
const (
	silence         = 3 * time.Second
	silentHandshake = 2 * time.Second
)

// errSilentTLS reports a server that waits for a TLS handshake although a greeting is
// expected.
var errSilentTLS = sentence("the server does not greet: it waits for TLS")

// probe is one of the probes of a server. It keeps what it finds.
type probe func(ctx context.Context, server *upstream.Server) error

// ask probes a server. If the probe takes long, ask tests whether the server waits for
// TLS; nothing else shows that, since both sides then wait for each other. It uses one
// connection at a time, because some servers accept no more.
func (k *check) ask(ctx context.Context, server *upstream.Server, probe probe) error {
	if server.TLS == upstream.Implicit {
		return probe(ctx, server)
	}
	deadline := time.Now().Add(cmp.Or(k.silence, silence))
	soon, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	// The connection can notice the deadline before the context does.
	if err := probe(soon, server); err == nil || soon.Err() == nil && time.Now().Before(deadline) {
		return err
	}
	if speaksTLS(ctx, server, probe) {
		return errSilentTLS
	}
	return probe(ctx, server) // the server is only slow
}

// speaksTLS reports whether the server answers a TLS handshake as the first bytes of a
// connection. Its certificate does not matter: nothing else is sent if it cannot be
// verified.
func speaksTLS(ctx context.Context, server *upstream.Server, probe probe) bool {
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		return false
	}
	err = probe(ctx, &upstream.Server{
		Address: server.Address, TLS: upstream.Implicit, PassClient: server.PassClient, Timeout: silentHandshake, Dial: server.Dial,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host},
	})
	var unverified *tls.CertificateVerificationError
	var alert tls.AlertError
	return err == nil || errors.As(err, &unverified) || errors.As(err, &alert)
}

// advice says what to do about a server that cannot be used: which field of its group
// is wrong, what the error means, and the fix. All empty: the error needs no
// explanation.
type advice struct{ field, means, fix string }

// advise recognizes the usual mistakes.
func advise(err error, p auth.Protocol, u config.Upstream) advice {
	tlsPort, plainPort := protocolChecks[p].tlsPort, protocolChecks[p].plainPort
	var (
		clear      tls.RecordHeaderError
		stranger   x509.UnknownAuthorityError
		other      x509.HostnameError
		invalid    x509.CertificateInvalidError
		unresolved *net.DNSError
		network    *net.OpError
	)
	switch {
	case errors.Is(err, errSilentTLS):
		return advice{"tls", trf("this port begins with TLS, and tls is %s", u.TLS),
			trf("write tls: implicit, or in address the server's port that begins in clear text (usually %s)", plainPort)}
	case errors.As(err, &clear) && u.TLS == upstream.Implicit:
		return advice{"tls", "this port begins in clear text, and tls is implicit",
			trf("write tls: starttls, or in address the server's port that begins with TLS (usually %s)", tlsPort)}
	case errors.Is(err, upstream.ErrWantsTLS):
		return advice{"tls", "tls is none", "write tls: starttls"}
	case errors.Is(err, upstream.ErrNoStartTLS):
		fix := trf("switch TLS on in the mail server, or write tls: implicit and its port that begins with TLS (usually %s)", tlsPort)
		if host, _, err := net.SplitHostPort(u.Address); err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback()) {
			fix = trf("%s; on this machine tls: none is safe too", fix)
		}
		return advice{"tls", "tls is starttls", fix}
	case errors.As(err, &stranger):
		issuer := ""
		if stranger.Cert != nil {
			issuer = stranger.Cert.Issuer.String()
		}
		if u.CAFile != "" {
			return advice{"ca_file", trf("%s does not have the authority that signed the server's certificate (%q)", u.CAFile, issuer),
				"add the certificate of that authority (PEM) to the file, or have the mail server send its whole chain"}
		}
		return advice{"ca_file", trf("this machine does not know the authority that signed the server's certificate (%q)", issuer),
			"write ca_file: FILE, with the certificate of that authority as PEM, which those who run the mail server have; for a self-signed certificate that certificate itself"}
	case errors.As(err, &other):
		names := other.Certificate.DNSNames
		for _, ip := range other.Certificate.IPAddresses {
			names = append(names[:len(names):len(names)], ip.String())
		}
		if len(names) == 0 {
			return advice{"server_name", "the server's certificate has no names (subjectAltName)", "have a certificate issued for the mail server that has its name"}
		}
		return advice{"server_name", trf("the server's certificate is for %s, not for %q", strings.Join(names[:min(len(names), 5)], ", "), other.Host),
			trf("if it is the right server write server_name: %s, otherwise correct address", names[0])}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return advice{"address", "the server's certificate has run out or is not valid yet", "renew it at the mail server, and see whether the clock of this machine is right"}
	case errors.Is(err, config.ErrNotPinned):
		return advice{"pin_sha256", "", "if the mail server was given another key, pin that one; if it was not, somebody is between"}
	case errors.As(err, &unresolved):
		return advice{"address", "the name of the server cannot be looked up", "correct the name, or the DNS of this machine"}
	case errors.As(err, &network) && network.Op == "dial":
		return advice{"address", "", "start the mail server, correct the address, or open the way to it in the firewall"}
	}
	return advice{}
}

// unusable prints why a server cannot be used, the setting concerned, its place in the
// file, and the fix.
func (k *check) unusable(ctx context.Context, p auth.Protocol, u config.Upstream, server *upstream.Server, why error, probe probe) {
	if k.away == nil {
		k.away = make(map[auth.Protocol]bool)
	}
	k.away[p] = true
	found := fmt.Sprintf("%s: %s", server.Address, plainly(why.Error()))
	a := advise(why, p, u)
	if a.means != "" {
		found += ": " + tr(a.means)
	}
	setting := strings.TrimSuffix(p.String()+".upstream."+a.field, ".")
	found += fmt.Sprintf(" (%s, %s)", setting, k.config.Where(setting))
	// A server that does not know the header may answer with a complaint in clear text.
	var clear tls.RecordHeaderError
	if header := server.PassClient == upstream.PassPROXY && errors.As(why, &clear); a.fix != "" && !header {
		found += trf(". Fix: %s", tr(a.fix))
	} else {
		found += k.header(ctx, p, server, why, probe)
	}
	k.say("failed", p.String(), found)
}
