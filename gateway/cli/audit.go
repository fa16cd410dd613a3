package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

func newAuditCommand() *cobra.Command {
	a := &audit{}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and verify the audit log",
		Long: `The audit log says who did what to which account, when, from where and why. Its events
are chained by hash: changing or removing one breaks every later hash. The
gateway must be running: its admin socket is used.`,
		Example: "  congthu audit list --account an@example.org\n  congthu audit verify",
	}
	a.at.addFlags(cmd)
	outputFlag(cmd, cmd.PersistentFlags(), &a.output)
	cmd.AddCommand(a.list(), a.verify())
	return cmd
}

type audit struct {
	at     connection
	output output
}

// kindWords returns the kinds of events as --kind accepts them.
func kindWords() (words []string) {
	for _, k := range auth.EventKinds() {
		words = append(words, string(k))
	}
	return words
}

// kindsUsage is the help text of --kind.
var kindsUsage = "only events of these `KINDS`, joined by commas: " + strings.Join(kindWords(), ", ")

func (a *audit) list() *cobra.Command {
	var account, source string
	var kinds []string
	var limit int
	var before int64
	known := kindWords()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List events, newest first",
		Example: `  congthu audit list --limit 20
  congthu audit list --account an@example.org
  congthu audit list --source 203.0.113.7 --kind password.wrong,account.locked,name.locked
  congthu audit list --kind account.locked,account.unlocked --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if !slices.Contains(known, k) {
					return usage(cmd, "there is no kind %q: write some of %s", k, strings.Join(known, ", "))
				}
			}
			if limit < 1 || limit > pageSize {
				return usage(cmd, "--limit is a number from 1 to %d; --before SEQ goes on from there", pageSize)
			}
			if source != "" {
				if _, err := admin.ParseNetwork(source); err != nil {
					return usage(cmd, "--source %q %w", source, ours(err))
				}
			}
			c, err := a.at.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if account != "" {
				query.Set("account", account)
			}
			if len(kinds) > 0 {
				query.Set("kind", strings.Join(kinds, ","))
			}
			if source != "" {
				query.Set("source", source)
			}
			list, answer, err := c.events(cmd.Context(), query, before, limit)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if a.output == outputJSON {
				return printJSON(w, answer)
			}
			if len(list.Events) == 0 {
				say(w, "no events.\n")
				if source != "" {
					say(w, "Tries at names that are no accounts, and logins that were refused before a password was tried, have no events: congthu source list%s\n", c.flags)
				}
				return nil
			}
			table(w, "", c.eventRows(list.Events, true))
			if list.Next > 0 {
				say(w, "older ones: add --before %d\n", list.Next)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&account, "account", "", "only events of this account (`ADDRESS`)")
	f.StringVar(&source, "source", "", "only events from this `ADDRESS` or network, and those that tell of it")
	f.StringSliceVar(&kinds, "kind", nil, kindsUsage)
	f.IntVar(&limit, "limit", 50, "at most `N` events")
	f.Int64Var(&before, "before", 0, "only events before this one (`SEQ`)")
	must(cmd.RegisterFlagCompletionFunc("source", func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return (&sources{at: a.at}).complete(cmd, nil, begun)
	}))
	must(cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("account", func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		return (&accounts{at: a.at}).complete(cmd, args, begun)
	}))
	return cmd
}

// events fetches the newest events before a given one, page by page until it has
// enough: a page of one source can be short although another page follows. answer is
// the gateway's answer, or the answer that it would give if all pages were one.
func (c *client) events(ctx context.Context, query url.Values, before int64, limit int) (all admin.EventList, answer []byte, err error) {
	all.Events = make([]admin.Event, 0)
	for pages := 1; ; pages++ {
		query.Set("limit", strconv.Itoa(limit-len(all.Events)))
		if before > 0 {
			query.Set("before", strconv.FormatInt(before, 10))
		}
		var page admin.EventList
		pageCtx, cancel := context.WithTimeout(ctx, patience)
		answer, err = c.get(pageCtx, "/events", query, &page)
		cancel()
		if err != nil {
			return all, nil, err
		}
		all.Events, all.Next = append(all.Events, page.Events...), page.Next
		if page.Next > 0 && before > 0 && page.Next >= before {
			return all, nil, errorf("the gateway gives the same page again and again")
		}
		if !query.Has("source") || page.Next == 0 || len(all.Events) >= limit {
			if pages > 1 {
				answer, err = json.Marshal(all)
			}
			return all, answer, err
		}
		before = page.Next
	}
}

var notedHead = regexp.MustCompile(`^([0-9]{1,18}):([0-9a-fA-F]{64})$`)

func (a *audit) verify() *cobra.Command {
	var noted string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the hash chain of the whole audit log",
		Long: `Walk the chain from the first event to the newest and print its head. Whoever notes
the head elsewhere (SEQ:HASH) can prove later, with --noted, that nothing up to
there was changed: a chain that was made anew from the beginning is whole too,
but has another head.

Events that were removed because of their age (audit.keep_days) are no break: the
chain goes on from the last of them, if an event of kind audit.pruned tells of it.
A head that was noted before that one cannot be compared any more: note a newer one
in time.

Fails (exit code 1) when the log was changed.`,
		Example: "  congthu audit verify\n  congthu audit verify --noted 1234:5d41...",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var head []string
			if noted != "" {
				if head = notedHead.FindStringSubmatch(noted); head == nil {
					return usage(cmd, "--noted is SEQ:HASH, as an earlier verification printed it")
				}
			}
			c, err := a.at.client()
			if err != nil {
				return err
			}
			return a.runVerify(cmd, c, head)
		},
	}
	cmd.Flags().StringVar(&noted, "noted", "", "a head that was noted earlier (`SEQ:HASH`)")
	must(cmd.RegisterFlagCompletionFunc("noted", cobra.NoFileCompletions))
	return cmd
}

// errBroken reports an audit log that was changed from outside.
var errBroken = sentence("the audit log was changed from outside: keep a copy of the store as it is, and find out who could write to it")

// errTooLate reports a head that was noted too long ago.
var errTooLate = sentence("the noted head is older than the audit log, which is whole: note a newer one, and more often than audit.keep_days")

func (a *audit) runVerify(cmd *cobra.Command, c *client, noted []string) error {
	ctx := cmd.Context()
	total := int64(0)
	var newest admin.EventList
	brief, cancel := context.WithTimeout(ctx, patience)
	_, err := c.get(brief, "/events", url.Values{"limit": {"1"}}, &newest)
	cancel()
	if err != nil {
		return err
	}
	if len(newest.Events) > 0 {
		total = newest.Events[0].Seq
	}
	done := progress(cmd.ErrOrStderr(), trf("verifying %s", plural(int(total), "event")))
	var report admin.ChainReport
	answer, err := c.get(ctx, "/audit/verify", nil, &report)
	done()
	if err != nil {
		return err
	}
	same, gone := false, false
	if report.OK && noted != nil {
		if same, gone, err = c.isNoted(ctx, report, noted); err != nil {
			return err
		}
	}
	w := cmd.OutOrStdout()
	if a.output == outputJSON {
		if err := printJSON(w, answer); err != nil {
			return err
		}
	} else {
		c.printReport(w, report)
		switch {
		case !report.OK || report.Seq == 0 && noted == nil:
		case noted == nil:
			say(w, "Note the head elsewhere; congthu audit verify --noted SEQ:HASH compares it later.\n")
		case same:
			say(w, "Nothing up to event %s was changed since its head was noted.\n", noted[1])
		case gone:
			say(w, "Event %s was removed because of its age: the log cannot tell any more whether it was the one whose head was noted. An archive of it can.\n", noted[1])
		default:
			say(w, "But it is NOT the log whose head was noted: event %s is another one, or is gone.\n", noted[1])
		}
	}
	if !report.OK {
		return errorf("%w (event %d: %s)", errBroken, report.Broken, clean(report.Why))
	}
	if gone {
		return errorf("%w: event %s is gone, and the chain begins behind event %d", errTooLate, noted[1], report.Removed.Seq)
	}
	if noted != nil && !same {
		return errorf("%w (event %s is not the one that was noted)", errBroken, noted[1])
	}
	return nil
}

// isNoted reports whether the noted event is unchanged (same), or was deleted because
// of its age (gone).
func (c *client) isNoted(ctx context.Context, r admin.ChainReport, noted []string) (same, gone bool, err error) {
	seq, err := strconv.ParseInt(noted[1], 10, 64)
	if err != nil {
		return false, false, errorf("read noted head: %w", err)
	}
	if r.Removed != nil && seq <= r.Removed.Seq {
		if seq < r.Removed.Seq {
			return false, true, nil
		}
		return strings.EqualFold(r.Removed.Hash, noted[2]), false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var list admin.EventList
	if _, err := c.get(ctx, "/events", url.Values{"limit": {"1"}, "before": {strconv.FormatInt(seq+1, 10)}}, &list); err != nil {
		return false, false, err
	}
	return len(list.Events) == 1 && list.Events[0].Seq == seq && strings.EqualFold(list.Events[0].Hash, noted[2]), false, nil
}

func (c *client) printReport(w io.Writer, r admin.ChainReport) {
	var removed admin.Removed
	if r.Removed != nil {
		removed = *r.Removed
	}
	switch {
	case !r.OK:
		say(w, "BROKEN at event %d: %s\n", r.Broken, clean(r.Why))
		say(w, "%s before it: in order.\n", plural(int(max(0, r.Broken-1-removed.Seq)), "event"))
	case r.Seq == 0:
		say(w, "The audit log is empty.\n")
	default:
		say(w, "The audit log is whole: %s, the newest at %s.\n", plural(int(r.Checked), "event"), when(r.At, c.zone))
		if removed.Seq > 0 {
			say(w, "Before it %s, the last of %s: removed because of their age, as an event of kind %s tells.\n",
				plural(int(removed.Seq), "event"), when(removed.At, c.zone), auth.AuditPruned)
		}
		say(w, "Head: %d:%s\n", r.Seq, clean(r.Hash))
	}
}

// progress shows that work goes on until the returned function is called: a moving bar
// on a terminal, one line elsewhere. It cannot show how much is done, because the
// gateway does not report it.
func progress(w io.Writer, what string) (done func()) {
	what = tr(what)
	file, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		fmt.Fprintln(w, what+" ...")
		return func() {}
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		begun := time.Now()
		for i := 0; ; i++ {
			fmt.Fprintf(w, "\r\x1b[K%s [%s] %s", what, bar(i), time.Since(begun).Truncate(time.Second))
			select {
			case <-stop:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// bar draws a block that moves back and forth.
func bar(i int) string {
	const width, block = 24, 6
	at := i % (2 * (width - block))
	if at > width-block {
		at = 2*(width-block) - at
	}
	return strings.Repeat(" ", at) + strings.Repeat("=", block) + strings.Repeat(" ", width-block-at)
}
