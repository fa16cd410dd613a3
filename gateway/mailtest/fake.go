package mailtest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// Step is a point of the protocol at which a server can be told to misbehave:
// "greeting", "tls" (before the handshake), the name of a command in upper case
// ("EHLO", "LOGIN", ...), or one of the steps that the servers document.
type Step string

// Misdeed is what a server does at a step in place of the right thing. The zero
// Misdeed is the right thing.
type Misdeed struct {
	// Wait is a channel to wait for, until the server is closed. It comes before
	// all else.
	Wait <-chan struct{}
	// Delay comes next.
	Delay time.Duration
	// Say is written in place of the answer, as it is, and the dialogue goes on.
	// The tag of an IMAP command stands for "%TAG%".
	Say string
	// Close closes the connection, after Say if there is any.
	Close bool
	// Hang says nothing more and keeps the connection open.
	Hang bool
}

// Verdicts counts the passwords of one name that a server was asked to judge.
type Verdicts struct{ Right, Wrong int }

// fake is what the servers have in common: listening, and misbehaving.
type fake struct {
	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
	closed   chan struct{}
	verdicts map[string]Verdicts
	steps    []Step
	headers  []*proxyproto.Header
}

func (f *fake) init() {
	if f.closed == nil {
		f.closed = make(chan struct{})
		f.conns = make(map[net.Conn]struct{})
		f.verdicts = make(map[string]Verdicts)
	}
}

// listen starts a server on a free loopback port and returns its address.
func (f *fake) listen(serve func(net.Conn)) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	f.mu.Lock()
	f.init()
	f.listener = l
	f.mu.Unlock()
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.take(conn, serve)
		}
	})
	return l.Addr().String(), nil
}

// dial connects to the server in memory, through net.Pipe.
func (f *fake) dial(serve func(net.Conn)) net.Conn {
	near, far := net.Pipe()
	f.take(far, serve)
	return near
}

func (f *fake) take(conn net.Conn, serve func(net.Conn)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.init()
	select {
	case <-f.closed:
		conn.Close()
		return
	default:
	}
	f.conns[conn] = struct{}{}
	f.wg.Go(func() {
		defer func() {
			conn.Close()
			f.mu.Lock()
			delete(f.conns, conn)
			f.mu.Unlock()
		}()
		serve(conn)
	})
}

// introduced reads the PROXY header of a connection; nil when there is none, for
// which it waits shorter than real servers do (3 s and 5 s).
func (f *fake) introduced(conn net.Conn) net.Conn {
	proxied := proxyproto.NewConn(conn, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(time.Second))
	header := proxied.ProxyHeader()
	if header == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.headers = append(f.headers, header)
	return proxied
}

// Headers returns the PROXY headers of all connections, in order.
func (f *fake) Headers() []*proxyproto.Header {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*proxyproto.Header(nil), f.headers...)
}

// Close ends the server and all its connections, and waits for them.
func (f *fake) Close() error {
	f.mu.Lock()
	f.init()
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	if f.listener != nil {
		f.listener.Close()
	}
	for conn := range f.conns {
		conn.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
	return nil
}

// Cut closes all connections, and leaves the server listening.
func (f *fake) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		conn.Close()
	}
}

// Open returns how many connections there are.
func (f *fake) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}

// Verdicts returns what was judged for a name, spelt as it was asked.
func (f *fake) Verdicts(name string) Verdicts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.verdicts[name]
}

// Judged returns all that was judged, by name as it was asked.
func (f *fake) Judged() map[string]Verdicts {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]Verdicts, len(f.verdicts))
	for name, v := range f.verdicts {
		all[name] = v
	}
	return all
}

// Steps returns the steps gone through by all connections, in order.
func (f *fake) Steps() []Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Step(nil), f.steps...)
}

func (f *fake) judge(accounts map[string]string, name, password string) bool {
	want, known := accounts[name]
	right := known && want == password
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.verdicts[name]
	if right {
		v.Right++
	} else {
		v.Wrong++
	}
	f.verdicts[name] = v
	return right
}

