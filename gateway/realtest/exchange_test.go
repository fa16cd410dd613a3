package realtest

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// faithful are settings with which Postfix delivers each message unchanged: it does not
// break long lines, or complete and rewrite the header. It opens a new connection for
// each delivery, because on a reused one it sends SMTPUTF8 messages to a server without
// SMTPUTF8, which otherwise bounce. And it does not delay its replies to a client that
// makes errors.
const faithful = `
lmtp_line_length_limit = 0
local_header_rewrite_clients =
lmtp_connection_cache_on_demand = no
smtpd_error_sleep_time = 0
myorigin = ` + Domain + `
`

// turn is a group of commands that a client sends together before it reads the replies.
type turn struct {
	// commands have one reply each, and end with CRLF. {me}, {other} and {boss} stand for
	// addresses, {u} for the local part of {me}. A BDAT command includes its chunk.
	commands []string
	// body is a message in the form of DATA, with its end. It is sent after the reply 354
	// to the last command, and has a reply of its own. wait is the time between the lines
	// of its header.
	body string
	wait time.Duration
	// cuts divide the octets of the commands into writes.
	cuts []int
	// before is the time that the client waits before it sends.
	before time.Duration
	// toTheEnd reads any number of replies, until the server closes.
	toTheEnd bool
	// marker is part of the message to which the turn belongs.
	marker string
}

// say returns a turn for each command; the commands have no CRLF.
func say(commands ...string) (turns []turn) {
	for _, c := range commands {
		turns = append(turns, turn{commands: []string{c + "\r\n"}})
	}
	return turns
}

// bdat returns a BDAT command with its chunk (RFC 3030); last is "" or " LAST". The names
// of all accounts have the same length, so the size does not depend on the account.
func bdat(chunk, last string) string {
	octets := len(strings.NewReplacer(substitutes(accountName(0), accountName(0))...).Replace(chunk))
	return fmt.Sprintf("BDAT %d%s\r\n%s", octets, last, chunk)
}

// beginning returns a place at or before at where a text can be cut: not inside {me} or
// another placeholder.
func beginning(text string, at int) int {
	if open := strings.LastIndexByte(text[:at], '{'); open >= 0 && !strings.Contains(text[open:at], "}") {
		return open
	}
	return at
}

// submission is the session of a client that has logged in.
type submission struct {
	d      *Dialogue
	names  *strings.Replacer
	closed bool
	// patience is the longest time that a reply may take.
	patience time.Duration
}

// bosses is an address that belongs to no account of the tests.
const bosses = "boss@" + Domain

// session opens a session and logs in.
func session(t *testing.T, door Door, me, other string) *submission {
	t.Helper()
	return &submission{d: loggedIn(t, door, me), names: strings.NewReplacer(substitutes(me, other)...), patience: patience}
}

func substitutes(me, other string) []string {
	local, _, _ := strings.Cut(me, "@")
	return []string{"{me}", me, "{other}", other, "{boss}", bosses, "{u}", local}
}

// answer is a reply.
type answer struct {
	// code is the reply code with the enhanced code (RFC 2034); "closed" if the server has
	// closed the connection, "silent" if no reply came in time.
	code  string
	lines []string
}

func (a answer) String() string { return a.code }

func (s *submission) write(octets string, cuts []int) {
	octets = s.names.Replace(octets)
	last := 0
	for _, cut := range append(slices.Clone(cuts), len(octets)) {
		cut = min(max(cut, last), len(octets))
		s.d.SetDeadline(time.Now().Add(s.patience))
		// The server may have closed already; the next read reports it.
		_, _ = io.WriteString(s.d.Conn, octets[last:cut])
		last = cut
	}
}

var (
	enhanced = regexp.MustCompile(`^\d{3}[ -](\d\.\d{1,3}\.\d{1,3})`)
	whole    = regexp.MustCompile(`^\d{3}(?:[ -]|$)`)
)

func (s *submission) read() answer {
	var a answer
	if s.closed {
		return answer{code: "closed"}
	}
	s.d.SetReadDeadline(time.Now().Add(s.patience))
	for {
		line, err := s.d.r.ReadString('\n')
		switch {
		case err != nil && isTimeout(err):
			return answer{code: "silent", lines: append(a.lines, line)}
		case err != nil:
			s.closed = true
			return answer{code: "closed", lines: append(a.lines, line)}
		}
		line = strings.TrimRight(line, "\r\n")
		a.lines = append(a.lines, line)
		if !whole.MatchString(line) {
			a.code = fmt.Sprintf("no reply: %.80q", line)
			return a
		}
		if len(line) == 3 || line[3] == ' ' {
			a.code = line[:3]
			if m := enhanced.FindStringSubmatch(line); m != nil {
				a.code += " " + m[1]
			}
			return a
		}
	}
}

func isTimeout(err error) bool {
	slow, ok := err.(interface{ Timeout() bool })
	return ok && slow.Timeout()
}

