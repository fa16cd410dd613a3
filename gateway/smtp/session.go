package smtp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/relay"
	"congthu/gateway/smtp/wire"
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
	// maxLine bounds what is swallowed of one command.
	maxLine = 64 << 10
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

// flush writes what is to be written.
func (s *session) flush() {
	if !s.over {
		s.write(&s.mail, nil, blockTimeout)
	}
	if s.write(&s.client, nil, s.patience()) != nil && s.state != finishing {
		s.finish(s.client.err)
	}
}

// patience is how long a client may take to read.
func (s *session) patience() time.Duration {
	if s.isKicked() {
		return time.Second
	}
	return writeTimeout
}

func (s *session) isKicked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kicked
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
	at := s.heard.Add(or(s.server.CommandTimeout, commandTimeout))
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
	if s.state == finishing {
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
	case s.listens() && now.Sub(s.heard) >= or(s.server.CommandTimeout, commandTimeout):
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
		wait, most := time.Second, int64(maxLine)
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
func (s *session) drainSize() int64 { return max(or(s.size, maxDrain), minDrain) }

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

// replies takes what the server has said.
func (s *session) replies() {
	for !s.over {
		code, n, err := wire.ReadReply(s.mail.in())
		if err != nil {
			s.strange()
			return
		}
		if n == 0 {
			break
		}
		raw := string(s.mail.in()[:n])
		s.mail.use(n)
		s.reply(code, raw)
	}
	if s.mail.err != nil && !s.over {
		s.lose(s.mail.err)
	}
}

// reply takes one reply.
func (s *session) reply(code int, raw string) {
	s.talked = time.Now()
	var e expected
	asked := s.owed()
	if asked {
		e, s.expected = s.expected[0], s.expected[1:]
	}
	switch {
	case code == 421: // RFC 5321 section 3.8: it closes the connection
		s.refusedBy(e.verb, code, raw)
		s.abandon(Refused, &gosmtp.SMTPError{Code: code}, fmt.Errorf("the mail server says: %s", wire.Text([]byte(raw))))
		s.expected = nil
		s.client.out = append(s.client.out, raw...)
		s.finish(fmt.Errorf("the mail server: %.60q", raw))
		return
	case !asked || (code/100 == 3) != (e.kind == toData && code < 400):
		s.strange()
		return
	}
	if code >= 400 {
		s.refusedBy(e.verb, code, raw)
	}
	good := code/100 == 2
	switch e.kind {
	case toMail:
		if good {
			s.transaction = transaction{open: true, sender: e.address}
		}
	case toRcpt:
		if good {
			s.transaction.recipients = append(s.transaction.recipients, e.address)
		}
	case toReset:
		if good {
			s.reset()
		}
		if e.verb == "HELO" && good {
			raw = string(wire.FilterHello([]byte(raw), s.name))
		}
	case toEhlo:
		if good {
			s.reset()
			s.learn(raw)
			raw = string(wire.FilterHello([]byte(raw), s.name, s.server.limits()...))
		}
	case toQuit:
		if s.leaving = good; good {
			s.finish(nil)
		}
	case toData:
		s.dataReply(code, raw)
		raw = ""
	case toMessage:
		s.messageReply(code, raw)
	case toPiece:
		s.pieceReply(code, raw)
		raw = ""
	case toChunk:
		raw = s.chunkReply(code, raw)
	case toNothing:
		raw = ""
	}
	s.client.out = append(s.client.out, raw...)
	for len(s.expected) > 0 && s.expected[0].own != "" {
		s.client.out = append(s.client.out, s.expected[0].own...)
		s.expected = s.expected[1:]
	}
	if !s.owed() {
		s.expected, s.blocked = nil, false
	}
	s.blocked = s.blocked && len(s.expected) > 0
}

// learn notes what the server offers now.
func (s *session) learn(raw string) {
	s.chunking = false
	for keyword, text := range wire.Extensions([]byte(raw)) {
		switch keyword {
		case "CHUNKING":
			s.chunking = true
		case "SIZE":
			s.size = upstream.Extensions{"SIZE": strings.TrimPrefix(text[len(keyword):], " ")}.Size()
		}
	}
}

// reset is the end of a transaction without a message.
func (s *session) reset() {
	if s.message != nil {
		s.fail(&failure{result: Abandoned, code: notNow.basic, err: errReset})
	}
	s.transaction = transaction{}
}

// refusedBy notes a refusal of the server.
func (s *session) refusedBy(verb string, code int, raw string) {
	s.log.Info("mail server refused", "step", verb, "code", code, "reply", logged(wire.Text([]byte(raw))))
}

// strange is something that no server should say there.
func (s *session) strange() { s.lose(errStrange) }

// lose is the end of the connection to the server: coming back means to log in again.
func (s *session) lose(err error) {
	s.mail.err = err
	if s.isKicked() {
		s.bid(ended, "This session was ended", relay.ErrKicked)
		return
	}
	if s.leaving { // it has gone without a word
		s.client.out = append(s.client.out, "221 2.0.0 Bye\r\n"...)
		s.finish(nil)
		return
	}
	step := "no command"
	if s.owed() {
		step = s.expected[0].verb
	} else if s.message != nil {
		step = "message"
	}
	s.log.Warn("mail server lost", "step", step, "err", err)
	reply := notNow.says("Connection to the mail server lost; try again later")
	if err == errStrange {
		reply = strangeReply.says("The mail server gave a strange reply")
	}
	if s.message != nil || err == errStrange { // no permanent error: the message is not at fault
		s.client.out = append(s.client.out, line(reply)...)
	}
	s.abandon(ServerLost, reply, err)
	s.bid(serverGone, "Connection to the mail server lost; log in again", fmt.Errorf("the mail server was lost: %w", err))
}

// obey does what the client has said, as far as that can be done now.
func (s *session) obey() {
	for !s.over && s.mail.err == nil && s.step() {
	}
	if s.client.err == nil || s.over {
		return
	}
	// The client is gone, or listens only. Half a command is none, half a message too.
	switch {
	case s.state == commands && s.owed() && s.message == nil, s.state == opening && s.message.ended, s.state == finishing, s.leaving:
	default:
		s.abandon(Abandoned, notNow.says("Message incomplete"), s.client.err)
		s.finish(s.client.err)
	}
}

// step does one thing that the client has said; ok when there may be another one.
func (s *session) step() (ok bool) {
	switch s.state {
	case commands:
		return !s.leaving && s.command()
	case skipping:
		return s.skip()
	case header, body, swallowing:
		return s.octets()
	case chunk:
		return s.chunkOctets()
	}
	return false
}

// skip swallows the rest of a line.
func (s *session) skip() bool {
	in := s.client.in()
	_, n, err := wire.ReadCommand(in)
	if n > 0 {
		s.client.use(n)
		s.state = commands
		s.say(line(badData.says("Line too long")))
		return true
	}
	if err != nil {
		s.client.use(len(in))
	}
	return false
}

// command does one command.
func (s *session) command() bool {
	c, n, err := wire.ReadCommand(s.client.in())
	switch {
	case n == 0 && err != nil:
		s.state = skipping
		return true
	case n == 0:
		return false
	case len(s.expected) >= maxExpected:
		s.blocked = true
		return false
	case err == wire.ErrLong:
		s.client.use(n)
		s.say(line(badData.says("Line too long")))
		return true
	case err != nil:
		s.client.use(n)
		s.say(line(badData.says("A NUL, or a bare CR or LF, is not allowed")))
		return true
	case (c.Verb == "DATA" && c.Args == "" || c.Verb == "BDAT") && s.owed():
		// What becomes of the transaction has to be known.
		s.blocked = true
		return false
	}
	s.client.use(n)
	switch c.Verb {
	case "MAIL":
		s.mailFrom(c.Args)
	case "RCPT":
		s.rcpt(c)
	case "DATA":
		s.data(c)
	case "BDAT":
		s.bdat(c.Args)
	case "RSET", "HELO":
		s.tell(c.String(), expected{kind: toReset, verb: c.Verb})
	case "EHLO":
		s.tell(c.String(), expected{kind: toEhlo, verb: c.Verb})
	case "QUIT":
		s.tell(c.String(), expected{kind: toQuit, verb: c.Verb})
		s.leaving = true
	case "NOOP", "HELP", "VRFY", "EXPN", "ETRN":
		s.tell(c.String(), expected{verb: c.Verb})
	case "AUTH", "STARTTLS":
		s.say(line(wrongOrder.says("Already done")))
	default:
		s.say(line(notHere.says("Command not implemented")))
	}
	return true
}

// mailFrom is MAIL: its path is sent as it was read.
func (s *session) mailFrom(args string) {
	path, parameters, err := wire.ParseMail(args)
	switch err {
	case nil:
	case wire.ErrPath:
		s.say(line(badSender.says("Bad sender address syntax")))
		return
	default:
		s.say(line(badArgument.says(err.Error())))
		return
	}
	if path.Local != "" && path.Domain == "" {
		path.Domain = s.account.Domain()
	}
	address := path.Address()
	// Bounces and receipts have no sender (RFC 5321 section 4.5.5).
	if policy := s.server.sender(); address != "" && policy.Mode != auth.Off && !policy.Owns(s.account, address) {
		if policy.Mode == auth.Enforce {
			s.server.count(NotYours)
			s.log.Info("sender refused", "in", "MAIL", "address", tried(address))
			s.say(line(senderRefused.says("Sender address is not one of this account")))
			return
		}
		s.would("MAIL", address)
	}
	command := "MAIL FROM:" + path.String()
	for _, parameter := range parameters {
		keyword, _, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(keyword, "AUTH") { // RFC 4954 section 5: no client is to be trusted with it
			command += " " + parameter
		}
	}
	s.tell(command, expected{kind: toMail, verb: "MAIL", address: address})
}

// rcpt is RCPT, which goes as written.
func (s *session) rcpt(c wire.Command) {
	if most := s.server.MaxRecipients; most > 0 {
		n := len(s.transaction.recipients)
		for _, e := range s.expected {
			if e.kind == toRcpt {
				n++
			}
		}
		if n >= most {
			s.say(line(manyRcpts.says("Too many recipients")))
			return
		}
	}
	to := c.Args
	if len(to) > 3 && strings.EqualFold(to[:3], "TO:") {
		to = strings.TrimLeft(to[3:], " ")
	}
	s.tell(c.String(), expected{kind: toRcpt, verb: c.Verb, address: to})
}
