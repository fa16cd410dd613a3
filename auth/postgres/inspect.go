package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
)

// Report is the result of [Inspect].
type Report struct {
	// Server is the version of PostgreSQL.
	Server string
	// Schema is the version of the database's schema, 0 for none yet; Newest is the one
	// that this program creates.
	Schema, Newest int64
	// Imports are the events that began unfinished imports; see
	// [auth.UnfinishedImports].
	Imports []auth.Event
	// Fsync, FullPageWrites and SynchronousCommit say whether confirmed changes are
	// on disk: all must be on. Standbys is the list of synchronous standbys, as in
	// synchronous_standby_names.
	Fsync, FullPageWrites, SynchronousCommit, Standbys string
	// Pooler is whether there is a pooler; Deaf whether no notification comes through
	// it, so that changes by other gateways are seen at the next [Options].Poll.
	Pooler, Deaf bool
	// StatementTimeout, LockTimeout and IdleInTransactionTimeout are the values in force,
	// as PostgreSQL writes them; "0" is none.
	StatementTimeout, LockTimeout, IdleInTransactionTimeout string
	// Ignored are the parameters that were set but are not in force.
	Ignored []string
	// Latency is the median time of a round trip to the server.
	Latency time.Duration
	// MaxConnections is the limit of the server, Connections the number of connections
	// to this database, and Wanted the largest number that one gateway opens.
	MaxConnections, Connections, Wanted int
	// Encrypted is whether the connection is encrypted; Local whether it is a socket of
	// this machine.
	Encrypted, Local bool
	// MayCreate is whether the user can create the tables.
	MayCreate bool
	// Gateways are the processes that use the database: host:process.
	Gateways []string
	// Agreed is the value that was asked for; see [Store.Agree].
	Agreed string
	// Rules are the settings on which gateways have agreed: see [Store.Rules].
	Rules string
}

// Durable reports whether a crash of the server loses no change that it has confirmed.
func (r Report) Durable() bool {
	return r.Fsync == "on" && r.FullPageWrites == "on" && r.SynchronousCommit != "off" && r.SynchronousCommit != "local"
}

// Inspect examines a database and changes nothing. If the database cannot be used at
// all, the error says what to do. agreed is the key of the agreement that Report.Agreed
// shows.
func Inspect(ctx context.Context, o Options, agreed string) (r Report, err error) {
	s := &Store{o: o.withDefaults()}
	defer func() { err = explain(ctx, err) }()
	config, err := s.configure()
	if err != nil {
		return r, err
	}
	s.config = config.ConnConfig
	conn, err := s.connect(ctx)
	if err != nil {
		return r, err
	}
	defer closeConn(conn)
	p, err := s.findPooler(ctx, conn)
	if err != nil {
		return r, err
	}
	r.Pooler, r.Deaf = p.pooler, p.deaf
	if r.Ignored, err = s.session.ignored(ctx, conn); err != nil {
		return r, err
	}
	if err := fitting(ctx, conn); err != nil {
		return r, err
	}
	r.Wanted = s.wanted()
	r.Encrypted = encrypted(ctx, conn)
	r.Local = conn.PgConn().Conn().RemoteAddr().Network() == "unix"
	if r.Schema, err = schemaVersion(ctx, conn); err != nil {
		return r, err
	}
	if r.Newest, err = newestVersion(); err != nil {
		return r, err
	}
	if r.Schema > r.Newest {
		return r, newer(r.Schema, r.Newest)
	}
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'),
		current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), current_setting('max_connections')::int,
		coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())`).
		Scan(&r.Server, &r.Fsync, &r.FullPageWrites, &r.StatementTimeout, &r.LockTimeout, &r.IdleInTransactionTimeout, &r.SynchronousCommit, &r.Standbys, &r.MaxConnections, &r.MayCreate, &r.Connections)
	if err != nil {
		return r, err
	}
	if r.Schema >= 1 {
		rows, err := conn.Query(ctx, `SELECT name FROM holders WHERE gone IS NULL ORDER BY id`)
		if err != nil {
			return r, err
		}
		if r.Gateways, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return r, err
		}
	}
	if r.Schema >= 1 {
		rows, err := conn.Query(ctx, `SELECT `+eventColumns+` FROM events WHERE account = '' AND kind IN ($1, $2) ORDER BY seq DESC LIMIT $3`,
			string(auth.ImportBegun), string(auth.ImportFinished), auth.ImportsLookedAt)
		if err != nil {
			return r, err
		}
		events, err := pgx.CollectRows(rows, scanEvent)
		if err != nil {
			return r, err
		}
		r.Imports = auth.UnfinishedImports(events)
	}
	if r.Schema >= 2 {
		if r.Agreed, err = agreedOn(ctx, conn, agreed); err != nil {
			return r, err
		}
		if r.Rules, err = agreedOn(ctx, conn, rules); err != nil {
			return r, err
		}
	}
	r.Latency, err = latency(ctx, conn)
	return r, err
}

func encrypted(ctx context.Context, conn *pgx.Conn) (yes bool) {
	err := conn.QueryRow(ctx, `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&yes)
	return err == nil && yes
}

// latency is the median of eleven round trips.
func latency(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	var took [11]time.Duration
	for i := range took {
		began := time.Now()
		if err := conn.Ping(ctx); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took[:])
	return took[len(took)/2], nil
}

// fitting refuses a database that cannot hold every name.
func fitting(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	if err := conn.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("%w but as %s: make a new one (createdb --encoding=UTF8 --template=template0)", ErrEncoding, encoding)
	}
	return nil
}
