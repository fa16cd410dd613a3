package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/postgres/defaults"
	"congthu/auth/throttle"
	"congthu/gateway/proxyproto"
	"congthu/gateway/upstream"
)

// Load reads and checks a configuration file. The error is an [*Error] if the file is
// readable but invalid.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse checks a configuration in memory. name is its name in problems; relative paths
// are resolved against the directory of name.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data, time.Now())
}

// Peek reads a file that may be invalid and whose other files may be unreadable: enough
// to find the admin socket and the time zone. Invalid fields have their defaults.
func Peek(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	s := newSource(path, data)
	root := s.tree()
	if root == nil && len(s.problems) > 0 {
		return nil, &Error{path, s.problems}
	}
	c := s.config(root)
	c.complete(s)
	return c, nil
}

func parse(name string, data []byte, now time.Time) (*Config, error) {
	s := newSource(name, data)
	root := s.tree()
	if root == nil && len(s.problems) > 0 {
		return nil, &Error{name, s.problems}
	}
	c := s.config(root)
	c.complete(s)
	if root == nil || isMapping(root) {
		(&checker{source: s, c: c, now: now}).check()
	}
	c.places = s.at
	c.Warnings = inOrder(s.warnings)
	if len(s.problems) > 0 {
		return nil, &Error{name, inOrder(s.problems)}
	}
	return c, nil
}

// config builds a Config in three layers: the defaults, the profile, the file.
func (s *source) config(root ast.Node) *Config {
	c := builtIn()
	c.File = s.file
	if root != nil && !isMapping(root) {
		s.wrongAt(nodeSpan(root), "", "the file is "+describe(root)+", not a group of fields", "begin with a field, such as domain: example.org")
		return c
	}
	if root != nil {
		for _, entry := range entriesOf(root) {
			if text, quoted, ok := scalar(entry.Value); ok && quoted && entry.Key.GetToken().Value == "profile" {
				c.Profile = text
			}
		}
	}
	named := c.Profile
	if !isProfile(named) {
		c.Profile = DefaultProfile
	}
	c.apply(c.Profile)
	if root != nil {
		s.decode("", root, reflect.ValueOf(c).Elem())
	}
	if !isProfile(named) {
		_, err := choice(named, Profiles(), Profiles())
		s.mistaken("profile", err)
	}
	return c
}

// DefaultProfile is the profile of a file without one.
const DefaultProfile = "binhphuoc"

// builtIn returns the defaults. Figures of other packages come from those packages.
func builtIn() *Config {
	rules := auth.DefaultRules()
	return &Config{
		Profile: DefaultProfile,
		DataDir: "/var/lib/congthu",
		IMAP: IMAP{
			Listen:   []Listener{{":143", upstream.StartTLS}, {":993", upstream.Implicit}},
			Upstream: Upstream{TLS: upstream.StartTLS, LoginName: LoginAddress, Timeout: upstream.DefaultTimeout, SpareConnections: 4},
		},
		SMTP: SMTP{
			Listen:        []Listener{{":587", upstream.StartTLS}, {":465", upstream.Implicit}},
			Upstream:      Upstream{TLS: upstream.StartTLS, LoginName: LoginAddress, Timeout: upstream.DefaultTimeout, SpareConnections: 4},
			MaxRecipients: 1000, // as in Postfix's smtpd_recipient_limit
		},
		POP3:          POP3{Upstream: Upstream{TLS: upstream.StartTLS, LoginName: LoginAddress, Timeout: upstream.DefaultTimeout}},
		ProxyProtocol: ProxyProtocol{Timeout: proxyproto.DefaultTimeout},
		Names:         Names{Subaddress: RefuseSubaddress, MasterSeparators: "*%"},
		Regulation: Regulation{
			TimeZone: rules.Location,
			Lockout:  Lockout{Tolerated: rules.Lockout.Tolerated, CountRepeats: rules.Lockout.CountRepeats},
			Dormancy: Dormancy{Months: rules.Dormancy.Months, SweepAt: TimeOfDay{2, 30}},
			Password: Password{
				Months: rules.Password.Months, WarnDays: rules.Password.WarnDays,
				MaxGraceDays: int(rules.Password.MaxGrace / (24 * time.Hour)),
			},
		},
		Store: Store{
			Driver: StoreSQLite, Grace: time.Hour, LastLoginWindow: guard.DefaultLoginWindow, MaxUnknownNames: auth.DefaultMaxUnknown,
			ForgetUnknownAfter: rules.Lockout.ForgetUnknown,
			Postgres: Postgres{
				MaxConnections: defaults.MaxConns, ConnectTimeout: defaults.ConnectTimeout, StatementTimeout: defaults.StatementTimeout,
				LockTimeout: defaults.LockTimeout, Lease: defaults.Lease, Poll: defaults.Poll,
			},
		},
		// One year, which an authority must be able to review, and a month to do so.
		Audit: Audit{KeepDays: 400},
		Throttle: Throttle{
			Enabled: true, Window: throttle.DefaultWindow, Accounts: throttle.DefaultAccounts, Failures: throttle.DefaultFailures,
			Locks: throttle.DefaultLocks, StrangersAfter: rules.Lockout.DailyFailureCap,
		},
		Limits: Limits{
			Connections: 20_000, ConnectionsPerSource: 2_000, LoginTimeout: time.Minute, LoginTotal: 3 * time.Minute,
			FailedLogins: 10, IdleTimeout: 35 * time.Minute, Patience: guard.DefaultPatience,
		},
		Log:          Log{Format: LogJSON},
		DrainTimeout: 30 * time.Second,
	}
}

