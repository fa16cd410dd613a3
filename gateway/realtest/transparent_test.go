package realtest

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// exchange is a dialogue after login that has the same replies directly at Postfix and
// through the gateway.
type exchange struct {
	name  string
	turns []turn
	// codes are the expected replies. Each is a prefix: 250 matches 250 2.1.0.
	codes string
	// through are the codes of the gateway, if a rule of its own makes them differ.
	through string
	// delivered is the number of delivered messages; keptBack is how many of them the
	// gateway refuses.
	delivered, keptBack int
	// smtpdTimeout is the time-out of Postfix; 0 means its default.
	smtpdTimeout time.Duration
}

// Two values of smtpd_timeout that replace minutes. impatience is for clients that send
// something in time, or nothing at all; holding is for a session that the gateway keeps
// open, since it sends NOOP every 30 s.
const (
	impatience = 5 * time.Second
	holding    = 34 * time.Second
)

const (
	mailFromMe = "MAIL FROM:<{me}>"
	rcptToMe   = "RCPT TO:<{me}>"
)

// aMessage returns a message in the form of DATA.
func aMessage(subject, rest string) string {
	return "From: <{me}>\r\nSubject: " + subject + "\r\n\r\n" + rest + ".\r\n"
}

// transaction returns the turns of a message with its envelope.
func transaction(subject, rest string) []turn {
	return append(say(mailFromMe, rcptToMe), turn{commands: []string{"DATA\r\n"}, body: aMessage(subject, rest)})
}

func after(d time.Duration, turns ...turn) []turn {
	turns = slices.Clone(turns)
	turns[0].before = d
	return turns
}

func unknownBeforeEach(n int) (turns []turn) {
	for range n {
		turns = append(turns, say("XYZZY")...)
		turns = append(turns, transaction("one of many", "text\r\n")...)
	}
	return turns
}

// many is a pipelined transaction with this number of recipients.
func many(recipients int) turn {
	t := turn{commands: []string{mailFromMe + "\r\n"}, body: aMessage("many recipients", "text\r\n")}
	for range recipients {
		t.commands = append(t.commands, rcptToMe+"\r\n")
	}
	t.commands = append(t.commands, "DATA\r\n")
	return t
}

