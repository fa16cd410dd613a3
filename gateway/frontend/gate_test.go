package frontend

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// record is a TLS record of a handshake with n octets.
func record(n int) []byte {
	b := make([]byte, 5+n)
	b[0], b[1], b[2] = 22, 3, 1
	binary.BigEndian.PutUint16(b[3:], uint16(n))
	return b
}

// fixed is a connection that says something, in pieces of a size, and then waits.
type fixed struct {
	net.Conn
	says  *bytes.Reader
	piece int
}

var errWaits = errors.New("nothing more to read")

func (f *fixed) Read(b []byte) (int, error) {
	if f.says.Len() == 0 {
		return 0, errWaits
	}
	return f.says.Read(b[:min(len(b), f.piece)])
}

// A record that is too long is refused with its header: crypto/tls, which would reserve
// memory for all of it, does not see that.
func TestLongRecordsAreRefusedWithTheirHeader(t *testing.T) {
	repeat := func(n, size int) []byte { return bytes.Repeat(record(size), n) }
	for name, c := range map[string]struct {
		says []byte
		talk int // what a command has left; 0: during the handshake
		pass int // octets that pass
	}{
		"a usual ClientHello":              {record(1700), 0, 1705},
		"as long as may be":                {record(8 << 10), 0, 8<<10 + 5},
		"longer":                           {record(8<<10 + 1), 0, 0},
		"the header alone":                 {record(16 << 10)[:5], 0, 0},
		"many records of one message":      {repeat(20, 1000), 0, 16 * 1005},
		"a web browser":                    {[]byte("GET / HTTP/1.1\r\nHost: x\r\n"), 0, 0}, // "/ " is 12064
		"after the handshake":              {record(16 << 10), 16 << 10, 16<<10 + 5},
		"the same, with a command half in": {record(16 << 10), 8 << 10, 0},
		"what the command has left":        {record(8 << 10), 8 << 10, 8<<10 + 5},
		"several, after the handshake":     {repeat(9, 10_000), 16 << 10, 9 * 10_005},
	} {
		for _, piece := range []int{1, 7, 4096, 1 << 20} {
			conn, gate := Watch(&fixed{says: bytes.NewReader(c.says), piece: piece})
			gate.Handshake()
			if c.talk > 0 {
				gate.Talk(func() int { return c.talk })
			}
			read, err := io.ReadAll(conn)
			var much TooMuch
			refused := errors.As(err, &much)
			if refused != (c.pass < len(c.says)) {
				t.Errorf("%s, in pieces of %d: %v", name, piece, err)
			}
			// Of a refused record at most a part of the header passes, when it comes alone.
			if len(read) > c.pass+4 || piece == 1 && len(read) < c.pass {
				t.Errorf("%s, in pieces of %d: %d octets pass, want %d", name, piece, len(read), c.pass)
			}
			if !bytes.HasPrefix(c.says, read) {
				t.Errorf("%s, in pieces of %d: other octets pass", name, piece)
			}
		}
	}
}

// Logged in, records are as long as TLS has them.
func TestAnOpenGateLetsEverythingPass(t *testing.T) {
	says := bytes.Repeat(record(16<<10), 5)
	conn, gate := Watch(&fixed{says: bytes.NewReader(says), piece: 1 << 20})
	gate.Handshake()
	gate.Open()
	if read, err := io.ReadAll(conn); !errors.Is(err, errWaits) || !bytes.Equal(read, says) {
		t.Errorf("%d octets of %d, %v", len(read), len(says), err)
	}
}

// A whole handshake and a login pass, with keys of every size and a SASL response of
// 12 KiB in one record, and the connection counts what it holds.
func TestALoginPassesTheGate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		synctest.Test(t, func(t *testing.T) {
			m := &mailbox{loggedOut: make(chan struct{})}
			l := &Limiter{Early: 10, EarlyMemory: 1 << 20}
			conn, r, served := talk(t, &Server{Guard: &verdicts{}, TLSConfig: mailtest.ServerTLS(), Limiter: l}, m)
			say(t, conn, r, "", "hello from congthu")
			say(t, conn, r, "tls", "begin")
			config := mailtest.ClientTLS()
			config.MinVersion, config.MaxVersion, config.NextProtos = version, version, nil
			config.DynamicRecordSizingDisabled = true
			secured := tls.Client(conn, config)
			r = bufio.NewReader(secured)
			say(t, secured, r, "sasl LOGIN", "+ VXNlcm5hbWU6")
			say(t, secured, r, strings.Repeat("QUFB", 3000), "+ UGFzc3dvcmQ6")
			synctest.Wait()
			if held := l.held.weight; held < 20 || held > 30 { // the record, and the command
				t.Errorf("%d KiB are held, want some 24", held)
			}
			say(t, secured, r, "QUFB", "welcome "+strings.Repeat("AAA", 3000))
			if l.held.weight != 0 || l.early.weight != 0 {
				t.Errorf("a session holds %d KiB of the memory before login", l.held.weight)
			}
			secured.Close()
			<-served
		})
	}
}

