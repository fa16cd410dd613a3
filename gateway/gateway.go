// Package gateway builds a gateway from its front ends, the rules and the mail servers
// behind them, and runs it: all listeners open or none, all end together, and a
// configuration is replaced as a whole or not at all.
//
// Who owns what while it runs. Each listener has a goroutine that accepts; each
// connection has one that speaks with the client until the login (packages imap
// and smtp). Beside them run the guard's own goroutine (what could not be
// settled at once), the daily sweep, the probes of the mail servers, and the
// admin listeners. A shutdown ends them in the order of their dependencies:
// first the front ends, which let live sessions go on for the drain time, then
// everything else.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"golang.org/x/sync/errgroup"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/throttle"
	"congthu/gateway/admin"
	"congthu/gateway/config"
	"congthu/gateway/frontend"
	"congthu/gateway/proxyproto"
	"congthu/gateway/session"
	"congthu/gateway/smtp"
	"congthu/gateway/upstream"
)

// Store is everything that the gateway needs of its store.
type Store interface {
	auth.Store
	auth.Scanner
	auth.Importer
	admin.Accounts
	audit.Prunable
	// UnknownNames returns how many names are stored that have never had an accepted login.
	UnknownNames(ctx context.Context) (int, error)
	// Health returns why the store cannot be used; nil when it can.
	Health(ctx context.Context) error
}

// Metrics receives everything that is counted. Its methods must not block.
type Metrics interface {
	auth.Recorder
	frontend.Recorder
	smtp.Recorder
	// UpstreamUp records a probe of a mail server.
	UpstreamUp(p auth.Protocol, up bool)
	// StoreUp records a probe of the store.
	StoreUp(up bool)
	// Accounts sets the numbers of accounts of each kind.
	Accounts(auth.AccountStats)
	// RulesInForce sets the rules, whenever they may have changed.
	RulesInForce(auth.Rules)
	// KnownNetworks sets the number of networks of offices in force, whenever it may have
	// changed.
	KnownNetworks(n int)
	// Attacks sets the number of lockout incidents that look like an attack.
	Attacks(n int)
	// ThrottledSources sets the sources that are refused at present.
	ThrottledSources(refused []throttle.RefusedSource)
	// UnknownNames sets the number of stored names that have never had an accepted login.
	UnknownNames(n int)
	// SharedCounters sets how many of the counters are in use that further names share.
	SharedCounters(auth.Counters)
	// RecordSweep records a sweep for dormant accounts.
	RecordSweep(at time.Time, err error)
	// Reloaded records a reload of the configuration; nil for success.
	Reloaded(at time.Time, err error)
	// CertificatesExpire sets when the certificates expire; zero for none.
	CertificatesExpire(clients, admin time.Time)
	// AuditOldest sets the time of the oldest event of the audit log; zero without
	// events.
	AuditOldest(at time.Time)
	// ChainVerified records a verification of the audit log.
	ChainVerified(at time.Time, err error)
	// CertificatesRead sets why the latest certificates could not be loaded; nil when
	// they are in force.
	CertificatesRead(clients, admin error)
	// RulesBehind sets whether the rules of this gateway differ from those that the
	// gateways on its store have agreed on.
	RulesBehind(behind bool)
	// ClockSuspect sets whether the clock is suspect: [guard.Guard.Suspicion].
	ClockSuspect(suspect bool)
	// Watch registers the functions that are called at every scrape.
	Watch(waiting, sessions func() int)
	// AdminPanicked records a recovered panic of the admin interface.
	AdminPanicked()
	// Handler answers /metrics.
	Handler() http.Handler
}

