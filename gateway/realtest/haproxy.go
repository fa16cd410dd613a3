package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// BalancerAddress is the address from which every HAProxy of the tests connects.
const BalancerAddress = "127.9.9.1"

// HAProxyServer is a running HAProxy in front of a gateway.
type HAProxyServer struct {
	IMAP, IMAPS, Submission, Submissions int // ports on 127.0.0.1
	Log                                  string
}

// Door returns the way through the balancer.
func (h *HAProxyServer) Door() Door {
	return Door{Name: "haproxy", IMAP: h.IMAP, IMAPS: h.IMAPS, Submission: h.Submission, Submissions: h.Submissions}
}

// HAProxyFile returns the configuration in the guide with that name.
func HAProxyFile(t testing.TB, guide string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/guide", guide))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```haproxy\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s shows no configuration", guide)
	}
	return string(block[1])
}

// HAProxy starts the HAProxy of the guide in front of a gateway, for one test,
// with send-proxy or send-proxy-v2.
func HAProxy(t testing.TB, g *Gateway, header string) *HAProxyServer {
	t.Helper()
	need(t)
	dir := newDir(t, "h")
	h := &HAProxyServer{
		IMAP: freePort(t), IMAPS: freePort(t), Submission: freePort(t), Submissions: freePort(t),
		Log: filepath.Join(dir, "haproxy.log"),
	}
	file := HAProxyFile(t, "haproxy.md")
	replace := func(pattern, with string) {
		t.Helper()
		re := regexp.MustCompile(pattern)
		if !re.MatchString(file) {
			t.Fatalf("the guide's configuration has no %s", pattern)
		}
		file = re.ReplaceAllString(file, with)
	}
	replace(`maxconn 20000`, `maxconn 500`) // a container may have few file descriptors
	replace(`log /dev/log local0`, `log stdout format raw local0`)
	replace(` inter 10s send-proxy-v2`, fmt.Sprintf(" inter 500ms source %s %s", BalancerAddress, header))
	replace(`(?m)^  server congthu2 .*\n`, "")
	for _, p := range []struct{ guide, front, gateway int }{
		{143, h.IMAP, g.IMAP}, {993, h.IMAPS, g.IMAPS}, {587, h.Submission, g.Submission}, {465, h.Submissions, g.Submissions},
	} {
		replace(fmt.Sprintf(`bind :%d\b`, p.guide), "bind "+addr(p.front))
		replace(fmt.Sprintf(`192\.0\.2\.21:%d\b`, p.guide), addr(p.gateway))
		if p.guide == 143 || p.guide == 587 {
			replace(fmt.Sprintf(` port %d\b`, p.guide), fmt.Sprintf(" port %d", p.gateway))
		}
	}
	if strings.Contains(file, "192.0.2.") {
		t.Fatalf("an address of the guide is left:\n%s", file)
	}
	config := writeFile(t, filepath.Join(dir, "haproxy.cfg"), file, 0o644)
	process := start(t, "haproxy", h.Log, "/usr/sbin/haproxy", "-db", "-f", config)
	t.Cleanup(process.Stop)
	tailOnFailure(t, h.Log)
	awaitListener(t, process, h.Submissions)
	return h
}
