// Command bench compares congthu with the proxies that people use in front of a mail
// server: the cost of a login, the logins per second, the memory of an idle session, the
// speed of a large message, how many of a hundred guesses the server judges, and the
// number and cost of submitted mails.
//
//	make bench                      everything, in about five minutes
//	make bench BENCH='-rows 3 -rounds 9'
//	make bench BENCH='-beside ./congthu-before -peers HAProxy,congthu -rows 78'
//
// All proxies stand in front of the same mail servers: a real Dovecot, and servers of
// this package, for IMAP and for SMTP, that do nothing and answer at once, so that
// the proxy is measured. The SMTP server compares each mail with what was sent, and
// counts the mails. Every server and proxy is a plain process, started from nothing in
// a temporary directory, on loopback ports of its own; no service of the machine is
// touched. Clients use TLS 1.3 with an ECDSA P-256 certificate and never resume;
// connections to the mail server are in clear text.
//
// The proxies take turns, round after round, since a machine is never completely quiet:
// a figure is the median of the rounds, with the least and the largest, and "x" is the
// median of each round's ratio to HAProxy. With -beside another program of congthu, for
// example an earlier version, takes its turns as one more peer, and congthu has a second
// ratio, to that one, with the least and the largest of its rounds.
//
// The clients run on the same processors, and do as much TLS work as the proxy. So on a
// machine with clients elsewhere, the logins per second of two proxies would differ
// more. The processor time per login is that of the proxy alone.
//
// The proxies do not do the same work. HAProxy and the bare relay do not see logins:
// they connect to the mail server before the client has sent anything, and the server
// sees every guess. The others read the login and log in at the server themselves.
// congthu also looks up the account in its store, and with last_login_window 0s it
// writes each login to the disk before it answers; and only congthu parses the mails
// that it passes on.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// knownAccounts are used in turn. congthu has seen the password of each before the
// measurements.
const knownAccounts = 200

var (
	loginNothing  = measure{title: "LOGIN p50, server that does nothing, ms", format: "%.2f"}
	loginDovecot  = measure{title: "LOGIN p50, Dovecot, ms", format: "%.2f"}
	cpuPerLogin   = measure{title: "CPU per login, 16 clients, ms", format: "%.2f"}
	perSecond     = measure{title: "logins/s, 128 clients", format: "%.0f"}
	idleMemory    = measure{title: "PSS per idle session, KiB", format: "%.1f"}
	fetchLarge    = measure{title: "FETCH of 10 MB, MB/s", format: "%.0f"}
	mailsNew      = measure{title: "mails/s, a connection each, 16 clients", format: "%.0f"}
	cpuMailNew    = measure{title: "CPU per mail, a connection each, ms", format: "%.2f"}
	mailsReused   = measure{title: "mails/s, connections kept, 16 clients", format: "%.0f"}
	cpuMailReused = measure{title: "CPU per mail, connections kept, ms", format: "%.3f"}
	fetchedMemory = measure{title: "PSS per session after FETCH, KiB", format: "%.1f"}
	sentMemory    = measure{title: "PSS per session after a mail, KiB", format: "%.1f"}
	judgedWrong   = measure{title: "of 100 guesses at once Dovecot judged", format: "%.0f", count: true}

	allMeasures = []measure{halfOpenMemory, halfOpenLogin, halfOpenWorst, loginNothing, loginDovecot, cpuPerLogin, perSecond, idleMemory, fetchLarge, judgedWrong,
		mailsNew, cpuMailNew, mailsReused, cpuMailReused, fetchedMemory, sentMemory}
)

const allRows = "0123456789"

