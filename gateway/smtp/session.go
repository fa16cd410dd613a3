package smtp

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/relay"
	"congthu/gateway/upstream"
)

// session is a client that is logged in. See the package's comment for who owns it.
type session struct {
	server  *Server
	name    string // of the gateway
	account auth.Name
	log     *slog.Logger
	carried frontend.Carriage

	client, mail end // the two ends: mail is the mail server
	quiet        *relay.Quiet
	timer        *time.Timer

	// What the server owes, and what the client's octets are.
	expected []expected
	state    state
	blocked  bool // the command that the client has said waits for the replies before it
	leaving  bool // QUIT was said: nothing more is read
	over     bool // the last word is written, or about to be
	told     bool // so is everybody else
	why      error

	chunking bool      // the server offered CHUNKING (RFC 3030)
	size     int64     // the longest message that it takes; 0: it does not say
	heard    time.Time // the latest octet of the client
	talked   time.Time // the latest word to the server when it owed nothing, or from it

	transaction transaction
	message     *message // that the client is sending; nil between two
	messages    int      // that the server took

	fromClient, toClient int64

	mu       sync.Mutex
	kicked   bool // end at once
	draining bool // end when no transaction is open
	brief    bool // end at the next pause
	apart    bool // both ends are read, each by a goroutine: the session cannot be parked
}

// state is what the next octets of the client are.
type state uint8

const (
	commands   state = iota
	skipping         // the rest of a line that is too long
	header           // of a message, held until it is checked
	opening          // nothing: DATA was said to the server
	body             // of a message, passed on
	swallowing       // of a message that nobody takes
	finishing        // nothing: the server has the message
	chunk            // of a message that comes by BDAT
)

// transaction is what the server knows of one (RFC 5321 section 3.3).
type transaction struct {
	open       bool
	sender     string   // empty: a bounce
	recipients []string // that it accepted
}

// kind is what a reply is to.
type kind uint8

const (
	toOther kind = iota
	toMail
	toRcpt
	toReset // RSET and HELO
	toEhlo
	toQuit
	toData    // ours
	toMessage // the end of it
	toPiece   // of a chunk: not the client's
	toChunk   // the last piece of one
	toNothing // of the client's: NOOP and RSET of ours
)

// expected is a reply that has its turn: the server's, or one of ours.
type expected struct {
	kind    kind
	verb    string
	address string // of MAIL and RCPT
	own     string // a reply of ours, which waits for those before it
}

const (
	// pause is how long both ends are quiet before the session is parked.
	pause = 100 * time.Millisecond
	// maxExpected is how many replies the server may owe: what it says meanwhile has to
	// find room in the kernel.
	maxExpected = 50
	// writeTimeout is the longest that a client may take to read a reply.
	writeTimeout = time.Minute
	// noopEvery keeps the server's session while a header is held, for maxHold.
	noopEvery = 30 * time.Second
	maxHold   = 5 * time.Minute
	// maxLastWords is what is swallowed, at the end of a session, of a client that is not
	// sending a message.
	maxLastWords = 64 << 10
	// maxDrain is what is swallowed of a message that nobody takes, where the server names
	// no size.
	maxDrain = 64 << 20
	minDrain = 1 << 20
)

// How long a client waits, at least (RFC 5321 section 4.5.3.2).
const (
	commandTimeout = 5 * time.Minute  // sections 4.5.3.2.2 and 4.5.3.2.3
	blockTimeout   = 3 * time.Minute  // section 4.5.3.2.5
	dotTimeout     = 10 * time.Minute // section 4.5.3.2.6
)

// carry begins to carry a session.
func (s *Server) carry(c frontend.Carriage, name string, offered upstream.Extensions) frontend.Relay {
	now := time.Now()
	n := &session{
		server: s, name: name, account: c.Account, log: c.Log, carried: c, heard: now, talked: now,
		chunking: offered.Has("CHUNKING"), size: offered.Size(),
		client: end{conn: c.Client.Conn}, mail: end{conn: c.Server.Conn},
	}
	n.client.ahead(c.Client.Ahead)
	n.mail.ahead(c.Server.Ahead)
	n.client.conn.SetDeadline(time.Time{})
	n.mail.conn.SetDeadline(time.Time{})
	n.quiet = relay.NewQuiet(n.resume, n.client.conn, n.mail.conn)
	go n.run()
	return n
}

// listens reports whether the client may say something now.
func (s *session) listens() bool {
	return !s.blocked && !s.leaving && s.state != opening && s.state != finishing && s.client.err == nil
}

// owed reports whether the server owes a reply.
func (s *session) owed() bool { return len(s.expected) > 0 }

// expect notes that the server owes a reply.
func (s *session) expect(e expected) {
	if !s.owed() {
		s.talked = time.Now()
	}
	s.expected = append(s.expected, e)
}

// tell says a command to the server.
func (s *session) tell(command string, e expected) {
	s.mail.out = append(append(s.mail.out, command...), "\r\n"...)
	s.expect(e)
}

