package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

func newAccountCommand() *cobra.Command {
	a := &accounts{}
	cmd := &cobra.Command{
		Use:     "account",
		Aliases: []string{"accounts"},
		Short:   "Look at accounts, unlock and restore them",
		Long: `Look at accounts and change what the rules hold against them. The gateway must be
running: its admin socket is used, and every change goes into the audit log
with your name and the reason you give.`,
		Example: `  congthu account show an@example.org
  congthu account list --state locked
  congthu account unlock an@example.org --reason "called 0912345678, identity checked"`,
	}
	a.at.addFlags(cmd)
	outputFlag(cmd, cmd.PersistentFlags(), &a.output)
	cmd.AddCommand(a.show(), a.list(), a.causes(), a.unlock(),
		a.act("lock", "Lock an account and end its sessions",
			"Lock an account until somebody unlocks it, and end its live sessions.",
			`"left the agency on 1 December"`),
		a.act("restore", "Give a revoked account back",
			"Give back an account that was revoked because nobody logged in to it (Art. 5.3.c). Its\nmonths of disuse begin again.",
			`"request 123/CV of the agency"`),
		a.grace(), a.merge())
	return cmd
}

// accounts holds what all account commands share: the address of the gateway and the
// output format.
type accounts struct {
	at     connection
	output output
}

func (a *accounts) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show ADDRESS...",
		Short: "Why somebody cannot log in, and what to do about it",
		Long: `Say in one sentence whether the owner of an account can log in and, if not, why,
since when and what to do; then what is remembered of the account. Any spelling
of the address does, aliases too.`,
		Example:           "  congthu account show an@example.org\n  congthu account show an --output json",
		Args:              addresses,
		ValidArgsFunction: a.complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.each(cmd, names, func(ctx context.Context, c *client, name string) error {
				var account admin.Account
				answer, err := c.get(ctx, accountPath(name), nil, &account)
				if err != nil {
					if a.output != outputJSON {
						c.printTellMeanwhile(cmd.OutOrStdout(), name, err)
					}
					return err
				}
				if a.output == outputJSON {
					return printJSON(cmd.OutOrStdout(), answer)
				}
				c.printAnswer(cmd.OutOrStdout(), account)
				if other := otherName(name, account.Address); other != "" {
					paragraph(cmd.OutOrStdout(), clean(other))
				}
				c.printAdvice(cmd.OutOrStdout(), account)
				c.printDetails(cmd.OutOrStdout(), account)
				return nil
			})
		},
	}
}

// act returns a command that changes an account.
func (a *accounts) act(verb, short, long, example string) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:               verb + " ADDRESS... --reason TEXT",
		Short:             short,
		Long:              long,
		Example:           fmt.Sprintf("  congthu account %s an@example.org --reason %s", verb, example),
		Args:              addresses,
		ValidArgsFunction: a.complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := checkReason(cmd, names, reason, example, ""); err != nil {
				return err
			}
			return a.each(cmd, names, func(ctx context.Context, c *client, name string) error {
				return a.post(ctx, cmd, c, name, verb, map[string]any{"reason": reason})
			})
		},
	}
	reasonFlag(cmd, &reason, "required")
	return cmd
}

func (a *accounts) grace() *cobra.Command {
	var reason string
	var days int
	const example = `"on a mission until Friday"`
	cmd := &cobra.Command{
		Use:   "grace ADDRESS... --days N --reason TEXT",
		Short: "Let an expired password go on for some days",
		Long: `Let a password that is too old, or about to be, go on for some days from now
(Art. 9): at most rules.password.max_grace_days.`,
		Example:           "  congthu account grace an@example.org --days 3 --reason " + example,
		Args:              addresses,
		ValidArgsFunction: a.complete,
		RunE: func(cmd *cobra.Command, names []string) error {
			if days < 1 {
				return usage(cmd, "say for how many days: congthu account grace %s --days 3 --reason %s", names[0], inReasons(example))
			}
			if err := checkReason(cmd, names, reason, example, fmt.Sprintf("--days %d", days)); err != nil {
				return err
			}
			return a.each(cmd, names, func(ctx context.Context, c *client, name string) error {
				return a.post(ctx, cmd, c, name, "grace", map[string]any{"reason": reason, "days": days})
			})
		},
	}
	reasonFlag(cmd, &reason, "required")
	cmd.Flags().IntVar(&days, "days", 0, "for `N` days from now")
	must(cmd.RegisterFlagCompletionFunc("days", cobra.FixedCompletions([]string{"1", "2", "3", "4", "5", "6", "7"}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)))
	return cmd
}

