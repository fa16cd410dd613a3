package realtest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// loggedIn is a submission session past AUTH.
func loggedIn(t *testing.T, door Door, user string) *Dialogue {
	t.Helper()
	d, reply := door.LoginSMTP(t, "", user, Password)
	if !strings.HasPrefix(reply, "235") {
		t.Fatalf("login: %s", reply)
	}
	return d
}

// A client that dies in the middle of a message, at any point, has sent nothing.
// Postfix delivers only the complete message.
func TestAMessageCutAtAnyOctetIsNotDelivered(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	message := func(id string) string {
		return "From: <" + user + ">\r\nSubject: " + id + "\r\n\r\n.\r\n..\r\nline\r\n\r\n.\r\n"
	}
	// The dots at the beginning of lines are stuffed, so the end is the last one.
	octets := func(id string) string {
		text := strings.TrimSuffix(message(id), ".\r\n")
		return strings.ReplaceAll(text, "\r\n.", "\r\n..") + ".\r\n"
	}
	transaction := func(door Door) *Dialogue {
		d := loggedIn(t, door, user)
		d.MustReply("250", "MAIL FROM:<"+user+">")
		d.MustReply("250", "RCPT TO:<"+user+">")
		d.MustReply("354", "DATA")
		return d
	}
	n := len(octets("cut-000"))
	each(4, func(worker int) {
		for cut := worker; cut < n; cut += 4 {
			d := transaction(g.Door())
			d.Say(octets(fmt.Sprintf("cut-%03d", cut))[:cut])
			switch cut % 3 {
			case 0: // orderly: TLS says goodbye
				d.Close()
			case 1: // the program died: the kernel closes the connection
				d.TCP.Close()
			case 2: // the machine died: reset
				d.TCP.SetLinger(0)
				d.TCP.Close()
			}
		}
	})
	// The same with BDAT, which says beforehand how much comes (RFC 3030).
	chunk := message("bdat")
	each(4, func(worker int) {
		for cut := worker; cut < len(chunk); cut += 4 {
			d := loggedIn(t, g.Door(), user)
			d.MustReply("250", "MAIL FROM:<"+user+">")
			d.MustReply("250", "RCPT TO:<"+user+">")
			d.Say(fmt.Sprintf("BDAT %d LAST\r\n%s", len(chunk), chunk[:cut]))
			if cut%2 == 0 {
				d.Close()
			} else {
				d.TCP.Close()
			}
		}
	})
	// In two chunks, the first of which ends inside the header, so that the gateway holds
	// it; and everything at once, with the envelope.
	half := strings.Index(chunk, "Subject") + 3
	envelope := "MAIL FROM:<" + user + ">\r\nRCPT TO:<" + user + ">\r\n"
	for _, all := range []string{
		envelope + fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", half, chunk[:half], len(chunk)-half, chunk[half:]),
		envelope + "DATA\r\n" + octets("at once"),
		// A longer header, which the gateway holds.
		envelope + "DATA\r\nX-Long: " + strings.Repeat("x", 200) + "\r\n" + octets("held"),
	} {
		each(4, func(worker int) {
			for cut := worker; cut < len(all); cut += 4 {
				d := loggedIn(t, g.Door(), user)
				d.Say(all[:cut])
				switch {
				case cut%32 < 4: // half-closed
					d.TCP.CloseWrite()
					d.Rest()
				case cut%3 == 0:
					d.Close()
				case cut%3 == 1:
					d.TCP.Close()
				default:
					d.TCP.SetLinger(0)
					d.TCP.Close()
				}
			}
		})
	}
	// Whole chunks, but never the last one.
	d := loggedIn(t, g.Door(), user)
	d.MustReply("250", "MAIL FROM:<"+user+">")
	d.MustReply("250", "RCPT TO:<"+user+">")
	d.Say(fmt.Sprintf("BDAT %d\r\n%s", len(chunk), chunk))
	d.Say("QUIT\r\n")
	d.Rest()

	whole := transaction(g.Door())
	whole.Say(octets("whole"))
	if reply := whole.Reply(); !strings.HasPrefix(reply, "250 ") {
		t.Fatalf("the whole message: %s", reply)
	}
	Eventually(t, "the whole message", func() bool { return len(Dovecot(t).Delivered(t, user)) > 0 })
	// What is cut off is thrown away when Postfix notices; it has noticed all
	// when no session of this user is left.
	Postfix(t).Settle(t)
	messages := Dovecot(t).Delivered(t, user)
	if len(messages) != 1 || !strings.Contains(messages[0], "Subject: whole") {
		t.Errorf("%d messages were delivered, want the whole one:\n%q", len(messages), messages)
	}
}

