package admin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// The limits of a list of accounts.
const (
	maxImport     = 32 << 20 // octets
	maxImportRows = 200_000
)

// shownChanges is the number of an import's changes that an answer lists.
const shownChanges = 1000

type importInput struct {
	DryRun  bool   `query:"dry_run" doc:"Change nothing; tell what would change."`
	Reason  string `query:"reason" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters; not needed for a dry run."`
	RawBody []byte `contentType:"text/csv" doc:"At most 32 MiB and 200,000 accounts."`
}

type importOutput struct{ Body ImportReport }

// ImportReport is what an import changed, or would change.
type ImportReport struct {
	DryRun    bool           `json:"dry_run" doc:"Nothing was changed; this is what would be."`
	Rows      int            `json:"rows" doc:"Accounts in the list."`
	New       int            `json:"new" doc:"Names that became accounts."`
	Changed   int            `json:"changed" doc:"Accounts of which something else is known now."`
	Unchanged int            `json:"unchanged"`
	SeenHere  int            `json:"seen_here" doc:"Accounts whose password_changed was left aside, since the gateway has seen the password itself."`
	Unnamed   int            `json:"unnamed" doc:"Cells with something in them that were left aside, since their column has no name in the first row."`
	States    map[string]int `json:"states" nullable:"false" doc:"How many accounts of the list are in each state afterwards."`
	Digest    string         `json:"digest" doc:"SHA-256 of the list as it was sent, hexadecimal, by which the audit log knows it again."`
	// Resumed and Interrupted come from the audit log's events about earlier imports.
	Resumed     bool           `json:"resumed" doc:"An import of the same list had been begun and not finished; this one has finished it, or would."`
	Interrupted []ImportBegun  `json:"interrupted" nullable:"false" doc:"Imports of other lists that were begun and are not finished: they were interrupted, or go on at another gateway. One is over when its list is imported again, or a list with at least as many accounts."`
	Changes     []ImportChange `json:"changes" nullable:"false" doc:"The first 1,000 changes, in the order of the list."`
}

// ImportBegun is the beginning of an import.
type ImportBegun struct {
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	Reason   string    `json:"reason"`
	Accounts int       `json:"accounts" doc:"How many the list has."`
	Digest   string    `json:"digest" doc:"SHA-256 of the list."`
}

// ImportChange is one account that an import changed, or would change.
type ImportChange struct {
	Address string `json:"address"`
	Before  string `json:"before"`
	After   string `json:"after"`
}

// ImportProgress is the progress of an import.
type ImportProgress struct {
	Running bool `json:"running"`
	Looked  int  `json:"looked" doc:"Accounts that are done."`
	Total   int  `json:"total"`
}

// importProgress is the progress of the latest import.
type importProgress struct {
	running       atomic.Bool
	looked, total atomic.Int64
}

type progressOutput struct{ Body ImportProgress }

func (s *Server) showImport(context.Context, *struct{}) (*progressOutput, error) {
	p := &s.imported
	return &progressOutput{ImportProgress{
		Running: p.running.Load(), Looked: int(p.looked.Load()), Total: int(p.total.Load()),
	}}, nil
}