// reasonFlag adds --reason; when says in which cases it is required.
func reasonFlag(cmd *cobra.Command, reason *string, when string) {
	cmd.Flags().StringVar(reason, "reason", "", "`TEXT` that says why, for the audit log; "+when)
	must(cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions))
}

func checkReason(cmd *cobra.Command, names []string, reason, example, more string) error {
	// The "..." of a printed command is no reason.
	if strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return nil
	}
	words := append([]string{calling(cmd)}, names...)
	if more != "" {
		words = append(words, more)
	}
	return usage(cmd, "say why, since an auditor will read it:\n  %s --reason %s", strings.Join(words, " "), inReasons(example))
}

// addresses requires at least one address.
func addresses(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(cmd, "say which account: %s an@example.org", calling(cmd))
	}
	if slices.Contains(args, "") {
		return usage(cmd, "the address is empty")
	}
	return nil
}

// each runs do for every name. It continues after a failure, and fails at the end if
// one of the names failed.
func (a *accounts) each(cmd *cobra.Command, names []string, do func(context.Context, *client, string) error) error {
	c, err := a.at.client()
	if err != nil {
		return err
	}
	var failed error
	for i, name := range names {
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		err := do(ctx, c, name)
		cancel()
		var r *refusal
		switch {
		case err == nil:
			if a.output == outputTable && i < len(names)-1 {
				fmt.Fprintln(cmd.OutOrStdout())
			}
		case errors.As(err, &r):
			failed = errors.Join(failed, fmt.Errorf("%s: %w", clean(name), err))
		default:
			return err // the gateway itself failed: the next name would fail as well
		}
	}
	return failed
}

// post performs one act and prints the new state of the account.
func (a *accounts) post(ctx context.Context, cmd *cobra.Command, c *client, name, verb string, body any) error {
	var account admin.Account
	answer, err := c.post(ctx, accountPath(name)+"/"+verb, body, &account)
	if err != nil {
		if a.output != outputJSON {
			c.printTellMeanwhile(cmd.OutOrStdout(), name, err)
			var r *refusal
			if errors.As(err, &r) && r.status == http.StatusNotFound {
				c.printUnknown(ctx, cmd.OutOrStdout(), name, verb)
			}
		}
		return err
	}
	if a.output == outputJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	if account.DoneEN != "" {
		printDone(cmd.OutOrStdout(), account)
		if verb == "lock" {
			table(cmd.OutOrStdout(), "  ", [][]string{{tr("Later:"), c.command("unlock", account.Address, "")}})
		}
		return nil
	}
	done := map[string]string{"unlock": tr("unlocked"), "lock": tr("locked"), "restore": tr("restored"), "grace": tr("grace granted")}[verb]
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s.", clean(account.Address), done)
	if note := either(account.NoteEN, account.NoteVI); note != "" {
		fmt.Fprintf(cmd.OutOrStdout(), " %s", clean(note))
	}
	if len(account.Why) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), " %s", clean(either(account.Why[0].EN, account.Why[0].VI)))
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return nil
}

func accountPath(name string) string { return "/accounts/" + url.PathEscape(name) }

// printAnswer prints first what support staff need during a telephone call: the reason,
// the action to take, and what to tell the user.
func (c *client) printAnswer(w io.Writer, a admin.Account) {
	for i, why := range a.Why {
		lead := tr("also")
		if i == 0 {
			lead = clean(a.Address)
		}
		paragraph(w, lead+": "+plainly(clean(either(why.EN, why.VI))))
		rows := [][]string{}
		// A reason without an answer to the user has no next command yet either: another
		// one comes first.
		if fix := c.fix(a, why.Outcome); fix != "" && (i == 0 || why.TellEN != "") {
			rows = append(rows, []string{tr("Fix:"), fix})
		}
		if source := why.AllowSource; source != "" {
			rows = append(rows, []string{"", trf("or, for an office of yours there: congthu source allow %s --hours 4%s --reason \"...\"", quote(source), c.flags)})
		}
		if next := either(why.NextEN, why.NextVI); next != "" {
			rows = append(rows, []string{tr("Next:"), plainly(next)})
		}
		// After another answer, "all is well" would be a second answer to the user.
		well := i > 0 && i == len(a.Why)-1 && why.Outcome == auth.Accepted.String()
		if tell := either(why.TellEN, why.TellVI); tell != "" && !well {
			rows = append(rows, []string{tr("Tell:"), tell})
		}
		table(w, "  ", wrapRows(w, rows))
	}
	if len(a.Why) == 0 {
		fmt.Fprintf(w, "%s: %s\n", clean(a.Address), clean(tr(a.State)))
	}
}

