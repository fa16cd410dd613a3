package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// patience is the longest time for any answer.
const patience = 60 * time.Second

// clientTLS does not verify the certificate and never resumes: the client's work should
// be small, and each connection full work for the server. All servers use the same key
// exchange: not all support ML-KEM, which costs more.
var clientTLS = &tls.Config{
	InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
	CurvePreferences: []tls.CurveID{tls.X25519},
}

// imapClient is one connection of a mail client.
type imapClient struct {
	conn net.Conn
	r    *bufio.Reader
}

// dial connects, does TLS and reads the greeting.
func dial(port int) (*imapClient, error) {
	raw, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), patience)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, clientTLS)
	c := &imapClient{conn: conn, r: bufio.NewReaderSize(conn, 4<<10)}
	greeting, err := c.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting %q", greeting)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// do sends a command and reads up to its tagged reply, which it returns.
func (c *imapClient) do(tag, command string) (string, error) {
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		return "", err
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if reply, ok := strings.CutPrefix(line, tag+" "); ok {
			return strings.TrimSpace(reply), nil
		}
	}
}

func (c *imapClient) mustDo(tag, command string) error {
	reply, err := c.do(tag, command)
	if err == nil && !strings.HasPrefix(reply, "OK") {
		err = fmt.Errorf("%s: %s", strings.Fields(command)[0], reply)
	}
	return err
}

func (c *imapClient) login(user, password string) error {
	return c.mustDo("a", "LOGIN "+user+" "+password)
}

// close logs out and closes the connection.
func (c *imapClient) close() {
	c.do("z", "LOGOUT") // mail programs that do not wait for the reply close as well
	c.conn.Close()
}

// account returns the name of the i-th account.
func account(i int) string { return fmt.Sprintf("u%03d@%s", i, domain) }

// once is a complete session without content: connection, TLS, login, logout.
func once(port int, user string) error {
	c, err := dial(port)
	if err != nil {
		return err
	}
	defer c.close()
	return c.login(user, password)
}

// loginTimes returns the times from LOGIN to its reply, one client after the other.
func loginTimes(port, n int) (times []time.Duration, err error) {
	for i := range n {
		// People do not log in one right after the other. Without a pause the server
		// would still clean up after the last login during this one.
		time.Sleep(10 * time.Millisecond)
		c, err := dial(port)
		if err != nil {
			return nil, err
		}
		begun := time.Now()
		err = c.login(account(i%knownAccounts), password)
		times = append(times, time.Since(begun))
		c.close()
		if err != nil {
			return nil, err
		}
	}
	return times, nil
}

// loginsFor lets this number of clients log in and out for a while, and returns the
// number of logins and the time.
func loginsFor(port, clients int, window time.Duration) (logins int64, took time.Duration, err error) {
	return repeat(clients, window, func(client, turn int) error {
		return once(port, account((client+turn*clients)%knownAccounts))
	})
}

// repeat lets each client do something repeatedly for a while, and returns how often it
// was done, and the time.
func repeat(clients int, window time.Duration, do func(client, turn int) error) (times int64, took time.Duration, err error) {
	var wg sync.WaitGroup
	var count atomic.Int64
	failures := make(chan error, clients)
	begun := time.Now()
	for i := range clients {
		wg.Go(func() {
			for turn := 0; time.Since(begun) < window; turn++ {
				if err := do(i, turn); err != nil {
					failures <- err
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	took = time.Since(begun)
	select {
	case err := <-failures:
		return 0, 0, err
	default:
		return count.Load(), took, nil
	}
}

// fetchSpeed fetches the large message this number of times and returns MB/s.
func fetchSpeed(port, n int) (float64, error) {
	c, err := dial(port)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if err := c.login(account(0), password); err != nil {
		return 0, err
	}
	buffer := make([]byte, 64<<10)
	var took time.Duration
	for range n {
		c.conn.SetDeadline(time.Now().Add(patience))
		begun := time.Now()
		if _, err := io.WriteString(c.conn, "f FETCH 1 BODY[]\r\n"); err != nil {
			return 0, err
		}
		line, err := c.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if !strings.HasSuffix(line, fmt.Sprintf("{%d}\r\n", messageSize)) {
			return 0, fmt.Errorf("FETCH: %q", line)
		}
		if got, err := io.CopyBuffer(discard{}, io.LimitReader(c.r, messageSize), buffer); err != nil || got != messageSize {
			return 0, fmt.Errorf("FETCH: %d octets came: %w", got, errors.Join(err, io.ErrUnexpectedEOF))
		}
		for !strings.HasPrefix(line, "f ") {
			if line, err = c.r.ReadString('\n'); err != nil {
				return 0, err
			}
		}
		took += time.Since(begun)
	}
	return float64(n) * messageSize / 1e6 / took.Seconds(), nil
}

// discard is io.Discard without its own buffer.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// guess tries this number of wrong passwords for one account at the same instant, and
// waits until each has any answer.
func guess(port int, user string, n int) error {
	clients := make([]*imapClient, n)
	for i := range clients {
		c, err := dial(port)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		clients[i] = c
	}
	start := make(chan struct{})
	var wg sync.WaitGroup
	var accepted atomic.Int64
	for i, c := range clients {
		wg.Go(func() {
			<-start
			if c.login(user, fmt.Sprintf("wrong-%d", i)) == nil {
				accepted.Add(1)
			}
		})
	}
	close(start)
	wg.Wait()
	if n := accepted.Load(); n > 0 {
		return fmt.Errorf("%d wrong passwords were accepted", n)
	}
	return nil
}

// holder is a session that idles for a while.
type holder interface {
	// stillThere ends the idling and checks the session.
	stillThere() error
}

// hold begins a session of one of the idleKinds.
func hold(kind string, port int, user string) (holder, error) {
	if kind == "sent" {
		c, err := dialSMTP(port, user)
		if err == nil {
			err = c.send()
		}
		return c, err
	}
	c, err := dial(port)
	if err == nil {
		err = c.login(user, password)
	}
	if err == nil && kind == "fetched" {
		err = c.mustDo("f", "FETCH 2 BODY[]")
	}
	if err == nil {
		err = c.idle()
	}
	return c, err
}

// runHold is a process that opens this number of sessions, lets them idle, reports this,
// and keeps them until its input ends.
func runHold(kind string, port, sessions int) error {
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	held := make([]holder, sessions)
	for i := range held {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			h, err := hold(kind, port, account(i%knownAccounts))
			if err != nil {
				failed.Store(&err)
				return
			}
			held[i] = h
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	// All must still be there; otherwise there is no figure.
	for i, h := range held {
		if err := h.stillThere(); err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
	}
	fmt.Println("all there")
	return nil
}

// stillThere ends IDLE.
func (c *imapClient) stillThere() error {
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, "DONE\r\n"); err != nil {
		return err
	}
	if line, err := c.r.ReadSlice('\n'); err != nil || !bytes.HasPrefix(line, []byte("i OK")) {
		return fmt.Errorf("after IDLE: %q: %w", line, err)
	}
	return nil
}

// stillThere submits another mail.
func (c *smtpClient) stillThere() error { return c.send() }

// idle begins IDLE.
func (c *imapClient) idle() error {
	if _, err := io.WriteString(c.conn, "i IDLE\r\n"); err != nil {
		return err
	}
	line, err := c.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+") {
		err = fmt.Errorf("IDLE: %q", line)
	}
	return err
}
