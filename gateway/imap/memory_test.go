package imap

import (
	"context"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// inUse is what the process holds, in KiB.
func inUse() int {
	runtime.GC()
	runtime.GC() // what the first one has only moved out of the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc+m.StackInuse) >> 10
}

// Whatever a client sends before its login, and however it never ends, it holds
// little memory: anybody can open thousands of connections.
func TestALoginThatNeverEndsHoldsLittleMemory(t *testing.T) {
	const connections = 200
	for name, attack := range map[string]struct {
		says string
		most int // KiB of a connection, above what it had after the greeting
	}{
		"nothing":                        {"", 24},
		"many small commands":            {strings.Repeat("a NOOP\r\n", 200), 24},
		"empty literals, few":            {"a LOGIN" + strings.Repeat(" {0+}\r\n", 150), 40},
		"empty literals, many":           {"a LOGIN" + strings.Repeat(" {0+}\r\n", 36000), 24},
		"literals of one octet":          {"a ID (" + strings.Repeat("{1+}\r\nx ", 75), 40},
		"literals as long as may be":     {"a LOGIN" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 50), 40},
		"literals up to the bound":       {"a LOGIN" + strings.Repeat(" {4096+}\r\n"+strings.Repeat("x", 4096), 15), 40},
		"lines between literals":         {"a LOGIN" + strings.Repeat(" {0+}\r\n"+strings.Repeat("x", 60000), 4), 40},
		"a line up to the bound":         {"a LOGIN " + strings.Repeat("x", 16000), 40},
		"literals within the bound":      {"a LOGIN" + strings.Repeat(" {4000+}\r\n"+strings.Repeat("x", 4000), 4), 40},
		"a line without end":             {"a LOGIN " + strings.Repeat("x", 65000), 40},
		"a tag without end":              {strings.Repeat("x", 65000), 40},
		"a name without end":             {"a LOGIN \"" + strings.Repeat(`\"`, 32000), 40},
		"an ID and then nothing":         {"a ID (" + strings.Repeat(`"n" "`+strings.Repeat("x", 1024)+`" `, 29) + `"n" "x")` + "\r\n", 64},
		"IDs again and again":            {strings.Repeat("a ID ("+strings.Repeat(`"n" "`+strings.Repeat("x", 1024)+`" `, 29)+`"n" "x")`+"\r\n", 7), 64},
		"a mechanism that never goes on": {"a AUTHENTICATE PLAIN\r\n" + strings.Repeat("A", 12000), 40},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := newScene(t), newPipes()
			served := make(chan error, 1)
			go func() { served <- s.server.Serve(t.Context(), l, false) }()
			var conns []net.Conn
			var heard sync.WaitGroup
			for range connections {
				conn := l.dial()
				conns = append(conns, conn)
				// The greeting; the rest is read as it comes.
				greeting := make([]byte, 1000)
				if n, err := conn.Read(greeting); err != nil || !strings.HasSuffix(string(greeting[:n]), "\r\n") {
					t.Fatalf("%q %v", greeting[:n], err)
				}
				heard.Go(func() { io.Copy(io.Discard, conn) })
			}
			before := inUse()
			for _, conn := range conns {
				// Fails where the server has had enough, which is as good. In memory, the
				// server has read it when it is written.
				io.WriteString(conn, attack.says)
			}
			each := (inUse() - before) / connections
			t.Logf("%d KiB sent, %d KiB held by each of %d connections", len(attack.says)>>10, each, connections)
			if each > attack.most {
				t.Errorf("%d KiB held by each connection, want at most %d", each, attack.most)
			}
			for _, conn := range conns {
				conn.Close()
			}
			heard.Wait()
			l.Close()
			<-served
		})
	}
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
	for line := c.line(); !strings.HasPrefix(line, "l OK"); line = c.line() {
	}
	s.guard.mu.Lock()
	s.guard.attempts = nil // unlike this one, the real guard keeps none
	s.guard.mu.Unlock()
	for deadline := time.After(time.Minute); ; {
		runtime.GC()
		select {
		case <-forgotten:
			c.say("n NOOP")
			c.expect("n OK")
			return
		case <-deadline:
			t.Fatal("the capabilities and the texts of the login are still held")
		case <-time.After(time.Millisecond):
		}
	}
}