// Gateway is one congthu. Its fields must not change once it runs.
type Gateway struct {
	// Store and Fingerprints are the memory of the rules. Required.
	Store        Store
	Fingerprints auth.Fingerprinter
	// Metrics counts. Required.
	Metrics Metrics
	// Log is for the operator. Required.
	Log *slog.Logger
	// Version is that of the program.
	Version string
	// Load reads the configuration again, for Reload.
	Load func() (*config.Config, error)
	// Sockets were opened by another process, such as systemd, which keeps them open;
	// Run takes them over. None: the gateway opens all that it needs.
	Sockets []Socket
	// Ready is called when all listeners are open; nil: not called.
	Ready func()
	// Now is the clock; nil: this machine's. Gateways that share a store must
	// share a clock as well, since they compare instants.
	Now func() time.Time
	// Changes calls heard for each change that a gateway on the same store makes to an
	// account, until ctx ends; nil: no other gateway uses the store.
	Changes func(ctx context.Context, onRemoteEvent func(auth.Event)) error
	// Shared is the store, when other gateways may use it as well; nil: no other can.
	Shared RulesStore

	started   *config.Config // what of it needs a restart is in force
	since     time.Time
	live      live
	guard     *guard.Guard
	sessions  session.Registry
	frontEnds map[auth.Protocol]frontEnd
	admin     *admin.Server
	mailCert  *config.Certificate
	adminCert *config.Certificate // nil: plain HTTP
	renewals  renewals
	loops     []*watchedListener
	draining  atomic.Bool
	reloaded  chan struct{} // has room for one signal to sweepDaily
	renamed   chan struct{} // and for one to learnNames
	adopted   chan struct{} // and for one to watchRules
	// reloading is held while the configuration is replaced.
	reloading   sync.Mutex
	rulesBehind atomic.Pointer[behind] // nil while this gateway works by the rules that were agreed on
	health      health                 // of the mail servers
	attacks     map[string]bool        // that were logged; only the daily jobs use it
}

// Run opens all listeners of the configuration and serves until ctx ends and
// the sessions have drained. Nothing is served when one listener cannot be
// opened; the error then joins a [*ListenError] for each that cannot.
func (g *Gateway) Run(ctx context.Context, c *config.Config) error {
	listeners, err := listen(c, g.Sockets)
	if err != nil {
		return err
	}
	if err := g.assemble(c, listeners.passed); err != nil {
		listeners.close()
		return err
	}
	if err := g.guard.LearnClock(ctx, g.Store); err != nil {
		listeners.close()
		return err
	}
	if err := g.join(ctx, c); err != nil {
		listeners.close()
		return err
	}
	// What the front ends need ends after them.
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	jobs, background := errgroup.WithContext(background)
	// Load balancers learn of a shutdown first: /readyz fails before a listener closes.
	open, shut := context.WithCancel(context.WithoutCancel(ctx))
	leave := func() {
		g.draining.Store(true)
		g.admin.Drain()
		shut()
	}
	defer leave()
	defer context.AfterFunc(ctx, func() {
		g.Log.Info("stopping: nobody new is let in, live sessions may go on", "sessions", g.sessions.Len(""), "drain_timeout", c.Drain(listeners.passed).String())
		leave()
	})()
	context.AfterFunc(background, leave)

	if g.Changes != nil {
		// Before the first login: a lock made elsewhere must reach its session.
		jobs.Go(func() error { return g.Changes(background, g.onRemoteEvent) })
	}
	doors, open := errgroup.WithContext(open)
	context.AfterFunc(open, g.admin.Drain) // one that fails ends the others
	for _, l := range listeners.mail {
		door := g.door(l)
		doors.Go(func() error { return g.frontEnds[l.protocol].Serve(open, door, l.implicit) })
	}
	jobs.Go(func() error { return g.guard.Run(background) })
	jobs.Go(func() error { return g.loadAllowedSources(background) })
	jobs.Go(func() error { return g.sweepDaily(background) })
	jobs.Go(func() error { return g.learnNames(background) })
	jobs.Go(func() error { return g.probe(background) })
	jobs.Go(func() error { return g.watchRules(background) })
	jobs.Go(func() error { return g.watchCertificates(background) })
	for _, l := range listeners.admin {
		jobs.Go(func() error { return g.serveAdmin(background, l) })
	}
	g.Log.Info("ready", "version", g.Version, "listeners", listeners.addresses())
	if g.Ready != nil {
		g.Ready()
	}
	err = doors.Wait()
	g.live.current.Load().close(new(inForce))
	g.Log.Info("all sessions have ended")
	end()
	return errors.Join(err, jobs.Wait())
}

