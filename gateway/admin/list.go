package admin

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"congthu/auth"
)

// maxScanned limits the accounts that are read for one page: if few match, the page is
// short and has a cursor.
const maxScanned = 20_000

type listInput struct {
	State  string `query:"state" doc:"Only accounts in this state."`
	Q      string `query:"q" maxLength:"320" doc:"Only accounts whose name contains this, without regard to case."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most this many."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next of the page before."`
}

type listOutput struct{ Body AccountList }

// pageAfter returns the name after which a page begins. The error is a problem of the
// cursor or of the search text.
func pageAfter(cursor, q string) (after auth.Name, err error) {
	after, err = decodeCursor(cursor)
	if err != nil {
		return "", problem(http.StatusUnprocessableEntity, "validation failed", plain("query.cursor", err.Error()))
	}
	if !utf8.ValidString(q) || strings.ContainsFunc(q, unicode.IsControl) {
		return "", invalid("query.q", "must be printable text")
	}
	return after, nil
}

func (s *Server) listAccounts(ctx context.Context, in *listInput) (*listOutput, error) {
	after, err := pageAfter(in.Cursor, in.Q)
	if err != nil {
		return nil, err
	}
	rules, now := s.Guard.Rules(), s.now()
	keep := func(a auth.Account) bool {
		return a.Known() && (in.State == "" || rules.State(a, now).String() == in.State)
	}
	filters := candidates(in.State, rules, now)
	for i := range filters {
		filters[i].Contains = in.Q
	}
	accounts, next, err := page(ctx, s.Accounts, filters, after, in.Limit, keep)
	if err != nil {
		return nil, s.storeFailed("list accounts", err)
	}
	body := AccountList{Accounts: make([]Summary, 0, len(accounts)), Next: encodeCursor(next)}
	for _, a := range accounts {
		body.Accounts = append(body.Accounts, s.summary(a, rules, now))
	}
	return &listOutput{body}, nil
}

// UnknownName is a name without any login that was not imported either.
type UnknownName struct {
	Name     string    `json:"name" doc:"May be a password that somebody has typed in the wrong place."`
	Failures int       `json:"failures" doc:"Wrong passwords."`
	Locked   *Lock     `json:"locked,omitempty" doc:"Left out when it is not locked."`
	Mistakes []Mistake `json:"mistakes" nullable:"false" doc:"The latest wrong passwords, oldest first, at most 8."`
}

// UnknownNameList is one page of unknown names.
type UnknownNameList struct {
	Names []UnknownName `json:"unknown_names" nullable:"false"`
	Next  string        `json:"next,omitempty" doc:"The cursor of the next page; left out on the last. A page may be short, even empty, and have a next one."`
}

type unknownInput struct {
	Locked bool   `query:"locked" doc:"Only names that are locked."`
	Q      string `query:"q" maxLength:"320" doc:"Only names that contain this, without regard to case."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most this many."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next of the page before."`
}

type unknownOutput struct{ Body UnknownNameList }

// listUnknown lists the names without any login. Counters shared by several such names
// are left out.
func (s *Server) listUnknown(ctx context.Context, in *unknownInput) (*unknownOutput, error) {
	after, err := pageAfter(in.Cursor, in.Q)
	if err != nil {
		return nil, err
	}
	rules, now := s.Guard.Rules(), s.now()
	keep := func(a auth.Account) bool {
		return !a.Known() && !a.Name.Shared() && (!in.Locked || rules.Locked(a, now))
	}
	names, next, err := page(ctx, s.Accounts, []auth.Filter{{Unknown: true, Locked: in.Locked, Contains: in.Q}}, after, in.Limit, keep)
	if err != nil {
		return nil, s.storeFailed("list names", err)
	}
	body := UnknownNameList{Names: make([]UnknownName, 0, len(names)), Next: encodeCursor(next)}
	for _, a := range names {
		shown := s.summary(a, rules, now)
		body.Names = append(body.Names, UnknownName{Name: shown.Address, Failures: shown.Failures, Locked: shown.Locked, Mistakes: shown.Mistakes})
	}
	return &unknownOutput{body}, nil
}

// candidates returns filters that together match every account in a state, and as few
// others as a store can exclude: the rules decide on each account in the end.
func candidates(state string, rules auth.Rules, now time.Time) []auth.Filter {
	// A month has at least 28 days: a time that is n calendar months ago is older than
	// this.
	monthsAgo := func(n int) time.Time { return now.AddDate(0, 0, 1-28*n) }
	switch state {
	case auth.StateLocked.String():
		return []auth.Filter{{Locked: true}}
	case auth.StateRevoked.String():
		// Revoked by the sweep, or due to be revoked by the next one.
		return []auth.Filter{{Revoked: true}, {IdleBefore: monthsAgo(rules.Dormancy.Months)}}
	case auth.StateExpired.String():
		return []auth.Filter{{PasswordBefore: monthsAgo(rules.Password.Months)}}
	case auth.StateExpiring.String():
		return []auth.Filter{{PasswordBefore: monthsAgo(rules.Password.Months).AddDate(0, 0, rules.Password.WarnDays)}}
	}
	return []auth.Filter{{}}
}

// page collects up to limit accounts after the name after for which keep returns true.
// next is the last name that was examined if there may be more, otherwise empty.
func page(ctx context.Context, from Accounts, filters []auth.Filter, after auth.Name, limit int, keep func(auth.Account) bool) (accounts []auth.Account, next auth.Name, err error) {
	size := min(1000, max(limit+1, 200))
	for scanned := 0; scanned < maxScanned; {
		batch, err := merge(ctx, from, filters, after, size)
		if err != nil {
			return nil, "", err
		}
		if len(batch) == 0 {
			return accounts, "", nil
		}
		for _, a := range batch {
			if !keep(a) {
				continue
			}
			if len(accounts) == limit {
				return accounts, accounts[limit-1].Name, nil
			}
			accounts = append(accounts, a)
		}
		after = batch[len(batch)-1].Name
		scanned += len(batch)
	}
	return accounts, after, nil
}

// merge returns the next accounts after the name after that match any of the filters,
// in order, each once. An empty result means that there are no more.
func merge(ctx context.Context, from Accounts, filters []auth.Filter, after auth.Name, size int) ([]auth.Account, error) {
	var all []auth.Account
	// A full list may continue after its last account, so the order is known only up to
	// the first such end.
	var horizon auth.Name
	for _, f := range filters {
		f.After, f.Limit = after, size
		some, err := from.List(ctx, f)
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			continue
		}
		if last := some[len(some)-1].Name; horizon == "" || last < horizon {
			horizon = last
		}
		all = append(all, some...)
	}
	all = slices.DeleteFunc(all, func(a auth.Account) bool { return a.Name > horizon || a.Name <= after })
	slices.SortFunc(all, func(a, b auth.Account) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(all, func(a, b auth.Account) bool { return a.Name == b.Name }), nil
}

var errCursor = errors.New("is no cursor of a page before")

// cursorVersion changes when older cursors become invalid.
const cursorVersion = "1:"

// encodeCursor encodes a name as an opaque cursor, so that clients do not build cursors
// themselves; "" gives "".
func encodeCursor(name auth.Name) string {
	if name == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + string(name)))
}

func decodeCursor(cursor string) (auth.Name, error) {
	if cursor == "" {
		return "", nil
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return "", errCursor
	}
	name, ok := strings.CutPrefix(string(decoded), cursorVersion)
	if !ok || name == "" || len(name) > 320 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", errCursor
	}
	return auth.Name(name), nil
}
