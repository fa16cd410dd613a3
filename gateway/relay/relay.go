// Package relay carries bytes both ways between a client and a mail server once
// the login is done. It knows no protocol: IDLE, COMPRESS, APPEND of ten
// megabytes, a command of next year, all pass untouched.
//
// [Join] takes both connections over and returns at once; [Options].Done tells
// the end. Nobody has to keep a goroutine waiting for a pair, so how the relay
// waits is its own business: today by two goroutines with a small buffer each,
// and a larger one from a pool while much is flowing.
//
// Who owns what: each goroutine reads one connection and writes the other, and
// ends when its source ends or anything fails; the second to end closes both
// connections and calls Done. Whoever wants a pair to end (Kick, the idle timer,
// an error of one direction) only forces a time-out on both connections.
//
// A pair never ends with words: a BYE would land inside a literal or a DEFLATE
// stream. TLS clients get a close_notify (RFC 8446 section 6.1).
package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Side is one end of a pair.
type Side struct {
	// Conn is owned by the relay from now on. Half-close is passed on to it when
	// it has a CloseWrite method.
	Conn net.Conn
	// Ahead was read from Conn already; it goes to the other side first.
	Ahead []byte
}

// Options say what else a relay does. The zero Options are usable.
type Options struct {
	// Idle ends a pair on which nothing has moved for so long; 0 never.
	Idle time.Duration
	// Moved is told of octets that have reached the other side, as they do; it
	// must not block. Nil: nobody is.
	Moved func(fromClient, fromUpstream int)
	// Done is called once, when both connections are closed and no goroutine of
	// the pair but the calling one is left. Nil: nobody is.
	Done func(Result)
}

// Result is how a pair ended.
type Result struct {
	// FromClient and FromUpstream count the octets that reached the other side.
	FromClient, FromUpstream int64
	// Err is nil when both sides had ended by themselves, else the first reason:
	// ErrKicked, ErrIdle, or the failure of a connection.
	Err error
}

// Why a pair was ended from here.
var (
	ErrKicked = errors.New("ended by the gateway")
	ErrIdle   = errors.New("nothing moved for too long")
)

// Lingering is how long one direction may be quiet when the other has ended.
const Lingering = time.Minute

// Pair is two joined connections.
type Pair struct {
	client, upstream net.Conn
	options          Options

	fromClient, fromUpstream atomic.Int64
	begun                    time.Time
	moved                    atomic.Int64 // when something moved last, since begun
	running                  atomic.Int32 // directions

	mu    sync.Mutex
	ended bool
	err   error
	quiet time.Duration // the longest allowed; 0 for ever
	timer *time.Timer
}

// Join owns both connections from now on, clears their deadlines, and carries
// bytes both ways until both sides have ended, one has failed, or somebody calls
// Kick.
func Join(client, upstream Side, o Options) *Pair {
	p := &Pair{client: client.Conn, upstream: upstream.Conn, options: o, begun: time.Now()}
	for _, conn := range []net.Conn{client.Conn, upstream.Conn} {
		conn.SetDeadline(time.Time{})
		keepAlive(conn)
	}
	p.mu.Lock()
	p.allow(o.Idle)
	p.mu.Unlock()
	p.running.Store(2)
	go p.carry(client, upstream.Conn, "client", "upstream", func(n int) {
		p.fromClient.Add(int64(n))
		p.tell(n, 0)
	})
	go p.carry(upstream, client.Conn, "upstream", "client", func(n int) {
		p.fromUpstream.Add(int64(n))
		p.tell(0, n)
	})
	return p
}

// Kick ends the pair, at any time and from any goroutine; it does not wait. More
// calls, or one after the end, do nothing.
func (p *Pair) Kick() { p.end(ErrKicked) }

func (p *Pair) tell(fromClient, fromUpstream int) {
	if p.options.Moved != nil {
		p.options.Moved(fromClient, fromUpstream)
	}
}

