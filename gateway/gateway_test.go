package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/storetest"
	"congthu/auth/storetest/testenv"
	"congthu/auth/throttle"
	"congthu/gateway/config"
	"congthu/gateway/demo"
	"congthu/gateway/mailtest"
	"congthu/gateway/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store without a disk.
type memory struct{ storetest.Model }

func (*memory) Health(context.Context) error { return nil }

// counts records what the gateway reports to its metrics.
type counts struct {
	knownNetworks atomic.Int64
	mu            sync.Mutex
	outcomes      map[auth.Outcome]int
	reloads       []error
	expires       time.Time // of the certificate that clients see
	oldest        time.Time // event of the audit log
	unread        error     // why the certificate of the files is not in force
	panics        int       // of the admin interface
	panicked      map[auth.Protocol]int
	scraped       http.HandlerFunc
}

func (c *counts) RecordAttempt(_ auth.Attempt, v auth.Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[v.Outcome]++
}

func (c *counts) Reloaded(_ time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reloads = append(c.reloads, err)
}

func (c *counts) CertificatesExpire(clients, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires = clients
}

func (c *counts) CertificatesRead(clients, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread = clients
}

func (*counts) RecordEvent(auth.Event, bool)              {}
func (*counts) Opened(auth.Protocol)                      {}
func (*counts) Closed(auth.Protocol)                      {}
func (*counts) RecordHandshake(auth.Protocol, error)      {}
func (*counts) Relayed(auth.Protocol, int64, int64)       {}
func (*counts) Submitted(smtp.Result)                     {}
func (*counts) UpstreamUp(auth.Protocol, bool)            {}
func (*counts) StoreUp(bool)                              {}
func (*counts) Accounts(auth.AccountStats)                {}
func (*counts) RulesInForce(auth.Rules)                   {}
func (c *counts) KnownNetworks(n int)                     { c.knownNetworks.Store(int64(n)) }
func (*counts) Attacks(int)                               {}
func (*counts) ThrottledSources([]throttle.RefusedSource) {}
func (*counts) UnknownNames(int)                          {}
func (*counts) SharedCounters(auth.Counters)              {}
func (*counts) RecordSweep(time.Time, error)              {}
func (*counts) ChainVerified(time.Time, error)            {}
func (*counts) Watch(func() int, func() int)              {}
func (*counts) ClockSuspect(bool)                         {}
func (*counts) RulesBehind(bool)                          {}

func (c *counts) AuditOldest(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.oldest = at
}

func (c *counts) Panicked(p auth.Protocol) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panicked == nil {
		c.panicked = make(map[auth.Protocol]int)
	}
	c.panicked[p]++
}

func (c *counts) AdminPanicked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.panics++
}

func (c *counts) Handler() http.Handler {
	if c.scraped == nil {
		return http.NotFoundHandler()
	}
	return c.scraped
}

// office is a gateway in front of fake mail servers.
type office struct {
	t        testing.TB
	gateway  *Gateway
	counts   *counts
	store    *memory
	imap     *mailtest.IMAP
	smtp     *mailtest.SMTP
	file     string // the configuration
	settings string // of the file, below what all tests share
	address  string // of the IMAP door, implicit TLS
	submit   string // of the submission door, implicit TLS
	roots    *x509.CertPool
	stop     context.CancelFunc
	done     chan error
	log      *buffer
}

type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// freeAddress returns a free port that it has given to no other caller.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		if _, given := givenAddresses.LoadOrStore(address, true); !given {
			return address
		}
	}
}

var givenAddresses sync.Map

const lan = "lan@example.vn"

// newOffice puts an office together and does not run it yet.
// It is changed by before when its mail servers do not serve yet.
func newOffice(t testing.TB, before ...func(*office)) *office {
	t.Helper()
	o := &office{
		t: t, counts: &counts{outcomes: make(map[auth.Outcome]int)}, store: new(memory), log: new(buffer),
		imap: &mailtest.IMAP{Accounts: map[string]string{lan: "Mat-khau-1"}},
		smtp: &mailtest.SMTP{Accounts: map[string]string{lan: "Mat-khau-1"}},
	}
	for _, change := range before {
		change(o)
	}
	t.Cleanup(func() { o.imap.Close(); o.smtp.Close() })
	imapAddress, err := o.imap.Start()
	if err != nil {
		t.Fatal(err)
	}
	smtpAddress, err := o.smtp.Start()
	if err != nil {
		t.Fatal(err)
	}
	dir := testenv.Dir(t)
	o.file = filepath.Join(dir, "congthu.yaml")
	o.roots = x509.NewCertPool()
	o.certify(time.Now())
	o.address, o.submit = freeAddress(t), freeAddress(t)
	o.settings = fmt.Sprintf(`domain: example.vn
data_dir: %q
tls: { certificate: cert.pem, key: key.pem }
imap: { listen: [ { address: %q, tls: implicit } ], upstream: { address: %q, tls: none } }
smtp: { listen: [ { address: %q, tls: implicit } ], upstream: { address: %q, tls: none } }
rules: { password: { change_text: "Ask the helpdesk" } }
drain_timeout: 300ms
`, dir, o.address, imapAddress, o.submit, smtpAddress)
	o.write("")
	o.gateway = &Gateway{
		Store: o.store, Metrics: o.counts, Log: slog.New(slog.NewTextHandler(o.log, nil)),
		Load: func() (*config.Config, error) { return config.Load(o.file) },
	}
	return o
}

