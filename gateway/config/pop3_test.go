package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// POP3 is off until its upstream is set, and then has the usual ports.
func TestPOP3IsOffUntilItsUpstreamIsSet(t *testing.T) {
	inTestdata(t)
	if c := mustParse(t, five); len(c.Mail(auth.POP3).Listen) != 0 {
		t.Errorf("listens on %v", c.POP3.Listen)
	}
	c := mustParse(t, five+"pop3: { upstream: 127.0.0.1:10110 }\n")
	if want := []Listener{{":110", upstream.StartTLS}, {":995", upstream.Implicit}}; !slices.Equal(c.POP3.Listen, want) {
		t.Errorf("listens on %v, want %v", c.POP3.Listen, want)
	}
	if u := c.Mail(auth.POP3).Upstream; u.Address != "127.0.0.1:10110" || u.TLS != upstream.Plain || u.ServerName != "127.0.0.1" || u.SpareConnections != 0 {
		t.Errorf("%+v", u)
	}
	c = mustParse(t, five+"pop3: { upstream: 127.0.0.1:10110, listen: [ { address: \"127.0.0.1:995\", tls: implicit } ] }\n")
	if len(c.POP3.Listen) != 1 {
		t.Errorf("listens on %v", c.POP3.Listen)
	}
	// It can be all that is served.
	mustParse(t, strings.NewReplacer("imap: { upstream: 127.0.0.1:10143 }", "imap: { listen: [] }", "smtp: { upstream: 127.0.0.1:10587 }", "smtp: { listen: [] }").Replace(five)+
		"pop3: { upstream: 127.0.0.1:10110 }\n")
}

func TestMistakesInPOP3(t *testing.T) {
	inTestdata(t)
	for written, want := range map[string]string{
		`pop3: { listen: [ { address: ":995", tls: implicit } ] }`:                            "`pop3.upstream.address` is missing",
		`pop3: { upstream: { address: "127.0.0.1:10110", spare_connections: 4 } }`:            "a connection is made for each login over POP3",
		`pop3: { upstream: { address: "127.0.0.1:10110", pass_client: id } }`:                 "id cannot be said in POP3",
		`pop3: { upstream: 127.0.0.1:10110, listen: [ { address: ":143", tls: starttls } ] }`: "is taken by",
	} {
		_, err := parse("congthu.yaml", []byte(five+written+"\n"), now)
		var mistakes *Error
		if !errors.As(err, &mistakes) || !strings.Contains(mistakes.Report(), want) {
			t.Errorf("%s: %v, want %q", written, err, want)
		}
	}
	// With several domains all mail servers know accounts by the same names.
	both := five + "domains: [khac.test]\npop3: { upstream: { address: \"127.0.0.1:10110\", login_name: local } }\n"
	if _, err := parse("congthu.yaml", []byte(both), now); err == nil || !strings.Contains(err.Error(), "`imap.upstream.login_name` is address and `pop3.upstream.login_name` is local") {
		t.Errorf("%v", err)
	}
}
