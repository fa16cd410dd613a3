package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"congthu/auth/storetest/testenv"
)

// Pooler is a real PgBouncer in front of a server, from the Debian package pgbouncer. It
// has PgBouncer's defaults apart from the settings of the test, and listens on a Unix
// socket only, as the server does.
type Pooler struct {
	server *Server
	dir    string

	mu      sync.Mutex
	process *process // nil while it is stopped
}

var pgbouncer = missing{"PgBouncer", "pgbouncer"}

// Pool starts a PgBouncer for one test, with these lines in its section [pgbouncer] in
// addition to those that it needs.
func (s *Server) Pool(t testing.TB, settings ...string) *Pooler {
	t.Helper()
	p := &Pooler{server: s}
	var err error
	if p.dir, err = testenv.MakeDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.remove)
	file := "[databases]\n* = host=" + s.dir + "\n[pgbouncer]\nlisten_port = 6432\nunix_socket_dir = " + p.dir +
		"\nauth_type = trust\nauth_file = " + p.users() + "\n" + strings.Join(settings, "\n") + "\n"
	for name, text := range map[string]string{p.file(): file, p.users(): `"` + owner + `" ""` + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o644); err != nil { // independent of the umask
			t.Fatal(err)
		}
	}
	if s.account != nil {
		if err := os.Chown(p.dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	p.Start(t)
	return p
}

func (p *Pooler) file() string  { return filepath.Join(p.dir, "pgbouncer.ini") }
func (p *Pooler) users() string { return filepath.Join(p.dir, "users.txt") }

// Through returns the connection string dsn of the server, changed to go through the pooler.
func (p *Pooler) Through(dsn string) string {
	dsn = strings.Replace(dsn, "host="+p.server.dir, "host="+p.dir, 1)
	return strings.Replace(dsn, "port=5432", "port=6432", 1)
}

// Log returns the log of the pooler.
func (p *Pooler) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return ""
	}
	return p.process.log.String()
}

// Start starts a pooler that was stopped, and waits until it accepts connections.
func (p *Pooler) Start(t testing.TB) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // not in the path of every user
		if _, err := os.Stat(program); err != nil {
			Fail(t, pgbouncer)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(program, p.file())
	cmd.Dir = p.dir
	cmd.Env = append([]string{"LC_ALL=C", "PATH=/usr/bin:/bin"}, p.server.clock...)
	// It refuses to run as root, as PostgreSQL does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.server.account, Pdeathsig: syscall.SIGKILL}
	process := &process{cmd: cmd, log: &logged{says: []byte("process up"), ready: make(chan struct{})}, ended: make(chan struct{})}
	cmd.Stderr = process.log
	started := make(chan error)
	go func() {
		defer close(process.ended)
		// Pdeathsig is sent when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	select {
	case <-process.log.ready:
		p.process = process
	case <-process.ended:
		t.Fatalf("PgBouncer did not start:\n%s", process.log)
	}
}

// Stop kills the pooler: its clients lose their connections.
func (p *Pooler) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		p.process.cmd.Process.Kill() // it fails if the pooler has ended by itself
		<-p.process.ended
		os.Remove(filepath.Join(p.dir, ".s.PGSQL.6432")) // otherwise the next one takes this one for running
		p.process = nil
	}
}

func (p *Pooler) remove() {
	p.Stop()
	os.RemoveAll(p.dir)
}
