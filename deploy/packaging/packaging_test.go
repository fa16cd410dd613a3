package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"congthu/auth/storetest/testenv"
	"congthu/gateway/cli"
	"congthu/gateway/config"
)

// packages are made once for all tests: version 1.2.3 of a commit that is none.
var packages struct {
	release
	err error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "congthu-packages-")
	if err != nil {
		panic(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	packages.release = release{
		root: root, out: filepath.Join(dir, "dist"), archs: []string{"amd64"}, version: "v1.2.3", commit: strings.Repeat("ab", 20),
		time: time.Date(2026, 11, 20, 3, 4, 5, 0, time.UTC), maintainer: "Phong CNTT <cntt@example.org>",
	}
	packages.err = packages.make()
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func made(t *testing.T) release {
	t.Helper()
	if packages.err != nil {
		t.Fatal(packages.err)
	}
	return packages.release
}

// The pages are the repository's, whose directories the package does not have.
func TestLinksOfThePagesLeadToWhatThePackageHas(t *testing.T) {
	files := installed(t)
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	n := 0
	for name, page := range files {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		for _, m := range link.FindAllSubmatch(page.content, -1) {
			to := path.Join(path.Dir(name), string(m[1]))
			_, file := files[to]
			_, directory := files[to+"/"]
			if n++; !file && !directory {
				t.Errorf("%s links to %s", name, m[1])
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d links were found", n)
	}
}

// member is a file of an archive.
type member struct {
	header  tar.Header
	content []byte
}

func untar(t *testing.T, r io.Reader) map[string]member {
	t.Helper()
	files := map[string]member{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, ".")] = member{*h, content}
	}
}

func debFile() string { return filepath.Join(packages.out, "congthu_1.2.3_amd64.deb") }

// needDpkg skips the test where there is no program of Debian's.
func needDpkg(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		testenv.Missing(t, "dpkg-deb is missing: apt-get install -y --no-install-recommends dpkg")
	}
}

// dpkgDeb asks Debian's own program, not the one that made the package.
func dpkgDeb(t *testing.T, args ...string) []byte {
	t.Helper()
	made(t)
	needDpkg(t)
	out, err := exec.Command("dpkg-deb", args...).Output()
	if err != nil {
		t.Fatalf("dpkg-deb %v: %v", args, err)
	}
	return out
}

func installed(t *testing.T) map[string]member {
	t.Helper()
	return untar(t, bytes.NewReader(dpkgDeb(t, "--fsys-tarfile", debFile())))
}

func gunzipped(t *testing.T, content []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestThePackageSaysWhatItIs(t *testing.T) {
	got := string(dpkgDeb(t, "--field", debFile(), "Package", "Version", "Architecture", "Depends", "Recommends", "Maintainer"))
	want := "Package: congthu\nVersion: 1.2.3\nArchitecture: amd64\nDepends: passwd\nRecommends: ca-certificates\nMaintainer: Phong CNTT <cntt@example.org>\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := string(dpkgDeb(t, "--info", debFile(), "conffiles")); got != "/etc/congthu/congthu.yaml\n" {
		t.Errorf("conffiles: %q", got)
	}
}

func TestEverythingInThePackageIsRootsAndOfTheTimeOfTheCommit(t *testing.T) {
	files := installed(t)
	for name, f := range files {
		h := f.header
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir || name == "/usr/bin/congthu" {
			mode = 0o755
		}
		if h.Uname != "root" || h.Gname != "root" || h.Mode != mode || !h.ModTime.Equal(packages.time) {
			t.Errorf("%s: %s:%s %o %s", name, h.Uname, h.Gname, h.Mode, h.ModTime.UTC())
		}
	}
	for _, name := range []string{
		"/usr/bin/congthu", "/etc/congthu/congthu.yaml",
		"/usr/lib/systemd/system/congthu.service", "/usr/lib/systemd/system/congthu.socket", "/usr/lib/sysusers.d/congthu.conf",
		"/usr/share/bash-completion/completions/congthu", "/usr/share/zsh/vendor-completions/_congthu", "/usr/share/fish/vendor_completions.d/congthu.fish",
		"/usr/share/doc/congthu/copyright", "/usr/share/doc/congthu/changelog.gz", "/usr/share/doc/congthu/licences.txt.gz",
		"/usr/share/doc/congthu/prometheus/congthu.alerts.yml", "/usr/share/doc/congthu/grafana/auth-path.json", "/usr/share/doc/congthu/grafana/provisioning/dashboards/congthu.yaml",
		"/usr/share/doc/congthu/examples/congthu.yaml", "/usr/share/doc/congthu/guide/install.md", "/usr/share/doc/congthu/guide/install.vi.md",
	} {
		if _, there := files[name]; !there {
			t.Errorf("the package lacks %s", name)
		}
	}
}

func TestTheProgramIsStaticAndKnowsItsVersionAndCommit(t *testing.T) {
	program := installed(t)["/usr/bin/congthu"].content
	binary, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := binary.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("needs %v, %v", libraries, err)
	}
	if file, found := sourceNamed(program, packages.root); found {
		t.Errorf("the program knows that its sources lay in %s", file)
	}
	file := filepath.Join(t.TempDir(), "congthu")
	if err := os.WriteFile(file, program, 0o755); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(file, "version").CombinedOutput()
	if want := "congthu v1.2.3, revision " + packages.commit + ", "; err != nil || !strings.HasPrefix(string(said), want) {
		t.Errorf("%v: %s", err, said)
	}
}

