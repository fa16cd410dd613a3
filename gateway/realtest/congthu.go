package realtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Token is the bearer token, with all scopes, that every gateway of the tests accepts;
// Admin is the name of its holder.
const (
	Token = "realtest-token"
	Admin = "Tran Thi Kiem"
)

// binary builds congthu once per run. With CONGTHU_RACE=1 in the environment it has the
// race detector, which takes minutes to compile.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "congthu-bin")
	if err != nil {
		return "", err
	}
	atEnd(func() { os.RemoveAll(dir) })
	argv := []string{"build", "-buildvcs=false", "-o", filepath.Join(dir, "congthu")}
	if raceDetector() {
		argv = append(argv, "-race")
	}
	cmd := exec.Command("go", append(argv, "congthu")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "congthu"), nil
})

func raceDetector() bool { return os.Getenv("CONGTHU_RACE") == "1" }

// Binary returns the path of the program, which is built once per run.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Setup is the configuration of a gateway in the tests. A zero field means the default
// stated with it.
type Setup struct {
	// Dovecot and Postfix are the servers behind the gateway; nil means the shared
	// ones.
	Dovecot *DovecotServer
	Postfix *PostfixServer
	// Proxy is the form of TLS, starttls or implicit, after a PROXY header that names
	// the client to the servers; "" means ID and XCLIENT instead.
	Proxy string
	// Extra are further lines of the configuration, such as a throttle section.
	Extra string
	// Limits are lines of the limits section, indented by four spaces.
	Limits string
	// Dir is an existing data directory to use again; "" means a new one.
	Dir string
}

// Gateway is a running congthu.
type Gateway struct {
	IMAP, IMAPS, Submission, Submissions int // ports on 127.0.0.1
	POP3, POP3S                          int // the same, in front of Dovecot
	Admin                                int // the admin listener, with /metrics
	Dir                                  string
	Config                               string // path of the configuration file
	Socket                               string // the admin socket
	Log                                  string

	Process *Process
}

var sharedGateway struct {
	sync.Mutex
	gateway *Gateway
}

// Congthu returns the gateway that all tests of the run share, in front of the shared
// servers. All tests come from one address or a few, so its throttle permits more;
// otherwise it has a minimal configuration.
func Congthu(t testing.TB) *Gateway {
	t.Helper()
	Postfix(t)
	sharedGateway.Lock()
	defer sharedGateway.Unlock()
	if sharedGateway.gateway == nil {
		g := configure(t, Setup{Extra: "throttle: { accounts: 10000, failures: 100000 }"}, newDir(t, "g"))
		g.Start(t)
		atEnd(g.Stop)
		sharedGateway.gateway = g
	}
	tailOnFailure(t, sharedGateway.gateway.Log)
	return sharedGateway.gateway
}

// OwnCongthu starts a gateway for one test.
func OwnCongthu(t testing.TB, s Setup) *Gateway {
	t.Helper()
	g := Configured(t, s)
	g.Start(t)
	t.Cleanup(func() { g.Process.Kill() })
	return g
}

// Configured prepares a gateway for its start.
func Configured(t testing.TB, s Setup) *Gateway {
	t.Helper()
	dir := s.Dir
	if dir == "" {
		dir = newDir(t, "g")
	}
	g := configure(t, s, dir)
	tailOnFailure(t, g.Log)
	return g
}

