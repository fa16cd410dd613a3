package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versions is the table in which goose stores the schema's version.
const versions = "congthu_schema"

// configure makes the settings of all connections. Settings in the connection string
// take precedence over the options.
func (s *Store) configure() (*pgxpool.Config, error) {
	if s.o.DSN == "" {
		return nil, fmt.Errorf("%w: it is missing", ErrMalformed)
	}
	c, err := pgxpool.ParseConfig(s.o.DSN)
	if err != nil {
		// Without the cause, which may contain a part of the password.
		return nil, fmt.Errorf("%w: want postgres://USER@HOST/DATABASE?sslmode=verify-full, all that is special in it percent-encoded, or host=HOST user=USER dbname=DATABASE",
			ErrMalformed)
	}
	c.MaxConns = int32(s.o.MaxConns)
	c.MinConns, c.MinIdleConns = 0, 0
	c.MaxConnLifetime, c.MaxConnIdleTime = s.o.ConnLifetime, s.o.ConnIdleTime
	c.MaxConnLifetimeJitter = s.o.ConnLifetime / 10
	c.ConnConfig.ConnectTimeout = s.o.ConnectTimeout
	// The statements of this package are few, and prepared at their first use.
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if c.ConnConfig.ValidateConnect == nil {
		c.ConnConfig.ValidateConnect = refuseStandby
	}
	// Poolers support these two.
	for name, value := range map[string]string{"application_name": "congthu", "client_encoding": "UTF8"} {
		if _, set := c.ConnConfig.RuntimeParams[name]; !set {
			c.ConnConfig.RuntimeParams[name] = value
		}
	}
	s.session = settings{
		"statement_timeout":                   milliseconds(s.o.StatementTimeout),
		"lock_timeout":                        milliseconds(s.o.LockTimeout),
		"idle_in_transaction_session_timeout": milliseconds(s.o.IdleInTransactionTimeout),
		// A commit is on disk when it returns, whatever the default of the database is.
		"synchronous_commit": "on",
	}
	for _, name := range inSession {
		if value, set := c.ConnConfig.RuntimeParams[name]; set {
			s.session[name] = value
			delete(c.ConnConfig.RuntimeParams, name)
		}
	}
	if c.ConnConfig.AfterConnect == nil {
		c.ConnConfig.AfterConnect = s.afterConnect(s.session)
	}
	return c, nil
}

// refuseStandby ends a connection to a server that cannot be written: its accounts may
// be out of date.
func refuseStandby(ctx context.Context, conn *pgconn.PgConn) error {
	if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, conn); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// connect makes a connection outside the pool.
func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, s.config.Copy())
}

// closeConn closes a connection, and waits up to 1 s for PostgreSQL.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// prepare checks that the database belongs to this program and is not newer than it, and
// migrates it.
func (s *Store) prepare(ctx context.Context, conn *pgx.Conn) error {
	if err := fitting(ctx, conn); err != nil {
		return err
	}
	var fsync, commit string
	err := conn.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit)
	switch {
	case err != nil:
		return err
	case fsync != "on" || commit == "off" || commit == "local":
		s.o.Log.Warn("the database does not keep what it confirms: a crash of its machine loses locks and failures",
			"fsync", fsync, "synchronous_commit", commit)
	}
	have, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	want, err := newestVersion()
	if err != nil {
		return err
	}
	switch {
	case have > want:
		return newer(have, want)
	case have < want:
		return s.migrate(ctx)
	}
	return nil
}

func newer(have, want int64) error {
	return fmt.Errorf("%w: its schema is version %d, this program knows up to %d: install the newer version again, or restore the backup made before it",
		ErrNewerSchema, have, want)
}

// schemaVersion returns the version of the schema; 0 for an empty database.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int64, err error) {
	var ours, theirs bool
	err = conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL,
		coalesce(to_regclass('accounts'), to_regclass('events'), to_regclass('reservations')) IS NOT NULL`, versions).
		Scan(&ours, &theirs)
	switch {
	case err != nil:
		return 0, err
	case theirs && !ours:
		return 0, fmt.Errorf("%w: it has tables of the gateway's names: give the gateway a database, or a schema (search_path), of its own", ErrForeign)
	case !ours:
		return 0, nil
	}
	err = conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versions).Scan(&version)
	return version, err
}

// newestVersion is the version of the schema that this program creates.
func newestVersion() (newest int64, err error) {
	files, err := migrations.ReadDir("migrations")
	for _, f := range files {
		version, err := goose.NumericComponent(f.Name())
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, err
}

// migrate migrates the schema to the newest version. Replicas that start at the same
// time do so one after the other.
func (s *Store) migrate(ctx context.Context) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	config := s.configWith(s.session.with(settings{ // migrations may take long
		"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
	}))
	first, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(first) // which also releases the lock
	if _, err := first.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey("schema")); err != nil {
		return fmt.Errorf("wait for another replica's migration: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, folder,
		goose.WithSlog(s.o.Log), goose.WithDisableGlobalRegistry(true), goose.WithTableName(versions))
	if err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	return nil
}
