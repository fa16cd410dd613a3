package gateway

import (
	"context"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// LoginPOP3 implements pop3.Upstream.
func (l *live) LoginPOP3(ctx context.Context, name auth.Name, password auth.Secret, c upstream.Client) (*upstream.POP3Conn, auth.Answer) {
	return l.server(auth.POP3).LoginPOP3(ctx, name, password, c)
}
