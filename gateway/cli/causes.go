package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

// unlock unlocks the named accounts, or all accounts that one cause has locked.
func (a *accounts) unlock() *cobra.Command {
	const example = `"called 0912345678, identity checked"`
	cmd := a.act("unlock", "End a lock and forget the wrong passwords",
		`End a lock, whether wrong passwords or an administrator made it, and forget the wrong
passwords. First have the password corrected on every device that tries a wrong one.

After an attack many accounts are locked by one cause: congthu account causes lists
the causes, and --cause unlocks all accounts of one, and the names that nobody ever
logged in with that it has locked. --dry-run shows them first.`, example)
	cmd.Use = "unlock ADDRESS... | --cause ID [--dry-run] --reason TEXT"
	cmd.Example += "\n  congthu account unlock --cause 3f9a1c2b7d --dry-run\n  congthu account unlock --cause 3f9a1c2b7d --reason \"attack blocked, ticket 17\""
	var cause string
	var dryRun bool
	cmd.Flags().StringVar(&cause, "cause", "", "all accounts that this cause (`ID`) has locked")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --cause: only show which accounts that would be")
	must(cmd.RegisterFlagCompletionFunc("cause", a.completeCauses))
	one := cmd.RunE
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case cause == "" && dryRun:
			return usage(cmd, "--dry-run goes with --cause")
		case cause == "":
			return addresses(cmd, args)
		case len(args) > 0:
			return usage(cmd, "name accounts or a cause, not both")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if cause == "" {
			return one(cmd, names)
		}
		reason, err := cmd.Flags().GetString("reason")
		if err != nil {
			return err
		}
		if dryRun && reason == "" {
			reason = "dry run"
		}
		if err := checkReason(cmd, nil, reason, `"attack blocked, ticket 17"`, "--cause "+quote(cause)); err != nil {
			return err
		}
		return a.unlockCause(cmd, cause, reason, dryRun)
	}
	return cmd
}

func (a *accounts) unlockCause(cmd *cobra.Command, cause, reason string, dryRun bool) error {
	c, err := a.at.client()
	if err != nil {
		return err
	}
	done := func() {}
	if !dryRun {
		done = progress(cmd.ErrOrStderr(), "unlocking")
	}
	var result admin.CauseUnlocked
	answer, err := c.post(cmd.Context(), "/causes/"+url.PathEscape(cause)+"/unlock", map[string]any{"reason": reason, "dry_run": dryRun}, &result)
	done()
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if a.output == outputJSON {
		if err := printJSON(w, answer); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(w, clean(either(result.Cause.EN, result.Cause.VI)))
		for _, name := range result.Unlocked {
			fmt.Fprintf(w, "  %s\n", clean(name))
		}
		what := plural(len(result.Unlocked), "account")
		if n := len(result.Freed); n > 0 {
			say(w, "Names that nobody ever logged in with; they may be mistyped passwords:\n")
			for _, name := range result.Freed {
				fmt.Fprintf(w, "  %s\n", clean(name))
			}
			what = trf("%s and %s", what, plural(n, "name"))
		}
		switch {
		case dryRun:
			say(w, "%s would be unlocked. To do it: congthu account unlock --cause %s%s --reason \"...\"\n",
				what, quote(cause), c.flags)
		default:
			say(w, "%s unlocked.\n", what)
		}
	}
	if n := len(result.Failed); n > 0 {
		var lines []string
		for _, f := range result.Failed {
			lines = append(lines, fmt.Sprintf("%s: %s", clean(f.Address), clean(either(f.Why, f.WhyVI))))
		}
		what := plural(n, "account")
		if len(result.Cause.Unknown) > 0 {
			what = plural(n, "account or name")
			if n > 1 {
				what = plural(n, "accounts and name")
			}
		}
		return errorf("%s not unlocked:\n  %s", what, strings.Join(lines, "\n  "))
	}
	return nil
}

// causes lists the causes of locks.
func (a *accounts) causes() *cobra.Command {
	return &cobra.Command{
		Use:   "causes",
		Short: "What has locked accounts, and which together",
		Long: `List what has locked the accounts that are locked by wrong passwords now, the latest
first. Locks with a source in common, or many within minutes, have one cause; it
tells an attack from users who mistype. All sources of a cause are shown, and how many
names it has locked that nobody ever logged in with.`,
		Example: "  congthu account causes\n  congthu account unlock --cause ID --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.at.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			var list admin.CauseList
			answer, err := c.get(ctx, "/causes", nil, &list)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if a.output == outputJSON {
				return printJSON(w, answer)
			}
			if len(list.Causes) == 0 {
				say(w, "no account is locked by wrong passwords.\n")
				return nil
			}
			rows := [][]string{heading("CAUSE", "FIRST", "LAST", "ACCOUNTS", "ATTACK?", "FROM")}
			for _, cause := range list.Causes {
				suspected := "-"
				if cause.Suspected {
					suspected = tr("suspected")
					if cause.Ended {
						suspected = tr("suspected, ended")
					}
				}
				rows = append(rows, []string{
					cause.ID, when(cause.First, c.zone), when(cause.Last, c.zone), some(cause.Accounts), suspected, some(cause.Sources),
				})
			}
			table(w, "", rows)
			for _, cause := range list.Causes {
				if n := len(cause.Unknown); n > 0 {
					say(w, "\nCause %s has locked %s that nobody ever logged in with: congthu account list --unknown --state locked%s\n",
						clean(cause.ID), plural(n, "name"), c.flags)
				}
				if len(cause.Sources) > 2 {
					say(w, "\nAll sources of cause %s:\n", clean(cause.ID))
					for _, source := range cause.Sources {
						fmt.Fprintf(w, "  %s\n", clean(source))
					}
				}
			}
			say(w, "\nUnlock all accounts of one: congthu account unlock --cause ID%s --dry-run\n", c.flags)
			return nil
		},
	}
}

// some joins the first few words and adds the number of the others.
func some(words []string) string {
	switch {
	case len(words) == 0:
		return "-"
	case len(words) <= 2:
		return strings.Join(words, ", ")
	}
	return trf("%s, %s and %d more", words[0], words[1], len(words)-2)
}

// completeCauses offers causes for shell completion.
func (a *accounts) completeCauses(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	c, err := a.at.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := hurried(cmd)
	defer cancel()
	var list admin.CauseList
	if _, err := c.get(ctx, "/causes", nil, &list); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	for _, cause := range list.Causes {
		if strings.HasPrefix(cause.ID, begun) {
			ids = append(ids, clean(cause.ID)+"\t"+clean(either(cause.EN, cause.VI)))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
