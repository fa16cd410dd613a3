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

// sendProxyHeader writes the PROXY header (version 2) for which a server with PassPROXY
// waits first, before its greeting and TLS. A client without an address means that the
// connection is the gateway's own, as for probes.
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

// afterHeader adds to an error before the login that a header was sent: a server that
// does not expect one takes it for garbage.
func (s *Server) afterHeader(err error) error {
	if s.PassClient == PassPROXY {
		err = fmt.Errorf("after the PROXY header: %w", err)
	}
	return err
}

// proxyHeader introduces client to the server at the address to
// (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt, section 2.2).
//
// The destination is the server's own address, not the one to which the client
// connected: the server then treats the client as if it had connected directly, and
// what it chooses by its address (a certificate, a policy, Dovecot's local blocks)
// matches the gateway's real connection.
//
// A client without a port, as a webmail server may report it, has port 0.
func proxyHeader(client Client, to net.Addr) (*proxyproto.Header, error) {
	if !client.Address.IsValid() {
		return &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}, nil
	}
	server, ok := to.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("the server's address is not one of TCP, but %T", to)
	}
	// The library writes ::ffff:192.0.2.1 as 192.0.2.1, and omits zones. If the two
	// addresses are of different families, the IPv4 one is written as ::ffff:192.0.2.1:
	// a header has one family.
	header := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(client.Address), server)
	if header.Command.IsLocal() {
		return nil, errors.New("a client's address that no header can have")
	}
	version, ok := tlsVersions[client.TLS]
	if !ok {
		return header, nil
	}
	// Over clear text, Dovecot accepts passwords of remote clients only if the header
	// says that the client uses TLS (section 2.2.6 of the specification).
	secured, err := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1, // the client has no certificate
		TLV:    []proxyproto.TLV{{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(version)}},
	}.Marshal()
	if err != nil {
		return nil, err
	}
	return header, header.SetTLVs([]proxyproto.TLV{secured})
}

// tlsVersions are the names of TLS versions as load balancers write them.
var tlsVersions = map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}
