package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"congthu/auth/postgres/pgtest"
)

// replicas are sites on one database, with the lease for which the tests wait.
func replicas(t *testing.T, n int) (sites []*site, more string) {
	t.Helper()
	more = fmt.Sprintf("store: { driver: postgres, postgres: { dsn: %q, lease: 5s, statement_timeout: 3s, lock_timeout: 1s } }\n", pgtest.Database(t))
	for i := range n {
		s := newSite(t, more)
		if i > 0 { // all share one pepper
			s.share(sites[0])
		}
		sites = append(sites, s)
		if i == 0 {
			s.run().stop()
		}
	}
	return sites, more
}

// share copies the pepper of another site.
func (s *site) share(from *site) {
	s.t.Helper()
	content, err := os.ReadFile(from.path("pepper.key"))
	if err == nil {
		err = os.WriteFile(s.path("pepper.key"), content, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

const laxer = ", lockout: { tolerated: 50 }"

func (p *process) behind(yes bool) func() bool {
	return func() bool {
		_, metrics := p.get("/metrics")
		want := "\ncongthu_rules_behind 0\n"
		if yes {
			want = "\ncongthu_rules_behind 1\n"
		}
		return strings.Contains(metrics, want)
	}
}

func TestAGatewayWithOtherRulesDoesNotStartBesideOthers(t *testing.T) {
	sites, more := replicas(t, 2)
	a, b := sites[0], sites[1]
	first := a.run()
	b.rules = laxer
	b.configure(more)
	b.wantRefused("rules.lockout.tolerated is 50 here, agreed is 5", "congthu rules adopt --reason", "Make the configuration files equal")
	if _, out := b.command("check", "-c", b.file); !strings.Contains(out, "warning  rules") || !strings.Contains(out, "rules.lockout.tolerated is 50 here, agreed is 5") {
		t.Errorf("check: %s", out)
	}
	// A gateway alone on the store may change them, and the audit log records it.
	first.stop()
	second := b.run()
	if _, events := second.get("/api/v1/events?kind=rules.adopted"); !strings.Contains(events, `"before":"rules.lockout.tolerated 5"`) ||
		!strings.Contains(events, `"actor":"gateway"`) {
		t.Errorf("the audit log has %s", events)
	}
	a.wantRefused("rules.lockout.tolerated is 5 here, agreed is 50")
}

func TestAReloadWithOtherRulesIsRefusedAndAnAdoptionIsFollowed(t *testing.T) {
	sites, more := replicas(t, 3)
	var run []*process
	for _, s := range sites {
		run = append(run, s.run())
	}
	a, b, c := run[0], run[1], run[2]
	a.rules = laxer
	a.configure(more)
	if err := a.server.gateway.Reload(); err == nil || !strings.Contains(err.Error(), "the old configuration stays in force") ||
		!strings.Contains(err.Error(), "rules.lockout.tolerated is 50 here, agreed is 5") {
		t.Fatalf("reload: %v", err)
	}
	if rules, _ := a.server.gateway.Rules(); rules.Lockout.Tolerated != 5 {
		t.Error("what was refused is in force")
	}
	if _, metrics := a.get("/metrics"); !strings.Contains(metrics, "congthu_config_last_reload_successful 0") {
		t.Error("the metric of the reload does not show it")
	}
	// A reload that changes other settings does not concern the other gateways.
	b.configure(more + "limits: { connections: 1000 }\n")
	if err := b.server.gateway.Reload(); err != nil {
		t.Errorf("reload of something else: %v", err)
	}
	// b has the same file as a, c has not.
	b.rules = laxer
	b.configure(more)
	socket := a.path("admin.sock")
	if code, out := a.command("rules", "show", "--socket", socket); code != 0 || !strings.Contains(out, "rules.lockout.tolerated: 50, agreed is 5") {
		t.Errorf("rules show before: %d %s", code, out)
	}
	if code, out := a.command("rules", "adopt", "--socket", socket, "--reason", "Decision 12"); code != 0 || !strings.Contains(out, "from now on") {
		t.Fatalf("rules adopt: %d %s", code, out)
	}
	if rules, _ := a.server.gateway.Rules(); rules.Lockout.Tolerated != 50 {
		t.Error("the gateway at which they were adopted works by the old ones")
	}
	b.eventually("the one that has the file follows", func() bool {
		rules, _ := b.server.gateway.Rules()
		return rules.Lockout.Tolerated == 50 && b.behind(false)()
	})
	c.eventually("the other one shows that it is behind", c.behind(true))
	if status, body := c.get("/readyz"); !strings.Contains(body, "rules.lockout.tolerated is 5 here, agreed is 50") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if log := c.log.String(); !strings.Contains(log, "other rules were agreed on, and this gateway does not work by them") {
		t.Errorf("the log does not tell: %s", log)
	}
	if rules, _ := c.server.gateway.Rules(); rules.Lockout.Tolerated != 5 {
		t.Error("it works by rules that are in no file of its own")
	}
	if _, events := a.get("/api/v1/events?kind=rules.adopted"); !strings.Contains(events, `"reason":"Decision 12"`) ||
		!strings.Contains(events, `"before":"rules.lockout.tolerated 5","after":"rules.lockout.tolerated 50"`) {
		t.Errorf("the audit log has %s", events)
	}
	if code, out := a.command("rules", "adopt", "--socket", socket, "--reason", "Decision 12"); code == 0 || !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %d %s", code, out)
	}
	c.rules = laxer
	c.configure(more)
	if err := c.server.gateway.Reload(); err != nil {
		t.Fatal(err)
	}
	c.eventually("it is behind no longer", c.behind(false))
}

// The gateways have agreed on the lease, and a reload does not change it.
func TestAGatewayThatNeedsARestartForTheRulesSaysSo(t *testing.T) {
	sites, more := replicas(t, 1)
	p := sites[0].run()
	p.configure(strings.Replace(more, "lease: 5s", "lease: 6s", 1))
	if err := p.server.gateway.Reload(); err != nil { // no other gateway uses the store
		t.Fatal(err)
	}
	p.eventually("it is behind", p.behind(true))
	if _, out := p.command("rules", "show", "--socket", p.path("admin.sock")); !strings.Contains(out, "systemctl restart congthu") {
		t.Errorf("rules show: %s", out)
	}
	p.stop()
	again := sites[0].run()
	again.eventually("it is not", again.behind(false))
}

func TestOnSQLiteThereIsNothingToAdopt(t *testing.T) {
	p := newSite(t, "").run()
	p.rules = laxer
	p.configure("")
	socket := p.path("admin.sock")
	if code, out := p.command("rules", "adopt", "--socket", socket, "--reason", "Decision 12"); code == 0 || !strings.Contains(out, "no other gateway can use this store") {
		t.Errorf("rules adopt: %d %s", code, out)
	}
	if code, out := p.command("rules", "show", "--socket", socket); code != 0 || !strings.Contains(out, "nothing to agree on") || !strings.Contains(out, "rules.lockout.tolerated") {
		t.Errorf("rules show: %d %s", code, out)
	}
	if err := p.server.gateway.Reload(); err != nil {
		t.Error(err)
	}
}
