package smtp

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"time"

	"congthu/gateway/relay"
)

// run carries the session until it is parked, or has ended.
func (s *session) run() {
	defer s.recovered()
	for {
		s.replies()
		s.obey()
		s.clock()
		s.orders()
		s.flush()
		if s.over {
			s.close()
			return
		}
		if s.wait() {
			return
		}
	}
}

// recovered ends the session after a panic, which costs it and nothing else.
func (s *session) recovered() {
	if p := recover(); p != nil {
		s.carried.Panicked(p, debug.Stack())
		s.mail.abort()
		s.client.abort()
		s.done()
	}
}

// wait waits for either end; parked when somebody else goes on.
func (s *session) wait() (parked bool) {
	first, second, both := &s.client, &s.mail, s.listens()
	if s.owed() || !both {
		first, second = second, first
	}
	now := time.Now()
	if first.readUntil.Sub(now) < pause/2 {
		s.arm(first, now.Add(pause))
	}
	if s.fill(first) {
		if first == &s.client && s.state >= header {
			s.gather()
		}
		return false
	}
	now = time.Now()
	if quiet := now.Sub(s.heard); quiet < pause/2 && quiet >= 0 || now.Sub(s.talked) < pause/2 {
		return false // its time was set before that
	}
	if both && s.read(second, past) {
		return false
	}
	until := s.due().Sub(now)
	if until <= 0 {
		return false
	}
	s.client.release()
	s.mail.release()
	s.client.out, s.mail.out = nil, nil
	if s.message != nil {
		s.message.shrink()
	}
	if s.park(both, until) {
		return true
	}
	s.either(both, time.Now().Add(until))
	return false
}

// gather reads the records of a message that are here already, so that they go on in one
// piece.
func (s *session) gather() {
	for s.client.err == nil && s.client.w < len(s.client.buf) && s.read(&s.client, past) {
	}
}

// park lets the session wait without a goroutine. Nothing of the session is this
// goroutine's any more if it succeeds.
func (s *session) park(both bool, until time.Duration) (ok bool) {
	idle := s.idle()
	s.mu.Lock() // an order that comes later finds it parked
	defer s.mu.Unlock()
	if s.kicked || s.draining && idle || s.brief && idle || !s.quiet.Park(both, true) {
		return false
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(until, s.wake)
	} else {
		s.timer.Reset(until)
	}
	return true
}

// resume goes on with a session that is parked, since there is something to read.
func (s *session) resume(fromMail bool) {
	e := &s.client
	if fromMail {
		e = &s.mail
	}
	defer s.recovered()
	s.read(e, time.Now().Add(pause))
	s.run()
}

// wake goes on with a session that is parked.
func (s *session) wake() {
	if s.quiet.Take() {
		go s.run()
	}
}

// either waits for both ends where a session cannot be parked.
func (s *session) either(both bool, until time.Time) {
	idle := s.idle()
	s.mu.Lock() // an order that comes later ends the reads
	if s.kicked || idle && (s.draining || s.brief) {
		until = past
	}
	s.apart = true
	s.client.conn.SetReadDeadline(until)
	s.mail.conn.SetReadDeadline(until)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.fill(&s.mail)
		s.client.conn.SetReadDeadline(past)
	}()
	if both {
		s.fill(&s.client)
		s.mail.conn.SetReadDeadline(past)
	}
	<-done
	s.mu.Lock()
	s.apart = false
	s.mu.Unlock()
	s.client.readUntil, s.mail.readUntil = past, past
}

var past = time.Unix(1, 0)

// read reads what there is at one end; ok when there was something, or its end.
func (s *session) read(e *end, until time.Time) (ok bool) {
	s.arm(e, until)
	return s.fill(e)
}

// arm sets the time for a read, unless an order makes it end now.
func (s *session) arm(e *end, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kicked {
		until = past
	}
	e.readUntil = until
	e.conn.SetReadDeadline(until)
}

// fill reads once; ok when there was something, or the end.
func (s *session) fill(e *end) (ok bool) {
	if e.err != nil {
		return true
	}
	size := smallBuffer
	if e == &s.client && s.state >= header {
		size = largeBuffer
	}
	n, err := e.conn.Read(e.room(size))
	e.w += n
	if n > 0 && e == &s.client {
		s.heard = time.Now()
		s.fromClient += int64(n)
		s.carried.Moved(n, 0)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		e.err = err
	}
	return n > 0 || e.err != nil
}

// flush writes what is to be written.
func (s *session) flush() {
	if !s.over {
		s.write(&s.mail, nil, blockTimeout)
	}
	if err := s.write(&s.client, nil, s.patience()); err != nil && (s.message == nil || !s.message.whole()) {
		s.abandon(Abandoned, notNow.says("Message incomplete"), err)
		s.finish(err)
	}
}

// patience is how long a client may take to read.
func (s *session) patience() time.Duration {
	if s.isKicked() {
		return time.Second
	}
	return writeTimeout
}

// write writes what waits, and b behind it.
func (s *session) write(e *end, b []byte, limit time.Duration) error {
	switch {
	case len(e.out) == 0 && len(b) == 0:
		return nil
	case e == &s.mail && s.isKicked():
		e.err = relay.ErrKicked
		return e.err
	}
	if now := time.Now(); e.writeUntil.Sub(now) < limit || s.isKicked() {
		e.writeUntil = now.Add(limit)
		if !s.isKicked() {
			e.writeUntil = now.Add(2 * limit)
		}
		e.conn.SetWriteDeadline(e.writeUntil)
	}
	var err error
	if len(e.out) > 0 && len(b) <= largeBuffer-len(e.out) {
		e.out, b = append(e.out, b...), nil
	}
	n := len(e.out)
	if n > 0 {
		_, err = e.conn.Write(e.out)
		e.out = e.out[:0]
	}
	if err == nil && len(b) > 0 {
		_, err = e.conn.Write(b)
	}
	switch {
	case e == &s.client && err == nil:
		s.toClient += int64(n)
		s.carried.Moved(0, n)
	case e == &s.client:
		e.err = err
	case err != nil:
		s.lastWords()
	}
	return err
}

// lastWords hears what the server had to say before it stopped reading.
func (s *session) lastWords() {
	until := time.Now().Add(time.Second)
	for s.mail.err == nil && !s.over && s.read(&s.mail, until) {
		s.replies()
	}
	if s.mail.err == nil {
		s.mail.err = io.ErrClosedPipe
	}
	s.replies()
}
