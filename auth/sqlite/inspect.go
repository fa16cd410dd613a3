package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"congthu/auth"
)

// Report is the result of [Inspect].
type Report struct {
	// Exists is whether there is a database.
	Exists bool
	// Agreed is the value that was asked for, Known whether there is one; see
	// [Store.Agreed].
	Agreed string
	Known  bool
	// Imports are the events that began unfinished imports; see
	// [auth.UnfinishedImports].
	Imports []auth.Event
}

// Inspect reads a database, which a gateway may be using, and changes nothing. The error
// is [ErrMissing] if the database existed at an earlier start and does not now.
func Inspect(ctx context.Context, path, agreed string) (r Report, err error) {
	defer func() { err = explain(path, err) }()
	if err := Vanished(path); err != nil {
		return r, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return r, err
	case info.Size() == 0:
		return r, nil // a first start was interrupted
	}
	r.Exists = true
	db, err := openToLook(path)
	if err != nil {
		return r, err
	}
	defer db.Close()
	var tables int
	err = db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'agreed'`).Scan(&tables)
	if err != nil || tables == 0 { // an older version, which stored nothing
		return r, err
	}
	if r.Imports, err = unfinishedImports(ctx, db); err != nil {
		return r, fmt.Errorf("read which imports are not finished: %w", err)
	}
	err = db.QueryRowContext(ctx, selectAgreed, agreed).Scan(&r.Agreed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r, nil
	case err != nil:
		return r, fmt.Errorf("read what was agreed on: %w", err)
	}
	r.Known = true
	return r, nil
}

func unfinishedImports(ctx context.Context, db *sql.DB) ([]auth.Event, error) {
	rows, err := db.QueryContext(ctx, `SELECT `+eventColumns+` FROM events WHERE account = '' AND kind IN (?, ?) ORDER BY seq DESC LIMIT ?`,
		string(auth.ImportBegun), string(auth.ImportFinished), auth.ImportsLookedAt)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []auth.Event
	for rows.Next() {
		var e auth.Event
		if err := rows.Scan(eventFields(&e)...); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return auth.UnfinishedImports(events), rows.Err()
}

// openToLook opens a database read-only; a gateway may be using it.
func openToLook(path string) (*sql.DB, error) {
	q := url.Values{"mode": {"ro"}, "_busy_timeout": {"5000"}, "_query_only": {"1"}}
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		// The database is not in use: then reading must not create the files beside it,
		// which might belong to another user.
		q.Set("immutable", "1")
	}
	return sql.Open("sqlite", dsn(path, q))
}