// A message without a single octet has no author: it is refused, and the
// session goes on.
func TestAnEmptyMessageIsRefused(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for _, end := range []string{"DATA\r\n.\r\n", "BDAT 0 LAST\r\n"} {
		d := loggedIn(t, g.Door(), user)
		d.MustReply("250", "MAIL FROM:<"+user+">")
		d.MustReply("250", "RCPT TO:<"+user+">")
		d.Say(end)
		reply := d.Reply()
		if strings.HasPrefix(reply, "354") {
			reply = d.Reply()
		}
		if !strings.HasPrefix(reply, "550 5.7.1") {
			t.Errorf("%q: %s", end, reply)
		}
		d.MustReply("250", "NOOP")
	}
}

// trick is a message that tries to come from another person, or to be two.
type trick struct {
	name string
	head string // before the blank line; ME and VICTIM are addresses
	// allowed is for what is no trick at all and must arrive.
	allowed bool
}

var headerTricks = []trick{
	{"honest", "From: <ME>", true},
	{"display name", "From: \"Van phong\" <ME>", true},
	{"encoded display name", "From: =?utf-8?q?X=C3=A3?= <ME>", true},
	{"bare address", "From: ME", true},
	{"comment", "From: ME (Van phong)", true},
	{"upper case", "FROM: <ME>", true},
	{"folded", "From:\r\n <ME>", true},
	{"sender is me too", "From: <ME>\r\nSender: <ME>", true},
	{"comment in front", "From: (Van phong) ME", true},
	{"comment in front of the brackets", "From: (a (b)) Van (c) phong <ME>", true},
	{"comments in the brackets", "From: Van phong <(a) ME (b)>", true},
	{"address folded", "From: ME_LOCAL\r\n @ME_DOMAIN", true},
	{"address folded, with comments", "From: Van phong <ME_LOCAL (a)\r\n @\r\n (b) ME_DOMAIN>", true},
	{"quoted local part", "From: \"ME_LOCAL\"@ME_DOMAIN", true},
	{"empty places in the list", "From: ,<ME>,", true},
	{"subaddress", "From: <ME_LOCAL+tag@ME_DOMAIN>", true},
	{"victim", "From: <VICTIM>", false},
	{"victim behind a comment", "From: (ME) VICTIM", false},
	{"victim with a comment inside", "From: VICTIM_LOCAL(ME)@ME_DOMAIN", false},
	{"victim's address folded", "From: VICTIM_LOCAL\r\n @ME_DOMAIN", false},
	{"victim in brackets in a comment", "From: (<VICTIM>) <ME>", false},
	{"victim in brackets in a comment behind", "From: ME (<VICTIM>)", false},
	{"victim before my comment", "From: VICTIM_LOCAL(x)ME", false},
	{"victim's subaddress of me", "From: \"ME_LOCAL+<VICTIM>\"@ME_DOMAIN", false},
	{"victim as my subaddress", "From: \"ME_LOCAL+VICTIM\"@ME_DOMAIN", false},
	{"subaddress with a space", "From: \"ME_LOCAL+ VICTIM_LOCAL\"@ME_DOMAIN", false},
	{"subaddress that turns round", "From: <ME_LOCAL+\u202eVICTIM_LOCAL@ME_DOMAIN>", false},
	{"blanks around dots", "From: VICTIM_LOCAL . ME", false},
	{"domain goes on", "From: ME (x) .evil.example", false},
	{"victim as display name", "From: \"VICTIM\" <VICTIM>", false},
	{"victim in lower case header", "from: <VICTIM>", false},
	{"victim folded", "From:\r\n\t<VICTIM>", false},
	{"two headers", "From: <ME>\r\nFrom: <VICTIM>", false},
	{"two headers, victim first", "From: <VICTIM>\r\nFrom: <ME>", false},
	{"two headers, other case", "From: <ME>\r\nfrom: <VICTIM>", false},
	{"space before the colon", "From : <VICTIM>", false},
	{"space before the colon, after mine", "From: <ME>\r\nFrom : <VICTIM>", false},
	{"tab before the colon", "From: <ME>\r\nFrom\t: <VICTIM>", false},
	{"two mailboxes", "From: <ME>, <VICTIM>", false},
	{"two mailboxes and me as sender", "From: <VICTIM>, <ME>\r\nSender: <ME>", false},
	{"group", "From: staff: <VICTIM>;", false},
	{"group of both", "From: staff: <ME>, <VICTIM>;", false},
	{"source route", "From: <@relay.example:VICTIM>", false},
	{"route to me", "From: <@VICTIM:ME>", false},
	{"no address", "From: Van phong", false},
	{"empty", "From:", false},
	{"missing", "Subject: nobody", true},
	{"unfinished quote", "From: \"ME <VICTIM>", false},
	{"quote hides mine", "From: \"<ME>\" <VICTIM>", false},
	{"comment hides the victim's end", "From: <VICTIM> (<ME>)", false},
	{"nested comment", "From: (a (b) <ME>) <VICTIM>", false},
	{"two angles", "From: <ME><VICTIM>", false},
	{"encoded word as address", "From: =?utf-8?q?VICTIM?=", false},
	{"sender is the victim", "From: <ME>\r\nSender: <VICTIM>", false},
	{"two senders", "From: <ME>\r\nSender: <ME>\r\nSender: <VICTIM>", false},
	{"resent from the victim", "From: <ME>\r\nResent-From: <VICTIM>", false},
	{"resent sender", "From: <ME>\r\nResent-From: <ME>\r\nResent-Sender: <VICTIM>", false},
	{"continuation first", " From: <ME>\r\nFrom: <VICTIM>", false},
	{"mbox line", "From VICTIM Thu Mar  5 08:00:00 2026\r\nFrom: <VICTIM>", false},
	{"mbox line before mine", "From VICTIM Thu Mar  5 08:00:00 2026\r\nFrom: <ME>", false},
	{"no colon before mine", "this is no header\r\nFrom: <ME>", false},
	{"NUL in the name", "Fr\x00om: <ME>\r\nFrom: <VICTIM>", false},
	{"NUL in mine", "From: <ME>\x00, <VICTIM>", false},
	{"bare LF before the victim", "From: <ME>\nFrom: <VICTIM>", false},
	{"bare CR before the victim", "From: <ME>\rFrom: <VICTIM>", false},
	{"bare LF ends the header", "Subject: x\n\nFrom: <ME>\r\nFrom: <VICTIM>", false},
	{"vertical tab", "From: <ME>\v\r\nFrom: <VICTIM>", false},
	{"full-width", "From: <ME>\r\n\xef\xbc\xa6rom: <VICTIM>", false},
	{"soft hyphen in the name", "From: <ME>\r\nFro\xc2\xadm: <VICTIM>", false},
	{"blank line with a space", "Subject: x\r\n \r\nFrom: <VICTIM>", false},
	{"subaddress of the victim", "From: <VICTIM_TAGGED>", false},
	{"very long", "X-Filler: " + strings.Repeat("x", 900) + strings.Repeat("\r\n "+strings.Repeat("y", 900), 300) + "\r\nFrom: <ME>", false},
}

