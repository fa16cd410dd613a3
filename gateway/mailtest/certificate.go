package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// Host is the name in the certificate of the servers of this package; localhost,
// 127.0.0.1 and ::1 are in it as well.
const Host = "mail.test"

var identity = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: Host},
		DNSNames:     []string{Host, "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		// Clocks of synctest bubbles begin in 2000.
		NotBefore:             time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2190, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
})

// ServerTLS is a configuration for a server called [Host], self-signed.
func ServerTLS() *tls.Config {
	cert, err := identity()
	if err != nil {
		panic(fmt.Sprintf("mailtest: make a certificate: %v", err))
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// ClientTLS is a configuration that trusts [ServerTLS], and nothing else.
func ClientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ServerTLS().Certificates[0].Leaf)
	return &tls.Config{RootCAs: roots, ServerName: Host}
}
