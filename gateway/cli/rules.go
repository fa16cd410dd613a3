package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

func newRulesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Show and change what gateways on one database have in common",
		Long: `Gateways on one PostgreSQL work by the same rules, domains, aliases and names, or a
lock at one of them would be none at another. They agree on them in the database: a
gateway whose configuration file differs does not start beside others, and a reload
that differs is refused. A gateway that is alone makes its own file the agreed one.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newRulesShowCommand(), newRulesAdoptCommand())
	return cmd
}

func newRulesShowCommand() *cobra.Command {
	var at connection
	var format output
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the settings that are agreed on, and what differs here",
		Example: "  congthu rules show",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.client()
			if err != nil {
				return err
			}
			var rules admin.Rules
			answer, err := c.get(cmd.Context(), "/rules", nil, &rules)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if format == outputJSON {
				return printJSON(w, answer)
			}
			for _, s := range rules.Settings {
				fmt.Fprintf(w, "%-40s %s\n", clean(s.Name), clean(s.Value))
			}
			fmt.Fprintln(w)
			printRules(w, rules)
			return nil
		},
	}
	at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &format)
	return cmd
}

func newRulesAdoptCommand() *cobra.Command {
	var at connection
	var format output
	var reason string
	cmd := &cobra.Command{
		Use:   "adopt --reason TEXT",
		Short: "Make the rules of this gateway's file those of all",
		Long: `Read the configuration file of this gateway anew and make its rules those that all
gateways on the database work by. The change goes into the audit log. A gateway whose
file has the same rules puts it into force by itself; any other works on by the old
ones, and shows that it is behind. So write all files first, then adopt at one
gateway. The gateway must be running; when none runs, start one: it adopts its own.`,
		Example: "  congthu rules adopt --reason \"Decision 12 of the Department: 5 wrong passwords\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkReason(cmd, nil, reason, `"Decision 12 of the Department"`, ""); err != nil {
				return err
			}
			c, err := at.client()
			if err != nil {
				return err
			}
			done := progress(cmd.ErrOrStderr(), "reading the configuration file")
			var rules admin.Rules
			answer, err := c.post(cmd.Context(), "/rules/adopt", map[string]any{"reason": reason}, &rules)
			done()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if format == outputJSON {
				return printJSON(w, answer)
			}
			say(w, "The rules of this gateway's file are those of all gateways from now on.\n")
			printRules(w, rules)
			return nil
		},
	}
	at.addFlags(cmd)
	outputFlag(cmd, cmd.Flags(), &format)
	reasonFlag(cmd, &reason, "required")
	return cmd
}

// printRules prints the differences between the gateway and its file.
func printRules(w io.Writer, r admin.Rules) {
	list := func(differences []auth.Difference) {
		for _, d := range differences {
			say(w, "  %s: %s, agreed is %s\n", clean(d.Setting), clean(d.Here), clean(d.Agreed))
		}
	}
	switch {
	case !r.Shared:
		say(w, "No other gateway can use this store: these are the settings in force, and there is nothing to agree on.\n")
		return
	case len(r.Differences) == 0:
		say(w, "This gateway works by what is agreed on.\n")
	default:
		say(w, "This gateway is behind. It works by other settings:\n")
		list(r.Differences)
	}
	switch {
	case r.FileError != "":
		say(w, "Its configuration file is not right: %s\n", clean(r.FileError))
	case len(r.FileDifferences) > 0:
		say(w, "Its configuration file has:\n")
		list(r.FileDifferences)
		say(w, "Fix: make the file equal to those of the other gateways, or make this the rule for all: congthu rules adopt --reason TEXT\n")
	case len(r.Differences) > 0:
		say(w, "Its configuration file has what is agreed on. Fix: systemctl restart congthu\n")
	}
}
