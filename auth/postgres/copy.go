package postgres

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"congthu/auth"
	"congthu/auth/audit"
)

// Errors of a database that cannot become a copy.
var (
	ErrOccupied   = errors.New("the database has other data")
	ErrHalfCopied = errors.New("the database is half a copy")
	ErrUnequal    = errors.New("the copy is not equal to what was copied")
)

// Source is a store that is not in use while it is copied.
type Source interface {
	// List and Events are those of a store.
	List(context.Context, auth.Filter) ([]auth.Account, error)
	Events(context.Context, auth.EventFilter) ([]auth.Event, error)
	// Removed returns the last event that was removed because of its age.
	Removed(context.Context) (audit.Head, error)
	// Verify checks the audit log.
	Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error)
	// Contents counts the accounts, including names without a login, and returns a
	// text that identifies the content: it is different after any change.
	Contents(context.Context) (state string, accounts int64, err error)
	// Agreed returns what was agreed on: see [Store.Agreed]. If known is set and the
	// value is empty, an older version did not store it.
	Agreed(ctx context.Context, what string) (value string, known bool, err error)
}

// copiedAgreements are the agreements that are copied.
var copiedAgreements = []string{"pepper"}

// Copied is the content of a copy.
type Copied struct {
	Accounts int64 // including names without a login
	Unknown  int64 // names without a login
	Head     audit.Head
	// Already is set if the copy was complete before: there was nothing to do.
	Already bool
}

// CopyStep is a step of [Copy]. The steps are in their order.
type CopyStep string

const (
	CheckingSource  CopyStep = "checking the audit log of the source"
	CopyingEvents   CopyStep = "copying the audit log"
	CopyingAccounts CopyStep = "copying accounts"
	CheckingEvents  CopyStep = "checking the audit log of the copy"
	Comparing       CopyStep = "comparing accounts"
)

// copyPage is the number of rows copied in one transaction.
const copyPage = 2000

// A row in a table of its own marks a database that is an unfinished copy; [Open] refuses
// such a database. The row also records the progress.
const (
	marked     = `SELECT to_regclass('congthu_copy') IS NOT NULL`
	makeMark   = `CREATE TABLE congthu_copy (source text NOT NULL, accounts_to text NOT NULL)`
	setMark    = `INSERT INTO congthu_copy VALUES ($1, '')`
	readMark   = `SELECT source, accounts_to FROM congthu_copy`
	changeMark = `UPDATE congthu_copy SET source = $1, accounts_to = $2`
	dropMark   = `DROP TABLE congthu_copy`

	inUse   = `SELECT EXISTS (SELECT FROM holders WHERE gone IS NULL AND seen > clock_timestamp() - $1::bigint * interval '1 microsecond')`
	isEmpty = `SELECT NOT EXISTS (SELECT FROM accounts) AND NOT EXISTS (SELECT FROM events)`

	forgetRange = `DELETE FROM accounts WHERE name > $1 AND name <= $2`
	forgetRest  = `DELETE FROM accounts WHERE name > $1`
	recount     = `UPDATE counts SET unknown = (SELECT count(*) FROM accounts WHERE registered IS NULL AND NOT ` + isShared + `)`
	countAll    = `SELECT count(*), count(*) FILTER (WHERE registered IS NULL) FROM accounts WHERE NOT ` + isShared
)

// Copy makes the database a copy of another store: accounts, names without a login, and
// the audit log with its numbers and hashes. It may be interrupted at any moment;
// another call continues it. If the source has changed since, the accounts are copied
// again. When it returns without an error, every account was compared and the audit log
// was verified. Until then no gateway opens the database. Slots are not copied: they end
// with their process.
//
// progress may be nil.
func Copy(ctx context.Context, from Source, o Options, progress func(step CopyStep, done, total int64)) (_ Copied, err error) {
	if progress == nil {
		progress = func(CopyStep, int64, int64) {}
	}
	c := &copier{Store: &Store{o: o.withDefaults()}, from: from, progress: progress}
	c.life, c.end = context.WithCancel(context.Background())
	defer c.end()
	state, accounts, err := from.Contents(ctx)
	if err != nil {
		return Copied{}, fmt.Errorf("%w: %w", errSource, err)
	}
	c.state, c.accounts = state, accounts
	if c.head, err = from.Verify(ctx, func(n, of int64) { progress(CheckingSource, n, of) }); err != nil {
		return Copied{}, fmt.Errorf("check the source: %w", err)
	}
	if err := c.connectAll(ctx); err != nil {
		return Copied{}, fmt.Errorf("open database: %w", explain(ctx, err))
	}
	defer c.pool.Close()
	defer closeConn(c.conn)
	done, err := c.copy(ctx)
	var broken *audit.BrokenChain
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, errSource), errors.As(err, &broken):
		return Copied{}, fmt.Errorf("copy: %w", err)
	}
	return Copied{}, fmt.Errorf("copy: %w", explain(ctx, err))
}

// errSource marks errors of the source, not of the database.
var errSource = errors.New("read the source")

