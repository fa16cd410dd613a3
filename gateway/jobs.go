package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/incident"
	"congthu/gateway/admin"
	"congthu/gateway/config"
)

// newAdmin builds the admin interface.
func (g *Gateway) newAdmin(c *config.Config) *admin.Server {
	checks := []admin.Check{{Name: "store", Run: g.Store.Health}}
	for _, s := range served(c) {
		checks = append(checks, admin.Check{Name: s.String() + " upstream", Run: g.upstreamHealth(s.Protocol), Address: func() string { return g.live.config().Mail(s.Protocol).Upstream.Address }})
	}
	return &admin.Server{
		Accounts: verifyingStore{g.Store, g.Metrics}, Guard: g.guard, Canonical: g.guard.Canonical, Sessions: &g.sessions, Shared: g.Changes != nil,
		Own: g.guard.Own,
		Import: func(ctx context.Context, list []auth.Imported, act auth.Act, o guard.ImportOptions) (guard.Importation, error) {
			return g.guard.Import(ctx, g.Store, list, act, o)
		},
		Tokens: tokens(c), Metrics: g.Metrics.Handler(), ChangePassword: g.live.changePassword,
		Checks: checks, Warnings: []admin.Check{{Name: "clock", Run: g.clockHealth}, {Name: "rules", Run: g.rulesHealth}}, Panicked: g.Metrics.AdminPanicked, Now: g.Now,
		ShowRules: g.showRules, AdoptRules: g.adoptRules,
		Bundle: g.bundle, Log: g.Log, Hostname: c.Hostname, Version: g.Version,
	}
}

