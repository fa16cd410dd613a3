package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

func newClockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clock",
		Short: "Look at the gateway's clock, and accept it",
		Long: `The months of the regulation are counted by a clock. A clock that disagrees with the
audit log, with the database's clock or with the time that has passed is suspect:
users log in, but no account is revoked, no password or lock runs out, and no
instant that is known is replaced, until somebody has looked at it.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newClockShowCommand(), newClockAcceptCommand())
	return cmd
}

func newClockShowCommand() *cobra.Command {
	var at connection
	var format output
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show what time it is for the gateway, and why that is suspect",
		Example: "  congthu clock show",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.client()
			if err != nil {
				return err
			}
			var clock admin.Clock
			answer, err := c.get(cmd.Context(), "/clock", nil, &clock)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if format == outputJSON {
				return printJSON(w, answer)
			}
			printClock(w, clock, c.zone)
			if clock.Suspect {
				say(w, "Fix: look at the clock (timedatectl, chronyc tracking). When it is right: congthu clock accept --reason TEXT\n")
			}
			return nil
		},
	}
	at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &format)
	return cmd
}

func newClockAcceptCommand() *cobra.Command {
	var at connection
	var format output
	var reason string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "accept --reason TEXT",
		Short: "Say that the clock is right now",
		Long: `Say that the clock is right. What is known to have happened in the future, since the
clock was ahead, has then happened now; each such account has an entry in the audit
log, as the acceptance has. Where two clocks still differ it is refused: set the
wrong one right first. The gateway must be running.`,
		Example: "  congthu clock accept --dry-run\n  congthu clock accept --reason \"time server mended, compared with a watch\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !dryRun {
				if err := checkReason(cmd, nil, reason, `"time server mended, compared with a watch"`, ""); err != nil {
					return err
				}
			}
			c, err := at.client()
			if err != nil {
				return err
			}
			done := progress(cmd.ErrOrStderr(), "looking at all accounts")
			var report admin.ClockReport
			answer, err := c.post(cmd.Context(), "/clock/accept", map[string]any{"dry_run": dryRun, "reason": reason}, &report)
			done()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if format == outputJSON {
				return printJSON(w, answer)
			}
			printClock(w, report.Clock, c.zone)
			for _, name := range report.Redated {
				fmt.Fprintln(w, clean(name))
			}
			switch n := plural(len(report.Redated), "account"); {
			case dryRun:
				say(w, "%s would be corrected.\n", n)
			case report.Clock.Suspect:
				say(w, "The clock is accepted; %s corrected.\n", n)
			default:
				say(w, "The clock was not suspect; %s corrected.\n", n)
			}
			return nil
		},
	}
	at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &format)
	reasonFlag(cmd, &reason, "required but with --dry-run")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

func printClock(w io.Writer, clock admin.Clock, zone *time.Location) {
	say(w, "The clock shows %s.\n", when(clock.Now, zone))
	if clock.Suspect {
		say(w, "It is suspect since %s: %s.\n", when(*clock.Since, zone), clean(inWords(clock.Why, zone)))
	}
}
