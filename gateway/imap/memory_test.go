package imap

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/upstream"
)

// Whatever a client sends before its login, and however it never ends, it holds
// little memory: anybody can open thousands of connections.
func TestALoginThatNeverEndsHoldsLittleMemory(t *testing.T) {
	frontendtest.HoldLittleMemory(t, map[string]frontendtest.Attack{
		"nothing":                        {Says: "", Most: 24},
		"many small commands":            {Says: strings.Repeat("a NOOP\r\n", 200), Most: 24},
		"empty literals, few":            {Says: "a LOGIN" + strings.Repeat(" {0+}\r\n", 150), Most: 40},
		"empty literals, many":           {Says: "a LOGIN" + strings.Repeat(" {0+}\r\n", 36000), Most: 24},
		"literals of one octet":          {Says: "a ID (" + strings.Repeat("{1+}\r\nx ", 75), Most: 40},
		"literals as long as may be":     {Says: "a LOGIN" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 50), Most: 40},
		"literals up to the bound":       {Says: "a LOGIN" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 15), Most: 40},
		"lines between literals":         {Says: "a LOGIN" + strings.Repeat(" {0+}\r\n"+strings.Repeat("x", 60000), 4), Most: 40},
		"a line up to the bound":         {Says: "a LOGIN " + strings.Repeat("x", 16000), Most: 40},
		"literals within the bound":      {Says: "a LOGIN" + strings.Repeat(" {4000+}\r\n"+strings.Repeat("x", 4000), 4), Most: 40},
		"a line without end":             {Says: "a LOGIN " + strings.Repeat("x", 65000), Most: 40},
		"a tag without end":              {Says: strings.Repeat("x", 65000), Most: 40},
		"a name without end":             {Says: "a LOGIN \"" + strings.Repeat(`\"`, 32000), Most: 40},
		"an ID and then nothing":         {Says: "a ID (" + strings.Repeat(`"n" "`+strings.Repeat("x", 1024)+`" `, 29) + `"n" "x")` + "\r\n", Most: 64},
		"IDs again and again":            {Says: strings.Repeat("a ID ("+strings.Repeat(`"n" "`+strings.Repeat("x", 1024)+`" `, 29)+`"n" "x")`+"\r\n", 7), Most: 64},
		"a mechanism that never goes on": {Says: "a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 12000), Most: 40},
	}, func(t testing.TB) frontendtest.Serve { return newScene(t).server.Serve })
}

// watched is an upstream that tells when what a login brought is forgotten.
type watched struct {
	Upstream
	forgotten chan struct{}
}

func (w watched) LoginIMAP(ctx context.Context, n auth.Name, s auth.Secret, c upstream.Client) (*upstream.IMAPConn, auth.Answer) {
	conn, answer := w.Upstream.LoginIMAP(ctx, n, s, c)
	if conn != nil {
		runtime.AddCleanup(conn, func(forgotten chan struct{}) { close(forgotten) }, w.forgotten)
	}
	return conn, answer
}

func TestASessionKeepsNothingOfWhatTheServerSaidAtTheLogin(t *testing.T) {
	s := newScene(t)
	forgotten := make(chan struct{})
	s.server.Upstream = watched{s.server.Upstream, forgotten}
	c := s.connect(true)
	c.login(password)
	for line := c.Line(); !strings.HasPrefix(line, "l OK"); line = c.Line() {
	}
	s.Guard.Forget()
	for deadline := time.After(time.Minute); ; {
		runtime.GC()
		select {
		case <-forgotten:
			c.Say("n NOOP")
			c.Expect("n OK")
			return
		case <-deadline:
			t.Fatal("the capabilities and the texts of the login are still held")
		case <-time.After(time.Millisecond):
		}
	}
}
