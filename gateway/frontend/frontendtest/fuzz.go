package frontendtest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/gateway/frontend"
)

// Sink is a mail server that lets every login in and keeps what comes then.
type Sink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	read sync.WaitGroup
}

// Open is a connection to it, on which a user is logged in.
func (s *Sink) Open() net.Conn {
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
	return near
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

// Fuzz says any octets to a session: it must not panic, must end when the client does,
// answer in whole lines, ask for no login in clear text nor for one from an address
// that is none, and hand exactly what follows the login to the mail server. serve
// serves one connection with a front end in front of the sink.
func Fuzz(f *testing.F, seeds []string, serve func(ctx context.Context, front func() frontend.Server, mail *Sink, conn net.Conn, secure bool)) {
	for _, seed := range seeds {
		f.Add(true, []byte(seed))
		f.Add(false, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, secure bool, said []byte) {
		mail, guard := new(Sink), new(Guard)
		var log bytes.Buffer
		conn := &spoken{Reader: bytes.NewReader(said)}
		serve(t.Context(), func() frontend.Server {
			return frontend.Server{
				Guard: guard, LoginTimeout: 10 * time.Second,
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
			}
		}, mail, conn, secure)
		mail.read.Wait()

		if log.Len() > 0 {
			t.Fatalf("logged: %s", log.String())
		}
		for _, line := range strings.SplitAfter(strings.TrimSuffix(conn.heard.String(), "\r\n"), "\r\n") {
			if line = strings.TrimSuffix(line, "\r\n"); line == "" || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("answered %q", line)
			}
		}
		for _, a := range guard.Made() {
			if !secure {
				t.Fatal("an attempt in clear text")
			}
			if addr := a.Source.Addr(); addr.IsValid() && (addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified()) {
				t.Fatalf("a login from %s", addr)
			}
		}
		if got := mail.got.Bytes(); len(got) > 0 {
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