type options struct {
	congthu  string
	beside   string
	rows     string
	peers    string
	rounds   int
	window   time.Duration
	sessions int
	settle   time.Duration
	keep     bool
	crowd    string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		return helper(os.Args[1], os.Args[2:])
	}
	var o options
	flag.StringVar(&o.congthu, "congthu", "./congthu", "the program to measure")
	flag.StringVar(&o.beside, "beside", "",
		"another program of congthu, of an earlier version for example, to be measured in the same rounds with the same configuration")
	flag.StringVar(&o.rows, "rows", allRows,
		"what to measure: 0 congthu with 15,000 connections that never log in, 1 LOGIN, 2 CPU, 3 logins/s, 4 memory, 5 FETCH, 6 guesses, 7 mails with a connection each, 8 on kept connections, 9 memory after use")
	flag.StringVar(&o.peers, "peers", "", "only those peers whose name contains one of these words, with commas between")
	flag.IntVar(&o.rounds, "rounds", 4, "how many rounds")
	flag.DurationVar(&o.window, "window", 1500*time.Millisecond, "how long logins are counted, each time")
	flag.IntVar(&o.sessions, "sessions", 1000, "idle sessions for the memory; 5000 at most")
	flag.DurationVar(&o.settle, "settle", 135*time.Second, "how long they idle at least: Go looks for garbage every two minutes")
	flag.StringVar(&o.crowd, "crowd", "", fmt.Sprintf("only these of the %d things that connections which never log in do, by number from 0, with commas between", len(visits)))
	flag.BoolVar(&o.keep, "keep", false, "leave the directory with the logs behind")
	flag.Parse()
	if o.sessions < 1 || o.sessions > 5000 || o.rounds < 1 {
		return errors.New("-sessions is 1 to 5000, -rounds at least 1")
	}
	var missing []string
	for _, p := range packages {
		if strings.Trim(o.rows, "0") == "" {
			break // congthu alone
		}
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("programs are missing; install them with:\n\tapt-get install -y --no-install-recommends %s", strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		return errors.New("root is needed: Dovecot and nginx give it up for their workers; run this as root, in a container if need be")
	}
	b := &bench{options: o, results: make(results)}
	for _, peer := range allPeers {
		if peer == beside && o.beside == "" {
			continue
		}
		if o.peers == "" || slices.ContainsFunc(strings.Split(o.peers, ","), func(word string) bool { return strings.Contains(peer, word) }) {
			b.peers = append(b.peers, peer)
		}
	}
	if len(b.peers) == 0 || !strings.ContainsAny(o.rows, allRows) {
		return fmt.Errorf("nothing to measure: -rows has digits from 0 to 9, -peers parts of %q", allPeers)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	finished := make(chan error, 1)
	go func() { finished <- b.all() }()
	var err error
	select {
	case err = <-finished:
	case s := <-interrupted:
		err = fmt.Errorf("ended by %s", s)
	}
	return errors.Join(err, b.clean())
}

// helper runs this program as one of the processes of a run.
func helper(name string, args []string) error {
	certificate := func() (tls.Certificate, error) { return tls.LoadX509KeyPair(args[0], args[1]) }
	switch {
	case name == "responder" && len(args) == 1:
		return runResponder(args[0])
	case name == "crowd" && len(args) == 3:
		return runCrowd(args[0], args[1], args[2])
	case name == "hold" && len(args) == 3:
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		sessions, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return runHold(args[0], port, sessions)
	case name == "upstream" && len(args) > 3:
		c, err := certificate()
		if err != nil {
			return err
		}
		return runUpstream(c, protocol(args[2]), args[3:])
	case name == "relay" && len(args) == 4:
		c, err := certificate()
		if err != nil {
			return err
		}
		return runRelay(c, args[2], args[3])
	}
	return fmt.Errorf("there is no %s with %d arguments", name, len(args))
}

// bench is one run.
type bench struct {
	options
	rig
	peers   []string
	results results
	ends    []func()

	idle      []*idlers
	idleSince time.Time
}

func (b *bench) atEnd(f func()) { b.ends = append(b.ends, f) }

// clean stops everything that was started, the latest first.
func (b *bench) clean() error {
	for _, end := range slices.Backward(b.ends) {
		end()
	}
	if b.dir == "" {
		return nil
	}
	if b.keep {
		fmt.Fprintln(os.Stderr, "logs are in", b.dir)
		return nil
	}
	return os.RemoveAll(b.dir)
}

func (b *bench) wants(row string) bool { return strings.Contains(b.rows, row) }

func (b *bench) all() error {
	begun, load := time.Now(), loadAverage()
	if err := b.prepare(); err != nil {
		return err
	}
	if b.wants("0") {
		for _, peer := range []string{ours, beside} {
			if !slices.Contains(b.peers, peer) {
				continue
			}
			if err := b.withCrowd(peer); err != nil {
				return fmt.Errorf("%s: %w", peer, err)
			}
		}
	}
	for _, kind := range idleKinds {
		if !b.wants(kind.row) {
			continue
		}
		some, err := b.beginIdling(kind)
		if err != nil {
			return err
		}
		b.idle = append(b.idle, some...)
	}
	b.idleSince = time.Now()
	if err := b.inTurns(); err != nil {
		return err
	}
	if len(b.idle) > 0 {
		b.say("idle sessions settle")
		time.Sleep(time.Until(b.idleSince.Add(b.settle)))
	}
	if err := b.weigh(); err != nil {
		return err
	}
	b.header(os.Stdout, begun, load)
	b.results.table(os.Stdout, allMeasures, b.peers)
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// prepare makes the directory and the certificate.
func (b *bench) prepare() error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.rig.congthu, err = filepath.Abs(b.options.congthu); err != nil {
		return err
	}
	if _, err := exec.LookPath(b.rig.congthu); err != nil {
		return fmt.Errorf("build it first, or name it with -congthu: %w", err)
	}
	if b.options.beside != "" {
		if b.rig.beside, err = filepath.Abs(b.options.beside); err != nil {
			return err
		}
		if _, err := exec.LookPath(b.rig.beside); err != nil {
			return fmt.Errorf("-beside names a program of congthu: %w", err)
		}
	}
	// Servers give up root, so they need access; and a Unix socket's path must be short.
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	b.cert, b.key, b.both = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem"), filepath.Join(b.dir, "both.pem")
	certificate, key, err := selfSigned()
	if err != nil {
		return err
	}
	return errors.Join(write(b.cert, certificate), write(b.key, key), write(b.both, certificate+key))
}

// selfSigned makes an ECDSA P-256 certificate that is valid for a day.
func selfSigned() (certificate, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), nil
}

