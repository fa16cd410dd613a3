package realtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ports hands out ports below the range of ephemeral ports, so that no outgoing
// connection can take one in the meantime.
var ports struct {
	sync.Mutex
	next int
}

// freePort returns a port without a listener.
func freePort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = 20000 + os.Getpid()%8000
	}
	for range 2000 {
		port := ports.next
		ports.next++
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// addr returns a loopback address with a port.
func addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// awaitListener waits until port has a listener, or p has ended.
func awaitListener(t testing.TB, p *Process, port int) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s to listen on port %d", p.Name, port), func() bool {
		if code, ended := p.Exited(); ended {
			t.Fatalf("%s ended with code %d:\n%s", p.Name, code, readFrom(p.Log, 0))
		}
		conn, err := net.Dial("tcp", addr(port))
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// Authority is a certificate authority of this run, which signs the certificates of the
// servers and of the gateway.
type Authority struct {
	// File is the certificate in PEM, for clients.
	File string
	// Pool is the same for Go clients.
	Pool *x509.CertPool

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var authority struct {
	sync.Mutex
	made *Authority
}

// Certificates are valid at any time: the tests can run at other dates, and the clients
// cannot.
var (
	longAgo  = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	farAhead = time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC)
)

// TheAuthority returns the run's authority.
func TheAuthority(t testing.TB) *Authority {
	t.Helper()
	dir := runDir(t)
	authority.Lock()
	defer authority.Unlock()
	if authority.made != nil {
		return authority.made
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "congthu test authority"},
		NotBefore: longAgo, NotAfter: farAhead,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{File: filepath.Join(dir, "ca.pem"), Pool: x509.NewCertPool(), dir: dir, cert: cert, key: key}
	a.Pool.AddCert(cert)
	writeFile(t, a.File, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	authority.made = a
	return a
}

// Issue makes a certificate for localhost and 127.0.0.1 and returns its files.
func (a *Authority) Issue(t testing.TB, name string) (certFile, keyFile string) {
	t.Helper()
	return a.IssueFor(t, name, longAgo, farAhead)
}

// IssueFor makes a certificate with dates of its own.
func (a *Authority) IssueFor(t testing.TB, name string, from, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), 0o600)
	return certFile, keyFile
}

// TLS returns a configuration for clients of the run's servers.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{RootCAs: a.Pool, ServerName: "localhost"}
}

func itoa(port int) string { return fmt.Sprint(port) }

var lastAddress atomic.Uint32

// FreshAddress returns a loopback address from which, like from its /24, no client has
// come: the throttle has limits for both. Dovecot delays an address with wrong
// passwords by up to 15 seconds, and receives the address from the gateway: tests that
// shared an address would slow each other down.
func FreshAddress() string {
	n := lastAddress.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 100+n>>8&63, n&255, 1+n>>14&127)
}

// tryDial connects to a port and returns an error if that fails.
func tryDial(port int) (net.Conn, error) { return net.DialTimeout("tcp", addr(port), 5*time.Second) }
