package imap

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// sink is a mail server that lets everybody in and keeps what comes then.
type sink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	read sync.WaitGroup
}

func (s *sink) LoginIMAP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.IMAPConn, auth.Answer) {
	near, far := net.Pipe()
	s.read.Go(func() {
		defer far.Close()
		buf := make([]byte, 512)
		for {
			n, err := far.Read(buf)
			s.mu.Lock()
			s.got.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return &upstream.IMAPConn{Conn: near, OK: "OK in", Capabilities: "IMAP4rev1"}, auth.Answer{Judgement: auth.JudgedRight}
}

// spoken is a client that has said all it has to say.
type spoken struct {
	*bytes.Reader
	mu    sync.Mutex
	heard bytes.Buffer
}

func (s *spoken) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.Write(b)
}
func (s *spoken) Close() error                     { return nil }
func (s *spoken) LocalAddr() net.Addr              { return nil }
func (s *spoken) RemoteAddr() net.Addr             { return nil }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }

// FuzzDialogue says arbitrary things to a session: it must not panic, must end
// when the client does, answer in whole lines, and hand exactly what follows the
// login to the mail server.
func FuzzDialogue(f *testing.F) {
	for _, seed := range []string{
		"a LOGIN b c\r\nd NOOP\r\n", "a LOGIN {1+}\r\nb {1}\r\nc\r\nd SELECT {5+}\r\nINBOX\r\n",
		"a AUTHENTICATE PLAIN AGIAYw==\r\nd IDLE\r\nDONE\r\n", "a AUTHENTICATE LOGIN\r\nYg==\r\nYw==\r\nrest",
		"a ID (\"n\" NIL \"x-y\" {2+}\r\nab)\r\nb LOGOUT\r\n", "a STARTTLS\r\nb NOOP\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a APPEND x {99999999999999999999+}\r\n", "a LOGIN x ~{3+}\r\n\x00\x00\x00\r\n", "\r\n\r\n\n", "a\r\n", "* OK\r\n+\r\n",
		"a AUTHENTICATE PLAIN\r\n*\r\na AUTHENTICATE PLAIN =\r\na CAPABILITY\r\n", "a LOGIN \"\\\"\\\\\" \"\"\n",
		"a ID (\"x-originating-ip\" \"2001:db8::1\" \"X-ORIGINATING-PORT\" {2+}\r\n50)\r\nb LOGIN c d\r\n", "a ID (x-originating-ip \"::ffff:0.0.0.0%a\")\r\nb LOGIN c d\r\n",
	} {
		f.Add(true, []byte(seed))
		f.Add(false, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, secure bool, said []byte) {
		upstream := &sink{}
		var log bytes.Buffer
		guard := new(guard)
		server := &Server{
			Server: frontend.Server{
				Guard: guard, LoginTimeout: 10 * time.Second,
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
			},
			Upstream:  upstream,
			Forwarder: func(netip.Addr) bool { return true },
		}
		conn := &spoken{Reader: bytes.NewReader(said)}
		server.ServeConn(t.Context(), conn, secure, server.protocol())
		upstream.read.Wait()

		all := conn.heard.Bytes()
		if log.Len() > 0 {
			t.Fatalf("logged: %s", log.String())
		}
		for _, a := range guard.made() {
			if addr := a.Source.Addr(); addr.IsValid() && (addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified()) {
				t.Fatalf("a login from %s", addr)
			}
		}
		for _, line := range strings.SplitAfter(strings.TrimSuffix(string(all), "\r\n"), "\r\n") {
			if line = strings.TrimSuffix(line, "\r\n"); line == "" || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("answered %q", line)
			}
		}
		if got := upstream.got.Bytes(); len(got) > 0 {
			if !secure {
				t.Fatalf("a login in clear text, and then %q", got)
			}
			before, isRest := bytes.CutSuffix(said, got)
			if !isRest || !bytes.HasSuffix(before, []byte("\n")) {
				t.Fatalf("the mail server got %q of %q", got, said)
			}
		}
	})
}
