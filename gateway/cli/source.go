package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

func newSourceCommand() *cobra.Command {
	s := &sources{}
	cmd := &cobra.Command{
		Use:     "source",
		Aliases: []string{"sources"},
		Short:   "Look at sources that are refused, and let an office go on",
		Long: `A source is an IPv4 address or an IPv6 /64 network. One from which too many wrong
passwords come is refused for a time, and an office may stand behind it. See which
are refused and, when it is no attack, let one go on. The gateway must be running:
its admin socket is used, and every change goes into the audit log with your name
and the reason you give.`,
		Example: `  congthu source list
  congthu source allow 203.0.113.7 --hours 4 --reason "office of the district, scanner with an old password"`,
	}
	s.at.addFlags(cmd)
	outputFlag(cmd, cmd.PersistentFlags(), &s.output)
	cmd.AddCommand(s.list(), s.allow())
	return cmd
}

// sources holds what all source commands share: the address of the gateway and the
// output format.
type sources struct {
	at     connection
	output output
}

func (s *sources) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The sources that are allowed, and those that are refused now",
		Long: `List the sources that administrators let go on, until when, who did it and why; and
those that this gateway refuses now. Each gateway refuses by what it has seen itself:
with several on one database, ask each. LOGGED IN are the accounts that were logged
in to from there within a day: where there are some it is probably an office.`,
		Example: "  congthu source list\n  congthu source list --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.at.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			var list admin.SourceList
			answer, err := c.get(ctx, "/sources", nil, &list)
			if err != nil {
				return err
			}
			if s.output == outputJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			c.printSources(cmd.OutOrStdout(), list)
			return nil
		},
	}
}

func (c *client) printSources(w io.Writer, list admin.SourceList) {
	if len(list.Allowed) == 0 {
		say(w, "no source is allowed.\n")
	} else {
		rows := [][]string{heading("ALLOWED", "UNTIL", "BY", "REASON")}
		for _, a := range list.Allowed {
			rows = append(rows, []string{a.Source, when(a.Until, c.zone), actor(a.By), a.Reason})
		}
		table(w, "", rows)
	}
	fmt.Fprintln(w)
	if len(list.Refused) == 0 {
		say(w, "no source is refused here now.\n")
		return
	}
	rows := [][]string{heading("REFUSED", "SINCE", "ACCOUNTS", "WRONG", "NEAR LOCK", "LOGGED IN", "ATTACK?", "WHO")}
	suspected, office, most := false, "", 0
	var known []admin.RefusedSource
	for _, r := range list.Refused {
		attack, who := "-", tr("accounts with several wrong passwords")
		if r.Suspected {
			attack, suspected = tr("suspected"), true
		} else if _, err := admin.ParseSource(r.Source); err == nil && (office == "" || r.LoggedIn > most) {
			office, most = r.Source, r.LoggedIn // people log in there
		}
		if r.Known != "" {
			known = append(known, r)
		}
		if r.Guessing {
			who = tr("everybody new there")
		}
		rows = append(rows, []string{r.Source, when(r.Since, c.zone), strconv.Itoa(r.Accounts), strconv.Itoa(r.Failures), strconv.Itoa(r.NearLock), strconv.Itoa(r.LoggedIn), attack, who})
	}
	table(w, "", rows)
	fmt.Fprintln(w)
	for _, r := range known {
		say(w, "%s is in an office of yours: known network %s.\n", r.Source, r.Known)
	}
	if suspected {
		say(w, "Block what attacks at the firewall, and do not allow it. What it has locked: congthu account causes%s\n", c.flags)
	}
	if office != "" {
		say(w, "Is it an office of yours? To let it go on: congthu source allow %s --hours 4%s --reason \"...\"\n", quote(office), c.flags)
	}
}

// hoursUsage is the help text of --hours.
var (
	mostHours  = strconv.Itoa(int(auth.MaxAllowance.Hours()))
	hoursUsage = "for `N` hours from now, 1 to " + mostHours + " (7 days)"
)