// fix returns the command that ends the cause of an outcome.
func (c *client) fix(a admin.Account, outcome string) string {
	for _, other := range a.OtherNames {
		if outcome == auth.Locked.String() && a.Locked == nil && other.Locked != nil || outcome == auth.Revoked.String() && a.Revoked == nil && other.Revoked != nil {
			return c.command("merge", a.Address, "")
		}
	}
	verb := ""
	switch outcome {
	case auth.Locked.String():
		switch {
		case a.State == "unknown" && a.Locked == nil:
			return "" // names that are counted together: an unlock has no effect
		case a.Registered.IsZero() && a.Locked != nil: // its state is that of the lock
			return trf("only if the mailbox really exists: %s", c.command("unlock", a.Address, ""))
		}
		verb = "unlock"
	case auth.Throttled.String():
		verb = "unlock"
	case auth.Revoked.String():
		verb = "restore"
	case auth.Expired.String():
		return trf("have the password changed, or: %s", c.command("grace", a.Address, "--days 3"))
	case auth.Unavailable.String(), auth.StoreUnavailable.String():
		return trf("see what is down: congthu health --ready%s", c.flags)
	default:
		return ""
	}
	return c.command(verb, a.Address, "")
}

func (c *client) command(verb, address, more string) string {
	if more != "" {
		more = " " + more
	}
	return fmt.Sprintf(runnable(`congthu account %s %s%s%s --reason "..."`), verb, quote(address), more, c.flags)
}

// printDetails prints the stored facts of an account.
func (c *client) printDetails(w io.Writer, a admin.Account) {
	rows := [][]string{{tr("state"), stateInWords(a.State)}, {tr("wrong passwords"), strconv.Itoa(a.Failures)}, {tr("sessions"), sessionsHere(a)}}
	if a.Unit != "" {
		rows = append([][]string{{tr("unit"), a.Unit}}, rows...)
	}
	instant := func(label string, t time.Time, always bool) {
		if always || !t.IsZero() {
			rows = append(rows, []string{tr(label), when(t, c.zone)})
		}
	}
	if l := a.Locked; l != nil {
		reason, at := orDash(reasonInWords(l.Reason, l.By, c.zone)), when(l.At, c.zone)
		locked := trf("%s by %s (%s): %s", at, actor(l.By), tr(l.Cause), reason)
		if actor(l.By) != l.By && l.By != auth.ByGateway { // the name in the other language already contains the role
			locked = trf("%s by %s: %s", at, actor(l.By), reason)
		}
		rows = append(rows, []string{tr("locked"), locked})
	}
	if r := a.Revoked; r != nil {
		rows = append(rows, []string{tr("revoked"), trf("%s by %s: %s", when(r.At, c.zone), actor(r.By), orDash(reasonInWords(r.Reason, r.By, c.zone)))})
	}
	for _, other := range a.OtherNames {
		name := other.Address
		if name == "" {
			name = tr("(nobody ever logged in)")
		}
		rows = append(rows, []string{tr("other name"), name + ": " + c.held(other)})
	}
	instant("last login", a.LastLogin, true)
	rows = append(rows, c.loginRows(a)...)
	instant("first login", a.FirstLogin, false)
	instant("registered", a.Registered, true)
	instant("restored", a.Restored, false)
	instant("password since", a.PasswordSince, true)
	instant("password expires", a.PasswordExpires, true)
	instant("grace until", a.GraceUntil, false)
	if a.Stale != nil {
		rows = append(rows, []string{tr("previous password"), trf("%s from %s", when(a.Stale.At, c.zone), orDash(a.Stale.Source))})
	}
	fmt.Fprintln(w)
	table(w, "  ", rows)
	c.printSessions(w, a)
	c.printTried(w, a)
	if len(a.Mistakes) > 0 {
		say(w, "\nLatest wrong passwords\n")
		rows = nil
		for _, m := range slices.Backward(a.Mistakes) {
			rows = append(rows, []string{when(m.At, c.zone), trf("from %s", orDash(m.Source))})
		}
		table(w, "  ", rows)
	}
	if len(a.Events) > 0 {
		say(w, "\nLatest events\n")
		table(w, "  ", c.eventRows(a.Events, false))
	}
}

