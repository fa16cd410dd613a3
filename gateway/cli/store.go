package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"congthu/auth"
	"congthu/auth/postgres"
	"congthu/auth/sqlite"
	"congthu/gateway"
	"congthu/gateway/config"
)

// openStore opens the store that the configuration names, and gives it to the
// gateway with all that comes with it.
func openStore(ctx context.Context, c *config.Config, g *gateway.Gateway, counts observer) (closeStore func() error, err error) {
	if c.Store.Driver == config.StoreSQLite {
		store, err := sqlite.Open(ctx, sqlite.Options{
			Path: c.Store.Path, MaxUnknown: c.Store.MaxUnknownNames, Log: g.Log, Recorder: counts,
		})
		if err != nil {
			return nil, err
		}
		g.Store = store
		return store.Close, nil
	}
	o := postgresOptions(c)
	o.Log, o.Recorder = g.Log, counts
	var now func() time.Time
	opened := make(chan struct{})
	o.Expired = func(a *auth.Account) ([]auth.Event, bool) {
		<-opened // the store's goroutines may be quicker than Open
		rules, running := g.Rules()
		if !running {
			rules = c.Rules()
		}
		return rules.Lapsed(a, now())
	}
	store, err := postgres.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	now = store.Now
	close(opened)
	if err := agreeOnPepper(ctx, store, g.Fingerprints, c.Store.PepperFile); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	g.Store, g.Now, g.Changes = store, store.Now, store.Changes
	return store.Close, nil
}

// postgresOptions are what the configuration says of the database.
func postgresOptions(c *config.Config) postgres.Options {
	p := c.Store.Postgres
	return postgres.Options{
		DSN: p.DSN.Reveal(), MaxUnknown: c.Store.MaxUnknownNames, Lease: p.Lease,
		MaxConns: p.MaxConnections, ConnectTimeout: p.ConnectTimeout, StatementTimeout: p.StatementTimeout, LockTimeout: p.LockTimeout,
		// Shorter than the wait of the others, so that a gateway which loses its
		// power within a transaction makes none of theirs fail.
		IdleInTransactionTimeout: p.LockTimeout * 3 / 4,
		Poll:                     p.Poll,
	}
}

// pepper is the name of what gateways on one database agree on.
const pepper = "pepper"

// agreeOnPepper makes sure that all gateways on the database make the same
// fingerprints. With peppers of their own each would take a login through
// another one for a change of the password: its age (Art. 9) would begin anew
// every time, and never end.
func agreeOnPepper(ctx context.Context, store *postgres.Store, fingerprints auth.Fingerprinter, file string) error {
	mark, err := pepperMark(ctx, fingerprints)
	if err != nil {
		return err
	}
	err = store.Agree(ctx, pepper, mark)
	if errors.Is(err, postgres.ErrDisagreement) {
		return fmt.Errorf("%w: copy %s from a gateway that runs, with its mode 0600, and start again; if all copies are lost: DELETE FROM agreed WHERE what = '%s'", err, file, pepper)
	}
	return err
}

// pepperMark tells one pepper from another and gives neither away: it costs as
// much to search through as any fingerprint, and 2^256 of them.
func pepperMark(ctx context.Context, fingerprints auth.Fingerprinter) (string, error) {
	mark, err := fingerprints.Fingerprint(ctx, []byte("congthu: one pepper for all"), auth.NewSecret("congthu"))
	return hex.EncodeToString(mark), err
}
