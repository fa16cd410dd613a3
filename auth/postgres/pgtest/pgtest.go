// Package pgtest runs a real PostgreSQL for tests, as plain processes: a new cluster in
// a temporary directory, which listens on a Unix socket there only. It uses the programs
// of the Debian package postgresql-15 (or newer ones) and no cluster of the system.
//
//	func TestMain(m *testing.M) { code := m.Run(); pgtest.Stop(); os.Exit(code) }
//
//	func TestSomething(t *testing.T) {
//		dsn := pgtest.Database(t)
//
// A test that stops or restarts the server starts one of its own, with [Start].
//
// By default the server does not sync its files, to save time: what it has written
// survives the death of the server at any moment, as long as the kernel runs.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth/storetest/testenv"
)

// Options are the options of a server.
type Options struct {
	// Sync makes commits reach the disk, for benchmarks.
	Sync bool
	// Settings are further lines of its configuration, by name.
	Settings map[string]string
}

// Server is one PostgreSQL.
type Server struct {
	o       Options
	dir     string   // contains the data and the socket
	bin     string   // the directory of the programs
	clock   []string // environment that gives it the clock of the tests
	account *syscall.Credential

	databases atomic.Int64

	admin sync.Mutex
	conn  *pgx.Conn // for Exec

	mu      sync.Mutex
	process *process // nil while it is stopped
}

// process is one run of the postmaster.
type process struct {
	cmd   *exec.Cmd
	log   *logged
	ended chan struct{} // closed when it and its children have ended
}

// Shutdown is a way to stop a server.
type Shutdown syscall.Signal

const (
	// Fast ends the sessions and closes the files properly.
	Fast = Shutdown(syscall.SIGINT)
	// Immediate is like a crash: the server writes nothing more, and the next start
	// recovers from the write-ahead log.
	Immediate = Shutdown(syscall.SIGQUIT)
)

// owner is the owner of the databases, a superuser.
const owner = "congthu"

var shared struct {
	sync.Mutex
	server *Server
	err    error
}

// Database returns the connection string of a new, empty database on the server
// that all tests of the process share. It is dropped when the test ends.
func Database(t testing.TB) (dsn string) {
	t.Helper()
	return Shared(t).Database(t)
}

// Shared returns the server that all tests of the process share; the first of them
// starts it. [Stop] ends it.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = New(Options{})
	}
	if shared.err != nil {
		Fail(t, shared.err)
	}
	return shared.server
}

// Stop ends the shared server, if there is one, and removes its files. It is
// for TestMain, after the tests.
func Stop() {
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.Remove()
		shared.server = nil
	}
}

// Start starts a server for one test; it is removed when the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		Fail(t, err)
	}
	t.Cleanup(s.Remove)
	return s
}

// missing is the error of a machine on which something is missing: its name, and that of
// the Debian package that contains it.
type missing struct{ what, pkg string }

func (m missing) Error() string {
	return m.what + " is missing: apt-get install -y --no-install-recommends " + m.pkg
}

var postgres = missing{"PostgreSQL", "postgresql-15"}

// Fail ends a test that has no server, with the error of [New]: as [testenv.Missing] if
// a program is missing, and as a failure in any other case.
func Fail(t testing.TB, err error) {
	t.Helper()
	if errors.As(err, new(missing)) {
		testenv.Missing(t, err.Error())
	}
	t.Fatal(err)
}

// Database returns the connection string of a new, empty database.
func (s *Server) Database(t testing.TB) (dsn string) {
	t.Helper()
	return s.Copy(t, "template1")
}

