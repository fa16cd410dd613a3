package guard

import (
	"context"
	"fmt"
	"strings"

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
	// Events tell of each account that changes, in the order of the list.
	// Their numbers and hashes are the store's.
	Events []auth.Event
	// States counts the accounts of the list by their state afterwards.
	States map[auth.State]int
}

// ImportOptions say how a list is taken over.
type ImportOptions struct {
	// Dry changes nothing and tells what would change. It needs no reason.
	Dry bool
	// Progress is told how many accounts have been looked at; nil: nobody is.
	Progress func(looked int)
}

// Import takes over a list of accounts, each at most once in it: all of it in
// one transaction, or nothing. Run again it finds nothing to do.
func (g *Guard) Import(ctx context.Context, into auth.Importer, list []auth.Imported, act auth.Act, o ImportOptions) (Importation, error) {
	g.init()
	if !o.Dry && strings.TrimSpace(act.Reason) == "" {
		return Importation{}, auth.ErrReasonMissing
	}
	type result struct {
		events   []auth.Event
		new      bool
		seenHere bool
		state    auth.State
	}
	rules, now := g.Rules(), g.now()
	places := make(map[auth.Name]int, len(list))
	names := make([]auth.Name, len(list))
	for i, from := range list {
		if _, twice := places[from.Name]; twice {
			return Importation{}, fmt.Errorf("%w: an account is twice in the list", auth.ErrOutOfRange)
		}
		places[from.Name], names[i] = i, from.Name
	}
	results := make([]result, len(list)) // of the latest run for each
	looked := 0
	_, err := into.UpdateAll(ctx, names, func(a *auth.Account) ([]auth.Event, bool) {
		i := places[a.Name]
		was := *a
		events, write := rules.Import(a, list[i], now, act)
		results[i] = result{
			events: events, new: !was.Known(), state: rules.State(*a, now),
			seenHere: !list[i].PasswordChanged.IsZero() && len(was.Password.Known) > 0 &&
				!auth.NormalizeTime(list[i].PasswordChanged).Equal(was.Password.Since),
		}
		if looked++; o.Progress != nil {
			o.Progress(min(looked, len(list)))
		}
		return events, write && !o.Dry
	})
	if err != nil {
		return Importation{}, fmt.Errorf("store: %w", err)
	}
	done := Importation{States: make(map[auth.State]int)}
	for _, r := range results {
		switch {
		case len(r.events) == 0:
			done.Unchanged++
		case r.new:
			done.New++
		default:
			done.Changed++
		}
		if r.seenHere {
			done.SeenHere++
		}
		done.States[r.state]++
		done.Events = append(done.Events, r.events...)
	}
	if !o.Dry {
		g.reached()
		g.happened(done.Events, true)
	}
	return done, nil
}
