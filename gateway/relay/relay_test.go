package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"congthu/gateway/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcp returns two ends of a loopback connection.
func tcp(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		accepted <- conn
	}()
	near, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far = <-accepted
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// secured is tcp with TLS on it; far is the server's end.
func secured(t testing.TB) (near, far net.Conn) {
	t.Helper()
	a, b := tcp(t)
	client, server := tls.Client(a, mailtest.ClientTLS()), tls.Server(b, mailtest.ServerTLS())
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return client, server
}

// joined is a client and a mail server with a relay between them.
type joined struct {
	client, server net.Conn
	pair           *Pair
	done           chan Result
}

func join(t testing.TB, overTLS bool, o Options, clientAhead, serverAhead string) *joined {
	t.Helper()
	j := &joined{done: make(chan Result, 1)}
	o.Done = func(r Result) { j.done <- r }
	var a, b net.Conn
	if overTLS {
		j.client, a = secured(t)
	} else {
		j.client, a = tcp(t)
	}
	b, j.server = tcp(t)
	j.pair = Join(Side{a, []byte(clientAhead)}, Side{b, []byte(serverAhead)}, o)
	return j
}

func transports(t *testing.T, test func(t *testing.T, overTLS bool)) {
	t.Run("TCP", func(t *testing.T) { test(t, false) })
	t.Run("TLS", func(t *testing.T) { test(t, true) })
}

func TestEveryOctetArrivesOnceAndInOrder(t *testing.T) {
	transports(t, func(t *testing.T, overTLS bool) {
		for seed := range uint64(6) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var told struct {
				sync.Mutex
				client, upstream int64
			}
			j := join(t, overTLS, Options{Moved: func(c, u int) {
				told.Lock()
				defer told.Unlock()
				told.client += int64(c)
				told.upstream += int64(u)
			}}, "ahead of the client ", "ahead of the server ")
			up, down := noise(rnd, 300_000), noise(rnd, 500_000)
			var wg sync.WaitGroup
			for _, way := range []struct {
				name     string
				from, to net.Conn
				sent     []byte
				want     []byte
			}{
				{"to the server", j.client, j.server, up, append([]byte("ahead of the client "), up...)},
				{"to the client", j.server, j.client, down, append([]byte("ahead of the server "), down...)},
			} {
				pieces, naps := rand.New(rand.NewPCG(seed, 2)), rand.New(rand.NewPCG(seed, 3))
				wg.Go(func() {
					for rest := way.sent; len(rest) > 0; {
						n := min(len(rest), 1+pieces.IntN(1<<(1+pieces.IntN(16))))
						if _, err := way.from.Write(rest[:n]); err != nil {
							t.Errorf("%s: write: %v", way.name, err)
							return
						}
						rest = rest[n:]
					}
					way.from.(interface{ CloseWrite() error }).CloseWrite()
				})
				wg.Go(func() {
					var got []byte
					for {
						buf := make([]byte, 1+naps.IntN(1<<(1+naps.IntN(15))))
						n, err := way.to.Read(buf)
						got = append(got, buf[:n]...)
						if err != nil {
							break
						}
					}
					if !bytes.Equal(got, way.want) {
						t.Errorf("%s: got %d octets, want %d, or others", way.name, len(got), len(way.want))
					}
				})
			}
			wg.Wait()
			r := <-j.done
			if r.Err != nil || r.FromClient != int64(len(up)+20) || r.FromUpstream != int64(len(down)+20) {
				t.Errorf("result %+v", r)
			}
			if told.client != r.FromClient || told.upstream != r.FromUpstream {
				t.Errorf("told of %d and %d octets of %d and %d", told.client, told.upstream, r.FromClient, r.FromUpstream)
			}
		}
	})
}