// say says a reply of ours to the client, in its turn.
func (s *session) say(reply string) {
	if s.owed() {
		s.expected = append(s.expected, expected{own: reply})
		return
	}
	s.client.out = append(s.client.out, reply...)
}

func (s *session) isKicked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked
}

// finish ends the session when all is written. The first reason stays.
func (s *session) finish(why error) {
	if !s.over {
		s.over, s.why = true, why
	}
}

// bid says the last words and ends the session: what the server still owes does not
// matter any more, nor does what is behind it.
func (s *session) bid(c code, text string, why error) {
	s.abandon(Abandoned, c.says(text), why)
	s.expected = nil
	s.say(line(c.says(text)))
	s.finish(why)
}

// idle reports whether the session is between two transactions, and nothing is owed.
func (s *session) idle() bool {
	return s.state == commands && !s.owed() && !s.transaction.open && s.message == nil && len(s.client.in()) == 0
}

// ordered reports whether another goroutine wants the end of the session, now that it is
// idle or not.
func (s *session) ordered(idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked || idle && (s.draining || s.brief && time.Since(s.heard) >= pause)
}

// orders does what other goroutines want.
func (s *session) orders() {
	if s.over || !s.ordered(s.idle()) {
		return
	}
	if s.isKicked() {
		s.bid(ended, "This session was ended", relay.ErrKicked)
	} else {
		s.bid(ended, string(frontend.ShuttingDown), nil)
	}
}

// order gives one.
func (s *session) order(set *bool, now bool) {
	s.mu.Lock()
	*set = true
	if now || s.apart {
		s.client.conn.SetReadDeadline(past)
		s.mail.conn.SetReadDeadline(past)
	}
	if now {
		s.client.conn.SetWriteDeadline(past)
		s.mail.conn.SetWriteDeadline(past)
	}
	s.mu.Unlock()
	s.wake()
}

// Kick implements [frontend.Relay].
func (s *session) Kick() { s.order(&s.kicked, true) }

// KickWhenQuiet implements [frontend.Relay].
func (s *session) KickWhenQuiet() { s.order(&s.brief, false) }

// Drain ends the session when no transaction is open, or when it is over.
func (s *session) Drain() { s.order(&s.draining, false) }

// due is when something has to be done though nobody says anything.
func (s *session) due() time.Time {
	at := s.heard.Add(cmp.Or(s.server.CommandTimeout, commandTimeout))
	if s.owed() {
		at = s.talked.Add(s.forServer())
	}
	if s.holds() {
		if noop := s.talked.Add(noopEvery); noop.Before(at) {
			at = noop
		}
	}
	return at
}

// forServer is how long the server may take.
func (s *session) forServer() time.Duration {
	if s.message != nil && s.message.whole() && s.state != opening {
		return dotTimeout
	}
	return commandTimeout
}

// holds reports whether a header is held, so that the server hears nothing of its client.
func (s *session) holds() bool {
	return s.message != nil && s.message.isHeld() && !s.owed() && time.Since(s.message.began) < maxHold
}

// clock does what is due.
func (s *session) clock() {
	now := time.Now()
	switch {
	case s.over:
	case s.owed():
		if now.Sub(s.talked) >= s.forServer() {
			s.lose(errSilent)
		}
	case s.listens() && now.Sub(s.heard) >= cmp.Or(s.server.CommandTimeout, commandTimeout):
		s.bid(timedOut, "Too slow", os.ErrDeadlineExceeded)
	case s.holds() && now.Sub(s.talked) >= noopEvery:
		s.tell("NOOP", expected{kind: toNothing})
	}
}

var (
	errSilent  = errors.New("the mail server does not answer")
	errStrange = errors.New("the mail server gave a strange reply")
	errReset   = errors.New("given up by the client")
)

// close closes both ends.
func (s *session) close() {
	if s.mail.err == nil && !s.leaving {
		s.mail.conn.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(s.mail.conn, "QUIT\r\n") // nobody waits for the answer
	}
	s.mail.abort()
	if s.client.err == nil && (!s.leaving || len(s.client.in()) > 0) {
		wait, most := time.Second, int64(maxLastWords)
		if s.state != commands {
			wait, most = 10*time.Second, s.drainSize() // it may be sending a message
		}
		if s.patience() < wait {
			wait = time.Second
		}
		s.client.linger(most, wait, func(until time.Time) { s.arm(&s.client, until) })
	}
	s.client.conn.Close()
	s.done()
}

// drainSize is how much of a message is swallowed: as much as the server takes.
func (s *session) drainSize() int64 { return max(cmp.Or(s.size, maxDrain), minDrain) }

// done tells the end, once.
func (s *session) done() {
	if s.told {
		return
	}
	s.told = true
	s.client.release()
	s.mail.release()
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.quiet.Close()
	why := s.why
	if errors.Is(why, io.EOF) || errors.Is(why, net.ErrClosed) {
		why = nil
	}
	s.carried.Done(s.log.With("messages", s.messages), relay.Result{FromClient: s.fromClient, FromUpstream: s.toClient, Err: why})
}
