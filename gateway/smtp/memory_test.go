package smtp

import (
	"encoding/base64"
	"strings"
	"testing"

	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// Whatever a client sends before its login, and however it never ends, it holds
// little memory: anybody can open thousands of connections.
func TestALoginThatNeverEndsHoldsLittleMemory(t *testing.T) {
	long := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 9000)))
	frontendtest.HoldLittleMemory(t, map[string]frontendtest.Attack{
		"nothing, in clear":              {Says: "", Most: 24},
		"small commands, in clear":       {Says: strings.Repeat("NOOP\r\n", 200), Most: 24},
		"a line without end, in clear":   {Says: strings.Repeat("x", 60000), Most: 24},
		"half a line, in clear":          {Says: strings.Repeat("x", 1500), Most: 24},
		"nothing":                        {TLS: true, Says: "", Most: 24},
		"small commands":                 {TLS: true, Says: "EHLO x\r\n" + strings.Repeat("NOOP\r\n", 200), Most: 40},
		"pipelined commands":             {TLS: true, Says: "EHLO x\r\n" + strings.Repeat("MAIL FROM:<a@b.c>\r\n", 90), Most: 40},
		"a line without end":             {TLS: true, Says: strings.Repeat("x", 65000), Most: 120},
		"a line without end, logging in": {TLS: true, Says: "EHLO x\r\nAUTH PLAIN\r\n" + strings.Repeat("A", 65000), Most: 120},
		"long lines":                     {TLS: true, Says: "EHLO x\r\n" + strings.Repeat(strings.Repeat("x", 60000)+"\r\n", 9), Most: 120},
		"an exchange without end":        {TLS: true, Says: "EHLO x\r\n" + strings.Repeat("AUTH LOGIN\r\n"+long+"\r\n*\r\n", 9) + "AUTH LOGIN\r\n" + long + "\r\n", Most: 60},
	}, func(t testing.TB) frontendtest.Serve {
		fake := &mailtest.SMTP{Accounts: map[string]string{owner: password}}
		t.Cleanup(func() { fake.Close() })
		server := newServer(&guard{}, nil)
		server.Upstream = &upstream.Server{Dial: fake.Dial}
		return server.Serve
	})
}
