package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/mailtest"
	live "congthu/gateway/session"
	"congthu/gateway/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	owner    = "nguyen.van.a@congthu.test"
	password = "Mật khẩu 1"
)

// guard asks the mail server and adds no rule; what it was asked is remembered.
type guard struct {
	mu       sync.Mutex
	attempts []auth.Attempt
	// outcome, if set, overrules: the mail server is asked first where asks.
	outcome auth.Outcome
	asks    bool
	// judged, if set, is called when the mail server has judged and nobody has
	// been told.
	judged func()
}

func (g *guard) Attempt(ctx context.Context, a auth.Attempt) auth.Verdict {
	if ctx.Done() != nil {
		panic("the attempt can be cancelled by its client")
	}
	g.mu.Lock()
	g.attempts = append(g.attempts, a)
	outcome, asks, judged := g.outcome, g.asks, g.judged
	g.mu.Unlock()
	if outcome != auth.Accepted && !asks {
		return auth.Verdict{Outcome: outcome}
	}
	name, err := (&auth.Namer{Default: "congthu.test"}).Canonical(a.Login)
	if err != nil {
		return auth.Verdict{Outcome: auth.Malformed}
	}
	answer := a.Verify(ctx, name)
	if judged != nil {
		judged()
	}
	switch {
	case outcome != auth.Accepted:
		return auth.Verdict{Outcome: outcome, Name: name}
	case answer.Judgement == auth.JudgedRight:
		return auth.Verdict{Outcome: auth.Accepted, Name: name}
	case answer.Judgement == auth.JudgedWrong:
		return auth.Verdict{Outcome: auth.WrongPassword, Name: name}
	case answer.Judgement == auth.RefusedOtherwise:
		return auth.Verdict{Outcome: auth.Refused, Name: name}
	}
	return auth.Verdict{Outcome: auth.Unavailable, Name: name, Err: answer.Err}
}

func (g *guard) asked() []auth.Attempt {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.attempts)
}

// records is a Recorder.
type records struct {
	mu               sync.Mutex
	opened, closed   int
	handshakes, bad  int
	panics           int
	fromClient, sent int64
	results          []Result
}

func (r *records) do(f func()) { r.mu.Lock(); defer r.mu.Unlock(); f() }

func (r *records) Opened(auth.Protocol)   { r.do(func() { r.opened++ }) }
func (r *records) Closed(auth.Protocol)   { r.do(func() { r.closed++ }) }
func (r *records) Panicked(auth.Protocol) { r.do(func() { r.panics++ }) }
func (r *records) RecordHandshake(_ auth.Protocol, err error) {
	r.do(func() {
		r.handshakes++
		if err != nil {
			r.bad++
		}
	})
}
func (r *records) Relayed(_ auth.Protocol, in, out int64) {
	r.do(func() { r.fromClient += in; r.sent += out })
}
func (r *records) Submitted(result Result) { r.do(func() { r.results = append(r.results, result) }) }

func (r *records) submitted() (all []Result) {
	r.do(func() { all = slices.Clone(r.results) })
	return all
}

// gateway is the door under test, in front of a fake mail server.
type gateway struct {
	*Server
	t       *testing.T
	fake    *mailtest.SMTP
	guard   *guard
	records *records
	log     *bytes.Buffer

	doors              []bool // to serve, true for implicit TLS
	starttls, implicit string // addresses
	stop               func() // begins the end of Serve, and waits for it
}

