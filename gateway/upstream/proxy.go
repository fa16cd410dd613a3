package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// sendProxyHeader writes the PROXY header (version 2) that a server with PassPROXY
// waits for before anything else, its greeting and TLS included. A client without
// an address means that the gateway speaks for itself, as in its probes.
func (s *Server) sendProxyHeader(ctx context.Context, conn net.Conn, client Client) error {
	header, err := proxyHeader(client, conn.RemoteAddr())
	if err != nil {
		return err
	}
	octets, err := header.Format()
	if err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(s.step())
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(octets); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// afterHeader says of an error before the login that there was a header: a server
// that knows nothing of it takes it for rubbish.
func (s *Server) afterHeader(err error) error {
	if s.PassClient == PassPROXY {
		err = fmt.Errorf("after the PROXY header: %w", err)
	}
	return err
}

// proxyHeader introduces client to the server at the address to
// (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, section 2.2).
//
// The destination is the server's own address, not the one that the client has
// connected to: to the server it then is as if the client had come to it itself,
// and what it chooses by its address (a certificate, a policy, Dovecot's local
// blocks) is what fits the connection that the gateway really has to it.
//
// A client without a port, as a webmail reports it, has port 0.
func proxyHeader(client Client, to net.Addr) (*proxyproto.Header, error) {
	if !client.Address.IsValid() {
		return &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}, nil
	}
	server, ok := to.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("the server's address is not one of TCP, but %T", to)
	}
	// To the library ::ffff:192.0.2.1 is 192.0.2.1, and zones are not written.
	// Where the two are of different families the one of IPv4 is written as
	// ::ffff:192.0.2.1: a header has room for one family.
	header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(client.Address), server)
	if header.Command.IsLocal() {
		return nil, errors.New("a client's address that no header can have")
	}
	version, ok := tlsVersions[client.TLS]
	if !ok {
		return header, nil
	}
	// A Dovecot that is reached in clear text takes passwords from afar only when
	// it is told that the client uses TLS (section 2.2.6 of the specification).
	secured, err := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1, // there is no certificate of the client
		TLV:    []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(version)}},
	}.Marshal()
	if err != nil {
		return nil, err
	}
	return header, header.SetTLVs([]proxyproto.TLV{secured})
}

// tlsVersions are written as load balancers write them.
var tlsVersions = map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}
