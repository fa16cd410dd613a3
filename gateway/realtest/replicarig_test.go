package realtest

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"congthu/auth/postgres/pgtest"
	"congthu/gateway/mailtest"
)

// Replicas are gateways on one PostgreSQL, in front of one mail server. The mail
// server is a fake, since it must count in no time what it judges, and Dovecot
// would sleep after each wrong password; everything else is real.
type Replicas struct {
	Gateways []*Gateway
	Database *pgtest.Server
	Mail     *mailtest.IMAP
	// Lease is how long a gateway that is gone keeps its slots.
	Lease time.Duration

	shared string // directory of what they have in common
	taken  int
	asked  atomic.Int64 // verdicts that the mail server was asked for
}

// replicaLease is short, so that tests need not wait for long.
const replicaLease = 2 * time.Second

// replicaAccounts are how many accounts the fake mail server has.
const replicaAccounts = 4000

// NewReplicas starts n gateways, with a PostgreSQL and a mail server of their
// own, which is distance away for each chunk of what is said.
func NewReplicas(t *testing.T, n int, distance time.Duration) *Replicas {
	t.Helper()
	r := &Replicas{Lease: replicaLease, Database: pgtest.Start(t, pgtest.Options{Settings: map[string]string{
		"wal_writer_delay": "10s", // a commit that does not wait for the log is lost in a crash
	}})}
	r.Mail = &mailtest.IMAP{Accounts: make(map[string]string), Misbehave: func(s mailtest.Step) mailtest.Misdeed {
		if s == "verdict" {
			return r.thoughtful()
		}
		return mailtest.Misdeed{}
	}}
	for i := range replicaAccounts {
		r.Mail.Accounts[replicaAccount(i)] = Password
	}
	address, err := r.Mail.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Mail.Close() })
	shared := newDir(t, "r")
	r.shared = shared
	dsn := r.Database.DSN("postgres")
	if distance > 0 {
		dsn = strings.Replace(dsn, filepath.Dir(r.Database.Socket()), r.far(t, distance), 1)
	}
	writeFile(t, filepath.Join(shared, "dsn"), dsn+" password="+databasePassword+"\n", 0o600)
	for i := range n {
		r.Gateways = append(r.Gateways, configureReplica(t, shared, i, address))
	}
	for _, g := range r.Gateways {
		g.Start(t)
		t.Cleanup(func() { g.Process.Kill() })
		tailOnFailure(t, g.Log)
	}
	return r
}

// far returns the directory of a socket behind which the database is far away: a
// network's distance makes wide what is narrow on one machine, the time between
// what a transaction reads and what it writes.
func (r *Replicas) far(t *testing.T, distance time.Duration) (dir string) {
	t.Helper()
	dir = newDir(t, "p")
	l, err := net.Listen("unix", filepath.Join(dir, filepath.Base(r.Database.Socket())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	carry := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			time.Sleep(distance)
			if _, wrong := to.Write(buffer[:n]); err != nil || wrong != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("unix", r.Database.Socket())
			if err != nil {
				near.Close()
				continue
			}
			go carry(near, there)
			go carry(there, near)
		}
	}()
	return dir
}

func (r *Replicas) pepper() string { return filepath.Join(r.shared, "pepper.key") }

// databasePassword is in the connection string, and must be nowhere else.
const databasePassword = "kanarienvogel"

func replicaAccount(i int) string { return fmt.Sprintf("r%04d@%s", i, Domain) }

