// Package relay carries bytes both ways between a client and a mail server once
// the login is done. It knows no protocol: IDLE, COMPRESS, APPEND of ten
// megabytes, a command of next year, all pass untouched.
//
// [Join] takes both connections over and returns at once; [Options].Done tells
// the end. A mail program holds a connection for hours on which nothing moves, so
// a quiet connection must cost next to nothing.
//
// Who owns what. Each of the two directions of a pair is owned by one goroutine
// at a time, which reads one connection and writes the other. When its source has
// been quiet for a second the goroutine parks the direction and ends: its socket
// then waits in one epoll set of the whole process (the idle poller), and a new
// goroutine takes the direction over when something can be read there, which may be
// the end or an error. The idle poller has one goroutine while there are pairs that
// have parked at least once. A parked pair has no goroutine, no buffer and no stack; what is left of
// it is its sockets, the state of TLS and this package's few words. A direction
// that cannot be parked, since there is no socket below it or no epoll, keeps its
// goroutine. The first direction whose source ends passes the end on, the second
// closes both connections and calls Done. To end a pair, Kick, the idle timer or an error of one
// direction forces a time-out on both connections, which ends the goroutines, and
// removes parked directions from the idle poller.
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
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Side is one end of a pair.
type Side struct {
	// Conn belongs to the relay from now on. If it has a CloseWrite method, the relay
	// passes a half-close on.
	Conn net.Conn
	// Ahead is data that was already read from Conn; it goes to the other side first.
	Ahead []byte
}

// Options are the settings of a relay. The zero Options are usable.
type Options struct {
	// Idle ends a pair after this time without data; 0: never.
	Idle time.Duration
	// Quiet is the time without data after which a direction is parked. Parking and
	// resuming cost some tens of microseconds, so an active dialogue should not be
	// parked. 0: 1 s.
	Quiet time.Duration
	// Moved is called with the number of octets that have just reached the other side.
	// It must not block. Nil: not called.
	Moved func(fromClient, fromUpstream int)
	// Done is called once, when both connections are closed and no goroutine of the
	// pair but the calling one exists. Nil: not called.
	Done func(Result)
}

// Result is how a pair ended.
type Result struct {
	// FromClient and FromUpstream count the octets that reached the other side.
	FromClient, FromUpstream int64
	// Err is nil if both sides ended by themselves, otherwise the first reason:
	// ErrKicked, ErrIdle, or the failure of a connection.
	Err error
}

// Reasons why the gateway ends a pair.
var (
	ErrKicked = errors.New("ended by the gateway")
	ErrIdle   = errors.New("nothing moved for too long")
)

// Lingering is the idle limit of one direction after the other has ended.
const Lingering = time.Minute

// Pair is two joined connections.
type Pair struct {
	options    Options
	directions [2]direction // from the client, from the upstream

	carried [2]atomic.Int64 // octets that reached the other side, by direction
	begun   time.Time
	moved   atomic.Int64 // time of the latest data, since begun

	mu           sync.Mutex
	active       int // directions that have not ended
	ended        bool
	err          error
	quiet        time.Duration // the idle limit; 0: none
	timer        *time.Timer
	parks        bool // uses the idle poller
	endWhenQuiet bool // ends at the next pause
}

// direction is one direction of a pair. Its fields belong to the goroutine that carries
// it, except state, which p.mu guards.
type direction struct {
	pair     *Pair
	number   int // index in pair.directions
	from, to net.Conn
	socket   socket // of from; without a raw connection the direction cannot be parked
	state    directionState
}

type directionState uint8

const (
	carried directionState = iota // by a goroutine
	parked
	over
)

// names are the names of the sources of the directions.
var names = [2]string{"client", "upstream"}

