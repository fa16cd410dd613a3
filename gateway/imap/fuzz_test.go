package imap

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/upstream"
)

// sink is a mail server that lets every login in.
type sink struct{ *frontendtest.Sink }

func (s sink) LoginIMAP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.IMAPConn, auth.Answer) {
	return &upstream.IMAPConn{Conn: s.Open(), OK: "OK in", Capabilities: "IMAP4rev1"}, auth.Answer{Judgement: auth.JudgedRight}
}

// FuzzDialogue says any octets to a session; see [frontendtest.Fuzz].
func FuzzDialogue(f *testing.F) {
	frontendtest.Fuzz(f, []string{
		"a LOGIN b c\r\nd NOOP\r\n", "a LOGIN {1+}\r\nb {1}\r\nc\r\nd SELECT {5+}\r\nINBOX\r\n",
		"a AUTHENTICATE PLAIN AGIAYw==\r\nd IDLE\r\nDONE\r\n", "a AUTHENTICATE LOGIN\r\nYg==\r\nYw==\r\nrest",
		"a ID (\"n\" NIL \"x-y\" {2+}\r\nab)\r\nb LOGOUT\r\n", "a STARTTLS\r\nb NOOP\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a APPEND x {99999999999999999999+}\r\n", "a LOGIN x ~{3+}\r\n\x00\x00\x00\r\n", "\r\n\r\n\n", "a\r\n", "* OK\r\n+\r\n",
		"a AUTHENTICATE PLAIN\r\n*\r\na AUTHENTICATE PLAIN =\r\na CAPABILITY\r\n", "a LOGIN \"\\\"\\\\\" \"\"\n",
		"a ID (\"x-originating-ip\" \"2001:db8::1\" \"X-ORIGINATING-PORT\" {2+}\r\n50)\r\nb LOGIN c d\r\n", "a ID (x-originating-ip \"::ffff:0.0.0.0%a\")\r\nb LOGIN c d\r\n",
	}, func(ctx context.Context, front func() frontend.Server, mail *frontendtest.Sink, conn net.Conn, secure bool) {
		server := &Server{Server: front(), Upstream: sink{mail}, Forwarder: func(netip.Addr) bool { return true }}
		server.ServeConn(ctx, conn, secure, server.protocol())
	})
}
