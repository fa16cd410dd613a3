package proxyproto

import (
	"io"
	"net"
	"testing"

	"congthu/gateway/relay"
)

// BenchmarkTwoSmallWrites makes one exchange as an APPEND is one, through the
// relay: two small writes, the second held back until the first is acknowledged,
// then an answer. It takes 40 ms when the relay does not find the socket to set
// TCP_QUICKACK on.
func BenchmarkTwoSmallWrites(b *testing.B) {
	for name, header := range map[string]string{"straight": "", "behind a balancer": "PROXY TCP4 192.0.2.7 198.51.100.1 49153 993\r\n"} {
		b.Run(name, func(b *testing.B) {
			from := strangerAddress
			if header != "" {
				from = balancerAddress
			}
			l := newStage(b, 0)
			client := l.dial(from, header)
			if err := client.SetNoDelay(false); err != nil { // as Python leaves it
				b.Fatal(err)
			}
			server, upstream := net.Pipe()
			done := make(chan struct{})
			pair := relay.Join(relay.Side{Conn: l.accept()}, relay.Side{Conn: upstream}, relay.Options{Done: func(relay.Result) { close(done) }})
			go func() {
				buf := make([]byte, 2)
				for {
					if _, err := io.ReadFull(server, buf); err != nil {
						return
					}
					server.Write(buf[:1])
				}
			}()
			answer := make([]byte, 1)
			for b.Loop() {
				client.Write([]byte("a"))
				client.Write([]byte("b"))
				if _, err := io.ReadFull(client, answer); err != nil {
					b.Fatal(err)
				}
			}
			pair.Kick()
			<-done
		})
	}
}
