package pop3

import (
	"context"
	"net"
	"testing"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/upstream"
)

// sink is a mail server that lets every login in.
type sink struct{ *frontendtest.Sink }

func (s sink) LoginPOP3(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.POP3Conn, auth.Answer) {
	return &upstream.POP3Conn{Conn: s.Open(), OK: "+OK in"}, auth.Answer{Judgement: auth.JudgedRight}
}

// FuzzDialogue says any octets to a session; see [frontendtest.Fuzz].
func FuzzDialogue(f *testing.F) {
	frontendtest.Fuzz(f, []string{
		"USER a\r\nPASS b\r\nSTAT\r\n", "AUTH PLAIN AGIAYw==\r\nLIST\r\n", "AUTH PLAIN\r\nAGIAYw==\r\nrest", "AUTH LOGIN\r\nYg==\r\nYw==\r\nrest",
		"AUTH LOGIN Yg==\r\nYw==\r\n", "CAPA\r\nSTLS\r\nUSER a\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "AUTH\r\nAUTH X\r\nQUIT\r\nUSER a\r\n",
		"PASS a\nUSER \nUSER a\nPASS \n", "\r\n\r\n\n", "APOP a b\r\n", "AUTH PLAIN =\r\n*\r\n", "USER a\x00b\r\nPASS \rc\r\n",
	}, func(ctx context.Context, front func() frontend.Server, mail *frontendtest.Sink, conn net.Conn, secure bool) {
		server := &Server{Server: front(), Upstream: sink{mail}}
		server.ServeConn(ctx, conn, secure, server.protocol())
	})
}