// loadAllowedSources reads from the store the sources that were exempted before this
// process began, and retries until it succeeds. Until then those sources are throttled
// like others, whose history is empty when a process begins.
func (g *Gateway) loadAllowedSources(ctx context.Context) error {
	logged := false
	for {
		err := g.guard.RecallAllowed(ctx, g.Store)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !logged {
			g.Log.Error("it is not known yet which sources are allowed; it is tried again every 5 seconds", "err", err)
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// verifyingStore records the verifications of the audit log in the metrics, both those
// of the daily job and those that an administrator requested.
type verifyingStore struct {
	Store
	metrics Metrics
}

// Verify implements admin.Accounts.
func (v verifyingStore) Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error) {
	head, err := v.Store.Verify(ctx, progress)
	if ctx.Err() == nil {
		v.metrics.ChainVerified(time.Now(), err)
	}
	return head, err
}

func tokens(c *config.Config) []admin.Token {
	tokens := make([]admin.Token, len(c.Admin.Tokens))
	for i, t := range c.Admin.Tokens {
		tokens[i] = admin.Token{Name: t.Name, SHA256: t.SHA256, Scopes: t.Scopes}
	}
	return tokens
}

// How often the mail servers and the store are probed and the accounts counted.
const (
	probeEvery = 15 * time.Second
	countEvery = 5 * time.Minute
)

// probe asks the mail servers for their capabilities, and the store whether it
// can be used, every 15 seconds, so that monitoring notices before users do.
func (g *Gateway) probe(ctx context.Context) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	var store error // the store's error at the previous probe
	for {
		if err := g.Store.Health(ctx); ctx.Err() == nil {
			g.Metrics.StoreUp(err == nil)
			if (err == nil) != (store == nil) {
				g.logStoreHealth(err)
			}
			store = err
		}
		g.guard.Rules() // checks the clock, which may change while there are no logins
		g.Metrics.ClockSuspect(!g.guard.Suspicion().IsZero())
		in := g.live.current.Load()
		for _, s := range services {
			if server := in.servers[s.Protocol]; server != nil {
				g.recordProbe(ctx, s.Protocol, s.probe(ctx, &g.live, server))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (g *Gateway) logStoreHealth(err error) {
	if err != nil {
		g.Log.Error("the store cannot be used: only those whose password is known can log in, for store.grace", "err", err)
	} else {
		g.Log.Info("the store can be used again")
	}
}

func (g *Gateway) recordProbe(ctx context.Context, p auth.Protocol, err error) {
	if ctx.Err() != nil {
		return
	}
	before := g.health[p].Swap(&err)
	g.Metrics.UpstreamUp(p, err == nil)
	switch was := before != nil && *before != nil; {
	case err != nil && !was:
		g.Log.Error("the mail server does not answer: nobody can log in", "protocol", p, "err", err)
	case err == nil && was:
		g.Log.Info("the mail server answers again", "protocol", p)
	}
}

// upstreamDown reports whether the latest probe of the mail server failed.
func (g *Gateway) upstreamDown(p auth.Protocol) bool {
	latest := g.health[p].Load()
	return latest != nil && *latest != nil
}

// clockHealth explains why the clock is suspect. Users can still log in.
func (g *Gateway) clockHealth(context.Context) error {
	if s := g.guard.Suspicion(); !s.IsZero() {
		return fmt.Errorf("%s: nothing is revoked and nothing runs out until somebody has looked at the clock (congthu clock accept)", s.Why)
	}
	return nil
}

func (g *Gateway) upstreamHealth(p auth.Protocol) func(context.Context) error {
	return func(context.Context) error {
		latest := g.health[p].Load()
		if latest == nil {
			return admin.ErrNotProbed
		}
		return *latest
	}
}

// learnNamesRetry is the time before the names are read again after an error.
const learnNamesRetry = time.Minute

// learnNames finds, after the start and after each reload, the rows of the store whose
// name now means another account. It runs in the background: until it has finished,
// each login of an account that may have such rows looks for them.
func (g *Gateway) learnNames(ctx context.Context) error {
	for {
		found, err := g.guard.LearnNames(ctx, auth.BackgroundScan{Lister: g.Store})
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			g.Log.Error("the names in the store could not be compared with the configuration; tried again in a minute", "err", err)
			again = time.After(learnNamesRetry)
		}
		if n := found.NotASCII; err == nil && n > 0 {
			g.Log.Warn("accounts with letters beyond ASCII in their names go on, and others cannot begin to be used",
				"count", n, "fix", "if the mail server tells accents apart set names.unicode: true, otherwise rename them there: congthu check lists them")
		}
		if n := found.Strays; err == nil && n > 0 {
			g.Log.Warn("accounts are kept under names that mean other accounts now; what is held against them holds for those",
				"count", n, "fix", "congthu account merge --all --dry-run shows them")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.renamed:
		case <-again:
		}
	}
}

// sweepDaily revokes dormant accounts once a day, then verifies the audit log and
// removes events past their retention. Every few minutes it counts the accounts by
// state. Gateways that share a store all do so at the same time, each for its own
// metrics: the first gateway that reaches an account revokes it and writes the event.
func (g *Gateway) sweepDaily(ctx context.Context) error {
	count := time.NewTicker(countEvery)
	defer count.Stop()
	c := g.live.config()
	due := nextSweep(c)
	g.count(ctx)
	for ctx.Err() == nil {
		// A sweep that became due during other work is late, not skipped.
		if !due.After(time.Now()) {
			g.sweep(ctx)
			c = g.live.config()
			due = nextSweep(c)
		} else if now := g.live.config(); now != c {
			c, due = now, nextSweep(now)
		}
		sweep := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
		case <-count.C:
			g.count(ctx)
		case <-g.reloaded: // perhaps the time of the sweep has changed
		case <-sweep.C:
		}
		sweep.Stop()
	}
	return nil
}

func nextSweep(c *config.Config) time.Time {
	return c.Regulation.Dormancy.SweepAt.Next(time.Now(), c.Rules().Location)
}

// count updates the metrics of the accounts, and logs incidents that look like attacks.
func (g *Gateway) count(ctx context.Context) {
	// This needs no store.
	g.Metrics.ThrottledSources(g.guard.RefusedSources())
	unhurried := auth.BackgroundScan{Lister: g.Store}
	accounts, err := g.guard.Count(ctx, unhurried)
	var causes []incident.Incident
	if err == nil {
		causes, err = incident.Find(ctx, unhurried)
	}
	var unknown int
	if err == nil {
		unknown, err = g.Store.UnknownNames(ctx)
	}
	var shared auth.Counters
	if err == nil {
		shared, err = g.guard.CountShared(ctx, unhurried)
	}
	var oldest auth.Event
	if err == nil {
		oldest, err = audit.OldestEvent(ctx, g.Store)
	}
	if err != nil {
		if ctx.Err() == nil {
			g.Log.Error("accounts could not be counted", "err", err)
		}
		return
	}
	g.Metrics.Accounts(accounts)
	g.Metrics.UnknownNames(unknown)
	g.Metrics.SharedCounters(shared)
	g.Metrics.AuditOldest(oldest.At)
	attacks := make(map[string]bool)
	for _, c := range incident.Attacks(causes, time.Now()) {
		attacks[c.ID] = true
		if !g.attacks[c.ID] {
			g.Log.Warn("many accounts were locked by one cause: this looks like an attack",
				"cause", c.ID, "accounts", len(c.Accounts), "sources", len(c.Sources), "first", c.First, "last", c.Last)
		}
	}
	g.attacks = attacks
	g.Metrics.Attacks(len(attacks))
}

// sweep revokes dormant accounts, deletes old unknown names, verifies the audit log and
// removes events past their retention. It reads the whole store, and pauses between
// pages to leave capacity for logins.
func (g *Gateway) sweep(ctx context.Context) {
	unhurried := auth.BackgroundScan{Lister: g.Store}
	swept, err := g.guard.Sweep(ctx, unhurried)
	if ctx.Err() != nil {
		return
	}
	suspect := errors.Is(err, guard.ErrClockSuspect)
	if !suspect { // a suspect clock has its own alert
		g.Metrics.RecordSweep(time.Now(), err)
	}
	if suspect {
		g.Log.Warn("no sweep for dormant accounts: the clock is suspect", "err", err)
	} else if err != nil {
		g.Log.Error("the sweep for dormant accounts failed", "dormant", len(swept.Dormant), "revoked", swept.Revoked, "err", err)
	} else {
		g.Log.Info("swept for dormant accounts", "dormant", len(swept.Dormant), "revoked", swept.Revoked, "mode", g.guard.Rules().Dormancy.Mode)
	}
	if n, err := g.guard.ForgetUnknown(ctx, unhurried); err != nil {
		g.Log.Error("names that nobody ever logged in with could not be forgotten", "forgotten", n, "err", err)
	} else if n > 0 {
		g.Log.Info("names that nobody ever logged in with were forgotten", "count", n)
	}
	g.count(ctx)
	began := time.Now()
	head, err := verifyingStore{g.Store, g.Metrics}.Verify(ctx, func(int64, int64) {
		auth.Pause(ctx, time.Since(began)) // the next page notices that ctx has ended
		began = time.Now()
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		g.Log.Error("the audit log does not verify", "err", err)
		return
	}
	g.Log.Info("audit log verified", "seq", head.Seq, "hash", head.Hash)
	if !suspect {
		g.prune(ctx)
	}
}

// prune removes events past their retention from the audit log, and only if the log was
// just verified: traces of tampering must stay.
func (g *Gateway) prune(ctx context.Context) {
	keep := g.live.config().Audit.Keep()
	if keep == 0 {
		return
	}
	removed, err := audit.Prune(ctx, g.guard, g.Store, keep)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		g.Log.Error("old events could not be removed from the audit log; the next sweep goes on", "removed", removed, "err", err)
	case removed > 0:
		g.Log.Info("old events were removed from the audit log", "removed", removed, "keep_days", int(keep.Hours()/24))
	}
	if oldest, err := audit.OldestEvent(ctx, g.Store); err == nil {
		g.Metrics.AuditOldest(oldest.At)
	}
}
