package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// mailSize is the size of each mail that is submitted.
const mailSize = 8 << 10

// The mails differ only in the account of their sender, which always has the same
// length, so that the server can check whether each has arrived unchanged.
var (
	mailHead = "From: " // followed by the account
	mailRest = sync.OnceValue(func() []byte {
		const header = "\r\nTo: b@congthu.test\r\nSubject: a mail of 8 KiB\r\nMessage-ID: <1@congthu.test>\r\n" +
			"Date: Tue, 24 Nov 2026 09:00:00 +0700\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
		line := strings.Repeat("x", 74) + "\r\n"
		body := strings.Repeat(line, mailSize/len(line)+1)
		used := len(mailHead) + len(account(0)) + len(header)
		return []byte(header + body[:mailSize-used-2] + "\r\n")
	})
)

// endOfData ends the mail (RFC 5321 section 4.1.1.4).
const endOfData = ".\r\n"

// mailTail is the part of a mail after its sender.
var mailTail = sync.OnceValue(func() []byte { return append(bytes.Clone(mailRest()), endOfData...) })

// mail returns a mail of an account as it is sent, including its end.
func mail(account string) []byte {
	return append([]byte(mailHead+account), mailTail()...)
}

// offered is the do-nothing server's reply to EHLO. A proxy may use any of it.
const offered = "250-nothing.congthu.test\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN LOGIN\r\n"

// mailbag counts the mails that have arrived.
type mailbag struct{ whole, damaged atomic.Int64 }

// doNothing is an SMTP server that answers at once: every password is right, and every
// mail is accepted, compared with what it must be, and dropped. The command COUNT
// returns the number of mails.
func (bag *mailbag) doNothing(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1<<10)
	say := func(text string) bool {
		_, err := io.WriteString(conn, text)
		return err == nil
	}
	ok := say("220 nothing.congthu.test ESMTP\r\n")
	for ok {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		verb, args, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(" "))
		switch strings.ToUpper(string(verb)) {
		case "EHLO":
			ok = say(offered)
		case "AUTH":
			asks := []string{"", ""} // for PLAIN without its initial response, and LOGIN
			switch fields := bytes.Fields(args); {
			case len(fields) == 2:
				asks = nil
			case len(fields) == 1 && bytes.EqualFold(fields[0], []byte("PLAIN")):
				asks = asks[:1]
			}
			for range asks {
				if !say("334 \r\n") {
					return
				}
				if _, err := r.ReadSlice('\n'); err != nil {
					return
				}
			}
			ok = say("235 2.7.0 Logged in\r\n")
		case "MAIL", "RCPT", "RSET", "NOOP":
			ok = say("250 2.0.0 Ok\r\n")
		case "DATA":
			if !say("354 Go ahead\r\n") {
				return
			}
			if !bag.take(r) {
				say("554 5.6.0 That is not what was sent\r\n")
				return
			}
			ok = say("250 2.0.0 Ok: queued as 1\r\n")
		case "COUNT":
			ok = say(fmt.Sprintf("250 %d %d\r\n", bag.whole.Load(), bag.damaged.Load()))
		case "QUIT":
			say("221 2.0.0 Bye\r\n")
			return
		default:
			ok = say("502 5.5.1 No\r\n")
		}
	}
}

// mails are buffers for one mail each: the memory of a server with thousands of sessions
// is not measured, but the machine must have it.
var mails = sync.Pool{New: func() any { b := make([]byte, mailSize+len(endOfData)); return &b }}

// take reads a mail, and reports whether it is complete and unchanged.
func (bag *mailbag) take(r io.Reader) bool {
	buffer := mails.Get().(*[]byte)
	defer mails.Put(buffer)
	if _, err := io.ReadFull(r, *buffer); err != nil {
		return false // an incomplete mail does not count
	}
	rest, begins := bytes.CutPrefix(*buffer, []byte(mailHead))
	if !begins || !bytes.Equal(rest[len("u000@"+domain):], mailTail()) {
		bag.damaged.Add(1)
		return false
	}
	bag.whole.Add(1)
	return true
}

// count asks the do-nothing server behind a plain port for the number of its mails.
func count(port int) (whole, damaged int64, err error) {
	conn, err := net.DialTimeout("tcp", loopback(strconv.Itoa(port)), patience)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "COUNT\r\n"); err != nil {
		return 0, 0, err
	}
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil { // the greeting
		return 0, 0, err
	}
	_, err = fmt.Fscanf(r, "250 %d %d\r\n", &whole, &damaged)
	return whole, damaged, err
}

