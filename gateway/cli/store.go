package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"congthu/auth"
	"congthu/auth/password"
	"congthu/auth/postgres"
	"congthu/auth/sqlite"
	"congthu/gateway"
	"congthu/gateway/config"
)

// openStore opens the configured store and gives it to the gateway, with all that
// belongs to it.
func openStore(ctx context.Context, c *config.Config, g *gateway.Gateway, counts observer) (closeStore func() error, err error) {
	if c.Store.Driver == config.StoreSQLite {
		store, err := sqlite.Open(ctx, sqlite.Options{
			Path: c.Store.Path, MaxUnknown: c.Store.MaxUnknownNames, Log: g.Log, Recorder: counts,
		})
		if err != nil {
			return nil, err
		}
		if g.Fingerprints, err = openPepper(ctx, store, c.Store.PepperFile, howToForgetIn(c)); err != nil {
			return nil, errors.Join(err, store.Close())
		}
		g.Store = store
		return store.Close, nil
	}
	o := postgresOptions(c)
	o.Log, o.Recorder = g.Log, counts
	var now func() time.Time
	opened := make(chan struct{})
	o.ReservationExpired = func(a *auth.Account) ([]auth.Event, bool) {
		<-opened // the store's goroutines may start before Open returns
		rules, running := g.Rules()
		if !running {
			rules = c.Rules()
		}
		return rules.ReservationExpired(a, now())
	}
	store, err := postgres.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	now = store.Now
	close(opened)
	if g.Fingerprints, err = openPepper(ctx, store, c.Store.PepperFile, howToForgetIn(c)); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	g.Store, g.Now, g.Changes, g.Shared = store, store.Now, store.Changes, store
	return store.Close, nil
}

// postgresOptions returns the database settings of the configuration.
func postgresOptions(c *config.Config) postgres.Options {
	p := c.Store.Postgres
	return postgres.Options{
		DSN: p.DSN.Reveal(), MaxUnknown: c.Store.MaxUnknownNames, Lease: p.Lease,
		MaxConns: p.MaxConnections, ConnectTimeout: p.ConnectTimeout, StatementTimeout: p.StatementTimeout, LockTimeout: p.LockTimeout,
		// This is shorter than lock_timeout of the others, so that a gateway that loses
		// power within a transaction does not make theirs fail.
		IdleInTransactionTimeout: p.LockTimeout * 3 / 4,
		Poll:                     p.Poll,
	}
}

// pepper is the key under which all gateways on one store agree on the pepper.
const pepper = "pepper"

// agreement is the part of a store that keeps what its gateways agreed on.
type agreement interface {
	Agree(ctx context.Context, what, value string) error
	Agreed(ctx context.Context, what string) (value string, known bool, err error)
}

// errPepper reports that the key for the fingerprints in the store is missing or
// different.
var errPepper = sentence("the key of the password fingerprints is not the one that the store was used with")

// openPepper reads the key that made the fingerprints in the store, and creates one for
// a store without any. With a different key each login would look like a change of the
// password: its age (Art. 9) would begin anew, and with several gateways this would
// repeat at every login. So a missing or different key stops the start. openPepper
// leaves no new key behind in that case: a later start would take it for the right one.
func openPepper(ctx context.Context, store agreement, file, forget string) (*password.Fingerprinter, error) {
	fingerprints, err := password.Read(file)
	made := false
	if errors.Is(err, fs.ErrNotExist) {
		_, known, failed := store.Agreed(ctx, pepper)
		switch {
		case failed != nil:
			return nil, failed
		case known:
			return nil, errorf("%w: %s is missing: %s", errPepper, file, howToHavePepper(file, forget))
		}
		fingerprints, made, err = password.Make(file)
	}
	if err != nil {
		return nil, err
	}
	mark, err := pepperMark(ctx, fingerprints)
	if err == nil {
		err = store.Agree(ctx, pepper, mark)
	}
	if err == nil {
		return fingerprints, nil
	}
	if made {
		err = errors.Join(err, os.Remove(file)) // another gateway was faster
	}
	if errors.Is(err, auth.ErrDisagreement) {
		return nil, fmt.Errorf("%w: %s: %s", errPepper, file, howToHavePepper(file, forget))
	}
	return nil, err
}

func howToHavePepper(file, forget string) string {
	return trf("copy %s from the backup, or from a gateway that runs, with its mode 0600, and start again. "+
		"If every copy is lost: %s; the next start makes a new key, and the age of every password begins anew", file, forget)
}

// howToForgetIn returns the command that makes a store forget its key.
func howToForgetIn(c *config.Config) string {
	const statement = `"DELETE FROM agreed WHERE what = '` + pepper + `'"`
	if c.Store.Driver == config.StorePostgres {
		return "psql DATABASE -c " + statement
	}
	return "sqlite3 " + c.Store.Path + " " + statement
}

// pepperMark returns a value that identifies a pepper without revealing it: finding the
// pepper from it costs one fingerprint for each of 2^256 candidates.
func pepperMark(ctx context.Context, fingerprints auth.Fingerprinter) (string, error) {
	mark, err := fingerprints.Fingerprint(ctx, []byte("congthu: one pepper for all"), auth.NewSecret("congthu"))
	return hex.EncodeToString(mark), err
}