// nothing starts a do-nothing server with this number of plain ports.
func (b *bench) nothing(speaks protocol, plain int) (tlsPort int, ports []int, err error) {
	all := make([]string, 1+plain)
	for i := range all {
		port := freePort()
		all[i] = strconv.Itoa(port)
		if i == 0 {
			tlsPort = port
		} else {
			ports = append(ports, port)
		}
	}
	p, err := launch(b.dir, "upstream"+all[0], append([]string{b.self, "upstream", b.cert, b.key, string(speaks)}, all...)...)
	if err != nil {
		return 0, nil, err
	}
	b.atEnd(p.stop)
	return tlsPort, ports, p.awaitPort(ports[len(ports)-1])
}

// place starts one of each peer in front of a server.
func (b *bench) place(peers []string, speaks protocol, plain func(i int) int, tlsPort int) ([]*instance, error) {
	var placed []*instance
	for i, peer := range peers {
		instance, err := b.start(peer, speaks, plain(i), tlsPort)
		if instance != nil {
			b.atEnd(instance.stop)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer, err)
		}
		placed = append(placed, instance)
	}
	return placed, nil
}

// inTurns makes all measurements that take turns, and the guesses.
func (b *bench) inTurns() error {
	var beforeNothing, beforeDovecot, submitting []*instance
	var counter int // the port of the SMTP server that counts
	if strings.ContainsAny(b.rows, "1235") {
		tlsPort, ports, err := b.nothing(imap, len(b.peers))
		if err != nil {
			return err
		}
		if beforeNothing, err = b.place(b.peers, imap, func(i int) int { return ports[i] }, tlsPort); err != nil {
			return err
		}
	}
	if b.wants("7") || b.wants("8") {
		tlsPort, ports, err := b.nothing(smtp, len(b.peers))
		if err != nil {
			return err
		}
		counter = ports[0]
		if submitting, err = b.place(b.peers, smtp, func(i int) int { return ports[i] }, tlsPort); err != nil {
			return err
		}
	}
	var dovecotLog string
	if b.wants("1") || b.wants("6") {
		server, plain, secure, log, err := b.mailServer()
		if server != nil {
			b.atEnd(server.stop)
		}
		if err != nil {
			return err
		}
		dovecotLog = log
		if beforeDovecot, err = b.place(b.peers, imap, func(int) int { return plain }, secure); err != nil {
			return err
		}
	}
	b.say("every account logs in once through every peer")
	for _, i := range beforeNothing {
		if _, err := loginTimes(i.port, knownAccounts); err != nil {
			return fmt.Errorf("%s: %w", i.peer, err)
		}
	}
	for _, i := range beforeDovecot {
		if _, err := loginTimes(i.port, dovecotLogins); err != nil { // the first makes the mailboxes
			return fmt.Errorf("%s before Dovecot: %w", i.peer, err)
		}
	}
	for _, i := range submitting {
		if err := sendForAll(i.port); err != nil {
			return fmt.Errorf("%s: %w", i.peer, err)
		}
	}
	// congthu makes a fingerprint of a password that it sees for the first time, about
	// 20 ms of work, after the client has its answer.
	if err := untilQuiet(slices.Concat(beforeNothing, beforeDovecot, submitting)); err != nil {
		return err
	}
	for round := range b.rounds {
		if err := b.weigh(); err != nil {
			return err
		}
		b.say("round %d of %d", round+1, b.rounds)
		for _, i := range order(len(b.peers), round) {
			if len(beforeNothing) > 0 {
				if err := b.turn(beforeNothing[i]); err != nil {
					return fmt.Errorf("%s: %w", beforeNothing[i].peer, err)
				}
			}
			if len(submitting) > 0 {
				if err := b.submitAll(submitting[i], counter); err != nil {
					return fmt.Errorf("%s: %w", submitting[i].peer, err)
				}
			}
			if b.wants("1") {
				if err := b.timeLogins(beforeDovecot[i], loginDovecot, dovecotLogins); err != nil {
					return fmt.Errorf("%s before Dovecot: %w", beforeDovecot[i].peer, err)
				}
			}
		}
	}
	if b.wants("6") {
		b.say("a hundred guesses at once")
		for n, i := range beforeDovecot {
			if err := b.guesses(i, fmt.Sprintf("guessed%d@%s", n, domain), dovecotLog); err != nil {
				return fmt.Errorf("%s before Dovecot: %w", i.peer, err)
			}
		}
	}
	return nil
}