// complete sets fields that follow from others.
func (c *Config) complete(s *source) {
	dir := filepath.Dir(c.File)
	if c.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			c.Hostname = name
		} else {
			c.Hostname = "localhost"
		}
	}
	for _, path := range []*string{
		&c.DataDir, &c.TLS.Certificate, &c.TLS.Key, &c.Admin.TLS.Certificate, &c.Admin.TLS.Key,
		&c.IMAP.Upstream.CAFile, &c.SMTP.Upstream.CAFile, &c.POP3.Upstream.CAFile, &c.Store.Path, &c.Store.PepperFile, &c.Admin.Socket,
		&c.Store.Postgres.DSNFile,
	} {
		*path = under(dir, *path)
	}
	for i := range c.Admin.Tokens {
		c.Admin.Tokens[i].TokenFile = under(dir, c.Admin.Tokens[i].TokenFile)
	}
	for path, file := range map[*string]string{&c.Store.Path: sqliteFile, &c.Store.PepperFile: "pepper.key", &c.Admin.Socket: "admin.sock"} {
		if *path == "" {
			*path = filepath.Join(c.DataDir, file)
		}
	}
	c.drainGiven = s.given("drain_timeout")
	if s.given("pop3.upstream") && !s.given("pop3.listen") {
		c.POP3.Listen = []Listener{{":110", upstream.StartTLS}, {":995", upstream.Implicit}}
	}
	for path, u := range map[string]*Upstream{"imap.upstream": &c.IMAP.Upstream, "smtp.upstream": &c.SMTP.Upstream, "pop3.upstream": &c.POP3.Upstream} {
		host, _, err := splitAddress(u.Address)
		if err != nil {
			continue
		}
		if u.ServerName == "" {
			u.ServerName = host
		}
		if !s.given(path+".tls") && loopback(host) {
			u.TLS = upstream.Plain
		}
	}
}

// handover is the time for live sessions to continue while new clients wait.
const handover = 5 * time.Second

// Drain returns how long a shutdown waits for live sessions to end. awaited is set if
// new clients wait in the meantime, in sockets that the next process will serve: then
// 30 seconds for the few clients with an active session would be too long for the many
// that wait, unless the file sets the time.
func (c *Config) Drain(awaited bool) time.Duration {
	if awaited && !c.drainGiven {
		return handover
	}
	return c.DrainTimeout
}

// sqliteFile is the name of the store in the data directory.
const sqliteFile = "congthu.db"

// under resolves a path against a directory.
func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// readFile reads a regular file of a reasonable size: a pipe or a device, named by
// mistake, would block the gateway.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(err)
	}
	if !info.Mode().IsRegular() {
		what := "not a regular file"
		if info.IsDir() {
			what = "a directory"
		}
		return nil, fmt.Errorf("%s is %s", path, what)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, plain(err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return data, nil
}

// plain removes the name of the system call: "stat x: no such file" says no more than
// "x: no such file".
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return &fileError{p}
	}
	return err
}

// fileError is an error of the file system without the name of the system call.
type fileError struct{ path *os.PathError }

func (e *fileError) Error() string { return e.path.Path + ": " + e.path.Err.Error() }
func (e *fileError) Unwrap() error { return e.path }

// firstLine returns the first line of a file, without surrounding white space.
func firstLine(data []byte) string {
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}
