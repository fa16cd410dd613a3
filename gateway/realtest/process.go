package realtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"congthu/auth/storetest/testenv"
)

// patience is the time after which a test gives up waiting. It is generous, since a
// slow machine is not a fault of the gateway.
const patience = 60 * time.Second

// packages are the Debian packages that the tests need, each with a file that shows
// that it is installed.
var packages = []struct{ name, file string }{
	{"dovecot-imapd", "/usr/lib/dovecot/imap"},
	{"dovecot-lmtpd", "/usr/lib/dovecot/lmtp"},
	{"dovecot-pop3d", "/usr/lib/dovecot/pop3"},
	{"fetchmail", "/usr/bin/fetchmail"},
	{"postfix", "/usr/lib/postfix/sbin/master"},
	{"isync", "/usr/bin/mbsync"},
	{"msmtp", "/usr/bin/msmtp"},
	{"swaks", "/usr/bin/swaks"},
	{"libio-socket-ssl-perl", "/usr/share/perl5/IO/Socket/SSL.pm"},
	{"libauthen-sasl-perl", "/usr/share/perl5/Authen/SASL.pm"},
	{"mutt", "/usr/bin/mutt"},
	{"curl", "/usr/bin/curl"},
	{"haproxy", "/usr/sbin/haproxy"},
	{"pgbouncer", "/usr/sbin/pgbouncer"},
	{"python3", "/usr/bin/python3"},
	{"sqlite3", "/usr/bin/sqlite3"},
	{"openssl", "/usr/bin/openssl"},
	{"prometheus", "/usr/bin/prometheus"},
}

// missingPackages finds, once, the packages that are not installed.
var missingPackages = sync.OnceValue(func() (missing []string) {
	for _, p := range packages {
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	return missing
})

// need skips or fails the test when a program is missing, with the command that
// installs it: see [testenv.Missing].
func need(t testing.TB) {
	t.Helper()
	if missing := missingPackages(); len(missing) > 0 {
		testenv.Missing(t, "programs are missing: apt-get install -y --no-install-recommends "+strings.Join(missing, " "))
	}
	if os.Geteuid() != 0 {
		testenv.Missing(t, "Postfix starts as root only: run these tests as root, in a container if need be")
	}
}

// lasting are functions for the end of the run: [Main] calls them, the latest first.
var lasting struct {
	sync.Mutex
	ends []func()
	dir  string
}

// Main runs the tests of the package and then stops the shared servers. Call it from
// TestMain.
func Main(m *testing.M) {
	flag.Parse()
	syscall.Umask(0o022) // the servers give up root and read what the tests write
	if flag.Lookup("test.parallel").Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		// The tests wait more than they compute: Dovecot answers a wrong password after
		// two seconds.
		flag.Set("test.parallel", "12")
	}
	code := m.Run()
	lasting.Lock()
	defer lasting.Unlock()
	for i := len(lasting.ends) - 1; i >= 0; i-- {
		lasting.ends[i]()
	}
	os.Exit(code)
}

// atEnd registers f to run when all tests are over.
func atEnd(f func()) {
	lasting.Lock()
	defer lasting.Unlock()
	lasting.ends = append(lasting.ends, f)
}

// runDir returns the directory of this run.
func runDir(t testing.TB) string {
	t.Helper()
	lasting.Lock()
	defer lasting.Unlock()
	if lasting.dir != "" {
		return lasting.dir
	}
	dir, err := testenv.MakeDir()
	if err != nil {
		t.Fatal(err)
	}
	lasting.dir = dir
	lasting.ends = append([]func(){func() { os.RemoveAll(dir) }}, lasting.ends...)
	return dir
}

