package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

func newSweepCommand() *cobra.Command {
	var at connection
	var format output
	var reason string
	var dryRun, force bool
	cmd := &cobra.Command{
		Use:   "sweep [--dry-run | --force --reason TEXT]",
		Short: "Revoke the accounts that were not used for too long",
		Long: `Do now what the gateway does every day at rules.dormancy.sweep_at: mark the accounts
that nobody has logged in to for too long as revoked (Art. 5.3.c).

When that would be more than 20 accounts and more than one in ten, the sweep revokes
none: the clock may be wrong. Look at them with --dry-run, then revoke them with
--force. The gateway must be running.`,
		Example: "  congthu sweep --dry-run\n  congthu sweep --force --reason \"first sweep after the import, list checked\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case dryRun && force:
				return usage(cmd, "--dry-run or --force, not both")
			case force:
				if err := checkReason(cmd, nil, reason, `"list checked by the Department"`, "--force"); err != nil {
					return err
				}
			}
			c, err := at.client()
			if err != nil {
				return err
			}
			done := progress(cmd.ErrOrStderr(), "looking at all accounts")
			var report admin.SweepReport
			answer, err := c.post(cmd.Context(), "/sweep", map[string]any{"dry_run": dryRun, "force": force, "reason": reason}, &report)
			done()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if format == outputJSON {
				return printJSON(w, answer)
			}
			for _, name := range report.Dormant {
				fmt.Fprintln(w, clean(name))
			}
			if dryRun {
				say(w, "%s would be revoked.\n", plural(len(report.Dormant), "account"))
			} else {
				say(w, "%s dormant, %d revoked.\n", plural(len(report.Dormant), "account"), report.Revoked)
			}
			return nil
		},
	}
	at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &format)
	reasonFlag(cmd, &reason, "required with --force")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only list them")
	cmd.Flags().BoolVar(&force, "force", false, "revoke however many there are")
	return cmd
}
