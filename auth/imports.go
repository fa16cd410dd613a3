package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Imported is what a list kept elsewhere says of one account. Zero fields say
// nothing: what is known stays.
type Imported struct {
	Name Name
	Unit string
	// Registered is when the mailbox was given out, LastLogin when it was last
	// logged in to by whatever door, PasswordChanged when its password was set.
	Registered, LastLogin, PasswordChanged time.Time
}

// Importer is a store that can change many accounts as one.
type Importer interface {
	// UpdateAll changes the accounts of these names, which differ from each
	// other, and appends the events, in the order of the names, all in one
	// transaction, and returns how many accounts were written when that is on
	// disk. When it fails nothing was written, unless the error is of a commit
	// whose outcome is not known: then all or nothing.
	//
	// change is run for each name, perhaps more than once, by one goroutine at
	// a time, never after UpdateAll has returned, and must depend on nothing
	// but its argument. Where it reports false the account stays as it is. A
	// change that panics is the error of the whole.
	//
	// Other callers wait for the transaction only, not for what can be done
	// before it. One that they would wait for in vain is ErrTooMany.
	UpdateAll(ctx context.Context, names []Name, change Change) (written int, err error)
}

// ErrTooMany: so many accounts at once would have kept others waiting for too
// long; nothing was changed.
var ErrTooMany = errors.New("too many accounts at once")

// Import merges what a list says into what is known of an account; the name
// becomes an account with it. What is known is corrected in one direction only,
// so that neither an old list nor the same list again does any harm:
//
//   - registered is the earliest of what is known and what the list says; a
//     login is proof that there was an account. A new account of which the list
//     says neither is registered now, and its 12 months begin (Art. 5.3.c).
//   - the last login is the latest; it never goes back.
//   - the age of the password is the list's while no fingerprint of it was seen
//     here, and what an earlier list said is older. What this gateway has seen
//     of a password itself is better evidence (Art. 9).
//   - the unit is replaced.
//
// Failures, locks, revocations and grace stay: an import releases nothing.
func (r Rules) Import(a *Account, from Imported, now time.Time, act Act) (events []Event, write bool) {
	var before, after []string
	set := func(what string, field *time.Time, t time.Time) {
		if !field.IsZero() {
			before = append(before, what+" "+r.Instant(*field))
		}
		after = append(after, what+" "+r.Instant(t))
		*field = t
	}
	known := a.Known()
	if !known {
		before = append(before, "no account")
	}
	if unit := normalText(from.Unit); unit != "" && unit != a.Unit {
		if a.Unit != "" {
			before = append(before, "unit "+a.Unit)
		}
		after = append(after, "unit "+unit)
		a.Unit = unit
	}
	registered := earlier(normalTime(from.Registered), normalTime(from.LastLogin))
	if registered.IsZero() && !known {
		registered = normalTime(now)
	}
	if !registered.IsZero() && (!known || registered.Before(a.Registered)) {
		set("registered", &a.Registered, registered)
	}
	if login := normalTime(from.LastLogin); login.After(a.LastLogin) {
		set("last login", &a.LastLogin, login)
	}
	if changed := normalTime(from.PasswordChanged); changed.After(a.Password.Since) && len(a.Password.Known) == 0 {
		set("password since", &a.Password.Since, changed)
	}
	if len(after) == 0 {
		return nil, false
	}
	return []Event{{
		Kind: AccountImported, Account: a.Name, At: now, Actor: act.Actor, Source: act.Source,
		Before: strings.Join(before, ", "), After: strings.Join(after, ", "), Reason: act.Reason,
	}}, true
}

// earlier returns the earlier of two instants, of which either may be none.
func earlier(s, t time.Time) time.Time {
	if s.IsZero() || !t.IsZero() && t.Before(s) {
		return t
	}
	return s
}

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
	Events []Event
	// States counts the accounts of the list by their state afterwards.
	States map[State]int
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
func (g *Guard) Import(ctx context.Context, into Importer, list []Imported, act Act, o ImportOptions) (Importation, error) {
	g.init()
	if !o.Dry && strings.TrimSpace(act.Reason) == "" {
		return Importation{}, ErrReasonMissing
	}
	type result struct {
		events   []Event
		new      bool
		seenHere bool
		state    State
	}
	rules, now := g.Rules(), g.now()
	places := make(map[Name]int, len(list))
	names := make([]Name, len(list))
	for i, from := range list {
		if _, twice := places[from.Name]; twice {
			return Importation{}, fmt.Errorf("%w: an account is twice in the list", ErrOutOfRange)
		}
		places[from.Name], names[i] = i, from.Name
	}
	results := make([]result, len(list)) // of the latest run for each
	looked := 0
	_, err := into.UpdateAll(ctx, names, func(a *Account) ([]Event, bool) {
		i := places[a.Name]
		was := *a
		events, write := rules.Import(a, list[i], now, act)
		results[i] = result{
			events: events, new: !was.Known(), state: rules.State(*a, now),
			seenHere: !list[i].PasswordChanged.IsZero() && len(was.Password.Known) > 0 &&
				!normalTime(list[i].PasswordChanged).Equal(was.Password.Since),
		}
		if looked++; o.Progress != nil {
			o.Progress(min(looked, len(list)))
		}
		return events, write && !o.Dry
	})
	if err != nil {
		return Importation{}, fmt.Errorf("store: %w", err)
	}
	done := Importation{States: make(map[State]int)}
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

// ErrAlias: the address is another name of an account.
var ErrAlias = errors.New("alias")

// Own returns the account that has this very address. Unlike [Namer.Canonical]
// it takes neither a name without a domain nor a subaddress, and an alias is the
// error [ErrAlias] together with the account that it stands for: in a list of
// accounts each of these is a mistake. Where the mail server does not tell domains
// apart, the account has its address in each of them.
func (n *Namer) Own(address string) (Name, error) {
	local, _, qualified := cutLast(address)
	if !qualified || strings.ContainsRune(local, '+') {
		return "", ErrMalformedName
	}
	name, err := n.address(address)
	if err != nil {
		return "", err
	}
	if account := n.account(name); account != n.inDefault(name) {
		return account, ErrAlias
	}
	return n.inDefault(name), nil
}

// Own returns the account that has this very address; see [Namer.Own].
func (g *Guard) Own(address string) (Name, error) {
	return g.policy.Load().Names.Own(address)
}