// eventRows returns events as the rows of a table, with a heading.
func (c *client) eventRows(events []admin.Event, account bool) [][]string {
	rows := [][]string{heading("SEQ", "AT", "KIND", "ACCOUNT", "BY", "FROM", "WHAT")}
	for _, e := range events {
		rows = append(rows, []string{strconv.FormatInt(e.Seq, 10), when(e.At, c.zone), e.Kind, orDash(e.Account), actor(e.Actor), orDash(e.Source), orDash(whatHappened(e, c.zone))})
	}
	if !account {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 3, 4)
		}
	}
	return rows
}

// stateWords returns the states as --state accepts them.
func stateWords() (words []string) {
	for _, s := range auth.States() {
		words = append(words, s.String())
	}
	return words
}

// stateUsage is the help text of --state.
var stateUsage = "only accounts in this `STATE`: " + strings.Join(stateWords(), ", ")

func (a *accounts) list() *cobra.Command {
	var state, contains string
	var limit int
	var unknown bool
	states := stateWords()
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List accounts, in the order of their names",
		Long: `List the accounts that have logged in at least once, or were imported, in the order of
their names. The state is what stands in the way of the owner first.

--unknown lists, instead, the names that nobody ever logged in with and for which wrong
passwords came, with --state locked those that are locked. They are no accounts, and are
in no other list, count or report: a name may be a password that somebody has typed in
the wrong place. Pass them on to nobody who need not see them.`,
		Example: `  congthu account list --state locked
  congthu account list --contains hbda --limit 0
  congthu account list --unknown --state locked
  congthu account list --output json | jq -r '.accounts[].address'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state != "" && !slices.Contains(states, state) {
				return usage(cmd, "there is no state %q: write one of %s", state, strings.Join(states, ", "))
			}
			if limit < 0 {
				return usage(cmd, "--limit is a number of accounts; 0 is all")
			}
			locked := auth.StateLocked.String()
			if unknown && state != "" && state != locked {
				return usage(cmd, "with --unknown there is only --state %s: other states are of accounts", locked)
			}
			c, err := a.at.client()
			if err != nil {
				return err
			}
			if unknown {
				return a.printUnknown(cmd, c, state == locked, contains, limit)
			}
			return a.printList(cmd, c, state, contains, limit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", stateUsage)
	f.StringVar(&contains, "contains", "", "only accounts whose name contains this `TEXT`")
	f.IntVar(&limit, "limit", 100, "at most `N` accounts; 0 for all")
	f.BoolVar(&unknown, "unknown", false, "names that nobody ever logged in with, instead; they may be mistyped passwords")
	must(cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("contains", cobra.NoFileCompletions))
	return cmd
}

// pageSize is the largest number of accounts that the gateway returns in one answer.
const pageSize = 1000

// printList fetches pages until it has enough accounts or there are no more.
func (a *accounts) printList(cmd *cobra.Command, c *client, state, contains string, limit int) error {
	found, more, err := c.accounts(cmd.Context(), state, contains, limit)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if a.output == outputJSON {
		return printPages(w, "accounts", found, more)
	}
	rows := [][]string{heading("ADDRESS", "STATE", "WRONG", "LAST LOGIN", "PASSWORD EXPIRES", "SESSIONS")}
	for _, raw := range found {
		var s admin.Summary
		if err := json.Unmarshal(raw, &s); err != nil {
			return errorf("%s does not answer like congthu: %w", c.socket, err)
		}
		rows = append(rows, []string{s.Address, stateInWords(s.State), strconv.Itoa(s.Failures), when(s.LastLogin, c.zone), when(s.PasswordExpires, c.zone), strconv.Itoa(s.Sessions)})
	}
	what := strings.TrimPrefix(state+" account", " ")
	answer := strings.ReplaceAll(plural(len(found), what), "_", " ")
	if len(found) == 0 {
		answer = trf("no %s", stateInWords(what))
	}
	if contains != "" {
		answer += trf(" with %q in the name", contains)
	}
	if more != "" {
		answer += tr(", and there are more: --limit 0 shows all")
	}
	fmt.Fprintf(w, "%s.\n", answer)
	if len(found) > 0 {
		fmt.Fprintln(w)
		table(w, "", rows)
	}
	return nil
}

// printUnknown lists names that are not accounts, under a separate heading.
func (a *accounts) printUnknown(cmd *cobra.Command, c *client, locked bool, contains string, limit int) error {
	query := url.Values{}
	if contains != "" {
		query.Set("q", contains)
	}
	if locked {
		query.Set("locked", "true")
	}
	found, more, err := c.pages(cmd.Context(), "/unknown-names", "unknown_names", query, limit)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if a.output == outputJSON {
		return printPages(w, "unknown_names", found, more)
	}
	if len(found) == 0 {
		say(w, "no names that nobody ever logged in with.\n")
		return nil
	}
	say(w, `Names that nobody ever logged in with
They are no accounts and may be mistyped passwords: keep them to yourself.

`)
	rows := [][]string{heading("NAME", "LOCKED", "WRONG", "LATEST", "FROM")}
	for _, raw := range found {
		var n admin.UnknownName
		if err := json.Unmarshal(raw, &n); err != nil {
			return errorf("%s does not answer like congthu: %w", c.socket, err)
		}
		row := []string{n.Name, "-", strconv.Itoa(n.Failures), "-", "-"}
		if n.Locked != nil {
			row[1] = when(n.Locked.At, c.zone)
		}
		if last := len(n.Mistakes) - 1; last >= 0 {
			row[3], row[4] = when(n.Mistakes[last].At, c.zone), orDash(n.Mistakes[last].Source)
		}
		rows = append(rows, row)
	}
	table(w, "", rows)
	fmt.Fprintln(w)
	if more != "" {
		say(w, "There are more: --limit 0 shows all.\n")
	}
	say(w, "If the mailbox exists: congthu account unlock NAME%s --reason \"...\"; all that one attack has locked: congthu account causes%s\n", c.flags, c.flags)
	return nil
}

// accounts fetches accounts page by page, up to limit; 0 means all. more is not empty
// when further accounts exist.
func (c *client) accounts(ctx context.Context, state, contains string, limit int) (found []json.RawMessage, more string, err error) {
	query := url.Values{}
	if state != "" {
		query.Set("state", state)
	}
	if contains != "" {
		query.Set("q", contains)
	}
	return c.pages(ctx, "/accounts", "accounts", query, limit)
}

// printPages prints the contents of several pages as one list.
func printPages(w io.Writer, field string, found []json.RawMessage, more string) error {
	if found == nil {
		found = []json.RawMessage{}
	}
	list := map[string]any{field: found}
	if more != "" {
		list["next"] = more
	}
	encoded, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return printJSON(w, encoded)
}

// pages fetches one field of a list page by page, up to limit entries; 0 means all.
// more is not empty when further entries exist.
func (c *client) pages(ctx context.Context, path, field string, query url.Values, limit int) (found []json.RawMessage, more string, err error) {
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(found))
		}
		query.Set("limit", strconv.Itoa(size))
		var page map[string]json.RawMessage
		pageCtx, cancel := context.WithTimeout(ctx, patience)
		_, err := c.get(pageCtx, path, query, &page)
		cancel()
		if err != nil {
			return nil, "", err
		}
		var some []json.RawMessage
		var next string
		err = json.Unmarshal(page[field], &some)
		if raw, ok := page["next"]; ok && err == nil {
			err = json.Unmarshal(raw, &next)
		}
		if err != nil {
			return nil, "", errorf("%s does not answer like congthu: %w", c.socket, err)
		}
		found = append(found, some...)
		if next == "" || limit > 0 && len(found) >= limit {
			return found, next, nil
		}
		if next == query.Get("cursor") {
			return nil, "", sentence("the gateway gives the same page again and again")
		}
		query.Set("cursor", next)
	}
}

// hurried returns a context with a short time limit for a completion: the user has
// pressed a key and waits.
func hurried(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, 2*time.Second)
}

// complete offers account names for shell completion.
func (a *accounts) complete(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	c, err := a.at.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := hurried(cmd)
	defer cancel()
	found, _, err := c.accounts(ctx, "", begun, 200)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, raw := range found {
		var s admin.Summary
		if json.Unmarshal(raw, &s) == nil && strings.HasPrefix(s.Address, strings.ToLower(begun)) {
			names = append(names, clean(s.Address)+"\t"+clean(tr(s.State)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