// assemble builds what stays the same over reloads. awaited is set when new
// clients will wait for the end of this process.
func (g *Gateway) assemble(c *config.Config, awaited bool) error {
	g.health, g.live.extensions = newHealth(), newExtensions()
	g.live.panicked = func(p auth.Protocol, value any, stack []byte) {
		g.Log.Error("opening a spare connection panicked", "protocol", p, "panic", auth.PanicText(value), "stack", string(stack))
		g.Metrics.Panicked(p)
	}
	if err := g.live.set(c); err != nil {
		return err
	}
	g.started, g.since = c, time.Now()
	g.mailCert, g.adminCert = c.Certificate(), c.AdminCertificate()
	g.reloaded, g.renamed, g.adopted = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	g.guard = &guard.Guard{
		Store: g.Store, Fingerprints: g.Fingerprints,
		Recorder:    recorders{g.Metrics, newAccessLog(g.Log)},
		EndSessions: func(name auth.Name) { g.sessions.End(name) },
		Panicked:    g.Metrics.Panicked,
		Log:         g.Log,
		Now:         g.Now,
		WatchClock:  true,
		Patience:    c.Limits.Patience,
		StoreGrace:  c.Store.Grace,
		LoginWindow: c.Store.LastLoginWindow,
		Shared:      g.Changes != nil,
		MaxUnknown:  c.Store.MaxUnknownNames,
	}
	if c.Store.LastLoginWindow == 0 {
		g.guard.LoginWindow = -1 // write each one
	}
	if c.Throttle.Enabled {
		g.guard.Throttle = &throttle.Throttle{Window: c.Throttle.Window, Accounts: c.Throttle.Accounts, Failures: c.Throttle.Failures, Locks: c.Throttle.Locks}
	}
	g.setPolicy(c)
	g.Metrics.Watch(g.guard.Waiting, func() int { return g.sessions.Len("") })
	g.Metrics.Reloaded(time.Now(), nil)
	g.renewals.begin(g, c)

	drain := drainTime(c.Drain(awaited))
	grace := min(lastLogins, max(drain, 0)/2) // and the rest for last words
	p := parts{
		config: c, drain: drain, grace: grace, awaited: awaited,
		limiter: &frontend.Limiter{
			Max: c.Limits.Connections, PerSource: c.Limits.ConnectionsPerSource,
			Early:       (c.Limits.Connections + 1) / 2, // the other half is for sessions
			EarlyMemory: earlyMemory,
			Many:        g.live.many,
		},
	}
	g.frontEnds = make(map[auth.Protocol]frontEnd)
	for _, s := range served(c) {
		g.frontEnds[s.Protocol] = s.serve(g, p)
	}
	g.admin = g.newAdmin(c)
	return nil
}

// earlyMemory is how many octets of commands and TLS records connections may hold
// that are not logged in, all together. It is room for two thousand of the longest
// commands; a login has some 100 octets, one with a token perhaps 2,000.
const earlyMemory = 32 << 20