// certify puts a fresh certificate beside the configuration, made at some time
// (it is good for a year), and tells when it runs out.
func (o *office) certify(at time.Time) (expires time.Time) {
	o.t.Helper()
	cert, key, err := demo.Certificate(at)
	if err != nil {
		o.t.Fatal(err)
	}
	o.roots.AppendCertsFromPEM(cert)
	for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(o.file), name), content, 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		o.t.Fatal(err)
	}
	return pair.Leaf.NotAfter
}

// shown is when the certificate that clients see runs out.
func (o *office) shown() time.Time {
	o.t.Helper()
	conn, err := tls.Dial("tcp", o.address, &tls.Config{InsecureSkipVerify: true}) // only looked at
	if err != nil {
		o.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].NotAfter
}

// write writes the configuration with more settings.
func (o *office) write(more string) {
	o.t.Helper()
	if err := os.WriteFile(o.file, []byte(o.settings+more), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// open runs the gateway until the test ends.
func (o *office) open() {
	o.t.Helper()
	c, err := o.gateway.Load()
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.stop, o.done = cancel, make(chan error, 1)
	ready := make(chan struct{})
	o.gateway.Ready = func() { close(ready) }
	go func() { o.done <- o.gateway.Run(ctx, c) }()
	select {
	case <-ready:
	case err := <-o.done:
		o.t.Fatalf("the gateway ended: %v", err)
	}
	o.t.Cleanup(func() {
		cancel()
		if err, open := <-o.done; open && err != nil {
			o.t.Errorf("the gateway ended with %v", err)
		}
	})
}

// phone is a client that can say a line and read one.
type phone struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (o *office) phone() *phone {
	o.t.Helper()
	p := o.dial(o.address)
	p.read("* OK")
	return p
}

// sender is a client of the submission door.
func (o *office) sender() *phone {
	o.t.Helper()
	p := o.dial(o.submit)
	p.read("220 ")
	p.say("EHLO client.example")
	p.read("250 ")
	return p
}

func (o *office) dial(address string) *phone {
	o.t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: o.roots})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &phone{o.t, conn, bufio.NewReader(conn)}
}

func (p *phone) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, line+"\r\n"); err != nil {
		p.t.Fatal(err)
	}
}

// line reads one line.
func (p *phone) line() string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("waiting for a line: %v (after %q)", err, line)
	}
	return line
}

// read reads lines until one begins with want.
func (p *phone) read(want string) string {
	p.t.Helper()
	for {
		line, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("waiting for %q: %v", want, err)
		}
		if strings.HasPrefix(line, want) {
			return line
		}
	}
}

// ended reads to the end of the connection and returns what came.
func (p *phone) ended() string {
	p.t.Helper()
	rest, err := io.ReadAll(p.r)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		p.t.Fatal("the connection is still open")
	}
	return string(rest)
}

// eventually waits for what nothing but asking tells; what completes the
// sentence "still waiting for ...".
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still waiting for " + what)
		}
	}
}

func TestALoginGoesThroughToTheMailServer(t *testing.T) {
	o := newOffice(t)
	o.open()
	p := o.phone()
	p.say(`a LOGIN LAN "wrong"`)
	p.read("a NO [AUTHENTICATIONFAILED]")
	p.say(`b LOGIN Lan "Mat-khau-1"`)
	p.read("b OK")
	p.say("c NOOP")
	p.read("c OK")
	if v := o.imap.Verdicts(lan); v.Wrong != 1 || v.Right != 1 {
		t.Errorf("the mail server judged %+v for the canonical name, want one wrong and one right", v)
	}
	if w, a := o.counts.outcomes[auth.WrongPassword], o.counts.outcomes[auth.Accepted]; w != 1 || a != 1 {
		t.Errorf("counted %d wrong and %d accepted", w, a)
	}
}

