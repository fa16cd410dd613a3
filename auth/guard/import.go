package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"congthu/auth"
)

// Importation is the result of an import, or of a dry run.
type Importation struct {
	// New is the number of names that became accounts, Changed that of accounts that
	// were changed, Unchanged that of accounts that the list describes as they were.
	New, Changed, Unchanged int
	// SeenHere is the number of accounts whose password date in the list was ignored,
	// since a gateway has seen the password itself.
	SeenHere int
	// Looked is the number of accounts that are done: all of them, unless there was an
	// error.
	Looked int
	// Resumed is whether an earlier import of the same list was begun and not
	// finished. Interrupted are the events that began unfinished imports of other
	// lists, which were interrupted or still run at another gateway.
	Resumed     bool
	Interrupted []auth.Event
	// Events has one event for each account that changes, in the order of the list.
	// The store sets their numbers and hashes.
	Events []auth.Event
	// States counts the accounts of the list by their state afterwards.
	States map[auth.State]int
}

// ImportOptions are the options of an import.
type ImportOptions struct {
	// Digest is the SHA-256 of the list as it was sent, in hexadecimal. It identifies
	// the list when it is imported again.
	Digest string
	// Dry changes nothing and returns what would change. It needs no reason.
	Dry bool
	// Progress is called with the number of accounts that are done; may be nil.
	Progress func(done int)
}

// importBatch is the number of accounts in one transaction. Other writers wait for at
// most one batch, about 10 ms.
const importBatch = 100

// Import imports a list of accounts, which contains each account at most once. It
// changes the accounts in batches, each a transaction, with pauses as long as the batch
// took: half of the writer's time is left to logins. The audit log has an event of the
// beginning before the first batch, and one of the end after the last.
//
// After an error the earlier batches stay written, and the result describes those. To
// finish, import the same list again: it changes nothing there and does the rest. Each
// account then has one event, as after an import that was not interrupted.
func (g *Guard) Import(ctx context.Context, into auth.Importer, list []auth.Imported, act auth.Act, o ImportOptions) (Importation, error) {
	g.init()
	if !o.Dry && strings.TrimSpace(act.Reason) == "" {
		return Importation{}, auth.ErrReasonMissing
	}
	i := importing{
		Guard: g, into: into, act: act, ImportOptions: o, rules: g.Rules(), now: g.now(),
		list: make(map[auth.Name]auth.Imported, len(list)), done: Importation{States: make(map[auth.State]int)},
	}
	names := make([]auth.Name, len(list))
	for n, from := range list {
		if _, twice := i.list[from.Name]; twice {
			return Importation{}, fmt.Errorf("%w: an account is twice in the list", auth.ErrOutOfRange)
		}
		i.list[from.Name], names[n] = from, from.Name
	}
	which := auth.ListMark{Accounts: len(list), Digest: o.Digest}
	interrupted, err := UnfinishedImports(ctx, into)
	if err != nil {
		return Importation{}, err
	}
	for _, e := range interrupted {
		if other, _ := e.List(); other.Digest == o.Digest {
			i.done.Resumed = true
		} else {
			i.done.Interrupted = append(i.done.Interrupted, e)
		}
	}
	if err := i.tell(ctx, auth.ImportBegun, which, "begun"); err != nil {
		return i.done, err
	}
	for batch := range slices.Chunk(names, importBatch) {
		began := time.Now()
		if err := i.batch(ctx, batch); err != nil {
			return i.done, err
		}
		if i.done.Looked == len(list) {
			break
		}
		// Pause waits three times its argument.
		if err := auth.Pause(ctx, time.Since(began)/3); err != nil {
			return i.done, err
		}
	}
	return i.done, i.tell(ctx, auth.ImportFinished, which,
		fmt.Sprintf("%d new, %d changed, %d as before", i.done.New, i.done.Changed, i.done.Unchanged))
}

// UnfinishedImports reads from the audit log which imports were begun and not finished;
// see [auth.UnfinishedImports].
func UnfinishedImports(ctx context.Context, log auth.EventReader) ([]auth.Event, error) {
	events, err := log.Events(ctx, auth.EventFilter{Kinds: []auth.EventKind{auth.ImportBegun, auth.ImportFinished}, Limit: auth.ImportsLookedAt})
	if err != nil {
		return nil, fmt.Errorf("read which imports are not finished: %w", err)
	}
	return auth.UnfinishedImports(events), nil
}

// importing is one call of Import.
type importing struct {
	*Guard
	ImportOptions
	into  auth.Importer
	list  map[auth.Name]auth.Imported
	act   auth.Act
	rules auth.Rules
	now   time.Time
	done  Importation
}

// tell writes the event of the beginning or of the end.
func (i *importing) tell(ctx context.Context, kind auth.EventKind, which auth.ListMark, after string) error {
	if i.Dry {
		return nil
	}
	e := auth.Event{
		At: i.Guard.now(), Kind: kind, Actor: i.act.Actor, Source: i.act.Source,
		Before: which.String(), After: after, Reason: i.act.Reason,
	}
	if _, err := i.storeUpdate(ctx, "", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true }); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	i.recordEvents([]auth.Event{e}, false)
	return nil
}

// batch imports some accounts in one transaction.
func (i *importing) batch(ctx context.Context, names []auth.Name) error {
	type result struct {
		events        []auth.Event
		new, seenHere bool
		state         auth.State
	}
	results := make(map[auth.Name]result, len(names)) // of the latest run for each name
	ctx, cancel := context.WithTimeout(ctx, i.storeTimeout())
	defer cancel()
	err := i.into.UpdateBatch(ctx, names, func(a *auth.Account) ([]auth.Event, bool) {
		name, from := a.Name, i.list[a.Name]
		was := *a
		events, write := i.rules.Import(a, from, i.now, i.act)
		results[name] = result{
			events: events, new: !was.Known(), state: i.rules.State(*a, i.now),
			seenHere: !from.PasswordChanged.IsZero() && len(was.Password.Known) > 0 &&
				!auth.NormalizeTime(from.PasswordChanged).Equal(was.Password.Since),
		}
		return events, write && !i.Dry
	})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	i.noteContact()
	for _, name := range names {
		r := results[name]
		switch {
		case len(r.events) == 0:
			i.done.Unchanged++
		case r.new:
			i.done.New++
		default:
			i.done.Changed++
		}
		if r.seenHere {
			i.done.SeenHere++
		}
		i.done.States[r.state]++
		i.done.Events = append(i.done.Events, r.events...)
		if !i.Dry {
			i.recordEvents(r.events, true)
		}
	}
	i.done.Looked += len(names)
	if i.Progress != nil {
		i.Progress(i.done.Looked)
	}
	return nil
}
