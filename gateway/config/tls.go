package config

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"congthu/gateway/upstream"
)

// Certificate is the certificate of a listener. It can be replaced while the listener
// runs: new connections get the new one.
type Certificate struct {
	held atomic.Pointer[tls.Certificate]
}

// Replace makes new connections use the certificate of next.
func (c *Certificate) Replace(next *Certificate) { c.held.Store(next.held.Load()) }

// NotAfter returns the expiry of the certificate.
func (c *Certificate) NotAfter() time.Time { return c.held.Load().Leaf.NotAfter }

// Valid returns the reason why clients refuse the certificate at an instant: it has
// expired or is not valid yet. Nil: its dates are valid.
func (c *Certificate) Valid(at time.Time) error {
	switch leaf := c.held.Load().Leaf; {
	case at.Before(leaf.NotBefore):
		return fmt.Errorf("is not valid before %s: mail programs warn of it or refuse to connect", instant(leaf.NotBefore))
	case !at.Before(leaf.NotAfter):
		return fmt.Errorf("ran out on %s: mail programs warn of it or refuse to connect", instant(leaf.NotAfter))
	}
	return nil
}

// TLSConfig returns a configuration for listeners that uses the certificate that c
// holds at the time of each handshake: TLS 1.2 or later (RFC 8997 section 3), Go's own
// defaults otherwise. The protocol sets NextProtos.
func (c *Certificate) TLSConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.held.Load(), nil
		},
	}
}

// Certificate returns the certificate of the mail listeners, as read with the
// configuration.
func (c *Config) Certificate() *Certificate { return c.mail }

// TLSConfig returns a TLS configuration for the mail listeners:
// Certificate().TLSConfig().
func (c *Config) TLSConfig() *tls.Config { return c.mail.TLSConfig() }

// AdminCertificate returns the certificate of the admin listener, or nil for plain
// HTTP.
func (c *Config) AdminCertificate() *Certificate { return c.admin }

// expiresSoon is the time before expiry at which warnings begin.
const expiresSoon = 21 * 24 * time.Hour

// checkKeyPair reads a certificate and its key. It returns nil if there is none or it
// is invalid.
func (k *checker) checkKeyPair(path string, pair KeyPair, required bool) *Certificate {
	if pair.IsZero() && !required || k.anyRefused(path, path+".certificate", path+".key") {
		return nil
	}
	if pair.IsZero() {
		k.wrong(path, "add the line tls: { certificate: cert.pem, key: key.pem }", "`%s` is missing: mail clients must be able to encrypt", path)
		return nil
	}
	missing := false
	for _, f := range []struct{ field, file string }{{"certificate", pair.Certificate}, {"key", pair.Key}} {
		if f.file == "" {
			missing = true
			k.wrong(path+"."+f.field, "name a PEM file: "+path+": { certificate: cert.pem, key: key.pem }", "`%s.%s` is missing", path, f.field)
		}
	}
	if missing {
		return nil
	}
	cert, errCert := readFile(pair.Certificate)
	if errCert != nil {
		k.wrong(path+".certificate", fileFix(errCert), "`%s.certificate`: %v", path, errCert)
	}
	key, errKey := readFile(pair.Key)
	if errKey != nil {
		k.wrong(path+".key", fileFix(errKey), "`%s.key`: %v", path, errKey)
	}
	if errCert != nil || errKey != nil {
		return nil
	}
	if info, err := os.Stat(pair.Key); err == nil && info.Mode()&0o007 != 0 {
		k.doubt(path+".key", "chmod o-rwx "+pair.Key, "`%s.key`: everybody on this machine may use %s", path, pair.Key)
	}
	if !bytes.Contains(cert, []byte("-----BEGIN CERTIFICATE-----")) {
		k.wrong(path+".certificate", "name the PEM file that begins with -----BEGIN CERTIFICATE-----", "`%s.certificate`: there is no certificate in %s", path, pair.Certificate)
		return nil
	}
	if !hasPrivateKey(key) {
		k.wrong(path+".key", "name the PEM file that begins with -----BEGIN PRIVATE KEY-----, without a passphrase", "`%s.key`: there is no private key in %s", path, pair.Key)
		return nil
	}
	loaded, err := tls.X509KeyPair(cert, key)
	if err != nil {
		k.wrong(path+".certificate", "name the key that the certificate was made for; the server's own certificate comes first in the file", "`%s`: %s and %s do not go together: %s", path, pair.Certificate, pair.Key, strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	held := new(Certificate)
	held.held.Store(&loaded)
	// Invalid dates do not stop the gateway: some mail programs accept such a
	// certificate, but none works without a gateway.
	left := loaded.Leaf.NotAfter.Sub(k.now)
	switch err := held.Valid(k.now); {
	case err != nil && left > 0:
		k.doubt(path+".certificate", "check the clock of this machine, or wait", "`%s.certificate`: %s %v", path, pair.Certificate, err)
	case err != nil:
		k.doubt(path+".certificate", "renew it; the gateway reads it by itself", "`%s.certificate`: %s %v", path, pair.Certificate, err)
	case left < expiresSoon:
		k.doubt(path+".certificate", "renew it; the gateway reads it by itself", "`%s.certificate`: %s runs out in %s, on %s", path, pair.Certificate, daysIn(left), instant(loaded.Leaf.NotAfter))
	}
	return held
}

// ReadCertificate reads a certificate and its key again. path is their name in errors.
func ReadCertificate(path string, pair KeyPair) (*Certificate, error) {
	k := &checker{source: newSource("", nil), c: new(Config), now: time.Now()}
	read := k.checkKeyPair(path, pair, true)
	if read == nil {
		return nil, errors.New(k.problems[0].Message)
	}
	return read, nil
}

// Same reports whether two certificates are the same.
func (c *Certificate) Same(other *Certificate) bool {
	return c.held.Load().Leaf.Equal(other.held.Load().Leaf)
}

// daysIn returns the number of days in a duration, rounded up.
func daysIn(d time.Duration) string {
	const day = 24 * time.Hour
	if n := int((d + day - 1) / day); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

func hasPrivateKey(data []byte) bool {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return false
		}
		if block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY") && block.Type != "ENCRYPTED PRIVATE KEY" {
			return true
		}
	}
}

