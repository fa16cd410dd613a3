package gateway

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// imports says which packages of this program each may depend on; the rest
// follows. "auth" stands for the package alone.
var imports = map[string][]string{
	"congthu/auth":                   {},
	"congthu/auth/audit":             {"congthu/auth"},
	"congthu/auth/guard":             {"congthu/auth", "congthu/auth/internal/lru", "congthu/auth/throttle"},
	"congthu/auth/incident":          {"congthu/auth"},
	"congthu/auth/internal/lru":      {},
	"congthu/auth/password":          {"congthu/auth"},
	"congthu/auth/storetest":         {"congthu/auth", "congthu/auth/audit", "congthu/auth/guard", "congthu/auth/incident", "congthu/auth/internal/lru", "congthu/auth/storetest/testenv", "congthu/auth/throttle"},
	"congthu/auth/throttle":          {"congthu/auth", "congthu/auth/internal/lru"},
	"congthu/auth/storetest/testenv": {},
	"congthu/auth/sqlite":            {"congthu/auth", "congthu/auth/audit"},
	"congthu/auth/postgres":          {"congthu/auth", "congthu/auth/audit", "congthu/auth/postgres/defaults"},
	"congthu/auth/postgres/defaults": {},
	"congthu/auth/postgres/pgtest":   {"congthu/auth/storetest/testenv"},
	"congthu/metrics":                {"congthu/auth", "congthu/auth/audit", "congthu/auth/internal/lru", "congthu/auth/throttle"},
	"congthu/metrics/grafana":        {"congthu/auth"},
	"congthu/gateway/frontend":       {"congthu/auth", "congthu/gateway/relay", "congthu/gateway/session"},
	"congthu/gateway/proxyproto":     {},
	"congthu/gateway/heap":           {},
	"congthu/gateway/relay":          {},
	"congthu/gateway/scope":          {},
	"congthu/gateway/session":        {"congthu/auth"},
	"congthu/gateway/systemd":        {},
	"congthu/gateway/upstream":       {"congthu/auth"},
	"congthu/gateway/demo":           {"congthu/auth", "congthu/auth/guard", "congthu/auth/internal/lru", "congthu/auth/throttle"},
	"congthu/gateway/config":         {"congthu/auth", "congthu/auth/guard", "congthu/auth/internal/lru", "congthu/auth/postgres/defaults", "congthu/auth/throttle", "congthu/gateway/proxyproto", "congthu/gateway/scope", "congthu/gateway/upstream"},
	"congthu/gateway/admin":          {"congthu/auth", "congthu/auth/audit", "congthu/auth/guard", "congthu/auth/incident", "congthu/auth/internal/lru", "congthu/auth/throttle", "congthu/gateway/scope"},
	"congthu/gateway/support":        {"congthu/auth", "congthu/auth/guard", "congthu/auth/internal/lru", "congthu/auth/postgres/defaults", "congthu/auth/throttle", "congthu/gateway/proxyproto", "congthu/gateway/config", "congthu/gateway/scope", "congthu/gateway/upstream"},
	"congthu/gateway/imap":           {"congthu/auth", "congthu/gateway/frontend", "congthu/gateway/relay", "congthu/gateway/session", "congthu/gateway/upstream"},
	"congthu/gateway/pop3":           {"congthu/auth", "congthu/gateway/frontend", "congthu/gateway/relay", "congthu/gateway/session", "congthu/gateway/upstream"},
	"congthu/gateway/smtp":           {"congthu/auth", "congthu/gateway/frontend", "congthu/gateway/relay", "congthu/gateway/session", "congthu/gateway/smtp/wire", "congthu/gateway/upstream"},
	"congthu/gateway/smtp/wire":      {},
	"congthu/gateway/mailtest":       {},
	"congthu/gateway/realtest":       {"congthu/auth/storetest/testenv"},
	"congthu/deploy/bench":           {},
	"congthu/deploy/guide":           {},
	"congthu/deploy/prometheus":      {},
	"congthu/deploy/tools/dates":     {"congthu/auth/storetest/testenv"},
	"congthu/deploy/packaging":       nil, // reads the commands for the manual
	"congthu/gateway":                nil, // all of its doors, but see below
	"congthu/gateway/cli":            nil, // puts everything together
	"congthu":                        nil,

	// The harness of the tests of each protocol.
	"congthu/gateway/frontend/frontendtest": {"congthu/auth", "congthu/gateway/frontend", "congthu/gateway/mailtest", "congthu/gateway/relay", "congthu/gateway/session", "congthu/gateway/upstream"},

	// Not built yet. The engine and the rules depend on none of them.
	"congthu/auth/directory":   {"congthu/auth"},                                                    // people, positions, units
	"congthu/auth/naming":      {"congthu/auth"},                                                    // how an address is formed
	"congthu/auth/passwordage": {"congthu/auth"},                                                    // evidence of a password's age
	"congthu/auth/requests":    {"congthu/auth", "congthu/auth/directory", "congthu/auth/workdays"}, // and when they are due
	"congthu/auth/sso":         {"congthu/auth"},                                                    // tokens in place of passwords
	"congthu/auth/workdays":    {},                                                                  // the calendar of working days
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Fields(string(out))
}

func TestImportsRunOneWay(t *testing.T) {
	for _, line := range list(t, "-f", `{{.ImportPath}}|{{join .Deps "|"}}`, "congthu/...") {
		all := strings.Split(line, "|")
		pkg := all[0]
		allowed, known := imports[pkg]
		if !known {
			t.Errorf("%s is not in the table of imports: say what it may depend on", pkg)
			continue
		}
		for _, dep := range all[1:] {
			ours := strings.HasPrefix(dep, "congthu") && dep != pkg
			if ours && allowed != nil && !slices.Contains(allowed, dep) {
				t.Errorf("%s imports %s", pkg, dep)
			}
			if pkg == "congthu/gateway" && (dep == "congthu/metrics" || dep == "congthu/auth/sqlite" || dep == "congthu/auth/postgres") {
				t.Errorf("%s imports %s: only gateway/cli may", pkg, dep)
			}
		}
	}
}

func TestTheRulesImportNothingButTheStandardLibraryAndText(t *testing.T) {
	for _, dep := range list(t, "-f", `{{join .Imports "\n"}}`, "congthu/auth") {
		first, _, _ := strings.Cut(dep, "/")
		if strings.Contains(first, ".") && !strings.HasPrefix(dep, "golang.org/x/text/") && dep != "golang.org/x/net/idna" {
			t.Errorf("package auth imports %s", dep)
		}
	}
}
