package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"congthu/gateway/admin"
)

// What support staff see of an account beside the reasons: the sources of its logins,
// its open sessions, which repeated wrong passwords come from one program, and what to
// do next.

// What to tell a user while it is not known whether the gateway runs.
const (
	tellUnseenEN = "We cannot see your account at the moment. Your password need not be wrong: do not change it, and try again in some minutes."
	tellUnseenVI = "Hiện chúng tôi chưa tra cứu được tài khoản của quý vị. Chưa hẳn là sai mật khẩu: đề nghị quý vị không đổi mật khẩu và thử lại sau ít phút."
)

// What to tell a user while the gateway itself cannot answer.
const (
	tellGatewayEN = "The mail gateway is not in order at the moment. Your password need not be wrong: do not change it, and try again in some minutes; we look into it."
	tellGatewayVI = "Cổng thư đang gặp sự cố. Chưa hẳn là sai mật khẩu: đề nghị quý vị không đổi mật khẩu và thử lại sau ít phút; chúng tôi đang xử lý."
)

// printTellMeanwhile prints what to tell the user on the telephone when the gateway or
// its store does not answer.
func (c *client) printTellMeanwhile(w io.Writer, name string, err error) {
	en, vi := tellGatewayEN, tellGatewayVI
	var r *refusal
	var d downError
	var unseen unseenError
	switch {
	case errors.As(err, &r) && r.TellEN != "":
		en, vi = r.TellEN, r.TellVI
	case errors.As(err, &d):
	case errors.As(err, &unseen):
		en, vi = tellUnseenEN, tellUnseenVI
	default:
		return // the address is wrong, or the caller lacks the permission
	}
	say(w, "%s: the gateway cannot be asked at the moment; the account may be in order.\n", clean(name))
	rows := tellRows(en, vi)
	if r != nil {
		rows = append([][]string{{tr("Fix:"), trf("see what is down: congthu health --ready%s", c.flags)},
			{tr("Next:"), tr("call the gateway's administrator: the gateway's store does not work.")}}, rows...)
	}
	table(w, "  ", wrapRows(w, rows))
}

// tellRows returns the rows with what to tell the user.
func tellRows(en, vi string) [][]string { return [][]string{{tr("Tell:"), either(en, vi)}} }

// printDone prints the result of an act, and what to tell the user.
func printDone(w io.Writer, a admin.Account) {
	paragraph(w, plainly(clean(strings.TrimSpace(either(a.DoneEN, a.DoneVI)+" "+either(a.NoteEN, a.NoteVI)))))
	if a.TellEN != "" {
		table(w, "  ", wrapRows(w, tellRows(a.TellEN, a.TellVI)))
	}
}

// printAdvice prints which accounts the caller may have meant.
func (c *client) printAdvice(w io.Writer, a admin.Account) {
	var rows [][]string
	for i, address := range a.Similar {
		label := ""
		if i == 0 {
			label = tr("Did you mean:")
		}
		rows = append(rows, []string{label, fmt.Sprintf(runnable("congthu account show %s%s"), quote(address), c.flags)})
	}
	table(w, "  ", rows)
}

// sessionsHere returns the number of live sessions, and says where others may be.
func sessionsHere(a admin.Account) string {
	if a.ThisGatewayOnly {
		return trf("%d at this gateway; the others have their own", a.Sessions)
	}
	return strconv.Itoa(a.Sessions)
}

// loginRows returns rows with the origins of logins.
func (c *client) loginRows(a admin.Account) (rows [][]string) {
	if o := a.LastLoginFrom; o != nil {
		rows = append(rows, []string{tr("last login from"), from(*o) + ", " + when(o.At, c.zone)})
	}
	var places []string
	for _, n := range a.LoggedInFrom {
		places = append(places, n.Source)
	}
	if len(places) > 0 {
		rows = append(rows, []string{tr("logged in from"), strings.Join(places, ", ")})
	}
	return rows
}

// from describes the origin of a login: source, protocol and program.
func from(o admin.Origin) string {
	place := trf("%s over %s", orDash(o.Source), strings.ToUpper(o.Protocol))
	if o.Program != "" {
		place += " (" + o.Program + ")"
	}
	return place
}

