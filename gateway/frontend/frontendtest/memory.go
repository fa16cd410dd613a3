package frontendtest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"congthu/gateway/mailtest"
)

// Attack is what a client says before its login and never ends.
type Attack struct {
	TLS  bool // from the first octet
	Says string
	// Most is the most that its connection may hold, in KiB, above what it had after
	// the greeting.
	Most int
}

// inUse is what the process holds, in KiB.
func inUse() int {
	runtime.GC()
	runtime.GC() // what the first one has only moved out of the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc+m.StackInuse) >> 10
}

// HoldLittleMemory tries attacks on servers: whatever a client sends
// before its login, and however it never ends, it holds little memory, since anybody
// can open thousands of connections.
func HoldLittleMemory(t *testing.T, attacks map[string]Attack, server func(testing.TB) Serve) {
	const connections = 200
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			serve, l := server(t), NewPipes()
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- serve(ctx, l, attack.TLS) }()
			var conns []net.Conn
			var heard sync.WaitGroup
			for range connections {
				conn := l.Dial()
				if attack.TLS {
					conn = tls.Client(conn, mailtest.ClientTLS())
				}
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
				io.WriteString(conn, attack.Says)
			}
			each := (inUse() - before) / connections
			t.Logf("%d KiB sent, %d KiB held by each of %d connections", len(attack.Says)>>10, each, connections)
			if each > attack.Most {
				t.Errorf("%d KiB held by each connection, want at most %d", each, attack.Most)
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