// A login over a spare connection that ends without a word is tried once more. Who
// guesses gets no more verdicts for that.
func TestAMailServerThatJudgesAndClosesGivesNoMoreGuesses(t *testing.T) {
	o := newOffice(t, func(o *office) { o.imap.Misbehave = mailtest.At("judged", mailtest.Misdeed{Close: true}) })
	o.write("limits: { patience: 1s }\n")
	o.open()
	// One who is a stranger to everything leaves a connection for the guesses.
	p := o.phone()
	p.say("a LOGIN nobody wrong")
	p.read("a NO [UNAVAILABLE]")
	eventually(t, "a spare connection", func() bool { return o.imap.Open() > 0 })
	var guesses sync.WaitGroup
	var phones []*phone
	for i := range 100 {
		p := o.phone()
		phones = append(phones, p)
		p.say(fmt.Sprintf("a LOGIN %s wrong%d", lan, i))
	}
	for _, p := range phones {
		guesses.Go(func() { p.read("a NO [UNAVAILABLE]") })
	}
	guesses.Wait()
	if v := o.imap.Verdicts(lan); v.Wrong != 6 {
		t.Errorf("100 guesses at once were judged %d times, want 6", v.Wrong)
	}
}

func TestTheLimitsOfConnectionsAreForBothDoorsTogether(t *testing.T) {
	for _, limits := range []string{"connections: 3", "connections_per_source: 3"} {
		o := newOffice(t)
		o.write("limits: { " + limits + " }\n")
		o.open()
		// One that is not logged in could lose its place to the next.
		greeted := func(address, greeting string) bool {
			conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: o.roots})
			if err != nil {
				return false // closed before the handshake
			}
			t.Cleanup(func() { conn.Close() })
			p := &phone{t, conn, bufio.NewReader(conn)}
			if line, _ := p.r.ReadString('\n'); !strings.HasPrefix(line, greeting) {
				return false
			}
			if address == o.submit {
				p.say("EHLO client.example")
				p.read("250 ")
				p.say("AUTH PLAIN " + plain(lan, "Mat-khau-1"))
				p.read("235 ")
			} else {
				p.say(`a LOGIN lan "Mat-khau-1"`)
				p.read("a OK")
			}
			return true
		}
		if !greeted(o.address, "* OK") || !greeted(o.submit, "220") || !greeted(o.address, "* OK") {
			t.Fatalf("%s: three connections were not let in", limits)
		}
		if greeted(o.address, "* OK") || greeted(o.submit, "220") {
			t.Errorf("%s: a fourth connection was let in", limits)
		}
		if !strings.Contains(o.log.String(), "setting=limits."+strings.Split(limits, ":")[0]) {
			t.Errorf("the log does not say which limit it was:\n%s", o.log)
		}
	}
}

// Those who are not logged in have half of the connections, at all doors together: the
// oldest goes for a new one, and those who are logged in stay.
func TestHalfOfTheConnectionsIsForThoseWhoAreNotLoggedIn(t *testing.T) {
	o := newOffice(t)
	o.write("limits: { connections: 6 }\n")
	o.open()
	in := o.phone()
	in.say(`a LOGIN lan "Mat-khau-1"`)
	in.read("a OK")
	oldest := o.sender()
	second := o.phone()
	o.sender()
	o.phone()
	oldest.read("421 ")
	o.phone()
	second.read("* BYE [UNAVAILABLE] Qua nhieu ket noi")
	in.say("b NOOP")
	in.read("b OK")
	if !strings.Contains(o.log.String(), "too many connections are not logged in") {
		t.Errorf("the log does not tell: %s", o.log)
	}
}

func TestEveryTakenAddressIsNamedAtOnce(t *testing.T) {
	var taken [2]net.Listener
	for i := range taken {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		taken[i] = l
	}
	o := newOffice(t)
	o.write(fmt.Sprintf("metrics: { listen: %q }\n", taken[0].Addr()))
	c, err := o.gateway.Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.IMAP.Listen {
		c.IMAP.Listen[i].Address = taken[1].Addr().String()
	}
	err = o.gateway.Run(context.Background(), c)
	if err == nil {
		t.Fatal("the gateway runs")
	}
	for i := range c.IMAP.Listen {
		if want := fmt.Sprintf("(imap.listen[%d].address): another program", i); !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s in %v", want, err)
		}
	}
	if !strings.Contains(err.Error(), "(metrics.listen): another program") {
		t.Errorf("no word of metrics.listen in %v", err)
	}
}

func TestNothingListensWhenOneAddressIsTaken(t *testing.T) {
	o := newOffice(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o.write(fmt.Sprintf("metrics: { listen: %q }\n", taken.Addr()))
	c, err := o.gateway.Load()
	if err != nil {
		t.Fatal(err)
	}
	err = o.gateway.Run(context.Background(), c)
	var refused *ListenError
	if !errors.As(err, &refused) || refused.Setting != "metrics.listen" || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a taken address gives %v", err)
	}
	if conn, err := net.Dial("tcp", o.address); err == nil {
		conn.Close()
		t.Error("the IMAP door is open although the gateway could not start")
	}
}

