package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

func newImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Take over what is known elsewhere",
	}
	cmd.AddCommand(newImportAccountsCommand())
	return cmd
}

// imports holds the flags of the command that imports accounts.
type imports struct {
	at     connection
	output output
	dry    bool
	reason string
}

func newImportAccountsCommand() *cobra.Command {
	i := &imports{}
	const example = `"accounts of the old system, document 123/STTTT"`
	cmd := &cobra.Command{
		Use:   "accounts FILE.csv --reason TEXT",
		Short: "Take over a list of accounts, in batches",
		Long: `Take over the accounts that a mail server has, with what is known of them, so that
those that nobody logs in to are known too and nobody's months begin anew.

FILE is CSV, separated by commas, semicolons or tabs, in UTF-8 or UTF-16 ("-"
reads the standard input). Its first row names the columns, in any order:
  address           the account; no alias; required
  unit              the agency
  registered        when the mailbox was given out
  last_login        the last login, by whatever door
  password_changed  when the password was set
Dates are 2026-01-31 or 31/01/2026, also with a time of day (8:15), in the time
zone of the regulation, 2026-01-31T08:00:00+07:00 or 20260131010000Z (LDAP). An
empty field says nothing: what is known stays. The last fields of a row may be
missing; columns without a name are left aside, and how much was in them is said.

Known accounts are corrected in one direction only: registered becomes the
earliest, last_login the latest, password_changed counts until the gateway has
seen the password itself, the unit is replaced. Wrong passwords, locks and
revocations stay: an import releases nothing. The same list again changes
nothing.

All errors are shown at once, with their lines, and then nothing is imported.
Each account that changes gets an entry in the audit log, as the beginning and the
end of the import do. Logins go on meanwhile.

The accounts are taken over in batches. When the gateway or its store stops in
between, the exit code is 1; run the same command again: what is there already is
left as it is, and the rest is done. Until then check and the next import say so.
Interrupting this command does not stop the import.`,
		Example: "  congthu import accounts accounts.csv --dry-run\n  congthu import accounts accounts.csv --reason " + example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "say which list: %s accounts.csv", calling(cmd))
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions([]string{"csv"}, cobra.ShellCompDirectiveFilterFileExt),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !i.dry {
				if err := checkReason(cmd, args, i.reason, example, ""); err != nil {
					return err
				}
			}
			return i.run(cmd, args[0])
		},
	}
	i.at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &i.output)
	reasonFlag(cmd, &i.reason, "required without --dry-run")
	cmd.Flags().BoolVar(&i.dry, "dry-run", false, "change nothing, and tell what would change")
	return cmd
}

// maxList is the size of the largest list that the gateway accepts.
const maxList = 32 << 20

// importPatience is the time limit for an import: 200,000 accounts take less than a
// minute on two cores.
const importPatience = time.Hour

