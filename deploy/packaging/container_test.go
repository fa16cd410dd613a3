package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"congthu/auth/storetest/testenv"
	"congthu/gateway/cli"
	"congthu/gateway/config"
)

// No engine for containers runs in these tests. What can be known without one is
// tried: that the files fit to each other and to what is in the sources.

const containers = "../container"

// instruction is one of a Dockerfile, its continued lines joined.
type instruction struct{ name, rest string }

func dockerfile(t *testing.T) (all []instruction) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(containers, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(string(content), "")
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			name, rest, _ := strings.Cut(line, " ")
			all = append(all, instruction{name, strings.TrimSpace(rest)})
		}
	}
	return all
}

// words is the exec form of an instruction.
func words(t *testing.T, rest string) []string {
	t.Helper()
	var list []string
	if err := yaml.Unmarshal([]byte(rest[strings.IndexByte(rest, '['):]), &list); err != nil {
		t.Fatalf("%s: %v", rest, err)
	}
	return list
}

func TestTheImageIsFromScratchAndNotRoot(t *testing.T) {
	var last []instruction // the stage that is kept
	for _, i := range dockerfile(t) {
		if i.name == "FROM" {
			last = nil
		}
		last = append(last, i)
	}
	if last[0].rest != "scratch" {
		t.Errorf("the image is made from %s", last[0].rest)
	}
	seen := map[string]string{}
	for _, i := range last {
		seen[i.name] = i.rest
		if i.name == "RUN" {
			t.Errorf("there is nothing in the image that could run %s", i.rest)
		}
	}
	if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(seen["USER"]) {
		t.Errorf("USER %s is no number other than root's", seen["USER"])
	}
	if seen["EXPOSE"] != "143 993 587 465" {
		t.Errorf("EXPOSE %s", seen["EXPOSE"])
	}
	if seen["VOLUME"] != "/var/lib/congthu" {
		t.Errorf("VOLUME %s", seen["VOLUME"])
	}
	// The commands must be there, and take these flags.
	entry := words(t, seen["ENTRYPOINT"])
	for _, command := range [][]string{append(entry, words(t, seen["CMD"])...), words(t, seen["HEALTHCHECK"])} {
		if command[0] != "/usr/bin/congthu" {
			t.Errorf("%v is not the program", command)
		}
		found, rest, err := cli.New().Find(command[1:])
		if err != nil || !found.Runnable() || found.ParseFlags(rest) != nil || len(found.Flags().Args()) > 0 {
			t.Errorf("%v: no such command", command)
		}
	}
}

func TestTheImageCompilesWithTheFlagsOfARelease(t *testing.T) {
	own, err := os.ReadFile("stage.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range dockerfile(t) {
		if i.name != "RUN" || !strings.Contains(i.rest, "go build") {
			continue
		}
		for _, flag := range []string{"-trimpath", "-buildvcs=false", "-s -w -buildid=", "-X congthu/gateway/cli.release=", "-X congthu/gateway/cli.commit=", "CGO_ENABLED=0"} {
			if !strings.Contains(i.rest, flag) || !strings.Contains(string(own), flag) {
				t.Errorf("%s is not in both", flag)
			}
		}
		return
	}
	t.Error("the Dockerfile builds nothing")
}

// The builder sees what Dockerfile.dockerignore leaves; the program must compile
// from that, and no secret may be in it.
func TestWhatTheBuilderSeesIsEnoughAndHasNoSecrets(t *testing.T) {
	r := made(t)
	content, err := os.ReadFile(filepath.Join(containers, "Dockerfile.dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	var kept, dropped []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "!"); ok {
			kept = append(kept, name)
		} else if name, ok := strings.CutPrefix(line, "**/"); ok {
			dropped = append(dropped, name)
		} else if line != "" && line[0] != '#' && line != "*" {
			t.Fatalf("this test does not understand %q", line)
		}
	}
	seen := t.TempDir()
	copyTree(t, r.root, seen, func(name string, d fs.DirEntry) bool {
		top, _, _ := strings.Cut(name, "/")
		return slices.Contains(kept, top) && !slices.ContainsFunc(dropped, func(pattern string) bool {
			matched, err := filepath.Match(pattern, d.Name())
			return err != nil || matched
		})
	})
	if _, err := os.Stat(filepath.Join(seen, "deploy")); err == nil {
		t.Error("the builder sees deploy, where secrets may be")
	}
	r.root = seen
	if err := r.build(filepath.Join(t.TempDir(), "congthu"), "amd64"); err != nil {
		t.Error(err)
	}
}

// compose is what of compose.yaml can be compared.
type compose struct {
	Services map[string]struct {
		Build struct {
			Context, Dockerfile string
			Args                map[string]string
		}
		Image       string
		ReadOnly    bool           `yaml:"read_only"`
		CapDrop     []string       `yaml:"cap_drop"`
		SecurityOpt []string       `yaml:"security_opt"`
		Sysctls     map[string]int `yaml:"sysctls"`
		Tmpfs       []string
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		Volumes     []string
		Secrets     []string
		Ports       []string
		Networks    []string
		Environment map[string]string
		Healthcheck struct{ Test []string }
	}
	Networks, Volumes map[string]any
	Secrets           map[string]struct{ File string }
}

func composed(t *testing.T) (c compose) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(containers, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(content, &c); err != nil {
		t.Fatal(yaml.FormatError(err, false, true))
	}
	for _, name := range []string{"congthu", "dovecot", "postgres", "prometheus", "grafana"} {
		if _, there := c.Services[name]; !there {
			t.Fatalf("there is no service %s", name)
		}
	}
	return c
}