// Standby makes and starts a synchronous standby: this server waits for it at every
// commit. Its connection goes through a directory with a socket like this server's. It
// is removed when the test ends.
func (s *Server) Standby(t testing.TB, through string) *Server {
	t.Helper()
	second := &Server{o: s.o, bin: s.bin, account: s.account}
	var err error
	if second.dir, err = testenv.MakeDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Remove)
	if s.account != nil {
		if err := os.Chown(second.dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	copied := s.command("pg_basebackup", "-h", s.dir, "-U", owner, "-D", second.data(), "-R", "-X", "stream", "--no-sync", "--checkpoint=fast")
	copied.Dir = second.dir
	if said, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, said)
	}
	second.o.Settings = map[string]string{
		"primary_conninfo":             "host=" + through + " user=" + owner + " application_name=standby",
		"wal_retrieve_retry_interval":  "100ms",
		"wal_receiver_status_interval": "1s",
	}
	second.Start(t)
	s.Exec(t, `ALTER SYSTEM SET synchronous_standby_names = 'standby'`)
	s.Exec(t, `SELECT pg_reload_conf()`)
	for range 1000 {
		if s.Count(t, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 1 {
			return second
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the standby does not become synchronous:\n%s", second.process.log)
	return nil
}

// Promote makes a standby a primary, which accepts changes and waits for no standby, and
// waits until this is done.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.Exec(t, `SELECT pg_promote()`)
}

// With returns the connection string of a database for whichever of the two servers can
// be written.
func (s *Server) With(dsn string, other *Server) string {
	dsn = strings.Replace(dsn, "host="+s.dir, "host="+s.dir+","+other.dir, 1)
	return strings.Replace(dsn, "port=5432", "port=5432,5432", 1)
}

// Count returns the number that a query in the database postgres returns.
func (s *Server) Count(t testing.TB, query string) (n int) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Copy returns the connection string of a new database that is like another one, which
// must have no connections.
func (s *Server) Copy(t testing.TB, database string) (dsn string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	// Copying files takes a third of the time of the usual copy by the write-ahead log.
	s.Exec(t, "CREATE DATABASE "+name+" TEMPLATE "+database+" STRATEGY FILE_COPY")
	t.Cleanup(func() {
		if s.Running() {
			s.Exec(t, "DROP DATABASE "+name+" WITH (FORCE)")
		}
	})
	return s.DSN(name)
}

// DSN returns the connection string of a database of the server.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("host=%s port=5432 user=%s dbname=%s sslmode=disable", s.dir, owner, database)
}

// Socket returns the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, ".s.PGSQL.5432") }

// Exec runs a statement in the database postgres as the owner, over a connection that stays open.
func (s *Server) Exec(t testing.TB, statement string) {
	t.Helper()
	ctx := context.Background()
	s.admin.Lock()
	defer s.admin.Unlock()
	var err error
	if s.conn == nil || s.conn.Ping(ctx) != nil {
		s.conn, err = pgx.Connect(ctx, s.DSN("postgres"))
	}
	if err == nil {
		_, err = s.conn.Exec(ctx, statement)
	}
	if err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

// Running reports whether the server was started and not stopped since.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process != nil
}

// Restart stops the server and starts it again on the same data.
func (s *Server) Restart(t testing.TB, how Shutdown) {
	t.Helper()
	s.Stop(t, how)
	s.Start(t)
}

// Stop stops the server and waits until it is gone.
func (s *Server) Stop(t testing.TB, how Shutdown) {
	t.Helper()
	if err := s.stop(how); err != nil {
		t.Fatal(err)
	}
}

// Start starts a server that was stopped, and waits until it accepts connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// Pause stops all processes of the server, so that it behaves like a server behind a
// broken network: it accepts requests and answers none.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.signalAll(t, syscall.SIGSTOP)
}

// Resume resumes a server that was paused.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signalAll(t, syscall.SIGCONT)
}

