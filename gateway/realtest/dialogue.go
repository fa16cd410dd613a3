package realtest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Dialogue is a connection for data that no mail program would send.
type Dialogue struct {
	net.Conn // encrypted, once it is
	// TCP is the connection below TLS.
	TCP *net.TCPConn
	r   *bufio.Reader
	t   testing.TB
}

// Dial connects to a port from a loopback address; "" means a new one.
func Dial(t testing.TB, port int, from string) *Dialogue {
	t.Helper()
	if from == "" {
		from = FreshAddress()
	}
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", addr(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &Dialogue{Conn: conn, TCP: conn.(*net.TCPConn), r: bufio.NewReader(conn), t: t}
}

// DialTLS connects to a port with implicit TLS.
func DialTLS(t testing.TB, port int, from string) *Dialogue {
	t.Helper()
	d := Dial(t, port, from)
	d.Secure()
	return d
}

// Secure starts TLS.
func (d *Dialogue) Secure() {
	d.t.Helper()
	secured := tls.Client(d.Conn, TheAuthority(d.t).TLS())
	secured.SetDeadline(time.Now().Add(patience))
	if err := secured.Handshake(); err != nil {
		d.t.Fatalf("TLS handshake: %v", err)
	}
	d.Conn, d.r = secured, bufio.NewReader(secured)
}

// Say writes octets unchanged.
func (d *Dialogue) Say(octets string) {
	d.t.Helper()
	d.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(d.Conn, octets); err != nil {
		d.t.Fatalf("write: %v", err)
	}
}

// Line reads one line, without its CRLF.
func (d *Dialogue) Line() (string, error) {
	d.SetDeadline(time.Now().Add(patience))
	line, err := d.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// Hear reads one line and fails without one.
func (d *Dialogue) Hear() string {
	d.t.Helper()
	line, err := d.Line()
	if err != nil {
		d.t.Fatalf("read: %v (after %q)", err, line)
	}
	return line
}

// Rest reads until the other side closes or the time is up, and returns the data.
func (d *Dialogue) Rest() string {
	d.SetDeadline(time.Now().Add(patience))
	text, _ := io.ReadAll(d.r)
	return string(text)
}

// Tagged reads IMAP responses up to the tagged one, which comes last.
func (d *Dialogue) Tagged(tag string) []string {
	d.t.Helper()
	var lines []string
	for {
		line := d.Hear()
		lines = append(lines, line)
		if strings.HasPrefix(line, tag+" ") {
			return lines
		}
	}
}

// Command sends an IMAP command and returns the tagged response without the tag.
func (d *Dialogue) Command(tag, command string) string {
	d.t.Helper()
	d.Say(tag + " " + command + "\r\n")
	lines := d.Tagged(tag)
	return strings.TrimPrefix(lines[len(lines)-1], tag+" ")
}

// Reply reads one SMTP reply with all its lines, joined by newlines.
func (d *Dialogue) Reply() string {
	d.t.Helper()
	var lines []string
	for {
		line := d.Hear()
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// Ask sends an SMTP command and returns the reply.
func (d *Dialogue) Ask(command string) string {
	d.t.Helper()
	d.Say(command + "\r\n")
	return d.Reply()
}

// MustReply is Ask for a command whose reply must begin with want.
func (d *Dialogue) MustReply(want, command string) string {
	d.t.Helper()
	reply := d.Ask(command)
	if !strings.HasPrefix(reply, want) {
		d.t.Fatalf("%.60s: got %q, want %s", command, reply, want)
	}
	return reply
}

// DialIMAP opens an IMAP connection with implicit TLS and reads the greeting.
func (door Door) DialIMAP(t testing.TB, from string) *Dialogue {
	t.Helper()
	d := DialTLS(t, door.IMAPS, from)
	if greeting := d.Hear(); !strings.HasPrefix(greeting, "* OK") {
		t.Fatalf("greeting: %q", greeting)
	}
	return d
}

// LoginIMAP tries to log in on a new connection and returns the connection and the
// tagged response, without the tag.
func (door Door) LoginIMAP(t testing.TB, from, user, password string) (*Dialogue, string) {
	t.Helper()
	d := door.DialIMAP(t, from)
	return d, d.Command("a", "LOGIN "+quoted(user)+" "+quoted(password))
}

// DialSMTP opens a submission connection with implicit TLS, sends EHLO and returns the
// extensions.
func (door Door) DialSMTP(t testing.TB, from string) (*Dialogue, string) {
	t.Helper()
	d := DialTLS(t, door.Submissions, from)
	if greeting := d.Reply(); !strings.HasPrefix(greeting, "220 ") {
		t.Fatalf("greeting: %q", greeting)
	}
	return d, d.MustReply("250", "EHLO client.example")
}

// LoginSMTP tries to log in on a new connection and returns the reply, or a greeting
// with 421 if the mail server is known to be down.
func (door Door) LoginSMTP(t testing.TB, from, user, password string) (*Dialogue, string) {
	t.Helper()
	d := DialTLS(t, door.Submissions, from)
	switch greeting := d.Reply(); {
	case strings.HasPrefix(greeting, "421 "):
		return d, greeting
	case !strings.HasPrefix(greeting, "220 "):
		t.Fatalf("greeting: %q", greeting)
	}
	d.MustReply("250", "EHLO client.example")
	return d, d.Ask("AUTH PLAIN " + plain("", user, password))
}

// plain is the initial response of SASL PLAIN (RFC 4616 section 2).
func plain(authorize, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authorize + "\x00" + user + "\x00" + password))
}

// quoted is an IMAP quoted string (RFC 9051 section 4.3).
func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// literal is a non-synchronising literal (RFC 7888 section 4).
func literal(s string) string { return fmt.Sprintf("{%d+}\r\n%s", len(s), s) }

// trySecure starts TLS and returns an error of the handshake.
func trySecure(d *Dialogue) error {
	secured := tls.Client(d.Conn, TheAuthority(d.t).TLS())
	secured.SetDeadline(time.Now().Add(patience))
	if err := secured.Handshake(); err != nil {
		return err
	}
	d.Conn, d.r = secured, bufio.NewReader(secured)
	return nil
}