// fromLine finds the headers that any reader might take for the author: it
// unfolds, and looks past blanks before the colon.
var fromLine = regexp.MustCompile(`(?im)^[ \t]*(?:from|sender|resent-from|resent-sender)[ \t]*:(.*)$`)

// tricked is what became of one trick.
type tricked struct {
	reply     string
	refused   bool
	delivered string // the message in the mailbox; empty when there is none
	// forged is a header in it that names the victim as the author.
	forged string
}

// playTricks submits every trick at a door and reads what arrived.
func playTricks(t *testing.T, door Door, me, victim string) []tricked {
	t.Helper()
	local, domain, _ := strings.Cut(me, "@")
	theirs, _, _ := strings.Cut(victim, "@")
	names := strings.NewReplacer("ME_LOCAL", local, "ME_DOMAIN", domain, "ME", me,
		"VICTIM_TAGGED", strings.Replace(victim, "@", "+tag@", 1), "VICTIM_LOCAL", theirs, "VICTIM", victim)
	results := make([]tricked, len(headerTricks))
	for i, trick := range headerTricks {
		// A session each: a refused message may end it.
		d := loggedIn(t, door, me)
		d.MustReply("250", "MAIL FROM:<"+me+">")
		d.MustReply("250", "RCPT TO:<"+me+">")
		d.MustReply("354", "DATA")
		d.Say(fmt.Sprintf("%s\r\nX-Trick: %d\r\n\r\nbody\r\n.\r\n", names.Replace(trick.head), i))
		results[i].reply = d.Reply()
		results[i].refused = !strings.HasPrefix(results[i].reply, "250 ")
		d.Close()
	}
	Postfix(t).Settle(t)
	number := regexp.MustCompile(`X-Trick: (\d+)`)
	for _, message := range Dovecot(t).Delivered(t, me) {
		m := number.FindStringSubmatch(message)
		if m == nil {
			t.Errorf("a message of nobody's arrived: %q", message)
			continue
		}
		r := &results[id(t, m[1])]
		r.delivered = message
		head, _, _ := strings.Cut(message, "\n\n")
		// The traces at the top are the servers' own.
		head = regexp.MustCompile(`\n[ \t]+`).ReplaceAllString(traces.ReplaceAllString(head+"\n", ""), " ")
		for _, m := range fromLine.FindAllStringSubmatch(head, -1) {
			if strings.Contains(m[1], victim) {
				r.forged = m[0]
			}
		}
	}
	return results
}

