package cli

import (
	"context"
	"slices"
	"strings"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// pop3 checks the mail server for POP3: whether it can be used, and which of its
// replies mean a wrong password.
func (k *check) pop3(ctx context.Context, server *upstream.Server) {
	var caps upstream.Capabilities
	probe := func(ctx context.Context, to *upstream.Server) error {
		found, err := to.ProbePOP3(ctx)
		if to == server {
			caps = found
		}
		return err
	}
	if err := k.ask(ctx, server, probe); err != nil {
		k.unusable(ctx, auth.POP3, k.config.POP3.Upstream, server, err, probe)
		return
	}
	var names []string
	for name, arguments := range caps {
		names = append(names, strings.TrimSpace(name+" "+arguments))
	}
	slices.Sort(names)
	k.say("ok", "pop3", trf("%s answers: %s", server.Address, strings.Join(names, ", ")))
	if caps.Has("AUTH-RESP-CODE") {
		k.say("ok", "pop3", "the mail server has AUTH-RESP-CODE: only -ERR [AUTH] is a wrong password")
	} else if len(server.NotCredentialPatterns) == 0 {
		k.say("warning", "pop3", "the mail server has no AUTH-RESP-CODE: each -ERR without a code is a wrong password, and it may say the same of a maildrop that another session has locked. "+
			"Open the maildrop twice, and write what it says then into pop3.upstream.not_wrong")
	}
	if server.PassClient == upstream.PassNone {
		k.say("warning", "pop3", "the mail server sees one address for everybody: Dovecot allows 10 connections per user and address, and slows addresses down after wrong passwords. "+
			"Set haproxy = yes in its inet_listener and pop3.upstream.pass_client: proxy here")
	}
}