func exchanges() []exchange {
	megabytes := func(n int) string { return strings.Repeat(strings.Repeat("y", 998)+"\r\n", 1000*n) }
	bosses := "From: <{boss}>\r\nSubject: somebody's\r\n\r\n"
	slow := turn{commands: []string{"DATA\r\n"}, wait: holding / 6,
		body: "From: <{me}>\r\nSubject: slow\r\nX-1: 1\r\nX-2: 2\r\nX-3: 3\r\nX-4: 4\r\nX-5: 5\r\nX-6: 6\r\n\r\ntext\r\n.\r\n"}
	return []exchange{
		{name: "a line of 100,000 octets", turns: transaction("long", strings.Repeat("x", 100_000)+"\r\nend\r\n"), codes: "250 250 354 250", delivered: 1},
		{name: "a line of 10 MB", turns: transaction("longer", strings.Repeat("x", 10_000_000)+"\r\nend\r\n"), codes: "250 250 354 250", delivered: 1},
		{name: "a blank behind each command", delivered: 1, codes: "250 250 250 354 250 250 221",
			turns: slices.Concat(say("NOOP ", mailFromMe+" ", rcptToMe+" "), []turn{{commands: []string{"DATA \r\n"}, body: aMessage("blanks", "text\r\n")}}, say("RSET ", "QUIT "))},
		{name: "NOOP, DATA, RSET and QUIT with a blank", delivered: 1, codes: "250 250 250 354 250 250 221",
			turns: slices.Concat(say("NOOP ", mailFromMe, rcptToMe), []turn{{commands: []string{"DATA \r\n"}, body: aMessage("blanks", "text\r\n")}}, say("RSET ", "QUIT "))},
		{name: "RCPT TO:<Postmaster>", turns: say(mailFromMe, "RCPT TO:<Postmaster>"), codes: "250 250"},
		{name: "RCPT TO:<u5>", turns: say(mailFromMe, "RCPT TO:<{u}>"), codes: "250 250"},
		{name: "RCPT TO:<nobody>", turns: say(mailFromMe, "RCPT TO:<nobody>"), codes: "250 550"},
		{name: "MAIL FROM:<u4>", delivered: 1, codes: "250 250 354 250",
			turns: append(say("MAIL FROM:<{u}>", rcptToMe), turn{commands: []string{"DATA\r\n"}, body: aMessage("no domain", "text\r\n")})},
		{name: "NOOP now and then, then MAIL", smtpdTimeout: impatience, codes: "250 250 250 250 250 250",
			turns: slices.Concat(after(impatience/3, say("NOOP")...), after(impatience/3, say("NOOP")...), after(impatience/3, say("NOOP")...),
				after(impatience/3, say("NOOP")...), after(impatience/3, say("NOOP")...), after(impatience/3, say(mailFromMe)...))},
		{name: "silence", smtpdTimeout: impatience, codes: "250 421 closed", turns: []turn{say("NOOP")[0], {toTheEnd: true}}},
		{name: "silence after MAIL", smtpdTimeout: impatience, codes: "250 421 closed", turns: []turn{say(mailFromMe)[0], {toTheEnd: true}}},
		{name: "a header that takes long", smtpdTimeout: holding, turns: append(say(mailFromMe, rcptToMe), slow), codes: "250 250 354 250", delivered: 1},
		{name: "an unknown command before each of ten messages", turns: unknownBeforeEach(10), codes: strings.Repeat("50 250 250 354 250 ", 10), delivered: 10},
		{name: "BDAT, RSET, MAIL", codes: "250 250 250 250 250",
			turns: slices.Concat(say(mailFromMe, rcptToMe), []turn{{commands: []string{bdat(strings.Repeat("X-Filler: a\r\n", 7)+"X-Last: b", "")}}}, say("RSET", mailFromMe))},
		{name: "ENVID with xtext", turns: say(mailFromMe + " ENVID=a+3db"), codes: "250"},
		{name: "ORCPT with xtext", turns: say(mailFromMe, rcptToMe+" ORCPT=rfc822;{u}+2btag@"+Domain), codes: "250 250"},
		{name: "ORCPT of another type", turns: say(mailFromMe, rcptToMe+" ORCPT=x400;abc"), codes: "250 250"},
		{name: "SIZE beyond 32 bits", turns: say(mailFromMe + " SIZE=5000000000"), codes: "552"},
		{name: "RCPT before MAIL", turns: say(rcptToMe), codes: "503"},
		{name: "DATA before MAIL", turns: say("DATA"), codes: "503"},
		{name: "DATA without a recipient that was accepted", turns: say(mailFromMe, "RCPT TO:<nobody>", "DATA"), codes: "250 550 554"},
		{name: "DATA with a word", turns: say(mailFromMe, rcptToMe, "DATA x"), codes: "250 250 501"},
		{name: "HELP, VRFY, EXPN, ETRN", turns: say("HELP", "VRFY <{me}>", "EXPN staff", "ETRN "+Domain), codes: "50 252 50 45"},
		{name: "EHLO in the middle of a transaction", turns: say(mailFromMe, rcptToMe, "EHLO again.example", "DATA"), codes: "250 250 250 503"},
		{name: "HELO in the middle of a transaction", turns: say(mailFromMe, rcptToMe, "HELO again.example", "DATA"), codes: "250 250 250 503"},
		{name: "pipelined up to DATA", delivered: 1, codes: "250 250 354 250",
			turns: []turn{{commands: []string{mailFromMe + "\r\n", rcptToMe + "\r\n", "DATA\r\n"}, body: aMessage("pipelined", "text\r\n")}}},
		{name: "all at once", delivered: 1, codes: "250 250 354 250 221 closed",
			turns: []turn{{commands: []string{mailFromMe + "\r\n" + rcptToMe + "\r\nDATA\r\n" + aMessage("at once", "text\r\n") + "QUIT\r\n"}, toTheEnd: true}}},
		{name: "a hundred recipients at once", turns: []turn{many(100)}, codes: strings.Repeat("250 ", 101) + "354 250", delivered: 1},
		{name: "a message beyond the size limit", turns: append(transaction("huge", megabytes(11)), say("NOOP")...), codes: "250 250 354 552 250"},
		{name: "a chunk beyond the size limit", codes: "250 250 552 250",
			turns: slices.Concat(say(mailFromMe, rcptToMe), []turn{{commands: []string{bdat("From: <{me}>\r\n\r\n"+megabytes(11), " LAST")}}}, say("NOOP"))},
		// A client that sends the whole message first can still read the refusal, and the
		// session continues.
		{name: "somebody else's message of 9 MB", delivered: 2, keptBack: 1, codes: "250 250 354 250 250 250 354 250", through: "250 250 354 550 250 250 354 250",
			turns: slices.Concat(say(mailFromMe, rcptToMe), []turn{{commands: []string{"DATA\r\n"}, body: bosses + megabytes(9) + ".\r\n"}}, transaction("after it", "text\r\n"))},
		{name: "somebody else's chunk of 9 MB", delivered: 2, keptBack: 1, codes: "250 250 250 250 250 354 250", through: "250 250 550 250 250 354 250",
			turns: slices.Concat(say(mailFromMe, rcptToMe), []turn{{commands: []string{bdat(bosses+megabytes(9), " LAST")}}}, transaction("after it", "text\r\n"))},
		{name: "too many errors", codes: strings.Repeat("503 ", 20) + "421 closed",
			turns: []turn{{commands: slices.Repeat([]string{"RCPT x\r\n"}, 20)}, {commands: []string{"RCPT x\r\n"}, toTheEnd: true}}},
		{name: "two messages in chunks at once", delivered: 2, codes: strings.Repeat("250 ", 6),
			turns: []turn{{commands: slices.Repeat([]string{mailFromMe + "\r\n", rcptToMe + "\r\n", bdat("From: <{me}>\r\nSubject: one of two\r\n\r\ntext\r\n", " LAST")}, 2)}}},
		{name: "BDAT in chunks, pipelined", delivered: 1, codes: "250 250 250 250 250",
			turns: []turn{{commands: []string{mailFromMe + "\r\n", rcptToMe + "\r\n", bdat("From: <{me}>\r\n", ""), bdat("\r\ntext\r\n", ""), bdat("", " LAST")}}}},
	}
}

