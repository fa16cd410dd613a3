package relay

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"congthu/gateway/mailtest"
)

// soon is a Quiet that tests can wait for.
const soon = 2 * time.Millisecond

// len is how many directions are parked.
func (l *idlePoller) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set == nil {
		return 0
	}
	return len(l.set.parked)
}

// untilParked waits until n directions are parked in the whole process.
func untilParked(t testing.TB, n int) {
	t.Helper()
	for range 5000 {
		if poller.len() == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d directions are parked, want %d", poller.len(), n)
}

// exchange sends a word each way.
func (j *joined) exchange(t testing.TB, up, down string) {
	t.Helper()
	for _, way := range []struct {
		from, to net.Conn
		word     string
	}{{j.client, j.server, up}, {j.server, j.client, down}} {
		if _, err := io.WriteString(way.from, way.word); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(way.word))
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != way.word {
			t.Fatalf("read %q, %v; want %q", got, err, way.word)
		}
	}
}

func TestAQuietPairHasNoGoroutine(t *testing.T) {
	transports(t, func(t *testing.T, overTLS bool) {
		const pairs = 50
		before := runtime.NumGoroutine()
		var all []*joined
		for range pairs {
			all = append(all, join(t, overTLS, Options{Quiet: soon}, "", ""))
		}
		untilParked(t, 2*pairs)
		for range 1000 { // those that have parked just now have yet to return
			if runtime.NumGoroutine() <= before+1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if n := runtime.NumGoroutine() - before; n > 1 {
			t.Errorf("%d goroutines for %d quiet pairs, want the one of the lot", n, pairs)
		}
		for i, j := range all { // and each comes back, again and again
			for n := range 3 {
				j.exchange(t, fmt.Sprint("up ", i, n), fmt.Sprint("down ", i, n))
				if n == 1 {
					untilParked(t, 2*pairs)
				}
			}
		}
		untilParked(t, 2*pairs)
		for _, j := range all {
			j.client.Close()
			j.server.Close()
			if r := <-j.done; r.Err != nil {
				t.Errorf("result %+v", r)
			}
		}
		untilParked(t, 0)
	})
}

func TestWhatHappensToAParkedPair(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(j *joined)
		want error
	}{
		"kicked": {func(j *joined) { j.pair.Kick() }, ErrKicked},
		"kicked by many": {func(j *joined) {
			for range 5 {
				go j.pair.Kick()
			}
		}, ErrKicked},
		"kicked as words come": {func(j *joined) { go io.WriteString(j.client, "words"); j.pair.Kick() }, ErrKicked},
		"the client leaves":    {func(j *joined) { j.client.Close(); j.server.Close() }, nil},
		"the server leaves":    {func(j *joined) { j.server.Close(); j.client.Close() }, nil},
		"the client is reset":  {func(j *joined) { reset(j.client) }, syscall.ECONNRESET},
		"the server is reset":  {func(j *joined) { reset(j.server) }, syscall.ECONNRESET},
		"nothing for too long": {func(j *joined) {}, ErrIdle},
	} {
		t.Run(name, func(t *testing.T) {
			transports(t, func(t *testing.T, overTLS bool) {
				o := Options{Quiet: soon}
				if c.want == ErrIdle {
					o.Idle = 100 * time.Millisecond
				}
				j := join(t, overTLS, o, "", "")
				untilParked(t, 2)
				c.do(j)
				if r := <-j.done; !errors.Is(r.Err, c.want) {
					t.Errorf("ended with %v, want %v", r.Err, c.want)
				}
				untilParked(t, 0)
			})
		})
	}
}

func reset(conn net.Conn) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func TestAHalfThatEndsWhileParkedLetsTheOtherGoOn(t *testing.T) {
	transports(t, func(t *testing.T, overTLS bool) {
		j := join(t, overTLS, Options{Quiet: soon}, "", "")
		untilParked(t, 2)
		j.client.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(j.server); len(got) > 0 || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		untilParked(t, 1)
		io.WriteString(j.server, "a late answer")
		j.server.Close()
		if got, err := io.ReadAll(j.client); string(got) != "a late answer" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		if r := <-j.done; r.Err != nil {
			t.Errorf("result %+v", r)
		}
	})
}