// If the gateway accepts a message, the message in the mailbox comes from its sender,
// for every reader.
func TestHeaderTricksNeverArriveAsSomebodyElse(t *testing.T) {
	t.Parallel()
	// Straight at Postfix most of the tricks work: they are real ones.
	works := 0
	for _, r := range playTricks(t, Straight(t), Dovecot(t).Account(t), Dovecot(t).Account(t)) {
		if r.forged != "" {
			works++
		}
	}
	if works < len(headerTricks)/3 {
		t.Errorf("only %d of %d tricks work at Postfix itself: does the test see them?", works, len(headerTricks))
	}
	t.Logf("%d of %d tricks work at Postfix itself", works, len(headerTricks))

	me, victim := Dovecot(t).Account(t), Dovecot(t).Account(t)
	onlyMe := func(authors []string) bool {
		return !slices.ContainsFunc(authors, func(a string) bool {
			return !strings.EqualFold(strings.Replace(a, "+tag@", "@", 1), me)
		})
	}
	for i, r := range playTricks(t, Congthu(t).Door(), me, victim) {
		trick := headerTricks[i]
		if r.refused && !strings.HasPrefix(r.reply, "550 5.7.1") && !strings.HasPrefix(r.reply, "500 5.5.2") {
			t.Errorf("%s: answered %q", trick.name, r.reply)
		}
		if r.refused == trick.allowed {
			t.Errorf("%s: answered %q, allowed: %v", trick.name, r.reply, trick.allowed)
		}
		if r.refused != (r.delivered == "") {
			t.Errorf("%s: answered %q, delivered %q", trick.name, r.reply, r.delivered)
		}
		if r.delivered == "" {
			continue
		}
		if r.forged != "" {
			t.Errorf("%s: arrived and says %q", trick.name, r.forged)
		}
		if authors := pythonAuthors(t, "policy", r.delivered); !onlyMe(authors) || len(authors) == 0 {
			t.Errorf("%s: arrived, and Python reads %q as its author", trick.name, authors)
		}
		// The older one gives up where readers differ, as at empty places in a list.
		if authors := pythonAuthors(t, "utils", r.delivered); !onlyMe(authors) {
			t.Errorf("%s: arrived, and Python's older parser reads %q as its author", trick.name, authors)
		}
	}
}

