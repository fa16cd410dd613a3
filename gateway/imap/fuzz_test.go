package imap

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
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
			Guard: guard, Upstream: upstream, LoginTimeout: 10 * time.Second,
			Forwarder: func(netip.Addr) bool { return true },
			Log:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
		}
		conn := &spoken{Reader: bytes.NewReader(said)}
		d := &door{server: server, ctx: t.Context()}
		c := newClient(d, conn)
		c.secure = secure // as if
		server.add(c)
		c.leave = func() {}
		d.clients.Add(1)
		go c.serve()
		d.clients.Wait()
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

// FuzzSASL decodes arbitrary lines as an exchange: complete credentials must be
// what was encoded, and nothing may panic.
func FuzzSASL(f *testing.F) {
	f.Add("PLAIN", "AGIAYw==", "", "")
	f.Add("PLAIN", "=", "AGIAYw==", "")
	f.Add("LOGIN", "", "Yg==", "Yw==")
	f.Add("LOGIN", "Yg==", "Yw==", "Yw==")
	f.Add("PLAIN", "AAAA", "*", "\r\n")
	f.Fuzz(func(t *testing.T, name, initial, second, third string) {
		var given credentials
		server, mech := mechanism(name, &given)
		if server == nil {
			return
		}
		var response []byte
		var err error
		if initial != "" {
			if response, err = decode(initial, true); err != nil {
				return
			}
		}
		rest := []string{second, third}
		var responses [][]byte
		for {
			if response != nil {
				responses = append(responses, response)
			}
			_, done, err := server.Next(response)
			if err != nil {
				return
			}
			if done {
				break
			}
			if len(rest) == 0 {
				t.Fatal("asks for a fourth response")
			}
			if response, err = decode(rest[0], false); err != nil {
				if !errors.Is(err, errNotBase64) {
					t.Fatal(err)
				}
				return
			}
			rest = rest[1:]
		}
		want := string(bytes.Join(responses, []byte("\x00")))
		got := given.login + "\x00" + given.password.Reveal()
		if mech == auth.Plain {
			got = given.authorize + "\x00" + got
		}
		if got != want {
			t.Fatalf("understood %q of %q", got, want)
		}
		if again, err := decode(base64.StdEncoding.EncodeToString([]byte(given.login)), false); err != nil || string(again) != given.login {
			t.Fatalf("%q does not survive: %v", given.login, err)
		}
	})
}