// sourceNamed finds the full path of one of the tree's Go files in a program. The
// tree's own path is not enough: it may be one that an example names.
func sourceNamed(program []byte, root string) (file string, found bool) {
	prefix := []byte(root + "/")
	for {
		at := bytes.Index(program, prefix)
		if at < 0 {
			return "", false
		}
		program = program[at:]
		rest := program[:min(len(program), 4096)] // PATH_MAX
		if end := bytes.Index(rest, []byte(".go")); end >= 0 {
			file = string(rest[:end+len(".go")])
			if _, err := os.Stat(file); err == nil {
				return file, true
			}
		}
		program = program[len(prefix):]
	}
}

func TestASourceIsFoundInAProgramWhereverItLies(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "main.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"\x00" + root + "/main.go\x00":                               true,
		"see " + root + "/congthu.tar.gz" + root + "/main.goruntime": true,
		root + "/congthu.tar.gz, congthu/main.go":                    false,
		root + ".tar.gz": false,
		root:             false,
	} {
		if file, found := sourceNamed([]byte(text), root); found != want {
			t.Errorf("in %q: %q, %v, want %v", text, file, found, want)
		}
	}
}

func TestEveryCommandHasAManPage(t *testing.T) {
	files := installed(t)
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		name := "/usr/share/man/man1/" + strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1.gz"
		page, there := files[name]
		if !there {
			t.Errorf("there is no %s", name)
		} else if text := gunzipped(t, page.content); !strings.Contains(text, ".TH ") || !strings.Contains(text, "congthu v1.2.3") {
			t.Errorf("%s: %.200s", name, text)
		}
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				check(sub)
			}
		}
	}
	check(cli.New())
	text := gunzipped(t, files["/usr/share/man/man5/congthu.yaml.5.gz"].content)
	for _, setting := range []string{"drain_timeout: 30s", "change_url: ", `master_separators: "*%"`} {
		if !strings.Contains(text, setting) {
			t.Errorf("congthu.yaml(5) lacks %s", setting)
		}
	}
}