// smtpClient is one connection of a mail client that sends. It waits for each reply
// before it sends the next command, as most mail programs do.
type smtpClient struct {
	conn     net.Conn
	r        *bufio.Reader
	envelope []string
	mail     []byte
}

// dialSMTP connects and logs in.
func dialSMTP(port int, user string) (*smtpClient, error) {
	raw, err := net.DialTimeout("tcp", loopback(strconv.Itoa(port)), patience)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, clientTLS)
	c := &smtpClient{conn: conn, r: bufio.NewReaderSize(conn, 1<<10), mail: mail(user)}
	c.envelope = []string{"MAIL FROM:<" + user + ">\r\n", "RCPT TO:<b@congthu.test>\r\n"}
	if err = c.reply("220"); err == nil {
		err = c.do("EHLO client.congthu.test\r\n", "250")
	}
	if err == nil {
		err = c.do("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))+"\r\n", "235")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// reply reads one reply, which must have the code.
func (c *smtpClient) reply(code string) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || string(line[:3]) != code {
			return fmt.Errorf("%q instead of %s", line, code)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

func (c *smtpClient) do(command, code string) error {
	if _, err := io.WriteString(c.conn, command); err != nil {
		return err
	}
	if err := c.reply(code); err != nil {
		return fmt.Errorf("%s: %w", strings.Fields(command)[0], err)
	}
	return nil
}

// send submits one mail.
func (c *smtpClient) send() error {
	c.conn.SetDeadline(time.Now().Add(patience))
	for _, command := range c.envelope {
		if err := c.do(command, "250"); err != nil {
			return err
		}
	}
	if err := c.do("DATA\r\n", "354"); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.mail); err != nil {
		return err
	}
	if err := c.reply("250"); err != nil {
		return fmt.Errorf("the mail: %w", err)
	}
	return nil
}

// close sends QUIT and closes the connection.
func (c *smtpClient) close() {
	c.do("QUIT\r\n", "221") // mail programs that do not wait for the reply close as well
	c.conn.Close()
}

// sendOnce is a complete session with one mail.
func sendOnce(port int, user string) error {
	c, err := dialSMTP(port, user)
	if err != nil {
		return err
	}
	defer c.close()
	return c.send()
}

// sendForAll submits a mail for every account, many at a time: nginx waits in each
// session for work that the server's system delays.
func sendForAll(port int) error {
	var all errgroup.Group
	all.SetLimit(50)
	for i := range knownAccounts {
		all.Go(func() error { return sendOnce(port, account(i)) })
	}
	return all.Wait()
}

// senders are clients that are connected and logged in.
func senders(port, n int) (clients []*smtpClient, err error) {
	for i := range n {
		c, err := dialSMTP(port, account(i%knownAccounts))
		if err != nil {
			return clients, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// submit is a peer's turn with mails: its speed, and its cost for the proxy. All
// accepted mails must have arrived.
func (b *bench) submit(i *instance, counter int, speed, cost measure, send func(client, turn int) error) error {
	const clients = 16
	before, _, err := count(counter)
	if err != nil {
		return err
	}
	var used, after time.Duration
	if i.process != nil {
		if used, err = i.process.cpu(); err != nil {
			return err
		}
	}
	n, took, err := repeat(clients, b.window, send)
	if err != nil {
		return err
	}
	if i.process != nil {
		if after, err = i.process.cpu(); err != nil {
			return err
		}
		b.results.add(cost.title, i.peer, (after-used).Seconds()*1000/float64(n))
	}
	b.results.add(speed.title, i.peer, float64(n)/took.Seconds())
	whole, damaged, err := count(counter)
	if err != nil {
		return err
	}
	if whole-before != n || damaged > 0 {
		return fmt.Errorf("%d mails were accepted, %d have arrived, %d not as they were", n, whole-before, damaged)
	}
	return nil
}

// submitAll measures the rows of SMTP for one peer.
func (b *bench) submitAll(i *instance, counter int) error {
	if b.wants("7") {
		err := b.submit(i, counter, mailsNew, cpuMailNew, func(client, turn int) error {
			return sendOnce(i.port, account((client+16*turn)%knownAccounts))
		})
		if err != nil {
			return fmt.Errorf("a connection for each mail: %w", err)
		}
	}
	if b.wants("8") && i.peer != oursWriting { // there are no logins
		clients, err := senders(i.port, 16)
		defer func() {
			for _, c := range clients {
				c.close()
			}
		}()
		if err == nil {
			err = b.submit(i, counter, mailsReused, cpuMailReused, func(client, _ int) error { return clients[client].send() })
		}
		if err != nil {
			return fmt.Errorf("many mails on a connection: %w", err)
		}
	}
	return nil
}