func TestAnAdminsLockEndsLiveSessionsAndGuessingDoesNot(t *testing.T) {
	o := newOffice(t)
	o.open()
	p := o.phone()
	p.say(`a LOGIN lan "Mat-khau-1"`)
	p.read("a OK")
	for i := range 6 {
		stranger := o.phone()
		stranger.say(fmt.Sprintf(`a LOGIN lan "guess%d"`, i))
		stranger.read("a NO")
	}
	p.say("b NOOP")
	p.read("b OK")
	if _, err := o.gateway.guard.Lock(context.Background(), lan, auth.Act{Actor: "A", Reason: "left the office"}); err != nil {
		t.Fatal(err)
	}
	if rest := p.ended(); strings.Contains(rest, "BYE") {
		t.Errorf("a spliced session was ended with words: %q", rest)
	}
}

// What was allowed before this process began is read from the audit log, as soon as
// the store can tell.
func TestAnAllowedSourceIsKnownAfterARestart(t *testing.T) {
	o := newOffice(t)
	before := &guard.Guard{Store: o.store, Throttle: new(throttle.Throttle)}
	before.SetPolicy(guard.Policy{Names: &auth.Namer{Default: "example.vn"}, Rules: auth.DefaultRules()})
	want, err := before.AllowSource(t.Context(), netip.MustParseAddr("203.0.113.7"), time.Hour, auth.Act{Actor: "A", Reason: "the district's office"})
	if err != nil {
		t.Fatal(err)
	}
	o.open()
	eventually(t, "the source is allowed", func() bool {
		list := o.gateway.guard.AllowedSources()
		return len(list) == 1 && list[0] == want
	})
}

// With a store of several gateways an unlock reaches the others, and what they have
// done is heard.
func TestAGatewayAmongOthersHearsThemAndUnlocksForThem(t *testing.T) {
	o := newOffice(t)
	hear := make(chan auth.Event)
	o.gateway.Changes = func(ctx context.Context, heard func(auth.Event)) error {
		for {
			select {
			case e := <-hear:
				heard(e)
			case <-ctx.Done():
				return nil
			}
		}
	}
	o.open()
	p := o.phone()
	p.say(`a LOGIN lan "Mat-khau-1"`)
	p.read("a OK")
	act := auth.Act{Actor: "A", Reason: "refused at the other gateway"}
	if _, err := o.gateway.guard.Unlock(t.Context(), lan, act); err != nil {
		t.Errorf("an unlock for the other gateways: %v", err)
	}
	until := time.Now().UTC().Add(time.Hour).Truncate(time.Second)
	hear <- auth.Event{Kind: auth.SourceAllowed, At: time.Now(), Actor: "B", After: "203.0.113.7/32 allowed until " + until.Format(time.RFC3339)}
	eventually(t, "the source is allowed", func() bool {
		list := o.gateway.guard.AllowedSources()
		return len(list) == 1 && list[0].Until.Equal(until) && list[0].By == "B"
	})
}