// extensions are those of the mail server, where a test does not say.
var extensions = []string{"PIPELINING", "SIZE 10240000", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"}

// start starts a gateway. change may set fields of all its parts before.
func start(t *testing.T, change func(*gateway)) *gateway {
	t.Helper()
	g := &gateway{t: t, fake: &mailtest.SMTP{}, guard: &guard{}, records: &records{}, log: new(bytes.Buffer), doors: []bool{false, true}}
	var logging sync.Mutex
	g.Server = newServer(g.guard, g.records)
	g.Sessions = new(live.Registry)
	g.Log = slog.New(slog.NewTextHandler(lockedWriter{&logging, g.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g.fake.Accounts = map[string]string{owner: password}
	g.fake.Extensions = extensions
	if change != nil {
		change(g)
	}
	if g.Upstream == nil {
		g.Upstream = g.upstream()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	for _, implicit := range g.doors {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if implicit {
			g.implicit = l.Addr().String()
		} else {
			g.starttls = l.Addr().String()
		}
		serving.Go(func() {
			if err := g.Serve(ctx, l, implicit); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	g.stop = func() { cancel(); serving.Wait() }
	t.Cleanup(func() { g.stop(); g.fake.Close() })
	return g
}

// newServer is a server without a mail server.
func newServer(guard frontend.Guard, records *records) *Server {
	s := &Server{Server: frontend.Server{Hostname: "gateway.test", TLSConfig: mailtest.ServerTLS(), DrainTimeout: -1, Guard: guard}}
	if records != nil {
		s.Recorder, s.Counter = records, records
	}
	return s
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// upstream is the way to the fake, over TCP.
func (g *gateway) upstream() *upstream.Server {
	address, err := g.fake.Start()
	if err != nil {
		g.t.Fatal(err)
	}
	s := &upstream.Server{Address: address, Timeout: time.Minute}
	if g.fake.TLS != nil {
		s.TLS, s.TLSConfig = upstream.StartTLS, mailtest.ClientTLS()
	}
	return s
}

// client is a mail client that says what it is told, octet by octet.
type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

const patience = time.Minute // for a reply; never waited for when all is well

func (g *gateway) dial(address string) *client {
	g.t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return newClient(g.t, conn)
}

func newClient(t *testing.T, conn net.Conn) *client {
	conn.SetDeadline(time.Now().Add(patience))
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// greeted goes as far as a client under TLS that has said nothing yet.
func (g *gateway) greeted() *client {
	g.t.Helper()
	c := g.dial(g.implicit)
	c = newClient(g.t, tls.Client(c.conn, mailtest.ClientTLS()))
	c.want("220 gateway.test ESMTP")
	return c
}

// connect goes as far as a client under TLS that has said EHLO.
func (g *gateway) connect() *client {
	g.t.Helper()
	c := g.greeted()
	c.do("EHLO client.test", "250")
	return c
}

// login goes as far as a client that is logged in.
func (g *gateway) login() *client {
	g.t.Helper()
	c := g.connect()
	c.do("AUTH PLAIN "+plain("", owner, password), "235 2.7.0")
	return c
}

func plain(identity, name, password string) string {
	return encode(identity + "\x00" + name + "\x00" + password)
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("send %.60q: %v", text, err)
	}
}

// reply reads one whole reply.
func (c *client) reply() string {
	c.t.Helper()
	text, err := c.tryReply()
	if err != nil {
		c.t.Fatalf("read reply: %v (after %q)", err, text)
	}
	return text
}

func (c *client) tryReply() (text string, err error) {
	for {
		line, err := c.r.ReadString('\n')
		text += line
		if err != nil {
			return text, err
		}
		if len(line) < 4 || line[3] != '-' {
			return text, nil
		}
	}
}

func (c *client) want(prefix string) string {
	c.t.Helper()
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %q, want %q", got, prefix)
	}
	return got
}

// do sends a line and wants a reply.
func (c *client) do(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	got := c.reply()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("%.60q: got %q, want %q", line, got, prefix)
	}
	return got
}

// play plays a dialogue: lines with "C: " are sent, lines with "S: " are wanted.
func (c *client) play(dialogue string) {
	c.t.Helper()
	for line := range strings.Lines(dialogue) {
		line = strings.TrimSpace(line)
		if said, ok := strings.CutPrefix(line+" ", "C: "); ok {
			said = strings.TrimSuffix(said, " ")
			c.send(said + "\r\n")
		} else if wanted, ok := strings.CutPrefix(line, "S: "); ok {
			if got := c.reply(); !strings.HasPrefix(got, wanted) {
				c.t.Fatalf("got %q, want %q", got, wanted)
			}
		} else if line != "" {
			c.t.Fatalf("what is %q?", line)
		}
	}
}

// closed wants the connection to end here.
func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); len(rest) > 0 || isTimeout(err) {
		c.t.Fatalf("not closed: %q %v", rest, err)
	}
}

// envelope is a transaction up to DATA.
func (c *client) envelope() {
	c.t.Helper()
	c.do("MAIL FROM:<"+owner+">", "250")
	c.do("RCPT TO:<b@congthu.test>", "250")
}

// message is a transaction up to the final dot, with the reply to it.
func (c *client) message(text string) string {
	c.t.Helper()
	c.envelope()
	c.do("DATA", "354")
	c.send(text + ".\r\n")
	return c.reply()
}

const hello = "From: " + owner + "\r\nSubject: hello\r\n\r\nXin chào\r\n"

// delivered returns the messages that the mail server has.
func (g *gateway) delivered() []string {
	var all []string
	for _, m := range g.fake.Messages() {
		all = append(all, string(m.Data))
	}
	return all
}

func (g *gateway) wantDelivered(want ...string) {
	g.t.Helper()
	if got := g.delivered(); !slices.Equal(got, want) {
		g.t.Errorf("delivered %q, want %q", got, want)
	}
}

func say(text string) mailtest.Misdeed { return mailtest.Misdeed{Say: text + "\r\n"} }
