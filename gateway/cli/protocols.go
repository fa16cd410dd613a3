package cli

import (
	"context"
	"io"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// protocolCheck is what check knows of a protocol.
type protocolCheck struct {
	// look probes a mail server and says what it finds.
	look func(*check, context.Context, *upstream.Server)
	// login has a password judged. The connection is nil unless that is right.
	login func(context.Context, *upstream.Server, auth.Name, auth.Secret) (io.Closer, auth.Answer)
	// own is the protocol's own way to tell the server the client's address, as
	// pass_client has it, and header says how a server is set up for a PROXY header.
	own    upstream.PassClient
	header func() string
	// tlsPort and plainPort are the usual ports of a mail server.
	tlsPort, plainPort string
}

// protocolChecks has an entry for each protocol.
var protocolChecks map[auth.Protocol]protocolCheck

// The functions of the entries look into the table, so it is filled in afterwards.
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

// loginBy is the login of a protocol with its connection as what can be closed; nil
// where there is none.
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

// dovecotHeader says how Dovecot is set up for a PROXY header.
func dovecotHeader() string {
	return tr("haproxy = yes in the inet_listener, and this machine in haproxy_trusted_networks")
}

// postfixHeader is a line for main.cf.
const postfixHeader = "smtpd_upstream_proxy_protocol = haproxy"

// mailServer looks at the mail server of a protocol.
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

// login has a password judged by the mail server of a protocol; served is false when
// there is none, or none that can be used.
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