// Join takes over both connections, clears their deadlines, and carries bytes both ways
// until both sides have ended, one has failed, or Kick is called.
func Join(client, upstream Side, o Options) *Pair {
	if o.Quiet <= 0 {
		o.Quiet = time.Second
	}
	p := &Pair{options: o, begun: time.Now(), active: 2}
	p.directions[0] = direction{pair: p, number: 0, from: client.Conn, to: upstream.Conn}
	p.directions[1] = direction{pair: p, number: 1, from: upstream.Conn, to: client.Conn}
	for i := range p.directions {
		w := &p.directions[i]
		w.from.SetDeadline(time.Time{})
		keepAlive(w.from)
		w.socket.owner = w
		w.socket.raw, _ = rawConn(w.from)
	}
	p.mu.Lock()
	p.setIdleLimit(o.Idle)
	p.mu.Unlock()
	go p.directions[0].carry(client.Ahead)
	go p.directions[1].carry(upstream.Ahead)
	return p
}

// Kick ends the pair, at any time and from any goroutine; it does not wait. Further
// calls, and calls after the end, have no effect.
func (p *Pair) Kick() { p.end(ErrKicked) }

// KickWhenQuiet ends the pair at its next pause, when both sources have been quiet for
// Options.Quiet: most likely between two commands, and not within a reply. A pair that
// cannot be parked never counts as quiet.
func (p *Pair) KickWhenQuiet() {
	p.mu.Lock()
	p.endWhenQuiet = true
	quiet := p.isQuiet()
	p.mu.Unlock()
	if quiet {
		p.end(ErrKicked)
	}
}

// isQuiet reports whether no goroutine carries a direction. p.mu is held.
func (p *Pair) isQuiet() bool {
	return p.directions[0].state != carried && p.directions[1].state != carried
}

