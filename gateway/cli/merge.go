package cli

import (
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

// merge merges accounts with the counters stored under their other names.
func (a *accounts) merge() *cobra.Command {
	const example = `"one mailbox, document 45/STTTT"`
	var reason string
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "merge ADDRESS... | --all [--dry-run] --reason TEXT",
		Short: "Join an account with what is kept under its other names",
		Long: `Join an account with what the gateway keeps of it under other names: names that have
become aliases since, or whose domain is one of several that the mail server takes for
one (login_name: local). What is held against such a name holds for the account
already; the merge makes one of both, and the other name is gone.

Nothing is forgiven: the account keeps every lock and revocation and the most wrong
passwords, and its password is as old as is known of either. To let its owner in
afterwards: congthu account unlock, or restore. Merging again is no mistake.`,
		Example: "  congthu account merge --all --dry-run\n  congthu account merge an@example.org --reason " + example + "\n  congthu account merge --all --reason " + example,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return usage(cmd, "name accounts or --all, not both")
			case all:
				return nil
			}
			return addresses(cmd, args)
		},
		ValidArgsFunction: a.complete,
	}
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if !dryRun {
			more := ""
			if all {
				more = "--all"
			}
			if err := checkReason(cmd, names, reason, example, more); err != nil {
				return err
			}
		}
		c, err := a.at.client()
		if err != nil {
			return err
		}
		bodies := []map[string]any{{"all": true}}
		if !all {
			bodies = nil
			for _, name := range names {
				bodies = append(bodies, map[string]any{"address": name})
			}
		}
		var failed []string
		for i, body := range bodies {
			body["dry_run"], body["reason"] = dryRun, reason
			done := progress(cmd.ErrOrStderr(), "looking at the names of accounts")
			var report admin.MergeReport
			answer, err := c.post(cmd.Context(), "/merge", body, &report)
			done()
			var r *refusal
			if errors.As(err, &r) && !all {
				failed = append(failed, clean(names[i])+": "+r.Error())
				continue
			}
			if err != nil {
				return err
			}
			if a.output == outputJSON {
				err = printJSON(cmd.OutOrStdout(), answer)
			} else {
				c.printMerged(cmd.OutOrStdout(), report)
			}
			if err != nil {
				return err
			}
		}
		if len(failed) > 0 {
			return errorf("%s not merged:\n  %s", plural(len(failed), "account"), strings.Join(failed, "\n  "))
		}
		return nil
	}
	reasonFlag(cmd, &reason, "required but with --dry-run")
	cmd.Flags().BoolVar(&all, "all", false, "every account that has other names")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be done")
	return cmd
}

// printMerged prints one line for each other name, and the number of accounts.
func (c *client) printMerged(w io.Writer, report admin.MergeReport) {
	rows := [][]string{heading("ACCOUNT", "STATE", "OTHER NAME", "HELD AGAINST IT")}
	for _, m := range report.Merged {
		for _, other := range m.From {
			name := other.Address
			if name == "" {
				name = tr("(nobody ever logged in)")
			}
			rows = append(rows, []string{m.Address, tr(m.State), name, c.held(other)})
		}
	}
	if len(report.Merged) > 0 {
		table(w, "", rows)
	}
	if report.DryRun {
		say(w, "%s would be merged. To do it: the same with --reason in place of --dry-run.\n", plural(len(report.Merged), "account"))
		return
	}
	say(w, "%s merged.\n", plural(len(report.Merged), "account"))
}

// held describes what is held against another name of an account.
func (c *client) held(o admin.OtherName) string {
	var held []string
	if l := o.Locked; l != nil {
		held = append(held, trf("locked %s by %s", when(l.At, c.zone), tr(l.By)))
	}
	if r := o.Revoked; r != nil {
		held = append(held, trf("revoked %s by %s", when(r.At, c.zone), tr(r.By)))
	}
	if o.Failures > 0 {
		held = append(held, plural(o.Failures, "wrong password"))
	}
	return orDash(strings.Join(held, ", "))
}
