package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// settings are the parameters of a session of PostgreSQL, by name.
//
// They are set after the connection is made, not in its startup message: PgBouncer
// refuses a startup message with a parameter that it does not know, and it knows few. If
// it is configured to ignore one (ignore_startup_parameters) it does so silently, and a
// time-out would not be in force.
type settings map[string]string

// inSession are the parameters that a connection string may contain and that are also
// set in this way.
var inSession = []string{
	"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "synchronous_commit", "search_path",
}

// with returns a copy of the settings with those of others in place.
func (s settings) with(others settings) settings {
	s = maps.Clone(s)
	maps.Copy(s, others)
	return s
}

// apply sets them in a session.
func (s settings) apply(ctx context.Context, conn *pgconn.PgConn) error {
	names := slices.Sorted(maps.Keys(s))
	values := make([][]byte, len(names))
	calls := make([]string, len(names))
	for i, name := range names {
		values[i] = []byte(s[name])
		calls[i] = fmt.Sprintf("set_config('%s', $%d, false)", name, i+1)
	}
	_, err := conn.ExecParams(ctx, "SELECT "+strings.Join(calls, ", "), values, nil, nil, nil).Close()
	return err
}

// ignored returns the names of the settings that are not in force. PostgreSQL normalizes
// the wanted values for the comparison, since it writes 4000 as 4s.
func (s settings) ignored(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	var names, values []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		names, values = append(names, name), append(values, s[name])
	}
	rows, err := conn.Query(ctx, `SELECT name FROM (SELECT name, current_setting(name) AS found, set_config(name, value, true) AS wanted
		FROM unnest($1::text[], $2::text[]) AS _ (name, value) OFFSET 0) AS _ WHERE found <> wanted`, names, values)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// configWith returns the settings of a connection, including those of its session.
func (s *Store) configWith(session settings) *pgx.ConnConfig {
	c := s.config.Copy()
	c.AfterConnect = s.afterConnect(session)
	return c
}

func (s *Store) afterConnect(session settings) pgconn.AfterConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeout(ctx, s.o.ConnectTimeout) // ConnectTimeout bounds only this step
		defer cancel()
		return session.apply(ctx, conn)
	}
}

// pooling describes a pooler between this process and PostgreSQL.
type pooling struct {
	// pooler is whether there is a pooler.
	pooler bool
	// deaf is set if a notification did not come through it. Changes by other processes
	// are then seen at the next [Options].Poll, and not at once.
	deaf bool
}

// wanted is the largest number of connections of one process.
func (s *Store) wanted() int {
	return s.o.MaxConns + int(numLanes) + 4 // for the lease manager, Changes, Alone and apart
}

// admitPooler calls findPooler at the start of a gateway, and warns.
func (s *Store) admitPooler(ctx context.Context, conn *pgx.Conn) error {
	p, err := s.findPooler(ctx, conn)
	if p.deaf {
		s.o.Log.Warn("no notice comes through the pooler: what other gateways do is seen later")
	}
	return err
}

// noticeWait bounds the wait for a notification, which normally comes at once.
const noticeWait = 3 * time.Second

// errShared: two connections had the same session, or one connection had two.
var errShared = errors.New("two connections had one session, or one had two")

// findPooler finds out whether there is a pooler, and returns [ErrPooled] unless each
// connection has a session of its own. Otherwise locks of a session, LISTEN, prepared
// statements and all settings get lost, or reach other connections.
//
// A pooler gives its clients session numbers of its own, which they use for cancel
// requests: if PostgreSQL knows the session by the same number, there is no pooler. A
// pooler does not say how it assigns sessions, so this function tries it, with two
// connections. A session that both had, or a connection that had two, proves that
// sessions are shared. A notification that reaches a connection without a transaction
// proves that they are not: a pooler can deliver it only while it keeps the session for
// that connection. If neither happens, the connection is accepted.
func (s *Store) findPooler(ctx context.Context, conn *pgx.Conn) (p pooling, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.o.StatementTimeout+noticeWait) // with a single session for all it would wait for itself
	defer cancel()
	first := conn.PgConn()
	if p.pooler, err = pooled(ctx, first); err != nil || !p.pooler {
		return p, err
	}
	other, err := s.connect(ctx)
	if err != nil && !noRoom(err) {
		return p, err // the database or the pooler has gone down meanwhile
	}
	if err != nil {
		return p, fmt.Errorf("%w: the pooler in front of it gives no second connection: give it room for all that the gateways may open, %d each (PgBouncer: default_pool_size, max_client_conn): %w",
			ErrRefused, s.wanted(), err)
	}
	defer func() { closeConn(other) }()
	if _, err := other.PgConn().Exec(ctx, `BEGIN`).ReadAll(); err != nil {
		return p, shared(err)
	}
	if _, err := other.PgConn().Exec(ctx, `COMMIT`).ReadAll(); err != nil {
		return p, shared(err)
	}
	for try := range 20 {
		if err := differ(ctx, first, other.PgConn()); err != nil {
			return p, shared(err)
		}
		if try < 2 || p.deaf {
			continue
		}
		heard, err := hears(ctx, conn, other)
		if err != nil {
			return p, shared(err)
		}
		if heard {
			break
		}
		p.deaf = true // test more often
	}
	// The next connection must not find what an earlier one left: prepared statements of
	// the same name, locks, tables.
	if _, err := other.PgConn().Exec(ctx, `SELECT set_config('congthu.left', 'behind', false)`).ReadAll(); err != nil {
		return p, err
	}
	closeConn(other)
	next, err := s.connect(ctx)
	if err != nil {
		return p, err
	}
	other = next
	left, err := value(ctx, next.PgConn(), `SELECT coalesce(current_setting('congthu.left', true), '')`)
	if err == nil && left != "" {
		err = fmt.Errorf("%w: what one connection has left in it (prepared statements, locks) the next finds: remove server_reset_query from pgbouncer.ini, or make it DISCARD ALL, which is its default", ErrPooled)
	}
	return p, err
}