// After login the gateway gives the same replies as Postfix, and delivers the same octets.
func TestStraightAndThrough(t *testing.T) {
	t.Parallel()
	d, excuses := Dovecot(t), readExcuses(t)
	type way struct {
		straight, through Door
		server            *PostfixServer
	}
	ways := make(map[time.Duration]way)
	for _, timeout := range []time.Duration{0, impatience, holding} {
		settings := faithful
		if timeout > 0 {
			settings += "smtpd_timeout = " + timeout.String() + "\n"
		}
		p := OwnPostfixWith(t, d, settings)
		ways[timeout] = way{Door{Name: "straight", Submissions: p.Submissions}, OwnCongthu(t, Setup{Postfix: p}).Door(), p}
	}
	for _, e := range exchanges() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			way := ways[e.smtpdTimeout]
			var delivered [2][]string
			var heard [2][]said
			doors := []Door{way.straight, way.through}
			accounts := []string{Dovecot(t).Account(t), Dovecot(t).Account(t)}
			clients := []*submission{session(t, doors[0], accounts[0], accounts[0]), session(t, doors[1], accounts[1], accounts[1])}
			each(2, func(n int) {
				heard[n] = clients[n].all(e.turns)
				clients[n].d.Close() // an open transaction keeps a file in Postfix's queue
			})
			way.server.Settle(t)
			codes, number := []string{e.codes, cmp.Or(e.through, e.codes)}, []int{e.delivered, e.delivered - e.keptBack}
			for n, door := range doors {
				if !begin(heard[n], strings.Fields(codes[n])) {
					t.Errorf("%s: %.80q, want %q", door.Name, heard[n], codes[n])
				}
				delivered[n] = mailboxes(t, regexp.MustCompile(`^`), accounts[n])[""]
				if got := len(delivered[n]); got != number[n] {
					t.Errorf("%s: %d messages were delivered, want %d", door.Name, got, number[n])
				}
			}
			if e.through != "" {
				return // the replies differ as expected
			}
			for i := range min(len(heard[0]), len(heard[1])) {
				if straight, through := heard[0][i], heard[1][i]; straight.code != through.code && excused(excuses, straight.what, straight.code, through.code) == nil {
					t.Errorf("%.60q: directly %q, through the gateway %q", straight.what, straight.code, through.code)
				}
			}
			if !slices.Equal(delivered[0], delivered[1]) {
				t.Errorf("delivered directly:\n%.300q\nthrough the gateway:\n%.300q", delivered[0], delivered[1])
			}
		})
	}
}

// begin reports whether the codes are those expected.
func begin(heard []said, want []string) bool {
	if len(heard) != len(want) {
		return false
	}
	for i := range heard {
		if !strings.HasPrefix(heard[i].code, want[i]) {
			return false
		}
	}
	return true
}

// Malformed credentials are not a wrong password (RFC 4954 section 4). Postfix replies 535
// to most of them, which mail programs show as a wrong password.
func TestCredentialsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, try := range []struct {
		name              string
		turns             []turn
		straight, through string
	}{
		{"no base64", say("AUTH PLAIN !!!!"), "535", "501 5.5.2"},
		{"no base64 when asked", say("AUTH PLAIN", "!!!!"), "334 535", "334 501 5.5.2"},
		{"no base64 for a name", say("AUTH LOGIN", "!!!!"), "334 535", "334 501 5.5.2"},
		{"no base64 for a password", say("AUTH LOGIN", "dTE=", "!!!!"), "334 334 535", "334 334 501 5.5.2"},
		{"half a quantum", say("AUTH PLAIN AAA"), "535", "501 5.5.2"},
		{"cancelled", say("AUTH PLAIN", "*"), "334 501", "334 501"},
		{"cancelled before the password", say("AUTH LOGIN", "dTE=", "*"), "334 334 501", "334 334 501"},
		{"no mechanism", say("AUTH"), "501", "501"},
		{"an unknown mechanism", say("AUTH XYZZY"), "535", "504 5.5.4"},
		{"three words", say("AUTH PLAIN AAAA AAAA"), "501", "501"},
	} {
		t.Run(try.name, func(t *testing.T) {
			t.Parallel()
			for _, door := range []Door{Straight(t), Congthu(t).Door()} {
				d, _ := door.DialSMTP(t, "")
				s := &submission{d: d, names: strings.NewReplacer(), patience: patience}
				var codes []string
				for _, h := range s.all(try.turns) {
					codes = append(codes, h.code)
				}
				want := try.straight
				if door.Name != "straight" {
					want = try.through
				}
				if got := strings.Join(codes, " "); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", door.Name, got, want)
				}
			}
		})
	}
}
