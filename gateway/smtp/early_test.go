package smtp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
	"congthu/gateway/smtp/wire"
	"congthu/gateway/upstream"
)

// A command has 2,048 octets, before the login as after it, and AUTH before it 16 KiB;
// behind these the connection ends.
func TestACommandBeforeLoginHasABound(t *testing.T) {
	g := start(t, nil)
	c := g.connect()
	c.do("NOOP "+strings.Repeat("x", wire.MaxCommand-len("NOOP ")), "250")
	c.do("NOOP "+strings.Repeat("x", wire.MaxCommand-len("NOOP ")+1), "500 5.5.2")
	c.do("NOOP "+strings.Repeat("x", frontend.MaxCommand-len("NOOP \r\n")), "500 5.5.2")
	c.send("NOOP " + strings.Repeat("x", frontend.MaxCommand-len("NOOP \r\n")+1) + "\r\n")
	c.want("500 5.5.2")
	c.closed()
	c = g.connect()
	c.do("AUTH LOGIN "+encode(strings.Repeat("x", 8000)), "334")
	c.do(strings.Repeat("A", 12_000), "500 5.5.2")
	c.closed()
	c = g.connect()
	c.do("AUTH PLAIN "+plain("", owner, password), "235")
	c.do("NOOP "+strings.Repeat("x", wire.MaxCommand-len("NOOP ")), "250")
	for _, n := range []int{wire.MaxCommand - len("NOOP ") + 1, 60_000, 1 << 20} {
		c.do("NOOP "+strings.Repeat("x", n), "500 5.5.2")
	}
	c.do("NOOP", "250")
	if n := len(g.guard.asked()); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
}

// One that is not logged in loses its place to another when those are too many, and is
// told; one that is logged in keeps it.
func TestAPlaceBeforeLoginCanBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &mailtest.SMTP{Accounts: map[string]string{owner: password}}
		defer fake.Close()
		limiter := &frontend.Limiter{Early: 1}
		server := newServer(&guard{}, nil)
		server.Upstream, server.Limiter = &upstream.Server{Dial: fake.Dial}, limiter
		l := newMemory()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- server.Serve(ctx, l, false) }()
		near, far := net.Pipe()
		l.conns <- far
		heard := make(chan string)
		go func() {
			all, _ := io.ReadAll(near)
			heard <- string(all)
		}()
		synctest.Wait()
		began := time.Now()
		place, _ := limiter.Enter(netip.MustParseAddr("192.0.2.1"), slog.New(slog.DiscardHandler), func() { t.Error("the newcomer is displaced") })
		if all := <-heard; !strings.Contains(all, "\r\n421 ") || time.Since(began) > 2*time.Second {
			t.Errorf("the client read %q after %v", all, time.Since(began))
		}
		place.Leave()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	g := start(t, func(g *gateway) { g.Limiter = &frontend.Limiter{Early: 1} })
	c := g.connect()
	c.do("AUTH PLAIN "+plain("", owner, password), "235")
	place, _ := g.Limiter.Enter(netip.MustParseAddr("192.0.2.1"), slog.New(slog.DiscardHandler), func() {})
	c.do("NOOP", "250")
	place.Leave()
}
