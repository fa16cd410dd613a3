package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A crowd of connections that never log in: their number, and the number of their sources
// in 127.0.0.0/8.
const (
	halfOpen        = 15_000
	halfOpenSources = 200
)

var (
	halfOpenMemory = measure{title: "peak RSS with 15,000 half-open connections, MiB", format: "%.0f"}
	halfOpenLogin  = measure{title: "LOGIN p50 beside them, ms", format: "%.2f"}
	halfOpenWorst  = measure{title: "the slowest of 100, ms", format: "%.2f"}
)

// visit is what a half-open connection sends before it stops.
type visit struct {
	name string
	// clear is sent without TLS to the port with TLS, starttls to the other port.
	clear    string
	starttls bool
	// secured is sent over TLS; below is sent after the handshake, below TLS.
	handshake bool
	secured   string
	below     string
}

var visits = []visit{
	{name: "nothing"},
	{name: "the header of a TLS record of 16 KiB", clear: "\x16\x03\x01\x40\x00"},
	{name: "8 KiB of a TLS record", clear: "\x16\x03\x01\x20\x00" + strings.Repeat("\x01", 8191)},
	{name: "nothing, in clear text", starttls: true},
	{name: "a command without end, in clear text", starttls: true, clear: "a ID (" + strings.Repeat("x", 16_000)},
	{name: "nothing after the handshake", handshake: true},
	{name: "a command without end", handshake: true, secured: "a LOGIN " + strings.Repeat("x", 16_000)},
	{name: "commands, and one without end", handshake: true, secured: strings.Repeat("a NOOP\r\n", 200) + "a LOGIN " + strings.Repeat("x", 14_000)},
	{name: "a SASL response without end", handshake: true,
		secured: "a AUTHENTICATE PLAIN\r\n" + base64.StdEncoding.EncodeToString(make([]byte, 9_000))},
	{name: "literals", handshake: true, secured: "a LOGIN" + strings.Repeat(" {3000+}\r\n"+strings.Repeat("x", 3000), 5)},
	{name: "the header of a record after the handshake", handshake: true, below: "\x17\x03\x03\x40\x11"},
	{name: "a large command, and the header of a record", handshake: true, secured: "a ID (\"x\" \"" + strings.Repeat("x", 1000) + "\")\r\n" + strings.Repeat("a NOOP\r\n", 1500), below: "\x17\x03\x03\x40\x11"},
}

// runCrowd is a process that opens the connections, reports this, and keeps them until
// its input ends. kinds are numbers of visits, separated by commas; empty: all.
func runCrowd(tlsPort, clearPort, kinds string) error {
	chosen := visits
	if kinds != "" {
		chosen = nil
		for word := range strings.SplitSeq(kinds, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 0 || n >= len(visits) {
				return fmt.Errorf("%q is no number below %d", word, len(visits))
			}
			chosen = append(chosen, visits[n])
		}
	}
	held := make([]net.Conn, halfOpen)
	var refused atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range held {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v := chosen[i%len(chosen)]
			port := tlsPort
			if v.starttls {
				port = clearPort
			}
			conn, err := v.pay(port, i%halfOpenSources)
			if err != nil {
				refused.Add(1)
			}
			held[i] = conn
		})
	}
	wg.Wait()
	// The server ends such connections now, or soon.
	time.Sleep(2 * time.Second)
	open := 0
	for _, conn := range held {
		if conn == nil {
			continue
		}
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	fmt.Printf("ready %d %d\n", open, refused.Load())
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// pay makes the visit and returns the connection below TLS.
func (v visit) pay(port string, source int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(source+1))}}
	raw, err := dialer.Dial("tcp", loopback(port))
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(patience))
	var conn net.Conn = raw
	if v.handshake {
		conn = tls.Client(raw, clientTLS)
	}
	if v.handshake || v.starttls {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // the greeting
			return raw, err
		}
	}
	if _, err := io.WriteString(raw, v.clear); err != nil {
		return raw, err
	}
	if _, err := io.WriteString(conn, v.secured); err != nil {
		return raw, err
	}
	_, err = io.WriteString(raw, v.below)
	return raw, err
}

