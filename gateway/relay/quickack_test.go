package relay

import (
	"io"
	"net"
	"testing"
)

// BenchmarkTwoSmallWrites makes one exchange as an APPEND is one: two small
// writes, the second held back until the first is acknowledged, then an answer.
// Without quickAck it takes 40 ms.
func BenchmarkTwoSmallWrites(b *testing.B) {
	j := join(b, false, Options{}, "", "")
	if err := j.client.(*net.TCPConn).SetNoDelay(false); err != nil { // as Python leaves it
		b.Fatal(err)
	}
	go func() {
		buf := make([]byte, 2)
		for {
			if _, err := io.ReadFull(j.server, buf); err != nil {
				return
			}
			j.server.Write(buf[:1])
		}
	}()
	answer := make([]byte, 1)
	for b.Loop() {
		j.client.Write([]byte("a"))
		j.client.Write([]byte("b"))
		if _, err := io.ReadFull(j.client, answer); err != nil {
			b.Fatal(err)
		}
	}
	j.pair.Kick()
	<-j.done
}
