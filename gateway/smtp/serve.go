package smtp

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// door is one call of Serve.
type door struct {
	*Server
	implicit   bool
	tls        *tls.Config
	extensions atomic.Pointer[upstream.Extensions]

	mu       sync.Mutex
	conns    map[*conn]func() // and how to end each at once
	draining bool
	wg       sync.WaitGroup
}

// Serve accepts connections until ctx ends: with TLS from the first octet if
// implicit (RFC 8314), with STARTTLS otherwise. Then it closes l, waits for
// messages under way up to DrainTimeout, and for everybody else up to Grace, tells
// them 421, and returns nil
// when all connections are closed. It may be called for several listeners.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	d := &door{Server: s, implicit: implicit, tls: frontend.TLS(s.TLSConfig, alpn...), conns: make(map[*conn]func())}
	d.extensions.Store(&upstream.Extensions{})
	refreshing, stopRefreshing := context.WithCancel(ctx)
	first := make(chan struct{})
	d.wg.Go(func() { d.refresh(refreshing, first) })
	stopClosing := context.AfterFunc(ctx, func() { frontend.Shut(l) })
	defer stopClosing()
	select { // nobody should be told less than the mail server offers
	case <-first:
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	err := frontend.Loop(ctx, l, s.logger().With("protocol", auth.SMTP), func(inner net.Conn) {
		d.wg.Go(func() { d.serve(context.WithoutCancel(ctx), inner) })
	})
	l.Close()
	stopRefreshing()
	d.drain()
	return err
}

// serve owns one connection.
func (d *door) serve(ctx context.Context, inner net.Conn) {
	source, id := frontend.Source(inner), frontend.ID()
	log := d.logger().With("session", id, "protocol", auth.SMTP, "source", source)
	c := newConn(inner, d.times())
	defer c.Close()
	defer func() {
		if p := recover(); p != nil {
			d.tellPanic(log, p, debug.Stack())
		}
	}()
	place, ok := d.Limiter.Enter(source.Addr(), log, c.displace)
	if !ok {
		if !d.implicit {
			d.refusals.Say(inner, "421 4.7.0 Too many connections") // RFC 5321 section 3.1
		}
		return
	}
	defer place.Leave()
	if d.Recorder != nil {
		d.Recorder.Opened(auth.SMTP)
		defer func() {
			d.Recorder.Relayed(auth.SMTP, c.received.Load(), c.sent.Load())
			d.Recorder.Closed(auth.SMTP)
		}()
	}
	c.place, c.gate.Place = place, place
	client := &session{server: d.Server, conn: c, ctx: ctx, id: id, source: source, log: log}
	d.enter(c, func() { c.abort(); client.abort() })
	defer d.leave(c)

	isAway := d.Away != nil && d.Away()
	if !d.implicit {
		if isAway {
			d.refusals.Say(inner, d.awayGreeting())
			return
		}
		if err := client.clear(); err != nil {
			log.Debug("no TLS", "err", err)
			return
		}
		c.mute = true
	}
	var err error
	frontend.OnFreshStack(func() { err = c.secure(ctx, d.tls) })
	if d.Recorder != nil {
		d.Recorder.RecordHandshake(auth.SMTP, err)
	}
	if err != nil {
		log.Debug("no TLS", "err", err)
		return
	}
	if isAway {
		d.refusals.Say(c, d.awayGreeting())
		return
	}
	// Serve returns when the connection is closed, Shutdown when go-smtp's
	// goroutine has ended as well.
	g := d.goSMTP(client)
	g.Serve(&single{conn: c})
	g.Shutdown(context.Background())
	client.data.Lock()
	defer client.data.Unlock()
	if client.account != "" {
		log := client.log
		if why := client.why(); why != "" {
			log = log.With("why", why)
		}
		log.Info("session ends", "from_client", c.received.Load(), "to_client", c.sent.Load(),
			"messages", client.messages, "seconds", int(time.Since(c.opened).Seconds()))
	}
}

// tellPanic tells of a panic that costs one connection.
func (d *door) tellPanic(log *slog.Logger, p any, stack []byte) {
	p, stack = frontend.OpenPanic(p, stack)
	log.Error("a session panicked", "panic", auth.PanicText(p), "stack", string(stack))
	if d.Recorder != nil {
		d.Recorder.Panicked(auth.SMTP)
	}
}

func (d *door) enter(c *conn, abort func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns[c] = abort
	if d.draining {
		c.drain()
	}
}

func (d *door) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

func (d *door) each(do func(c *conn, abort func())) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, abort := range d.conns {
		do(c, abort)
	}
}

// lastWords is how long a connection may take to end once it was told to.
const lastWords = 5 * time.Second

// drain lets messages under way come to their end, then ends everything, and
// waits for it.
func (d *door) drain() {
	timeout := max(or(d.DrainTimeout, 30*time.Second), 0)
	grace := min(d.Grace, timeout)
	done := make(chan struct{})
	go func() {
		d.wg.Wait()
		close(done)
	}()
	if grace > 0 && within(done, grace) {
		return
	}
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	d.each(func(c *conn, _ func()) { c.drain() })
	if !within(done, timeout-grace) {
		d.each(func(c *conn, _ func()) { c.kick() })
		if !within(done, lastWords) {
			d.each(func(_ *conn, abort func()) { abort() })
		}
	}
	<-done
}

func within(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