// pythonAuthors reads the authors of a message with one of Python's two parsers,
// which know the whole grammar of addresses and share no code with ours.
func pythonAuthors(t *testing.T, parser, message string) []string {
	t.Helper()
	const program = `
import email, email.policy, email.utils, sys
raw = sys.stdin.buffer.read()
if sys.argv[1] == "policy":
    message = email.message_from_bytes(raw, policy=email.policy.default)
    found = [a.addr_spec for h in message.get_all("from", []) for a in h.addresses]
else:
    message = email.message_from_bytes(raw)
    found = [a for _, a in email.utils.getaddresses([str(h) for h in message.get_all("from", [])])]
print("\n".join(a for a in found if a))`
	python := exec.Command("/usr/bin/python3", "-B", "-E", "-s", "-c", program, parser)
	python.Stdin = strings.NewReader(message)
	out, err := python.Output()
	if err != nil {
		t.Errorf("python: %v", err)
		return nil
	}
	return strings.Fields(string(out))
}

// Postfix alone lets a logged-in client use any sender; the gateway does not.
func TestOnlyTheOwnerSendsAsAnAddress(t *testing.T) {
	t.Parallel()
	g := Congthu(t)
	me, victim := Dovecot(t).Account(t), Dovecot(t).Account(t)
	for _, try := range []struct {
		name, user, envelope, header string
		envelopeOK, headerOK         bool
	}{
		{"own address", me, me, me, true, true},
		{"own address, other case", me, strings.ToUpper(me), strings.ToUpper(me), true, true},
		{"somebody's envelope", me, victim, me, false, false},
		{"somebody's header", me, me, victim, true, false},
		{"a stranger's envelope", me, "boss@example.com", me, false, false},
		{"bounce", me, "", me, true, true},
		{"bounce from somebody", me, "", victim, true, false},
		{"alias", AliasOf, "vanthu@" + Domain, "vanthu@" + Domain, true, true},
		{"somebody's alias", me, "vanthu@" + Domain, me, false, false},
		{"delegated", DelegateOf, "vanphong@" + Domain, "vanphong@" + Domain, true, true},
		{"not delegated", me, "vanphong@" + Domain, me, false, false},
		{"not delegated header", me, me, "vanphong@" + Domain, true, false},
	} {
		t.Run(try.name, func(t *testing.T) {
			d := loggedIn(t, g.Door(), try.user)
			reply := d.Ask("MAIL FROM:<" + try.envelope + ">")
			if ok := strings.HasPrefix(reply, "250"); ok != try.envelopeOK || !ok && !strings.HasPrefix(reply, "553 5.7.1") {
				t.Errorf("MAIL FROM: %s", reply)
			}
			if !strings.HasPrefix(reply, "250") {
				return
			}
			d.MustReply("250", "RCPT TO:<"+me+">")
			d.MustReply("354", "DATA")
			reply = d.Ask("From: <" + try.header + ">\r\n\r\nbody\r\n.")
			if ok := strings.HasPrefix(reply, "250"); ok != try.headerOK || !ok && !strings.HasPrefix(reply, "550 5.7.1") {
				t.Errorf("From: %s", reply)
			}
			if try.headerOK && !strings.Contains(reply, "queued as") {
				t.Errorf("Postfix's own reply did not come through: %s", reply)
			}
		})
	}
}