func (i *imports) run(cmd *cobra.Command, file string) error {
	c, err := i.at.client()
	if err != nil {
		return err
	}
	list, err := readListFile(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), importPatience)
	defer cancel()
	query := url.Values{}
	if i.dry {
		query.Set("dry_run", "true")
	}
	if i.reason != "" {
		query.Set("reason", i.reason)
	}
	done := c.showImport(ctx, cmd.ErrOrStderr(), i.dry)
	var report admin.ImportReport
	answer, err := c.send(ctx, http.MethodPost, "/import?"+query.Encode(), "text/csv", bytes.NewReader(list), &report)
	done()
	var r *refusal
	if errors.As(err, &r) && len(r.Errors) > 0 && r.Errors[0].Line > 0 {
		for _, e := range r.Errors {
			field := ""
			if e.Field != "" {
				field = e.Field + " "
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d:%d: %s%s\n", clean(file), e.Line, e.Column, clean(field), clean(either(e.Message, e.MessageVI)))
		}
		return errors.New(clean(either(r.Detail, r.DetailVI)))
	}
	if r != nil && r.Stopped && i.output == outputJSON {
		if err := printJSON(cmd.OutOrStdout(), r.answer); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if i.output == outputJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	i.print(cmd.OutOrStdout(), report, c.zone)
	return nil
}

func readListFile(stdin io.Reader, file string) ([]byte, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	list, err := io.ReadAll(io.LimitReader(from, maxList+1))
	switch {
	case err != nil:
		return nil, errorf("read the list: %w", err)
	case len(list) > maxList:
		return nil, errorf("%s has more than %d MiB: divide the list, each part with the first row", file, maxList>>20)
	case len(list) == 0:
		return nil, errorf("%s is empty", file)
	}
	return list, nil
}

// print prints how much changes, and in a dry run what changes.
func (i *imports) print(w io.Writer, r admin.ImportReport, zone *time.Location) {
	if i.dry {
		for _, change := range r.Changes {
			before := clean(inWords(change.Before, zone))
			if before != "" {
				before += " -> "
			}
			fmt.Fprintf(w, "%s: %s%s\n", clean(change.Address), before, clean(inWords(change.After, zone)))
		}
		if more := r.New + r.Changed - len(r.Changes); more > 0 {
			say(w, "... and %s\n", plural(more, "more change"))
		}
	}
	done := tr("imported")
	if i.dry {
		done = tr("would be imported (nothing was changed)")
	}
	say(w, "%s %s: %d new, %d changed, %d as before.\n", plural(r.Rows, "account"), done, r.New, r.Changed, r.Unchanged)
	if r.Resumed {
		resumed := tr("an import of this list had been interrupted, and is finished now")
		if i.dry {
			resumed = tr("an import of this list was interrupted: import it again to finish it")
		}
		say(w, "NOTE: %s.\n", resumed)
	}
	for _, b := range r.Interrupted {
		say(w, "NOTE: the import of %s, begun on %s by %s (%s), is not finished. Unless it goes on at another gateway, import that list again (SHA-256 %s).\n",
			plural(b.Accounts, "account"), b.At.In(zone).Format("2006-01-02 15:04"), clean(b.Actor), clean(b.Reason), clean(b.Digest))
	}
	if r.SeenHere > 0 {
		say(w, "%s: password_changed left aside, since the gateway has seen the password itself.\n", plural(r.SeenHere, "account"))
	}
	if r.Unnamed > 0 {
		say(w, "NOTE: %s left aside: the first row has no name for the column.\n", plural(r.Unnamed, "cell"))
	}
	var states []string
	for _, s := range auth.States() {
		if n := r.States[s.String()]; n > 0 {
			states = append(states, strconv.Itoa(n)+" "+stateInWords(s.String()))
		}
	}
	if len(states) > 0 {
		say(w, "Afterwards: %s.\n", strings.Join(states, ", "))
	}
	for _, note := range []struct {
		state auth.State
		what  string
	}{
		{auth.StateExpired, tr("with a password that is too old: to be changed before the next login")},
		{auth.StateRevoked, tr("unused for too long: to be restored by an administrator before the next login")},
	} {
		if n := r.States[note.state.String()]; n > 0 {
			say(w, "NOTE: %s %s.\n", plural(n, "account"), note.what)
		}
	}
}

// showImport shows the progress of an import until the returned function is called: a
// bar on a terminal, nothing elsewhere.
func (c *client) showImport(ctx context.Context, w io.Writer, dry bool) (done func()) {
	if !isTerminal(w) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		bar := newBar(w, -1, tr("checking the list"))
		defer bar.Finish()
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			var p admin.ImportProgress
			if _, err := c.get(ctx, "/import", nil, &p); err != nil || !p.Running {
				bar.Add(1)
				continue
			}
			bar.ChangeMax(max(1, p.Total))
			what := tr("importing accounts")
			if dry {
				what = tr("looking at accounts")
			}
			bar.Describe(what)
			bar.Set(max(0, p.Looked-1)) // a full bar would end
		}
	}()
	return func() { cancel(); <-stopped }
}

// newBar returns a progress bar for a terminal that erases itself at the end.
func newBar(w io.Writer, total int, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		// Without this, a goroutine of the library turns the spinner as well.
		progressbar.OptionSetSpinnerChangeInterval(0),
	)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}
