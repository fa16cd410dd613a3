package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"congthu/gateway/mailtest"
)

var silent = slog.New(slog.DiscardHandler)

func TestALimiterCountsAllAndEachSource(t *testing.T) {
	l := &Limiter{Max: 4, PerSource: 2}
	var places []*Place
	for i, step := range []struct {
		from string
		ok   bool
	}{
		{"192.0.2.1", true},
		{"::ffff:192.0.2.1", true}, // the same address
		{"192.0.2.1", false},
		{"2001:db8::1", true},
		{"2001:db8::ffff:1", true}, // the same /64
		{"192.0.2.2", false},       // all are taken
	} {
		place, ok := l.Enter(netip.MustParseAddr(step.from), silent, nil)
		if ok != step.ok {
			t.Fatalf("step %d from %s: %v", i, step.from, ok)
		}
		if ok {
			places = append(places, place)
		}
	}
	places[3].Leave()
	if _, ok := l.Enter(netip.MustParseAddr("192.0.2.1"), silent, nil); ok {
		t.Error("a place of another source was given to one that has its own")
	}
	place, ok := l.Enter(netip.MustParseAddr("2001:db8::5"), silent, nil)
	if !ok {
		t.Fatal("the place that became free was given to nobody")
	}
	for _, place := range append(places[:3], place) {
		place.Leave()
	}
	if l.total != 0 || len(l.sources) != 0 {
		t.Errorf("%d connections and %d sources are left when all have gone", l.total, len(l.sources))
	}
}

func TestALimiterWithoutBoundsLetsEverybodyIn(t *testing.T) {
	for _, l := range []*Limiter{nil, {}, {PerSource: 1}} {
		for range 100 {
			addr := netip.Addr{} // which is no source
			if l == nil || l.PerSource == 0 {
				addr = netip.MustParseAddr("192.0.2.1")
			}
			if _, ok := l.Enter(addr, silent, nil); !ok {
				t.Fatalf("%+v refused somebody", l)
			}
		}
	}
}

func TestALimiterIsExactInAHurry(t *testing.T) {
	l := &Limiter{Max: 50, PerSource: 20}
	var mu sync.Mutex
	entered := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 200 {
		from := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}[i%4]
		wg.Go(func() {
			if _, ok := l.Enter(netip.MustParseAddr(from), silent, nil); ok {
				mu.Lock()
				defer mu.Unlock()
				entered[from]++
				entered[""]++
			}
		})
	}
	wg.Wait()
	for from, n := range entered {
		if from != "" && n > 20 || from == "" && n != 50 {
			t.Errorf("%d connections of %q entered", n, from)
		}
	}
}

func TestTheLogIsToldOfRefusalsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		l := &Limiter{PerSource: 1}
		for range 25 { // 25 seconds: at 0, 10 and 20
			l.Enter(netip.MustParseAddr("192.0.2.1"), log, nil)
			l.Enter(netip.MustParseAddr("192.0.2.1"), log, nil)
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "too many connections"); n != 3 || !strings.Contains(out.String(), "setting=limits.connections_per_source limit=1") {
			t.Errorf("told %d times: %s", n, &out)
		}
	})
}

// tired is a listener that fails some times before it gives a connection, and is
// closed after that.
type tired struct {
	net.Listener
	failures int
	closed   chan struct{}
	given    bool
}

func (l *tired) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("too many open files")
	}
	if !l.given {
		l.given = true
		one, _ := net.Pipe()
		return one, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func TestAListenerThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &tired{failures: 20, closed: make(chan struct{})}
		began, taken := time.Now(), 0
		done := make(chan error)
		go func() {
			done <- Loop(ctx, l, silent, func(c net.Conn) { taken++; c.Close() })
		}()
		time.Sleep(time.Minute)
		cancel()
		close(l.closed)
		if err := <-done; err != nil || taken != 1 {
			t.Errorf("%v, %d connections", err, taken)
		}
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("waited for %v", waited)
		}
		// Closing the listener from outside is an error.
		if err := Loop(t.Context(), l, silent, func(net.Conn) {}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
		// A pause does not outlast the context.
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if err := Loop(ctx, &tired{failures: 1}, silent, nil); err != nil {
			t.Errorf("%v", err)
		}
	})
}

func TestTheSourceOfAConnection(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if got := Source(one); got.IsValid() {
		t.Errorf("in memory: %v", got)
	}
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:25", "::ffff:192.0.2.1": "192.0.2.1:25", "2001:db8::1": "[2001:db8::1]:25",
	} {
		if got := Source(from{one, &net.TCPAddr{IP: net.ParseIP(address), Port: 25}}); got.String() != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if got := Source(from{one, &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}}); got.String() != "[fe80::1]:1" {
		t.Errorf("with a zone: %v", got)
	}
}

type from struct {
	net.Conn
	addr net.Addr
}

func (c from) RemoteAddr() net.Addr { return c.addr }

func TestAHandshakeForAnotherProtocolIsRefused(t *testing.T) {
	config := TLS(mailtest.ServerTLS(), "imap")
	for _, test := range []struct {
		offers []string
		max    uint16
		ok     bool
	}{
		{nil, 0, true}, {[]string{"imap"}, 0, true}, {[]string{"h2", "imap"}, 0, true},
		{[]string{"h2", "http/1.1"}, 0, false}, {nil, tls.VersionTLS11, false},
	} {
		client := mailtest.ClientTLS()
		client.NextProtos, client.MinVersion, client.MaxVersion = test.offers, tls.VersionTLS10, test.max
		c, s := net.Pipe()
		go func() {
			tls.Client(c, client).Handshake()
			c.Close()
		}()
		if err := tls.Server(s, config).Handshake(); (err == nil) != test.ok {
			t.Errorf("%q: %v", test.offers, err)
		}
		s.Close()
	}
	if id, other := ID(), ID(); id == other || len(id) != 16 {
		t.Errorf("%q and %q", id, other)
	}
}
