package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/admin"
	"congthu/gateway/config"
)

// RulesStore is a store that several gateways share. In it they agree on the settings
// that must be equal.
type RulesStore interface {
	// AgreeOnRules calls decide with the agreed settings and the number of other
	// running gateways, and stores what decide returns as agreed. It also records that
	// this gateway runs with its settings.
	AgreeOnRules(ctx context.Context, settings string, decide func(agreed string, others int) (next string, events []auth.Event, err error)) error
	// Rules returns the agreed settings; "" if there are none yet.
	Rules(ctx context.Context) (string, error)
}

// errNotShared explains why there is nothing to adopt on SQLite.
var errNotShared = fmt.Errorf("%w: no other gateway can use this store, so there is nothing to agree on. "+
	"To put the configuration file into force: systemctl reload congthu", auth.ErrNothingToDo)

// checkRulesEvery is the interval of checks for newly agreed rules, in case a
// notification was lost.
const checkRulesEvery = 15 * time.Second

// join checks that this gateway may run with a configuration beside the others; see
// [auth.Agreement.Join].
func (g *Gateway) join(ctx context.Context, c *config.Config) error {
	mine := c.Agreement()
	return g.agree(ctx, mine, func(agreed auth.Agreement, others int) (auth.Agreement, []auth.Event, error) {
		return mine.Join(agreed, others, g.now())
	})
}

func (g *Gateway) agree(ctx context.Context, mine auth.Agreement,
	decide func(agreed auth.Agreement, others int) (auth.Agreement, []auth.Event, error),
) error {
	if g.Shared == nil {
		return nil
	}
	var happened []auth.Event
	err := g.Shared.AgreeOnRules(ctx, mine.String(), func(text string, others int) (string, []auth.Event, error) {
		happened = nil
		agreed, err := auth.ParseAgreement(text)
		if err != nil {
			return "", nil, err
		}
		next, events, err := decide(agreed, others)
		happened = events
		return next.String(), events, err
	})
	if err != nil {
		return err
	}
	for _, e := range happened {
		g.guard.Recorder.RecordEvent(e, true)
	}
	return nil
}

func (g *Gateway) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// needRestartToAgree are the agreed settings that a reload cannot put into force.
var needRestartToAgree = []string{
	"store.postgres.lease", "store.last_login_window", "store.max_unknown_names",
	"throttle.enabled", "throttle.window", "throttle.accounts", "throttle.failures", "throttle.locks",
}

// agreementInForce returns the settings that this gateway uses.
func (g *Gateway) agreementInForce() auth.Agreement {
	started, in := g.started.Agreement(), g.live.config().Agreement()
	for _, name := range needRestartToAgree {
		in[name] = started[name]
	}
	return in
}

// behind describes how this gateway differs from the agreed settings.
type behind struct {
	differences []auth.Difference
	restart     bool // a restart would remove the differences
	unreadable  error
}

func (b behind) Error() string {
	if b.unreadable != nil {
		return b.unreadable.Error()
	}
	var texts []string
	for _, d := range b.differences {
		texts = append(texts, d.String())
	}
	do := "make the configuration file equal to that of the gateway where the rules were adopted"
	if b.restart {
		do = "restart the gateway, which the settings that differ need"
	}
	return fmt.Sprintf("this gateway works by other rules than were agreed on: %s: %s", strings.Join(texts, "; "), do)
}

// watchRules compares the settings in force with the agreed ones until ctx ends. If
// other gateways have adopted new rules and this gateway's file contains them, it puts
// the file into force.
func (g *Gateway) watchRules(ctx context.Context) error {
	if g.Shared == nil {
		return nil
	}
	ticker := time.NewTicker(checkRulesEvery)
	defer ticker.Stop()
	for {
		g.checkRules(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-g.adopted:
		}
	}
}

