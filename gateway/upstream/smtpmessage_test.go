package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// writes counts what is written to a connection.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (w writes) Write(b []byte) (int, error) { w.n.Add(1); return w.Conn.Write(b) }

// submitter is logged in at a fake, and knows how often it has written there.
func submitter(t testing.TB, fake *mailtest.SMTP) (*SMTPConn, *atomic.Int64) {
	t.Helper()
	fake.Accounts = map[string]string{string(owner): password}
	t.Cleanup(func() { fake.Close() })
	n := new(atomic.Int64)
	s := &Server{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := fake.Dial(ctx, network, address)
		return writes{conn, n}, err
	}}
	conn, answer := s.LoginSMTP(t.Context(), owner, auth.NewSecret(password), Client{})
	if answer.Judgement != auth.JudgedRight {
		t.Fatal(answer.Judgement, answer.Err)
	}
	t.Cleanup(conn.Logout)
	return conn, n
}

func TestAMessageOfSomePagesIsOneWriteWithItsEnd(t *testing.T) {
	fake := &mailtest.SMTP{}
	conn, n := submitter(t, fake)
	text := "a: b\r\n\r\n" + strings.Repeat(".a line\r\nanother\r\n", 400)
	mail(t, conn)
	m, err := conn.Data()
	if err != nil {
		t.Fatal(err)
	}
	before := n.Load()
	for line := range strings.Lines(text) {
		if _, err := m.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := n.Load() - before; n != 1 {
		t.Errorf("%d writes", n)
	}
	if got := string(fake.Messages()[0].Data); got != text {
		t.Errorf("%q became %q", text, got)
	}
	if conn.stream.message != nil {
		t.Error("the connection keeps a buffer for the next message")
	}
}

func TestAMessageIsTheSameInWhateverPiecesItIsWritten(t *testing.T) {
	fake := &mailtest.SMTP{}
	conn, _ := submitter(t, fake)
	short := ".\r\n\r\n..\r\na.\r\n.b\r\n\r\n"
	for _, text := range []string{short, short + "no end", short + strings.Repeat(strings.Repeat("x", 79)+"\r\n.", 3*messageSize/80) + "\r\n"} {
		for at := range len(short) {
			mail(t, conn)
			m, err := conn.Data()
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range []string{text[:at], "", text[at : at+1], text[at+1:]} {
				if n, err := m.Write([]byte(piece)); err != nil || n != len(piece) {
					t.Fatal(n, err)
				}
			}
			if _, err := m.Finish(); err != nil {
				t.Fatal(err)
			}
			want := text
			if !strings.HasSuffix(want, "\r\n") {
				want += "\r\n"
			}
			all := fake.Messages()
			if got := string(all[len(all)-1].Data); got != want {
				t.Fatalf("cut at %d: %.80q became %.80q", at, want, got)
			}
		}
	}
}

// What a server could take for the end of a line, and the next one not, never
// gets there, and the message with it does not either.
func TestABareNewlineEndsAMessageWithoutDeliveringIt(t *testing.T) {
	for _, text := range []string{"a\nb\r\n", "\n", "a\rb\r\n", "\r.\r\n", "\r\r\n", "a\r\n\n.\r\n", "a\r\n.\n"} {
		for at := range len(text) + 1 {
			fake := &mailtest.SMTP{}
			conn, _ := submitter(t, fake)
			mail(t, conn)
			m, err := conn.Data()
			if err != nil {
				t.Fatal(err)
			}
			_, first := m.Write([]byte(text[:at]))
			var second error
			if first == nil {
				_, second = m.Write([]byte(text[at:]))
			}
			if !errors.Is(first, errNoCRLF) && !errors.Is(second, errNoCRLF) {
				t.Errorf("%q | %q: %v, %v", text[:at], text[at:], first, second)
			}
			conn.Close()
			fake.Close()
			if got := fake.Messages(); len(got) > 0 {
				t.Errorf("%q | %q: delivered %q", text[:at], text[at:], got)
			}
		}
	}
}