// A TLS record that has come in part must not be lost when its direction parks.
func TestARecordInPiecesSurvivesParking(t *testing.T) {
	clientEnd, gatewayEnd := tcp(t)
	trickle := &trickler{Conn: clientEnd}
	client := tls.Client(trickle, mailtest.ClientTLS())
	server := tls.Server(gatewayEnd, mailtest.ServerTLS())
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	upstream, far := tcp(t)
	done := make(chan Result, 1)
	Join(Side{Conn: server}, Side{Conn: upstream}, Options{Quiet: soon, Done: func(r Result) { done <- r }})
	trickle.on = true
	want := bytes.Repeat([]byte("octet "), 20)
	go func() {
		client.Write(want)
		client.Close()
	}()
	if got, err := io.ReadAll(far); !bytes.Equal(got, want) || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	far.Close()
	<-done
}

// trickler writes a few octets at a time, with pauses in which what reads them
// parks.
type trickler struct {
	net.Conn
	on bool
}

func (c *trickler) Write(b []byte) (n int, err error) {
	for c.on && n < len(b) {
		m, err := c.Conn.Write(b[n:min(n+13, len(b))])
		if n += m; err != nil {
			return n, err
		}
		time.Sleep(2 * soon)
	}
	if n == len(b) {
		return n, nil
	}
	return c.Conn.Write(b)
}

// Pauses of about the time after which a direction parks: octets come while it
// parks, is parked and is taken up again.
func TestEveryOctetArrivesWhenDirectionsParkAllTheTime(t *testing.T) {
	transports(t, func(t *testing.T, overTLS bool) {
		for seed := range uint64(4) {
			j := join(t, overTLS, Options{Quiet: time.Duration(seed) * 100 * time.Microsecond}, "ahead ", "before ")
			var wg sync.WaitGroup
			for i, way := range []struct {
				from, to net.Conn
				ahead    string
			}{{j.client, j.server, "ahead "}, {j.server, j.client, "before "}} {
				rnd := rand.New(rand.NewPCG(seed, uint64(i)))
				sent := noise(rnd, 40_000)
				wg.Go(func() {
					for rest := sent; len(rest) > 0; {
						n := min(len(rest), 1+rnd.IntN(1<<(1+rnd.IntN(12))))
						if _, err := way.from.Write(rest[:n]); err != nil {
							t.Errorf("write: %v", err)
							return
						}
						rest = rest[n:]
						switch rnd.IntN(4) {
						case 0:
							time.Sleep(time.Duration(rnd.IntN(500)) * time.Microsecond)
						case 1:
							runtime.Gosched()
						}
					}
					way.from.(interface{ CloseWrite() error }).CloseWrite()
				})
				wg.Go(func() {
					got, err := io.ReadAll(way.to)
					if want := append([]byte(way.ahead), sent...); !bytes.Equal(got, want) || err != nil {
						t.Errorf("seed %d: got %d octets of %d, or others: %v", seed, len(got), len(want), err)
					}
				})
			}
			wg.Wait()
			if r := <-j.done; r.Err != nil {
				t.Errorf("result %+v", r)
			}
		}
	})
}

// Descriptors are used again at once: an event of a pair that has ended must not
// reach another.
func TestDescriptorsThatAreUsedAgainMeetTheRightPair(t *testing.T) {
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 7))
			for round := range 60 {
				j := join(t, false, Options{Quiet: 100 * time.Microsecond}, "", "")
				if rnd.IntN(2) == 0 {
					time.Sleep(time.Duration(rnd.IntN(600)) * time.Microsecond)
				}
				j.exchange(t, fmt.Sprint("up", worker, round), fmt.Sprint("down", worker, round))
				switch rnd.IntN(3) {
				case 0:
					j.pair.Kick()
				case 1:
					reset(j.client)
				default:
					j.client.Close()
				}
				j.server.Close()
				j.client.Close()
				<-j.done
			}
		})
	}
	wg.Wait()
	untilParked(t, 0)
}