// A client whose place is given to another is told so, at any point before its login,
// and one that is being logged in goes on.
func TestADisplacedClientIsTold(t *testing.T) {
	for _, c := range []struct {
		during  string
		outcome auth.Outcome
	}{{"", auth.Accepted}, {"in lan x\r\n", auth.Accepted}, {"in lan x\r\n", auth.Expired}} {
		synctest.Test(t, func(t *testing.T) {
			during := c.during
			m := &mailbox{loggedOut: make(chan struct{})}
			g := &verdicts{asked: make(chan struct{}), decide: make(chan struct{}), outcome: c.outcome}
			l := &Limiter{Early: 1}
			s := &Server{Guard: g, Limiter: l}
			conn, r, served := talk(t, s, m)
			say(t, conn, r, "", "hello from congthu")
			io.WriteString(conn, during)
			synctest.Wait()
			began := time.Now()
			other, ok := l.Enter(netip.MustParseAddr("192.0.2.1"), silent, func() { t.Error("the newcomer is displaced") })
			if !ok {
				t.Fatal("the newcomer is not let in")
			}
			switch {
			case during == "":
				say(t, conn, r, "", "bye "+string(Crowded))
			case c.outcome != auth.Accepted: // read first, and then there is no next try
				close(g.decide)
				say(t, conn, r, "", "no expired")
				say(t, conn, r, "", "bye "+string(Crowded))
			default:
				close(g.decide)
				say(t, conn, r, "", "welcome lan")
				say(t, conn, r, "", "you have mail")
				conn.Close()
			}
			<-served
			if waited := time.Since(began); waited > 0 {
				t.Errorf("it took %v", waited)
			}
			if other.Leave(); l.total != 0 || l.early.weight != 0 {
				t.Errorf("%d connections are counted, %d of them early, when all have gone", l.total, l.early.weight)
			}
		})
	}
}

// A displaced client that reads nothing is not waited for.
func TestADisplacedClientThatDoesNotReadIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Limiter{Early: 1}
		conn, r, served := talk(t, &Server{Guard: &verdicts{}, Limiter: l}, new(mailbox))
		say(t, conn, r, "", "hello from congthu")
		io.WriteString(conn, "eh\r\n") // and does not read the answer
		synctest.Wait()
		began := time.Now()
		l.Enter(netip.Addr{}, silent, func() {})
		<-served
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("it took %v", waited)
		}
	})
}

// counting counts the reads of a connection.
type counting struct {
	net.Conn
	reads int
}

func (c *counting) Read(b []byte) (int, error) { c.reads++; return c.Conn.Read(b) }

// Many small pieces are read at once, none is lost when that ends, and there is no buffer
// when all has been asked for.
func TestAGateReadsAhead(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		io.WriteString(far, strings.Repeat("0123456789", 100))
		io.WriteString(far, "then the end")
	}()
	below := &counting{Conn: near}
	_, gate := Watch(below)
	gate.ReadAhead(true)
	var got []byte
	b := make([]byte, 7)
	for len(got) < 1000 {
		n, err := gate.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b[:n]...)
		gate.ReadAhead(len(got) < 500)
	}
	if below.reads != 1 || gate.buf != nil || gate.ahead != nil || string(got) != strings.Repeat("0123456789", 100) {
		t.Errorf("%d reads of %q, %d held", below.reads, got, len(gate.ahead))
	}
	if rest, err := io.ReadAll(gate); string(rest) != "then the end" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	gate.ReadAhead(true)
	if n, err := gate.Read(b); n != 0 || err != io.EOF || gate.buf != nil {
		t.Errorf("after the end: %d, %v", n, err)
	}
}
