package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// A protocol that the rules know is served, configured and named in one place each.
func TestEveryProtocolHasAnEntry(t *testing.T) {
	names := make(map[string]bool)
	for i, p := range auth.Protocols() {
		if len(services) <= i || services[i].Protocol != p {
			t.Fatalf("no entry %d for %s", i, p)
		}
		s := services[i]
		for _, name := range []string{s.sockets.starttls, s.sockets.implicit} {
			if name == "" || names[name] {
				t.Errorf("%s: the socket name %q is empty or another's", p, name)
			}
			names[name] = true
		}
		c := new(config.Config)
		if s.fixed != nil && len(s.fixed(c)) == 0 {
			t.Errorf("%s: no fixed settings", p)
		}
	}
	if len(services) != len(auth.Protocols()) {
		t.Errorf("%d entries for %d protocols", len(services), len(auth.Protocols()))
	}
}

// However many listeners there are, the mail server for submission is probed once, and
// each front end knows the result.
func TestTheMailServerIsAskedOnceForAllListeners(t *testing.T) {
	o := newOffice(t)
	second := freeAddress(t)
	o.settings = strings.Replace(o.settings, "smtp: { listen: [", fmt.Sprintf("smtp: { listen: [ { address: %q, tls: implicit },", second), 1)
	o.write("")
	o.open()
	o.sender()
	o.submit = second
	o.sender()
	eventually(t, "the probe", func() bool { return o.gateway.health[auth.SMTP].Load() != nil })
	if n := strings.Count(strings.ToUpper(strings.Join(o.smtp.Lines(), "\n")), "EHLO"); n != 1 {
		t.Errorf("the mail server was asked %d times, want once", n)
	}
}

// What the mail server offers is remembered for as long as the caller allows, of this
// server only, and a failure as well: a server that is down is not asked by each
// listener.
func TestExtensionsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int32
		fake := &mailtest.SMTP{}
		defer fake.Close()
		server := &upstream.Server{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return fake.Dial(ctx, network, address)
		}}
		down := &upstream.Server{Dial: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, errors.New("connection refused")
		}}
		e := newExtensions()
		asked := func(want int32) {
			t.Helper()
			if n := dials.Swap(0); n != want {
				t.Errorf("%d connections, want %d", n, want)
			}
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if known, err := e.ask(t.Context(), server, time.Minute); err != nil || len(known) == 0 {
					t.Errorf("%v, %v", known, err)
				}
			})
		}
		all.Wait()
		asked(1)
		time.Sleep(30 * time.Second)
		e.ask(t.Context(), server, time.Minute)
		asked(0)
		e.ask(t.Context(), server, 10*time.Second)
		asked(1)
		for range 3 {
			if _, err := e.ask(t.Context(), down, time.Minute); err == nil {
				t.Error("no error of a server that is down")
			}
		}
		asked(1)
		// One that gives up waiting has learned nothing of the server.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := e.ask(gone, server, 0); err == nil {
			t.Error("no error of a caller that has given up")
		}
		dials.Store(0)
		if _, err := e.ask(t.Context(), server, time.Minute); err != nil {
			t.Error(err)
		}
		asked(1)
	})
}