// Buffers: a carried direction keeps smallBuffer octets. It borrows a larger buffer
// from the first read that fills the small one until the first that would not.
const (
	smallBuffer = 1 << 10
	largeBuffer = 16 << 10 // a TLS record (RFC 8446 section 5.1)
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// carry moves the data of one direction, starting with the data read ahead, until its
// source has ended or is quiet.
func (w *direction) carry(ahead []byte) {
	if len(ahead) > 0 && !w.write(ahead) {
		w.done()
		return
	}
	if gone := w.waitForData(); gone {
		return
	}
	acknowledge := func() {}
	if w.number == 0 { // servers write complete replies
		acknowledge = quickAck(w.socket.raw)
	}
	small := smallBuffers.Get().(*[smallBuffer]byte)
	var large *[largeBuffer]byte
	defer func() {
		smallBuffers.Put(small)
		if large != nil {
			largeBuffers.Put(large)
		}
	}()
	for busy := false; ; {
		buf := small[:]
		if large != nil {
			buf = large[:]
		}
		n, err := w.from.Read(buf)
		if n > 0 {
			busy = true
			acknowledge()
			if !w.write(buf[:n]) {
				w.done()
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			// No data is lost: crypto/tls keeps a partly received record. The end of
			// the pair also arrives in this way.
			rest := w.park
			if busy {
				rest, busy = w.waitForData, false
			}
			if gone := rest(); gone {
				return
			}
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			// Many clients leave without close_notify; the server sees an end in both
			// cases, and executes no incomplete command.
			w.pair.passEnd(w.to, names[1-w.number])
			w.done()
			return
		default:
			w.pair.end(fmt.Errorf("read from %s: %w", names[w.number], err))
			w.done()
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

// waitForData gives the source some time to send data; gone means that the pair has
// ended.
func (w *direction) waitForData() (gone bool) {
	p := w.pair
	p.mu.Lock()
	if !p.ended && w.socket.raw != nil {
		w.from.SetReadDeadline(time.Now().Add(p.options.Quiet))
	}
	gone = p.ended
	p.mu.Unlock()
	if gone {
		w.done()
	}
	return gone
}

// park lets the direction wait without its goroutine; gone is false if it cannot be
// parked.
func (w *direction) park() (gone bool) {
	p := w.pair
	p.mu.Lock()
	if p.ended || w.socket.raw == nil {
		p.mu.Unlock()
		return w.waitForData()
	}
	defer p.mu.Unlock()
	if !p.parks {
		if err := poller.enter(); err != nil {
			w.socket.raw = nil
			w.from.SetReadDeadline(time.Time{})
			return false
		}
		p.parks = true
	}
	if err := poller.park(&w.socket); err != nil {
		w.socket.raw = nil
		w.from.SetReadDeadline(time.Time{})
		return false
	}
	w.state = parked
	if p.endWhenQuiet && p.isQuiet() {
		go p.end(ErrKicked) // p.mu is held
	}
	return true
}

// resume carries the direction again: its source has something, or has ended.
func (w *direction) resume(*socket) {
	p := w.pair
	p.mu.Lock()
	if w.state != parked {
		p.mu.Unlock()
		return // the pair was ended at the same time
	}
	w.state = carried
	p.mu.Unlock()
	w.carry(nil)
}

// write passes octets on and counts them.
func (w *direction) write(b []byte) bool {
	p := w.pair
	p.touch()
	n, err := w.to.Write(b)
	if n > 0 {
		p.touch()
		p.carried[w.number].Add(int64(n))
		if p.options.Moved != nil {
			var moved [2]int
			moved[w.number] = n
			p.options.Moved(moved[0], moved[1])
		}
	}
	if err != nil {
		p.end(fmt.Errorf("write to %s: %w", names[1-w.number], err))
	}
	return err == nil
}

// passEnd passes an end on to the other side; the other direction continues.
func (p *Pair) passEnd(to net.Conn, target string) {
	p.mu.Lock()
	last := p.active == 1
	p.mu.Unlock()
	if last {
		return // both connections are about to be closed, which has the same effect
	}
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
			p.setIdleLimit(Lingering)
		}
	}
}

// closeWrite closes the write half of conn; ok is false if conn has none.
func closeWrite(conn net.Conn) (ok bool, err error) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return false, nil
	}
	if err := half.CloseWrite(); err != nil {
		if errors.Is(err, syscall.ENOTCONN) {
			err = nil // the peer has gone
		}
		return true, err
	}
	// A close_notify alone keeps TCP open, and some clients wait for its end.
	if secured, isTLS := conn.(*tls.Conn); isTLS {
		return closeWrite(secured.NetConn())
	}
	return true, nil
}

func (p *Pair) touch() { p.moved.Store(int64(time.Since(p.begun))) }

// setIdleLimit sets the idle limit. p.mu is held.
func (p *Pair) setIdleLimit(quiet time.Duration) {
	p.quiet = quiet
	if quiet <= 0 {
		return
	}
	if p.timer == nil {
		p.timer = time.AfterFunc(quiet, p.checkIdle)
		return
	}
	p.timer.Reset(quiet)
}

// checkIdle ends the pair if it was idle for too long.
func (p *Pair) checkIdle() {
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

// end makes both directions fail; the first reason is kept.
func (p *Pair) end(err error) {
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return
	}
	p.ended, p.err = true, err
	for i := range p.directions {
		w := &p.directions[i]
		w.from.SetDeadline(past)
		if w.state == parked {
			poller.remove(&w.socket)
			w.state = over
			p.active--
		}
	}
	last := p.active == 0
	p.mu.Unlock()
	if last {
		go p.close()
	}
}

// done ends a carried direction; the last one closes the connections.
func (w *direction) done() {
	p := w.pair
	p.mu.Lock()
	w.state = over
	p.active--
	last := p.active == 0
	p.ended = p.ended || last // a pair that is being ended elsewhere is closed here
	p.mu.Unlock()
	if last {
		p.close()
	}
}

func (p *Pair) close() {
	p.mu.Lock()
	err := p.err
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.directions[1].from.Close()
	p.directions[0].from.Close()
	if p.parks {
		poller.leave()
	}
	if p.options.Done != nil {
		p.options.Done(Result{FromClient: p.carried[0].Load(), FromUpstream: p.carried[1].Load(), Err: err})
	}
}

// keepAlive detects dead peers without waking phones too often: a client may be idle
// for half an hour (RFC 9051 section 5.4).
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