// newDir creates a directory below runDir.
func newDir(t testing.TB, pattern string) string {
	t.Helper()
	dir, err := os.MkdirTemp(runDir(t), pattern)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Process is a program that runs until it is stopped, in a process group of its
// own.
type Process struct {
	Name string
	// Log is the file with all its output.
	Log string
	cmd *exec.Cmd

	done chan struct{}
	err  error // valid after done is closed
}

// starter starts all processes from one operating-system thread that never
// ends, because the kernel kills a child with Pdeathsig when the *thread* that
// started it ends. So no server outlives a test binary that is itself killed.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// start runs a program and appends its output to log.
func start(t testing.TB, name, log string, argv ...string) *Process {
	t.Helper()
	return startPassing(t, nil, name, log, argv...)
}

// startPassing is start for a program that inherits files, from descriptor 3 on.
func startPassing(t testing.TB, files []*os.File, name, log string, argv ...string) *Process {
	t.Helper()
	p := &Process{Name: name, Log: log, done: make(chan struct{})}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = out, out, files
	p.cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8") // not the tester's locale
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	out.Close()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// Signal sends a signal to the process itself, not to its children.
func (p *Process) Signal(sig syscall.Signal) { p.cmd.Process.Signal(sig) }

// Exited reports whether the process ended, and its exit code.
func (p *Process) Exited() (code int, exited bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// Wait waits for the end and returns the exit code (-1: by a signal).
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s has not ended", p.Name)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Stop ends the process with SIGTERM and waits; after a time it kills it.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
	}
	p.Kill()
}

// Kill ends the process and its group at once, like a power cut.
func (p *Process) Kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// tailed are the logs to print if a test fails, by test and log.
var tailed sync.Map

// tailOnFailure prints the part of a log from the time of the test, if the test fails.
func tailOnFailure(t testing.TB, log string) {
	type key struct{ test, log string }
	if _, twice := tailed.LoadOrStore(key{t.Name(), log}, true); twice {
		return
	}
	from := logSize(log)
	t.Cleanup(func() {
		tailed.Delete(key{t.Name(), log})
		if !t.Failed() {
			return
		}
		const most = 24 << 10
		text := readFrom(log, from)
		if len(text) > most {
			text = "...\n" + text[len(text)-most:]
		}
		t.Logf("--- %s during this test:\n%s", filepath.Base(log), text)
	})
}

func logSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func readFrom(path string, from int64) string {
	text, _ := os.ReadFile(path)
	return string(text[min(from, int64(len(text))):])
}

// Eventually waits until ok returns true; it fails the test when it takes too
// long. what completes the sentence "still waiting for ...".
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting for %s after %s", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Output is the output of a program that has ended.
type Output struct {
	Code           int
	Stdout, Stderr string
}

// All returns both streams, for searching.
func (o Output) All() string { return o.Stdout + o.Stderr }

// Command runs a program to its end, with stdin, in an environment with only PATH and
// env.
func Command(t testing.TB, stdin string, env []string, argv ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/nonexistent"}, env...)
	clock, ok := testenv.ClockEnvironment()
	if !ok {
		testenv.Missing(t, "libfaketime is missing: apt-get install -y --no-install-recommends faketime")
	}
	cmd.Env = append(cmd.Env, clock...)
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s%s", argv[0], err, stdout.String(), stderr.String())
	}
	return Output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// MustSucceed is Command for a program that must exit with 0.
func MustSucceed(t testing.TB, stdin string, env []string, argv ...string) Output {
	t.Helper()
	o := Command(t, stdin, env, argv...)
	if o.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s\n%s", strings.Join(argv, " "), o.Code, o.Stdout, o.Stderr)
	}
	return o
}

// Python runs a script of testdata.
func Python(t testing.TB, script string, args ...string) Output {
	t.Helper()
	return Command(t, "", nil, append([]string{"/usr/bin/python3", "-B", "-E", "-s", filepath.Join("testdata", script)}, args...)...)
}

// writeFile writes a file of a server's configuration.
func writeFile(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// tempFile writes a file that lives as long as the test.
func tempFile(t testing.TB, name, text string) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), name), text, 0o600)
}

func (p *Process) String() string { return fmt.Sprintf("%s (process %d)", p.Name, p.cmd.Process.Pid) }