// noRoom reports whether a pooler had no room for one more connection. It says so, or
// lets the connection wait for a session until the time-out.
func noRoom(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	// PgBouncer 1.18 uses one SQLSTATE, 08P01, for all its own errors.
	return e.Code == "53300" || slices.ContainsFunc([]string{"no more connections allowed", "query_wait_timeout", "_client_conn"},
		func(words string) bool { return strings.Contains(e.Message, words) })
}

// shared explains errors that only shared sessions cause.
func shared(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errShared):
		return fmt.Errorf("%w: it pools by transactions (pool_mode=transaction): %s (%w)", ErrPooled, bySessions, err)
	case strings.Contains(err.Error(), "statement pooling mode"):
		return fmt.Errorf("%w: it pools by statements (pool_mode=statement): %s (%w)", ErrPooled, bySessions, err)
	}
	return err
}

const bySessions = "write pool_mode=session for this database or its user into pgbouncer.ini, or connect to PostgreSQL without the pooler"

// pooled reports whether there is a pooler.
func pooled(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	pid, err := backend(ctx, conn)
	return pid != fmt.Sprint(conn.PID()), err
}

// differ returns errShared if both connections have the same session, or if the session
// of the first one changes, while the second is in a transaction and while it is not. A
// pooler assigns the session that was used last, or the one that was used first.
func differ(ctx context.Context, first, second *pgconn.PgConn) error {
	before, err := backend(ctx, first)
	if err != nil {
		return err
	}
	again, err := backend(ctx, first)
	if err != nil {
		return err
	}
	if _, err := second.Exec(ctx, `BEGIN`).ReadAll(); err != nil {
		return err
	}
	others, err := backend(ctx, second)
	if err != nil {
		return err
	}
	after, err := backend(ctx, first)
	if err != nil {
		return err
	}
	if _, err := second.Exec(ctx, `COMMIT`).ReadAll(); err != nil {
		return err
	}
	if before != again || again != after || others == after {
		return errShared
	}
	return nil
}

// backend returns the process number of PostgreSQL's side of the session.
func backend(ctx context.Context, conn *pgconn.PgConn) (pid string, err error) {
	return value(ctx, conn, `SELECT pg_backend_pid()`)
}

// value returns the single value of a query. It prepares no statement: another session
// would not have it, or have it already.
func value(ctx context.Context, conn *pgconn.PgConn, query string) (string, error) {
	results, err := conn.Exec(ctx, query).ReadAll()
	if err == nil && (len(results) != 1 || len(results[0].Rows) != 1) {
		err = fmt.Errorf("%w: %s yields no value", errOwn, query)
	}
	if err != nil {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// hears reports whether a notification sent over other reaches conn.
func hears(ctx context.Context, conn, other *pgx.Conn) (bool, error) {
	name := "congthu_" + strings.ToLower(rand.Text())
	if _, err := conn.PgConn().Exec(ctx, `LISTEN `+name).ReadAll(); err != nil {
		return false, err
	}
	if _, err := other.PgConn().Exec(ctx, `NOTIFY `+name).ReadAll(); err != nil {
		return false, err
	}
	wait, cancel := context.WithTimeout(ctx, noticeWait)
	defer cancel()
	_, err := conn.WaitForNotification(wait)
	if err != nil && (wait.Err() == nil || ctx.Err() != nil || conn.IsClosed()) {
		return false, err
	}
	_, stop := conn.PgConn().Exec(ctx, `UNLISTEN `+name).ReadAll()
	return err == nil, stop
}
