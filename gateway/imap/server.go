package imap

import (
	"context"
	"net"
	"net/netip"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// Upstream logs in at the mail server. The connection is nil unless the password was
// judged right.
type Upstream interface {
	LoginIMAP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.IMAPConn, auth.Answer)
}

// Server serves IMAP. Set the fields before Serve and do not change them afterwards. It
// may serve several listeners at once.
type Server struct {
	// Server is the front end.
	frontend.Server
	// Upstream is required.
	Upstream Upstream
	// AlertText returns the text for a user whose password expires in some days; 0
	// means today. Nil: there are no alerts.
	AlertText func(days int) string
	// Forwarder reports whether an address is that of a machine that logs in for users,
	// such as a webmail server, and whose ID may name the user's address
	// (x-originating-ip). It is called with the connection's own address. Nil: there
	// are no forwarders.
	Forwarder func(netip.Addr) bool
	// Shown returns the mail server's capabilities before login; clients see those that
	// hold after it. Nil, or an empty result: unknown.
	Shown func() []imap.Cap
}

// Serve accepts clients from l as [frontend.Server.Serve] does.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	return s.Server.Serve(ctx, l, implicit, s.protocol())
}

func (s *Server) protocol() frontend.Protocol {
	return frontend.Protocol{Name: auth.IMAP, ALPN: []string{"imap"}, Speak: s.speak, Bye: bye}
}

// dialogue is the conversation with one client up to its login.
type dialogue struct {
	*frontend.Client
	server *Server

	said   []upstream.IDField // from ID
	misled bool               // a forwarder sent an invalid address, which was logged
}

func (s *Server) speak(c *frontend.Client) error {
	d := &dialogue{Client: c, server: s}
	// RFC 9051 section 7.1: capabilities in the greeting save the client a command.
	err := d.Say("* OK [CAPABILITY " + d.capabilities() + "] " + d.Hostname() + " ready\r\n")
	for err == nil {
		err = d.next()
	}
	return err
}