// Only CRLF.CRLF ends a message: none of these smuggles in a second one, or
// arrives at all.
func TestNothingIsSmuggledBehindAnEndThatIsNone(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for _, end := range []string{"\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n"} {
		d := loggedIn(t, g.Door(), user)
		d.MustReply("250", "MAIL FROM:<"+user+">")
		d.MustReply("250", "RCPT TO:<"+user+">")
		d.MustReply("354", "DATA")
		d.Say("From: <" + user + ">\r\nSubject: outer\r\n\r\nbody" + end +
			"MAIL FROM:<boss@congthu.test>\r\nRCPT TO:<" + user + ">\r\nDATA\r\n" +
			"From: <boss@congthu.test>\r\nSubject: smuggled\r\n\r\nsmuggled\r\n.\r\n")
		// A bare CR or LF is refused; a NUL between the lines is body text.
		reply := d.Reply()
		if !strings.HasPrefix(reply, "500 5.5.2") && !strings.Contains(end, "\x00") {
			t.Errorf("%q: %s", end, reply)
		}
		// Whatever is left must be taken as commands of this session or as nothing.
		d.Say("QUIT\r\n")
		d.Rest()
	}
	Postfix(t).Settle(t)
	for _, message := range Dovecot(t).Delivered(t, user) {
		if strings.Contains(message, "\nSubject: smuggled") && !strings.Contains(message, "Subject: outer") {
			t.Errorf("smuggled: %q", message)
		}
		if strings.Contains(message, "Return-Path: <boss@") {
			t.Errorf("sent as somebody else: %q", message)
		}
	}
}

// What comes with STARTTLS, before the handshake, ends the connection: whoever put
// it there wants it executed behind the handshake (RFC 3207 section 6).
func TestWordsBeforeTheHandshakeAreNotExecutedAfterIt(t *testing.T) {
	t.Parallel()
	g := Congthu(t)
	smtp := Dial(t, g.Submission, "")
	smtp.Reply()
	smtp.MustReply("250", "EHLO client.example")
	smtp.MustReply("421", "STARTTLS\r\nNOOP injected")
	if rest := smtp.Rest(); rest != "" {
		t.Errorf("submission goes on: %q", rest)
	}
	imap := Dial(t, g.IMAP, "")
	imap.Hear()
	imap.Say("a STARTTLS\r\nb NOOP\r\n")
	if all := imap.Rest(); !strings.HasPrefix(all, "* BYE ") || strings.Count(all, "\n") != 1 {
		t.Errorf("IMAP goes on: %q", all)
	}
}

// Who asks where a message is has an account and a time. The gateway's log has the
// session, that has the queue id, and with it Postfix's log tells the rest; whom the
// message is for stands in Postfix's log alone.
func TestAMessageIsTracedFromTheLoginToPostfix(t *testing.T) {
	t.Parallel()
	g, user, other := Congthu(t), Dovecot(t).Account(t), Dovecot(t).Account(t)
	d := loggedIn(t, g.Door(), user)
	d.MustReply("250", "MAIL FROM:<"+user+">")
	d.MustReply("250", "RCPT TO:<"+other+">")
	d.MustReply("250", "RCPT TO:<"+user+">")
	d.MustReply("354", "DATA")
	d.MustReply("250", "From: <"+user+">\r\nSubject: trace\r\n\r\nhello\r\n.")
	d.MustReply("221", "QUIT")
	d.Close()
	type line struct {
		Msg, Session, Account, Protocol, Source, Outcome string
		QueueID                                          string `json:"queue_id"`
		Recipients, Messages                             int
	}
	found := make(map[string]line)
	Eventually(t, "the end of the session in the log", func() bool {
		for text := range strings.Lines(g.LogText()) {
			var l line
			if json.Unmarshal([]byte(text), &l) == nil && l.Account == user {
				found[l.Msg] = l
			}
		}
		return found["session ends"].Session != ""
	})
	login, message, end := found["login"], found["message submitted"], found["session ends"]
	if login.Session == "" || login.Outcome != "accepted" || message.Session != login.Session || end.Session != login.Session {
		t.Fatalf("not one session: %+v", found)
	}
	for name, l := range found {
		if l.Protocol != "smtp" && name != "event" || !strings.HasPrefix(l.Source, "127.") && name != "event" {
			t.Errorf("%+v", l)
		}
	}
	if message.QueueID == "" || message.Recipients != 2 || end.Messages != 1 {
		t.Fatalf("%+v", found)
	}
	Eventually(t, "Postfix's log to have the message", func() bool {
		return Postfix(t).LogHas(message.QueueID+":", "from=<"+user+">") && Postfix(t).LogHas(message.QueueID+":", "to=<"+other+">")
	})
	if strings.Contains(g.LogText(), other) {
		t.Errorf("the gateway's log has the recipient %s", other)
	}
}