// copier is one call of Copy.
type copier struct {
	*Store
	from     Source
	progress func(CopyStep, int64, int64)
	conn     *pgx.Conn

	state    string
	accounts int64
	head     audit.Head // of the source
}

func (c *copier) connectAll(ctx context.Context) error {
	// Each transaction is short, but no other process waits for it, so allow it more time.
	c.o.StatementTimeout *= 10
	config, err := c.configure()
	if err != nil {
		return err
	}
	c.config = config.ConnConfig
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	if err = c.admitPooler(ctx, conn); err == nil {
		err = c.prepare(ctx, conn)
	}
	if err == nil {
		// A lock of the session: it ends with the process. The lock of a process that
		// was killed may last a moment longer.
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey("copy"))
	}
	if err == nil {
		c.pool, err = pgxpool.NewWithConfig(ctx, config)
	}
	if err != nil {
		closeConn(conn)
		return err
	}
	c.conn = conn
	return nil
}

func (c *copier) copy(ctx context.Context) (Copied, error) {
	after, already, err := c.claim(ctx)
	if err != nil {
		return Copied{}, err
	}
	if !already {
		if err := c.copyEvents(ctx); err != nil {
			return Copied{}, fmt.Errorf("events: %w", err)
		}
		if err := c.copyAccounts(ctx, after); err != nil {
			return Copied{}, fmt.Errorf("accounts: %w", err)
		}
	}
	if err := c.compare(ctx); err != nil {
		if already && errors.Is(err, ErrUnequal) {
			return Copied{}, fmt.Errorf("%w: name an empty one: %w", ErrOccupied, err)
		}
		return Copied{}, err
	}
	done := Copied{Head: c.head, Already: already}
	if err := c.conn.QueryRow(ctx, countAll).Scan(&done.Accounts, &done.Unknown); err != nil {
		return Copied{}, err
	}
	if already {
		return done, nil
	}
	// The last step: from here on a gateway may open the database.
	return done, pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		for _, what := range copiedAgreements {
			if err := c.copyAgreement(ctx, tx, what); err != nil {
				return err
			}
		}
		for _, text := range []string{recount, dropMark} {
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyAgreement stores the agreement of the source, in place of one that a gateway may
// have stored while the database was empty.
func (c *copier) copyAgreement(ctx context.Context, tx pgx.Tx, what string) error {
	value, _, err := c.from.Agreed(ctx, what)
	if err != nil {
		return fmt.Errorf("%w: %w", errSource, err)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM agreed WHERE what = $1`, what); err != nil || value == "" {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO agreed (what, value) VALUES ($1, $2)`, what, value)
	return err
}

// claim marks an empty database, or returns the progress of an earlier call: the name up
// to which accounts were copied, or that the database may be a complete copy.
func (c *copier) claim(ctx context.Context) (after auth.Name, already bool, err error) {
	err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		var half, empty bool
		if err := tx.QueryRow(ctx, marked).Scan(&half); err != nil {
			return err
		}
		if half {
			var source string
			if err := tx.QueryRow(ctx, readMark).Scan(&source, &after); err != nil {
				return err
			}
			if source != c.state {
				after = ""
				_, err := tx.Exec(ctx, changeMark, c.state, after)
				return err
			}
			return nil
		}
		if err := tx.QueryRow(ctx, isEmpty).Scan(&empty); err != nil {
			return err
		}
		if !empty {
			already = true // to be compared with the source
			return nil
		}
		if _, err := tx.Exec(ctx, makeMark); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, setMark, c.state)
		return err
	})
	if err != nil || already {
		return after, already, err
	}
	// A gateway looks for the mark after it has registered: one of the two sees the
	// other.
	var used, still bool
	if err := c.conn.QueryRow(ctx, inUse, (2 * c.o.Lease).Microseconds()).Scan(&used); err != nil {
		return "", false, err
	}
	if used {
		if err := c.conn.QueryRow(ctx, isEmpty).Scan(&still); err == nil && still {
			c.conn.Exec(ctx, dropMark) // nothing has been copied
		}
		return "", false, fmt.Errorf("%w: a gateway uses it: stop all that do, wait %v, and try again", ErrOccupied, 2*c.o.Lease)
	}
	return after, false, nil
}

