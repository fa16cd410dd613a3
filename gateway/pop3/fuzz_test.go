package pop3

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// sink is a mail server that lets every login in and keeps what comes then.
type sink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	read sync.WaitGroup
}

func (s *sink) LoginPOP3(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.POP3Conn, auth.Answer) {
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
	return &upstream.POP3Conn{Conn: near, OK: "+OK in"}, auth.Answer{Judgement: auth.JudgedRight}
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

// FuzzDialogue says any octets to a session: it must not panic, must end when the client
// does, answer in whole lines, and hand exactly what follows the login to the mail
// server.
func FuzzDialogue(f *testing.F) {
	for _, seed := range []string{
		"USER a\r\nPASS b\r\nSTAT\r\n", "AUTH PLAIN AGIAYw==\r\nLIST\r\n", "AUTH PLAIN\r\nAGIAYw==\r\nrest", "AUTH LOGIN\r\nYg==\r\nYw==\r\nrest",
		"AUTH LOGIN Yg==\r\nYw==\r\n", "CAPA\r\nSTLS\r\nUSER a\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "AUTH\r\nAUTH X\r\nQUIT\r\nUSER a\r\n",
		"PASS a\nUSER \nUSER a\nPASS \n", "\r\n\r\n\n", "APOP a b\r\n", "AUTH PLAIN =\r\n*\r\n", "USER a\x00b\r\nPASS \rc\r\n",
	} {
		f.Add(true, []byte(seed))
		f.Add(false, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, secure bool, said []byte) {
		mail := new(sink)
		var log bytes.Buffer
		g := new(guard)
		server := &Server{
			Server: frontend.Server{
				Guard: g, LoginTimeout: 10 * time.Second,
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
			},
			Upstream: mail,
		}
		conn := &spoken{Reader: bytes.NewReader(said)}
		server.ServeConn(t.Context(), conn, secure, server.protocol())
		mail.read.Wait()
		if log.Len() > 0 {
			t.Fatalf("logged: %s", log.String())
		}
		for _, line := range strings.SplitAfter(strings.TrimSuffix(conn.heard.String(), "\r\n"), "\r\n") {
			if line = strings.TrimSuffix(line, "\r\n"); line == "" || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("answered %q", line)
			}
		}
		if !secure && len(g.made()) > 0 {
			t.Fatal("an attempt without TLS")
		}
		if got := mail.got.Bytes(); len(got) > 0 {
			before, isRest := bytes.CutSuffix(said, got)
			if !isRest || !bytes.HasSuffix(before, []byte("\n")) {
				t.Fatalf("the mail server got %q of %q", got, said)
			}
		}
	})
}