// withCrowd measures the memory of a congthu with the crowd connected to it, and logins
// beside the crowd.
func (b *bench) withCrowd(peer string) error {
	_, ports, err := b.nothing(imap, 1)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, fmt.Sprintf("crowd%d", ports[0]))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	port, clear, config := freePort(), freePort(), filepath.Join(dir, "config")
	text := fmt.Sprintf(crowdConfig, domain, dir, b.cert, b.key, port, clear, ports[0])
	if err := write(config, text); err != nil {
		return err
	}
	server, err := launch(dir, "proxy", b.program(peer), "serve", "-c", config)
	if err != nil {
		return err
	}
	b.atEnd(server.stop)
	if err := server.awaitPort(port); err != nil {
		return err
	}
	if _, err := loginTimes(port, knownAccounts); err != nil {
		return err
	}
	// The fingerprints of 200 new passwords must not be measured.
	if err := untilQuiet([]*instance{{peer: peer, process: server}}); err != nil {
		return err
	}
	// proc(5): 5 resets the peak of the resident memory to its present value.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", server.cmd.Process.Pid), []byte("5"), 0); err != nil {
		return err
	}
	b.say("%d connections from %d sources that never log in, at %s", halfOpen, halfOpenSources, peer)
	crowd := &process{name: "crowd", done: make(chan struct{})}
	crowd.cmd = exec.Command(b.self, "crowd", strconv.Itoa(port), strconv.Itoa(clear), b.crowd)
	crowd.cmd.Stderr = os.Stderr
	in, err := crowd.cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer in.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	crowd.cmd.Stdout = write
	if err := crowd.begin(); err != nil {
		return err
	}
	b.atEnd(crowd.stop)
	write.Close()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the crowd: %w", err)
	}
	var open, refused int
	if _, err := fmt.Sscanf(line, "ready %d %d", &open, &refused); err != nil {
		return fmt.Errorf("the crowd says %q: %w", line, err)
	}
	times, err := loginTimes(port, 100)
	if err != nil {
		return err
	}
	slices.Sort(times)
	rss, err := server.peak()
	if err != nil {
		return err
	}
	b.say("%d are open, %d were refused while they spoke; at the end %s has %d MiB", open, refused, peer, rss.now>>10)
	b.results.add(halfOpenMemory.title, peer, float64(rss.peak)/1024)
	b.results.add(halfOpenLogin.title, peer, times[len(times)/2].Seconds()*1000)
	b.results.add(halfOpenWorst.title, peer, times[len(times)-1].Seconds()*1000)
	crowd.stop()
	server.stop()
	return nil
}

type residents struct{ now, peak int64 } // KiB

// peak returns the resident memory of the process, and its peak (proc(5), VmRSS and
// VmHWM).
func (p *process) peak() (r residents, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(text)) {
		key, rest, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &r.now, "VmHWM": &r.peak}[key]
		if into == nil {
			continue
		}
		if *into, err = strconv.ParseInt(strings.Fields(rest)[0], 10, 64); err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
	}
	return r, nil
}

// The time before login is long, so that the crowd stays connected.
const crowdConfig = `domain: %s
data_dir: %s/data
tls: { certificate: %s, key: %s }
imap:
  listen:
    - { address: "127.0.0.1:%d", tls: implicit }
    - { address: "127.0.0.1:%d", tls: starttls }
  upstream: { address: "127.0.0.1:%d" }
smtp:
  listen: []
  upstream: { address: "127.0.0.1:9" }
rules:
  password: { change_url: "https://matkhau.congthu.test/" }
limits: { connections: 40000, connections_per_source: 20000, login_timeout: 10m, login_total: 10m }
drain_timeout: 0s
`