func (g *Gateway) checkRules(ctx context.Context) {
	text, err := g.Shared.Rules(ctx)
	if err != nil {
		return // other users of the store report that it does not answer
	}
	found := g.compareRules(text)
	if found != nil && found.unreadable == nil && g.loadAgreedRules(text) {
		found = g.compareRules(text)
	}
	before := g.rulesBehind.Swap(found)
	g.Metrics.RulesBehind(found != nil)
	switch {
	case found != nil && (before == nil || before.Error() != found.Error()):
		g.Log.Warn("other rules were agreed on, and this gateway does not work by them", "err", found)
	case found == nil && before != nil:
		g.Log.Info("this gateway works by the rules that were agreed on")
	}
}

// compareRules returns nil if this gateway uses the agreed settings.
func (g *Gateway) compareRules(text string) *behind {
	agreed, err := auth.ParseAgreement(text)
	if err != nil {
		return &behind{unreadable: err}
	}
	differences := g.agreementInForce().Differences(agreed)
	if len(differences) == 0 {
		return nil
	}
	return &behind{differences: differences, restart: len(g.live.config().Agreement().Differences(agreed)) == 0}
}

// loadAgreedRules puts the file into force if the file contains the agreed settings and
// the settings in force differ.
func (g *Gateway) loadAgreedRules(text string) bool {
	agreed, err := auth.ParseAgreement(text)
	if err != nil {
		return false
	}
	c, err := g.Load()
	if err != nil || len(c.Agreement().Differences(agreed)) > 0 || c.Agreement().String() == g.live.config().Agreement().String() {
		return false
	}
	if err := g.Reload(); err != nil {
		g.Log.Error("the rules that were agreed on could not be put into force", "err", err)
		return false
	}
	return true
}

// rulesHealth explains how this gateway differs. Users can still log in, under its
// earlier rules.
func (g *Gateway) rulesHealth(context.Context) error {
	if b := g.rulesBehind.Load(); b != nil {
		return b
	}
	return nil
}

// onRemoteEvent receives each change that a gateway on the same store has made.
func (g *Gateway) onRemoteEvent(e auth.Event) {
	if e.Kind == auth.RulesAdopted {
		select {
		case g.adopted <- struct{}{}:
		default:
		}
	}
	g.guard.OnRemoteEvent(e)
}

// showRules returns the agreed settings, and how this gateway and its file differ from
// them.
func (g *Gateway) showRules(ctx context.Context) (admin.Rules, error) {
	in := g.agreementInForce()
	if g.Shared == nil {
		return admin.Rules{Settings: admin.SettingsOf(in)}, nil
	}
	text, err := g.Shared.Rules(ctx)
	if err != nil {
		return admin.Rules{}, err
	}
	agreed, err := auth.ParseAgreement(text)
	if err != nil {
		return admin.Rules{}, err
	}
	r := admin.Rules{Shared: true, Settings: admin.SettingsOf(agreed), Differences: in.Differences(agreed)}
	c, err := g.Load()
	if err != nil {
		r.FileError = err.Error()
		return r, nil
	}
	r.FileDifferences = c.Agreement().Differences(agreed)
	return r, nil
}

// adoptRules makes the settings in this gateway's file the agreed ones, and puts the
// file into force.
func (g *Gateway) adoptRules(ctx context.Context, act auth.Act) (r admin.Rules, err error) {
	if g.Shared == nil {
		return r, errNotShared
	}
	if err := g.adopt(ctx, act); err != nil {
		return r, err
	}
	g.checkRules(ctx)
	return g.showRules(ctx)
}

func (g *Gateway) adopt(ctx context.Context, act auth.Act) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	c, err := g.Load()
	if err != nil {
		return errors.Join(admin.ErrConfiguration, err)
	}
	// Built before the agreement: the other gateways must not agree on settings that
	// cannot be put into force here.
	next, err := g.live.build(c)
	if err != nil {
		return errors.Join(admin.ErrConfiguration, err)
	}
	mine := c.Agreement()
	err = g.agree(ctx, mine, func(agreed auth.Agreement, _ int) (auth.Agreement, []auth.Event, error) {
		return mine.Adopt(agreed, act, g.now())
	})
	if err != nil {
		next.close(g.live.current.Load())
		return err
	}
	g.putIntoForce(c, next)
	g.Metrics.Reloaded(time.Now(), nil)
	return nil
}