// fileFix says what to do about a file that cannot be read.
func fileFix(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "correct the path; it is relative to the directory of this file"
	case errors.Is(err, os.ErrPermission):
		return "let the user that the gateway runs as read it"
	}
	return "name a readable PEM file"
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func sum(data []byte) SHA256 { return sha256.Sum256(data) }

// checkTrust reads the certificate authorities that verify an upstream.
func (k *checker) checkTrust(path string, u Upstream) {
	at := path + ".ca_file"
	if u.CAFile == "" || k.refused(at) {
		return
	}
	if _, err := readPool(u.CAFile); err != nil {
		k.wrong(at, fileFix(err), "`%s`: %v", at, err)
	}
}

func readPool(file string) (*x509.CertPool, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("there is no certificate in %s", file)
	}
	return pool, nil
}

// IMAPUpstream returns the mail server for IMAP.
func (c *Config) IMAPUpstream() (*upstream.Server, error) { return c.IMAP.Upstream.Server() }

// SMTPUpstream returns the mail server for submission.
func (c *Config) SMTPUpstream() (*upstream.Server, error) { return c.SMTP.Upstream.Server() }

// Server returns the mail server. It reads the CA file again, so it can return an error
// of that file.
func (u Upstream) Server() (*upstream.Server, error) {
	s := &upstream.Server{
		Address: u.Address, TLS: u.TLS, LocalNames: u.LoginName == LoginLocal, PassClient: u.PassClient,
		Timeout: u.Timeout, CredentialPatterns: u.Wrong, NotCredentialPatterns: u.NotWrong, Spare: u.SpareConnections,
	}
	if u.TLS == upstream.Plain {
		return s, nil
	}
	s.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: u.ServerName,
		// A resumed session is verified like a new one, with the pins, and costs both
		// sides a fraction of it.
		ClientSessionCache: tls.NewLRUClientSessionCache(16),
	}
	if u.CAFile != "" {
		pool, err := readPool(u.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities of the mail server: %w", err)
		}
		s.TLSConfig.RootCAs = pool
	}
	if len(u.PinSHA256) > 0 {
		s.TLSConfig.VerifyConnection = u.pinned
	}
	return s, nil
}

// ErrNotPinned reports a server whose certificate is valid but is not the agreed one.
var ErrNotPinned = errors.New("no certificate of the mail server has a key pinned in pin_sha256")

// pinned looks for one of the pins in the verified chains; it runs after the
// verification, never in place of it.
func (u Upstream) pinned(state tls.ConnectionState) error {
	for _, chain := range state.VerifiedChains {
		for _, cert := range chain {
			found := sum(cert.RawSubjectPublicKeyInfo)
			for _, pin := range u.PinSHA256 {
				if pin == found {
					return nil
				}
			}
		}
	}
	return ErrNotPinned
}

// verifies reports whether a client's configuration verifies the server. libpq's
// verify-ca has its own verification.
func verifies(c *tls.Config) bool { return !c.InsecureSkipVerify || c.VerifyPeerCertificate != nil }