// FuzzSchedule lets a pair live through any order of words, pauses and ends.
func FuzzSchedule(f *testing.F) {
	f.Add([]byte("uPdPUpDPk"))
	f.Add([]byte("PPuuuuddddPc"))
	f.Add([]byte("PUPs"))
	f.Add([]byte("puPdPcPdPs"))
	f.Fuzz(func(t *testing.T, schedule []byte) {
		if len(schedule) > 64 {
			return
		}
		j := join(t, len(schedule)%2 == 0, Options{Quiet: 200 * time.Microsecond}, "", "")
		var up, down bytes.Buffer
		received := make(chan [2][]byte, 1)
		go func() {
			var got [2][]byte
			var wg sync.WaitGroup
			wg.Go(func() { got[0], _ = io.ReadAll(j.server) })
			wg.Go(func() { got[1], _ = io.ReadAll(j.client) })
			wg.Wait()
			received <- got
		}()
		kicked, clientEnded, serverEnded := false, false, false
		for i, c := range schedule {
			word := []byte(fmt.Sprint("word", i, " "))
			switch c {
			case 'u', 'U':
				if clientEnded {
					continue
				}
				if c == 'U' {
					word = bytes.Repeat(word, 3000)
				}
				if _, err := j.client.Write(word); err == nil {
					up.Write(word)
				}
			case 'd', 'D':
				if serverEnded {
					continue
				}
				if c == 'D' {
					word = bytes.Repeat(word, 3000)
				}
				if _, err := j.server.Write(word); err == nil {
					down.Write(word)
				}
			case 'p':
				time.Sleep(150 * time.Microsecond)
			case 'P':
				time.Sleep(500 * time.Microsecond)
			case 'c':
				clientEnded = true
				j.client.(interface{ CloseWrite() error }).CloseWrite()
			case 's':
				serverEnded = true
				j.server.(interface{ CloseWrite() error }).CloseWrite()
			case 'k':
				kicked = true
				j.pair.Kick()
			}
		}
		j.client.(interface{ CloseWrite() error }).CloseWrite()
		j.server.(interface{ CloseWrite() error }).CloseWrite()
		r := <-j.done
		got := <-received
		for i, want := range [][]byte{up.Bytes(), down.Bytes()} {
			if whole := bytes.Equal(got[i], want); !whole && (!kicked || !bytes.HasPrefix(want, got[i])) {
				t.Errorf("way %d: %d octets of %d, or others; %v", i, len(got[i]), len(want), r.Err)
			}
		}
		if kicked != (r.Err != nil) && !(kicked && r.Err == nil) {
			t.Errorf("ended with %v", r.Err)
		}
	})
}

// BenchmarkQuietPair is what a pair costs on which nothing moves.
func BenchmarkQuietPair(b *testing.B) {
	for _, overTLS := range []bool{false, true} {
		b.Run(fmt.Sprintf("tls=%v", overTLS), func(b *testing.B) {
			var ends []*joined
			for range b.N {
				ends = append(ends, join(b, overTLS, Options{Quiet: soon}, "", ""))
			}
			untilParked(b, 2*b.N)
			for _, j := range ends {
				j.pair.Kick()
				<-j.done
			}
		})
	}
}

// Between two commands nothing is lost; within a reply, half of it would be.
func TestAPairThatIsToEndWhenQuietEndsAtItsNextPause(t *testing.T) {
	t.Run("quiet already", func(t *testing.T) {
		j := join(t, true, Options{Quiet: time.Millisecond}, "", "")
		untilParked(t, 2)
		j.pair.KickWhenQuiet()
		if r := <-j.done; !errors.Is(r.Err, ErrKicked) {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("busy", func(t *testing.T) {
		j := join(t, true, Options{Quiet: 50 * time.Millisecond}, "", "")
		j.pair.KickWhenQuiet()
		const size = 4 << 20
		go j.server.Write(make([]byte, size))
		// In one go, and in pieces that are less apart than a pause.
		if n, err := io.ReadFull(j.client, make([]byte, size)); err != nil {
			t.Fatalf("after %d octets: %v", n, err)
		}
		if r := <-j.done; !errors.Is(r.Err, ErrKicked) || r.FromUpstream != size {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("one side quiet", func(t *testing.T) {
		j := join(t, false, Options{Quiet: time.Millisecond}, "", "")
		untilParked(t, 2)
		go j.server.Write(make([]byte, 64<<20)) // more than sockets hold: nobody reads
		untilParked(t, 1)
		j.pair.KickWhenQuiet()
		select {
		case r := <-j.done:
			t.Errorf("ended in the middle of something: %+v", r)
		default:
		}
		j.pair.Kick()
		<-j.done
	})
}
