package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"congthu/auth"
	"congthu/auth/password"
	"congthu/auth/postgres"
	"congthu/auth/sqlite"
	"congthu/gateway/config"
)

// slowJourney is the round-trip time to the database from which users notice a delay at
// every login.
const slowJourney = 10 * time.Millisecond

// store checks the database, if there is one, and changes nothing in it.
func (k *check) store(ctx context.Context) {
	if k.config.Store.Driver != config.StorePostgres {
		k.sqlite(ctx)
		return
	}
	r, err := postgres.Inspect(ctx, postgresOptions(k.config), pepper)
	if err != nil {
		k.say("failed", "store", strings.Join(strings.Fields(err.Error()), " ")) // otherwise the error has one line for each host
		return
	}
	k.say("ok", "store", trf("PostgreSQL %s answers in %s; %s", r.Server, milliseconds(r.Latency), gateways(r)))
	switch {
	case r.Schema == r.Newest:
		k.say("ok", "store", trf("schema version %d", r.Schema))
	case !r.MayCreate:
		k.say("failed", "store", trf("schema version %d, %d is needed, and the user may not make tables: ALTER DATABASE ... OWNER TO the gateway's user, or GRANT CREATE ON SCHEMA public", r.Schema, r.Newest))
	case r.Schema == 0:
		k.say("ok", "store", "empty: the first gateway that starts makes the tables")
	default:
		k.say("warning", "store", trf("schema version %d: the next gateway that starts brings it to %d, and older gateways do not start any more. Make a backup first: pg_dump", r.Schema, r.Newest))
	}
	settings := fmt.Sprintf("fsync %s, full_page_writes %s, synchronous_commit %s", r.Fsync, r.FullPageWrites, r.SynchronousCommit)
	if r.Standbys != "" {
		settings += trf(", synchronous standbys %s", r.Standbys)
	}
	if r.Durable() {
		k.say("ok", "store", settings)
	} else {
		k.say("failed", "store", trf("%s: a crash of the server would lose locks and failures that were confirmed. Switch on what is off in postgresql.conf, and take synchronous_commit out of the connection string", settings))
	}
	k.session(r)
	if !r.Local && !r.Encrypted {
		k.say("warning", "store", "the connection has no TLS: use one with sslmode=verify-full, or none that leaves this machine")
	}
	if r.Latency > slowJourney {
		k.say("warning", "store", "the server is far: a login takes up to six journeys. Put the gateways near it")
	}
	if others := len(r.Gateways); r.Wanted*(others+1) > r.MaxConnections {
		k.say("warning", "store", trf("the server takes %d connections, %d gateways may open %d each: raise max_connections there, or lower store.postgres.max_connections", r.MaxConnections, others+1, r.Wanted))
	}
	k.rules(r)
	k.imports(r.Imports)
	k.pepper(ctx, r.Agreed, r.Agreed != "")
}

// session checks that a connection gets the configured settings and keeps them;
// [postgres.Inspect] refuses a pooler that does not keep sessions at all.
func (k *check) session(r postgres.Report) {
	bounds := fmt.Sprintf("statement_timeout %s, lock_timeout %s, idle_in_transaction_session_timeout %s", r.StatementTimeout, r.LockTimeout, r.IdleInTransactionTimeout)
	switch {
	case len(r.Ignored) > 0:
		k.say("failed", "store", trf("%s: what the gateway has set is not in force: %s. A pooler in between undoes it: connect to PostgreSQL without it", bounds, strings.Join(r.Ignored, ", ")))
	case r.StatementTimeout == "0" || r.LockTimeout == "0" || r.IdleInTransactionTimeout == "0":
		k.say("warning", "store", trf("%s: 0 is no limit, and logins wait for as long as the server hangs: take it out of the connection string", bounds))
	default:
		k.say("ok", "store", bounds)
	}
	if !r.Pooler {
		return
	}
	gateways := len(r.Gateways) + 1
	k.say("ok", "store", trf("a pooler is in between and keeps the session of each connection; it must have room for %d connections (default_pool_size of PgBouncer, which is 20 if nobody sets it): %d gateways may open %d each",
		r.Wanted*gateways, gateways, r.Wanted))
	if r.Deaf {
		k.say("warning", "store", trf("no notice (NOTIFY) comes through the pooler: what other gateways do is seen up to %s later", k.config.Store.Postgres.Poll))
	}
}