// Buffers: an idle direction keeps smallBuffer octets; a larger one is borrowed
// from the first read that fills it until the first that would not.
const (
	smallBuffer = 1 << 10
	largeBuffer = 16 << 10 // a TLS record (RFC 8446 section 5.1)
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// carry moves one direction until its source has ended.
func (p *Pair) carry(from Side, to net.Conn, source, target string, count func(int)) {
	defer p.leave()
	write := func(b []byte) bool {
		p.touch()
		n, err := to.Write(b)
		if n > 0 {
			p.touch()
			count(n)
		}
		if err != nil {
			p.end(fmt.Errorf("write to %s: %w", target, err))
		}
		return err == nil
	}
	if len(from.Ahead) > 0 && !write(from.Ahead) {
		return
	}
	from.Ahead = nil
	acknowledge := quickAck(from.Conn)
	small := make([]byte, smallBuffer)
	var large *[largeBuffer]byte
	defer func() {
		if large != nil {
			largeBuffers.Put(large)
		}
	}()
	for {
		buf := small
		if large != nil {
			buf = large[:]
		}
		n, err := from.Conn.Read(buf)
		if n > 0 {
			acknowledge()
			if !write(buf[:n]) {
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			// Many clients leave without close_notify; the server sees an end
			// either way, and executes no half command.
			p.finish(to, target)
			return
		default:
			p.end(fmt.Errorf("read from %s: %w", source, err))
			return
		}
		switch {
		case large == nil && n == smallBuffer:
			large = largeBuffers.Get().(*[largeBuffer]byte)
		case large != nil && n < smallBuffer:
			largeBuffers.Put(large)
			large = nil
		}
	}
}

// finish passes an end on to the other side, and lets the other direction go on.
func (p *Pair) finish(to net.Conn, target string) {
	ok, err := closeWrite(to)
	switch {
	case err != nil:
		p.end(fmt.Errorf("end towards %s: %w", target, err))
	case !ok:
		p.end(nil)
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.ended && (p.quiet == 0 || p.quiet > Lingering) {
			p.touch()
			p.allow(Lingering)
		}
	}
}

// closeWrite ends the writing half of conn; ok is false where there is no such
// thing.
func closeWrite(conn net.Conn) (ok bool, err error) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return false, nil
	}
	if err := half.CloseWrite(); err != nil {
		return true, err
	}
	// A close_notify alone leaves TCP open, and some clients wait for that.
	if secured, isTLS := conn.(*tls.Conn); isTLS {
		return closeWrite(secured.NetConn())
	}
	return true, nil
}

func (p *Pair) touch() { p.moved.Store(int64(time.Since(p.begun))) }

// allow sets how long nothing may move. p.mu is held.
func (p *Pair) allow(quiet time.Duration) {
	p.quiet = quiet
	if quiet <= 0 {
		return
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(quiet, p.look)
		return
	}
	p.timer.Reset(quiet)
}

// look ends the pair if nothing has moved for too long.
func (p *Pair) look() {
	p.mu.Lock()
	left := p.quiet - (time.Since(p.begun) - time.Duration(p.moved.Load()))
	if left > 0 && !p.ended {
		p.timer.Reset(left)
	}
	p.mu.Unlock()
	if left <= 0 {
		p.end(ErrIdle)
	}
}

var past = time.Unix(1, 0)

// end makes both directions fail; the first reason stays.
func (p *Pair) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended, p.err = true, err
	p.client.SetDeadline(past)
	p.upstream.SetDeadline(past)
}

// leave is the end of one direction; the last one closes the connections.
func (p *Pair) leave() {
	if p.running.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	p.ended = true
	err := p.err
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.upstream.Close()
	p.client.Close()
	if p.options.Done != nil {
		p.options.Done(Result{FromClient: p.fromClient.Load(), FromUpstream: p.fromUpstream.Load(), Err: err})
	}
}

// keepAlive finds dead peers without waking phones too often: a client may be
// idle for half an hour (RFC 9051 section 5.4).
func keepAlive(conn net.Conn) {
	for {
		switch c := conn.(type) {
		case *net.TCPConn:
			c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4})
			return
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return
		}
	}
}
