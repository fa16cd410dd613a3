package realtest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dialogist generates dialogues after login: ordinary transactions in many spellings and
// in many pieces, with unusual commands in between.
type dialogist struct {
	*rand.Rand
	number int  // of the dialogue
	bounce bool // the last sender was empty
}

func (d *dialogist) oneIn(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d *dialogist, of []T) T { return of[d.IntN(len(of))] }

// spelt changes the case and the blanks of a command, and adds its end.
func (d *dialogist) spelt(command string) string {
	switch d.IntN(12) {
	case 0:
		verb, rest, _ := strings.Cut(command, " ")
		command = strings.TrimRight(strings.ToLower(verb)+" "+rest, " ")
	case 1:
		command += pick(d, []string{" ", "  ", "\t", " \t "})
	case 2:
		command = strings.Replace(command, " ", pick(d, []string{"  ", "\t", " \t"}), 1)
	case 3:
		command = strings.Replace(command, ":<", ": <", 1)
	case 4:
		if d.oneIn(8) {
			command = " " + command
		}
	case 5:
		if d.oneIn(8) {
			return command + pick(d, []string{"\n", "\r\r\n"})
		}
	}
	return command + "\r\n"
}

var (
	mailPaths = []string{"<{me}>", "<{me}>", "<{me}>", "<{me}>", "<{u}>", "<>", "{me}", "<{u}+tag@congthu.test>", "<\"{u}\"@congthu.test>",
		"<@relay.example:{me}>", "<@a.example,@b.example:{me}>", "< {me}>", "<{me} >", "<{me}", "{me}>", "<<{me}>>", "<{me}>x", "", "<@>", "<{u}@>", "<{u}@CONGTHU.test>", "<{u}@congthu.test.>",
		"<\"{u}@congthu.test>", "Van phong <{me}>", "<{me}> (comment)", "({u})<{me}>", "<\\{u}@congthu.test>", "<{u} @congthu.test>", "{u}"}
	mailParameters = []string{"BODY=8BITMIME", "BODY=7BIT", "body=8bitmime", "SIZE=1000", "SIZE=0", "SMTPUTF8", "RET=HDRS", "RET=FULL", "ENVID=abc", "ENVID=a+3db", "AUTH=<>", "AUTH={me}",
		"SIZE=5000000000", "SIZE=20000000", "SIZE=x", "SIZE=", "SIZE", "SIZE=-1", "SIZE=99999999999999999999999", "BODY=x", "BODY=", "BODY=BINARYMIME", "RET=x", "RET=", "ENVID=", "ENVID=a+3", "ENVID=+zz", "SMTPUTF8=x",
		"XYZ", "XYZ=1", "=1", "HOLDFOR=100", "REQUIRETLS", "AUTH=", "AUTH=+", "AUTH", "MT-PRIORITY=3", "BY=100;R"}
	rcptPaths = []string{"<{me}>", "<{other}>", "<{me}>", "<{other}>", "{other}", "<nobody@congthu.test>", "<u999>", "<{u}>", "<postmaster>", "<Postmaster@congthu.test>", "<>", "<@>", "<{u}@>", "", "<{other}",
		"<@relay.example:{other}>", "<\"{u}\"@congthu.test>", "<{u}+tag@congthu.test>", "<a b@congthu.test>", "<{u}@CONGTHU.TEST>", "<ngườidùng@congthu.test>", "<\xe9@congthu.test>", "<{other}> x", "<{u}@[127.0.0.1]>", "<{u}@[127.0.0.1>", "<{u}%congthu.test@congthu.test>", "<{me}>,<{other}>"}
	rcptParameters = []string{"NOTIFY=NEVER", "NOTIFY=FAILURE", "NOTIFY=DELAY,FAILURE", "notify=never", "ORCPT=rfc822;{u}+2Btag@congthu.test", "ORCPT=rfc822;{u}+2btag@congthu.test", "ORCPT=x400;abc",
		"NOTIFY=x", "NOTIFY=NEVER,FAILURE", "NOTIFY=", "ORCPT=abc", "ORCPT=", "ORCPT=rfc822;", "ORCPT=;x", "XYZ=1", "XYZ", "=1", "RRVS=2020-01-01T00:00:00Z"}
	// between are commands that do not end a transaction.
	between = []string{"NOOP", "NOOP", "NOOP x", "NOOP " + strings.Repeat("x", 500), "NOOP " + strings.Repeat("x", 1500), "NOOP a\tb", "NOOP ễ", "VRFY {me}", "VRFY <{me}>", "VRFY", "VRFY nobody", "VRFY a b", "EXPN staff",
		"HELP", "HELP MAIL", "ETRN congthu.test", "ETRN", "ETRN #x", "ETRN a b", "XYZZY", "XYZZY x", "X", "MAIL", "MAIL x", "MAIL FROM", "MAIL TO:<{me}>", "RCPT", "RCPT x", "RCPT FROM:<{me}>", "DATA x", "RSET x", "QUIT x",
		"EHLO", "HELO", "BDAT", "BDAT 1 2 3", "MAILFROM:<{me}>", "MAIL-FROM:<{me}>", "NOOP:", "NO OP", "RCPT TO <{me}>", "DATA:", "HELLO x"}
	// resetting are commands that end it.
	resetting = []string{"RSET", "EHLO client.example", "HELO client.example", "EHLO [127.0.0.1]", "EHLO client.example x", "HELO a_b", "EHLO -", "EHLO ễ.example"}
	// forbidden are commands that the gateway refuses by a rule of its own.
	forbidden = []string{"AUTH PLAIN AAAA", "AUTH", "AUTH LOGIN", "STARTTLS", "STARTTLS x", "XCLIENT NAME=x ADDR=127.0.0.1", "XCLIENT LOGIN=boss", "XFORWARD NAME=x", "SEND FROM:<{me}>", "SOML FROM:<{me}>",
		"SAML FROM:<{me}>", "TURN", "EXDATA 1", "XEXCH50 1 1", "X-EXPS GSSAPI", "BURL imap://x LAST", "MAIL FROM:<{boss}>", "MAIL FROM:<boss>", "NOOP " + strings.Repeat("x", 2100), "NOOP a\x00b", "NOOP a\rb", "NOOP a\nNOOP b",
		"", "  ", "X: y", ":", "From: <{me}>"}
	subjects = []string{"", "", " ễ", " =?utf-8?q?X?=", "\r\n folded"}
	// headers are allowed in any message.
	headers = []string{"To: <{other}>", "To: undisclosed-recipients:;", "Cc: a, b", "X-Empty:", "Date: Tue, 1 Dec 2026 08:00:00 +0700", "Sender: <{me}>", "Reply-To: <{boss}>", "X-Long: " + strings.Repeat("y", 1500), "X-Folded: a\r\n\tb\r\n  c",
		"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Message-ID: <a@b>", "Return-Path: <{me}>", "Received: from a by b; Tue, 1 Dec 2026 08:00:00 +0700", "Bcc: <{other}>"}
	// ruled are headers that the gateway refuses.
	ruled  = []string{"From: <{boss}>", "Sender: <{boss}>", "From : <{me}>", "Resent-From: <{boss}>", "no header at all", "Subject: two\nlines", "X: a\rb", "From: <{me}>, <{boss}>"}
	lines  = []string{"text", "text", "", "", ".", "..", ".text", "...", " .", "MAIL FROM:<{boss}>", "QUIT", "From: <{boss}>", strings.Repeat("z", 998), strings.Repeat("z", 3000), "ễ", "\xe9", "a\x00b", "\t", "-- ", "From nobody"}
	broken = []string{"a\nb", "a\rb", "\n.", "a\n.\nMAIL FROM:<{boss}>", "\r"}
)

