// Package gateway builds a gateway from its front ends, the rules and the mail servers
// behind them, and runs it: it opens all listeners or none, ends them together, and
// replaces a configuration as a whole or not at all.
//
// Goroutines while it runs: each listener has one that accepts. Each connection has one
// that speaks with the client until the login (packages frontend, imap, pop3 and smtp).
// Beside them run the guard's own goroutine (for results that could not be settled at
// once), the daily sweep, the probes of the mail servers, and the admin listeners. A
// shutdown ends them in the order of their dependencies: first the front ends, whose
// sessions may continue for the drain time, then everything else.
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
	// Health returns why the store cannot be used, or nil.
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
	// SharedCounters sets how many of the counters that names without an account share
	// are in use.
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
	// CertificatesRead sets why the latest certificates could not be loaded; nil if
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
	// Store and Fingerprints keep the state of accounts and passwords. Required.
	Store        Store
	Fingerprints auth.Fingerprinter
	// Metrics receives all counts. Required.
	Metrics Metrics
	// Log is for the operator. Required.
	Log *slog.Logger
	// Version is the program's version.
	Version string
	// Load reads the configuration again, for Reload.
	Load func() (*config.Config, error)
	// Sockets are listening sockets opened by another process, such as systemd, that
	// keeps them open; Run uses them. Without any, the gateway opens all sockets
	// itself.
	Sockets []Socket
	// Ready is called when all listeners are open; nil: not called.
	Ready func()
	// Now is the clock; nil: this machine's. Gateways that share a store must
	// share a clock as well, since they compare instants.
	Now func() time.Time
	// Changes calls onRemoteEvent for each change to an account by another gateway on
	// the same store, until ctx ends; nil: no other gateway uses the store.
	Changes func(ctx context.Context, onRemoteEvent func(auth.Event)) error
	// Shared is the store if other gateways may use it as well, otherwise nil.
	Shared RulesStore

	started   *config.Config // its settings that need a restart are in force
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
	// reloading is locked while the configuration is replaced.
	reloading   sync.Mutex
	rulesBehind atomic.Pointer[behind] // nil while this gateway uses the agreed rules
	health      health                 // of the mail servers
	attacks     map[string]bool        // already logged; used by the daily jobs only
}

// Run opens all listeners of the configuration and serves until ctx ends and the
// sessions have drained. If one listener cannot be opened, nothing is served; the error
// then joins a [*ListenError] for each one that failed.
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
	// The front ends need these jobs, so the jobs end after them.
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
		// Started before the first login: a lock made at another gateway must reach its
		// session.
		jobs.Go(func() error { return g.Changes(background, g.onRemoteEvent) })
	}
	doors, open := errgroup.WithContext(open)
	context.AfterFunc(open, g.admin.Drain) // a listener that fails ends the others
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

// assemble builds the parts that a reload keeps. awaited is set if new clients will
// wait for the end of this process.
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
		g.guard.LoginWindow = -1 // write each login
	}
	if c.Throttle.Enabled {
		g.guard.Throttle = &throttle.Throttle{Window: c.Throttle.Window, Accounts: c.Throttle.Accounts, Failures: c.Throttle.Failures, Locks: c.Throttle.Locks}
	}
	g.setPolicy(c)
	g.Metrics.Watch(g.guard.Waiting, func() int { return g.sessions.Len("") })
	g.Metrics.Reloaded(time.Now(), nil)
	g.renewals.begin(g, c)

	drain := drainTime(c.Drain(awaited))
	grace := min(lastLogins, max(drain, 0)/2) // the rest of the time is for farewells
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

// earlyMemory limits the octets of commands and TLS records that all connections before
// login may hold together. It has room for two thousand commands of the maximum length;
// a login has some 100 octets, one with a token perhaps 2,000.
const earlyMemory = 32 << 20

