package smtp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"congthu/gateway/mailtest"
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
	const connections = 100
	long := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 9000)))
	for name, attack := range map[string]struct {
		implicit bool
		says     string
		most     int // KiB of a connection, above what it had after the greeting
	}{
		"nothing, in clear":              {false, "", 24},
		"small commands, in clear":       {false, strings.Repeat("NOOP\r\n", 200), 24},
		"a line without end, in clear":   {false, strings.Repeat("x", 60000), 24},
		"half a line, in clear":          {false, strings.Repeat("x", 1500), 24},
		"nothing":                        {true, "", 24},
		"small commands":                 {true, "EHLO x\r\n" + strings.Repeat("NOOP\r\n", 200), 40},
		"pipelined commands":             {true, "EHLO x\r\n" + strings.Repeat("MAIL FROM:<a@b.c>\r\n", 90), 40},
		"a line without end":             {true, strings.Repeat("x", 65000), 120},
		"a line without end, logging in": {true, "EHLO x\r\nAUTH PLAIN\r\n" + strings.Repeat("A", 65000), 120},
		"long lines":                     {true, "EHLO x\r\n" + strings.Repeat(strings.Repeat("x", 60000)+"\r\n", 9), 120},
		"an exchange without end":        {true, "EHLO x\r\n" + strings.Repeat("AUTH LOGIN\r\n"+long+"\r\n*\r\n", 9) + "AUTH LOGIN\r\n" + long + "\r\n", 60},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &mailtest.SMTP{Accounts: map[string]string{owner: password}}
			defer fake.Close()
			server := newServer(&guard{}, nil)
			server.Upstream = &upstream.Server{Dial: fake.Dial}
			l := newMemory()
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- server.Serve(ctx, l, attack.implicit) }()
			var conns []net.Conn
			var heard sync.WaitGroup
			for range connections {
				var near, far = net.Pipe()
				l.conns <- far
				if attack.implicit {
					near = tls.Client(near, mailtest.ClientTLS())
				}
				conns = append(conns, near)
				greeting := make([]byte, 1000)
				if n, err := near.Read(greeting); err != nil || !strings.HasPrefix(string(greeting[:n]), "220 ") {
					t.Fatalf("%q %v", greeting[:n], err)
				}
				heard.Go(func() { io.Copy(io.Discard, near) })
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
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}