func TestComposeNamesOnlyWhatIsThere(t *testing.T) {
	c := composed(t)
	for name, s := range c.Services {
		if s.Build.Context != "" {
			if _, err := os.Stat(filepath.Join(containers, s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for arg := range s.Build.Args {
				if !slices.ContainsFunc(dockerfile(t), func(i instruction) bool { return i.name == "ARG" && strings.HasPrefix(i.rest, arg+"=") }) {
					t.Errorf("%s: the Dockerfile takes no argument %s", name, arg)
				}
			}
		} else if !regexp.MustCompile(`^[a-z/]+:v?\d+\.\d+(\.\d+)?(-\w+)?$`).MatchString(s.Image) {
			t.Errorf("%s: the image %s has no fixed version", name, s.Image)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				if _, there := c.Volumes[source]; !there {
					t.Errorf("%s: there is no volume %s", name, source)
				}
			} else if _, err := os.Stat(filepath.Join(containers, source)); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if !strings.HasSuffix(v, ":ro") {
				t.Errorf("%s: %s could be written to", name, v)
			}
		}
		for _, secret := range s.Secrets {
			if _, there := c.Secrets[secret]; !there {
				t.Errorf("%s: there is no secret %s", name, secret)
			}
		}
		for _, value := range s.Environment {
			if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok && !slices.Contains(s.Secrets, secret) {
				t.Errorf("%s is not given the secret %s", name, secret)
			}
		}
		for _, network := range s.Networks {
			if _, there := c.Networks[network]; !there {
				t.Errorf("%s: there is no network %s", name, network)
			}
		}
		for other, when := range s.DependsOn {
			if on, there := c.Services[other]; !there || when.Condition == "service_healthy" && len(on.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s, which never tells that it is healthy", name, other)
			}
		}
		// Only the gateway is for everybody.
		for _, port := range s.Ports {
			if name != "congthu" && !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s can be reached from outside at %s", name, port)
			}
		}
	}
	guide := map[string]string{}
	for _, name := range []string{"install.md", "install.vi.md"} {
		content, err := os.ReadFile(filepath.Join("../guide", name))
		if err != nil {
			t.Fatal(err)
		}
		guide[name] = string(content)
	}
	for secret, s := range c.Secrets {
		for name, text := range guide {
			if !strings.Contains(text, strings.TrimPrefix(s.File, "./")) {
				t.Errorf("%s does not say how to make the secret %s", name, secret)
			}
		}
	}
}

func TestTheGatewaysContainerCanWriteNothingElse(t *testing.T) {
	s := composed(t).Services["congthu"]
	if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Error("its file system can be written to, or it has privileges")
	}
	if start, set := s.Sysctls["net.ipv4.ip_unprivileged_port_start"]; !set || start > 143 {
		t.Error("without a capability it cannot listen on port 143")
	}
	user := ""
	for _, i := range dockerfile(t) {
		if i.name == "USER" {
			user, _, _ = strings.Cut(i.rest, ":")
		}
	}
	if want := fmt.Sprintf("/run/congthu:uid=%s,gid=%[1]s,mode=0755", user); !slices.Contains(s.Tmpfs, want) {
		t.Errorf("tmpfs %v, want %s", s.Tmpfs, want)
	}
}

func TestTheConfigurationOfComposeIsRight(t *testing.T) {
	c := composed(t)
	dir := t.TempDir()
	testdata := "../../gateway/config/testdata/"
	content, err := os.ReadFile(filepath.Join(containers, "congthu.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for secret, file := range map[string]string{"cert": testdata + "cert.pem", "key": testdata + "key.pem", "dsn": ""} {
		if !slices.Contains(c.Services["congthu"].Secrets, secret) {
			t.Errorf("the gateway is not given %s", secret)
		}
		// As in the guide.
		value := []byte("postgres://congthu:0123456789abcdef@postgres/congthu?sslmode=disable\n")
		if file != "" {
			if value, err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, secret), value, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "congthu.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/run/secrets", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	// What it is told to reach are services, and what it opens is published.
	host, _, _ := strings.Cut(loaded.IMAP.Upstream.Address, ":")
	if _, there := c.Services[host]; !there {
		t.Errorf("there is no service %s", host)
	}
	var published []string
	for _, port := range c.Services["congthu"].Ports {
		published = append(published, port[strings.LastIndexByte(port, ':'):])
	}
	var listens []string
	for _, l := range loaded.IMAP.Listen {
		listens = append(listens, l.Address)
	}
	for _, l := range loaded.SMTP.Listen {
		listens = append(listens, l.Address)
	}
	slices.Sort(published)
	slices.Sort(listens)
	if !slices.Equal(published, listens) {
		t.Errorf("published %v, but the gateway listens on %v", published, listens)
	}
	prometheus, err := os.ReadFile(filepath.Join(containers, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(prometheus), `"congthu`+loaded.Metrics.Listen+`"`) {
		t.Errorf("Prometheus does not ask at congthu%s", loaded.Metrics.Listen)
	}
}

func TestDovecotTakesItsConfiguration(t *testing.T) {
	file, err := filepath.Abs(filepath.Join(containers, "dovecot.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("doveconf"); err != nil {
		testenv.Missing(t, "doveconf is missing: apt-get install -y --no-install-recommends dovecot-imapd")
	}
	said, err := exec.Command("doveconf", "-n", "-c", file).CombinedOutput()
	if err != nil {
		t.Fatalf("doveconf: %v: %s", err, said)
	}
	subnet := "172.30.7.0/24"
	content, err := os.ReadFile(filepath.Join(containers, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(said), "login_trusted_networks = "+subnet) || !strings.Contains(string(content), "subnet: "+subnet) {
		t.Errorf("Dovecot trusts another network than that of compose.yaml: %s", said)
	}
}