// message generates a message, without stuffed dots.
func (d *dialogist) message(marker string) (text string) {
	head := []string{"From: " + pick(d, []string{"<{me}>", "{me}", "Van phong <{me}>", "\"{u}\" <{me}>"}), "Subject: " + marker + pick(d, subjects)}
	for d.oneIn(2) {
		head = append(head, pick(d, headers))
	}
	if d.oneIn(20) {
		head = append(head, pick(d, ruled))
	}
	if d.oneIn(12) && !d.bounce {
		head = head[1:] // no From:
	}
	d.Shuffle(len(head), func(i, j int) { head[i], head[j] = head[j], head[i] })
	text = strings.Join(head, "\r\n") + "\r\n"
	if d.oneIn(15) {
		return text // no body, nor the line before it
	}
	text += "\r\n"
	for d.IntN(5) > 0 {
		text += pick(d, lines) + "\r\n"
	}
	if d.oneIn(20) {
		text += strings.Repeat("long ", 20_000) + "\r\n"
	}
	if d.oneIn(30) {
		text += pick(d, broken) + "\r\n"
	}
	return text
}

// stuffed returns a message in the form of DATA (RFC 5321 section 4.5.2).
func stuffed(text string) string {
	return strings.TrimPrefix(strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n.."), "\r\n") + ".\r\n"
}

// chunks returns a message as BDAT commands.
func (d *dialogist) chunks(text string) (commands []string) {
	lower := d.oneIn(3)
	chunk := func(octets, last string) {
		command := bdat(octets, last)
		if lower {
			command = "bdat" + command[len("BDAT"):]
		}
		commands = append(commands, command)
	}
	for d.oneIn(2) && text != "" {
		at := beginning(text, d.IntN(len(text)+1))
		chunk(text[:at], "")
		text = text[at:]
	}
	chunk(text, " LAST")
	return commands
}

// dialogue generates a dialogue that ends with QUIT.
func (d *dialogist) dialogue() (turns []turn) {
	marker := ""
	var pending []string
	say := func(body string) {
		if len(pending) == 0 {
			return
		}
		turn := turn{commands: pending, body: body, marker: marker}
		for d.oneIn(3) {
			turn.cuts = append(turn.cuts, d.IntN(len(strings.Join(pending, ""))))
		}
		slices.Sort(turn.cuts)
		turns, pending = append(turns, turn), nil
	}
	pipelined := d.oneIn(2)
	command := func(c string) {
		pending = append(pending, c)
		if !pipelined || d.oneIn(4) {
			say("")
		}
	}
	interlude := func() {
		for d.oneIn(4) {
			switch d.IntN(14) {
			case 0:
				command(d.spelt(pick(d, forbidden)))
			case 1, 2:
				command(d.spelt(pick(d, resetting)))
			default:
				command(d.spelt(pick(d, between)))
			}
		}
	}
	for n := range 1 + d.IntN(3) {
		say("")
		marker = fmt.Sprintf("case-%d-%d.", d.number, n)
		interlude()
		if !d.oneIn(20) {
			command(d.mail())
		}
		interlude()
		for range d.IntN(3) {
			command(d.rcpt())
		}
		if !d.oneIn(8) {
			command("RCPT TO:<{other}>\r\n")
		}
		interlude()
		text := d.message(marker)
		if d.oneIn(3) {
			for _, c := range d.chunks(text) {
				command(c)
				if d.oneIn(12) {
					interlude()
				}
			}
		} else {
			pending = append(pending, d.spelt("DATA"))
			say(stuffed(text))
		}
	}
	interlude()
	command("QUIT\r\n")
	say("")
	return turns
}

func (d *dialogist) mail() string {
	path := "<{me}>"
	if d.oneIn(3) {
		path = pick(d, mailPaths)
	}
	d.bounce = path == "<>"
	c := "MAIL FROM:" + path
	for d.oneIn(3) {
		c += " " + pick(d, mailParameters)
	}
	return d.spelt(c)
}

func (d *dialogist) rcpt() string {
	c := "RCPT TO:<{me}>"
	if d.oneIn(2) {
		c = "RCPT TO:" + pick(d, rcptPaths)
	}
	for d.oneIn(4) {
		c += " " + pick(d, rcptParameters)
	}
	return d.spelt(c)
}

// atOnce generates a dialogue that the client sends completely, with the message, before it
// reads the replies.
func (d *dialogist) atOnce() []turn {
	marker := fmt.Sprintf("case-%d-0.", d.number)
	octets := "MAIL FROM:<{me}>\r\nRCPT TO:<{me}>\r\n"
	for d.oneIn(3) {
		octets += pick(d, []string{"NOOP", "NOOP x", "VRFY", "VRFY {me}", "RCPT x", "RSET x", "EXPN staff", "HELP", "RCPT TO:<nobody@congthu.test>", "DATA x", "MAIL FROM:<{me}>"}) + "\r\n"
	}
	text := "From: <{me}>\r\nSubject: " + marker + "\r\n\r\n"
	for d.IntN(5) > 0 {
		text += pick(d, lines) + "\r\n"
	}
	if d.oneIn(3) {
		octets += strings.Join(d.chunks(text), "")
	} else {
		octets += "DATA\r\n" + stuffed(text)
	}
	octets += pick(d, []string{"", "RSET\r\n", "NOOP\r\n"}) + "QUIT\r\n" + pick(d, []string{"", "NOOP\r\n"})
	t := turn{commands: []string{octets}, toTheEnd: true, marker: marker}
	for range d.IntN(6) {
		t.cuts = append(t.cuts, d.IntN(len(octets)))
	}
	slices.Sort(t.cuts)
	return []turn{t}
}

var (
	greets = regexp.MustCompile(`(?i)^[ \t]*(EHLO|HELO)\b`)
	hidden = regexp.MustCompile(`^250[ -](AUTH[ =]|AUTH$|STARTTLS|XCLIENT|XFORWARD|BURL|BINARYMIME)`)
)

// offers returns the extensions of a reply to EHLO, in order. Those that the gateway removes
// are left out of Postfix's own reply.
func offers(a answer, through bool) string {
	var kept []string
	for _, line := range a.lines[min(1, len(a.lines)):] {
		if through || !hidden.MatchString(line) {
			kept = append(kept, line[min(4, len(line)):])
		}
	}
	return strings.Join(kept, "|")
}

// difference is a difference without a reason.
type difference struct {
	turn              int
	what              string
	straight, through string
}

// compare runs a dialogue directly and through the gateway, turn by turn. After a
// difference with a reason it resets both transactions and continues. It returns the
// first difference without a reason, and the markers of the messages that can no longer
// be compared.
func compare(t *testing.T, excuses []*excuse, straight, through *submission, turns []turn) (found *difference, spoilt []string) {
	defer straight.d.Close()
	defer through.d.Close()
	var chunks, of string // the chunks of BDAT so far, and the marker of their message
	for n, turn := range turns {
		a, b := straight.take(turn), through.take(turn)
		if len(a) != len(b) {
			return &difference{n, turn.what(0), fmt.Sprint(a), fmt.Sprint(b)}, spoilt
		}
		excusedHere, ends := false, false
		// differs reports a difference, and sets found if it has no reason.
		differs := func(what string, a, b answer) bool {
			x, y := a.code, b.code
			if greets.MatchString(what) && x == "250" && y == "250" {
				offered, passed := offers(a, false), offers(b, true)
				if more, ok := strings.CutPrefix(passed, offered+"|"); ok {
					y += " with " + more
				} else if passed != offered {
					x, y = x+" "+offered, y+" "+passed
				}
				if name, _, _ := strings.Cut(b.lines[0][4:], " "); name != "gateway."+Domain {
					y += " from " + name
				}
			}
			if x == y {
				return false
			}
			excusedHere = true
			switch e := excused(excuses, what, x, y); {
			case e != nil:
				ends = e.ends
			case x == "closed" && slices.ContainsFunc(turn.commands, func(c string) bool { return hangsUp(excuses, c) }):
				// Postfix closed with unread input, so TCP dropped the replies before it.
				ends = true
			default:
				found = &difference{n, what, x, y}
			}
			return true
		}
		for i := range a {
			// After an excused difference the states differ until the end of the turn.
			what := turn.what(i)
			if strings.HasPrefix(strings.ToUpper(what), "BDAT ") {
				if of != turn.marker {
					chunks, of = "", turn.marker
				}
				_, chunk, _ := strings.Cut(what, "\r\n")
				chunks += chunk
				what += chunks
			}
			if !excusedHere && differs(what, a[i], b[i]) && found != nil {
				return found, spoilt
			}
		}
		if one, two := sentTheMessage(a, turn), sentTheMessage(b, turn); one && two {
			x, y := straight.finish(turn), through.finish(turn)
			if !excusedHere && differs(turn.body, x, y) && found != nil {
				return found, spoilt
			}
		} else if one != two {
			return nil, append(spoilt, turn.marker)
		}
		// What follows an excused difference is not compared, but it is carried out.
		ends = ends || excusedHere && slices.ContainsFunc(turn.commands, func(c string) bool {
			return slices.ContainsFunc(excuses, func(e *excuse) bool { return e.ends && e.what.MatchString(c) })
		})
		if ends || straight.closed || through.closed {
			return nil, append(spoilt, turn.marker)
		}
		if excusedHere {
			spoilt = append(spoilt, turn.marker)
			reset := turn
			reset.commands, reset.cuts = []string{"RSET\r\n"}, nil
			a, b := straight.take(reset)[0], through.take(reset)[0]
			if straight.closed || through.closed {
				return nil, spoilt // the excused reply was the last one
			}
			if a.code != b.code {
				if len(turn.commands) > 1 {
					return nil, spoilt // a later command of the turn has several replies
				}
				return &difference{n, "RSET after " + turn.what(0), a.code, b.code}, spoilt
			}
		}
	}
	return nil, spoilt
}

// hangsUp reports whether Postfix closes the connection after a command.
func hangsUp(excuses []*excuse, what string) bool {
	return strings.HasPrefix(strings.ToUpper(strings.TrimLeft(what, " \t")), "QUIT") || slices.ContainsFunc(excuses, func(e *excuse) bool {
		return e.ends && e.what.MatchString(what) && (e.straight.MatchString("221 2.7.0") || e.straight.MatchString("521 5.5.4"))
	})
}

// shown formats a dialogue; a dash marks the first command of each turn.
func shown(turns []turn) string {
	var b strings.Builder
	for _, turn := range turns {
		for i, c := range turn.commands {
			fmt.Fprintf(&b, " %s%.300q\n", map[bool]string{true: "- ", false: "  "}[i == 0], c)
		}
		if len(turn.cuts) > 0 {
			fmt.Fprintf(&b, "    cut at %d\n", turn.cuts)
		}
		if turn.body != "" {
			fmt.Fprintf(&b, "    %.600q\n", turn.body)
		}
	}
	return b.String()
}

// A random dialogue has the same replies and the same effect directly at Postfix and through
// the gateway, except for the differences in excusesFile. Each run has 400 dialogues of a
// fixed seed; with [testenv.SoakVariable] there are others for that time.
func TestRandomDialoguesStraightAndThrough(t *testing.T) {
	t.Parallel()
	seed, until, dialogues := uint64(1), time.Time{}, 400
	if long := soak(t); long > 0 {
		seed, until = uint64(time.Now().UnixNano()), time.Now().Add(long)
	}
	excuses := readExcuses(t)
	p := OwnPostfixWith(t, Dovecot(t), faithful+"smtpd_hard_error_limit = 1000\nsmtpd_soft_error_limit = 1000\n")
	doors := []Door{{Name: "straight", Submissions: p.Submissions}, OwnCongthu(t, Setup{Postfix: p}).Door()}
	// The first account of each pair logs in.
	accounts := [2][2]string{{Dovecot(t).Account(t), Dovecot(t).Account(t)}, {Dovecot(t).Account(t), Dovecot(t).Account(t)}}
	again := func(turns []turn) (*difference, []string) {
		return compare(t, excuses, session(t, doors[0], accounts[0][0], accounts[0][1]), session(t, doors[1], accounts[1][0], accounts[1][1]), turns)
	}
	var spoilt sync.Map
	var next, wrong atomic.Int64
	var said sync.Map // by marker
	saidWith := func(marker string) string {
		turns, _ := said.Load(marker)
		all, _ := turns.([]turn)
		return shown(all)
	}
	each(4, func(int) {
		for wrong.Load() < 20 {
			n := int(next.Add(1)) - 1
			if n >= dialogues && !time.Now().Before(until) {
				return
			}
			d := &dialogist{Rand: rand.New(rand.NewPCG(seed, uint64(n))), number: n}
			turns := d.dialogue()
			if n%8 == 7 {
				turns = d.atOnce()
			}
			for _, turn := range turns {
				said.Store(turn.marker, turns)
			}
			different, spoils := again(turns)
			for _, marker := range spoils {
				spoilt.Store(marker, true)
			}
			if different == nil {
				continue
			}
			wrong.Add(1)
			for _, turn := range turns {
				spoilt.Store(turn.marker, true)
			}
			// Leave out the turns that are not needed for the difference.
			turns = turns[:different.turn+1]
			for i := len(turns) - 2; i >= 0; i-- {
				fewer := slices.Delete(slices.Clone(turns), i, i+1)
				if still, _ := again(fewer); still != nil && still.turn == len(fewer)-1 {
					turns, different = fewer, still
				}
			}
			t.Errorf("seed %d, dialogue %d: after %.200q\ndirectly: %s\nthrough:  %s\n%s", seed, n, different.what, different.straight, different.through, shown(turns))
		}
	})
	p.Settle(t)
	marker := regexp.MustCompile(`case-\d+-\d+\.`)
	straight, through := mailboxes(t, marker, accounts[0][0], accounts[0][1]), mailboxes(t, marker, accounts[1][0], accounts[1][1])
	compared := 0
	for marker, texts := range straight {
		if _, known := spoilt.Load(marker); known {
			continue
		}
		compared++
		if !slices.Equal(texts, through[marker]) {
			t.Errorf("seed %d: %s\ndirectly: %.1500q\nthrough:  %.1500q\n%s", seed, marker, texts, through[marker], saidWith(marker))
		}
	}
	for marker, texts := range through {
		if _, known := spoilt.Load(marker); !known && len(straight[marker]) == 0 {
			t.Errorf("seed %d: %s was delivered through the gateway only: %.1500q\n%s", seed, marker, texts, saidWith(marker))
		}
	}
	t.Logf("seed %d: %d dialogues, %d delivered messages compared", seed, min(next.Load(), max(int64(dialogues), next.Load()-4)), compared)
	if t.Failed() || seed != 1 {
		return
	}
	if compared < dialogues/4 {
		t.Errorf("only %d messages were compared", compared)
	}
	for _, e := range excuses {
		if !e.seldom && !e.used.Load() {
			t.Errorf("%s: no dialogue needs this reason: %s", excusesFile, e.why)
		}
	}
}
