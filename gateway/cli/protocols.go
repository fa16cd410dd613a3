package cli

import (
	"context"
	"io"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// protocolCheck contains what check needs to know about a protocol.
type protocolCheck struct {
	// look probes a mail server and prints what it finds.
	look func(*check, context.Context, *upstream.Server)
	// login tries a password. The connection is nil unless the password is right.
	login func(context.Context, *upstream.Server, auth.Name, auth.Secret) (io.Closer, auth.Answer)
	// own is the protocol's own way to pass the client's address to the server, as in
	// pass_client. header says how to configure a server for a PROXY header.
	own    upstream.PassClient
	header func() string
	// tlsPort and plainPort are the usual ports of a mail server.
	tlsPort, plainPort string
}

// protocolChecks has one entry for each protocol.
var protocolChecks map[auth.Protocol]protocolCheck

// The functions of the entries read the table, so init fills it.
func init() {
	protocolChecks = map[auth.Protocol]protocolCheck{
		auth.IMAP: {
			look:    (*check).imap,
			login:   loginBy((*upstream.Server).LoginIMAP),
			own:     upstream.PassID,
			header:  dovecotHeader,
			tlsPort: "993", plainPort: "143",
		},
		auth.SMTP: {
			look:    (*check).smtp,
			login:   loginBy((*upstream.Server).LoginSMTP),
			own:     upstream.PassXCLIENT,
			header:  func() string { return postfixHeader },
			tlsPort: "465", plainPort: "587",
		},
		auth.POP3: {
			look:    (*check).pop3,
			login:   loginBy((*upstream.Server).LoginPOP3),
			own:     upstream.PassNone,
			header:  dovecotHeader,
			tlsPort: "995", plainPort: "110",
		},
	}
}

// loginBy adapts the login function of a protocol: it returns the connection as an
// io.Closer, or nil if there is none.
func loginBy[C interface {
	comparable
	io.Closer
}](login func(*upstream.Server, context.Context, auth.Name, auth.Secret, upstream.Client) (C, auth.Answer)) func(context.Context, *upstream.Server, auth.Name, auth.Secret) (io.Closer, auth.Answer) {
	return func(ctx context.Context, s *upstream.Server, name auth.Name, password auth.Secret) (io.Closer, auth.Answer) {
		conn, answer := login(s, ctx, name, password, upstream.Client{})
		if conn == *new(C) {
			return nil, answer
		}
		return conn, answer
	}
}

// dovecotHeader says how to configure Dovecot for a PROXY header.
func dovecotHeader() string {
	return tr("haproxy = yes in the inet_listener, and this machine in haproxy_trusted_networks")
}

// postfixHeader is a line for main.cf.
const postfixHeader = "smtpd_upstream_proxy_protocol = haproxy"

// mailServer checks the mail server of a protocol.
func (k *check) mailServer(ctx context.Context, p auth.Protocol) {
	settings := k.config.Mail(p)
	if len(settings.Listen) == 0 {
		k.say("ok", p.String(), "not served")
		return
	}
	server, err := settings.Upstream.Server()
	if err != nil {
		k.say("failed", p.String(), err.Error())
		return
	}
	protocolChecks[p].look(k, ctx, server)
}

// login has the mail server of a protocol judge a password. served is false if there is
// no such server or it cannot be used.
func (k *check) login(ctx context.Context, p auth.Protocol, name auth.Name, password auth.Secret) (answer auth.Answer, served bool) {
	settings := k.config.Mail(p)
	server, err := settings.Upstream.Server()
	if err != nil || len(settings.Listen) == 0 || k.away[p] {
		return answer, false
	}
	conn, answer := protocolChecks[p].login(ctx, server, name, password)
	if conn != nil {
		conn.Close()
	}
	return answer, true
}