// Who writes a unit or a script of his own looks there for what to expect.
func TestServeAndCheckTellOfExitCodesSignalsFilesAndEnvironment(t *testing.T) {
	files := installed(t)
	for command, words := range map[string][]string{
		"serve": {"64", "78", "SIGTERM", "SIGHUP", "/etc/congthu/congthu.yaml", "/var/lib/congthu", "NOTIFY_SOCKET", "LISTEN_FDS"},
		"check": {"64", "78", "SIGINT", "/etc/congthu/congthu.yaml", "/var/lib/congthu"},
	} {
		text := gunzipped(t, files["/usr/share/man/man1/congthu-"+command+".1.gz"].content)
		last := strings.Index(text, ".SH SEE ALSO")
		for _, section := range []string{".SH EXIT STATUS", ".SH SIGNALS", ".SH ENVIRONMENT", ".SH FILES"} {
			if at := strings.Index(text, section+"\n"); at < 0 || at > last {
				t.Errorf("congthu-%s(1): %s is at %d, SEE ALSO at %d", command, section, at, last)
			}
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("congthu-%s(1) does not say %s", command, word)
			}
		}
	}
}

func TestTheLicencesOfAllModulesArePassedOn(t *testing.T) {
	text := gunzipped(t, installed(t)["/usr/share/doc/congthu/licences.txt.gz"].content)
	for _, module := range []string{"Go, its runtime", "modernc.org/sqlite@", "github.com/jackc/pgx/v5@", "github.com/spf13/cobra@", "golang.org/x/crypto@"} {
		if !strings.Contains(text, "\n"+module) {
			t.Errorf("there is no licence of %s", module)
		}
	}
	if strings.Contains(text, "\ncongthu@") || strings.Contains(text, "go-md2man") {
		t.Error("licences of what is not in the program")
	}
}

// mistakes are the places of all mistakes of a configuration.
func mistakes(t *testing.T, err error) (paths []string) {
	t.Helper()
	found, ok := err.(*config.Error)
	if !ok {
		t.Fatalf("%v", err)
	}
	for _, p := range found.Problems {
		paths = append(paths, p.Path)
	}
	return paths
}

func TestTheConfigurationToStartFromDoesNotStartUntilItIsFilledIn(t *testing.T) {
	text := string(installed(t)["/etc/congthu/congthu.yaml"].content)
	file := filepath.Join(t.TempDir(), "congthu.yaml")
	load := func(text string) error {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(file)
		return err
	}
	want := []string{"domain", "tls", "imap.upstream.address", "smtp.upstream.address", "rules.password.mode"}
	if diff := cmp.Diff(want, mistakes(t, load(text))); diff != "" {
		t.Errorf("mistakes of the file as it comes (-want +got):\n%s", diff)
	}
	filled := regexp.MustCompile(`(?m)^#([a-z])`).ReplaceAllString(text, "$1")
	testdata := filepath.Join(packages.root, "gateway/config/testdata")
	filled = strings.NewReplacer("/etc/congthu/cert.pem", testdata+"/cert.pem", "/etc/congthu/key.pem", testdata+"/key.pem").Replace(filled)
	if err := load(filled); err != nil {
		t.Errorf("filled in: %v", err)
	}
}

// setting returns the last value of a key in a unit.
func setting(unit, key string) string {
	found := regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(key)+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if found == nil {
		return ""
	}
	return found[len(found)-1][1]
}

func TestUnitUserAndConfigurationFitTogether(t *testing.T) {
	files := installed(t)
	unit := string(files["/usr/lib/systemd/system/congthu.service"].content)
	words := strings.Fields(setting(unit, "ExecStart"))
	if len(words) != 4 || words[0] != "/usr/bin/congthu" || words[3] != "/etc/congthu/congthu.yaml" {
		t.Errorf("ExecStart=%v", words)
	}
	for _, word := range []string{words[0], words[3]} {
		if _, there := files[word]; !there {
			t.Errorf("%s is not in the package", word)
		}
	}
	user := setting(unit, "User")
	if sysusers := string(files["/usr/lib/sysusers.d/congthu.conf"].content); !strings.Contains(sysusers, "\nu "+user+" ") {
		t.Errorf("the unit runs as %q, the user is another: %s", user, sysusers)
	}
	if setting(unit, "StateDirectory") != "congthu" {
		t.Error("the data are not in /var/lib/congthu")
	}
	var c struct{ Admin struct{ Socket string } }
	c.Admin.Socket = regexp.MustCompile(`socket: (\S+)`).FindStringSubmatch(string(files["/etc/congthu/congthu.yaml"].content))[1]
	if filepath.Dir(c.Admin.Socket) != "/run/"+setting(unit, "RuntimeDirectory") {
		t.Errorf("the socket %s is not in the unit's directory", c.Admin.Socket)
	}
	socket := string(files["/usr/lib/systemd/system/congthu.socket"].content)
	for _, port := range []string{"143", "993", "587", "465"} {
		if !regexp.MustCompile(`(?m)^ListenStream=(.*:)?` + port + `$`).MatchString(socket) {
			t.Errorf("congthu.socket does not listen on %s", port)
		}
	}
}