func (s *Server) importAccounts(ctx context.Context, in *importInput) (*importOutput, error) {
	if s.Import == nil {
		return nil, unavailable("this gateway takes no lists")
	}
	reason, ok := tidyReason(in.Reason)
	if !ok && !in.DryRun {
		return nil, invalid("query.reason", sayWhy)
	}
	if !s.importing.TryLock() {
		return nil, unavailable("another import is running")
	}
	defer s.importing.Unlock()
	list, aside, wrong := readList(in.RawBody, s.Own, s.Guard.Rules().Location, s.now())
	if len(wrong) > 0 {
		return nil, &listProblem{
			Title: http.StatusText(http.StatusUnprocessableEntity), Status: http.StatusUnprocessableEntity,
			Detail: "nothing was imported: the list has " + count(len(wrong), "error"), Errors: wrong,
			DetailVI: inVietnamese("nothing was imported: the list has %d errors", len(wrong)),
		}
	}
	s.imported.looked.Store(0)
	s.imported.total.Store(int64(len(list)))
	s.imported.running.Store(true)
	defer s.imported.running.Store(false)

	who := callerOf(ctx)
	// As with every act: an import that has begun is finished, even if the caller has
	// gone. Each batch has the store's own time limit.
	digest := sha256.Sum256(in.RawBody)
	done, err := s.Import(context.WithoutCancel(ctx), list, auth.Act{Actor: who.actor, Source: who.source, Reason: reason}, guard.ImportOptions{
		Digest: hex.EncodeToString(digest[:]), Dry: in.DryRun, Progress: func(looked int) { s.imported.looked.Store(int64(looked)) },
	})
	switch {
	case errors.Is(err, auth.ErrReasonMissing):
		return nil, invalid("query.reason", "is required")
	case err != nil:
		s.log().Error("admin request failed", "doing", "import accounts", "err", err)
		const stopped = "the import stopped after %d of %d accounts, since the gateway's store failed; import the same list again: what is there already is left as it is, and the rest is done"
		return nil, comeBack(&importProblem{
			Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable,
			Detail:   fmt.Sprintf(stopped, done.Looked, len(list)),
			DetailVI: inVietnamese(stopped, done.Looked, len(list)),
			Stopped:  true, Looked: done.Looked, Total: len(list), New: done.New, Changed: done.Changed, Unchanged: done.Unchanged,
		})
	}
	report := ImportReport{
		DryRun: in.DryRun, Rows: len(list), New: done.New, Changed: done.Changed, Unchanged: done.Unchanged,
		SeenHere: done.SeenHere, Unnamed: aside, States: make(map[string]int), Changes: []ImportChange{},
		Digest: hex.EncodeToString(digest[:]), Resumed: done.Resumed, Interrupted: []ImportBegun{},
	}
	for state, n := range done.States {
		report.States[state.String()] = n
	}
	for _, e := range done.Interrupted {
		list, _ := e.List()
		report.Interrupted = append(report.Interrupted, ImportBegun{At: e.At, Actor: e.Actor, Reason: e.Reason, Accounts: list.Accounts, Digest: list.Digest})
	}
	for _, e := range done.Events[:min(len(done.Events), shownChanges)] {
		report.Changes = append(report.Changes, ImportChange{Address: string(e.Account), Before: e.Before, After: e.After})
	}
	if !in.DryRun {
		s.log().Info("a list of accounts was imported", "actor", who.actor,
			"rows", len(list), "new", done.New, "changed", done.Changed, "unchanged", done.Unchanged)
	}
	return &importOutput{report}, nil
}

// importProblem reports an import that stopped before its end: a problem (RFC 9457)
// with the progress made.
type importProblem struct {
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	DetailVI  string `json:"detail_vi,omitempty"`
	Stopped   bool   `json:"stopped"`
	Looked    int    `json:"looked"`
	Total     int    `json:"total"`
	New       int    `json:"new"`
	Changed   int    `json:"changed"`
	Unchanged int    `json:"unchanged"`
}

func (p *importProblem) Error() string             { return p.Detail }
func (p *importProblem) GetStatus() int            { return p.Status }
func (p *importProblem) ContentType(string) string { return "application/problem+json" }

// listProblem reports the mistakes in a list: a problem (RFC 9457) whose errors name
// the place in the file. Of what the caller sent it repeats only names of accounts.
type listProblem struct {
	Title    string      `json:"title"`
	Status   int         `json:"status"`
	Detail   string      `json:"detail"`
	DetailVI string      `json:"detail_vi,omitempty"`
	Errors   []ListError `json:"errors"`
}

// ListError is one mistake in a list.
type ListError struct {
	Location string `json:"location"`
	Message  string `json:"message"`
	// MessageVI is the message in Vietnamese.
	MessageVI string `json:"message_vi,omitempty"`
	// Line and Column count from 1; Column counts octets of UTF-8.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Field is the name of the column; empty if the mistake belongs to no column.
	Field string `json:"field,omitempty"`
}

func (p *listProblem) Error() string             { return p.Detail }
func (p *listProblem) GetStatus() int            { return p.Status }
func (p *listProblem) ContentType(string) string { return "application/problem+json" }