func configure(t testing.TB, s Setup, dir string) *Gateway {
	t.Helper()
	if s.Dovecot == nil {
		s.Dovecot = Dovecot(t)
	}
	if s.Postfix == nil {
		s.Postfix = Postfix(t)
	}
	g := &Gateway{
		IMAP: freePort(t), IMAPS: freePort(t), Submission: freePort(t), Submissions: freePort(t), POP3: freePort(t), POP3S: freePort(t), Admin: freePort(t),
		Dir: dir, Config: filepath.Join(dir, "congthu.yaml"), Log: filepath.Join(dir, "congthu.log"),
		Socket: filepath.Join(dir, "data", "admin.sock"),
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	ca := TheAuthority(t)
	cert, key := ca.Issue(t, filepath.Base(dir))
	token := sha256.Sum256([]byte(Token))
	tls, imap, smtp, id, xclient := "starttls", s.Dovecot.IMAP, s.Postfix.Submission, "id", "xclient"
	switch s.Proxy {
	case "starttls":
		imap, smtp, id, xclient = s.Dovecot.Proxied, s.Postfix.Proxied, "proxy", "proxy"
	case "implicit":
		tls, imap, smtp, id, xclient = s.Proxy, s.Dovecot.ProxiedS, s.Postfix.ProxiedS, "proxy", "proxy"
	}
	pop3 := ""
	if s.Dovecot.POP3 > 0 {
		pop3 = fmt.Sprintf(`pop3:
  listen:
    - { address: "127.0.0.1:%d", tls: starttls }
    - { address: "127.0.0.1:%d", tls: implicit }
  upstream: { address: "127.0.0.1:%d", tls: starttls, ca_file: %s, server_name: localhost }
`, g.POP3, g.POP3S, s.Dovecot.POP3, ca.File)
	}
	limits := ""
	if s.Limits != "" {
		limits = "limits:\n" + s.Limits + "\n"
	}
	writeFile(t, g.Config, fmt.Sprintf(`domain: %s
hostname: gateway.%[1]s
data_dir: %[2]s/data
tls: { certificate: %[3]s, key: %[4]s }
imap:
  listen:
    - { address: "127.0.0.1:%[5]d", tls: starttls }
    - { address: "127.0.0.1:%[6]d", tls: implicit }
  upstream: { address: "127.0.0.1:%[7]d", tls: %[19]s, ca_file: %[8]s, server_name: localhost, pass_client: %[20]s }
smtp:
  listen:
    - { address: "127.0.0.1:%[9]d", tls: starttls }
    - { address: "127.0.0.1:%[10]d", tls: implicit }
  upstream: { address: "127.0.0.1:%[11]d", tls: %[19]s, ca_file: %[8]s, server_name: localhost, pass_client: %[21]s }
%[22]srules:
  password: { change_url: "https://matkhau.%[1]s/" }
aliases: { vanthu@%[1]s: %[12]s }
delegations: { vanphong@%[1]s: [%[13]s] }
admin:
  listen: "127.0.0.1:%[14]d"
  tokens: [ { name: "%[15]s", sha256: "%[16]s", scopes: [read, unlock, lock, restore, grace, audit] } ]
log: { level: debug, format: json }
drain_timeout: 5s
%[17]s%[18]s
`, Domain, dir, cert, key, g.IMAP, g.IMAPS, imap, ca.File, g.Submission, g.Submissions, smtp,
		AliasOf, DelegateOf, g.Admin, Admin, hex.EncodeToString(token[:]), limits, s.Extra, tls, id, xclient, pop3), 0o600)
	return g
}

// AliasOf is the account with the alias vanthu@, and DelegateOf the one that may send
// as vanphong@. Tests must not use them for other purposes.
var (
	AliasOf    = accountName(accounts - 1)
	DelegateOf = accountName(accounts - 2)
)

// Start starts the gateway and waits until it is ready.
func (g *Gateway) Start(t testing.TB) {
	t.Helper()
	g.StartWith(t)
}

// StartWith is Start with settings in the environment, such as "GOMEMLIMIT=32MiB".
func (g *Gateway) StartWith(t testing.TB, environment ...string) {
	t.Helper()
	argv := append([]string{"env"}, environment...)
	g.Process = start(t, "congthu", g.Log, append(argv, Binary(t), "serve", "-c", g.Config)...)
	Eventually(t, "congthu to be ready", func() bool {
		if code, ended := g.Process.Exited(); ended {
			t.Fatalf("congthu ended with code %d:\n%s", code, readFrom(g.Log, 0))
		}
		code, _ := Get(t, g.URL("/readyz"))
		return code == http.StatusOK
	})
}

// Stop stops the gateway.
func (g *Gateway) Stop() { g.Process.Stop() }

// Reload sends SIGHUP.
func (g *Gateway) Reload() { g.Process.Signal(syscall.SIGHUP) }

// Memory returns the largest resident memory of the gateway so far, in octets.
func (g *Gateway) Memory(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.Process.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Sscan(rest, &kib)
		}
	}
	return kib << 10
}

// URL returns the URL of a page of the admin listener.
func (g *Gateway) URL(path string) string { return "http://" + addr(g.Admin) + path }

// LogText returns the whole log.
func (g *Gateway) LogText() string { return readFrom(g.Log, 0) }

// Run runs a subcommand that calls this gateway through its socket.
func (g *Gateway) Run(t testing.TB, args ...string) Output {
	t.Helper()
	return Command(t, "", nil, append(append([]string{Binary(t)}, args...), "--socket", g.Socket)...)
}

// Get fetches a page without a token; code 0 means no answer.
func Get(t testing.TB, url string) (code int, body string) {
	t.Helper()
	return request(t, http.MethodGet, url, "", nil)
}

// API sends a request to the admin interface with the token.
func (g *Gateway) API(t testing.TB, method, path, body string) (code int, answer string) {
	t.Helper()
	return request(t, method, g.URL("/api/v1"+path), body, map[string]string{"Authorization": "Bearer " + Token})
}

// Failures returns the number of wrong passwords that the gateway has counted on an
// account.
func (g *Gateway) Failures(t testing.TB, user string) int {
	t.Helper()
	status, body := g.API(t, http.MethodGet, "/accounts/"+user, "")
	var account struct{ Failures *int }
	if err := json.Unmarshal([]byte(body), &account); status != http.StatusOK || err != nil || account.Failures == nil {
		t.Fatalf("GET /accounts/%s: %d %s (%v)", user, status, body, err)
	}
	return *account.Failures
}

func request(t testing.TB, method, url, body string, header map[string]string) (code int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(response.Body); err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, text.String()
}