// copyEvents copies the events after the newest event of the copy.
func (c *copier) copyEvents(ctx context.Context) error {
	var at audit.Head
	if err := c.conn.QueryRow(ctx, `SELECT seq, hash FROM head`).Scan(&at.Seq, &at.Hash); err != nil {
		return err
	}
	gone, err := c.from.Removed(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errSource, err)
	}
	switch {
	case at.Seq == 0 && gone.Seq > 0:
		// The chain of the copy begins where the chain of the source begins.
		err := pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, moveRemoved, gone.Seq, gone.Hash, instant(gone.At)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, advanceHead, gone.Seq, gone.Hash)
			return err
		})
		if err != nil {
			return err
		}
		at = gone
	case at.Seq > 0 && at.Seq == gone.Seq && at.Hash == gone.Hash:
		// No event is copied yet.
	case at.Seq > 0:
		same, err := c.from.Events(ctx, auth.EventFilter{Before: at.Seq + 1, Limit: 1})
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		if len(same) != 1 || same[0].Seq != at.Seq || same[0].Hash != at.Hash {
			return fmt.Errorf("%w: half a copy of another source: empty it, or name an empty one", ErrOccupied)
		}
	}
	for at.Seq < c.head.Seq {
		c.progress(CopyingEvents, at.Seq, c.head.Seq)
		end := min(at.Seq+copyPage, c.head.Seq)
		page, err := c.from.Events(ctx, auth.EventFilter{Before: end + 1, Limit: int(end - at.Seq)})
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		slices.Reverse(page)
		events := make([]*auth.Event, len(page))
		for i := range page {
			e := &page[i]
			// Copy only a chain; every [auth.Store] has one.
			if e.Seq != at.Seq+1 || e.Hash != audit.Chain(at.Hash, *e) {
				return &audit.BrokenChain{Seq: at.Seq + 1, Why: "the source was changed while it was copied"}
			}
			at, events[i] = audit.Head{Seq: e.Seq, Hash: e.Hash}, e
		}
		if at.Seq != end {
			return &audit.BrokenChain{Seq: at.Seq + 1, Why: "the source was changed while it was copied"}
		}
		err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			if err := copyRows(ctx, c.conn, "events", eventColumns, events, eventFields); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, advanceHead, at.Seq, at.Hash)
			return err
		})
		if err != nil {
			return err
		}
	}
	c.progress(CopyingEvents, at.Seq, c.head.Seq)
	return nil
}

// copyAccounts copies the accounts after a name.
func (c *copier) copyAccounts(ctx context.Context, after auth.Name) error {
	var done int64
	if err := c.conn.QueryRow(ctx, `SELECT count(*) FROM accounts WHERE name <= $1`, string(after)).Scan(&done); err != nil {
		return err
	}
	for {
		c.progress(CopyingAccounts, done, c.accounts)
		page, err := c.from.List(ctx, auth.Filter{After: after, Limit: copyPage, Unknown: true, Shared: true})
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		if len(page) == 0 {
			_, err := c.conn.Exec(ctx, forgetRest, string(after))
			return err
		}
		accounts := make([]*auth.Account, len(page))
		for i := range page {
			page[i] = page[i].Normalized()
			accounts[i] = &page[i]
		}
		last := page[len(page)-1].Name
		err = pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, forgetRange, string(after), string(last)); err != nil {
				return err
			}
			if err := copyRows(ctx, c.conn, "accounts", accountColumns, accounts, accountFields); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, changeMark, c.state, string(last))
			return err
		})
		if err != nil {
			return err
		}
		after, done = last, done+int64(len(page))
	}
}

// compare reads the whole copy and compares it with the source.
func (c *copier) compare(ctx context.Context) error {
	head, err := c.Verify(ctx, func(n, of int64) { c.progress(CheckingEvents, n, of) })
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnequal, err)
	case head != c.head:
		return fmt.Errorf("%w: the audit log has another head: %d:%s, not %d:%s", ErrUnequal, head.Seq, head.Hash, c.head.Seq, c.head.Hash)
	}
	var after auth.Name
	for done := int64(0); ; {
		c.progress(Comparing, done, c.accounts)
		want := auth.Filter{After: after, Limit: copyPage, Unknown: true, Shared: true}
		theirs, err := c.from.List(ctx, want)
		if err != nil {
			return fmt.Errorf("%w: %w", errSource, err)
		}
		ours, err := c.List(ctx, want)
		if err != nil {
			return err
		}
		if len(ours) != len(theirs) {
			return fmt.Errorf("%w: it has more or fewer accounts", ErrUnequal)
		}
		for i := range ours {
			// Without the name: a name without a login may be a mistyped password.
			if !reflect.DeepEqual(ours[i].Normalized(), theirs[i].Normalized()) {
				return fmt.Errorf("%w: account %d in the order of names differs", ErrUnequal, done+int64(i)+1)
			}
		}
		if len(ours) == 0 {
			return nil
		}
		after, done = ours[len(ours)-1].Name, done+int64(len(ours))
	}
}

// refuseHalfCopy refuses an unfinished copy. It is called after this process has registered.
func (s *Store) refuseHalfCopy(ctx context.Context, conn *pgx.Conn) error {
	var half bool
	if err := conn.QueryRow(ctx, marked).Scan(&half); err != nil {
		return err
	}
	if !half {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn.Exec(ctx, `DELETE FROM holders WHERE id = $1`, s.identity.Load().holder)
	return fmt.Errorf("%w of an SQLite file: finish it by the same command again (congthu store copy), or empty the database", ErrHalfCopied)
}

// copyRows sends rows to a table, with the columns and fields that all statements of
// this package use.
func copyRows[T any](ctx context.Context, conn *pgx.Conn, table, columns string, rows []*T, fields func(*T) []any) error {
	names := strings.FieldsFunc(columns, func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') })
	_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, names,
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return fields(rows[i]), nil }))
	return err
}