// drainTime is the drain timeout as the front ends take it, for which 0 is a default.
func drainTime(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// lastLogins is how long a connection that was accepted just before a shutdown may go
// on: the time for a handshake, a login and a first command of a distant client.
const lastLogins = 2 * time.Second

// refused records credentials that were not shown to the guard.
func (g *Gateway) refused(a auth.Attempt, o auth.Outcome) {
	g.guard.Recorder.RecordAttempt(a, auth.Verdict{Outcome: o})
}

// Rules returns the rules in force; ok is false before Run has begun.
func (g *Gateway) Rules() (rules auth.Rules, ok bool) {
	in := g.live.current.Load()
	if in == nil {
		return rules, false
	}
	return in.config.Rules(), true
}

// Reload reads the configuration again and puts it into force, or keeps the old
// one and says why. Listeners, limits, the store and the log need a restart; a
// change there is said in the log.
func (g *Gateway) Reload() (err error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	defer func() { g.Metrics.Reloaded(time.Now(), err) }()
	c, err := g.Load()
	if err != nil {
		return fmt.Errorf("reload: the old configuration stays in force: %w", err)
	}
	next, err := g.live.build(c)
	if err != nil {
		return fmt.Errorf("reload: the old configuration stays in force: %w", err)
	}
	// A certificate, say, can be replaced while the store does not answer.
	if c.Agreement().String() != g.live.config().Agreement().String() {
		ctx, cancel := context.WithTimeout(context.Background(), agreeWithin)
		defer cancel()
		if err := g.join(ctx, c); err != nil {
			next.close(g.live.current.Load())
			return fmt.Errorf("reload: the old configuration stays in force: %w", err)
		}
	}
	g.putIntoForce(c, next)
	return nil
}

// agreeWithin bounds how long a reload waits for the other gateways.
const agreeWithin = time.Minute

// putIntoForce replaces the configuration.
func (g *Gateway) putIntoForce(c *config.Config, next *inForce) {
	g.live.put(next)
	g.setPolicy(c)
	for _, signal := range []chan struct{}{g.reloaded, g.renamed, g.adopted} {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
	g.renewals.reloaded(g, c)
	g.admin.SetTokens(tokens(c))
	for _, w := range c.Warnings {
		g.Log.Warn("configuration", "path", w.Path, "warning", w.Message, "fix", w.Fix)
	}
	if needs := needRestart(g.started, c); len(needs) > 0 {
		g.Log.Warn("these settings have changed and need a restart", "settings", needs)
	}
	g.Log.Info("the new configuration is in force", "file", c.File)
}

// setPolicy puts into force what the guard works by. Whether sources are throttled is
// decided at the start, so the known networks go by that and not by the file.
func (g *Gateway) setPolicy(c *config.Config) {
	throttled := c.Throttle
	throttled.Enabled = g.guard.Throttle != nil
	policy := guard.Policy{Names: c.Namer(), Rules: c.Rules(), KnownNetworks: throttled.Known()}
	g.guard.SetPolicy(policy)
	g.Metrics.RulesInForce(policy.Rules)
	g.Metrics.KnownNetworks(len(policy.KnownNetworks))
}

// live is what a reload replaces: the doors ask it each time.
type live struct {
	current atomic.Pointer[inForce]
	// panicked is called for a panic in a connection to a mail server that has no client
	// yet. Set before the first configuration.
	panicked func(p auth.Protocol, value any, stack []byte)
	// extensions are those of the mail server for submission.
	extensions *extensions
}

type inForce struct {
	config *config.Config
	// servers has none for a protocol that is not served, nor was since the start.
	servers map[auth.Protocol]*upstream.Server
	sender  smtp.Sender
}

// set puts a configuration into force.
func (l *live) set(c *config.Config) error {
	next, err := l.build(c)
	if err != nil {
		return err
	}
	l.put(next)
	return nil
}

// build makes what put puts into force, or close gives up.
func (l *live) build(c *config.Config) (_ *inForce, err error) {
	next := &inForce{config: c, servers: make(map[auth.Protocol]*upstream.Server)}
	for _, s := range served(c) {
		server, err := c.Mail(s.Protocol).Upstream.Server()
		if err != nil {
			return nil, fmt.Errorf("%s.upstream: %w", s, err)
		}
		server.Panicked = func(value any, stack []byte) { l.panicked(s.Protocol, value, stack) }
		next.servers[s.Protocol] = server
	}
	if old := l.current.Load(); old != nil {
		// A door that is no longer wanted is open until the restart.
		for p, server := range old.servers {
			if next.servers[p] == nil {
				next.servers[p] = server
			}
		}
		if len(c.Domains) > 0 && next.differ() {
			next.close(old)
			return nil, errors.New("login_name differs from that of a door which stays open until the restart, so that accounts of several domains could not be told apart: restart the gateway (systemctl restart congthu)")
		}
	}
	names := c.Namer()
	next.sender = smtp.Sender{Mode: c.Rules().Sender, Canonical: names.Existing, Aliases: c.SenderAliases(), Delegations: c.SenderDelegations()}
	return next, nil
}

func (l *live) put(next *inForce) {
	if old := l.current.Swap(next); old != nil {
		// What was kept ready was made as the old configuration says.
		old.close(next)
	}
}

// differ reports whether one mail server knows accounts by other names than another.
func (in *inForce) differ() bool {
	local, whole := false, false
	for _, server := range in.servers {
		local, whole = local || server.LocalNames, whole || !server.LocalNames
	}
	return local && whole
}

// close gives up the mail servers that next does not have.
func (in *inForce) close(next *inForce) {
	for p, server := range in.servers {
		if server != next.servers[p] {
			server.Close()
		}
	}
}

func (l *live) config() *config.Config { return l.current.Load().config }

func (l *live) text(o auth.Outcome) string { return l.config().Text(o) }

func (l *live) alertText(days int) string { return l.config().AlertText(days) }

// changePassword tells how a password is changed.
func (l *live) changePassword() string {
	p := l.config().Regulation.Password
	return cmp.Or(p.ChangeText, p.ChangeURL)
}

// watchedListener is a listener whose connections are their clients'. It is the same whether
// there are balancers now or not: a reload may list some.
func (g *Gateway) door(l mailListener) *watchedListener {
	d := &watchedListener{Listener: &proxyproto.Listener{
		Listener: l.Listener, Policy: g.live.balancers, Log: g.Log,
		Panicked: func(value any, stack []byte) {
			g.Log.Error("panic in reading a PROXY header", "protocol", l.protocol, "panic", auth.PanicText(value), "stack", string(stack))
			g.Metrics.Panicked(l.protocol)
		},
	}}
	g.loops = append(g.loops, d)
	return d
}

func (l *live) balancers() proxyproto.Policy {
	p := l.config().ProxyProtocol
	return proxyproto.Policy{From: p.From, Timeout: p.Timeout}
}

// forwarder reports whether an address is that of a trusted forwarder.
func (l *live) forwarder(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(l.config().TrustedForwarders, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// many reports whether an address stands for many clients: that of a trusted forwarder,
// or one in a known network.
func (l *live) many(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return l.forwarder(addr) || slices.ContainsFunc(l.config().Throttle.KnownNetworks, func(n config.KnownNetwork) bool { return netip.Prefix(n).Contains(addr) })
}

func (l *live) sender() smtp.Sender { return l.current.Load().sender }

// beforeIMAP are the mail server's capabilities before login.
func (l *live) beforeIMAP() []goimap.Cap { return l.server(auth.IMAP).BeforeIMAP() }

// LoginIMAP implements imap.Upstream.
func (l *live) LoginIMAP(ctx context.Context, name auth.Name, password auth.Secret, c upstream.Client) (*upstream.IMAPConn, auth.Answer) {
	return l.server(auth.IMAP).LoginIMAP(ctx, name, password, c)
}

// LoginSMTP implements smtp.Upstream.
func (l *live) LoginSMTP(ctx context.Context, name auth.Name, password auth.Secret, c upstream.Client) (*upstream.SMTPConn, auth.Answer) {
	return l.server(auth.SMTP).LoginSMTP(ctx, name, password, c)
}

// ProbeSMTP implements smtp.Upstream: from memory, while the probes go on.
func (l *live) ProbeSMTP(ctx context.Context) (upstream.Extensions, error) {
	return l.extensions.ask(ctx, l.server(auth.SMTP), 2*probeEvery)
}

// server is the mail server of a protocol that is served.
func (l *live) server(p auth.Protocol) *upstream.Server { return l.current.Load().servers[p] }

// serveAdmin serves one admin listener until ctx ends and what was asked before
// that is answered, which may take 2 s.
func (g *Gateway) serveAdmin(ctx context.Context, l adminListener) error {
	server := g.admin.HTTPServer(l.handler(g.admin))
	server.ConnState = boundConns(&frontend.Limiter{Early: adminConns, PerSource: adminConnsPerSource})
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(l.Listener) // returns when the shutdown begins
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}
