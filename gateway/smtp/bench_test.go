package smtp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"congthu/gateway/mailtest"
	"congthu/gateway/upstream"
)

// accepting is a mail server that takes everything, and drops it.
func accepting(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 mail.test\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		reply := "250 2.0.0 Ok\r\n"
		switch string(bytes.ToUpper(line[:min(4, len(line))])) {
		case "EHLO":
			reply = "250-mail.test\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n"
		case "AUTH":
			reply = "235 2.7.0 Ok\r\n"
		case "DATA":
			io.WriteString(conn, "354 Go on\r\n")
			for string(line) != ".\r\n" {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}

// listening serves each connection of a port, until the benchmark ends.
func listening(b *testing.B, serve func(net.Conn)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(conn) })
		}
	})
	b.Cleanup(func() { l.Close(); all.Wait() })
	return l
}

// doors are what a benchmark compares: the gateway without any rule, and a relay
// that only does TLS and passes on what comes. Both, the mail server and the
// client are in one process: what they allocate is all theirs.
func doors(b *testing.B, run func(b *testing.B, address string)) {
	server := listening(b, accepting).Addr().String()
	b.Run("congthu", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		s := newServer(&guard{}, nil)
		s.Upstream = &upstream.Server{Address: server}
		ctx, stop := context.WithCancel(b.Context())
		var serving sync.WaitGroup
		serving.Go(func() {
			if err := s.Serve(ctx, l, true); err != nil {
				b.Error(err)
			}
		})
		defer serving.Wait()
		defer stop()
		run(b, l.Addr().String())
	})
	b.Run("bare relay", func(b *testing.B) {
		run(b, listening(b, func(conn net.Conn) {
			client := tls.Server(conn, mailtest.ServerTLS())
			defer client.Close()
			up, err := net.Dial("tcp", server)
			if err != nil {
				b.Error(err)
				return
			}
			var other sync.WaitGroup
			other.Go(func() {
				io.Copy(up, client)
				up.Close()
			})
			io.Copy(client, up)
			client.Close()
			other.Wait()
		}).Addr().String())
	})
}

// submitter is a client that is logged in.
func submitter(b *testing.B, address string) (say func(what, want string)) {
	conn, err := tls.Dial("tcp", address, mailtest.ClientTLS())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	r := bufio.NewReader(conn)
	say = func(what, want string) {
		if _, err := io.WriteString(conn, what); err != nil {
			b.Fatal(err)
		}
		for {
			line, err := r.ReadSlice('\n')
			if err != nil || !strings.HasPrefix(string(line), want) {
				b.Fatalf("%.20q: %q %v, want %s", what, line, err, want)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	say("", "220")
	say("EHLO client.test\r\n", "250")
	say("AUTH PLAIN "+plain("", owner, password)+"\r\n", "235")
	return say
}

func submit(say func(what, want string), text string) {
	say("MAIL FROM:<"+owner+">\r\n", "250")
	say("RCPT TO:<b@congthu.test>\r\n", "250")
	say("DATA\r\n", "354")
	say(text, "250")
}

// BenchmarkMessage submits mails on one connection.
func BenchmarkMessage(b *testing.B) {
	for name, size := range map[string]int{"8KiB": 8 << 10, "10MiB": 10 << 20} {
		line := strings.Repeat("x", 74) + "\r\n"
		text := hello + strings.Repeat(line, size/len(line)) + ".\r\n"
		b.Run(name, func(b *testing.B) {
			doors(b, func(b *testing.B, address string) {
				say := submitter(b, address)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					submit(say, text)
				}
			})
		})
	}
}

// BenchmarkSession is a connection, a login and one mail.
func BenchmarkSession(b *testing.B) {
	doors(b, func(b *testing.B, address string) {
		b.ReportAllocs()
		for b.Loop() {
			say := submitter(b, address)
			submit(say, hello+".\r\n")
			say("QUIT\r\n", "2")
		}
	})
}