// reach notes a step and does the misdeed that is asked for there. It reports
// whether the right thing is still to be done, and whether the dialogue goes on.
func (f *fake) reach(conn net.Conn, step Step, misbehave func(Step) Misdeed, say func(string)) (behave, goOn bool) {
	f.mu.Lock()
	f.steps = append(f.steps, step)
	f.mu.Unlock()
	if misbehave == nil {
		return true, true
	}
	m := misbehave(step)
	if m.Wait != nil {
		select {
		case <-m.Wait:
		case <-f.closed:
			return false, false
		}
	}
	if m.Delay > 0 {
		select {
		case <-time.After(m.Delay):
		case <-f.closed:
			return false, false
		}
	}
	if m.Say != "" {
		say(m.Say)
	}
	if m.Close {
		return false, false
	}
	if m.Hang {
		// Read on, so that neither side blocks and a hang-up is noticed.
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				return false, false
			}
		}
	}
	return m.Say == "", true
}

// At returns a function that misbehaves at one step only, every time.
func At(step Step, m Misdeed) func(Step) Misdeed {
	return func(s Step) Misdeed {
		if s == step {
			return m
		}
		return Misdeed{}
	}
}

// Once returns a function that misbehaves at one step, the first time only.
func Once(step Step, m Misdeed) func(Step) Misdeed {
	var once sync.Once
	return func(s Step) (now Misdeed) {
		if s == step {
			once.Do(func() { now = m })
		}
		return now
	}
}

// Script is what a dialogue file may set of a server: its answers to wrong and to right
// credentials, and what it does wrong.
type Script struct {
	Wrong, OK *string
	Misbehave *func(Step) Misdeed
}

// session is one connection of a server.
type session struct {
	server    *fake
	conn      net.Conn
	r         *bufio.Reader
	tls       *tls.Config
	misbehave func(Step) Misdeed
	secure    bool
	tag       string    // of the command that is answered, in IMAP
	read      io.Writer // if set, has every octet that is read, TLS taken off
}

// begin reads the PROXY header and makes the TLS handshake, where they come first. ok
// is false when the connection is over.
func (c *session) begin(proxied, implicit bool) (ok bool) {
	if proxied {
		if c.conn = c.server.introduced(c.conn); c.conn == nil {
			return false
		}
	}
	c.use(c.conn)
	return !implicit || c.handshake()
}

func (c *session) use(conn net.Conn) {
	c.conn = conn
	var from io.Reader = conn
	if c.read != nil {
		from = io.TeeReader(conn, c.read)
	}
	c.r = bufio.NewReader(from)
}

// handshake is the server's side of TLS; goOn is false when the connection is over.
func (c *session) handshake() (goOn bool) {
	if behave, goOn := c.at("tls"); !behave {
		return goOn
	}
	secured := tls.Server(c.conn, c.tls)
	if secured.Handshake() != nil {
		return false
	}
	c.secure = true
	c.use(secured)
	return true
}

// offersTLS reports whether the command that begins TLS is known.
func (c *session) offersTLS() bool { return c.tls != nil && !c.secure }

// greet says the greeting; goOn is false when the connection is over.
func (c *session) greet(greeting string) (goOn bool) {
	behave, goOn := c.at("greeting")
	if behave {
		c.say("%s", greeting)
	}
	return goOn
}

func (c *session) say(format string, args ...any) { fmt.Fprintf(c.conn, format+"\r\n", args...) }

// at is [fake.reach] of the connection.
func (c *session) at(step Step) (behave, goOn bool) {
	return c.server.reach(c.conn, step, c.misbehave, func(text string) {
		io.WriteString(c.conn, strings.ReplaceAll(text, "%TAG%", c.tag))
	})
}

// line reads a line, without its end.
func (c *session) line() (line string, ok bool) {
	line, err := c.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err == nil
}

// verdict judges complete credentials, between the steps "verdict" and "judged".
func (c *session) verdict(accounts map[string]string, name, password string) (right, behave, goOn bool) {
	if behave, goOn = c.at("verdict"); !behave {
		return false, behave, goOn
	}
	right = c.server.judge(accounts, name, password)
	behave, goOn = c.at("judged")
	return right, behave, goOn
}

// plain takes the credentials from a response of SASL PLAIN, which is asked for unless
// it came with the command. ok is false when the connection is over; malformed is a
// response of another form.
func (c *session) plain(response string, initial bool) (name, password string, malformed, ok bool) {
	if !initial {
		c.say("+ ")
		if response, ok = c.line(); !ok {
			return "", "", false, false
		}
	}
	raw, err := base64.StdEncoding.DecodeString(response)
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != 3 {
		return "", "", true, true
	}
	return parts[1], parts[2], false, true
}