// configureReplica writes the configuration of one gateway. They share the
// connection string and the pepper.
func configureReplica(t *testing.T, shared string, i int, mail string) *Gateway {
	t.Helper()
	dir := newDir(t, "g")
	g := &Gateway{
		IMAP: freePort(t), IMAPS: freePort(t), Admin: freePort(t), Dir: dir,
		Config: filepath.Join(dir, "congthu.yaml"), Log: filepath.Join(dir, "congthu.log"), Socket: filepath.Join(dir, "data", "admin.sock"),
	}
	cert, key := TheAuthority(t).Issue(t, filepath.Base(dir))
	token := sha256.Sum256([]byte(Token))
	writeFile(t, g.Config, fmt.Sprintf(`domain: %s
hostname: gateway%d.%[1]s
data_dir: %[3]s/data
tls: { certificate: %[4]s, key: %[5]s }
imap:
  listen: [ { address: "127.0.0.1:%[6]d", tls: implicit } ]
  upstream: %[7]s
smtp: { listen: [] }
rules: { password: { change_url: "https://matkhau.%[1]s/" } }
store:
  driver: postgres
  pepper_file: %[8]s/pepper.key
  postgres:
    dsn_file: %[8]s/dsn
    lease: %[9]s
    statement_timeout: 1500ms
    lock_timeout: 1s
throttle: { enabled: false }
admin:
  listen: "127.0.0.1:%[10]d"
  tokens: [ { name: "%[11]s", sha256: "%[12]s", scopes: [read, unlock, lock, restore, grace, audit] } ]
log: { level: info, format: json }
drain_timeout: 1s
`, Domain, i, dir, cert, key, g.IMAPS, mail, shared, replicaLease, g.Admin, Admin, hex.EncodeToString(token[:])), 0o600)
	return g
}

// Account returns an account that no other test of these replicas has.
func (r *Replicas) Account(t testing.TB) string {
	t.Helper()
	if r.taken++; r.taken > replicaAccounts {
		t.Fatal("no account is left")
	}
	return replicaAccount(r.taken - 1)
}

// Wrong is how many wrong passwords of a user the mail server was made to judge.
func (r *Replicas) Wrong(user string) int { return r.Mail.Verdicts(user).Wrong }

// Guess logs in once and returns the code of the reply; "" when there was none,
// as of a gateway that is dead.
func (g *Gateway) Guess(t testing.TB, from, user, password string) string {
	conn, r, err := g.dial(t, from)
	if err != nil {
		return ""
	}
	defer conn.Close()
	return command(conn, r, "LOGIN "+quoted(user)+" "+quoted(password))
}

func (g *Gateway) dial(t testing.TB, from string) (net.Conn, *bufio.Reader, error) {
	dialer := &net.Dialer{Timeout: patience}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr(g.IMAPS), TheAuthority(t).TLS())
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil { // the greeting
		conn.Close()
		return nil, nil, err
	}
	return conn, r, nil
}

// command says one command and returns the code of the reply.
func command(conn net.Conn, r *bufio.Reader, text string) string {
	if _, err := io.WriteString(conn, "a "+text+"\r\n"); err != nil {
		return ""
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		if reply, tagged := strings.CutPrefix(line, "a "); tagged {
			return code(reply)
		}
	}
}

// Metric is the value of a metric, with its labels as they are written; 0 when
// it is not there.
func (g *Gateway) Metric(t testing.TB, series string) float64 {
	t.Helper()
	_, body := Get(t, g.URL("/metrics"))
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// Resident is how much memory the gateway has at the moment, in octets.
func (g *Gateway) Resident(t testing.TB) int64 {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", g.Process.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	fmt.Sscan(string(statm), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// AccountState is what the admin interface says of an account.
type AccountState struct {
	State     string    `json:"state"`
	Failures  int       `json:"failures"`
	LastLogin time.Time `json:"last_login"`
}

// Show asks for an account.
func (g *Gateway) Show(t testing.TB, user string) (a AccountState) {
	t.Helper()
	status, body := g.API(t, "GET", "/accounts/"+user, "")
	if err := json.Unmarshal([]byte(body), &a); err != nil || status != 200 {
		t.Fatalf("account %s: %d %s (%v)", user, status, body, err)
	}
	return a
}

// Act does something to an account, with a reason.
func (g *Gateway) Act(t testing.TB, verb, user string) {
	t.Helper()
	if status, body := g.API(t, "POST", "/accounts/"+user+"/"+verb, `{"reason":"a test"}`); status != 200 {
		t.Fatalf("%s %s: %d %s", verb, user, status, body)
	}
}