// signalAll sends a signal to the postmaster and to its children; each session is one
// child.
func (s *Server) signalAll(t testing.TB, signal syscall.Signal) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		t.Fatal("PostgreSQL does not run")
	}
	postmaster := s.process.cmd.Process.Pid
	if err := syscall.Kill(postmaster, signal); err != nil { // first, so that it starts no more children
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", postmaster))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// New starts a server that the caller removes.
func New(o Options) (_ *Server, err error) {
	s := &Server{o: o}
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	if s.account, err = unprivileged(); err != nil {
		return nil, err
	}
	var ok bool
	if s.clock, ok = testenv.ClockEnvironment(); !ok { // it needs the same clock as the stores
		return nil, missing{"libfaketime", "faketime"}
	}
	// On a disk, writing the files of some hundred databases takes most of the tests' time.
	place := testenv.MakeMemoryDir
	if o.Sync {
		place = testenv.MakeDir
	}
	if s.dir, err = place(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Remove()
		}
	}()
	if s.account != nil {
		if err := os.Chown(s.dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", owner, "-A", "trust", "--no-sync", "--locale=C", "--encoding=UTF8")
	if said, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, said)
	}
	return s, s.run()
}

// programs returns the directory with PostgreSQL's programs.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err != nil { // the other programs may have no link there
			return "", err
		}
		return filepath.Dir(path), nil
	}
	// On Debian they are not in the path; each version has its directory.
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", postgres
	}
	return filepath.Dir(slices.MinFunc(found, func(a, b string) int { return strings.Compare(version(a), version(b)) })), nil
}

// version returns the "15" of /usr/lib/postgresql/15/bin/initdb.
func version(path string) string { return filepath.Base(filepath.Dir(filepath.Dir(path))) }

// unprivileged returns the user for PostgreSQL, which refuses to run as root, if the
// tests run as root; otherwise nil.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", postgres, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.Env = append(cmd.Env, s.clock...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
	return cmd
}

// run starts the postmaster and waits until it reports that it is ready.
func (s *Server) run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		return errors.New("PostgreSQL runs already")
	}
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "jit=off", "-c", "max_wal_size=128MB"}
	if !s.o.Sync {
		// The databases do not live long enough to need a vacuum, and autovacuum would
		// scan some hundred databases all the time.
		args = append(args, "-c", "fsync=off", "-c", "autovacuum=off")
	}
	for name, value := range s.o.Settings {
		args = append(args, "-c", name+"="+value)
	}
	p := &process{cmd: s.command("postgres", args...), log: &logged{says: []byte("database system is ready to accept "), ready: make(chan struct{})}, ended: make(chan struct{})}
	p.cmd.Stderr = p.log
	p.cmd.WaitDelay = 10 * time.Second // for children that hold stderr after the postmaster has ended
	// If the tests are killed, the server must end as well.
	p.cmd.SysProcAttr.Pdeathsig = syscall.Signal(Immediate)
	started := make(chan error)
	go func() {
		defer close(p.ended)
		// Pdeathsig is sent when the thread that started the process ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	select {
	case <-p.log.ready:
		s.process = p
		return nil
	case <-p.ended:
		return fmt.Errorf("PostgreSQL did not start:\n%s", p.log)
	}
}

func (s *Server) stop(how Shutdown) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.process
	if p == nil {
		return errors.New("PostgreSQL does not run")
	}
	syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT) // a paused process would not receive the signal
	if err := p.cmd.Process.Signal(syscall.Signal(how)); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w\n%s", err, p.log)
	}
	<-p.ended
	s.process = nil
	return nil
}

// Remove ends the server and removes its files.
func (s *Server) Remove() {
	if s.conn != nil {
		s.conn.Close(context.Background())
	}
	s.stop(Immediate) // it fails if the server does not run
	os.RemoveAll(s.dir)
}

// logged holds the end of what a server writes to its standard error, and notes when
// the server reports that it is ready.
type logged struct {
	says  []byte // text that reports that it is ready
	mu    sync.Mutex
	text  []byte
	once  sync.Once
	ready chan struct{}
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if bytes.Contains(l.text, l.says) {
		l.once.Do(func() { close(l.ready) })
	}
	if n := len(l.text); n > 1<<16 {
		l.text = slices.Clone(l.text[n-1<<15:])
	}
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