func TestTheLoginOfADormantAccountIsToldWhy(t *testing.T) {
	o := newOffice(t)
	long := auth.AddMonths(time.Now(), -24)
	for i := range 20 { // the sessions are ended by goroutines of their own
		name := auth.Name(fmt.Sprintf("dormant%d@example.vn", i))
		o.imap.Accounts[string(name)] = "Mat-khau-1"
		_, err := o.store.Update(context.Background(), name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered, a.FirstLogin, a.LastLogin = long, long, long
			return nil, true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	o.open()
	for i := range 20 {
		p := o.phone()
		p.say(fmt.Sprintf(`a LOGIN dormant%d "Mat-khau-1"`, i))
		p.read("a NO [CONTACTADMIN]")
		p.say("b NOOP")
		p.read("b OK")
	}
}

// plain is the response of SASL PLAIN (RFC 4616 section 2).
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// A program must get to read why it was refused, and the connection is as good
// as after any other refusal. Whether the sweep has come already makes no
// difference.
func TestARevokedAccountIsToldSoWhenItSends(t *testing.T) {
	o := newOffice(t)
	long := auth.AddMonths(time.Now(), -24)
	const tries = 40 // whatever ends sessions has goroutines of its own
	for i := range tries {
		name := auth.Name(fmt.Sprintf("dormant%d@example.vn", i))
		o.smtp.Accounts[string(name)] = "Mat-khau-1"
		_, err := o.store.Update(context.Background(), name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered, a.FirstLogin, a.LastLogin = long, long, long
			if i%2 == 1 {
				a.Revocation = auth.Mark{At: auth.AddMonths(long, 13), By: auth.ByGateway, Reason: "not logged in"}
			}
			return nil, true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	o.open()
	for i := range tries {
		p := o.sender()
		user := fmt.Sprintf("dormant%d@example.vn", i)
		p.say("AUTH PLAIN " + plain(user, "Mat-khau-1"))
		if line := p.line(); !strings.HasPrefix(line, "525 5.7.13 ") {
			t.Fatalf("try %d: %q", i, line)
		}
		p.say("NOOP")
		if line := p.line(); !strings.HasPrefix(line, "250 ") {
			t.Fatalf("try %d, afterwards: %q", i, line)
		}
		p.say("MAIL FROM:<" + user + ">")
		if line := p.line(); !strings.HasPrefix(line, "530 5.7.0 ") {
			t.Fatalf("try %d, mail without a login: %q", i, line)
		}
		p.say("AUTH PLAIN " + plain(lan, "Mat-khau-1"))
		if line := p.line(); !strings.HasPrefix(line, "235 ") {
			t.Fatalf("try %d, another account on the same connection: %q", i, line)
		}
		p.say("QUIT")
		if rest := p.ended(); !strings.HasPrefix(rest, "221 ") || strings.Count(rest, "\n") != 1 {
			t.Fatalf("try %d, at the end: %q", i, rest)
		}
	}
}

func TestAReloadReplacesTheRulesAndABadFileChangesNothing(t *testing.T) {
	o := newOffice(t)
	o.open()
	o.write("texts: { wrong: \"Sai roi\" }\n")
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	p := o.phone()
	p.say(`a LOGIN lan "wrong"`)
	if line := p.read("a NO"); !strings.Contains(line, "Sai roi") {
		t.Errorf("the new text is not in force: %q", line)
	}
	o.write("texts: { wrong: 7\n")
	if err := o.gateway.Reload(); err == nil {
		t.Fatal("a bad file is no error")
	}
	p.say(`b LOGIN lan "wrong again"`)
	if line := p.read("b NO"); !strings.Contains(line, "Sai roi") {
		t.Errorf("the old text is not in force any more: %q", line)
	}
	if n := len(o.counts.reloads); n != 3 || o.counts.reloads[1] != nil || o.counts.reloads[2] == nil {
		t.Errorf("reloads told: %v, want the start, a good one and a bad one", o.counts.reloads)
	}
	o.write("throttle: { strangers_after: 20, known_networks: [203.0.113.0/24, 198.51.100.7] }\nstore: { forget_unknown_after: 48h }\n")
	if err := o.gateway.Reload(); err != nil || strings.Contains(o.log.String(), "need a restart") {
		t.Errorf("a setting that needs none is said to need a restart: %v, %s", err, o.log)
	}
	known := o.gateway.guard.KnownNetwork(netip.MustParseAddr("203.0.113.9"))
	if n := o.counts.knownNetworks.Load(); known.String() != "203.0.113.0/24" || n != 2 {
		t.Errorf("203.0.113.9 lies in the known network %v, and the metrics say that there are %d", known, n)
	}
	// The throttle itself goes on until a restart, and its offices with it.
	o.write("throttle: { enabled: false, strangers_after: 20, known_networks: [203.0.113.0/24, 198.51.100.7] }\n")
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	known = o.gateway.guard.KnownNetwork(netip.MustParseAddr("203.0.113.9"))
	if n := o.counts.knownNetworks.Load(); known.String() != "203.0.113.0/24" || n != 2 {
		t.Errorf("with the throttle in force 203.0.113.9 lies in the known network %v, and the metrics say that there are %d", known, n)
	}
	o.write("limits: { failed_logins: 3 }\nadmin: { socket_group: \"0\" }\n")
	for times := range 2 { // as long as it is not in force
		err := o.gateway.Reload()
		if n := strings.Count(o.log.String(), "[limits admin.socket_group]"); err != nil || n != times+1 {
			t.Errorf("a setting that needs a restart is said %d times: %v, %s", n, err, o.log)
		}
	}
	o.write("")
	if err := o.gateway.Reload(); err != nil || strings.Count(o.log.String(), "need a restart") != 3 { // the throttle, and twice the limits
		t.Errorf("what is in force is said to need a restart: %v, %s", err, o.log)
	}
}

func TestAPanicOfTheAdminInterfaceIsCounted(t *testing.T) {
	o := newOffice(t)
	o.counts.scraped = func(http.ResponseWriter, *http.Request) { panic("out of luck") }
	o.open()
	answer := httptest.NewRecorder()
	o.gateway.admin.MetricsHandler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if answer.Code != http.StatusInternalServerError {
		t.Errorf("answered with %d", answer.Code)
	}
	if o.counts.panics != 1 {
		t.Errorf("%d panics counted, want 1", o.counts.panics)
	}
}

// A panic in what happens on behalf of no client, or of one that has not spoken yet,
// is counted and logged as well, without its value.
func TestPanicsAtTheEdgesAreCounted(t *testing.T) {
	o := newOffice(t)
	o.open()
	in := o.gateway.live.current.Load()
	in.servers[auth.IMAP].Panicked("out of luck", nil)
	in.servers[auth.SMTP].Panicked("out of luck", nil)
	o.gateway.loops[0].Panicked("out of luck", nil)
	o.gateway.guard.Panicked(auth.SMTP)
	if n := o.counts.panicked; n[auth.IMAP] != 2 || n[auth.SMTP] != 2 {
		t.Errorf("counted %v, want two of each protocol", n)
	}
	if log := o.log.String(); strings.Contains(log, "luck") || strings.Count(log, `panic="a value of type string"`) != 3 {
		t.Errorf("the log: %s", log)
	}
}

// A client with a pending request before the shutdown reads the result, and the store
// is not closed during it.
func TestAShutdownWaitsForAdminRequestsUnderWay(t *testing.T) {
	o := newOffice(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	o.counts.scraped = func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-goOn
		io.WriteString(w, "done")
	}
	address := freeAddress(t)
	o.write(fmt.Sprintf("metrics: { listen: %q }\n", address))
	o.open()
	answered := make(chan string, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		answered <- string(body)
	}()
	<-began
	o.stop()
	eventually(t, "the doors to close", func() bool { return strings.Contains(o.log.String(), "all sessions have ended") })
	select {
	case err := <-o.done:
		t.Errorf("the gateway ended in the middle of a request: %v", err)
		close(o.done)
	case <-time.After(200 * time.Millisecond):
	}
	close(goOn)
	if got := <-answered; got != "done" {
		t.Errorf("answered %q", got)
	}
}

// What support staff tell users must be what users read.
func TestAReloadReachesWhatSupportStaffTell(t *testing.T) {
	o := newOffice(t)
	admin := fmt.Sprintf("admin: { tokens: [ { name: An, sha256: %x, scopes: [read] } ] }\n", sha256.Sum256([]byte("a token")))
	o.write(admin)
	o.open()
	unused(t, o.store, lan, time.Now())
	_, err := o.store.Update(context.Background(), lan, 0, func(a *auth.Account) ([]auth.Event, bool) {
		a.Password.Since = auth.AddMonths(time.Now(), -4)
		return nil, true
	})
	if err != nil {
		t.Fatal(err)
	}
	told := func() string {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/accounts/lan", nil)
		r.Header.Set("Authorization", "Bearer a token")
		answer := httptest.NewRecorder()
		o.gateway.admin.Handler().ServeHTTP(answer, r)
		return answer.Body.String()
	}
	if answer := told(); !strings.Contains(answer, "Ask the helpdesk") {
		t.Fatalf("nobody is told to ask the helpdesk: %s", answer)
	}
	o.settings = strings.Replace(o.settings, "Ask the helpdesk", "Come to room 5", 1)
	o.write(admin)
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if answer := told(); !strings.Contains(answer, "Come to room 5") {
		t.Errorf("the new way is not told: %s", answer)
	}
	if strings.Contains(o.log.String(), "need a restart") {
		t.Errorf("the operator is told to restart: %s", o.log)
	}
}

// A door that the new file does not have goes on until the restart that the log
// asks for: with the mail server that it had.
func TestAReloadWithoutADoorKeepsItServed(t *testing.T) {
	o := newOffice(t)
	o.open()
	served := o.settings
	for _, door := range []string{"imap", "smtp"} {
		o.settings = regexp.MustCompile(`(?m)^`+door+`: .*$`).ReplaceAllString(served, door+": { listen: [] }")
		o.write("")
		if err := o.gateway.Reload(); err != nil {
			t.Fatal(err)
		}
		if log := o.log.String(); !strings.Contains(log, door+".listen") {
			t.Errorf("the operator is not told to restart: %s", log)
		}
		if _, err := o.gateway.live.ProbeSMTP(context.Background()); err != nil {
			t.Errorf("without %s: %v", door, err)
		}
		p := o.phone()
		p.say(`a LOGIN lan "Mat-khau-1"`)
		p.read("a OK")
		s := o.sender()
		s.say("AUTH PLAIN " + plain(lan, "Mat-khau-1"))
		s.read("235 ")
	}
}

// Changes of balancers and forwarders apply to the next connection; existing
// connections stay.
func TestAReloadPutsBalancersAndForwardersIntoForce(t *testing.T) {
	o := newOffice(t)
	o.open()
	before := o.phone()
	o.write("proxy_protocol: { from: [127.0.0.1] }\ntrusted_forwarders: [192.0.2.0/24]\n")
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(o.log.String(), "need a restart") {
		t.Errorf("the operator is told to restart: %s", o.log)
	}
	before.say(`a LOGIN lan "Mat-khau-1"`)
	before.read("a OK")

	// The balancer does not pass the client's address.
	if conn, err := tls.Dial("tcp", o.address, &tls.Config{RootCAs: o.roots}); err == nil {
		conn.Close()
		t.Error("a balancer without a header is served")
	}
	behind := func(client string) *phone {
		t.Helper()
		conn, err := net.Dial("tcp", o.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 50000 993\r\n", client)
		secured := tls.Client(conn, &tls.Config{RootCAs: o.roots, ServerName: "127.0.0.1"})
		p := &phone{t, secured, bufio.NewReader(secured)}
		p.read("* OK")
		return p
	}
	for _, c := range []struct{ client, says, want string }{
		{"198.51.100.7", "203.0.113.1", "source=198.51.100.7:50000"},
		{"192.0.2.7", "203.0.113.2", "source=203.0.113.2:"},
	} {
		p := behind(c.client)
		p.say(fmt.Sprintf(`i ID ("x-originating-ip" %q)`, c.says))
		p.read("i OK")
		p.say(`a LOGIN lan "wrong"`)
		p.read("a NO")
		if log := o.log.String(); !strings.Contains(log, c.want) {
			t.Errorf("the log has no %s: %s", c.want, log)
		}
	}
	o.write("")
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	o.phone() // comes for itself again
}

// Without the gateway no user has mail; with an expired certificate some still have.
func TestAnExpiredCertificateStopsNeitherAStartNorAReload(t *testing.T) {
	o := newOffice(t)
	old := o.certify(auth.AddMonths(time.Now(), -240))
	o.open()
	if got := o.shown(); !got.Equal(old) || !o.counts.expires.Equal(old) {
		t.Errorf("clients see a certificate until %v, the metrics say %v, want %v", got, o.counts.expires, old)
	}
	o.write("texts: { wrong: \"Sai roi\" }\n")
	if err := o.gateway.Reload(); err != nil {
		t.Errorf("a reload of the rules beside an expired certificate: %v", err)
	}
	if log := o.log.String(); !strings.Contains(log, "ran out on") || !strings.Contains(log, "renew it") {
		t.Errorf("the log does not say it: %s", log)
	}
	renewed := o.certify(time.Now())
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := o.shown(); !got.Equal(renewed) || !o.counts.expires.Equal(renewed) {
		t.Errorf("renewed: clients see a certificate until %v, the metrics say %v, want %v", got, o.counts.expires, renewed)
	}
	p := o.phone()
	p.say(`a LOGIN lan "wrong"`)
	if line := p.read("a NO"); !strings.Contains(line, "Sai roi") {
		t.Errorf("the rules are not those of the reload: %q", line)
	}
	// The wrong file put in its place by mistake does no harm.
	o.certify(auth.AddMonths(time.Now(), -240))
	if err := o.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := o.shown(); !got.Equal(renewed) || !o.counts.expires.Equal(renewed) {
		t.Errorf("an expired one after a good one: clients see %v, the metrics say %v, want %v", got, o.counts.expires, renewed)
	}
	if !strings.Contains(o.log.String(), "stays in force") {
		t.Error("the log does not say that the good one stays")
	}
}

func TestAShutdownLetsSessionsGoOnForAWhile(t *testing.T) {
	o := newOffice(t)
	o.settings = strings.Replace(o.settings, "300ms", "1s", 1)
	o.write("")
	o.open()
	stranger, user := o.phone(), o.phone()
	user.say(`a LOGIN lan "Mat-khau-1"`)
	user.read("a OK")
	o.stop()
	if rest := stranger.ended(); !strings.Contains(rest, "* BYE") {
		t.Errorf("a client that was not logged in read %q, want a BYE", rest)
	}
	user.say("b NOOP")
	user.read("b OK")
	if rest := user.ended(); strings.Contains(rest, "BYE") {
		t.Errorf("a spliced session was ended with words: %q", rest)
	}
}

// Before a client finds a listener closed, /readyz has reported the shutdown; the
// process itself is healthy, and so are its sessions.
func TestAShutdownIsToldBeforeTheDoorsClose(t *testing.T) {
	o := newOffice(t)
	o.settings = strings.Replace(o.settings, "300ms", "20s", 1)
	status := freeAddress(t)
	o.write(fmt.Sprintf("metrics: { listen: %q }\n", status))
	o.open()
	get := func(path string) int {
		t.Helper()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		response, err := client.Get("http://" + status + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	user := o.phone()
	user.say(`a LOGIN lan "Mat-khau-1"`)
	user.read("a OK")
	eventually(t, "the mail servers to be probed", func() bool { return get("/readyz") == http.StatusOK })
	o.stop()
	eventually(t, "the door to close", func() bool {
		conn, err := net.Dial("tcp", o.address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if code := get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz with the doors closed: %d", code)
	}
	if code := get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz with the doors closed: %d", code)
	}
	user.say("b NOOP")
	user.read("b OK")
	user.conn.Close() // or the drain would be waited for
}

func TestTheLogHasNoPasswordAndNoUnknownName(t *testing.T) {
	o := newOffice(t)
	o.open()
	p := o.phone()
	const canary = "Canary-4711"
	p.say(`a LOGIN ` + canary + ` "` + canary + `-password"`) // the password in the field for the name
	p.read("a NO")
	for i := range 6 {
		p = o.phone()
		p.say(fmt.Sprintf(`a LOGIN %s "%s-%d"`, canary, canary, i))
		p.read("a NO")
	}
	p.say(`b LOGIN lan "Mat-khau-1"`)
	p.read("b OK")
	log := o.log.String()
	if strings.Contains(strings.ToLower(log), strings.ToLower(canary)) || strings.Contains(log, "Mat-khau-1") {
		t.Errorf("the log has a name nobody logged in with, or a password:\n%s", log)
	}
	if !strings.Contains(log, "login_hash=") || !strings.Contains(log, "account="+lan) {
		t.Errorf("the log tells neither who logged in nor that an unknown name was tried:\n%s", log)
	}
}

// An administrator's unlock and a lock in mode warn have such a name in hand.
func TestNoEventNamesWhoNeverLoggedIn(t *testing.T) {
	for mode, more := range map[string]string{"admin": "", "warn": "rules: { lockout: { mode: warn }, password: { change_text: x } }\n"} {
		t.Run(mode, func(t *testing.T) {
			o := newOffice(t)
			const canary = "canary-4711"
			if more != "" {
				o.settings = strings.Replace(o.settings, "rules: { password: { change_text: \"Ask the helpdesk\" } }\n", more, 1)
				o.write("")
			}
			o.open()
			// Without any login at first, and with one afterwards.
			for _, name := range []string{canary, "lan"} {
				for i := range 6 {
					p := o.phone()
					p.say(fmt.Sprintf(`a LOGIN %s "guess-%d"`, name, i))
					p.read("a NO")
				}
				if mode == "admin" {
					if _, err := o.gateway.guard.Unlock(context.Background(), auth.Name(name+"@example.vn"), auth.Act{Actor: "A", Reason: "asked by phone"}); err != nil {
						t.Fatal(err)
					}
				}
				p := o.phone()
				p.say(`b LOGIN lan "Mat-khau-1"`)
				p.read("b OK")
			}
			log := o.log.String()
			if strings.Contains(log, canary) {
				t.Errorf("the log has a name nobody logged in with:\n%s", log)
			}
			kind := map[string]auth.EventKind{"admin": auth.AccountUnlocked, "warn": auth.WouldLock}[mode]
			if !strings.Contains(log, "kind="+string(kind)+" login_hash=") || !strings.Contains(log, "kind="+string(kind)+" account="+lan) {
				t.Errorf("the log does not tell of both, of an account and of a name that is none:\n%s", log)
			}
		})
	}
}

// Some mail servers repeat the name in their refusal.
func TestTheMailServersWordsDoNotNameWhoNeverLoggedIn(t *testing.T) {
	for login, echoes := range map[string][]string{
		"Canary-4711":             {"canary-4711@example.vn", "canary-4711", "CANARY-4711", "<Canary-4711>"},
		"canary-4711@other.vn":    {"canary-4711@other.vn"},
		"Ch\u00ecm-canary-4711":   {"ch\u00ecm-canary-4711@example.vn"},
		"c$1.canary+?@example.vn": {"c$1.canary+?"},
	} {
		for _, echo := range echoes {
			var out bytes.Buffer
			l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)))
			name, _ := (&auth.Namer{Default: "example.vn", FoldSubaddress: true}).Canonical(login)
			said := fmt.Errorf("the mail server says: %s", strconv.QuoteToASCII("NO [X-LOGIN] no user "+echo+" here"))
			attempt := auth.Attempt{Login: login}
			l.RecordAttempt(attempt, auth.Verdict{Outcome: auth.WrongPassword, Name: name, Err: said})
			if log := strings.ToLower(out.String()); strings.Contains(log, "canary") || !strings.Contains(log, "x-login") || !strings.Contains(log, "here") {
				t.Errorf("%s: %s", echo, log)
			}
			out.Reset()
			l.RecordAttempt(attempt, auth.Verdict{Outcome: auth.WrongPassword, Name: name, Known: true, Err: said})
			if !strings.Contains(out.String(), "here") {
				t.Errorf("of an account: %s", &out)
			}
		}
	}
}

// The drain may take long, and the administrator who stopped the gateway wants to see
// that it has begun.
func TestAShutdownIsToldWhenItBegins(t *testing.T) {
	o := newOffice(t)
	o.open()
	p := o.phone()
	p.say(`a LOGIN lan "Mat-khau-1"`)
	p.read("a OK")
	o.stop()
	eventually(t, "the end of all sessions", func() bool { return strings.Contains(o.log.String(), "all sessions have ended") })
	before, _, _ := strings.Cut(o.log.String(), "all sessions have ended")
	if !strings.Contains(before, "msg=\"stopping: nobody new is let in, live sessions may go on\" sessions=1 drain_timeout=300ms\n") {
		t.Error(before)
	}
}