func TestTheScriptsAreShell(t *testing.T) {
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		script := dpkgDeb(t, "--info", debFile(), name)
		cmd := exec.Command("sh", "-n")
		cmd.Stdin = bytes.NewReader(script)
		if said, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(script, []byte("\nset -e\n")) {
			t.Errorf("%s: %v %s", name, err, said)
		}
	}
}

func TestTheArchiveHasTheProgramAndWhatGoesWithIt(t *testing.T) {
	made(t)
	content, err := os.ReadFile(filepath.Join(packages.out, "congthu-1.2.3-linux-amd64.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, strings.NewReader(gunzipped(t, content)))
	base := "congthu-1.2.3-linux-amd64/"
	for _, name := range []string{"congthu", "congthu.yaml", "man/congthu.1.gz", "completion/congthu.bash", "systemd/congthu.service", "systemd/congthu.socket", "systemd/congthu.sysusers", "doc/LICENSE", "doc/guide/install.md"} {
		if _, there := files[base+name]; !there {
			t.Errorf("the archive lacks %s", name)
		}
	}
	if !bytes.Equal(files[base+"congthu"].content, installed(t)["/usr/bin/congthu"].content) {
		t.Error("the program in the archive is another than in the package")
	}
}

func TestSecondBuildElsewhereIsTheSame(t *testing.T) {
	first := made(t)
	second := first
	second.root, second.out = filepath.Join(t.TempDir(), "elsewhere"), t.TempDir()
	// Everything that the first one was made of, but by another umask.
	copyTree(t, first.root, second.root, func(name string, d fs.DirEntry) bool { return name != ".git" && name != "dist" })
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	if err := second.make(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"congthu_1.2.3_amd64.deb", "congthu-1.2.3-linux-amd64.tar.gz", "SHA256SUMS"} {
		one, err := os.ReadFile(filepath.Join(first.out, name))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(filepath.Join(second.out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, two) {
			t.Errorf("%s differs", name)
		}
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = second.out
	if said, err := check.CombinedOutput(); err != nil || bytes.Count(said, []byte(": OK")) != 2 {
		t.Errorf("%v: %s", err, said)
	}
}

// copyTree copies the files that take says yes to, by their name below from.
func copyTree(t *testing.T, from, to string, take func(name string, d fs.DirEntry) bool) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if name != "." && !take(filepath.ToSlash(name), d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, name)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPreReleaseComesBeforeItsReleaseForDebian(t *testing.T) {
	needDpkg(t)
	r := release{version: "v1.2.3-dev.20261120030405.gabababa"}
	for _, order := range [][3]string{{r.debianVersion(), "lt", "1.2.3"}, {r.debianVersion(), "gt", "1.2.2"}, {"0.0.0~dev.20261120030405.g0", "lt", "0.0.0~dev.20261121030405.g0"}} {
		if err := exec.Command("dpkg", append([]string{"--compare-versions"}, order[:]...)...).Run(); err != nil {
			t.Errorf("%v: %v", order, err)
		}
	}
}

func TestTheWholeChangelogIsInThePackage(t *testing.T) {
	want, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := gunzipped(t, installed(t)["/usr/share/doc/congthu/changelog.gz"].content); got != string(want) {
		t.Error("changelog.gz is not CHANGELOG.md")
	}
}
