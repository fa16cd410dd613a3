package cli

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
)

// site is a directory with a configuration, in which a test runs gateways.
type site struct {
	t    *testing.T
	dir  string
	file string
	// prepare is called with the store before the gateway listens, unless it is nil.
	prepare func(context.Context, auth.Store, auth.Fingerprinter) error
	// rules are further fields of the rules: ", lockout: { tolerated: 5 }".
	rules string
}

// newSite makes a site; more is YAML that is added to the configuration.
func newSite(t *testing.T, more string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "congthu") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := demoCertificate(dir); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: dir, file: filepath.Join(dir, "congthu.yaml")}
	s.configure(more)
	return s
}

// configure writes the configuration again.
func (s *site) configure(more string) {
	s.t.Helper()
	text := `domain: example.vn
hostname: localhost
data_dir: .
tls: { certificate: cert.pem, key: key.pem }
imap:
  listen: [{ address: "127.0.0.1:0", tls: starttls }]
  upstream: { address: "127.0.0.1:1", tls: none }
smtp: { listen: [] }
rules: { password: { mode: off }` + s.rules + ` }
` + more
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// path returns the path of a file of the site.
func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// has reports whether the site has a file.
func (s *site) has(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}

func (s *site) remove(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if err := os.Remove(s.path(name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// process is a running gateway, as congthu serve runs it.
type process struct {
	*site
	server *server
	end    context.CancelFunc
	done   chan error
	log    *lockedBuffer
}

// start runs a gateway until the end of the test. The error is the reason of a start
// that was refused.
func (s *site) start() (*process, error) {
	s.t.Helper()
	c, err := config.Load(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &process{site: s, done: make(chan error, 1), log: new(lockedBuffer)}
	ready := make(chan struct{})
	p.server = &server{
		log:   slog.New(slog.NewTextHandler(p.log, nil)),
		load:  func() (*config.Config, error) { return config.Load(s.file) },
		ready: func() { close(ready) },

		prepare: s.prepare,
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	go func() { p.done <- p.server.run(ctx, c) }()
	select {
	case err := <-p.done:
		cancel()
		p.done <- nil
		return nil, err
	case <-ready:
		s.t.Cleanup(func() { p.stop() })
		return p, nil
	}
}

// run is start; a refusal fails the test.
func (s *site) run() *process {
	s.t.Helper()
	p, err := s.start()
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// stop ends the gateway in the regular way.
func (p *process) stop() error {
	p.end()
	err := <-p.done
	p.done <- nil
	return err
}

// wantRefused checks that the gateway refuses to start, with the given advice.
func (s *site) wantRefused(advice ...string) {
	s.t.Helper()
	p, err := s.start()
	if err == nil {
		p.stop()
		s.t.Error("the gateway has started")
		return
	}
	s.t.Log(err)
	for _, a := range advice {
		if !strings.Contains(err.Error(), a) {
			s.t.Errorf("the error does not say %q: %v", a, err)
		}
	}
}

// get requests a page at the admin socket.
func (p *process) get(path string) (status int, body string) {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.path("admin.sock"))
	}}}
	r, err := client.Get("http://congthu" + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// eventually waits until a condition holds.
func (s *site) eventually(what string, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("in 30 s it did not happen that %s", what)
		}
	}
}

// command runs a congthu command at the site.
func (s *site) command(args ...string) (code int, output string) {
	s.t.Helper()
	var out, err bytes.Buffer
	code = Run(context.Background(), args, strings.NewReader(""), &out, &err)
	return code, out.String() + err.String()
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