// order returns the order of the peers in a round. Every second round is the reverse of
// the one before, and then another peer begins, so that no peer always follows the same
// one.
func order(peers, round int) []int {
	turns := make([]int, peers)
	for n := range turns {
		turns[n] = (n + round/2) % peers
	}
	if round%2 == 1 {
		slices.Reverse(turns)
	}
	return turns
}

// untilQuiet waits until the proxies have finished their remaining work.
func untilQuiet(placed []*instance) error {
	for _, i := range placed {
		if i.process == nil {
			continue
		}
		for last, deadline := time.Duration(-1), time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			used, err := i.process.cpu()
			if err != nil {
				return fmt.Errorf("%s: %w", i.peer, err)
			}
			if used-last < tick {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s is still busy with nobody there", i.peer)
			}
			last = used
		}
	}
	return nil
}

// dovecotLogins is the number of logins that a real server does in about a second.
const dovecotLogins = 40

// turn is a peer's turn in a round.
func (b *bench) turn(i *instance) error {
	if b.wants("1") {
		if err := b.timeLogins(i, loginNothing, knownAccounts); err != nil {
			return err
		}
	}
	if b.wants("2") && i.process != nil {
		before, err := i.process.cpu()
		if err != nil {
			return err
		}
		n, _, err := loginsFor(i.port, 16, b.window)
		if err != nil {
			return err
		}
		after, err := i.process.cpu()
		if err != nil {
			return err
		}
		b.results.add(cpuPerLogin.title, i.peer, (after-before).Seconds()*1000/float64(n))
	}
	if b.wants("3") {
		n, took, err := loginsFor(i.port, 128, b.window)
		if err != nil {
			return err
		}
		b.results.add(perSecond.title, i.peer, float64(n)/took.Seconds())
	}
	if b.wants("5") {
		speed, err := fetchSpeed(i.port, 10)
		if err != nil {
			return err
		}
		b.results.add(fetchLarge.title, i.peer, speed)
	}
	return nil
}

func (b *bench) timeLogins(i *instance, m measure, n int) error {
	times, err := loginTimes(i.port, n)
	if err != nil {
		return err
	}
	slices.Sort(times)
	b.results.add(m.title, i.peer, times[len(times)/2].Seconds()*1000)
	return nil
}

// guesses makes a hundred guesses at once, and counts them in the log of the real server.
func (b *bench) guesses(i *instance, user, log string) error {
	if err := guess(i.port, user, 100); err != nil {
		return err
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	judged := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, user) && strings.Contains(line, "Password mismatch") {
			judged++
		}
	}
	b.results.add(judgedWrong.title, i.peer, float64(judged))
	return nil
}

// header says when and where the figures were measured.
func (b *bench) header(w io.Writer, begun time.Time, load string) {
	first := func(argv ...string) string {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil && line == "" {
			return argv[0] + ": " + err.Error()
		}
		return strings.TrimSpace(line)
	}
	fmt.Fprintf(w, "%s, %d CPUs (%s), %s.\n", begun.Format("2 January 2006 15:04 MST"), runtime.NumCPU(), processor(), first("uname", "-sr"))
	fmt.Fprintf(w, "%s; %s; Dovecot %s; %s; %s.\n", first("/usr/sbin/haproxy", "-v"), first("/usr/sbin/nginx", "-v"),
		first("/usr/sbin/dovecot", "--version"), first(b.rig.congthu, "version"), runtime.Version())
	if b.rig.beside != "" {
		fmt.Fprintf(w, "Beside: %s (%s).\n", first(b.rig.beside, "version"), b.options.beside)
	}
	fmt.Fprintf(w, "%d rounds, %s a window, %d idle sessions. Load average %s before, %s after; took %s.\n\n",
		b.rounds, b.window, b.sessions, load, loadAverage(), time.Since(begun).Round(time.Second))
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}