func noise(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestOneSideMayEndWhileTheOtherGoesOn(t *testing.T) {
	transports(t, func(t *testing.T, overTLS bool) {
		for _, clientFirst := range []bool{true, false} {
			j := join(t, overTLS, Options{}, "", "")
			first, second := j.client, j.server
			if !clientFirst {
				first, second = second, first
			}
			io.WriteString(first, "last words")
			first.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(second); string(got) != "last words" || err != nil {
				t.Fatalf("client first %v: read %q: %v", clientFirst, got, err)
			}
			io.WriteString(second, "a long answer")
			second.Close()
			if got, err := io.ReadAll(first); string(got) != "a long answer" || err != nil {
				t.Fatalf("client first %v: read %q: %v", clientFirst, got, err)
			}
			if r := <-j.done; r.Err != nil {
				t.Errorf("result %+v", r)
			}
		}
	})
}

func TestASlowReaderHoldsTheOtherSideBack(t *testing.T) {
	j := join(t, true, Options{}, "", "")
	const total = 32 << 20
	written := make(chan error, 1)
	go func() {
		_, err := j.server.Write(make([]byte, total))
		j.server.Close()
		written <- err
	}()
	// Nothing has been read: the kernel's buffers are far smaller than this.
	if n := j.pair.carried[1].Load(); n >= total {
		t.Errorf("%d octets went nowhere", n)
	}
	n, err := io.Copy(io.Discard, j.client)
	if n != total || err != nil {
		t.Errorf("read %d octets: %v", n, err)
	}
	j.client.Close()
	if err := <-written; err != nil {
		t.Error(err)
	}
	<-j.done
}

func TestAKickEndsAPairAtAnyTime(t *testing.T) {
	for name, busy := range map[string]func(j *joined){
		"idle":                 func(j *joined) {},
		"nobody reads":         func(j *joined) { go j.server.Write(make([]byte, 16<<20)) },
		"nobody reads, upward": func(j *joined) { go j.client.Write(make([]byte, 16<<20)) },
		"half closed":          func(j *joined) { j.server.(*net.TCPConn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			transports(t, func(t *testing.T, overTLS bool) {
				j := join(t, overTLS, Options{}, "", "")
				busy(j)
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(j.pair.Kick)
				}
				wg.Wait()
				if r := <-j.done; !errors.Is(r.Err, ErrKicked) {
					t.Errorf("result %+v", r)
				}
				j.pair.Kick()
			})
		})
	}
}

func TestAKickedTLSClientReadsCloseNotifyAndNoWords(t *testing.T) {
	j := join(t, true, Options{}, "", "")
	j.pair.Kick()
	<-j.done
	// ReadAll of a TLS connection that lacks close_notify fails.
	if got, err := io.ReadAll(j.client); len(got) != 0 || err != nil {
		t.Errorf("read %q: %v", got, err)
	}
	if got, err := io.ReadAll(j.server); len(got) != 0 || err != nil {
		t.Errorf("the server read %q: %v", got, err)
	}
}

func TestAVanishedPeerEndsThePair(t *testing.T) {
	j := join(t, true, Options{}, "", "")
	j.client.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0) // reset
	j.client.(*tls.Conn).NetConn().Close()
	if r := <-j.done; r.Err == nil {
		t.Errorf("result %+v", r)
	}
}

func TestAnIdlePairEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		done := make(chan Result, 1)
		start := time.Now()
		Join(Side{Conn: a}, Side{Conn: b}, Options{Idle: 35 * time.Minute, Done: func(r Result) { done <- r }})
		go io.Copy(io.Discard, server)
		// A client that says something every half hour may stay.
		for range 4 {
			time.Sleep(30 * time.Minute)
			io.WriteString(client, "DONE\r\n")
		}
		r := <-done
		if !errors.Is(r.Err, ErrIdle) || time.Since(start) != 155*time.Minute || r.FromClient != 24 {
			t.Errorf("after %v: %+v", time.Since(start), r)
		}
	})
}

func TestAPairWhoseOtherHalfIsQuietDoesNotLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, a := net.Pipe()
		b, server := net.Pipe()
		done := make(chan Result, 1)
		start := time.Now()
		Join(Side{Conn: halfway{a}}, Side{Conn: halfway{b}}, Options{Done: func(r Result) { done <- r }})
		client.Close()
		r := <-done
		if !errors.Is(r.Err, ErrIdle) || time.Since(start) != Lingering {
			t.Errorf("after %v: %+v", time.Since(start), r)
		}
		server.Close()
	})
}

// halfway pretends that its writing half could be closed.
type halfway struct{ net.Conn }

func (halfway) CloseWrite() error { return nil }

func TestConnectionsWithoutHalvesEndTogether(t *testing.T) {
	client, a := net.Pipe()
	b, server := net.Pipe()
	done := make(chan Result, 1)
	Join(Side{Conn: a}, Side{Conn: b}, Options{Done: func(r Result) { done <- r }})
	client.Close()
	if r := <-done; r.Err != nil {
		t.Errorf("result %+v", r)
	}
	server.Close()
}

func TestTheFakeServerEchoesThroughTheRelay(t *testing.T) {
	fake := &mailtest.IMAP{}
	defer fake.Close()
	upstream, _ := fake.Dial(context.Background(), "", "")
	client, a := net.Pipe()
	done := make(chan Result, 1)
	pair := Join(Side{Conn: a}, Side{Conn: upstream}, Options{Done: func(r Result) { done <- r }})
	buf := make([]byte, 4)
	io.ReadFull(client, buf)
	if string(buf) != "* OK" {
		t.Errorf("read %q", buf)
	}
	pair.Kick()
	<-done
	client.Close()
}