// printSessions prints the open sessions.
func (c *client) printSessions(w io.Writer, a admin.Account) {
	if len(a.OpenSessions) == 0 {
		c.printStolen(w, a)
		return
	}
	if a.ThisGatewayOnly {
		say(w, "\nOpen sessions at this gateway\n")
	} else {
		say(w, "\nOpen sessions\n")
	}
	var rows [][]string
	for _, o := range a.OpenSessions {
		rows = append(rows, []string{trf("since %s", when(o.At, c.zone)), trf("from %s", from(o))})
	}
	table(w, "  ", rows)
	if more := a.Sessions - len(a.OpenSessions); more > 0 {
		say(w, "  and %d more\n", more)
	}
	c.printStolen(w, a)
}

// printStolen prints what to do about a lost or stolen device, whether or not it is
// connected now. The command has a line to itself, so that it can be copied whole.
func (c *client) printStolen(w io.Writer, a admin.Account) {
	if a.State == unknownState && a.Locked == nil {
		fmt.Fprintln(w)
		c.printLockUnknown(w, a.Address, len(a.Similar) > 0)
		return
	}
	if a.Registered.IsZero() || a.Locked != nil || a.Revoked != nil {
		return // no device can log in, or none is likely to have the password
	}
	rows := [][]string{{tr("Lost or stolen device:"), c.command("lock", a.Address, "")}}
	switch {
	case a.Sessions > 0 && a.ThisGatewayOnly:
		rows = append(rows, []string{"", trf("ends %s here, and those at the other gateways", plural(a.Sessions, "open session"))})
	case a.Sessions > 0:
		rows = append(rows, []string{"", trf("ends %s", plural(a.Sessions, "open session"))})
	default:
		fmt.Fprintln(w)
	}
	table(w, "  ", append(rows, []string{"", tr("then change the password at the mail server, and unlock")}))
}

// unknownState is the state of a mailbox that the gateway has not seen; see admin.
const unknownState = "unknown"

// printUnknown prints what to do when an act was refused because the gateway does not know
// the mailbox: which ones the caller may have meant, or how it can be locked.
func (c *client) printUnknown(ctx context.Context, w io.Writer, name, verb string) {
	var a admin.Account
	// Without an answer there is no advice; the refusal itself is reported anyway.
	_, err := c.get(ctx, accountPath(name), nil, &a)
	similar := err == nil && len(a.Similar) > 0
	if similar {
		c.printAdvice(w, a)
	}
	if verb == "lock" {
		c.printLockUnknown(w, name, similar)
	}
}

// printLockUnknown prints how to lock a mailbox that the gateway has not seen yet. Each
// command has a line to itself, so that it can be copied whole. similar says that the
// address resembles others, so it may be misspelt.
func (c *client) printLockUnknown(w io.Writer, address string, similar bool) {
	register := trf("printf %s | congthu import accounts -%s --reason \"...\"", quote(`address\n`+strings.ReplaceAll(address, "%", "%%")+`\n`), c.flags)
	lock := c.command("lock", address, "")
	if similar { // the label is longer than half a line
		table(w, "  ", [][]string{{tr("Lost or stolen device, and the address is spelt right:")}})
		table(w, "    ", [][]string{{register}, {lock}})
		return
	}
	table(w, "  ", [][]string{{tr("Lost or stolen device:"), register}, {"", lock}})
}

// printTried prints which wrong passwords are repetitions, and their origin.
func (c *client) printTried(w io.Writer, a admin.Account) {
	if len(a.Tried) == 0 {
		return
	}
	if a.ThisGatewayOnly {
		say(w, "\nWrong passwords by program, as this gateway has seen them\n")
	} else {
		say(w, "\nWrong passwords by program\n")
	}
	rows := [][]string{heading("PASSWORD", "TIMES", "FIRST", "LATEST", "FROM")}
	for _, t := range a.Tried {
		rows = append(rows, []string{
			trf("wrong password %d", t.Password), strconv.Itoa(t.Times), when(t.First, c.zone), when(t.Last, c.zone),
			from(admin.Origin{Source: t.Source, Protocol: t.Protocol, Program: t.Program}),
		})
	}
	table(w, "  ", rows)
}
