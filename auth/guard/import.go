package guard

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"congthu/auth"
)

// Importation is what an import has done, or would do.
type Importation struct {
	// New are names that became accounts, Changed accounts of which something
	// else is known now, Unchanged those that were so before.
	New, Changed, Unchanged int
	// SeenHere are accounts whose password date was left aside, since this
	// gateway has seen the password itself.
	SeenHere int
	// Looked counts the accounts that are done: all of them, unless there was an
	// error.
	Looked int
	// Resumed is whether an import of the same list was begun before and not
	// finished, Interrupted are the beginnings of those of other lists, which were
	// interrupted or go on at another gateway.
	Resumed     bool
	Interrupted []auth.Event
	// Events tell of each account that changes, in the order of the list.
	// Their numbers and hashes are the store's.
	Events []auth.Event
	// States counts the accounts of the list by their state afterwards.
	States map[auth.State]int
}

// ImportOptions say how a list is taken over.
type ImportOptions struct {
	// Digest is the SHA-256 of the list as it was sent, hexadecimal: by it the same
	// list is known again.
	Digest string
	// Dry changes nothing and tells what would change. It needs no reason.
	Dry bool
	// Progress is called with the number of accounts that are done; may be nil.
	Progress func(done int)
}

// importBatch is how many accounts share a transaction. Whoever else writes waits
// for at most one, some 10 ms.
const importBatch = 100

// Import takes over a list of accounts, each at most once in it. The accounts are
// changed in batches, each a transaction, with rests in between as long as the
// batch took: half of the writer's time is left to logins. The audit log tells of
// the beginning before the first batch, and of the end after the last.
//
// An error leaves the batches before it made, and the result tells of those. The
// same list again finds nothing to do there and does the rest: each account has
// one event, as after an import that was not interrupted.
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
		// Pause waits three times as long as it is told.
		if err := auth.Pause(ctx, time.Since(began)/3); err != nil {
			return i.done, err
		}
	}
	return i.done, i.tell(ctx, auth.ImportFinished, which,
		fmt.Sprintf("%d new, %d changed, %d as before", i.done.New, i.done.Changed, i.done.Unchanged))
}

// UnfinishedImports reads from the audit log which imports were begun and are not
// finished; see [auth.UnfinishedImports].
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

// tell writes the beginning or the end into the audit log.
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
	i.happened([]auth.Event{e}, false)
	return nil
}

// batch takes over some accounts in one transaction.
func (i *importing) batch(ctx context.Context, names []auth.Name) error {
	type result struct {
		events        []auth.Event
		new, seenHere bool
		state         auth.State
	}
	results := make(map[auth.Name]result, len(names)) // of the latest run for each
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
	i.reached()
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
			i.happened(r.events, true)
		}
	}
	i.done.Looked += len(names)
	if i.Progress != nil {
		i.Progress(i.done.Looked)
	}
	return nil
}