// drainTime converts a drain timeout for the front ends, for which 0 means the default.
func drainTime(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// lastLogins is the time for a connection that was accepted just before a shutdown: it
// suffices for a handshake, a login and a first command of a distant client.
const lastLogins = 2 * time.Second

// refused records credentials that did not reach the guard.
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

// Reload reads the configuration again and puts it into force, or keeps the old one and
// returns the reason. Changes of listeners, limits, the store and the log need a
// restart; Reload logs them.
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
	// Without changed rules, a new certificate can be put into force while the store is
	// down.
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

// agreeWithin limits the time that a reload waits for the other gateways.
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

// setPolicy puts the guard's settings into force. Whether sources are throttled is
// decided at the start, so the known networks depend on that and not on the file.
func (g *Gateway) setPolicy(c *config.Config) {
	throttled := c.Throttle
	throttled.Enabled = g.guard.Throttle != nil
	policy := guard.Policy{Names: c.Namer(), Rules: c.Rules(), KnownNetworks: throttled.Known()}
	g.guard.SetPolicy(policy)
	g.Metrics.RulesInForce(policy.Rules)
	g.Metrics.KnownNetworks(len(policy.KnownNetworks))
}

// live is what a reload replaces: the front ends read it for each use.
type live struct {
	current atomic.Pointer[inForce]
	// panicked is called for a panic in a connection to a mail server that has no
	// client yet. It is set before the first configuration.
	panicked func(p auth.Protocol, value any, stack []byte)
	// extensions are those of the mail server for submission.
	extensions *extensions
}

type inForce struct {
	config *config.Config
	// servers has no entry for a protocol that has not been served since the start.
	servers map[auth.Protocol]*upstream.Server
	sender  smtp.Sender
}

// set builds a configuration and puts it into force.
func (l *live) set(c *config.Config) error {
	next, err := l.build(c)
	if err != nil {
		return err
	}
	l.put(next)
	return nil
}

// build builds what put puts into force or close discards.
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
		// The listener of a removed protocol stays open until the restart.
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
		// Spare connections were opened under the old configuration.
		old.close(next)
	}
}

// differ reports whether some mail servers know accounts by other names than the others
// do.
func (in *inForce) differ() bool {
	local, whole := false, false
	for _, server := range in.servers {
		local, whole = local || server.LocalNames, whole || !server.LocalNames
	}
	return local && whole
}

// close closes the mail servers that next does not use.
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

// changePassword returns the text on how to change a password.
func (l *live) changePassword() string {
	p := l.config().Regulation.Password
	return cmp.Or(p.ChangeText, p.ChangeURL)
}

// door returns a listener whose connections have the clients' addresses, even if no
// load balancer is configured: a reload may add some.
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

// beforeIMAP returns the mail server's capabilities before login.
func (l *live) beforeIMAP() []goimap.Cap { return l.server(auth.IMAP).BeforeIMAP() }

// LoginIMAP implements imap.Upstream.
func (l *live) LoginIMAP(ctx context.Context, name auth.Name, password auth.Secret, c upstream.Client) (*upstream.IMAPConn, auth.Answer) {
	return l.server(auth.IMAP).LoginIMAP(ctx, name, password, c)
}

// LoginSMTP implements smtp.Upstream.
func (l *live) LoginSMTP(ctx context.Context, name auth.Name, password auth.Secret, c upstream.Client) (*upstream.SMTPConn, auth.Answer) {
	return l.server(auth.SMTP).LoginSMTP(ctx, name, password, c)
}

// ProbeSMTP implements smtp.Upstream. It answers from memory while the probes run.
func (l *live) ProbeSMTP(ctx context.Context) (upstream.Extensions, error) {
	return l.extensions.ask(ctx, l.server(auth.SMTP), 2*probeEvery)
}

// server returns the mail server of a served protocol.
func (l *live) server(p auth.Protocol) *upstream.Server { return l.current.Load().servers[p] }

// serveAdmin serves one admin listener until ctx ends and pending requests are
// answered, for which it allows 2 s.
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