// take sends the commands of a turn and reads the replies.
func (s *submission) take(turn turn) (answers []answer) {
	s.write(strings.Join(turn.commands, ""), turn.cuts)
	if turn.toTheEnd {
		for !s.closed {
			a := s.read()
			answers = append(answers, a)
			if a.code == "silent" {
				break
			}
		}
		return answers
	}
	for range turn.commands {
		answers = append(answers, s.read())
	}
	return answers
}

// finish sends the message of a turn and reads the reply.
func (s *submission) finish(turn turn) answer {
	if turn.wait == 0 {
		s.write(turn.body, nil)
		return s.read()
	}
	header, rest, _ := strings.Cut(turn.body, "\r\n\r\n")
	for line := range strings.SplitAfterSeq(header+"\r\n", "\r\n") {
		s.write(line, nil)
		time.Sleep(turn.wait)
	}
	s.write("\r\n"+rest, nil)
	return s.read()
}

func sentTheMessage(answers []answer, turn turn) bool {
	return turn.body != "" && len(answers) > 0 && strings.HasPrefix(answers[len(answers)-1].code, "354")
}

// said is a command or message, with the code of its reply.
type said struct{ what, code string }

// all sends a whole dialogue.
func (s *submission) all(turns []turn) (all []said) {
	for _, turn := range turns {
		time.Sleep(turn.before)
		answers := s.take(turn)
		for i, a := range answers {
			all = append(all, said{turn.what(i), a.code})
		}
		if sentTheMessage(answers, turn) {
			all = append(all, said{turn.body, s.finish(turn).code})
		}
	}
	return all
}

// what returns what the i-th reply answers.
func (turn turn) what(i int) string {
	if turn.toTheEnd {
		return strings.Join(turn.commands, "")
	}
	return turn.commands[i]
}

// excuse is a reason why the gateway may give another reply than Postfix.
type excuse struct {
	// why states the rule.
	why string
	// The command or message, and the codes, directly and through the gateway.
	what, straight, through *regexp.Regexp
	// ends: the rest of the dialogue cannot be compared, even after RSET.
	ends bool
	// seldom: the dialogues of the fixed seed may not need it.
	seldom bool
	used   atomic.Bool
}

// excusesFile lists the excuses, in paragraphs of "name: value" lines.
const excusesFile = "testdata/submission.differences"

func readExcuses(t *testing.T) (all []*excuse) {
	t.Helper()
	text, err := os.ReadFile(excusesFile)
	if err != nil {
		t.Fatal(err)
	}
	for stanza := range strings.SplitSeq(string(text), "\n\n") {
		e := new(excuse)
		for line := range strings.Lines(stanza) {
			if line = strings.TrimRight(line, "\n"); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			name, value, _ := strings.Cut(line, ": ")
			pattern := map[string]**regexp.Regexp{"what": &e.what, "directly": &e.straight, "through": &e.through}[name]
			switch {
			case name == "why":
				e.why = value
			case name == "then" && value == "end":
				e.ends = true
			case name == "needed" && value == "seldom":
				e.seldom = true
			case pattern == nil:
				t.Fatalf("%s: %q", excusesFile, line)
			default:
				if *pattern, err = regexp.Compile("(?s)" + value); err != nil {
					t.Fatalf("%s: %v", excusesFile, err)
				}
			}
		}
		if e.why == "" && e.what == nil {
			continue // only comments
		}
		if e.why == "" || e.what == nil || e.straight == nil || e.through == nil {
			t.Fatalf("%s: incomplete: %q", excusesFile, stanza)
		}
		all = append(all, e)
	}
	return all
}

// excused returns the excuse for a difference, or nil.
func excused(all []*excuse, what, straight, through string) *excuse {
	for _, e := range all {
		if e.what.MatchString(what) && e.straight.MatchString(straight) && e.through.MatchString(through) {
			e.used.Store(true)
			return e
		}
	}
	return nil
}

// mailboxes returns the messages in the mailboxes of a client's accounts, by their marker,
// without the headers that the servers add and without bounces.
func mailboxes(t *testing.T, marker *regexp.Regexp, accounts ...string) map[string][]string {
	t.Helper()
	var names []string
	for n, account := range accounts {
		local, _, _ := strings.Cut(account, "@")
		names = append(names, local, fmt.Sprintf("{account %d}", n))
	}
	anonymous := strings.NewReplacer(names...)
	found := make(map[string][]string)
	for n, account := range accounts {
		for _, message := range Dovecot(t).Delivered(t, account) {
			text := messageOf(message)
			if strings.Contains(text, "From: Mail Delivery System <MAILER-DAEMON@") {
				continue
			}
			returnPath, _, _ := strings.Cut(message, "\n")
			key := marker.FindString(text)
			found[key] = append(found[key], anonymous.Replace(fmt.Sprintf("to %d, %s\n%s", n, returnPath, text)))
		}
	}
	for _, texts := range found {
		slices.Sort(texts)
	}
	return found
}

// messageOf removes the trace headers that the servers put before a message.
func messageOf(delivered string) string {
	for {
		at := traces.FindStringIndex(delivered)
		if at == nil || at[0] != 0 {
			return delivered
		}
		delivered = delivered[at[1]:]
	}
}