// rules checks that a gateway with this configuration may run beside the others.
func (k *check) rules(r postgres.Report) {
	agreed, err := auth.ParseAgreement(r.Rules)
	if err != nil {
		k.say("failed", "rules", err.Error())
		return
	}
	differences := k.config.Agreement().Differences(agreed)
	switch {
	case len(agreed) == 0:
		k.say("ok", "rules", "the next gateway that starts writes down what all must have in common")
	case len(differences) == 0:
		k.say("ok", "rules", "those that the gateways have agreed on")
	case k.others(r):
		k.say("failed", "rules", (&auth.Disagreement{Differences: differences}).Error())
	default:
		var texts []string
		for _, d := range differences {
			texts = append(texts, d.String())
		}
		k.say("warning", "rules", trf("%s: a gateway that is alone makes its own rules the agreed ones, and beside another one it does not start", strings.Join(texts, "; ")))
	}
}

// others reports whether gateways run besides the one of this machine, to which this
// configuration belongs.
func (k *check) others(r postgres.Report) bool {
	host, err := os.Hostname()
	return err != nil || len(r.Gateways) > 1 || len(r.Gateways) == 1 && !strings.HasPrefix(r.Gateways[0], host+":")
}

// sqlite checks the database file, which a gateway may be using at the moment.
func (k *check) sqlite(ctx context.Context) {
	path := k.config.Store.Path
	r, err := sqlite.Inspect(ctx, path, pepper)
	switch {
	case err != nil:
		k.say("failed", "store", err.Error())
		return
	case !r.Exists:
		k.say("ok", "store", trf("%s: there is none yet, the first start makes it", path))
	default:
		k.say("ok", "store", path)
	}
	k.imports(r.Imports)
	k.pepper(ctx, r.Agreed, r.Known)
}

// imports reports imports that stopped before their end.
func (k *check) imports(begun []auth.Event) {
	for _, e := range begun {
		list, _ := e.List()
		k.say("warning", "import", trf("of %d accounts, begun on %s by %s (%s), is not finished: unless it goes on at the moment, import the same list again (SHA-256 %s). What is there already is left as it is",
			list.Accounts, e.At.In(k.config.Regulation.TimeZone).Format("2006-01-02 15:04"), clean(e.Actor), clean(e.Reason), clean(list.Digest)))
	}
}

// pepper checks that fingerprints made with this key match those in the store. agreed
// is the mark of the key in the store; known reports whether there is one.
func (k *check) pepper(ctx context.Context, agreed string, known bool) {
	file := k.config.Store.PepperFile
	fingerprints, err := password.Read(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && known:
		k.say("failed", "pepper", trf("%s is missing, and the store was used with one: the gateway does not start. "+
			"Copy it from the backup or from another gateway, with its mode 0600", file))
		return
	case errors.Is(err, fs.ErrNotExist):
		return // the first gateway creates it
	case err != nil:
		k.say("failed", "pepper", err.Error())
		return
	}
	mark, err := pepperMark(ctx, fingerprints)
	switch {
	case err != nil:
		k.say("failed", "pepper", err.Error())
	case agreed != "" && agreed != mark:
		k.say("failed", "pepper", trf("%s is not the one that the store was used with: the gateway does not start. "+
			"Copy it from the backup or from another gateway, with its mode 0600. Otherwise every login would look like a change of the password", file))
	default:
		k.say("ok", "pepper", file)
	}
}

func gateways(r postgres.Report) string {
	if len(r.Gateways) == 0 {
		return tr("no gateway uses it at the moment")
	}
	return trf("used by %s", strings.Join(r.Gateways, ", "))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}