func (s *sources) allow() *cobra.Command {
	const example = `"office of the district, scanner with an old password"`
	var reason string
	var hours int
	var end bool
	cmd := &cobra.Command{
		Use:   "allow ADDRESS --hours N --reason TEXT | ADDRESS --end --reason TEXT",
		Short: "Let a source go on for some hours",
		Long: `Let a source go on for some hours, whatever it or its network has done: an office
behind one address in which somebody mistypes, or a device has an old password. It
holds at every gateway and over restarts, and ends by itself, or with --end. Every
try is still counted on its account: no lock, limit of a day or limit of tries at
once is lifted.

First find out who guesses there. The address of an attacker is not to be allowed:
block it at the firewall, then unlock what it has locked (congthu account unlock
--cause). To let one account go on from wherever it was refused, congthu account
unlock is enough.

An IPv6 address stands for its /64.`,
		Example: "  congthu source allow 203.0.113.7 --hours 4 --reason " + example +
			"\n  congthu source allow 203.0.113.7 --end --reason \"scanner has the new password\"",
		ValidArgsFunction: s.complete,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(cmd, "say which address: %s 203.0.113.7 --hours 4 --reason %s", calling(cmd), inReasons(example))
			case len(args) > 1:
				return usage(cmd, "one address at a time, and there is %q too", args[1])
			}
			if _, err := admin.ParseSource(args[0]); err != nil {
				return usage(cmd, "%q %w", args[0], ours(err))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			most := int(auth.MaxAllowance.Hours())
			more := "--end"
			switch {
			case end && cmd.Flags().Changed("hours"):
				return usage(cmd, "--hours or --end, not both")
			case end:
			case hours < 1 || hours > most:
				return usage(cmd, "say for how many hours, 1 to %d: congthu source allow %s --hours 4 --reason %s", most, args[0], inReasons(example))
			default:
				more = fmt.Sprintf("--hours %d", hours)
			}
			if err := checkReason(cmd, args, reason, example, more); err != nil {
				return err
			}
			return s.act(cmd, args[0], hours, end, reason)
		},
	}
	reasonFlag(cmd, &reason, "required")
	f := cmd.Flags()
	f.IntVar(&hours, "hours", 0, hoursUsage)
	f.BoolVar(&end, "end", false, "end what was allowed before")
	must(cmd.RegisterFlagCompletionFunc("hours", cobra.FixedCompletions([]string{"1", "4", "8", "24", "72", "168"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)))
	return cmd
}

// act grants or ends the exemption of a source, and prints its new state.
func (s *sources) act(cmd *cobra.Command, address string, hours int, end bool, reason string) error {
	c, err := s.at.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	verb, body := "/allow", map[string]any{"reason": reason, "hours": hours}
	if end {
		verb, body = "/end", map[string]any{"reason": reason}
	}
	var allowed admin.AllowedSource
	answer, err := c.post(ctx, "/sources/"+url.PathEscape(address)+verb, body, &allowed)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if s.output == outputJSON {
		return printJSON(w, answer)
	}
	fmt.Fprintln(w, clean(either(allowed.EN, allowed.VI)))
	if !end {
		say(w, "To end it: congthu source allow %s --end%s --reason \"...\"\n", quote(allowed.Source), c.flags)
	}
	return nil
}

// complete offers the refused and the exempted sources for shell completion.
func (s *sources) complete(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	c, err := s.at.client()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := hurried(cmd)
	defer cancel()
	var list admin.SourceList
	if _, err := c.get(ctx, "/sources", nil, &list); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	offer := func(source, what string) {
		if _, err := admin.ParseSource(source); err == nil && strings.HasPrefix(source, begun) {
			found = append(found, clean(source)+"\t"+what)
		}
	}
	for _, a := range list.Allowed {
		offer(a.Source, trf("allowed until %s", when(a.Until, c.zone)))
	}
	for _, r := range list.Refused {
		if !r.Suspected {
			offer(r.Source, trf("refused since %s", when(r.Since, c.zone)))
		}
	}
	return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
}
