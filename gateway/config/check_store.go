package config

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"congthu/auth"
)

// checkStore checks the settings of the store, and reads the connection string from its
// file.
func (k *checker) checkStore() {
	s := &k.c.Store
	k.atLeast("store.grace", s.Grace, 0, 24*time.Hour)
	k.atLeast("store.last_login_window", s.LastLoginWindow, 0, 24*time.Hour)
	if s.ForgetUnknownAfter != 0 {
		// A shorter time would give a guesser more attempts than the lock does.
		k.atLeast("store.forget_unknown_after", s.ForgetUnknownAfter, 24*time.Hour, 0)
	}
	k.between("store.max_unknown_names", s.MaxUnknownNames, 1_000, 100_000_000)
	if k.anyRefused("store", "store.driver", "store.postgres") {
		return
	}
	if s.Driver != StorePostgres {
		if k.given("store.postgres") && (!s.Postgres.DSN.IsZero() || s.Postgres.DSNFile != "") {
			k.doubt("store.postgres", "write driver: postgres, or remove it", "`store.postgres` is of no use while `store.driver` is %s", s.Driver)
		}
		return
	}
	if k.given("store.path") && s.Path != filepath.Join(k.c.DataDir, sqliteFile) {
		k.doubt("store.path", "remove it", "`store.path` is of no use while `store.driver` is %s", s.Driver)
	}
	k.checkPostgres(&s.Postgres)
}

const postgresPath = "store.postgres"

func (k *checker) checkPostgres(p *Postgres) {
	k.connectionString(p)
	k.between(postgresPath+".max_connections", p.MaxConnections, 1, 1_000)
	k.atLeast(postgresPath+".connect_timeout", p.ConnectTimeout, 100*time.Millisecond, time.Minute)
	k.atLeast(postgresPath+".statement_timeout", p.StatementTimeout, 500*time.Millisecond, time.Minute)
	k.atLeast(postgresPath+".lock_timeout", p.LockTimeout, 200*time.Millisecond, time.Minute)
	// A gateway that is silent for a lease counts as dead, and its attempts in progress
	// count as failures: a short pause of the machine must not suffice.
	k.atLeast(postgresPath+".lease", p.Lease, 2*time.Second, 10*time.Minute)
	k.atLeast(postgresPath+".poll", p.Poll, 100*time.Millisecond, time.Minute)
	if p.LockTimeout >= p.StatementTimeout && !k.anyRefused(postgresPath+".lock_timeout", postgresPath+".statement_timeout") {
		k.wrong(postgresPath+".lock_timeout", "lower `lock_timeout`, or raise `statement_timeout`",
			"`store.postgres.lock_timeout` %s is not shorter than `statement_timeout` %s: the log would not tell a replica that waits for another from a server that hangs", short(p.LockTimeout), short(p.StatementTimeout))
	}
	if p.Lease <= p.StatementTimeout && !k.anyRefused(postgresPath+".lease", postgresPath+".statement_timeout") {
		k.wrong(postgresPath+".lease", "raise `lease`, or lower `statement_timeout`",
			"`store.postgres.lease` %s is not longer than `statement_timeout` %s: one slow statement would make a replica look dead", short(p.Lease), short(p.StatementTimeout))
	}
}

// connectionString reads the connection string. No message repeats any part of it.
func (k *checker) connectionString(p *Postgres) {
	at := postgresPath + ".dsn"
	if k.anyRefused(at, at+"_file") {
		return
	}
	switch inFile := p.DSNFile != ""; {
	case inFile && !p.DSN.IsZero():
		k.wrong(at+"_file", "keep one of them", "`store.postgres` has both `dsn` and `dsn_file`")
		return
	case !inFile && p.DSN.IsZero():
		k.wrong(at, "add dsn: postgres://congthu@db.example.org/congthu?sslmode=verify-full, or dsn_file: with the name of a file that holds one",
			"`store.driver` is postgres, but `store.postgres` has neither `dsn` nor `dsn_file`")
		return
	case inFile:
		at += "_file"
		data, err := readFile(p.DSNFile)
		if err != nil {
			k.wrong(at, "put the connection string there, on one line, readable by the gateway only", "`%s`: %v", at, err)
			return
		}
		p.DSN = auth.NewSecret(firstLine(data))
		if p.DSN.IsZero() {
			k.wrong(at, "put the connection string there, on one line", "`%s`: the first line of %s is empty", at, p.DSNFile)
			return
		}
		if info, err := os.Stat(p.DSNFile); err == nil && info.Mode()&0o007 != 0 {
			k.doubt(at, "chmod o-rwx "+p.DSNFile, "`%s`: everybody on this machine may read %s", at, p.DSNFile)
		}
	}
	parsed, err := pgconn.ParseConfig(p.DSN.Reveal())
	if err != nil {
		k.wrong(at, "write postgres://USER@HOST/DATABASE?sslmode=verify-full, all that is special in it percent-encoded, or host=HOST user=USER dbname=DATABASE",
			"`%s` is not a connection string of PostgreSQL, or names a file that cannot be read", at)
		return
	}
	if p.DSNFile == "" && hasPassword(p.DSN.Reveal()) {
		// An error, and not only a warning: this file is copied into tickets and
		// version control, its other secrets are already in files of their own, and a
		// warning would be read only after the copy was made.
		k.wrong(at, "put the whole connection string into a file that only the gateway can read, and name it in `dsn_file`; or let the server know the gateway without a password (a certificate, or peer on a socket)",
			"`%s` has a password in it: this file is no place for secrets", at)
		return
	}
	k.checkTransport(at, parsed)
}

// checkTransport checks the encryption: the network carries who logs in, when and from
// where, and fingerprints of passwords.
func (k *checker) checkTransport(at string, parsed *pgconn.Config) {
	remote, clear, unverified := false, false, false
	look := func(host string, encrypted bool, verified bool) {
		if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || loopback(host) {
			return
		}
		remote, clear, unverified = true, clear || !encrypted, unverified || !verified
	}
	look(parsed.Host, parsed.TLSConfig != nil, parsed.TLSConfig != nil && verifies(parsed.TLSConfig))
	for _, f := range parsed.Fallbacks {
		look(f.Host, f.TLSConfig != nil, f.TLSConfig != nil && verifies(f.TLSConfig))
	}
	switch {
	case !remote:
	case clear:
		k.doubt(at, "add sslmode=verify-full (and sslrootcert=FILE for an authority of your own)", "`%s` allows a connection without TLS: accounts and audit log would cross the network in clear text", at)
	case unverified:
		k.doubt(at, "add sslmode=verify-full (and sslrootcert=FILE for an authority of your own)", "`%s` does not verify the server's certificate: anybody in between could be the database", at)
	}
}

// passwordSetting matches a secret in a connection string of the form name=value.
var passwordSetting = regexp.MustCompile(`(?i)(^|\s)(ssl)?password\s*=\s*('[^']|[^\s'])`)

// hasPassword reports whether a connection string contains a secret.
func hasPassword(dsn string) bool {
	if !strings.Contains(dsn, "://") {
		return passwordSetting.MatchString(dsn)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return true // an unreadable string may contain one
	}
	if password, set := u.User.Password(); set && password != "" {
		return true
	}
	return u.Query().Get("password") != "" || u.Query().Get("sslpassword") != ""
}
