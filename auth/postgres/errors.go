package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"congthu/auth"
)

// States of a database that an admin must correct. The message around each error says
// how.
var (
	ErrMalformed   = errors.New("the connection string is malformed")
	ErrNewerSchema = errors.New("the database was written by a newer version")
	ErrForeign     = errors.New("the database is another program's")
	ErrEncoding    = errors.New("the database does not store text as UTF-8")
	ErrUnreachable = errors.New("the database cannot be reached")
	ErrRefused     = errors.New("the database refuses the gateway")
	// ErrPooled: a pooler is in between, and its pool mode is not session.
	ErrPooled   = errors.New("the pooler in front of the database does not give each connection a session of its own")
	ErrDiskFull = errors.New("no space left for the database")
	ErrReadOnly = errors.New("the database cannot be written")
	// ErrUnconfirmed: it is not known whether a committed change is durable.
	ErrUnconfirmed = errors.New("the database does not confirm what it commits")
	ErrClosed      = errors.New("the database is closed")
)

// errLeaseExpired: another process has removed the row of this process, since it has
// seen no heartbeat for a whole lease.
var errLeaseExpired = errors.New("this process was taken for dead")

// SQLSTATE codes (PostgreSQL documentation, appendix A).
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	idleInTransaction    = "25P03"
	startingUp           = "57P03"
)

// sqlState returns the code of an error that PostgreSQL itself has sent.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// unsupported is the text of PgBouncer for a parameter that it refuses.
const unsupported = "unsupported startup parameter"

// explain adds to an error what an operator can do about it. It does not change an error
// that is caused by ctx.
func explain(ctx context.Context, err error) error {
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, errWarned) && !errors.Is(err, ErrUnconfirmed):
		return fmt.Errorf("%w: %w: %s", ErrUnconfirmed, err, mendStandby)
	case errors.Is(err, ErrClosed), errors.Is(err, ErrForeign), errors.Is(err, ErrNewerSchema), errors.Is(err, ErrEncoding), errors.Is(err, ErrPooled), errors.Is(err, ErrRefused),
		errors.Is(err, ErrMalformed), errors.Is(err, ErrUnconfirmed), errors.Is(err, auth.ErrDisagreement),
		errors.Is(err, ErrOccupied), errors.Is(err, ErrHalfCopied), errors.Is(err, ErrUnequal),
		errors.Is(err, errOwn):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the user that runs the gateway may not use the socket: %w", ErrRefused, err)
	}
	code := sqlState(err)
	switch {
	case code == "25006" || errors.Is(err, ErrReadOnly):
		return fmt.Errorf("%w: it is a standby or read-only: name the primary in the connection string, or all servers: %w", ErrReadOnly, err)
	case strings.HasPrefix(code, "28"):
		return fmt.Errorf("%w: look at user and password of the connection string, and at pg_hba.conf: %w", ErrRefused, err)
	case code == "3D000":
		return fmt.Errorf("%w: create it (createdb --encoding=UTF8 --template=template0 --owner=USER DATABASE): %w", ErrRefused, err)
	case code == "42501":
		return fmt.Errorf("%w: its user must own the tables (ALTER DATABASE ... OWNER TO, GRANT CREATE ON SCHEMA public): %w", ErrRefused, err)
	case code == "08P01" && strings.Contains(err.Error(), unsupported):
		// From PgBouncer, which does not know the parameter.
		_, parameter, _ := strings.Cut(err.Error(), unsupported)
		parameter, _, _ = strings.Cut(strings.TrimPrefix(parameter, " in options"), " (")
		parameter = strings.Trim(parameter, ": ")
		return fmt.Errorf("%w: take %s out of the connection string (ALTER ROLE ... SET does the same), or name it in ignore_startup_parameters of the pooler, which then ignores it: %w",
			ErrRefused, parameter, err)
	case code == "53300":
		return fmt.Errorf("%w: raise max_connections there, or lower the gateway's: %w", ErrRefused, err)
	case strings.HasPrefix(code, "53"):
		return fmt.Errorf("%w: free some on the file system of the database: %w", ErrDiskFull, err)
	case code != "" && !lost(err):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: it does not answer: %w", ErrUnreachable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// lost reports whether an error means that the connection is gone, or could not be made,
// so that another connection may work.
func lost(err error) bool {
	if err == nil || errors.Is(err, errLeaseExpired) || errors.Is(err, ErrUnconfirmed) || errors.Is(err, errWarned) {
		return false
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return !errors.Is(err, pgx.ErrNoRows) && !errors.Is(err, errOwn)
	}
	return strings.HasPrefix(e.Code, "57P") || strings.HasPrefix(e.Code, "08") || e.Code == idleInTransaction
}

// errOwn marks an error that is caused neither by PostgreSQL nor by the connection to
// it, but by a value that was to be written or was read.
var errOwn = errors.New("unusable value")

// again reports whether a failed transaction that was not committed may succeed when it
// is repeated.
func again(err error) bool {
	switch sqlState(err) {
	case serializationFailure, deadlockDetected:
		return true
	}
	if errors.Is(err, errLeaseExpired) || errors.Is(err, errWarned) && !errors.Is(err, ErrUnconfirmed) {
		return true
	}
	// If no server answers, the caller has to wait; a server that has just gone may be
	// back at once.
	return lost(err) && !errors.Is(err, context.DeadlineExceeded)
}

// certain reports whether an error of a commit shows that nothing was committed: the
// server itself says so, and keeps the connection. With a fatal error (a shutdown) the
// commit may have been made before.
func certain(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized == "ERROR"
}

// ofOneChange reports whether a statement failed because of its values, so that the
// other changes of the batch can be made.
func ofOneChange(err error) bool {
	if errors.Is(err, errOwn) {
		return true
	}
	code := sqlState(err)
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "54")
}
